//! Limits one client's share of the table, so that no client can fill it alone.
//!
//! Clients are counted in parts by a keyed hash, so that no client can determine which others share its part. The
//! limit is far above what a part contains by chance.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use foldhash::quality::SeedableRandomState;

/// Counters of a table of a million entries, 256 KiB; a smaller table has fewer, down to a minimum.
const PARTS_MAX: usize = 1 << 16;
const PARTS_MIN: usize = 64;
/// Entries per part in a full table.
const ENTRIES_PER_PART: usize = 16;

/// While a table has room, one client may use it: many people may be behind one address. The last 1/32 is
/// reserved for clients that hold less than 1/8; a small table reserves nothing.
const SHARE: usize = 8;
const KEPT: usize = 32;
const KEPT_FROM: usize = 1 << 16;

pub(super) struct Shares {
    hasher: SeedableRandomState,
    counts: Box<[AtomicU32]>,
    /// The most that one client may hold, in any case and when the table is nearly full.
    entries_max: u32,
    share: u32,
    /// From this many entries on the table is nearly full.
    scarce_from: usize,
}

impl Shares {
    pub(super) fn new(connections_max: usize, hasher: SeedableRandomState) -> Shares {
        let parts = (connections_max / ENTRIES_PER_PART).clamp(PARTS_MIN, PARTS_MAX);
        let counts = (0..parts).map(|_| AtomicU32::new(0)).collect();
        let kept = if connections_max < KEPT_FROM { 0 } else { connections_max / KEPT };
        Shares {
            hasher,
            counts,
            entries_max: u32::MAX,
            share: u32::try_from(connections_max / SHARE).unwrap_or(u32::MAX),
            scarce_from: connections_max - kept,
        }
    }

    pub(super) fn limit(&mut self, entries_max: u32) {
        self.entries_max = entries_max;
    }

    /// Counts one more entry of this client in a table of `entries`; returns false, and counts nothing, if
    /// the client has too many.
    pub(super) fn claim(&self, client: IpAddr, entries: usize) -> bool {
        let count = self.count(client);
        let max =
            if entries < self.scarce_from { self.entries_max } else { self.entries_max.min(self.share) };
        let is_free = count.fetch_add(1, Ordering::Relaxed) < max;
        if !is_free {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        is_free
    }

    /// Counts one entry less.
    pub(super) fn release(&self, client: IpAddr) {
        self.count(client).fetch_sub(1, Ordering::Relaxed);
    }

    /// An IPv6 client has a whole /64 (RFC 4291 §2.5.4).
    fn count(&self, client: IpAddr) -> &AtomicU32 {
        let bits = match client {
            IpAddr::V4(v4) => u64::from(u32::from(v4)),
            IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64,
        };
        // The upper half of the product is below the length, and costs less than a remainder.
        let place = (u128::from(self.hasher.hash_one(bits)) * self.counts.len() as u128) >> 64;
        &self.counts[usize::try_from(place).unwrap_or_default()]
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::record::Record;
    use super::super::table::hasher;
    use super::super::{Event, Inserted, NewConnection, Table, Timeouts};
    use super::{Ordering, Shares};
    use crate::director::real_server::{Slot, SlotSet};
    use crate::packet::Flow;
    use crate::time::Moment;

    const NEW: NewConnection = NewConnection {
        virtual_service: 0,
        real_server: Slot::new(1, 1),
        event: Event::Syn,
        is_known: false,
        template: None,
    };

    fn insert(table: &Table, client: u32, port: u32) -> Inserted {
        let flow = Flow {
            protocol: 6,
            client: std::net::Ipv4Addr::from(0xcb00_7100 + client).into(),
            client_port: (port & 0xffff) as u16,
            vip: "172.25.3.100".parse().unwrap(),
            vip_port: 80 + (port >> 16) as u16,
        };
        table.insert(&flow, NEW, &Timeouts::default(), Moment::ZERO, &Record::new())
    }

    fn is_new(inserted: Inserted) -> bool {
        matches!(inserted, Inserted::New(_))
    }

    fn made(table: &Table, client: u32, ports: std::ops::Range<u32>) -> usize {
        ports.filter(|port| is_new(insert(table, client, *port))).count()
    }

    #[test]
    fn the_last_of_a_nearly_full_table_is_kept_for_others() {
        let table = Table::new(1 << 16, 7);
        let insert = |client, port| is_new(insert(&table, client, port));
        let alone = (0..100_000).filter(|port| insert(1, *port)).count();
        assert_eq!(alone, (1 << 16) - (1 << 11));
        assert!((2..1000).all(|client| insert(client, 1)), "others are served");
        assert!(!insert(1, 99_999));
        let share = (0..1 << 14).filter(|port| insert(1000, *port)).count();
        assert_eq!(share, (1 << 11) - 998, "what is kept is for all that have less than their share");
    }

    #[test]
    fn the_last_is_for_clients_with_less_than_an_eighth() {
        let table = Table::new(1 << 16, 7);
        let (share, kept) = (1 << 13, 1 << 11);
        let made = |client, ports| made(&table, client, ports);
        assert_eq!(made(1, 0..share - 10), share as usize - 10);
        let rest = (1 << 16) - kept - (share - 10);
        assert_eq!(made(2, 0..rest), rest as usize, "there was room");
        assert_eq!(made(1, 40_000..40_100), 10);
        assert_eq!((made(2, 60_000..60_100), made(3, 0..100)), (0, 100));
    }

    #[test]
    fn a_client_with_a_limit_has_no_more_of_a_nearly_full_table() {
        let table = Table::new(1 << 16, 7).with_connections_per_client_max(100);
        let nearly_full = (1 << 16) - 1000;
        let mut clients = 0..;
        while table.len() < nearly_full {
            made(&table, clients.next().unwrap(), 0..100);
        }
        let made = clients.take(50).map(|client| made(&table, client, 0..200));
        assert_eq!(made.max(), Some(100));
    }

    #[test]
    fn of_a_small_table_nothing_is_kept() {
        assert_eq!(made(&Table::new(1000, 7), 1, 0..2000), 1000);
        let table = Table::new((1 << 16) - 1, 7);
        assert_eq!(made(&table, 1, 0..1 << 17), (1 << 16) - 1);
    }

    #[test]
    fn a_clients_share_is_that_of_its_address_or_of_its_64_bits() {
        let limited = |clients: [&str; 2]| {
            let table = Table::new(100, 7).with_connections_per_client_max(1);
            clients.map(|client| {
                let vip = "2001:db8::1".parse().unwrap();
                let flow =
                    Flow { protocol: 6, client: client.parse().unwrap(), client_port: 1, vip, vip_port: 80 };
                is_new(table.insert(&flow, NEW, &Timeouts::default(), Moment::ZERO, &Record::new()))
            })
        };
        for clients in [["2001:db8::1", "2001:db8::2"], ["2001:db8::1", "2001:db8:0:0:8000::1"]] {
            assert_eq!(limited(clients), [true, false], "{clients:?}");
        }
        for clients in [["2001:db8::1", "2001:db8:0:1::1"], ["2001:db8::1", "a001:db8::1"]] {
            assert_eq!(limited(clients), [true; 2], "{clients:?}");
        }
    }

    #[test]
    fn the_counts_of_a_large_table_take_256_kibibytes() {
        let parts = |connections_max| Shares::new(connections_max, hasher(7)).counts.len();
        assert_eq!([0, 1024, 1 << 14, 1 << 20, 1 << 30].map(parts), [64, 64, 1024, 1 << 16, 1 << 16]);
    }

    #[test]
    fn clients_spread_over_every_count() {
        let shares = Shares::new(1024, hasher(7));
        assert!((0..64 * 64).all(|client| shares.claim(std::net::Ipv4Addr::from_bits(client).into(), 0)));
        let counts: Vec<u32> = shares.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        assert!(counts.iter().all(|count| (16..=256).contains(count)), "{counts:?}");
    }

    #[test]
    fn one_client_cannot_fill_the_table() {
        let table = Table::new(100, 7).with_connections_per_client_max(10);
        let insert = |client, port| insert(&table, client, port);
        let made = (0..100).filter(|port| is_new(insert(1, *port))).count();
        assert_eq!((made, insert(1, 100), is_new(insert(2, 1))), (10, Inserted::Full, true));
        assert_eq!(table.len(), 11);
        table.sweep(&SlotSet::default(), Moment::from_secs(3600), &Record::new());
        assert!(table.is_empty() && is_new(insert(1, 100)), "what has ended counts no more");
    }
}
