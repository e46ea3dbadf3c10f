//! Carries out a [`Route`]: turns the captured packet into the packets that leave.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::wrap::wrap;
use super::{Fit, Route, Way, cut, segments};
use crate::encapsulation::CannotEncapsulate;
use crate::encapsulation::identification::Identifications;
use crate::packet::Frame;
use crate::packet::ipv4::{self, Ipv4};

/// Wraps the packet in the frame, unless it stays on this host. If it is cut, the frame contains the first piece afterwards, and the others
/// are added to `pieces`. The outer packets that may be
/// fragmented draw their identifications.
///
/// # Errors
/// If the frame does not contain the packet for which the route was decided.
#[inline]
pub fn apply(
    route: &Route,
    frame: &mut Frame,
    identifications: &Identifications,
    pieces: &mut VecDeque<(Frame, IpAddr)>,
) -> Result<(), CannotEncapsulate> {
    let Way::Wrapped(wrapping) = &route.way else { return Ok(()) };
    if wrapping.decrements_ttl {
        let ttl = Ipv4::parse_unsummed(frame.packet())?.ttl();
        ipv4::set_ttl(frame.packet_mut(), ttl.checked_sub(1).ok_or(CannotEncapsulate::Expired)?);
    }
    let mut leaving = match wrapping.fit {
        Fit::Whole => return wrap(wrapping, frame, identifications),
        Fit::CutInner => cut::before(wrapping, &Ipv4::parse_unsummed(frame.packet())?, identifications)?,
        Fit::CutOuter => cut::after(wrapping, &Ipv4::parse_unsummed(frame.packet())?, identifications)?,
        Fit::Segments => segments::pieces(wrapping, frame, identifications)?,
    };
    // The first takes the packet's place in the same buffer, because the next capture needs the whole buffer.
    let first = leaving.pop_front().ok_or(CannotEncapsulate::TooBig)?;
    frame.replace(first.packet());
    pieces.extend(leaving.into_iter().map(|piece| (piece, route.to())));
    Ok(())
}
