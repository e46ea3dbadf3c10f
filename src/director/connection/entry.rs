//! One connection: its entry in the table, how a packet changes it, and how it is reported.

use std::net::IpAddr;
use std::time::Duration;

use super::key::KeyV4;
use super::{Event, State, Timeouts};
use crate::director::real_server::{Activity, Slot};
use crate::packet::Flow;
use crate::time::Moment;

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) deadline: Moment,
    pub(super) virtual_service: u16,
    pub(super) real_server: Slot,
    pub(super) state: State,
    pub(super) template: Option<TemplatePrefix>,
}

impl Entry {
    pub(super) fn is_expired(&self, now: Moment) -> bool {
        self.deadline <= now
    }

    pub(super) fn activity(&self) -> Activity {
        self.state.activity()
    }
}

/// A connection with a persistence template records only the length of the client prefix, in one byte: this
/// determines the template's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplatePrefix(std::num::NonZeroU8);

impl TemplatePrefix {
    /// `prefix` is at most 128.
    pub fn new(prefix: u8) -> TemplatePrefix {
        TemplatePrefix(std::num::NonZeroU8::MIN.saturating_add(prefix))
    }

    pub const fn length(self) -> u8 {
        self.0.get() - 1
    }
}

/// A change of one connection, which the caller must book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Moved {
        real_server: Slot,
        to: Activity,
    },
    /// `ended` is when it expired, possibly a while ago.
    Removed {
        real_server: Slot,
        from: Activity,
        ended: Moment,
        virtual_service: u16,
        client: IpAddr,
        template: Option<TemplatePrefix>,
    },
}

/// What a lookup does with an entry, depending on its real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Follow the entry.
    Follow,
    /// Remove the entry and schedule the packet like that of a new connection.
    GiveUp,
    /// Drop its packets and let it expire.
    Refuse,
}

/// The result of a lookup, and the change it made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub answer: Answer,
    pub change: Option<Change>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Unknown,
    /// The slot of the connection's real server.
    Known(Slot),
    Refused,
}

/// A connection to add.
#[derive(Clone, Copy, Debug)]
pub struct NewConnection {
    pub virtual_service: u16,
    pub real_server: Slot,
    /// Its first packet.
    pub event: Event,
    pub template: Option<TemplatePrefix>,
}

impl NewConnection {
    /// The count of its real server that will include it.
    pub const fn activity(&self, protocol: u8) -> Activity {
        State::born(protocol).next(self.event).activity()
    }
}

/// A connection in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    pub flow: Flow,
    pub virtual_service: u16,
    pub real_server: Slot,
    pub state: State,
    /// Time until it expires if no further packet arrives.
    pub expires_in: Duration,
}

/// The result of adding an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    New,
    /// Another worker added one first; its choice stands.
    Existing {
        real_server: Slot,
    },
    Full,
}
/// Applies `event` and restarts the timer; returns whether the entry moved between the two counts. A reset
/// can only shorten the remaining time, because anyone can forge one (RFC 5961).
pub(super) fn advance(entry: &mut Entry, event: Event, timeouts: &Timeouts, now: Moment) -> Option<Change> {
    let before = entry.activity();
    entry.state = entry.state.next(event);
    let deadline = now.after(timeouts.of(entry.state));
    let is_known = entry.deadline > now;
    entry.deadline = if event == Event::Rst && is_known { deadline.min(entry.deadline) } else { deadline };
    let to = entry.activity();
    (before != to).then_some(Change::Moved { real_server: entry.real_server, to })
}
/// 32 bytes at the map's average load of 0.48 are 69 bytes per connection; the bar is 112.
const _: () = assert!(size_of::<(KeyV4, Entry)>() == 32);
