//! IP in IP (RFC 2003): an IPv4 packet behind a second IPv4 header.
//!
//! ```text
//! ┌──────────────────────────────┬───────────────────────┬─────────┐
//! │ outer IPv4, 20 B             │ inner IPv4, 20 B +    │ payload │
//! │ DIP → RIP, protocol 4        │ CIP → VIP, untouched  │         │
//! └──────────────────────────────┴───────────────────────┴─────────┘
//! ```
//! TOS with its ECN bits copied (RFC 6040 §4.1), DF copied (RFC 2003 §3.1), options not copied.

use super::identification::Identifications;
use super::{CannotEncapsulate, Decapsulated, Outer, Row, Ttl};
use crate::packet::ipv4::{HEADER, Header, Ipv4};
use crate::packet::{Carrier, Frame, Malformed, protocol};

const OVERHEAD: u16 = 20;
const _: () = assert!(OVERHEAD as usize == HEADER, "an outer header without options");

/// IP protocol 4, `ipvsadm --tun-type ipip`.
pub const ROW: Row = Row {
    name: "ipip",
    carrier: Carrier::Protocol(protocol::IPIP),
    overhead: OVERHEAD,
    encapsulate,
    decapsulate,
};

/// Writes the outer header before the packet and removes link padding after it.
///
/// # Errors
/// `Malformed` if the frame contains no valid IPv4 header, `Expired` for TTL 0, `TooBig` above 65,515 bytes.
pub fn encapsulate(
    frame: &mut Frame,
    outer: &Outer,
    identifications: &Identifications,
) -> Result<(), CannotEncapsulate> {
    let inner = Ipv4::parse_unsummed(frame.packet())?;
    if inner.ttl() == 0 {
        return Err(CannotEncapsulate::Expired);
    }
    let inner_length = inner.total_length();
    let total_length = u16::try_from(inner_length + HEADER).map_err(|_| CannotEncapsulate::TooBig)?;
    let dont_fragment = inner.has_dont_fragment() && !outer.ignores_df;
    let header = Header {
        tos: inner.tos(),
        total_length,
        // 0 with DF, so that receivers may coalesce (RFC 6864 §4.1 ignores it then); unique without.
        identification: if dont_fragment { 0 } else { identifications.draw() },
        dont_fragment,
        ttl: match outer.ttl {
            Ttl::Fixed(ttl) => ttl,
            Ttl::Inherit => inner.ttl(),
        },
        protocol: protocol::IPIP,
        source: outer.source,
        destination: outer.destination,
    };
    frame.truncate(inner_length);
    header.write(frame.prepend(HEADER).ok_or(CannotEncapsulate::TooBig)?);
    Ok(())
}

/// Finds the inner packet. Only its lengths and its checksum are checked here; the guard judges the rest.
///
/// # Errors
/// What is wrong with the inner header.
pub fn decapsulate(outer: Ipv4<'_>) -> Result<Decapsulated<'_>, Malformed> {
    // RFC 4213 §3.6: the length comes from the inner header.
    let inner = Ipv4::parse(outer.payload())?;
    Ok(Decapsulated { outer, inner, start: outer.header_length() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::frame::{HEADROOM, PACKET_MAX};

    /// Wraps the packet; the next identification is 0x7777.
    fn wrap(frame: &mut Frame, outer: &Outer) -> Result<(), CannotEncapsulate> {
        encapsulate(frame, outer, &Identifications::new(0x7777))
    }

    /// Where the inner packet is, and the TOS of the outer one.
    fn unwrapped(packet: &[u8]) -> Result<(std::ops::Range<usize>, u8), Malformed> {
        let taken = decapsulate(Ipv4::parse_unsummed(packet)?)?;
        Ok((taken.range(), taken.outer.tos()))
    }

    fn inner(dont_fragment: bool, tos: u8, ttl: u8) -> Vec<u8> {
        let mut packet = vec![0xabu8; 40];
        let header = Header {
            tos,
            total_length: 40,
            identification: 0x1234,
            dont_fragment,
            ttl,
            protocol: 17,
            source: [203, 0, 113, 7].into(),
            destination: [172, 25, 3, 100].into(),
        };
        header.write(&mut packet);
        packet
    }

    const OUTER: Outer = Outer {
        source: std::net::Ipv4Addr::new(172, 25, 3, 1),
        destination: std::net::Ipv4Addr::new(172, 25, 3, 2),
        ttl: Ttl::Fixed(64),
        ignores_df: false,
    };

    #[test]
    fn the_outer_header_byte_by_byte() {
        let mut frame = Frame::from_packet(&inner(true, 0xb9, 63));
        wrap(&mut frame, &OUTER).unwrap();
        #[rustfmt::skip]
        let expected = [
            0x45, 0xb9, 0x00, 0x3c, 0x00, 0x00, 0x40, 0x00,
            0x40, 0x04, 0x00, 0x00, 172, 25, 3, 1, 172, 25, 3, 2,
        ];
        assert_eq!(&frame.packet()[..10], &expected[..10]);
        assert_eq!(&frame.packet()[12..20], &expected[12..20]);
        assert!(crate::packet::checksum::is_valid(&frame.packet()[..20]));
        assert_eq!(&frame.packet()[20..], inner(true, 0xb9, 63));
    }

    #[test]
    fn fragmentable_packets_get_an_identification_and_no_df() {
        let mut frame = Frame::from_packet(&inner(false, 0, 9));
        wrap(&mut frame, &Outer { ttl: Ttl::Inherit, ..OUTER }).unwrap();
        let outer = Ipv4::parse(frame.packet()).unwrap();
        assert_eq!((outer.identification(), outer.has_dont_fragment(), outer.ttl()), (0x7777, false, 9));
    }

    #[test]
    fn df_can_be_cleared_in_the_outer_header_alone() {
        let mut frame = Frame::from_packet(&inner(true, 0, 9));
        wrap(&mut frame, &Outer { ignores_df: true, ..OUTER }).unwrap();
        let outer = Ipv4::parse(frame.packet()).unwrap();
        assert_eq!((outer.identification(), outer.has_dont_fragment()), (0x7777, false));
        assert_eq!(outer.payload(), inner(true, 0, 9));
    }

    #[test]
    fn link_padding_is_left_behind() {
        let mut padded = inner(true, 0, 64);
        padded.extend_from_slice(&[0; 6]);
        let mut frame = Frame::from_packet(&padded);
        wrap(&mut frame, &OUTER).unwrap();
        assert_eq!(frame.len(), 60);
    }

    #[test]
    fn ttl_zero_is_refused_and_ttl_one_is_not() {
        for (ttl, expected) in [(0, Err(CannotEncapsulate::Expired)), (1, Ok(()))] {
            assert_eq!(wrap(&mut Frame::from_packet(&inner(true, 0, ttl)), &OUTER), expected, "{ttl}");
        }
    }

    #[test]
    fn what_fits_into_sixteen_bits_with_its_outer_header_is_wrapped_and_no_more() {
        for (length, expected) in [
            (65_515, Ok(())),
            (65_516, Err(CannotEncapsulate::TooBig)),
            (PACKET_MAX, Err(CannotEncapsulate::TooBig)),
        ] {
            let mut big = inner(true, 0, 64);
            big.resize(length, 0);
            big[2..4].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            let mut frame = Frame::from_packet(&big);
            assert_eq!(wrap(&mut frame, &OUTER), expected, "{length}");
            if expected.is_ok() {
                assert_eq!(Ipv4::parse(frame.packet()).unwrap().total_length(), PACKET_MAX);
            }
        }
    }

    #[test]
    fn a_frame_without_a_packet_or_without_headroom_is_refused() {
        let mut frame = Frame::from_packet(&[0x45; 19]);
        assert_eq!(wrap(&mut frame, &OUTER), Err(CannotEncapsulate::Malformed(Malformed::Truncated)));
        for (left, expected) in [(HEADER - 1, Err(CannotEncapsulate::TooBig)), (HEADER, Ok(()))] {
            let mut frame = Frame::from_packet(&inner(true, 0, 64));
            let packet = inner(true, 0, 64);
            frame.prepend(HEADROOM - left).unwrap()[..40].copy_from_slice(&packet);
            assert_eq!(wrap(&mut frame, &OUTER), expected, "{left} bytes of headroom");
        }
    }

    #[test]
    fn nothing_inside_is_a_cut_packet() {
        let mut alone = inner(true, 0, 64)[..HEADER].to_vec();
        (alone[3], alone[9]) = (20, protocol::IPIP);
        assert_eq!(unwrapped(&alone), Err(Malformed::Truncated));
    }

    #[test]
    fn what_is_wrapped_is_unwrapped_byte_for_byte() {
        let packet = inner(false, 3, 1);
        let mut frame = Frame::from_packet(&packet);
        wrap(&mut frame, &OUTER).unwrap();
        let taken = decapsulate(Ipv4::parse(frame.packet()).unwrap()).unwrap();
        assert_eq!(&frame.packet()[taken.range()], packet);
        assert_eq!(taken.inner.packet(), packet);
        assert_eq!((taken.outer.source(), taken.outer.destination()), (OUTER.source, OUTER.destination));
        assert_eq!(taken.outer.tos(), 3);
    }

    #[test]
    fn the_inner_packet_begins_behind_the_options_of_the_outer_one() {
        let mut packet = inner(true, 0xb9, 64)[..HEADER].to_vec();
        packet.extend_from_slice(&[1, 1, 1, 0]);
        packet.extend_from_slice(&inner(false, 0, 9));
        (packet[0], packet[3], packet[9]) = (0x46, 64, protocol::IPIP);
        assert_eq!(unwrapped(&packet), Ok((24..64, 0xb9)));
    }

    #[test]
    fn the_outer_carries_more_or_less_than_the_inner() {
        let mut frame = Frame::from_packet(&inner(true, 0, 64));
        wrap(&mut frame, &OUTER).unwrap();
        let mut longer = frame.packet().to_vec();
        longer.extend_from_slice(&[0; 4]);
        longer[3] += 4;
        assert_eq!(unwrapped(&longer), Ok((20..60, 0)));
        let mut shorter = frame.packet()[..58].to_vec();
        shorter[3] -= 2;
        assert_eq!(unwrapped(&shorter), Err(Malformed::Truncated));
    }
}
