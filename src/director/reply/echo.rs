//! Replies to echo requests, whole or in fragments.

use super::datagram;
use crate::packet::icmp::{self, field};
use crate::packet::ipv4::{self, Ipv4};
use crate::packet::upper::Upper;
use crate::packet::{Ip, Malformed, checksum, protocol};

/// The reply to an echo request, or to a fragment of one.
pub(super) fn reply(request: &Ip) -> Result<Vec<u8>, Malformed> {
    let upper = request.upper()?;
    match request {
        Ip::V4(piece) if upper.is_fragment() => piece_of_reply(request, piece, &upper),
        _ => whole_reply(request, &upper),
    }
}

/// RFC 1122 §3.2.2.6: identifier, sequence number and data are returned unchanged.
fn whole_reply(request: &Ip, upper: &Upper) -> Result<Vec<u8>, Malformed> {
    let mut message = upper.payload.to_vec();
    field::KIND.write(&mut message, icmp::ECHO_REPLY);
    checksum::fill(&mut message, field::CHECKSUM, 0);
    datagram(request, protocol::ICMP, request.traffic_class(), &message)
}

/// Turns a piece of an echo request into a piece of the reply: together the pieces form the reply, in
/// whatever order they arrive. A wrong checksum stays equally wrong, so that the client notices it.
fn piece_of_reply(request: &Ip, piece: &Ipv4, upper: &Upper) -> Result<Vec<u8>, Malformed> {
    let mut payload = upper.payload.to_vec();
    if !upper.is_later_fragment() {
        checksum::set_byte(&mut payload, field::KIND, icmp::ECHO_REPLY, field::CHECKSUM);
    }
    let mut bytes = datagram(request, protocol::ICMP, request.traffic_class(), &payload)?;
    // The pieces belong together as before. The kernel would replace an identification of 0 by a different one in
    // each piece.
    ipv4::field::IDENTIFICATION.write(&mut bytes, piece.identification().max(1));
    let place = ipv4::field::FLAGS_AND_OFFSET;
    place.write(&mut bytes, place.read(piece.header()));
    ipv4::fill_checksum(&mut bytes[..ipv4::HEADER]);
    Ok(bytes)
}
