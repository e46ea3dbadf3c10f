//! Whether a packet fits its path, and what is done if it does not.
//!
//! | packet | DF | done |
//! |---|---|---|
//! | fits with its outer header | | wrapped as it is |
//! | too big | clear | cut, then each piece is wrapped: RFC 2003 §5.1 prefers this to fragmenting the outer packet |
//! | too big | set | its sender gets an error with the MTU (RFC 1191) |
//! | too big, `ignore_df` configured | set | wrapped, then the outer packet is cut: the inner identification need not be unique (RFC 6864 §4.1) |
//!
//! A super-packet is judged by the size of its segments, and leaves as segments.

use crate::packet::frame::{PACKET_MAX, Segments};

/// What a path takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest outer packet, in bytes, that fits without fragmentation.
    pub path_mtu: u16,
    /// Of the encapsulation, in bytes.
    pub overhead: u16,
    /// Whether a packet with DF may be fragmented after it is wrapped.
    pub ignores_df: bool,
}

impl Limits {
    /// The largest inner packet, in bytes, that fits without fragmentation.
    pub fn inner_mtu(&self) -> u16 {
        self.path_mtu.saturating_sub(self.overhead)
    }
}

/// The size of a packet and what decides whether it may be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// In bytes, without link padding.
    pub total_length: usize,
    /// Of the inner packet.
    pub has_dont_fragment: bool,
    /// Of a super-packet.
    pub segments: Option<Segments>,
}

/// How a packet fits its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It is wrapped as it is.
    Whole,
    /// Cut before it is wrapped.
    CutInner,
    /// Cut after it is wrapped.
    CutOuter,
    /// A super-packet: leaves as segments, each of which is judged by itself.
    Segments,
}

/// Why a packet cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is larger than this and must not be fragmented.
    TooBig {
        /// For the inner packet, in bytes.
        mtu: u16,
    },
    /// With its outer header it would exceed 65,535 bytes.
    NoPacket,
}

/// Judges a packet of this shape on this path.
///
/// # Errors
/// If it must be neither sent as it is nor cut.
#[inline]
pub fn judge(limits: &Limits, shape: &Shape) -> Result<Fit, Unfit> {
    let Some(segments) = shape.segments else {
        return judge_length(limits, shape.total_length, shape.has_dont_fragment);
    };
    let largest = usize::from(segments.header_length) + usize::from(segments.size);
    judge_length(limits, shape.total_length.min(largest), shape.has_dont_fragment)?;
    Ok(Fit::Segments)
}

/// Judges one packet of this length, or one segment.
#[inline]
pub(super) fn judge_length(limits: &Limits, length: usize, has_dont_fragment: bool) -> Result<Fit, Unfit> {
    let mtu = limits.inner_mtu();
    if length <= usize::from(mtu) {
        return Ok(Fit::Whole);
    }
    if has_dont_fragment && !limits.ignores_df {
        return Err(Unfit::TooBig { mtu });
    }
    if length + usize::from(limits.overhead) > PACKET_MAX {
        return Err(Unfit::NoPacket);
    }
    Ok(if has_dont_fragment { Fit::CutOuter } else { Fit::CutInner })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::frame::SegmentKind;

    fn limits(ignores_df: bool) -> Limits {
        Limits { path_mtu: 1500, overhead: 20, ignores_df }
    }

    fn judged(ignores_df: bool, has_dont_fragment: bool, total_length: usize) -> Result<Fit, Unfit> {
        judge(&limits(ignores_df), &Shape { total_length, has_dont_fragment, segments: None })
    }

    const TOO_BIG: Result<Fit, Unfit> = Err(Unfit::TooBig { mtu: 1480 });

    #[test]
    fn a_packet_that_fits_with_its_outer_header_is_not_cut() {
        for (ignores_df, has_dont_fragment) in [(false, false), (false, true), (true, false), (true, true)] {
            assert_eq!(judged(ignores_df, has_dont_fragment, 1480), Ok(Fit::Whole));
            assert_ne!(judged(ignores_df, has_dont_fragment, 1481), Ok(Fit::Whole));
        }
    }

    #[test]
    fn a_packet_that_does_not_fit_is_cut_if_it_may_be() {
        assert_eq!(judged(false, false, 1481), Ok(Fit::CutInner));
        assert_eq!(judged(true, false, 1481), Ok(Fit::CutInner));
        assert_eq!(judged(false, true, 1481), TOO_BIG);
        assert_eq!(judged(true, true, 1481), Ok(Fit::CutOuter));
    }

    #[test]
    fn no_packet_is_longer_than_sixteen_bits_with_its_outer_header() {
        for (has_dont_fragment, fit) in [(false, Fit::CutInner), (true, Fit::CutOuter)] {
            assert_eq!(judged(true, has_dont_fragment, 65_515), Ok(fit));
            assert_eq!(judged(true, has_dont_fragment, 65_516), Err(Unfit::NoPacket));
        }
        assert_eq!(judged(false, true, 65_516), TOO_BIG, "its sender may send less");
    }

    #[test]
    fn a_super_packet_is_as_large_as_its_largest_segment() {
        let judged = |total_length, size, has_dont_fragment| {
            let segments = Segments { kind: SegmentKind::TcpV4, size, header_length: 40 };
            let shape = Shape { total_length, has_dont_fragment, segments: Some(segments) };
            judge(&limits(false), &shape)
        };
        assert_eq!(judged(9000, 1440, true), Ok(Fit::Segments));
        assert_eq!(judged(9000, 1441, true), TOO_BIG);
        assert_eq!(judged(9000, 1441, false), Ok(Fit::Segments), "each segment is cut");
        assert_eq!(judged(1480, 9000, true), Ok(Fit::Segments), "it is no larger than the packet");
        assert_eq!(judged(1481, 9000, true), TOO_BIG);
        assert_eq!(judged(65_516, 65_476, false), Err(Unfit::NoPacket));
    }
}
