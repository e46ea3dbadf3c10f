//! The steps of one packet's journey, in the order in which [`super::Director::handle_packet`] takes them:
//! here everything up to the choice of a real server; packets that follow another one in `follow`, the way
//! out in `wrap`.

mod follow;
#[cfg(test)]
mod races;
mod wrap;

use std::sync::atomic::Ordering;

use super::classify::{Content, Packet};
use super::cluster::{Cluster, NoService, OnRemoved, UnknownTcp, VirtualService};
use super::connection::{self, Claim, Event, Inserted, NewConnection, State, TemplatePrefix};
use super::flood::Flood;
use super::fragment::{Follow, Fragments};
use super::persistence::{NewTemplate, TemplateKey};
use super::real_server::{RealServer, Slot};
use super::reply::Answer;
use super::scheduler::Request;
use super::tables::{Tables, book_template};
use super::verdict::{DropReason, Memory, Route};
use super::{Chance, Outbox};
use crate::packet::fragment::FragmentKey;
use crate::packet::protocol;
use crate::packet::tcp::Flags;
use crate::time::Moment;

/// What the journey of one packet reads, and the worker's own state that it changes.
pub(super) struct Journey<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) tables: &'a Tables,
    pub(super) flood: &'a mut Flood,
    pub(super) fragments: &'a mut Fragments,
    pub(super) chance: &'a mut Chance,
    pub(super) outbox: &'a mut Outbox,
    pub(super) now: Moment,
}

/// A packet that is not forwarded, and the reply to its sender.
pub(super) struct Refusal {
    pub(super) reason: Option<DropReason>,
    pub(super) answer: Option<Answer>,
    /// The first fragment for which it may wait.
    pub(super) waits_for: Option<FragmentKey>,
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Refusal {
        Refusal { reason: Some(reason), answer: None, waits_for: None }
    }
}

impl Refusal {
    fn answered(reason: DropReason, answer: Answer) -> Refusal {
        Refusal { reason: Some(reason), answer: Some(answer), waits_for: None }
    }

    /// Answered by an ICMP error where one is allowed: never about an error, and never about a fragment other
    /// than the first (RFC 1122 §3.2.2).
    fn error(reason: DropReason, answer: Answer, packet: &Packet) -> Refusal {
        let may_answer = !matches!(packet.content, Content::IcmpError | Content::LaterFragment);
        Refusal { reason: Some(reason), answer: may_answer.then_some(answer), waits_for: None }
    }

    fn echo() -> Refusal {
        Refusal { reason: None, answer: Some(Answer::Echo), waits_for: None }
    }
}

/// The real server of a packet, and whether it has an entry.
pub(super) struct Choice<'a> {
    real_server: &'a RealServer,
    memory: Memory,
}

impl Choice<'_> {
    pub(super) fn real_server(&self) -> Slot {
        self.real_server.slot
    }
}

impl From<Choice<'_>> for Route {
    fn from(choice: Choice) -> Route {
        Route {
            to: choice.real_server.rip.into(),
            virtual_service: choice.real_server.virtual_service,
            real_server: choice.real_server.slot,
            memory: choice.memory,
        }
    }
}

impl<'a> Journey<'a> {
    /// The virtual service for a packet, or what to do if there is none.
    pub(super) fn find_service(&mut self, packet: &Packet) -> Result<&'a VirtualService, Refusal> {
        self.refuse_untunnelable(packet)?;
        self.cluster.find(&packet.flow).ok_or_else(|| self.refuse_unserved(packet))
    }

    fn refuse_unserved(&mut self, packet: &Packet) -> Refusal {
        if !self.cluster.has_vip(packet.destination) {
            return DropReason::NoService.into();
        }
        let answer = match packet.content {
            Content::EchoRequest => {
                self.remember_fragment(packet, Follow::Echo);
                return Refusal::echo();
            }
            Content::Tunnel => return DropReason::NestedTunnel.into(),
            Content::Tcp(flags) if flags.has(Flags::RST) => None,
            Content::Tcp(_) => Some(Answer::TcpReset),
            Content::Udp => Some(Answer::PortUnreachable),
            Content::IcmpError | Content::LaterFragment | Content::Other => None,
        };
        let answer = answer.filter(|_| self.cluster.config().no_service == NoService::Reject);
        Refusal { reason: Some(DropReason::NoService), answer, waits_for: None }
    }

    /// RFC 2003 §3.2: a packet from one of the director's own addresses must not be tunnelled; §3.1: nor one
    /// with TTL 0, whose sender should get an error.
    fn refuse_untunnelable(&self, packet: &Packet) -> Result<(), Refusal> {
        if self.cluster.is_own(packet.source) {
            // A packet that this director wrapped and that came back.
            let is_wrapped = packet.content == Content::Tunnel;
            return Err(if is_wrapped { DropReason::Loop } else { DropReason::MartianSource }.into());
        }
        if packet.ttl <= u8::from(self.cluster.config().decrements_ttl) {
            // The source of a reply is the address that the client asked, which must be a VIP.
            let is_ours = self.cluster.has_vip(packet.destination);
            let refusal = Refusal::error(DropReason::TtlExpired, Answer::TimeExceeded, packet);
            return Err(if is_ours { refusal } else { DropReason::TtlExpired.into() });
        }
        Ok(())
    }

    pub(super) fn find_connection(
        &self,
        service: &VirtualService,
        packet: &Packet,
    ) -> Result<Option<Choice<'a>>, Refusal> {
        let (event, timeouts) = (event_of(packet), &service.config.timeouts);
        let claim = |slot, state| self.claim(service, event, slot, state);
        let found = self.tables.connections.find(&packet.flow, event, timeouts, claim, self.now);
        if let Some(change) = found.change {
            self.tables.book(self.cluster, change);
        }
        match found.answer {
            connection::Answer::Known(slot) => {
                let real_server = self.cluster.real_server(slot).ok_or(DropReason::NoRealServer)?;
                Ok(Some(Choice { real_server, memory: Memory::Known }))
            }
            connection::Answer::Refused => Err(DropReason::NoRealServer.into()),
            connection::Answer::Unknown => Ok(None),
        }
    }

    /// What to do with a connection whose real server was removed or quiesced.
    fn claim(&self, service: &VirtualService, event: Event, slot: Slot, state: State) -> Claim {
        let on_removed = service.config.on_removed;
        let Some(server) = self.cluster.real_server(slot) else {
            // The connections of a real server that a later snapshot adds are not given up.
            return if self.cluster.is_later(slot) { Claim::Refuse } else { Claim::GiveUp };
        };
        if server.is_present {
            // As in IPVS (`expire_nodest_conn` with `conn_reuse_mode`), a new connection on old ports does
            // not go to a quiesced real server; here only if the old connection has ended, because a forged
            // SYN must not move a living one.
            let is_reuse = event == Event::Syn && !state.is_active() && server.weight() == 0;
            return if is_reuse { Claim::GiveUp } else { Claim::Follow };
        }
        match on_removed {
            OnRemoved::Reschedule => Claim::GiveUp,
            OnRemoved::Drop => Claim::Refuse,
            OnRemoved::Keep => Claim::Follow,
        }
    }

    /// Chooses a real server for a packet without a connection, and records the choice if allowed.
    pub(super) fn begin_connection(
        &mut self,
        service: &'a VirtualService,
        packet: &Packet,
    ) -> Result<Choice<'a>, Refusal> {
        let recalled = self.recall(service, packet);
        let may_remember = match recalled {
            Some(_) => may_go_on(packet)?,
            None => may_begin(service, packet)?,
        };
        let key = service.config.persistence.map(|p| TemplateKey::new(service.slot, packet.flow.client, &p));
        let chosen = match recalled.or_else(|| self.find_template(service, key.as_ref())) {
            Some(real_server) => real_server,
            None => self.schedule(service, packet, may_remember)?,
        };
        refuse_exit(packet, chosen)?;
        if !may_remember {
            return Ok(Choice { real_server: chosen, memory: Memory::None });
        }
        // It adds no entry, so the flood rule neither counts nor limits it.
        if service.config.is_one_packet && packet.flow.protocol == protocol::UDP {
            let real_server = self.link_template(service, chosen, key, false).unwrap_or(chosen);
            count_new(service, real_server);
            return Ok(Choice { real_server, memory: Memory::None });
        }
        let max = self.cluster.config().new_connections_per_second_max;
        let is_flood = self.flood.is_above(max, self.now);
        if is_flood {
            if !carries_on_without_entry(service, packet) {
                self.flood.remember(&packet.flow, chosen.slot, self.now);
            }
            return Ok(Choice { real_server: chosen, memory: Memory::Flood });
        }
        self.remember(service, packet, chosen, key)
    }

    /// Persistence: the real server that this client got before.
    fn find_template(
        &self,
        service: &'a VirtualService,
        key: Option<&TemplateKey>,
    ) -> Option<&'a RealServer> {
        let is_usable = |slot| self.is_usable_for_template(service, slot);
        let slot = self.tables.templates.find(key?, is_usable, self.now)?;
        self.cluster.real_server(slot).map(|server| &**server)
    }

    /// The real server that a flow got during a flood, if it still exists.
    fn recall(&self, service: &VirtualService, packet: &Packet) -> Option<&'a RealServer> {
        let slot = self.flood.recall(&packet.flow, self.now)?;
        let server = self.cluster.real_server(slot)?;
        (server.is_present && server.virtual_service == service.slot).then_some(server)
    }

    fn schedule(
        &mut self,
        service: &'a VirtualService,
        packet: &Packet,
        is_new: bool,
    ) -> Result<&'a RealServer, Refusal> {
        let request = Request { flow: &packet.flow, now: self.now, chance: self.chance.draw(), is_new };
        let no_server = Refusal::answered(DropReason::NoRealServer, Answer::PortUnreachable);
        let index = service.scheduler.choose(&service.real_servers, &request).ok_or(no_server)?;
        Ok(&service.real_servers[index])
    }

    fn remember(
        &self,
        service: &VirtualService,
        packet: &Packet,
        chosen: &'a RealServer,
        key: Option<TemplateKey>,
    ) -> Result<Choice<'a>, Refusal> {
        let config = &service.config;
        let full = || match carries_on_without_entry(service, packet) {
            // A hash decides again for the next packet.
            true => Ok(Choice { real_server: chosen, memory: Memory::None }),
            false => Err(DropReason::TableFull.into()),
        };
        if self.tables.connections.is_full() {
            return full();
        }
        // Booked before the entry exists, because a sweep may remove it at once.
        let linked = self.link_template(service, chosen, key, true);
        let key = key.filter(|_| linked.is_some());
        let chosen = linked.unwrap_or(chosen);
        let template = key.map(|key| TemplatePrefix::new(key.prefix));
        let (virtual_service, event) = (service.slot, event_of(packet));
        let new = NewConnection { virtual_service, real_server: chosen.slot, event, template };
        let activity = new.activity(packet.flow.protocol);
        chosen.live.book_new(activity);
        let inserted = self.tables.connections.insert(&packet.flow, new, &config.timeouts, self.now);
        if inserted == Inserted::New {
            count_new(service, chosen);
            return Ok(Choice { real_server: chosen, memory: Memory::New });
        }
        chosen.live.book_end(activity);
        if let Some(key) = &key {
            self.tables.templates.unlink(key, self.now);
        }
        let Inserted::Existing { real_server } = inserted else { return full() };
        let real_server = self.cluster.real_server(real_server).ok_or(DropReason::NoRealServer)?;
        Ok(Choice { real_server, memory: Memory::Known })
    }

    /// Adds or renews the client's template, if the service is persistent, and returns the real server to
    /// which it points: another worker may have chosen one for the same client at the same time.
    fn link_template(
        &self,
        service: &VirtualService,
        chosen: &'a RealServer,
        key: Option<TemplateKey>,
        hangs: bool,
    ) -> Option<&'a RealServer> {
        let (key, persistence) = (key?, service.config.persistence?);
        let new = NewTemplate { real_server: chosen.slot, hangs, timeout: persistence.timeout };
        let is_usable = |slot| self.is_usable_for_template(service, slot);
        let book = |change| book_template(self.cluster, change);
        let slot = self.tables.templates.link(key, new, is_usable, self.now, book)?;
        Some(self.cluster.real_server(slot).map_or(chosen, |server| server))
    }

    /// Whether a template may point to it: it exists, belongs to this service, and is not to be avoided
    /// because it is quiesced.
    fn is_usable_for_template(&self, service: &VirtualService, slot: Slot) -> bool {
        let expires_quiesced =
            service.config.persistence.is_some_and(|persistence| persistence.expires_quiesced);
        self.cluster.real_server(slot).is_some_and(|server| {
            let is_quiesced = server.weight() == 0 && expires_quiesced;
            server.is_present && server.virtual_service == service.slot && !is_quiesced
        })
    }
}

/// RFC 2003 §3.2: a packet must not be tunnelled to its own sender.
fn refuse_exit(packet: &Packet, real_server: &RealServer) -> Result<(), DropReason> {
    let is_exit = packet.source == real_server.config.rip;
    if is_exit { Err(DropReason::SourceIsTunnelExit) } else { Ok(()) }
}

fn event_of(packet: &Packet) -> Event {
    match packet.content {
        Content::Tcp(flags) => Event::of(flags),
        _ => Event::Datagram,
    }
}

/// Whether a packet without a connection is forwarded at all, and whether it may begin one.
fn may_begin(service: &VirtualService, packet: &Packet) -> Result<bool, Refusal> {
    let Content::Tcp(flags) = packet.content else { return Ok(true) };
    if flags.is_scan() {
        return Err(DropReason::BadTcpFlags.into());
    }
    // A SYN with ACK answers a forged SYN of somebody else.
    if flags.has(Flags::SYN | Flags::ACK) {
        return Err(DropReason::NoConnection.into());
    }
    if flags.has(Flags::SYN) {
        return Ok(true);
    }
    match service.config.unknown_tcp {
        // Another director, or this one before a restart, chose by the same hash.
        UnknownTcp::Schedule if service.is_stateless => Ok(false),
        // A reset begins no connection and is never answered.
        _ if flags.has(Flags::RST) => Err(DropReason::NoConnection.into()),
        UnknownTcp::Schedule => Ok(true),
        UnknownTcp::Drop => Err(DropReason::NoConnection.into()),
        UnknownTcp::Rst => Err(Refusal::answered(DropReason::NoConnection, Answer::TcpReset)),
    }
}

/// Whether a packet of a flow that a flood left without an entry may get one.
fn may_go_on(packet: &Packet) -> Result<bool, Refusal> {
    match packet.content {
        Content::Tcp(flags) if flags.is_scan() => Err(DropReason::BadTcpFlags.into()),
        Content::Tcp(flags) => Ok(!flags.has(Flags::RST)),
        _ => Ok(true),
    }
}

/// Whether the next packet of the flow finds the same real server by hash alone. For TCP only if segments of
/// unknown connections are scheduled.
fn carries_on_without_entry(service: &VirtualService, packet: &Packet) -> bool {
    let is_tcp = packet.flow.protocol == protocol::TCP;
    service.is_stateless && (!is_tcp || service.config.unknown_tcp == UnknownTcp::Schedule)
}

fn count_new(service: &VirtualService, real_server: &RealServer) {
    real_server.live.connections_total.fetch_add(1, Ordering::Relaxed);
    service.connections_total.fetch_add(1, Ordering::Relaxed);
}
