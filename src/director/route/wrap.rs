//! Writes the outer header of a [`Route`] before a packet.

use super::super::path::SoftState;
use super::Route;
use crate::encapsulation::{CannotEncapsulate, Outer};
use crate::packet::Frame;
use crate::packet::ipv4::Ipv4;

/// Wraps the packet in the frame.
pub(super) fn wrap(route: &Route, frame: &mut Frame, path: &SoftState) -> Result<(), CannotEncapsulate> {
    let keeps_df = !route.ignores_df && Ipv4::parse_unsummed(frame.packet())?.has_dont_fragment();
    let outer = Outer {
        source: route.source,
        destination: route.rip,
        ttl: route.ttl,
        identification: if keeps_df { 0 } else { path.next_identification() },
        ignores_df: route.ignores_df,
    };
    (route.encapsulation.encapsulate)(frame, &outer)
}

/// A copy of the packet, wrapped.
pub(super) fn wrapped(route: &Route, packet: &[u8], path: &SoftState) -> Result<Frame, CannotEncapsulate> {
    let mut frame = Frame::from_packet(packet);
    wrap(route, &mut frame, path)?;
    Ok(frame)
}
