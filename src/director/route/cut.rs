//! Cuts a packet that does not fit its path, before or after it is wrapped.

use std::collections::VecDeque;

use super::Route;
use super::wrap::wrapped;
use crate::encapsulation::CannotEncapsulate;
use crate::encapsulation::identification::Identifications;
use crate::packet::Frame;
use crate::packet::cut;
use crate::packet::ipv4::Ipv4;

/// Cuts the packet and wraps each piece.
pub(super) fn before(
    route: &Route,
    packet: &Ipv4,
    identifications: &Identifications,
) -> Result<VecDeque<Frame>, CannotEncapsulate> {
    let pieces = cut::split(packet, route.limits().inner_mtu().into()).ok_or(CannotEncapsulate::TooBig)?;
    pieces.iter().map(|piece| wrapped(route, piece, identifications)).collect()
}

/// Wraps the packet and cuts the outer packet.
pub(super) fn after(
    route: &Route,
    packet: &Ipv4,
    identifications: &Identifications,
) -> Result<VecDeque<Frame>, CannotEncapsulate> {
    let whole = wrapped(route, packet.packet(), identifications)?;
    let outer = Ipv4::parse_unsummed(whole.packet())?;
    let pieces = cut::split(&outer, route.path_mtu.into()).ok_or(CannotEncapsulate::TooBig)?;
    Ok(pieces.iter().map(|piece| Frame::from_packet(piece)).collect())
}
