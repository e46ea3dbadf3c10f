//! ICMP errors from the path to a real server, about the director's outer packets (RFC 2003 §4): what they
//! change, and who gets an error.
//!
//! ```text
//! client ─▶ director ══════ outer ══════▶ router ─✗ real server
//!    ▲         │  ◀── ICMP ⟨outer header ⟨inner header, 8 B or more⟩⟩
//!    └── ICMP ─┘        about the inner packet, as the VIP
//! ```
//! | from the path | sent to the client | recorded |
//! |---|---|---|
//! | too big (3/4) | too big, minus the overhead | path MTU |
//! | net unreachable (3/0, 3/6, 3/11) | net unreachable | |
//! | host unreachable and similar (other codes of 3) | host unreachable | |
//! | time exceeded (11) | host unreachable | |
//! | protocol unreachable (3/2) | nothing; a check gets it | suspicion: the real server's daemon is not running |
//! | port unreachable (3/3), source route failed (3/5), quench, redirect, parameter problem | nothing | |
//!
//! If too little is quoted to identify the sender, the sender of the next packet gets the error. A report that the path
//! is narrower than known is confirmed by a probe before it changes anything.

mod probe;

pub use probe::report_about;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::cluster::{Cluster, VirtualService};
use super::path::MTU_MIN;
use super::pins;
use super::real_server::{RealServer, Slot};
use super::reply::{self, IcmpError, TokenBucket};
use super::tables::Tables;
use crate::packet::icmp::{self, Icmp, QuoteError};
use crate::packet::ipv4::{self, Ipv4};
use crate::packet::{Flow, Ip, address, protocol};
use crate::time::Moment;
use probe::Probes;

pub use super::server_errors::{Kind, Outcome};

/// Messages examined per second; the rest of a storm is only counted.
const MESSAGES_PER_SECOND: u32 = 1000;
const MESSAGES_BURST: u32 = 50;

/// RFC 1191 §7: the MTUs of common networks, for routers that do not report theirs.
const PLATEAUS: [u16; 10] = [65_535, 32_000, 17_914, 8166, 4352, 2002, 1492, 1006, 508, 296];

/// A change that an operator or a health check needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// In bytes, outer packet included.
    MtuLowered {
        /// The real server at the end of the path.
        rip: Ipv4Addr,
        /// The new path MTU.
        mtu: u16,
    },
    /// Its host does not accept encapsulated packets: the real server's daemon is not running.
    Suspect {
        /// The real server whose host reported the error.
        rip: Ipv4Addr,
    },
}

/// The fate of one error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handled {
    /// By ICMP type and code.
    pub kind: Kind,
    /// What the metrics count it as.
    pub outcome: Outcome,
    /// The real server whose counts include it; `None` if it is about none.
    pub real_server: Option<Slot>,
    /// `None` if nothing changed that was not so before.
    pub event: Option<Event>,
    /// A whole packet for the client.
    pub answer: Option<(Vec<u8>, IpAddr)>,
    /// A whole packet for the real server, whose fate shows whether the report is true.
    pub probe: Option<(Vec<u8>, IpAddr)>,
}

impl Handled {
    fn new(kind: Kind, outcome: Outcome) -> Handled {
        Handled { kind, outcome, real_server: None, event: None, answer: None, probe: None }
    }
}

/// Handles errors from the paths. One per director, whatever its number of workers.
pub struct PathErrors {
    cluster: Arc<ArcSwap<Cluster>>,
    tables: Arc<Tables>,
    budget: TokenBucket,
    probes: Probes,
}

/// The content of an error that is about one of the director's packets.
struct About<'a> {
    real_server: Arc<RealServer>,
    outer: Ipv4<'a>,
    inner: Inner<'a>,
}

/// The quoted part of the inner packet.
enum Inner<'a> {
    /// Enough for its sender, who may get an error.
    Whole(Ip<'a>),
    /// A check's packet: this host gets the error like a client, so that the check fails at once.
    Probe(Ip<'a>),
    /// Too little to identify its sender.
    Cut,
    /// Its sender must not get an error (the packet was an error or a later fragment), or may not exist,
    /// because there is no entry for it.
    Untold,
}

impl PathErrors {
    /// `cluster` is read afresh for each message; `tables` has the connections that errors quote. No one may be able
    /// to predict `seed`.
    pub fn new(cluster: Arc<ArcSwap<Cluster>>, tables: Arc<Tables>, seed: u64) -> PathErrors {
        let budget = TokenBucket::new(MESSAGES_PER_SECOND, MESSAGES_BURST);
        PathErrors { cluster, tables, budget, probes: Probes::new(seed) }
    }

    /// Handles one ICMP message that was sent to this host.
    pub fn handle_packet(&mut self, packet: &[u8], now: Moment) -> Handled {
        let Some((ip, message)) = message_of(packet) else {
            return Handled::new(Kind::Other, Outcome::Malformed);
        };
        let kind = kind_of(&message);
        let cluster = self.cluster.load_full();
        match self.about(&cluster, &ip, &message, now) {
            Err(outcome) => Handled::new(kind, outcome),
            Ok(about) => {
                // Errors about other programs' packets must not use up the budget.
                let handled = match self.budget.take(now) {
                    false => Handled::new(kind, Outcome::RateLimited),
                    true if kind == Kind::TooBig => self.on_too_big(&cluster, &message, &about, now),
                    true => act(kind, &message, &about, now),
                };
                about.real_server.live.errors().count_path(kind, handled.outcome);
                Handled { real_server: Some(about.real_server.slot), ..handled }
            }
        }
    }

    fn on_too_big(&mut self, cluster: &Cluster, message: &Icmp, about: &About, now: Moment) -> Handled {
        let (server, quoted) = (&about.real_server, about.outer.stated_length());
        let ignored = Handled::new(Kind::TooBig, Outcome::Ignored);
        let mtu = next_hop_mtu(message, quoted);
        // A packet without DF is fragmented, and one that would have fitted was not too big.
        if !about.outer.has_dont_fragment() || usize::from(mtu) >= quoted {
            return ignored;
        }
        let inner = match &about.inner {
            Inner::Whole(inner) | Inner::Probe(inner) => Some(inner.packet()),
            Inner::Cut | Inner::Untold => None,
        };
        if let Some(identifications) = identifications(about)
            && let Some(confirmed) = self.probes.confirm(server.rip, identifications, now)
        {
            return confirm(server, mtu, confirmed.about.as_deref(), now);
        }
        if mtu.max(MTU_MIN) >= server.path_mtu(now) {
            return answer_too_big(server, inner, now).unwrap_or(ignored);
        }
        let probe = self.probes.probe(cluster, server, about.outer.source(), quoted, inner, now);
        let probe = probe.map(|packet| (packet, server.rip.into()));
        Handled { outcome: Outcome::Unconfirmed, probe, ..ignored }
    }

    /// Which packet it is about: the quoted source, destination and protocol must be the director's, and so
    /// must the connection, if enough is quoted (RFC 5927 §4).
    fn about<'a>(
        &self,
        cluster: &Cluster,
        ip: &Ipv4,
        message: &Icmp<'a>,
        now: Moment,
    ) -> Result<About<'a>, Outcome> {
        let outer = Ipv4::parse_quoted(message.body()).map_err(|_| Outcome::Malformed)?;
        let real_server = cluster.real_server_at(outer.destination()).ok_or(Outcome::Mismatch)?.clone();
        let source = outer.source();
        let is_ours = cluster.is_own(source.into()) && !cluster.has_vip(source.into());
        let encapsulation = real_server.config.encapsulation;
        let is_encapsulated = encapsulation.carrier.carries(&outer) && outer.fragment_offset() == 0;
        if !is_ours || ip.destination() != source || !is_encapsulated {
            return Err(Outcome::Mismatch);
        }
        let (inner, its) = self.inner(cluster, encapsulation.quoted_inner(&outer), real_server.rip, now)?;
        let real_server = its.unwrap_or(real_server);
        Ok(About { real_server, outer, inner })
    }

    /// What is quoted of the inner packet, and which of the real servers with this RIP its connection has, if enough
    /// is quoted.
    fn inner<'a>(
        &self,
        cluster: &Cluster,
        quoted: &'a [u8],
        rip: Ipv4Addr,
        now: Moment,
    ) -> Result<(Inner<'a>, Option<Arc<RealServer>>), Outcome> {
        if quoted.len() < ipv4::HEADER {
            return Ok((Inner::Cut, None));
        }
        let inner = icmp::quoted_packet(quoted).map_err(|_| Outcome::Malformed)?;
        if !cluster.has_vip(inner.destination()) {
            return Err(Outcome::Mismatch);
        }
        if let Some(server) = self.of_probe(cluster, &inner, rip, now) {
            return Ok((Inner::Probe(inner), Some(server)));
        }
        let flow = match icmp::quoted_flow(&inner) {
            Ok(flow) => flow,
            Err(QuoteError::NoFlow) => return Ok((Inner::Untold, None)),
            Err(QuoteError::Truncated) => return Ok((Inner::Cut, None)),
        };
        let may_be_told = !address::is_martian(inner.source()) && !cluster.is_own(inner.source());
        match self.life(cluster, &flow, rip, now) {
            Life::Lives(server) if may_be_told => Ok((Inner::Whole(inner), Some(server))),
            Life::Lives(server) | Life::Possible(server) => Ok((Inner::Untold, Some(server))),
            Life::None => Err(Outcome::Mismatch),
        }
    }

    /// The real server that a check tests by this packet.
    fn of_probe(&self, cluster: &Cluster, inner: &Ip, rip: Ipv4Addr, now: Moment) -> Option<Arc<RealServer>> {
        if !cluster.is_own(inner.source()) {
            return None;
        }
        match self.tables.pins.find(cluster, &pins::quoted_probe(inner)?, now) {
            pins::Found::To(server) if server.rip == rip => Some(server.clone()),
            _ => None,
        }
    }

    /// Whether the flow is a connection of this real server, or needs no entry to be forwarded there.
    fn life(&self, cluster: &Cluster, flow: &Flow, rip: Ipv4Addr, now: Moment) -> Life {
        if let Some(slot) = self.tables.connections.peek(flow, now) {
            let its = cluster.real_server(slot).filter(|server| server.rip == rip);
            return its.map_or(Life::None, |server| Life::Lives(server.clone()));
        }
        let there = |service: &VirtualService| {
            let server = service.real_servers.iter().find(|server| server.rip == rip)?.clone();
            Some((service.is_stateless || service.config.is_one_packet, server))
        };
        match cluster.find(flow).and_then(there) {
            Some((true, server)) => Life::Possible(server),
            // The flood rule leaves connections without an entry; only their worker can determine which ones.
            Some((false, server)) if self.tables.is_flooded(now) => Life::Possible(server),
            _ => Life::None,
        }
    }
}

enum Life {
    Lives(Arc<RealServer>),
    /// It needs no entry to be forwarded, so the sender of the error may have invented it.
    Possible(Arc<RealServer>),
    None,
}

/// The message in a packet that was sent to this host, and the packet's header.
fn message_of(packet: &[u8]) -> Option<(Ipv4<'_>, Icmp<'_>)> {
    let ip = Ipv4::parse(packet).ok()?;
    if ip.protocol() != protocol::ICMP || ip.is_fragment() {
        return None;
    }
    Some((ip, Icmp::parse(ip.payload()).ok()?))
}

fn kind_of(message: &Icmp) -> Kind {
    match (message.kind(), message.code()) {
        (icmp::DESTINATION_UNREACHABLE, icmp::FRAGMENTATION_NEEDED) => Kind::TooBig,
        (icmp::DESTINATION_UNREACHABLE, icmp::PROTOCOL_UNREACHABLE) => Kind::ProtocolUnreachable,
        (icmp::DESTINATION_UNREACHABLE, icmp::PORT_UNREACHABLE | icmp::SOURCE_ROUTE_FAILED) => Kind::Other,
        (icmp::DESTINATION_UNREACHABLE, _) => Kind::Unreachable,
        (icmp::TIME_EXCEEDED, _) => Kind::TimeExceeded,
        _ => Kind::Other,
    }
}

fn act(kind: Kind, message: &Icmp, about: &About, now: Moment) -> Handled {
    let (net, host) = (IcmpError::NetUnreachable, IcmpError::HostUnreachable);
    match kind {
        Kind::Unreachable if is_net_unreachable(message.code()) => tell(kind, about, (net, net), now),
        Kind::Unreachable => tell(kind, about, (host, host), now),
        // RFC 2003 §4.4: the client can neither know about a loop in the path nor repair it.
        Kind::TimeExceeded => tell(kind, about, (IcmpError::TimeExceeded, host), now),
        Kind::ProtocolUnreachable => {
            let is_news = about.real_server.soft.suspect(now);
            let event = is_news.then_some(Event::Suspect { rip: about.real_server.rip });
            let answer = match &about.inner {
                Inner::Probe(inner) => reply::protocol_unreachable_about(inner),
                _ => None,
            };
            Handled { event, answer, ..Handled::new(kind, Outcome::Noted) }
        }
        Kind::TooBig | Kind::Other => Handled::new(kind, Outcome::Ignored),
    }
}

/// Net unreachable, net unknown, net unreachable for this type of service (RFC 1122 §3.2.2.1).
fn is_net_unreachable(code: u8) -> bool {
    matches!(code, 0 | 6 | 11)
}

/// What the path takes according to a router.
fn next_hop_mtu(message: &Icmp, quoted: usize) -> u16 {
    match message.next_hop_mtu() {
        0 => PLATEAUS.into_iter().find(|plateau| usize::from(*plateau) < quoted).unwrap_or(MTU_MIN),
        mtu => mtu,
    }
}

/// The identifications of the outer and of the inner header, as far as the error quotes them.
fn identifications(about: &About) -> Option<[u16; 2]> {
    let inner = about.real_server.config.encapsulation.quoted_inner(&about.outer);
    let place = ipv4::field::IDENTIFICATION;
    place.is_inside(inner).then(|| [about.outer.identification(), place.read(inner)])
}

/// A probe met the router too: the path is as narrow as it reports.
fn confirm(server: &RealServer, mtu: u16, about: Option<&[u8]>, now: Moment) -> Handled {
    let is_news = mtu < server.path.mtu && server.soft.lower_mtu(mtu, now);
    let event = is_news.then_some(Event::MtuLowered { rip: server.rip, mtu: server.path_mtu(now) });
    // The next packet that does not fit is answered.
    let noted = Handled::new(Kind::TooBig, if is_news { Outcome::Noted } else { Outcome::Ignored });
    Handled { event, ..answer_too_big(server, about, now).unwrap_or(noted) }
}

/// The error for the sender of a quoted packet that is larger than the path is known to take.
fn answer_too_big(server: &RealServer, quoted: Option<&[u8]>, now: Moment) -> Option<Handled> {
    let inner = icmp::quoted_packet(quoted?).ok()?;
    let mtu = server.inner_mtu(now);
    let is_too_big = inner.has_dont_fragment() && inner.stated_length() > usize::from(mtu);
    let answer = is_too_big.then(|| reply::error_about(&inner, IcmpError::TooBig { mtu }))?;
    Some(Handled { answer, ..Handled::new(Kind::TooBig, Outcome::Relayed) })
}

/// `errors`: what happened on the path, and what the client gets.
fn tell(kind: Kind, about: &About, errors: (IcmpError, IcmpError), now: Moment) -> Handled {
    let ((happened, error), server) = (errors, &about.real_server);
    server.soft.note_unreachable(happened, now);
    let handled = Handled::new(kind, Outcome::Noted);
    match &about.inner {
        Inner::Whole(inner) | Inner::Probe(inner) => {
            Handled { outcome: Outcome::Relayed, answer: reply::error_about(inner, error), ..handled }
        }
        Inner::Cut => {
            server.soft.set_pending_error(error, now);
            handled
        }
        Inner::Untold => Handled { outcome: Outcome::Ignored, ..handled },
    }
}
