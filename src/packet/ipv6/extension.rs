//! Extension headers of IPv6 (RFC 8200 §4), the first of them named by the fixed header's next header.
//!
//! ```text
//! ┌──────────┬──────────┬──────────────────────────┐  hop-by-hop, destination options, routing:
//! │ next hdr │ length   │ options, or type and left│  8 bytes, and 8 more per unit of length
//! ├──────────┼──────────┼──────────────────┬──┬─┬──┤
//! │ next hdr │ reserved │ offset / 8       │  │M│id│  fragment: always 8 bytes
//! └──────────┴──────────┴──────────────────┴──┴─┴──┘
//! ```

use super::super::Malformed;
use super::super::upper::Fragment;

/// The places of the fields.
pub(super) mod field {
    use crate::packet::field::{U8, U16, U32};

    pub(crate) const NEXT_HEADER: U8 = U8(0);
    pub(crate) const LENGTH: U8 = U8(1);
    pub(crate) const ROUTING_TYPE: U8 = U8(2);
    pub(crate) const SEGMENTS_LEFT: U8 = U8(3);
    /// Offset in units of eight bytes, above two reserved bits and the flag "more fragments".
    pub(crate) const FRAGMENT_OFFSET: U16 = U16(2);
    pub(crate) const IDENTIFICATION: U32 = U32(4);
}

// The headers that are walked (RFC 8200 §4.1, RFC 4302 §2). The content of ESP cannot be read, and mobility, HIP
// and shim6 carry nothing that is served.
pub(super) const HOP_BY_HOP: u8 = 0;
pub(super) const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
pub(super) const AUTHENTICATION: u8 = 51;
pub(super) const DESTINATION_OPTIONS: u8 = 60;

/// Length of the extension header `kind` at the front of `bytes`, which may exceed them; `None` if it is not
/// an extension header.
pub(super) fn length_of(kind: u8, bytes: &[u8]) -> Option<usize> {
    // Without a length field, eight bytes is the minimum.
    let units = usize::from(bytes.get(field::LENGTH.0).copied().unwrap_or(0));
    match kind {
        HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => Some(8 + units * 8),
        FRAGMENT => Some(8),
        // RFC 4302 §2.2: in 4-byte units, minus two.
        AUTHENTICATION => Some(8 + units * 4),
        _ => None,
    }
}

/// RFC 8200 §4.2: type, length, value; a one-byte padding has neither length nor value. RFC 2675 §3 defines
/// the jumbo payload option.
pub(super) fn check_hop_by_hop(header: &[u8]) -> Result<(), Malformed> {
    const PAD_ONE: u8 = 0;
    const JUMBO_PAYLOAD: u8 = 0xc2;
    let mut rest = header.get(2..).unwrap_or_default();
    while let Some(&kind) = rest.first() {
        let length = match kind {
            PAD_ONE => 1,
            JUMBO_PAYLOAD => return Err(Malformed::Jumbogram),
            _ => 2 + usize::from(*rest.get(1).ok_or(Malformed::Option)?),
        };
        rest = rest.get(length..).ok_or(Malformed::Option)?;
    }
    Ok(())
}

/// RFC 5095 §3: type 0 must not be used. With any other type, segments left mean that the packet is to be
/// forwarded from here, so its destination is not final.
pub(super) fn check_routing(header: &[u8]) -> Result<(), Malformed> {
    let kind = field::ROUTING_TYPE.read(header);
    let segments_left = field::SEGMENTS_LEFT.read(header);
    if kind == 0 || segments_left > 0 { Err(Malformed::SourceRoute) } else { Ok(()) }
}

pub(super) fn fragment(header: &[u8], length: usize) -> Option<Fragment> {
    let word = field::FRAGMENT_OFFSET.read(header);
    let (offset, has_more) = (usize::from(word & 0xfff8), word & 1 != 0);
    let is_atomic = offset == 0 && !has_more;
    (!is_atomic).then(|| Fragment {
        offset,
        has_more,
        identification: field::IDENTIFICATION.read(header),
        length,
    })
}
