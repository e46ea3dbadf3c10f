//! The steps of one packet's journey, in the order in which [`super::Director::handle_packet`] takes them: here the
//! virtual service and the connection, then `choose` and `record` for a packet that begins one. Packets that follow
//! another one are in `follow`, those that are the host's in `pass`, the way out is in `leave`.

mod choose;
mod follow;
mod leave;
mod pass;
#[cfg(test)]
mod races;
mod record;
mod wait;

pub(super) use leave::decide_route;

use super::Director;
use super::classify::{Content, Packet};
use super::cluster::{Cluster, NoService, VirtualService};
use super::connection::{Entry, Event, Found};
use super::fate::{self, Fate};
use super::fragment::FragmentFate;
use super::pins;
use super::real_server::RealServer;
use super::reply::{IcmpError, ReplyKind};
use super::route::decide::Choice;
use super::route::{FoundBy, Tracking};
use super::verdict::DropReason;
use crate::packet::ip::FragmentKey;
use crate::packet::tcp::Flags;
use crate::time::Moment;

/// The snapshot by which a packet is handled, and when.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) now: Moment,
}

/// A packet that is not forwarded, and the reply to its sender.
#[derive(Default)]
pub(super) struct Refusal {
    pub(super) reason: Option<DropReason>,
    pub(super) reply: Option<ReplyKind>,
    /// The first fragment for which it may wait.
    pub(super) waits_for: Option<FragmentKey>,
    /// It is the host's, whose stack gets it as it was captured.
    pub(super) is_hosts: bool,
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Refusal {
        Refusal { reason: Some(reason), ..Refusal::default() }
    }
}

impl Refusal {
    fn answered(reason: DropReason, reply: ReplyKind) -> Refusal {
        Refusal { reply: Some(reply), ..reason.into() }
    }

    /// Answered by an ICMP error where one is allowed: never about an error, and never about a fragment other
    /// than the first (RFC 1122 §3.2.2).
    fn error(reason: DropReason, error: IcmpError, packet: &Packet) -> Refusal {
        let may_answer = !matches!(packet.content, Content::IcmpError | Content::LaterFragment);
        Refusal { reply: may_answer.then_some(error.into()), ..reason.into() }
    }

    fn echo() -> Refusal {
        Refusal { reply: Some(ReplyKind::EchoReply), ..Refusal::default() }
    }

    fn hosts() -> Refusal {
        Refusal { is_hosts: true, ..Refusal::default() }
    }
}

impl Director {
    /// The real server of a probe, which needs neither a virtual service nor a connection; `None` for any other packet.
    pub(super) fn find_pinned<'a>(&self, at: At<'a>, packet: &Packet) -> Result<Option<Choice<'a>>, Refusal> {
        if !pins::may_be_pinned(&packet.flow) || !at.cluster.is_own(packet.source) {
            return Ok(None);
        }
        match self.tables.pins.find(at.cluster, &packet.flow, at.now) {
            pins::Found::Unpinned => Ok(None),
            pins::Found::To(real_server) => Ok(Some(probe_to(real_server))),
            pins::Found::Stale => Err(DropReason::ProbeStale.into()),
        }
    }

    /// The real server of the packet's connection, which begins with this packet if there is none.
    pub(super) fn find_or_begin<'a>(&mut self, at: At<'a>, packet: &Packet) -> Result<Choice<'a>, Refusal> {
        let service = self.find_service(at, packet)?;
        if let Some(known) = self.find_connection(at, service, packet)? {
            return Ok(known);
        }
        let chosen = self.choose(at, service, packet)?;
        self.record(at, service, packet, chosen)
    }

    /// The virtual service for a packet, or what to do if there is none.
    pub(super) fn find_service<'a>(
        &mut self,
        at: At<'a>,
        packet: &Packet,
    ) -> Result<&'a VirtualService, Refusal> {
        let found = at.cluster.find(&packet.flow);
        if found.is_none() && at.cluster.has_local_vip(packet.destination) {
            // The host would reset a connection that waits for its virtual service.
            let waits = self.waits(at, packet).then(|| DropReason::ConnectionWaits.into());
            return Err(waits.unwrap_or_else(|| self.leave_to_host(packet, at.now)));
        }
        refuse_untunnelable(at.cluster, packet)?;
        found.ok_or_else(|| self.refuse_unserved(at, packet))
    }

    fn refuse_unserved(&mut self, at: At, packet: &Packet) -> Refusal {
        if !at.cluster.has_vip(packet.destination) {
            return DropReason::NoService.into();
        }
        if self.waits(at, packet) {
            return DropReason::ConnectionWaits.into();
        }
        let reply = match packet.content {
            Content::EchoRequest => {
                self.remember_fragment(packet, FragmentFate::Echo, at.now);
                return Refusal::echo();
            }
            Content::Tunnel => return DropReason::NestedTunnel.into(),
            Content::Tcp(flags) if flags.has(Flags::RST) => None,
            Content::Tcp(_) => Some(ReplyKind::TcpReset),
            Content::Udp => Some(IcmpError::PortUnreachable.into()),
            Content::IcmpError | Content::LaterFragment | Content::Other => None,
        };
        let reply = reply.filter(|_| at.cluster.config().no_service == NoService::Reject);
        Refusal { reply, ..DropReason::NoService.into() }
    }

    /// The real server of the packet's connection, if it has one.
    pub(super) fn find_connection<'a>(
        &self,
        at: At<'a>,
        service: &VirtualService,
        packet: &Packet,
    ) -> Result<Option<Choice<'a>>, Refusal> {
        let (connections, flow, event) = (&self.tables.connections, &packet.flow, event_of(packet));
        let (timeouts, counts) = (&service.config.timeouts, self.tables.counts(at.cluster));
        let found = match event {
            Event::Syn => connections.get(flow).map_or(Found::Unknown, Found::Seen),
            _ => connections.find(flow, event, at.cluster.serving(), timeouts, at.now, &counts),
        };
        match found {
            Found::Unknown => Ok(None),
            Found::Kept(slot) => {
                let real_server = at.cluster.real_server(slot).ok_or(DropReason::NoRealServer)?;
                Ok(Some(Choice { real_server, tracking: Tracking::Known, found_by: FoundBy::Entry }))
            }
            Found::Seen(entry) => self.follow_entry(at, service, packet, &entry),
        }
    }

    fn follow_entry<'a>(
        &self,
        at: At<'a>,
        service: &VirtualService,
        packet: &Packet,
        seen: &Entry,
    ) -> Result<Option<Choice<'a>>, Refusal> {
        let (connections, counts) = (&self.tables.connections, self.tables.counts(at.cluster));
        let (event, timeouts) = (event_of(packet), &service.config.timeouts);
        let (is_as_seen, choice) = match fate::of_packet(at.cluster, seen, event, at.now) {
            Fate::Follow(real_server) => {
                let is_kept = connections.keep(&packet.flow, seen, event, timeouts, at.now, &counts);
                (is_kept, Some(Choice { real_server, tracking: Tracking::Known, found_by: FoundBy::Entry }))
            }
            Fate::GiveUp => (connections.remove(&packet.flow, seen, at.now, &counts), None),
            Fate::Refuse => return Err(DropReason::NoRealServer.into()),
            Fate::Wait => return Err(DropReason::ConnectionWaits.into()),
        };
        // Otherwise another worker has changed the entry since.
        if is_as_seen { Ok(choice) } else { self.find_connection(at, service, packet) }
    }

    /// Makes later fragments follow a first one, and releases those that are waiting already.
    pub(super) fn remember_fragment(&mut self, packet: &Packet, follow: FragmentFate, now: Moment) {
        if let Some(key) = packet.fragment_key().filter(|_| packet.content != Content::LaterFragment) {
            let released = self.fragments.learn(key, follow, now);
            self.outbox.released.extend(released);
        }
    }
}

/// A probe has no entry, and needs none.
fn probe_to(real_server: &RealServer) -> Choice<'_> {
    Choice { real_server, tracking: Tracking::None, found_by: FoundBy::Probe }
}

/// RFC 2003 §3.2: a packet from one of the director's own addresses must not be tunnelled; §3.1: nor one
/// with TTL 0, whose sender should get an error.
fn refuse_untunnelable(cluster: &Cluster, packet: &Packet) -> Result<(), Refusal> {
    if cluster.is_own(packet.source) {
        // A packet that this director wrapped and that came back.
        let is_wrapped = packet.content == Content::Tunnel;
        return Err(if is_wrapped { DropReason::Loop } else { DropReason::MartianSource }.into());
    }
    if packet.ttl <= u8::from(cluster.config().decrements_ttl) {
        // The source of a reply is the address that the client used, which must be a VIP.
        let is_ours = cluster.has_vip(packet.destination);
        let refusal = Refusal::error(DropReason::TtlExpired, IcmpError::TimeExceeded, packet);
        return Err(if is_ours { refusal } else { DropReason::TtlExpired.into() });
    }
    Ok(())
}

fn event_of(packet: &Packet) -> Event {
    match packet.content {
        Content::Tcp(flags) => Event::of(flags),
        _ => Event::Datagram,
    }
}
