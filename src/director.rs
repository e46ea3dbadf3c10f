//! The director's decision: what becomes of one packet. Pure: bytes, time and chance are handed in.
//!
//! [`Director::handle_packet`] tells the whole story in the packet's order; each step is a file.

pub mod classify;
pub mod cluster;
pub mod connection;
pub mod reply;
pub mod scheduler;
pub mod verdict;

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use crate::encapsulation::{CannotEncapsulate, Outer};
use crate::packet::Frame;
use crate::packet::tcp::Flags;
use crate::time::Moment;

use classify::{Content, Packet, classify};
use cluster::{Cluster, NoService, RealServer, ServiceKey, UnknownTcp, VirtualService};
use connection::{Event, Inserted, Table};
use reply::{Answer, TokenBucket};
use verdict::{DropReason, Reply, Route, Verdict};

/// Answers of our own per second and worker: ICMP errors and resets share one budget (RFC 1812
/// §4.3.2.8), echo has its own. The values are Linux's `icmp_msgs_per_sec` and `icmp_msgs_burst`.
const ANSWERS_PER_SECOND: u32 = 1000;
const ANSWERS_BURST: u32 = 50;

/// One worker's view of a director: the shared snapshot and table, and limits of its own.
pub struct Director {
    cluster: Cache<Arc<ArcSwap<Cluster>>, Arc<Cluster>>,
    connections: Arc<Table>,
    limits: Limits,
}

struct Limits {
    answers: TokenBucket,
    echoes: TokenBucket,
}

/// What one packet's journey reads.
struct Journey<'a> {
    cluster: &'a Cluster,
    connections: &'a Table,
    now: Moment,
}

/// A packet that goes no further, and what its sender is told.
struct Refusal {
    reason: Option<DropReason>,
    answer: Option<Answer>,
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Refusal {
        Refusal { reason: Some(reason), answer: None }
    }
}

impl Refusal {
    fn answered(reason: DropReason, answer: Answer) -> Refusal {
        Refusal { reason: Some(reason), answer: Some(answer) }
    }
}

/// The real server of a packet, and whether the packet made the entry.
struct Choice<'a> {
    real_server: &'a RealServer,
    is_new: bool,
}

impl From<Choice<'_>> for Route {
    fn from(choice: Choice) -> Route {
        Route {
            to: choice.real_server.rip.into(),
            virtual_service: choice.real_server.virtual_service,
            real_server: choice.real_server.slot,
            is_new: choice.is_new,
        }
    }
}

impl Director {
    pub fn new(cluster: Arc<ArcSwap<Cluster>>, connections: Arc<Table>) -> Director {
        let bucket = TokenBucket::new(ANSWERS_PER_SECOND, ANSWERS_BURST);
        let limits = Limits { answers: bucket.clone(), echoes: bucket };
        Director { cluster: Cache::new(cluster), connections, limits }
    }

    /// Decides one packet. After `Transmit` the frame holds the encapsulated packet, after `Reply` the
    /// answer; after `Drop` its content means nothing.
    pub fn handle_packet(&mut self, frame: &mut Frame, now: Moment) -> Verdict {
        let journey = Journey { cluster: self.cluster.load(), connections: &self.connections, now };
        let mut story = || -> Result<Route, Refusal> {
            frame.complete_checksum().map_err(DropReason::from)?;
            let packet = classify(frame.packet())?;
            let choice = match packet.content {
                Content::IcmpError => journey.follow_error(&packet)?,
                _ => {
                    let service = journey.find_service(&packet)?;
                    match journey.find_connection(service, &packet) {
                        Some(known) => known,
                        None => journey.schedule(service, &packet)?,
                    }
                }
            };
            journey.encapsulate(frame, &packet, &choice)?;
            Ok(choice.into())
        };
        match story() {
            Ok(route) => Verdict::Transmit(route),
            Err(refusal) => self.limits.refuse(frame, refusal, now),
        }
    }
}

impl Limits {
    /// Turns a refusal into a reply if it has an answer and the budget allows it.
    fn refuse(&mut self, frame: &mut Frame, refusal: Refusal, now: Moment) -> Verdict {
        let reason = refusal.reason;
        let silent = Verdict::Drop(reason.unwrap_or(DropReason::RateLimited));
        let Some(answer) = refusal.answer else { return silent };
        let budget = if answer == Answer::Echo { &mut self.echoes } else { &mut self.answers };
        if !budget.take(now) {
            return silent;
        }
        match reply::write(frame, answer) {
            Ok(to) => Verdict::Reply(Reply { to: to.into(), kind: answer.kind(), reason }),
            Err(_) => silent,
        }
    }
}

impl<'a> Journey<'a> {
    /// A connection's error from the world goes to the real server that holds the connection: only it
    /// can act on it (RFC 7690 §3).
    fn follow_error(&self, packet: &Packet) -> Result<Choice<'a>, Refusal> {
        self.refuse_untunnelable(packet)?;
        let slot = self.connections.peek(&packet.flow, self.now).ok_or(DropReason::NoConnection)?;
        let real_server = self.cluster.real_server(slot).ok_or(DropReason::NoConnection)?;
        Ok(Choice { real_server, is_new: false })
    }

    /// The virtual service a packet is for, or what becomes of a packet that is for none.
    fn find_service(&self, packet: &Packet) -> Result<&'a VirtualService, Refusal> {
        self.refuse_untunnelable(packet)?;
        if !self.cluster.has_vip(packet.destination) {
            return Err(DropReason::NoService.into());
        }
        let answer = match packet.content {
            Content::EchoRequest => return Err(Refusal { reason: None, answer: Some(Answer::Echo) }),
            Content::Tunnel => return Err(DropReason::NestedTunnel.into()),
            Content::Tcp(flags) if flags.has(Flags::RST) => None,
            Content::Tcp(_) => Some(Answer::TcpReset),
            Content::Udp => Some(Answer::PortUnreachable),
            Content::IcmpError | Content::Other => None,
        };
        let flow = &packet.flow;
        let key = ServiceKey { protocol: flow.protocol, vip: flow.vip, port: flow.vip_port };
        let answer = answer.filter(|_| self.cluster.config().no_service == NoService::Reject);
        let refusal = Refusal { reason: Some(DropReason::NoService), answer };
        self.cluster.find(&key).map(|service| &**service).ok_or(refusal)
    }

    /// RFC 2003 §3.2: a packet from one of our own addresses must not be tunnelled; §3.1: nor one whose
    /// TTL is 0, and its sender should be told.
    fn refuse_untunnelable(&self, packet: &Packet) -> Result<(), Refusal> {
        if self.cluster.is_own(packet.source) {
            return Err(DropReason::MartianSource.into());
        }
        if packet.ttl == 0 {
            let answer = (packet.content != Content::IcmpError).then_some(Answer::TimeExceeded);
            return Err(Refusal { reason: Some(DropReason::TtlExpired), answer });
        }
        Ok(())
    }

    fn find_connection(&self, service: &VirtualService, packet: &Packet) -> Option<Choice<'a>> {
        let is_usable = |slot| self.cluster.real_server(slot).is_some_and(|server| server.is_present);
        let (event, timeouts) = (event_of(packet), &service.config.timeouts);
        let found = self.connections.find(&packet.flow, event, timeouts, is_usable, self.now);
        if let Some(change) = found.change {
            self.cluster.book(change);
        }
        let real_server = self.cluster.real_server(found.real_server?)?;
        Some(Choice { real_server, is_new: false })
    }

    /// Chooses for a packet without a connection and remembers the choice.
    fn schedule(&self, service: &'a VirtualService, packet: &Packet) -> Result<Choice<'a>, Refusal> {
        may_begin(service, packet)?;
        let no_server = Refusal::answered(DropReason::NoRealServer, Answer::PortUnreachable);
        let index = service.scheduler.choose(&service.real_servers, &packet.flow).ok_or(no_server)?;
        let chosen = &service.real_servers[index];
        // RFC 2003 §3.2: never tunnel a packet to its own sender.
        if packet.source == chosen.config.rip {
            return Err(DropReason::SourceIsTunnelExit.into());
        }
        let (event, timeouts) = (event_of(packet), &service.config.timeouts);
        match self.connections.insert(&packet.flow, chosen.slot, event, timeouts, self.now) {
            Inserted::New { activity } => {
                self.cluster.book_new(service, chosen, activity);
                Ok(Choice { real_server: chosen, is_new: true })
            }
            Inserted::Existing { real_server } => {
                let real_server = self.cluster.real_server(real_server).ok_or(DropReason::NoConnection)?;
                Ok(Choice { real_server, is_new: false })
            }
            Inserted::Full => Err(DropReason::TableFull.into()),
        }
    }

    /// Wraps the packet for the way to its real server, if it fits that way.
    fn encapsulate(&self, frame: &mut Frame, packet: &Packet, choice: &Choice) -> Result<(), Refusal> {
        let real_server = choice.real_server;
        let mtu = real_server.inner_mtu();
        if packet.total_length > usize::from(mtu) {
            // RFC 1122 §3.2.2: no error about an error; RFC 1191 §4: only DF asks for one.
            let is_answerable = packet.has_dont_fragment && packet.content != Content::IcmpError;
            let answer = is_answerable.then_some(Answer::TooBig { mtu });
            return Err(Refusal { reason: Some(DropReason::TooBig), answer });
        }
        let identification =
            if packet.has_dont_fragment { 0 } else { real_server.live.next_identification() };
        let outer = Outer {
            source: real_server.path.source,
            destination: real_server.rip,
            ttl: self.cluster.config().ttl,
            identification,
        };
        (real_server.encapsulation.encapsulate)(frame, &outer).map_err(|cannot| match cannot {
            CannotEncapsulate::TooBig => DropReason::TooBig.into(),
            CannotEncapsulate::Malformed => DropReason::Truncated.into(),
            CannotEncapsulate::Expired => DropReason::TtlExpired.into(),
        })
    }
}

fn event_of(packet: &Packet) -> Event {
    match packet.content {
        Content::Tcp(flags) => Event::of(flags),
        _ => Event::Datagram,
    }
}

/// Whether a packet without a connection may begin one.
fn may_begin(service: &VirtualService, packet: &Packet) -> Result<(), Refusal> {
    let Content::Tcp(flags) = packet.content else { return Ok(()) };
    if flags.is_scan() {
        return Err(DropReason::BadTcpFlags.into());
    }
    // A SYN with ACK is the echo of somebody's forged SYN; a reset answers nothing and is never answered.
    if flags.has(Flags::SYN | Flags::ACK) || flags.has(Flags::RST) {
        return Err(DropReason::NoConnection.into());
    }
    if flags.has(Flags::SYN) {
        return Ok(());
    }
    match service.config.unknown_tcp {
        UnknownTcp::Schedule => Ok(()),
        UnknownTcp::Drop => Err(DropReason::NoConnection.into()),
        UnknownTcp::Rst => Err(Refusal::answered(DropReason::NoConnection, Answer::TcpReset)),
    }
}
