//! Cuts a super-packet into its segments: virtio_net_hdr cannot describe segments inside an encapsulation, so no
//! device can cut it later.

use std::collections::VecDeque;

use super::size;
use super::wrap::wrapped;
use super::{Fit, Wrapping, cut};
use crate::encapsulation::CannotEncapsulate;
use crate::encapsulation::identification::Identifications;
use crate::packet::Frame;
use crate::packet::ipv4::Ipv4;
use crate::packet::segment;

/// The outer packets, in order, for all segments of the super-packet in the frame.
pub(super) fn pieces(
    wrapping: &Wrapping,
    frame: &Frame,
    identifications: &Identifications,
) -> Result<VecDeque<Frame>, CannotEncapsulate> {
    let whole = Ipv4::parse_unsummed(frame.packet())?;
    let segments = frame.offload.segments.ok_or(CannotEncapsulate::TooBig)?;
    let (limits, mut leaving) = (wrapping.limits(), VecDeque::new());
    for segment in segment::split(&whole, segments)? {
        let segment = Ipv4::parse_unsummed(&segment)?;
        let fit = size::judge_length(&limits, segment.total_length(), segment.has_dont_fragment());
        match fit.map_err(|_| CannotEncapsulate::TooBig)? {
            Fit::CutInner => leaving.extend(cut::before(wrapping, &segment, identifications)?),
            Fit::CutOuter => leaving.extend(cut::after(wrapping, &segment, identifications)?),
            Fit::Whole | Fit::Segments => {
                leaving.push_back(wrapped(wrapping, segment.packet(), identifications)?)
            }
        }
    }
    Ok(leaving)
}
