//! Writes the outer header of a [`Route`] before a packet.

use super::Route;
use crate::encapsulation::identification::Identifications;
use crate::encapsulation::{CannotEncapsulate, Outer};
use crate::packet::Frame;

/// Wraps the packet in the frame.
#[inline]
pub(super) fn wrap(
    route: &Route,
    frame: &mut Frame,
    identifications: &Identifications,
) -> Result<(), CannotEncapsulate> {
    let Route { source, rip, ttl, ignores_df, .. } = *route;
    let outer = Outer { source, destination: rip, ttl, ignores_df };
    (route.encapsulation.encapsulate)(frame, &outer, identifications)
}

/// A copy of the packet, wrapped.
pub(super) fn wrapped(
    route: &Route,
    packet: &[u8],
    identifications: &Identifications,
) -> Result<Frame, CannotEncapsulate> {
    let mut frame = Frame::from_packet(packet);
    wrap(route, &mut frame, identifications)?;
    Ok(frame)
}
