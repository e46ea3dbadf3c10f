//! A packet's fate at the real server. A real server never answers: every failure is a silent drop.

use crate::label::labels;
use crate::packet::Malformed;

/// What the real server does with a packet. After `Deliver` the frame contains the inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Deliver(Delivery),
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
        BadChecksum = "bad_checksum",
        BadHeaderLength = "bad_header_length",
        BadOption = "bad_option",
        BadTotalLength = "bad_total_length",
        BadVersion = "bad_version",
        EcnCeOnNotEct = "ecn_ce_on_not_ect",
        InnerMartian = "inner_martian",
        InnerNotServed = "inner_not_served",
        InnerNotVip = "inner_not_vip",
        NestedTunnel = "nested_tunnel",
        SendError = "send_error",
        SourceRoute = "source_route",
        Truncated = "truncated",
        TtlExpired = "ttl_expired",
        UnknownPeer = "unknown_peer",
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
