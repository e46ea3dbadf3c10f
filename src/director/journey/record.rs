//! Records a choice: the client's template and the connection's entry, or in a flood a note.
//!
//! A first packet that turns out to be too big for its path leaves its entry: the sender is notified, and the smaller
//! packets that follow go the same way.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::Director;
use super::super::classify::Packet;
use super::super::cluster::VirtualService;
use super::super::connection::{Event, Inserted, NewConnection, TemplatePrefix};
use super::super::fate;
use super::super::persistence::{Linked, NewTemplate, TemplateKey, Templates};
use super::super::real_server::RealServer;
use super::super::route::{FoundBy, Tracking};
use super::super::verdict::DropReason;
use super::choose::{Chosen, carries_on_without_entry};
use super::{At, Choice, Refusal, event_of};
use crate::packet::protocol;
use crate::time::Moment;

/// The part that a connection has in its client's template: given up when dropped, unless the connection keeps it.
struct Part<'a> {
    templates: &'a Templates,
    key: Option<TemplateKey>,
    now: Moment,
}

impl Part<'_> {
    /// The connection has an entry, whose end gives the part up.
    fn keep(mut self) {
        self.key = None;
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.templates.unlink(key, true, self.now);
        }
    }
}

/// A real server, and what named it.
#[derive(Clone, Copy)]
struct Named<'a> {
    real_server: &'a RealServer,
    found_by: FoundBy,
}

impl<'a> Named<'a> {
    fn with(self, tracking: Tracking) -> Choice<'a> {
        Choice { real_server: self.real_server, tracking, found_by: self.found_by }
    }
}

impl<'a> Chosen<'a> {
    fn named(&self) -> Named<'a> {
        Named { real_server: self.real_server, found_by: self.found_by }
    }
}

impl Director {
    /// Records a choice as far as the service, the flood rule and the room in the tables allow.
    pub(in crate::director) fn record<'a>(
        &mut self,
        at: At<'a>,
        service: &VirtualService,
        packet: &Packet,
        chosen: Chosen<'a>,
    ) -> Result<Choice<'a>, Refusal> {
        if !chosen.may_begin {
            return Ok(chosen.named().with(Tracking::None));
        }
        let persistence = service.config.persistence.as_ref();
        // It adds no entry, so the flood rule neither counts nor limits it.
        if service.config.is_one_packet && packet.flow.protocol == protocol::UDP {
            let linked = persistence.and_then(|it| self.link(at, service, &chosen, it.timeout, false));
            let named = linked.unwrap_or(chosen.named());
            count_new(service, named.real_server);
            return Ok(named.with(Tracking::None));
        }
        let is_known = is_confirmed(packet, &chosen);
        if self.is_flooded(at, packet, is_known) {
            if !carries_on_without_entry(service, packet) {
                self.flood.remember(&packet.flow, chosen.real_server.slot, at.now);
                self.tables.note_flood(at.now);
            }
            return Ok(chosen.named().with(Tracking::Flood));
        }
        self.add_entry(at, service, packet, chosen, is_known)
    }

    /// Whether the flow is only noted: there are too many new connections, or too many that no second packet has
    /// confirmed.
    fn is_flooded(&mut self, at: At, packet: &Packet, is_known: bool) -> bool {
        let max = at.cluster.config().new_connections_per_second_max;
        self.flood.is_above(max, is_known, at.now)
            || !self.tables.connections.has_room(&packet.flow, is_known)
    }

    fn add_entry<'a>(
        &self,
        at: At<'a>,
        service: &VirtualService,
        packet: &Packet,
        chosen: Chosen<'a>,
        is_known: bool,
    ) -> Result<Choice<'a>, Refusal> {
        let full = || match carries_on_without_entry(service, packet) {
            // A hash decides again for the next packet.
            true => Ok(chosen.named().with(Tracking::None)),
            false => Err(DropReason::TableFull.into()),
        };
        if self.tables.connections.is_full() {
            return full();
        }
        let persistence = service.config.persistence.as_ref();
        let linked = persistence.and_then(|it| self.link(at, service, &chosen, it.timeout, true));
        let key = chosen.template.map(|(key, _)| key).filter(|_| linked.is_some());
        let part = Part { templates: &self.tables.templates, key, now: at.now };
        let named = linked.unwrap_or(chosen.named());
        let new = NewConnection {
            virtual_service: service.slot,
            real_server: named.real_server.slot,
            event: event_of(packet),
            is_known,
            template: key.map(|key| TemplatePrefix::new(key.prefix)),
        };
        let (timeouts, counts) = (&service.config.timeouts, self.tables.counts(at.cluster));
        match self.tables.connections.insert(&packet.flow, new, timeouts, at.now, &counts) {
            Inserted::New(_) => {
                part.keep();
                count_new(service, named.real_server);
                Ok(named.with(Tracking::New))
            }
            Inserted::Existing(entry) => {
                let theirs = at.cluster.real_server(entry.real_server).ok_or(DropReason::NoRealServer)?;
                Ok(Choice { real_server: theirs, tracking: Tracking::Known, found_by: FoundBy::Entry })
            }
            Inserted::Full => full(),
        }
    }

    /// Adds or renews the client's template at a persistent service, and returns the real server to which it
    /// points: another worker may have chosen one for the same client at the same time. `None` also if there are
    /// too many templates.
    fn link<'a>(
        &self,
        at: At<'a>,
        service: &VirtualService,
        chosen: &Chosen<'a>,
        timeout: Duration,
        has_entry: bool,
    ) -> Option<Named<'a>> {
        let (key, mut instead_of) = chosen.template?;
        let (templates, counts) = (&self.tables.templates, self.tables.counts(at.cluster));
        let mut named = chosen.named();
        loop {
            let new = NewTemplate { real_server: named.real_server.slot, instead_of, has_entry, timeout };
            match templates.link(key, new, at.now, &counts) {
                Linked::Linked => return Some(named),
                Linked::Full => return None,
                Linked::Taken(slot) => {
                    instead_of = Some(slot);
                    if let Some(theirs) = fate::of_template(at.cluster, service, slot) {
                        named = Named { real_server: theirs, found_by: FoundBy::Template };
                    }
                }
            }
        }
    }
}

/// Whether an earlier packet of the flow was noted, and this one is more than the first sent again.
fn is_confirmed(packet: &Packet, chosen: &Chosen) -> bool {
    chosen.found_by == FoundBy::FloodRecord && event_of(packet) != Event::Syn
}

fn count_new(service: &VirtualService, real_server: &RealServer) {
    real_server.live.connections_total.fetch_add(1, Ordering::Relaxed);
    service.connections_total.fetch_add(1, Ordering::Relaxed);
}
