//! Encapsulation for the path from the director to a real server: one file per format, containing both
//! directions, and one row in [`ENCAPSULATIONS`].
//!
//! Knows headers, MTU arithmetic and ECN; knows nothing of connections, schedulers or sockets.

pub mod ecn;
pub mod ipip;

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use crate::packet::{Frame, Malformed, protocol};

/// A member of the family.
#[derive(Clone, Copy)]
pub struct Row {
    /// The word in configuration files and in `ipvsadm --tun-type`.
    pub name: &'static str,
    /// Bytes added to a packet, including the outer IPv4 header.
    pub overhead: u16,
    /// IP protocol number of the outer header.
    pub protocol: u8,
    pub encapsulate: fn(&mut Frame, &Outer) -> Result<(), CannotEncapsulate>,
    pub decapsulate: fn(&[u8]) -> Result<Decapsulated, CannotDecapsulate>,
}

pub const ENCAPSULATIONS: &[Row] = &[ipip::ROW];

/// The row with this name.
pub fn find(name: &str) -> Option<&'static Row> {
    ENCAPSULATIONS.iter().find(|row| row.name == name)
}

/// Whether a packet of this IP protocol contains another packet that a host may unwrap.
pub fn is_tunnel(number: u8) -> bool {
    matches!(number, protocol::IPIP | protocol::IPV6 | protocol::GRE)
}

/// TTL of the outer header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    Fixed(u8),
    /// The inner packet's TTL.
    Inherit,
}

impl Default for Ttl {
    /// IANA's recommended default TTL.
    fn default() -> Ttl {
        Ttl::Fixed(64)
    }
}

/// The fields of the outer header that do not come from the packet.
#[derive(Clone, Copy, Debug)]
pub struct Outer {
    /// With `0.0.0.0` the kernel's raw socket chooses the address and computes the checksum.
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub ttl: Ttl,
    /// Used if the outer packet may be fragmented (DF clear); unique per source and destination.
    pub identification: u16,
    /// Clears DF in the outer header, whatever the inner one contains (RFC 2003 §5.1).
    pub ignores_df: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotEncapsulate {
    /// The outer total length would exceed 16 bits.
    TooBig,
    /// RFC 2003 §3.1: a packet whose TTL is 0 must not be encapsulated.
    Expired,
    /// The frame contains no valid packet of a family that this format supports.
    Malformed,
}

/// A decapsulated outer packet; nothing is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decapsulated {
    pub outer_source: IpAddr,
    pub outer_destination: IpAddr,
    pub outer_tos: u8,
    /// The range of the inner packet, by its own total length.
    pub inner: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotDecapsulate {
    /// The outer or the inner header is not valid.
    Malformed(Malformed),
    /// Another kind of encapsulation than this format.
    WrongEncapsulation,
}

impl From<Malformed> for CannotDecapsulate {
    fn from(cause: Malformed) -> CannotDecapsulate {
        CannotDecapsulate::Malformed(cause)
    }
}
