//! A packet's fate, as a value. Packets in = transmitted + replied + passed + held + Σ dropped, always.

use std::net::IpAddr;

pub use super::reply::ReplyKind;
pub use super::route::{Route, Tracking};
use crate::encapsulation::CannotEncapsulate;
use crate::label::labels;
use crate::packet::Malformed;

/// What the director does with a packet. After `Transmit` and `Reply` the frame contains the packet to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To a real server: encapsulated, or to the host's own stack if that is the real server.
    Transmit(Route),
    /// To the packet's sender.
    Reply(Reply),
    /// To the host's own stack as it was captured: the VIP is an address of the host, and the packet belongs to none of
    /// its virtual services.
    Pass,
    /// Held until something else arrives.
    Hold,
    /// Nothing is sent; the reason is counted.
    Drop(DropReason),
}

/// The director's own reply to the packet's sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The packet's source; where the raw socket sends the reply.
    pub to: IpAddr,
    /// The metric's `kind` label.
    pub kind: ReplyKind,
    /// Why the packet itself was not forwarded; `None` if the reply is what the packet requested.
    pub reason: Option<DropReason>,
}

labels! {
    /// Why a packet was not forwarded. `no_real_server` counts packets whose reply was withheld by the rate
    /// limit, `rate_limited` echo requests above it.
    pub enum DropReason {
        /// The IPv4 or ICMP checksum is wrong.
        BadChecksum = "bad_checksum",
        /// An IPv6 extension header where RFC 8200 §4.1 allows none, or a fragment of a fragment.
        BadExtension = "bad_extension",
        /// A fragment that is not the last and whose length is no multiple of 8 (RFC 791 §3.1).
        BadFragment = "bad_fragment",
        /// An IPv4 header shorter than 20 bytes or longer than the packet.
        BadHeaderLength = "bad_header_length",
        /// An IPv4 option of length 0, or one that ends behind the header.
        BadOption = "bad_option",
        /// A TCP header shorter than 20 bytes or longer than the segment.
        BadTcp = "bad_tcp",
        /// SYN with FIN or RST, or a segment of a port scan.
        BadTcpFlags = "bad_tcp_flags",
        /// An IPv4 total length below the header's, or an IPv6 payload length of 0.
        BadTotalLength = "bad_total_length",
        /// A UDP length below 8 or beyond the packet (RFC 768).
        BadUdpLength = "bad_udp_length",
        /// Neither IPv4 nor IPv6.
        BadVersion = "bad_version",
        /// The real server or the virtual service of its connection was removed a moment ago and may come back.
        ConnectionWaits = "connection_waits",
        /// More IPv6 extension headers than the director reads.
        ExtensionLimit = "extension_limit",
        /// A fragment that ends behind byte 65,535, as in a "ping of death".
        FragmentOverflow = "fragment_overflow",
        /// A later fragment whose first one did not arrive in time.
        FragmentUnknown = "fragment_unknown",
        /// An ICMP message that is neither an echo request nor an error about a connection.
        IcmpIgnored = "icmp_ignored",
        /// An ICMP error about a packet that the VIP cannot have sent.
        IcmpMismatch = "icmp_mismatch",
        /// An IPv6 packet of more than 65,535 bytes (RFC 2675), which no encapsulation can carry.
        Jumbogram = "jumbogram",
        /// Packets that this host itself sends to a new device.
        LinkNoise = "link_noise",
        /// A packet that this director had wrapped came back to it.
        Loop = "loop",
        /// A source that cannot be a client (RFC 1812 §5.3.7), or the VIP itself.
        MartianSource = "martian_source",
        /// A packet for the VIP that contains another packet (CVE-2020-10136).
        NestedTunnel = "nested_tunnel",
        /// A segment, or an ICMP error, of an unknown connection.
        NoConnection = "no_connection",
        /// No real server of the virtual service accepts new connections.
        NoRealServer = "no_real_server",
        /// No virtual service has this address, protocol and port; or the packet is IPv6.
        NoService = "no_service",
        /// A source or destination port of 0, which no program uses (RFC 6335 §6).
        PortZero = "port_zero",
        /// A packet of a check whose real server is no longer configured, or has become this host.
        ProbeStale = "probe_stale",
        /// The budget of echo replies is spent.
        RateLimited = "rate_limited",
        /// The kernel refused to send the packet.
        SendError = "send_error",
        /// The chosen real server is itself the client (RFC 2003 §3.2).
        SourceIsTunnelExit = "source_is_tunnel_exit",
        /// A source route (RFC 7126 §4.3 and §4.4), or an IPv6 routing header of type 0 (RFC 5095).
        SourceRoute = "source_route",
        /// A new connection for which the connection table has no room.
        TableFull = "table_full",
        /// A first fragment too short for its headers (RFC 1858, RFC 7112).
        TinyFragment = "tiny_fragment",
        /// Larger than the path allows, and not to be fragmented.
        TooBig = "too_big",
        /// Shorter than its own header claims.
        Truncated = "truncated",
        /// An ICMP message without enough of the packet that it is about.
        TruncatedIcmp = "truncated_icmp",
        /// The packet ends inside its TCP or UDP header.
        TruncatedL4 = "truncated_l4",
        /// The TTL does not allow another hop (RFC 2003 §3.1).
        TtlExpired = "ttl_expired",
        /// The real server is this host, but the VIP is not one of its addresses.
        VipNotLocal = "vip_not_local",
    }
}

impl From<Malformed> for DropReason {
    fn from(cause: Malformed) -> DropReason {
        match cause {
            Malformed::Truncated => DropReason::Truncated,
            Malformed::Version => DropReason::BadVersion,
            Malformed::HeaderLength => DropReason::BadHeaderLength,
            Malformed::TotalLength => DropReason::BadTotalLength,
            Malformed::Checksum => DropReason::BadChecksum,
            Malformed::Option => DropReason::BadOption,
            Malformed::SourceRoute => DropReason::SourceRoute,
            Malformed::TruncatedTransport => DropReason::TruncatedL4,
            Malformed::TcpHeader => DropReason::BadTcp,
            Malformed::UdpLength => DropReason::BadUdpLength,
            Malformed::TruncatedIcmp => DropReason::TruncatedIcmp,
            Malformed::Jumbogram => DropReason::Jumbogram,
            Malformed::Extension => DropReason::BadExtension,
            Malformed::ExtensionLimit => DropReason::ExtensionLimit,
            Malformed::HeaderChain => DropReason::TinyFragment,
        }
    }
}

impl From<CannotEncapsulate> for DropReason {
    fn from(cannot: CannotEncapsulate) -> DropReason {
        match cannot {
            CannotEncapsulate::TooBig => DropReason::TooBig,
            CannotEncapsulate::Expired => DropReason::TtlExpired,
            CannotEncapsulate::Malformed(cause) => cause.into(),
        }
    }
}
