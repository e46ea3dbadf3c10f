//! Untrusted bytes from a network: views with named ranges whose lengths are checked once, checksums, flows,
//! and the frame that contains a packet with headroom before it.
//!
//! Knows no virtual service and no policy: this room only decides whether a packet can be read, not whether
//! it is *wanted*.

pub mod address;
pub mod carrier;
pub mod checksum;
pub mod cut;
pub mod field;
pub mod flow;
pub mod frame;
pub mod icmp;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod segment;
pub mod tcp;
pub mod udp;
pub mod upper;

pub use carrier::Carrier;
pub use flow::Flow;
pub use frame::{Frame, Offload};
pub use ip::Ip;

/// MTU of a path about which nothing is known, in bytes (IEEE 802.3).
pub const MTU_DEFAULT: u16 = 1500;

/// Why bytes are not what they claim to be. The director and the real server turn each into a drop reason of
/// the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    Truncated,
    Version,
    HeaderLength,
    TotalLength,
    Checksum,
    Option,
    SourceRoute,
    TruncatedTransport,
    TcpHeader,
    UdpLength,
    TruncatedIcmp,
    Jumbogram,
    /// An extension header where it is not allowed.
    Extension,
    ExtensionLimit,
    /// A first fragment without the whole header chain.
    HeaderChain,
}

/// IP protocol numbers (IANA "Assigned Internet Protocol Numbers") that this program uses.
pub mod protocol {
    pub const ICMP: u8 = 1;
    pub const IPIP: u8 = 4;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const IPV6: u8 = 41;
    pub const GRE: u8 = 47;
    pub const ICMPV6: u8 = 58;
    /// Nothing follows (RFC 8200 §4.7).
    pub const NONE: u8 = 59;
}

/// The protocols that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// IANA protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => protocol::TCP,
            Protocol::Udp => protocol::UDP,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}
