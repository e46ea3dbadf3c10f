//! First step: what kind of packet is this? All later steps rely on the result.
//!
//! Bounded reads, no state, no allocation. A packet that no TCP/IP host would accept is dropped here; whether
//! a virtual service matches an acceptable one is decided in [`super::cluster`]. Both families are read by the same
//! rules; IPv6 packets are refused at the end, because no virtual service can have an IPv6 VIP.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use super::verdict::DropReason;
use crate::encapsulation::is_tunnel;
use crate::packet::frame::PACKET_MAX;
use crate::packet::icmp::{self, Icmp, QuoteError};
use crate::packet::ip::{FragmentId, FragmentKey};
use crate::packet::tcp::{self, Flags, Tcp};
use crate::packet::udp::{self, Udp};
use crate::packet::upper::{Fragment, Upper};
use crate::packet::{Flow, Ip, address, protocol};

/// A packet whose flow is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// For an ICMP error: the flow of the connection that it is about, in the direction of the client's
    /// packets.
    pub flow: Flow,
    /// What the packet carries, as far as the later steps distinguish it.
    pub content: Content,
    /// Never martian: such packets have been dropped.
    pub source: IpAddr,
    /// The VIP, unless no virtual service has this address.
    pub destination: IpAddr,
    /// Without link padding, in bytes.
    pub total_length: usize,
    /// IPv4's TTL or IPv6's hop limit, as captured.
    pub ttl: u8,
    /// IPv4's DF; always true of IPv6, which routers do not fragment (RFC 8200 §5).
    pub has_dont_fragment: bool,
    /// For a fragment, first or later: which packet it belongs to.
    pub fragment: Option<FragmentId>,
}

impl Packet {
    /// For a fragment: what it shares with the other fragments of its packet.
    pub fn fragment_key(&self) -> Option<FragmentKey> {
        self.fragment.map(|id| FragmentKey { source: self.source, destination: self.destination, id })
    }
}

/// The kind of a packet, by which the director decides what to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A segment, or a first fragment with the whole TCP header.
    Tcp(Flags),
    /// A datagram, or a first fragment with the whole UDP header.
    Udp,
    /// A ping of the VIP, which the director answers itself.
    EchoRequest,
    /// An error about a packet that the VIP sent.
    IcmpError,
    /// Any fragment except the first: it has no ports.
    LaterFragment,
    /// A tunnelled packet: a host behind the director might unwrap it twice (CVE-2020-10136).
    Tunnel,
    /// A protocol that is not served.
    Other,
}

/// Classifies a packet from the TUN device.
///
/// # Errors
/// The reason to drop the packet.
pub fn classify(bytes: &[u8]) -> Result<Packet, DropReason> {
    // The same for both, compiled once for each: a view whose family is known costs no branch.
    match Ip::parse(bytes)? {
        ip @ Ip::V4(_) => examine(&ip),
        ip @ Ip::V6(_) => examine(&ip),
    }
}

fn examine(ip: &Ip) -> Result<Packet, DropReason> {
    ip.check_options()?;
    let upper = ip.upper();
    // Checked first, because these packets fail other checks: their source may be :: or link-local.
    if upper.as_ref().is_ok_and(|upper| is_link_noise(ip, upper)) {
        return Err(DropReason::LinkNoise);
    }
    let (source, destination) = (ip.source(), ip.destination());
    if address::is_martian(source) || source == destination {
        return Err(DropReason::MartianSource);
    }
    let upper = upper?;
    if let Some(fragment) = &upper.fragment {
        check_fragment(ip, &upper, fragment)?;
    }
    let (content, flow) = read_upper(ip, &upper)?;
    refuse_unserved_family(ip, content)?;
    Ok(Packet {
        flow,
        content,
        source,
        destination,
        total_length: ip.total_length(),
        ttl: ip.hop_limit(),
        has_dont_fragment: ip.has_dont_fragment(),
        fragment: FragmentId::of(ip, &upper),
    })
}

fn read_upper(ip: &Ip, upper: &Upper) -> Result<(Content, Flow), DropReason> {
    let without_ports = |content| Ok((content, Flow::of(ip, upper.protocol, 0, 0)));
    match (upper.protocol, ip) {
        _ if upper.is_later_fragment() => without_ports(Content::LaterFragment),
        (protocol::TCP, _) => read_tcp(ip, upper),
        (protocol::UDP, _) => read_udp(ip, upper),
        (protocol::ICMP, Ip::V4(_)) => read_icmp(ip, upper),
        (number, _) if is_tunnel(number) => without_ports(Content::Tunnel),
        _ => without_ports(Content::Other),
    }
}

/// Router solicitation, MLD, duplicate address detection, and everything else that cannot come from another
/// link: packets that this host itself sends to its new device.
fn is_link_noise(ip: &Ip, upper: &Upper) -> bool {
    /// RFC 4291 §2.7: the scope of a multicast address; 1 is the interface, 2 the link.
    const LINK_SCOPE: u8 = 2;
    let Ip::V6(ip) = ip else { return false };
    let destination = ip.destination();
    let scope = destination.octets()[1] & 0x0f;
    destination.is_multicast() && (upper.protocol == protocol::ICMPV6 || (1..=LINK_SCOPE).contains(&scope))
}

fn check_fragment(ip: &Ip, upper: &Upper, fragment: &Fragment) -> Result<(), DropReason> {
    if fragment.offset + fragment.length > PACKET_MAX {
        return Err(DropReason::FragmentOverflow);
    }
    if fragment.has_more && !fragment.length.is_multiple_of(8) {
        return Err(DropReason::BadFragment);
    }
    let is_tiny = match (ip, fragment.offset) {
        // RFC 1858 §3, RFC 3128: the flags must be in the first fragment, and no other fragment may overwrite
        // them.
        (Ip::V4(_), 0) => upper.protocol == protocol::TCP && upper.payload.len() < tcp::HEADER,
        (Ip::V4(_), 8) => upper.protocol == protocol::TCP,
        // RFC 7112 §5: the first fragment contains the whole chain, including the upper-layer header.
        (Ip::V6(_), 0) => upper.payload.len() < upper_header_min(upper.protocol),
        _ => false,
    };
    if is_tiny { Err(DropReason::TinyFragment) } else { Ok(()) }
}

fn upper_header_min(protocol: u8) -> usize {
    /// The shortest ICMPv6 message: type, code, checksum (RFC 4443 §2.1).
    const ICMPV6_HEADER: usize = 4;
    match protocol {
        protocol::TCP => tcp::HEADER,
        protocol::UDP => udp::HEADER,
        protocol::ICMPV6 => ICMPV6_HEADER,
        _ => 0,
    }
}

fn read_tcp(ip: &Ip, upper: &Upper) -> Result<(Content, Flow), DropReason> {
    let tcp = Tcp::parse(upper.payload)?;
    if tcp.source_port() == 0 || tcp.destination_port() == 0 {
        return Err(DropReason::PortZero);
    }
    let flags = tcp.flags();
    if flags.has(Flags::SYN | Flags::FIN) || flags.has(Flags::SYN | Flags::RST) {
        return Err(DropReason::BadTcpFlags);
    }
    Ok((Content::Tcp(flags), Flow::of(ip, protocol::TCP, tcp.source_port(), tcp.destination_port())))
}

fn read_udp(ip: &Ip, upper: &Upper) -> Result<(Content, Flow), DropReason> {
    let udp = if upper.is_fragment() { Udp::parse_first(upper.payload)? } else { Udp::parse(upper.payload)? };
    // Source port 0 is legal: "no reply" (RFC 768).
    if udp.destination_port() == 0 {
        return Err(DropReason::PortZero);
    }
    Ok((Content::Udp, Flow::of(ip, protocol::UDP, udp.source_port(), udp.destination_port())))
}

fn read_icmp(ip: &Ip, upper: &Upper) -> Result<(Content, Flow), DropReason> {
    let message =
        if upper.is_fragment() { Icmp::parse_first(upper.payload)? } else { Icmp::parse(upper.payload)? };
    if message.kind() == icmp::ECHO_REQUEST && message.code() == 0 {
        return Ok((Content::EchoRequest, Flow::of(ip, protocol::ICMP, message.identifier(), 0)));
    }
    if !message.is_error() {
        return Err(DropReason::IcmpIgnored);
    }
    let quoted = message.quoted().map_err(|error| match error {
        QuoteError::Truncated => DropReason::TruncatedIcmp,
        QuoteError::NoFlow => DropReason::IcmpMismatch,
    })?;
    // RFC 5927 §4: an error about a packet that the VIP cannot have sent is forged.
    if quoted.header.source() != ip.destination() {
        return Err(DropReason::IcmpMismatch);
    }
    Ok((Content::IcmpError, quoted.flow.reversed()))
}

/// IPv6 is not served. A later fragment would need its first fragment, which is never recorded.
fn refuse_unserved_family(ip: &Ip, content: Content) -> Result<(), DropReason> {
    match (ip, content) {
        (Ip::V4(_), _) => Ok(()),
        // One hop would be left after the kernel has routed the packet here, but it is not forwarded anyway.
        (Ip::V6(ip), _) if ip.hop_limit() <= 1 => Err(DropReason::TtlExpired),
        (Ip::V6(_), Content::LaterFragment) => Err(DropReason::FragmentUnknown),
        (Ip::V6(_), _) => Err(DropReason::NoService),
    }
}
