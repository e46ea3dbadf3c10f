//! Resets.

use super::datagram;
use crate::packet::tcp::{Flags, HEADER, Header, Tcp, field};
use crate::packet::{Ip, Malformed, checksum, protocol};

/// RFC 9293 §3.10.7.1: the reset that a closed port sends.
pub(super) fn reset(packet: &Ip) -> Result<Vec<u8>, Malformed> {
    let upper = packet.upper()?;
    let segment = Tcp::parse(upper.payload)?;
    let mut bytes = [0u8; HEADER];
    header_of_reset(&segment).write(&mut bytes);
    checksum::fill_transport(
        &mut bytes,
        field::CHECKSUM,
        packet.destination(),
        packet.source(),
        protocol::TCP,
    );
    datagram(packet, protocol::TCP, 0, &bytes)
}

fn header_of_reset(segment: &Tcp) -> Header {
    let flags = segment.flags();
    let ports = Header {
        source_port: segment.destination_port(),
        destination_port: segment.source_port(),
        sequence: 0,
        acknowledgement: 0,
        flags: Flags(Flags::RST),
    };
    if flags.has(Flags::ACK) {
        return Header { sequence: segment.acknowledgement(), ..ports };
    }
    let length = u32::try_from(segment.payload().len()).unwrap_or(u32::MAX);
    let occupied = u32::from(flags.has(Flags::SYN)) + u32::from(flags.has(Flags::FIN));
    let acknowledgement = segment.sequence().wrapping_add(length).wrapping_add(occupied);
    Header { acknowledgement, flags: Flags(Flags::RST | Flags::ACK), ..ports }
}
