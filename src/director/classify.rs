//! First step: what kind of packet is this? All later steps rely on the result.
//!
//! Bounded reads, no state, no allocation. A packet that no TCP/IP host would accept is dropped here; whether
//! a virtual service matches an acceptable one is decided in [`super::cluster`].

mod v6;

use std::net::{IpAddr, Ipv4Addr};

use super::verdict::DropReason;
use crate::encapsulation::is_tunnel;
use crate::packet::fragment::FragmentKey;
use crate::packet::icmp::{self, Icmp, QuoteError};
use crate::packet::ipv4::Ipv4;
use crate::packet::tcp::{Flags, Tcp};
use crate::packet::udp::Udp;
use crate::packet::{Flow, protocol};

/// A packet whose flow is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// For an ICMP error: the flow of the connection that it is about, in the direction of the client's
    /// packets.
    pub flow: Flow,
    pub content: Content,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Without link padding, in bytes.
    pub total_length: usize,
    pub ttl: u8,
    pub has_dont_fragment: bool,
    /// For a fragment, first or later: the packet that it belongs to.
    pub fragment: Option<FragmentKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Tcp(Flags),
    Udp,
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
    match bytes.first().map(|first| first >> 4) {
        None => Err(DropReason::Truncated),
        Some(6) => Err(v6::refuse(bytes)),
        Some(_) => classify_v4(bytes),
    }
}

fn classify_v4(bytes: &[u8]) -> Result<Packet, DropReason> {
    let ip = Ipv4::parse(bytes)?;
    ip.check_options()?;
    if is_martian_source(ip.source()) || ip.source() == ip.destination() {
        return Err(DropReason::MartianSource);
    }
    check_fragment(&ip)?;
    let (content, flow) = match ip.protocol() {
        _ if ip.fragment_offset() > 0 => (Content::LaterFragment, flow(&ip, 0, 0)),
        protocol::TCP => classify_tcp(&ip)?,
        protocol::UDP => classify_udp(&ip)?,
        protocol::ICMP => classify_icmp(&ip)?,
        number if is_tunnel(number) => (Content::Tunnel, flow(&ip, 0, 0)),
        _ => (Content::Other, flow(&ip, 0, 0)),
    };
    Ok(Packet {
        flow,
        content,
        source: ip.source().into(),
        destination: ip.destination().into(),
        total_length: ip.total_length(),
        ttl: ip.ttl(),
        has_dont_fragment: ip.has_dont_fragment(),
        fragment: ip.is_fragment().then(|| FragmentKey::of(&ip)),
    })
}

/// RFC 1812 §5.3.7: a source that cannot be the address of a single remote host.
pub(super) fn is_martian_source(source: Ipv4Addr) -> bool {
    let first = source.octets()[0];
    first == 0 || first == 127 || first >= 224
}

fn check_fragment(ip: &Ipv4) -> Result<(), DropReason> {
    if !ip.is_fragment() {
        return Ok(());
    }
    let (offset, length) = (ip.fragment_offset(), ip.payload().len());
    if offset + length > crate::packet::frame::PACKET_MAX {
        return Err(DropReason::FragmentOverflow);
    }
    if ip.has_more_fragments() && length % 8 != 0 {
        return Err(DropReason::BadFragment);
    }
    // RFC 1858 §3, RFC 3128: the flags must be in the first fragment, and no other fragment may overwrite
    // them.
    let is_tiny = match offset {
        0 => ip.protocol() == protocol::TCP && length < crate::packet::tcp::HEADER,
        8 => ip.protocol() == protocol::TCP,
        _ => false,
    };
    if is_tiny {
        return Err(DropReason::TinyFragment);
    }
    Ok(())
}

fn classify_tcp(ip: &Ipv4) -> Result<(Content, Flow), DropReason> {
    let tcp = read_tcp(ip.payload())?;
    Ok((Content::Tcp(tcp.flags()), flow(ip, tcp.source_port(), tcp.destination_port())))
}

fn read_tcp(payload: &[u8]) -> Result<Tcp<'_>, DropReason> {
    let tcp = Tcp::parse(payload)?;
    if tcp.source_port() == 0 || tcp.destination_port() == 0 {
        return Err(DropReason::PortZero);
    }
    let flags = tcp.flags();
    if flags.has(Flags::SYN | Flags::FIN) || flags.has(Flags::SYN | Flags::RST) {
        return Err(DropReason::BadTcpFlags);
    }
    Ok(tcp)
}

fn classify_udp(ip: &Ipv4) -> Result<(Content, Flow), DropReason> {
    let udp = read_udp(ip.payload(), ip.is_fragment())?;
    Ok((Content::Udp, flow(ip, udp.source_port(), udp.destination_port())))
}

fn read_udp(payload: &[u8], is_fragment: bool) -> Result<Udp<'_>, DropReason> {
    let udp = if is_fragment { Udp::parse_first(payload)? } else { Udp::parse(payload)? };
    // Source port 0 is legal: "no reply" (RFC 768).
    if udp.destination_port() == 0 {
        return Err(DropReason::PortZero);
    }
    Ok(udp)
}

fn classify_icmp(ip: &Ipv4) -> Result<(Content, Flow), DropReason> {
    let message =
        if ip.is_fragment() { Icmp::parse_first(ip.payload())? } else { Icmp::parse(ip.payload())? };
    if message.kind() == icmp::ECHO_REQUEST && message.code() == 0 {
        return Ok((Content::EchoRequest, flow(ip, message.identifier(), 0)));
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

fn flow(ip: &Ipv4, client_port: u16, vip_port: u16) -> Flow {
    Flow {
        protocol: ip.protocol(),
        client: ip.source().into(),
        client_port,
        vip: ip.destination().into(),
        vip_port,
    }
}
