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
//! | protocol unreachable (3/2) | nothing | suspicion: the real server's daemon is not running |
//! | port unreachable (3/3), source route failed (3/5), quench, redirect, parameter problem | nothing | |
//!
//! If too little is quoted to identify the sender, the sender of the next packet gets the error.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::cluster::{Cluster, VirtualService};
use super::path::MTU_MIN;
use super::real_server::RealServer;
use super::reply::{self, IcmpError, TokenBucket};
use super::tables::Tables;
use crate::label::labels;
use crate::packet::icmp::{self, Icmp, QuoteError};
use crate::packet::ipv4::{self, Ipv4};
use crate::packet::{Flow, Ip, address, protocol};
use crate::time::Moment;

/// Messages examined per second; the rest of a storm is only counted.
const MESSAGES_PER_SECOND: u32 = 1000;
const MESSAGES_BURST: u32 = 50;

/// RFC 1191 §7: the MTUs of common networks, for routers that do not report theirs.
const PLATEAUS: [u16; 10] = [65_535, 32_000, 17_914, 8166, 4352, 2002, 1492, 1006, 508, 296];

labels! {
    /// The kind of an error from the path.
    pub enum Kind {
        /// Type 3, code 4, with or without an MTU (RFC 1191).
        TooBig = "too_big",
        /// Type 3, other codes: the network or the host.
        Unreachable = "unreachable",
        /// Type 3, code 2: no program there decapsulates.
        ProtocolUnreachable = "protocol_unreachable",
        /// Type 11, from a routing loop or a TTL that is too small for the path.
        TimeExceeded = "time_exceeded",
        /// What changes nothing, whatever it is about.
        Other = "other",
    }
}

labels! {
    /// What the director does with an error from the path.
    pub enum Outcome {
        /// The client gets an error.
        Relayed = "relayed",
        /// Recorded for later packets.
        Noted = "noted",
        /// Contains nothing new or useful.
        Ignored = "ignored",
        /// Not about one of the director's packets: forged, or another program's.
        Mismatch = "mismatch",
        /// Not an ICMP error, or one that quotes no IPv4 header.
        Malformed = "malformed",
        /// Above the budget of messages examined per second.
        RateLimited = "rate_limited",
    }
}

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
    /// `None` if nothing changed that was not so before.
    pub event: Option<Event>,
    /// A whole packet for the client.
    pub answer: Option<(Vec<u8>, IpAddr)>,
}

/// Handles errors from the paths. One per director, whatever its number of workers.
pub struct PathErrors {
    cluster: Arc<ArcSwap<Cluster>>,
    tables: Arc<Tables>,
    budget: TokenBucket,
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
    /// Too little to identify its sender.
    Cut,
    /// Its sender must not get an error (the packet was an error or a later fragment), or may not exist,
    /// because there is no entry for it.
    Untold,
}

impl PathErrors {
    /// `cluster` is read afresh for each message; `tables` has the connections that errors quote.
    pub fn new(cluster: Arc<ArcSwap<Cluster>>, tables: Arc<Tables>) -> PathErrors {
        PathErrors { cluster, tables, budget: TokenBucket::new(MESSAGES_PER_SECOND, MESSAGES_BURST) }
    }

    /// Handles one ICMP message that was sent to this host.
    pub fn handle_packet(&mut self, packet: &[u8], now: Moment) -> Handled {
        let heard = |kind, outcome| Handled { kind, outcome, event: None, answer: None };
        let Some((ip, message)) = message_of(packet) else {
            return heard(Kind::Other, Outcome::Malformed);
        };
        let kind = kind_of(&message);
        let cluster = self.cluster.load_full();
        match self.about(&cluster, &ip, &message, now) {
            Err(outcome) => heard(kind, outcome),
            // Errors about other programs' packets must not use up the budget.
            Ok(_) if !self.budget.take(now) => heard(kind, Outcome::RateLimited),
            Ok(about) => act(kind, &message, &about, now),
        }
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
        let inner = self.inner(cluster, encapsulation.quoted_inner(&outer), real_server.rip, now)?;
        Ok(About { real_server, outer, inner })
    }

    fn inner<'a>(
        &self,
        cluster: &Cluster,
        quoted: &'a [u8],
        rip: Ipv4Addr,
        now: Moment,
    ) -> Result<Inner<'a>, Outcome> {
        if quoted.len() < ipv4::HEADER {
            return Ok(Inner::Cut);
        }
        let inner = icmp::quoted_packet(quoted).map_err(|_| Outcome::Malformed)?;
        if !cluster.has_vip(inner.destination()) {
            return Err(Outcome::Mismatch);
        }
        let flow = match icmp::quoted_flow(&inner) {
            Ok(flow) => flow,
            Err(QuoteError::NoFlow) => return Ok(Inner::Untold),
            Err(QuoteError::Truncated) => return Ok(Inner::Cut),
        };
        let may_be_told = !address::is_martian(inner.source()) && !cluster.is_own(inner.source());
        match self.life(cluster, &flow, rip, now) {
            Life::Lives if may_be_told => Ok(Inner::Whole(inner)),
            Life::Lives | Life::Possible => Ok(Inner::Untold),
            Life::None => Err(Outcome::Mismatch),
        }
    }

    /// Whether the flow is a connection of this real server, or needs no entry to be forwarded there.
    fn life(&self, cluster: &Cluster, flow: &Flow, rip: Ipv4Addr, now: Moment) -> Life {
        if let Some(slot) = self.tables.connections.peek(flow, now) {
            let is_its = cluster.real_server(slot).is_some_and(|server| server.rip == rip);
            return if is_its { Life::Lives } else { Life::None };
        }
        let is_there =
            |service: &&VirtualService| service.real_servers.iter().any(|server| server.rip == rip);
        match cluster.find(flow).filter(is_there) {
            Some(service) if service.is_stateless || service.config.is_one_packet => Life::Possible,
            // The flood rule leaves connections without an entry; only their worker can determine which ones.
            Some(_) if cluster.config().new_connections_per_second_max.is_some() => Life::Possible,
            _ => Life::None,
        }
    }
}

enum Life {
    Lives,
    /// It needs no entry to be forwarded, so the sender of the error may have invented it.
    Possible,
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
    let heard = |outcome, event| Handled { kind, outcome, event, answer: None };
    match kind {
        Kind::TooBig => on_too_big(message, about, now),
        Kind::Unreachable if is_net_unreachable(message.code()) => {
            tell(kind, about, IcmpError::NetUnreachable, now)
        }
        // RFC 2003 §4.4: the client can neither know about a loop in the path nor repair it.
        Kind::Unreachable | Kind::TimeExceeded => tell(kind, about, IcmpError::HostUnreachable, now),
        Kind::ProtocolUnreachable => {
            let is_news = about.real_server.soft.suspect(now);
            heard(Outcome::Noted, is_news.then_some(Event::Suspect { rip: about.real_server.rip }))
        }
        Kind::Other => heard(Outcome::Ignored, None),
    }
}

/// Net unreachable, net unknown, net unreachable for this type of service (RFC 1122 §3.2.2.1).
fn is_net_unreachable(code: u8) -> bool {
    matches!(code, 0 | 6 | 11)
}

fn on_too_big(message: &Icmp, about: &About, now: Moment) -> Handled {
    let server = &about.real_server;
    let quoted = about.outer.stated_length();
    let told = match message.next_hop_mtu() {
        0 => PLATEAUS.into_iter().find(|plateau| usize::from(*plateau) < quoted).unwrap_or(MTU_MIN),
        mtu => mtu,
    };
    let ignored = Handled { kind: Kind::TooBig, outcome: Outcome::Ignored, event: None, answer: None };
    // A packet without DF is fragmented, and one that would have fitted was not too big.
    if !about.outer.has_dont_fragment() || usize::from(told) >= quoted {
        return ignored;
    }
    let is_news = told < server.path.mtu && server.soft.lower_mtu(told, now);
    let mtu = server.path_mtu(now);
    let event = is_news.then_some(Event::MtuLowered { rip: server.rip, mtu });
    let inner_mtu = server.inner_mtu(now);
    let is_too_big =
        |inner: &&Ip| inner.has_dont_fragment() && inner.stated_length() > usize::from(inner_mtu);
    let inner = if let Inner::Whole(inner) = &about.inner { Some(inner) } else { None };
    match inner.filter(is_too_big) {
        Some(inner) => {
            let answer = reply::error_about(inner, IcmpError::TooBig { mtu: inner_mtu });
            Handled { outcome: Outcome::Relayed, event, answer, ..ignored }
        }
        // The next packet that does not fit is answered.
        None if is_news => Handled { outcome: Outcome::Noted, event, ..ignored },
        None => ignored,
    }
}

fn tell(kind: Kind, about: &About, error: IcmpError, now: Moment) -> Handled {
    let heard = Handled { kind, outcome: Outcome::Noted, event: None, answer: None };
    match &about.inner {
        Inner::Whole(inner) => {
            Handled { outcome: Outcome::Relayed, answer: reply::error_about(inner, error), ..heard }
        }
        Inner::Cut => {
            about.real_server.soft.set_pending_error(error, now);
            heard
        }
        Inner::Untold => Handled { outcome: Outcome::Ignored, ..heard },
    }
}
