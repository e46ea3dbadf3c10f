//! Who gets the room of the table: connections that are more than a first packet come before those that are not.
//!
//! Anyone can send a SYN or a datagram with a forged source. Entries that no second packet has confirmed may take half
//! of the table, and live only a short time once they have a quarter. Further flows get an entry with their second
//! packet, and until then a note in [`crate::director::flood`]. The last eighth is not for datagrams, which are easier
//! to forge in pairs than TCP connections.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Entry, State};
use crate::packet::protocol;
use crate::time::Moment;

/// A smaller table has room for every flow: half of it would be less than an ordinary burst of new connections.
const RULED_FROM: usize = 1 << 12;

/// How long an unconfirmed entry lives when there are many: two retransmissions of a SYN (RFC 6298 §2) and more than
/// what a client needs to answer one.
const SHORT_LIFE: Duration = Duration::from_secs(10);

/// The entries that no second packet has confirmed, and what they may have.
pub(super) struct Room {
    unconfirmed: AtomicUsize,
    /// From this many unconfirmed entries on, further ones live a short time.
    short_from: usize,
    /// From this many unconfirmed entries on, a first packet gets no entry.
    unconfirmed_max: usize,
    /// From this many entries on, no datagram gets one.
    datagrams_max: usize,
}

impl Room {
    pub(super) fn new(connections_max: usize) -> Room {
        let part = |part: usize| if connections_max < RULED_FROM { usize::MAX } else { part };
        Room {
            unconfirmed: AtomicUsize::new(0),
            short_from: part(connections_max / 4),
            unconfirmed_max: part(connections_max / 2),
            datagrams_max: part(connections_max - connections_max / 8),
        }
    }

    pub(super) fn unconfirmed(&self) -> usize {
        self.unconfirmed.load(Ordering::Relaxed)
    }

    /// Whether a flow of this protocol may have an entry in a table of `entries`.
    pub(super) fn has(&self, protocol: u8, is_known: bool, entries: usize) -> bool {
        let may_be_unconfirmed = is_known || self.unconfirmed() < self.unconfirmed_max;
        may_be_unconfirmed && (protocol == protocol::TCP || entries < self.datagrams_max)
    }

    /// Counts a new entry, and shortens its life if there are many like it.
    pub(super) fn add(&self, mut entry: Entry, now: Moment) -> Entry {
        if !entry.state.is_confirmed() && self.unconfirmed.fetch_add(1, Ordering::Relaxed) >= self.short_from
        {
            entry.deadline = entry.deadline.min(now.after(SHORT_LIFE));
        }
        entry
    }

    /// Counts a change of an entry's state.
    pub(super) fn change(&self, from: State, to: State) {
        match (from.is_confirmed(), to.is_confirmed()) {
            (false, true) => self.unconfirmed.fetch_sub(1, Ordering::Relaxed),
            (true, false) => self.unconfirmed.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// Counts the end of an entry.
    pub(super) fn remove(&self, entry: &Entry) {
        self.unconfirmed.fetch_sub(usize::from(!entry.state.is_confirmed()), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::record::Record;
    use super::super::{Change, Event, NewConnection, Table, Timeouts};
    use super::*;
    use crate::director::real_server::{Slot, SlotSet};
    use crate::packet::Flow;

    const MAX: usize = RULED_FROM;
    const TCP: u8 = protocol::TCP;
    const UDP: u8 = protocol::UDP;

    fn flow(number: usize, protocol: u8) -> Flow {
        let client = std::net::Ipv4Addr::from_bits(0x0b00_0000 + u32::try_from(number).unwrap()).into();
        Flow { protocol, client, client_port: 1, vip: "172.25.3.100".parse().unwrap(), vip_port: 80 }
    }

    fn add(table: &Table, number: usize, protocol: u8, event: Event, is_known: bool) -> Moment {
        let real_server = Slot::new(1, 1);
        let new = NewConnection { virtual_service: 0, real_server, event, is_known, template: None };
        let changes = Record::new();
        table.insert(&flow(number, protocol), new, &Timeouts::default(), Moment::ZERO, &changes);
        let [Change::Added { entry, .. }] = changes.take()[..] else { panic!("no new entry") };
        entry.deadline
    }

    #[test]
    fn unconfirmed_flows_have_half_of_the_table_and_confirmed_ones_the_rest() {
        let table = Table::new(MAX, 7);
        for number in 0..MAX / 2 {
            assert!(table.has_room(&flow(number, TCP), false), "{number}");
            let deadline = add(&table, number, TCP, Event::Syn, false);
            let life = if number < MAX / 4 { 60 } else { 10 };
            assert_eq!(deadline, Moment::from_secs(life), "{number}");
        }
        let has_room = |protocol, is_known| table.has_room(&flow(MAX, protocol), is_known);
        assert_eq!([has_room(TCP, false), has_room(UDP, false)], [false; 2]);
        assert_eq!([has_room(TCP, true), has_room(UDP, true)], [true; 2]);
        for number in MAX / 2..MAX - MAX / 8 {
            assert!(has_room(UDP, true), "{number}");
            assert_eq!(add(&table, number, UDP, Event::Datagram, true), Moment::from_secs(300));
        }
        assert_eq!([has_room(UDP, true), has_room(TCP, true)], [false, true], "the last eighth");
        for number in MAX - MAX / 8..MAX {
            assert!(has_room(TCP, true));
            add(&table, number, TCP, Event::Ack, true);
        }
        assert_eq!((has_room(TCP, true), table.unconfirmed()), (false, MAX / 2), "it is full");
    }

    #[test]
    fn a_second_packet_and_the_end_of_an_entry_make_room() {
        let table = Table::new(MAX, 7);
        for number in 0..4 {
            add(&table, number, if number % 2 == 0 { TCP } else { UDP }, Event::Syn, false);
        }
        assert_eq!(table.unconfirmed(), 4);
        let (timeouts, changes) = (Timeouts::default(), Record::new());
        let packet = |number, protocol, event| {
            let seen = table.get(&flow(number, protocol)).expect("an entry");
            assert!(table.keep(&flow(number, protocol), &seen, event, &timeouts, Moment::ZERO, &changes));
            table.unconfirmed()
        };
        assert_eq!(packet(0, TCP, Event::Syn), 4, "a SYN sent again");
        assert_eq!(packet(0, TCP, Event::Ack), 3);
        assert_eq!(packet(1, UDP, Event::Datagram), 2);
        assert_eq!([packet(0, TCP, Event::Ack), packet(1, UDP, Event::Datagram)], [2; 2]);
        assert_eq!([packet(0, TCP, Event::Fin), packet(0, TCP, Event::Syn)], [2, 3], "begun again");
        table.sweep(&SlotSet::default(), Moment::from_secs(3600), &Record::new());
        assert_eq!((table.len(), table.unconfirmed()), (0, 0));
    }

    #[test]
    fn a_small_table_has_room_for_every_flow() {
        let table = Table::new(MAX - 1, 7);
        for number in 0..MAX - 1 {
            assert!(table.has_room(&flow(number, UDP), false), "{number}");
            assert_eq!(add(&table, number, UDP, Event::Datagram, false), Moment::from_secs(300));
        }
        assert!(table.has_room(&flow(MAX, UDP), false), "adding it finds the table full");
        assert!(!table.has_room(&flow(MAX, UDP), true));
    }
}
