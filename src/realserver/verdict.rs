//! A packet's fate at the real server. A real server never answers: every failure is a silent drop.

use crate::label::labels;
use crate::packet::Malformed;

/// What the real server does with a packet. After `Deliver` the frame contains the inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To the host's own stack, through the TUN device.
    Deliver(Delivery),
    /// Without any answer.
    Drop(DropReason),
}

/// Where a delivery is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Index of the VIP in the guard's list.
    pub vip: usize,
    /// The ECN marks form a combination that RFC 6040 §4.2 calls currently unused.
    pub has_surprising_ecn: bool,
}

labels! {
    /// Why a packet was not delivered.
    pub enum DropReason {
        /// The inner IPv4 header's; the kernel has verified the outer one.
        BadChecksum = "bad_checksum",
        /// An IHL below 5, or past the end.
        BadHeaderLength = "bad_header_length",
        /// An inner IPv4 option that exceeds its header.
        BadOption = "bad_option",
        /// A total length shorter than its header.
        BadTotalLength = "bad_total_length",
        /// The inner packet is not IPv4.
        BadVersion = "bad_version",
        /// The outer header reports congestion to a sender that does not support ECN (RFC 6040 §4.2).
        EcnCeOnNotEct = "ecn_ce_on_not_ect",
        /// An inner source that no client can have: a VIP, an own address, a director's, or not a single host's.
        InnerMartian = "inner_martian",
        /// A protocol or port that `services` does not list.
        InnerNotServed = "inner_not_served",
        /// The inner destination is not a configured VIP.
        InnerNotVip = "inner_not_vip",
        /// The inner packet is encapsulated once more.
        NestedTunnel = "nested_tunnel",
        /// The outer destination is not a unicast address of this host: broadcast, multicast, or one that has left it.
        OuterNotOwn = "outer_not_own",
        /// The kernel refused to accept the packet from the TUN device.
        SendError = "send_error",
        /// The inner header carries a loose or strict source route (RFC 7126).
        SourceRoute = "source_route",
        /// A header or a packet exceeds the bytes that arrived.
        Truncated = "truncated",
        /// An inner TTL of 0.
        TtlExpired = "ttl_expired",
        /// The outer source is not a configured director, or the outer destination not a configured RIP.
        UnknownPeer = "unknown_peer",
        /// A format that this real server is not configured to accept.
        WrongEncapsulation = "wrong_encapsulation",
    }
}

impl From<Malformed> for DropReason {
    fn from(cause: Malformed) -> DropReason {
        match cause {
            Malformed::Version => DropReason::BadVersion,
            Malformed::HeaderLength => DropReason::BadHeaderLength,
            Malformed::TotalLength => DropReason::BadTotalLength,
            Malformed::Checksum => DropReason::BadChecksum,
            Malformed::Option => DropReason::BadOption,
            Malformed::SourceRoute => DropReason::SourceRoute,
            // IPv6 is not unwrapped, so these causes cannot occur.
            Malformed::Jumbogram
            | Malformed::Extension
            | Malformed::ExtensionLimit
            | Malformed::HeaderChain
            | Malformed::Truncated
            | Malformed::TruncatedTransport
            | Malformed::TcpHeader
            | Malformed::UdpLength
            | Malformed::TruncatedIcmp => DropReason::Truncated,
        }
    }
}
