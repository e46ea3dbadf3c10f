//! Writes the outer header of a [`Wrapping`] before a packet.

use super::Wrapping;
use crate::encapsulation::identification::Identifications;
use crate::encapsulation::{CannotEncapsulate, Outer};
use crate::packet::Frame;

/// Wraps the packet in the frame.
#[inline]
pub(super) fn wrap(
    wrapping: &Wrapping,
    frame: &mut Frame,
    identifications: &Identifications,
) -> Result<(), CannotEncapsulate> {
    let Wrapping { source, rip, ttl, ignores_df, .. } = *wrapping;
    let outer = Outer { source, destination: rip, ttl, ignores_df };
    (wrapping.encapsulation.encapsulate)(frame, &outer, identifications)
}

/// A copy of the packet, wrapped.
pub(super) fn wrapped(
    wrapping: &Wrapping,
    packet: &[u8],
    identifications: &Identifications,
) -> Result<Frame, CannotEncapsulate> {
    let mut frame = Frame::from_packet(packet);
    wrap(wrapping, &mut frame, identifications)?;
    Ok(frame)
}
