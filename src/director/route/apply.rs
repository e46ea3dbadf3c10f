//! Carries out a [`Route`]: turns the captured packet into the packets that leave.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::super::path::SoftState;
use super::wrap::wrap;
use super::{Fit, Route, cut, segments};
use crate::encapsulation::CannotEncapsulate;
use crate::packet::Frame;
use crate::packet::ipv4::{self, Ipv4};

/// Wraps the packet in the frame. If it is cut, the frame contains the first piece afterwards, and the others
/// are added to `pieces`. `path` supplies the identifications.
///
/// # Errors
/// If the frame does not contain the packet for which the route was decided.
pub fn apply(
    route: &Route,
    frame: &mut Frame,
    path: &SoftState,
    pieces: &mut VecDeque<(Frame, IpAddr)>,
) -> Result<(), CannotEncapsulate> {
    if route.decrements_ttl {
        let ttl = Ipv4::parse_unsummed(frame.packet())?.ttl();
        ipv4::set_ttl(frame.packet_mut(), ttl.checked_sub(1).ok_or(CannotEncapsulate::Expired)?);
    }
    let mut leaving = match route.fit {
        Fit::Whole => return wrap(route, frame, path),
        Fit::CutInner => cut::before(route, &Ipv4::parse_unsummed(frame.packet())?, path)?,
        Fit::CutOuter => cut::after(route, &Ipv4::parse_unsummed(frame.packet())?, path)?,
        Fit::Segments(segments) => segments::pieces(route, segments, frame, path)?,
    };
    // The first takes the packet's place in the same buffer, because the next capture needs the whole buffer.
    let first = leaving.pop_front().ok_or(CannotEncapsulate::TooBig)?;
    frame.replace(first.packet());
    pieces.extend(leaving.into_iter().map(|piece| (piece, route.to())));
    Ok(())
}
