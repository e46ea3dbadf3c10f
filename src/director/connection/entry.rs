//! One connection: what the table keeps of it, what a packet does to it, and what is told about it.

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

/// A connection that hangs on a persistence template remembers the length of the client prefix only, in
/// one byte: its template's key follows from it.
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

/// What happened to one connection; the caller books it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Moved {
        real_server: Slot,
        to: Activity,
    },
    /// `ended` is when it expired, which may be a while ago.
    Removed {
        real_server: Slot,
        from: Activity,
        ended: Moment,
        virtual_service: u16,
        client: IpAddr,
        template: Option<TemplatePrefix>,
    },
}

/// What a lookup may do with an entry, by its real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is followed.
    Follow,
    /// It is given up, and the packet is scheduled like a new connection's.
    GiveUp,
    /// Its packets go nowhere, and it is left to expire.
    Refuse,
}

/// What a lookup found, and what it changed.
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

/// A connection to be remembered.
#[derive(Clone, Copy, Debug)]
pub struct NewConnection {
    pub virtual_service: u16,
    pub real_server: Slot,
    /// Its first packet.
    pub event: Event,
    pub template: Option<TemplatePrefix>,
}

impl NewConnection {
    /// In which of its real server's counts it will stand.
    pub const fn activity(&self, protocol: u8) -> Activity {
        State::born(protocol).next(self.event).activity()
    }
}

/// A connection as a listing shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    pub flow: Flow,
    pub virtual_service: u16,
    pub real_server: Slot,
    pub state: State,
    /// Time until it expires without another packet.
    pub expires_in: Duration,
}

/// What became of a new entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    New,
    /// Another worker was faster; its choice stands.
    Existing {
        real_server: Slot,
    },
    Full,
}
/// Applies `event` and restarts the timer; says whether the entry moved between the two counts. A reset
/// can only bring the end nearer: anybody can forge one (RFC 5961).
pub(super) fn advance(entry: &mut Entry, event: Event, timeouts: &Timeouts, now: Moment) -> Option<Change> {
    let before = entry.activity();
    entry.state = entry.state.next(event);
    let deadline = now.after(timeouts.of(entry.state));
    let is_known = entry.deadline > now;
    entry.deadline = if event == Event::Rst && is_known { deadline.min(entry.deadline) } else { deadline };
    let to = entry.activity();
    (before != to).then_some(Change::Moved { real_server: entry.real_server, to })
}
/// 32 bytes at the map's mean load of 0.48 (crates.md §3) are 69 per connection; the bar is 112.
const _: () = assert!(size_of::<(KeyV4, Entry)>() == 32);
