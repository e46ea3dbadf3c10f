//! One connection: its entry in the table, how a packet changes it, and how it is reported.

use std::time::Duration;

use super::key::KeyV4;
use super::{Event, State, Timeouts};
use crate::director::real_server::{Activity, Slot};
use crate::packet::Flow;
use crate::time::Moment;

/// What the table remembers of a connection; callers get a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// From this moment on the entry is expired, although it stays in the table until the next sweep.
    pub deadline: Moment,
    /// Slot of the virtual service that scheduled it.
    pub virtual_service: u16,
    /// Its generation shows whether the real server is still the same one.
    pub real_server: Slot,
    /// From the client's packets alone: the real server's replies bypass the director.
    pub state: State,
    /// `None` without persistence.
    pub template: Option<TemplatePrefix>,
}

impl Entry {
    /// The entry that the first packet of a connection makes.
    pub(super) fn begin(new: &NewConnection, protocol: u8, timeouts: &Timeouts, now: Moment) -> Entry {
        let NewConnection { virtual_service, real_server, event, is_known, template } = *new;
        let state = State::first(protocol, event, is_known);
        Entry { deadline: now.after(timeouts.of(state)), virtual_service, real_server, state, template }
    }

    /// The entry after a packet: its state changes and its timer restarts. A reset can only shorten the remaining
    /// time, because anyone can forge one (RFC 5961).
    pub(super) fn after(self, event: Event, timeouts: &Timeouts, now: Moment) -> Entry {
        let state = self.state.next(event);
        let deadline = now.after(timeouts.of(state));
        let is_shortened = event == Event::Rst && !self.is_expired(now);
        Entry { state, deadline: if is_shortened { deadline.min(self.deadline) } else { deadline }, ..self }
    }

    /// Whether the deadline has come; the next packet then begins a new connection.
    pub fn is_expired(&self, now: Moment) -> bool {
        self.deadline <= now
    }

    /// The count of its real server that includes this connection.
    pub fn activity(&self) -> Activity {
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

    /// 0 to 128, in bits.
    pub const fn length(self) -> u8 {
        self.0.get() - 1
    }
}

/// The result of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The flow has no entry, not even an expired one.
    Unknown,
    /// The packet has been applied to the entry of a connection to this real server.
    Kept(Slot),
    /// A copy of the entry; the caller decides.
    Seen(Entry),
}

/// A connection to add.
#[derive(Clone, Copy, Debug)]
pub struct NewConnection {
    /// Slot of the virtual service that scheduled it.
    pub virtual_service: u16,
    /// The scheduler's choice, or the template's.
    pub real_server: Slot,
    /// The packet that adds it.
    pub event: Event,
    /// Whether a flood left the flow without an entry, so that this packet is not its first.
    pub is_known: bool,
    /// Set if the connection counts in a persistence template.
    pub template: Option<TemplatePrefix>,
}

/// A connection in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Client and VIP, in the direction of the client's packets.
    pub flow: Flow,
    /// Slot in the cluster; the service may have been removed since.
    pub virtual_service: u16,
    /// Slot in the cluster; the real server may have been removed since.
    pub real_server: Slot,
    /// The word for it is [`State::name`].
    pub state: State,
    /// Time until it expires if no further packet arrives.
    pub expires_in: Duration,
}

/// The result of adding an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// Added, with the first packet applied to it.
    New(Entry),
    /// Another worker added one first; its choice stands.
    Existing(Entry),
    /// The table has no room, or the client has as many connections as one client may have.
    Full,
}

/// 32 bytes at the map's average load of 0.48 are 69 bytes per connection; the bar is 112.
const _: () = assert!(size_of::<(KeyV4, Entry)>() == 32);
