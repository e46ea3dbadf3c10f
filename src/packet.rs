//! Untrusted bytes from a network: views with named ranges whose lengths are checked once, checksums, flows,
//! and the frame that contains a packet with headroom before it.
//!
//! No virtual service and no policy appears here: this room only decides whether a packet can be read, not
//! whether it is *wanted*.

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
pub mod probe;
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
    /// Fewer bytes than the header, or the length it states, requires.
    Truncated,
    /// Neither 4 nor 6, or not the version of the header that is read.
    Version,
    /// An IHL below 5, or past the end of the bytes (RFC 1812 §5.2.2).
    HeaderLength,
    /// A total length shorter than the IPv4 header, or a payload length of 0 before a next header.
    TotalLength,
    /// A wrong sum of an IPv4 header or an ICMP message, or a partial checksum outside its packet.
    Checksum,
    /// An option whose length is too small or exceeds its header.
    Option,
    /// A loose or strict source route (RFC 7126 §4.3, §4.4), or a routing header of type 0 (RFC 5095 §3) or with
    /// segments left.
    SourceRoute,
    /// Fewer bytes than the fixed header of TCP or UDP.
    TruncatedTransport,
    /// A data offset below 5 or past the end of the segment (RFC 9293 §3.1).
    TcpHeader,
    /// A length below 8 or past the end of the datagram (RFC 768).
    UdpLength,
    /// Fewer bytes than the 8 of an ICMP header.
    TruncatedIcmp,
    /// A payload of more than 65,535 bytes, as a hop-by-hop option states it (RFC 2675 §2).
    Jumbogram,
    /// An extension header where it is not allowed.
    Extension,
    /// More extension headers than [`ipv6::EXTENSIONS_MAX`], or more than [`ipv6::EXTENSION_BYTES_MAX`] of
    /// them.
    ExtensionLimit,
    /// A first fragment without the whole header chain.
    HeaderChain,
}

/// IP protocol numbers (IANA "Assigned Internet Protocol Numbers") that this program uses.
pub mod protocol {
    /// RFC 792.
    pub const ICMP: u8 = 1;
    /// IPv4 inside IP (RFC 2003 §3.1).
    pub const IPIP: u8 = 4;
    /// RFC 9293.
    pub const TCP: u8 = 6;
    /// RFC 768.
    pub const UDP: u8 = 17;
    /// IPv6 inside IP (RFC 4213 §3.5).
    pub const IPV6: u8 = 41;
    /// RFC 2784.
    pub const GRE: u8 = 47;
    /// RFC 4443.
    pub const ICMPV6: u8 = 58;
    /// Nothing follows (RFC 8200 §4.7).
    pub const NONE: u8 = 59;
}

/// The protocols that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Connections, whose state the director follows by their flags.
    Tcp,
    /// Datagrams; those between the same two ports are one connection until a timeout.
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

    /// As configurations and the metric label `protocol` spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}
