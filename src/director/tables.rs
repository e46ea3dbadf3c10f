//! The state that all workers of a director share and change: connections and persistence templates, and the
//! bookkeeping that keeps the real servers' counts consistent with both.

use arc_swap::ArcSwap;

use super::cluster::{Cluster, OnRemoved};
use super::connection::{Change, Table};
use super::persistence::{TemplateChange, TemplateKey, Templates};
use super::real_server::{RealServer, Slot};
use crate::time::Moment;

/// Connections and templates.
pub struct Tables {
    pub connections: Table,
    pub templates: Templates,
}

impl Tables {
    /// At most `connections_max` of each. `seed` keys the hashes, which clients must not be able to predict.
    pub fn new(connections_max: usize, seed: u64) -> Tables {
        let templates = Templates::new(connections_max, seed);
        Tables { connections: Table::new(connections_max, seed), templates }
    }

    /// The same with another limit to one client's connections.
    pub fn with_connections_per_client_max(self, max: u32) -> Tables {
        Tables { connections: self.connections.with_connections_per_client_max(max), ..self }
    }

    /// Books a change that the connection table reported.
    pub fn book(&self, view: View, change: Change) {
        match change {
            Change::Moved { real_server, to } => view.with(real_server, |server| server.book_move(to)),
            Change::Removed { real_server, from, ended, virtual_service, client, template } => {
                view.with(real_server, |server| server.book_end(from));
                if let Some(prefix) = template {
                    let key = TemplateKey::of_connection(virtual_service, client, prefix.length());
                    self.templates.unlink(&key, ended);
                }
            }
        }
    }

    /// Removes expired entries, and the connections of removed real servers if the service is configured so.
    pub fn sweep(&self, latest: &ArcSwap<Cluster>, now: Moment) {
        let snapshot = latest.load();
        let cluster = &**snapshot;
        let view = View { cluster, latest };
        let is_given_up = |slot| {
            let Some(server) = cluster.real_server(slot) else { return !view.has(slot) };
            let service = cluster.virtual_service(server.virtual_service);
            let on_removed = service.map_or(OnRemoved::Reschedule, |service| service.config.on_removed);
            !server.is_present && on_removed == OnRemoved::Reschedule
        };
        self.connections.sweep(now, is_given_up, |change| self.book(view, change));
        self.templates.sweep(now, |change| view.book_template(change));
    }
}

/// A snapshot, and access to the latest one: another worker may already know a real server that this snapshot
/// does not contain.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub cluster: &'a Cluster,
    pub latest: &'a ArcSwap<Cluster>,
}

impl View<'_> {
    fn with(&self, slot: Slot, book: impl FnOnce(&RealServer)) {
        match self.cluster.real_server(slot) {
            Some(server) => book(server),
            None => {
                if let Some(server) = self.latest.load().real_server(slot) {
                    book(server);
                }
            }
        }
    }

    /// Whether this snapshot or the latest one contains the real server.
    pub fn has(&self, slot: Slot) -> bool {
        self.cluster.real_server(slot).is_some() || self.latest.load().real_server(slot).is_some()
    }

    /// Books a change that the template table reported.
    pub fn book_template(&self, change: TemplateChange) {
        match change {
            TemplateChange::Added { real_server } => self.with(real_server, |server| server.book_template(1)),
            TemplateChange::Removed { real_server } => {
                self.with(real_server, |server| server.book_template(-1))
            }
        }
    }
}
