//! Encapsulation for the path from the director to a real server: one file per format, containing both
//! directions, and one row in [`ENCAPSULATIONS`].
//!
//! Contains headers, MTU arithmetic and ECN; nothing here depends on connections, schedulers or sockets.

pub mod ecn;
pub mod identification;
pub mod ipip;

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::Range;

use crate::packet::frame::HEADROOM;
use crate::packet::ipv4::{self, Ipv4};
use crate::packet::{Carrier, Frame, Malformed, protocol};

use identification::Identifications;

/// A member of the family: a format that both daemons serve.
#[derive(Clone, Copy)]
pub struct Row {
    /// The word in configuration files and in `ipvsadm --tun-type`.
    pub name: &'static str,
    /// How its packets travel: what the real server receives, and which ICMP errors concern the director.
    pub carrier: Carrier,
    /// Bytes added to a packet, including the outer IPv4 header.
    pub overhead: u16,
    /// Writes the outer header into the headroom before the packet.
    pub encapsulate: fn(&mut Frame, &Outer, &Identifications) -> Result<(), CannotEncapsulate>,
    /// Finds the inner packet in an outer one of this carrier.
    pub decapsulate: for<'a> fn(Ipv4<'a>) -> Result<Decapsulated<'a>, Malformed>,
}

/// The formats that are served; the first is the default. The configuration refuses the name of any other.
pub const ENCAPSULATIONS: &[Row] = &[ipip::ROW];

/// The format of a real server for which none is configured.
pub const DEFAULT: &Row = &ENCAPSULATIONS[0];

/// Formats that are not served, although a host may unwrap them: 6in4 (RFC 4213) and GRE (RFC 2784).
const OTHER_TUNNELS: [u8; 2] = [protocol::IPV6, protocol::GRE];

/// The largest number of bytes that any format adds to a packet.
pub const OVERHEAD_MAX: u16 = {
    let (mut max, mut index) = (0, 0);
    while index < ENCAPSULATIONS.len() {
        if ENCAPSULATIONS[index].overhead > max {
            max = ENCAPSULATIONS[index].overhead;
        }
        index += 1;
    }
    max
};

const _: () = assert!(OVERHEAD_MAX as usize <= HEADROOM, "every outer header must fit a frame's headroom");

/// The row with this name.
pub fn find(name: &str) -> Option<&'static Row> {
    ENCAPSULATIONS.iter().find(|row| row.name == name)
}

/// Whether a packet of this IP protocol contains another packet that a host may unwrap.
pub fn is_tunnel(number: u8) -> bool {
    ENCAPSULATIONS.iter().any(|row| row.carrier == Carrier::Protocol(number))
        || OTHER_TUNNELS.contains(&number)
}

impl Row {
    /// What an ICMP error quotes of the inner packet, if it quotes this outer one.
    pub fn quoted_inner<'a>(&self, outer: &Ipv4<'a>) -> &'a [u8] {
        let behind_ip = usize::from(self.overhead) - ipv4::HEADER;
        outer.payload().get(behind_ip..).unwrap_or_default()
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Row) -> bool {
        self.name == other.name
    }
}

impl Eq for Row {}

impl fmt::Debug for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// TTL of the outer header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// The same for every packet; it must suffice for the path to the real server (RFC 2003 §3.1).
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
    /// The RIP.
    pub destination: Ipv4Addr,
    /// For the path to the real server alone; the inner TTL stays as it is.
    pub ttl: Ttl,
    /// Clears DF in the outer header, whatever the inner one contains (RFC 2003 §5.1).
    pub ignores_df: bool,
}

/// Why a packet is not wrapped; each case has a drop reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotEncapsulate {
    /// The outer total length would exceed 16 bits.
    TooBig,
    /// RFC 2003 §3.1: a packet whose TTL is 0 must not be encapsulated.
    Expired,
    /// The frame contains no valid packet of a family that this format supports.
    Malformed(Malformed),
}

impl From<Malformed> for CannotEncapsulate {
    fn from(cause: Malformed) -> CannotEncapsulate {
        CannotEncapsulate::Malformed(cause)
    }
}

/// An outer packet and the packet inside it, both parsed; nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct Decapsulated<'a> {
    /// As received, options included.
    pub outer: Ipv4<'a>,
    /// As long as its own total length.
    pub inner: Ipv4<'a>,
    /// Where the inner packet begins in the outer one.
    pub start: usize,
}

impl Decapsulated<'_> {
    /// The bytes of the inner packet in the outer one.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.inner.total_length()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_formats_have_the_same_name_or_carrier() {
        for (index, row) in ENCAPSULATIONS.iter().enumerate() {
            assert_eq!(find(row.name), Some(row));
            assert!(usize::from(row.overhead) >= ipv4::HEADER && row.overhead <= OVERHEAD_MAX, "{row:?}");
            assert!(ENCAPSULATIONS[..index].iter().all(|other| other.carrier != row.carrier), "{row:?}");
        }
        assert_eq!(find("nosuch"), None);
        assert_ne!(Row { name: "other", ..ipip::ROW }, ipip::ROW);
        assert_eq!(format!("{:?}", ipip::ROW), "ipip");
    }

    #[test]
    fn a_tunnel_is_what_a_host_may_unwrap_served_or_not() {
        let tunnels: Vec<u8> = (0..=255).filter(|number| is_tunnel(*number)).collect();
        assert_eq!(tunnels, [4, 41, 47]);
    }

    #[test]
    fn the_quoted_inner_packet_begins_behind_every_outer_header() {
        let outer = [&[0x45, 0, 0, 40][..], &[0; 16], &[7; 20]].concat();
        let quoted = |row: Row, length: usize| {
            let outer = Ipv4::parse_quoted(&outer[..length]).unwrap();
            row.quoted_inner(&outer).len()
        };
        assert_eq!([20, 21, 40].map(|length| quoted(ipip::ROW, length)), [0, 1, 20]);
        let longer = Row { overhead: 28, ..ipip::ROW };
        assert_eq!([20, 27, 28, 29, 40].map(|length| quoted(longer, length)), [0, 0, 0, 1, 12]);
    }
}
