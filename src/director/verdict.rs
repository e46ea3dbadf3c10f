//! A packet's fate, as a value. Packets in = transmitted + replied + held + Σ dropped, always.

use std::net::IpAddr;

pub use super::reply::ReplyKind;
pub use super::route::{Route, Tracking};
use crate::encapsulation::CannotEncapsulate;
use crate::label::labels;
use crate::packet::Malformed;

/// What the director does with a packet. After `Transmit` and `Reply` the frame contains the packet to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Transmit(Route),
    Reply(Reply),
    /// Held until something else arrives.
    Hold,
    Drop(DropReason),
}

/// The director's own reply to the packet's sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    pub to: IpAddr,
    pub kind: ReplyKind,
    /// Why the packet itself was not forwarded; `None` if the reply is what the packet asked for.
    pub reason: Option<DropReason>,
}

labels! {
    /// Why a packet was not forwarded. `no_real_server` counts packets whose reply was withheld by the rate
    /// limit, `rate_limited` echo requests above it.
    pub enum DropReason {
        BadChecksum = "bad_checksum",
        BadExtension = "bad_extension",
        BadFragment = "bad_fragment",
        BadHeaderLength = "bad_header_length",
        BadOption = "bad_option",
        BadTcp = "bad_tcp",
        BadTcpFlags = "bad_tcp_flags",
        BadTotalLength = "bad_total_length",
        BadUdpLength = "bad_udp_length",
        BadVersion = "bad_version",
        ExtensionLimit = "extension_limit",
        FragmentOverflow = "fragment_overflow",
        FragmentUnknown = "fragment_unknown",
        IcmpIgnored = "icmp_ignored",
        IcmpMismatch = "icmp_mismatch",
        Jumbogram = "jumbogram",
        /// Packets that this host itself sends to a new device.
        LinkNoise = "link_noise",
        /// A packet that this director had wrapped came back to it.
        Loop = "loop",
        MartianSource = "martian_source",
        NestedTunnel = "nested_tunnel",
        NoConnection = "no_connection",
        NoRealServer = "no_real_server",
        NoService = "no_service",
        PortZero = "port_zero",
        RateLimited = "rate_limited",
        SendError = "send_error",
        SourceIsTunnelExit = "source_is_tunnel_exit",
        SourceRoute = "source_route",
        TableFull = "table_full",
        TinyFragment = "tiny_fragment",
        TooBig = "too_big",
        Truncated = "truncated",
        TruncatedIcmp = "truncated_icmp",
        TruncatedL4 = "truncated_l4",
        TtlExpired = "ttl_expired",
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
