//! Chooses the real server of a packet without a connection. Nothing is recorded here, and nothing changes but the
//! worker's source of chance.
//!
//! The flood's note of this flow decides first, then the client's template, then the scheduler.

use super::super::Director;
use super::super::classify::{Content, Packet};
use super::super::cluster::{UnknownTcp, VirtualService};
use super::super::connection::Event;
use super::super::fate;
use super::super::persistence::TemplateKey;
use super::super::real_server::{RealServer, Slot};
use super::super::reply::{IcmpError, ReplyKind};
use super::super::route::FoundBy;
use super::super::scheduler::Request;
use super::super::verdict::DropReason;
use super::{At, Refusal, event_of};
use crate::packet::protocol;
use crate::packet::tcp::Flags;

/// A choice that is not recorded yet.
#[derive(Clone, Copy)]
pub(in crate::director) struct Chosen<'a> {
    pub(super) real_server: &'a RealServer,
    pub(super) found_by: FoundBy,
    /// Whether the packet may begin a connection.
    pub(super) may_begin: bool,
    /// Of a persistent service: the client's template, and the real server that it had.
    pub(super) template: Option<(TemplateKey, Option<Slot>)>,
}

impl Director {
    /// Chooses a real server, or returns why the packet is not forwarded.
    pub(in crate::director) fn choose<'a>(
        &mut self,
        at: At<'a>,
        service: &'a VirtualService,
        packet: &Packet,
    ) -> Result<Chosen<'a>, Refusal> {
        let recalled = self.recall(at, service, packet);
        if recalled.is_none() && self.waits_after_flood(at, packet) {
            return Err(DropReason::ConnectionWaits.into());
        }
        let may_begin = match recalled {
            Some(_) => may_go_on(packet)?,
            None => self.may_begin(at, service, packet)?,
        };
        let template = service.config.persistence.map(|persistence| {
            let key = TemplateKey::new(service.slot, packet.flow.client, &persistence);
            (key, self.tables.templates.get(&key, at.now))
        });
        let remembered = || {
            let server = template.and_then(|(_, slot)| fate::of_template(at.cluster, service, slot?))?;
            Some((&**server, FoundBy::Template))
        };
        let (real_server, found_by) =
            match recalled.map(|server| (server, FoundBy::FloodRecord)).or_else(remembered) {
                Some(found) => found,
                None => {
                    let scheduled = self.schedule(at, service, packet, may_begin).ok_or_else(no_server)?;
                    (scheduled, FoundBy::Scheduler)
                }
            };
        refuse_exit(packet, real_server)?;
        Ok(Chosen { real_server, found_by, may_begin, template })
    }

    /// The real server that a flow got during a flood.
    pub(super) fn recall<'a>(
        &self,
        at: At<'a>,
        service: &VirtualService,
        packet: &Packet,
    ) -> Option<&'a RealServer> {
        let slot = self.flood.recall(&packet.flow, at.now)?;
        let is_syn = event_of(packet) == Event::Syn;
        fate::of_flood(at.cluster, service, slot, packet.flow.protocol, is_syn).map(|server| &**server)
    }

    pub(super) fn schedule<'a>(
        &mut self,
        at: At,
        service: &'a VirtualService,
        packet: &Packet,
        is_new: bool,
    ) -> Option<&'a RealServer> {
        let request = Request { flow: &packet.flow, now: at.now, chance: self.chance.draw(), is_new };
        let index = service.scheduler.choose(&service.real_servers, &request)?;
        Some(&service.real_servers[index])
    }
}

fn no_server() -> Refusal {
    Refusal::answered(DropReason::NoRealServer, IcmpError::PortUnreachable.into())
}

/// RFC 2003 §3.2: a packet must not be tunnelled to its own sender.
pub(super) fn refuse_exit(packet: &Packet, real_server: &RealServer) -> Result<(), DropReason> {
    let is_exit = packet.source == real_server.config.rip;
    if is_exit { Err(DropReason::SourceIsTunnelExit) } else { Ok(()) }
}

/// Whether a packet without a connection is forwarded at all, and whether it may begin one.
pub(super) fn may_begin(service: &VirtualService, packet: &Packet) -> Result<bool, Refusal> {
    let Content::Tcp(flags) = packet.content else { return Ok(true) };
    if flags.is_scan() {
        return Err(DropReason::BadTcpFlags.into());
    }
    // A SYN with ACK answers a SYN that another host forged with the VIP as its source.
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
        UnknownTcp::Rst => Err(Refusal::answered(DropReason::NoConnection, ReplyKind::TcpReset)),
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
pub(super) fn carries_on_without_entry(service: &VirtualService, packet: &Packet) -> bool {
    let is_tcp = packet.flow.protocol == protocol::TCP;
    service.is_stateless && (!is_tcp || service.config.unknown_tcp == UnknownTcp::Schedule)
}
