//! Wrapping for the way from the director to a real server: one file per format, both directions in
//! it, and one row in [`ENCAPSULATIONS`].
//!
//! Knows headers, MTU arithmetic and ECN; knows nothing of connections, schedulers or sockets.

pub mod ecn;
pub mod ipip;

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

use crate::packet::{Frame, Malformed};

/// A member of the family.
#[derive(Clone, Copy)]
pub struct Row {
    /// The word in configuration files and in `ipvsadm --tun-type`.
    pub name: &'static str,
    /// What it adds to a packet, outer IPv4 header included, in bytes.
    pub overhead: u16,
    /// IP protocol number of the outer header.
    pub protocol: u8,
    pub encapsulate: fn(&mut Frame, &Outer) -> Result<(), CannotEncapsulate>,
    pub decapsulate: fn(&[u8]) -> Result<Decapsulated, CannotDecapsulate>,
}

pub const ENCAPSULATIONS: &[Row] = &[ipip::ROW];

/// The row called `name`.
pub fn find(name: &str) -> Option<&'static Row> {
    ENCAPSULATIONS.iter().find(|row| row.name == name)
}

/// TTL of the outer header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    Fixed(u8),
    /// The inner packet's.
    Inherit,
}

impl Default for Ttl {
    /// decisions.md C5.
    fn default() -> Ttl {
        Ttl::Fixed(64)
    }
}

/// What the outer header says beside what it takes from the packet.
#[derive(Clone, Copy, Debug)]
pub struct Outer {
    /// `0.0.0.0` leaves the choice, and the checksum over it, to the kernel's raw socket.
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub ttl: Ttl,
    /// Used when the outer packet may be fragmented (DF clear); unique per source and destination.
    pub identification: u16,
    /// The outer packet may be fragmented whatever the inner one says (decisions.md C3).
    pub ignores_df: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotEncapsulate {
    /// The outer total length would not fit 16 bits.
    TooBig,
    /// RFC 2003 §3.1: a packet whose TTL is 0 must not be encapsulated.
    Expired,
    /// The frame holds no sound packet of a family this format carries.
    Malformed,
}

/// An outer packet taken apart; nothing is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decapsulated {
    pub outer_source: IpAddr,
    pub outer_destination: IpAddr,
    pub outer_tos: u8,
    /// Where the inner packet lies, cut to its own total length.
    pub inner: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotDecapsulate {
    /// The outer header cannot be read, or the inner one.
    Malformed(Malformed),
    /// Another kind of encapsulation than this format.
    WrongEncapsulation,
}

impl From<Malformed> for CannotDecapsulate {
    fn from(cause: Malformed) -> CannotDecapsulate {
        CannotDecapsulate::Malformed(cause)
    }
}
