//! The maximum segment size that a real server announces for its VIPs. The client sizes its segments by the
//! SYN-ACK, which does not pass through the director, so only the real server can take the encapsulation into
//! account.

use crate::packet::MTU_DEFAULT;

/// TCP_MIN_MSS of `include/net/tcp.h`, 60 + 60 + 8 - 40: the smallest MSS that Linux accepts from its peer.
pub const MSS_MIN: u16 = 88;

/// ip_metrics_convert() reduces a larger RTAX_ADVMSS to this: 65,535 minus both headers.
pub const MSS_MAX: u16 = 65_535 - HEADERS;

/// RFC 9293 §3.7.1: an MSS includes neither the fixed IPv4 header nor the fixed TCP header.
const HEADERS: u16 = 40;

/// The largest segment that fits the path after encapsulation has added `overhead` bytes to its packet. `None`: the
/// path is not known.
pub fn fitting(path_mtu: Option<u32>, overhead: u16) -> u16 {
    let path_mtu = path_mtu.unwrap_or(MTU_DEFAULT.into());
    let mss = path_mtu.saturating_sub(u32::from(overhead) + u32::from(HEADERS));
    u16::try_from(mss).unwrap_or(MSS_MAX).clamp(MSS_MIN, MSS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encapsulation::ipip::ROW;

    #[test]
    fn a_full_segment_fills_the_path() {
        let overhead = ROW.overhead;
        for (path_mtu, mss) in
            [(1500, 1440), (1400, 1340), (9000, 8940), (1520, 1460), (0, 88), (148, 88), (149, 89)]
        {
            assert_eq!(fitting(Some(path_mtu), overhead), mss, "{path_mtu}");
        }
        assert_eq!(fitting(None, overhead), 1440, "as on an Ethernet");
        assert_eq!((fitting(Some(u32::MAX), overhead), MSS_MAX), (65_495, 65_495));
    }
}
