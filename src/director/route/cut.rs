//! Cuts a packet that does not fit its path, before or after it is wrapped.

use std::collections::VecDeque;

use super::Wrapping;
use super::wrap::wrapped;
use crate::encapsulation::CannotEncapsulate;
use crate::encapsulation::identification::Identifications;
use crate::packet::Frame;
use crate::packet::cut;
use crate::packet::ipv4::Ipv4;

/// Cuts the packet and wraps each piece.
pub(super) fn before(
    wrapping: &Wrapping,
    packet: &Ipv4,
    identifications: &Identifications,
) -> Result<VecDeque<Frame>, CannotEncapsulate> {
    let pieces = cut::split(packet, wrapping.limits().inner_mtu().into()).ok_or(CannotEncapsulate::TooBig)?;
    pieces.iter().map(|piece| wrapped(wrapping, piece, identifications)).collect()
}

/// Wraps the packet and cuts the outer packet.
pub(super) fn after(
    wrapping: &Wrapping,
    packet: &Ipv4,
    identifications: &Identifications,
) -> Result<VecDeque<Frame>, CannotEncapsulate> {
    let whole = wrapped(wrapping, packet.packet(), identifications)?;
    let outer = Ipv4::parse_unsummed(whole.packet())?;
    let pieces = cut::split(&outer, wrapping.path_mtu.into()).ok_or(CannotEncapsulate::TooBig)?;
    Ok(pieces.iter().map(|piece| Frame::from_packet(piece)).collect())
}
