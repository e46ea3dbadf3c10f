//! Listings of the table: part by part, each a copy, so that a slow reader holds no lock.

use dashmap::DashMap;
use foldhash::quality::SeedableRandomState;

use super::entry::{Connection, Entry};
use super::key::FlowKey;
use super::table::Table;
use crate::time::Moment;

impl Table {
    /// The number of parts of a listing.
    pub fn parts(&self) -> usize {
        self.v4.shards().len() + self.v6.shards().len()
    }

    /// The live connections of one part, in an order that is stable while the part does not change. The lock
    /// is held only to copy, for some microseconds.
    pub fn part(&self, index: usize, now: Moment) -> Vec<Connection> {
        match index.checked_sub(self.v4.shards().len()) {
            None => live(&self.v4, index, now),
            Some(index) => live(&self.v6, index, now),
        }
    }

    /// Calls `visit` for every live connection, in arbitrary order.
    pub fn visit(&self, now: Moment, visit: impl FnMut(Connection)) {
        (0..self.parts()).flat_map(|part| self.part(part, now)).for_each(visit);
    }
}

fn live<K: FlowKey + Clone>(
    map: &DashMap<K, Entry, SeedableRandomState>,
    shard: usize,
    now: Moment,
) -> Vec<Connection> {
    let Some(shard) = map.shards().get(shard) else { return Vec::new() };
    let copied = shard.read().clone();
    let connection = |(key, entry): (K, dashmap::SharedValue<Entry>)| {
        let entry = entry.into_inner();
        let expires_in = entry.deadline.since(now);
        let Entry { virtual_service, real_server, state, .. } = entry;
        let flow = key.flow();
        (!entry.is_expired(now)).then_some(Connection {
            flow,
            virtual_service,
            real_server,
            state,
            expires_in,
        })
    };
    copied.into_iter().filter_map(connection).collect()
}
