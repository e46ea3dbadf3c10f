//! Probes: a report that a path is narrower than known is accepted if a packet of our own meets the same router.
//!
//! Anyone who has the addresses of a director and a real server can forge a report. A probe is a ping of the VIP
//! through the tunnel, as large as the quoted packet, with DF and two random identifications, which every
//! router quotes (RFC 792 requires the outer header and eight bytes behind it). Only a report that quotes both lowers
//! the path MTU, to what that report contains.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::director::real_server::RealServer;
use crate::director::{Chance, cluster::Cluster};
use crate::encapsulation::{Outer, Ttl};
use crate::packet::field::U16;
use crate::packet::ipv4::{self, Header, Ipv4};
use crate::packet::{Frame, checksum, icmp, protocol};
use crate::time::Moment;

/// The shortest time between two probes of one path: what a forger can cause.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a report may take to come back.
const WAIT: Duration = Duration::from_secs(5);

const TTL: u8 = 64;
const ECHO_HEADER: usize = 8;

/// The probes in flight, at most one for each RIP.
pub(super) struct Probes {
    chance: Chance,
    sent: HashMap<Ipv4Addr, Sent>,
}

struct Sent {
    identifications: Identifications,
    at: Moment,
    /// The quoted packet whose report caused the probe; its sender is notified if the report is confirmed.
    about: Option<Vec<u8>>,
}

/// Those of the outer and of the inner header.
type Identifications = [u16; 2];

/// A probe that a report has confirmed.
pub(super) struct Confirmed {
    pub(super) about: Option<Vec<u8>>,
}

impl Probes {
    pub(super) fn new(seed: u64) -> Probes {
        Probes { chance: Chance(seed), sent: HashMap::new() }
    }

    /// Ends the probe that a report quotes.
    pub(super) fn confirm(
        &mut self,
        rip: Ipv4Addr,
        quoted: Identifications,
        now: Moment,
    ) -> Option<Confirmed> {
        let sent = self.sent.get_mut(&rip)?;
        let is_quoted = sent.identifications == quoted && now.since(sent.at) < WAIT;
        if !is_quoted {
            return None;
        }
        let about = sent.about.take();
        self.sent.remove(&rip);
        Some(Confirmed { about })
    }

    /// A probe of the path as large as the outer packet that the report quotes, or `None` if there was one within the
    /// last second. `about` is the packet in that one; while a probe is in flight, one of them is remembered.
    pub(super) fn probe(
        &mut self,
        cluster: &Cluster,
        server: &RealServer,
        source: Ipv4Addr,
        size: usize,
        about: Option<&[u8]>,
        now: Moment,
    ) -> Option<Vec<u8>> {
        if let Some(sent) = self.sent.get_mut(&server.rip).filter(|sent| now.since(sent.at) < PAUSE) {
            sent.about = sent.about.take().or_else(|| about.map(<[u8]>::to_vec));
            return None;
        }
        let chance = self.chance.draw().to_be_bytes();
        let identifications = [U16(0).read(&chance), U16(2).read(&chance)];
        let packet = packet(cluster, server, source, identifications, size.min(server.path_mtu(now).into()))?;
        let about = about.map(<[u8]>::to_vec);
        self.sent.insert(server.rip, Sent { identifications, at: now, about });
        Some(packet)
    }
}

/// What a router that sent `report` reports about a probe, quoting as little as RFC 792 allows: for a simulated path.
pub fn report_about(probe: &[u8], report: &[u8]) -> Option<Vec<u8>> {
    let quoted = probe.get(..ipv4::HEADER + ECHO_HEADER)?;
    let header = Ipv4::parse(report).ok()?.header_length();
    let mut bytes = [report.get(..header + ECHO_HEADER)?, quoted].concat();
    let length = u16::try_from(bytes.len()).ok()?;
    ipv4::field::TOTAL_LENGTH.write(&mut bytes, length);
    let (outer, message) = bytes.split_at_mut(header);
    ipv4::fill_checksum(outer);
    checksum::fill(message, icmp::field::CHECKSUM, 0);
    Some(bytes)
}

fn packet(
    cluster: &Cluster,
    server: &RealServer,
    source: Ipv4Addr,
    [outer_id, inner_id]: Identifications,
    size: usize,
) -> Option<Vec<u8>> {
    let service = cluster.virtual_service(server.virtual_service)?;
    let IpAddr::V4(vip) = service.config.matchers.first()?.vip else { return None };
    let length = size.checked_sub(server.config.encapsulation.overhead.into())?;
    let mut frame = Frame::from_packet(&ping(source, vip, inner_id, u16::try_from(length).ok()?)?);
    let outer = Outer { source, destination: server.rip, ttl: Ttl::Fixed(TTL), ignores_df: false };
    (server.config.encapsulation.encapsulate)(&mut frame, &outer, &server.soft.identifications).ok()?;
    let mut packet = frame.packet().to_vec();
    ipv4::field::IDENTIFICATION.write(&mut packet, outer_id);
    ipv4::fill_checksum(packet.get_mut(..ipv4::HEADER)?);
    Some(packet)
}

/// An echo request of `length` bytes, whose data is zero.
fn ping(source: Ipv4Addr, destination: Ipv4Addr, identification: u16, length: u16) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::from(length)];
    let message = bytes.get_mut(ipv4::HEADER..).filter(|message| message.len() >= ECHO_HEADER)?;
    icmp::field::KIND.write(message, icmp::ECHO_REQUEST);
    icmp::field::IDENTIFIER.write(message, identification);
    checksum::fill(message, icmp::field::CHECKSUM, 0);
    let header = Header {
        tos: 0,
        total_length: length,
        identification,
        dont_fragment: true,
        ttl: TTL,
        protocol: protocol::ICMP,
        source,
        destination,
    };
    header.write(&mut bytes);
    Some(bytes)
}
