//! What is wrong, in lines for people.

use std::time::Duration;

use crate::control::model::{Dropped, Loss, TransmitErrors, Trouble};

/// Reasons that fit a line.
const REASONS_MAX: usize = 6;

/// "not ready: eth0 is down; run: ip link set eth0 up (for 12s)".
pub(super) fn line(trouble: &Trouble) -> String {
    let class = if trouble.stops_packets { "not ready" } else { "warning" };
    format!("{class}: {} (for {})", trouble.message, duration(trouble.age))
}

/// "dropped: 12 no_service (3s ago), 4 martian_source (2m ago)"; nothing if nothing was.
pub(super) fn dropped(dropped: &[Dropped]) -> Option<String> {
    let reasons = dropped.iter().take(REASONS_MAX);
    let reasons = reasons.map(|it| format!("{} {} ({} ago)", it.packets, it.reason, duration(it.age)));
    let mut reasons: Vec<String> = reasons.collect();
    if dropped.len() > REASONS_MAX {
        reasons.push(format!("and {} more reasons", dropped.len() - REASONS_MAX));
    }
    (!reasons.is_empty()).then(|| format!("dropped: {}", reasons.join(", ")))
}

/// "lost by the kernel: 12 on lvsd0, transmit (3s ago)"; nothing if none was.
pub(super) fn losses(losses: &[Loss]) -> Option<String> {
    let of = |it: &Loss| format!("{} on {}, {} ({} ago)", it.packets, it.device, it.cause, duration(it.age));
    let places: Vec<String> = losses.iter().map(of).collect();
    (!places.is_empty()).then(|| format!("lost by the kernel: {}", places.join("; ")))
}

/// "12 packets not sent (no_buffer)"; nothing if all were.
pub(super) fn transmit_errors(errors: &[TransmitErrors]) -> Option<String> {
    let packets: u64 = errors.iter().map(|it| it.packets).sum();
    let causes: Vec<&str> = errors.iter().map(|it| it.cause.as_str()).collect();
    let unit = if packets == 1 { "packet" } else { "packets" };
    (packets > 0).then(|| format!("{packets} {unit} not sent so far ({})", causes.join(", ")))
}

/// "2m 10s"
pub(super) fn duration(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_reasons_fit_a_line() {
        let drop = |number: usize| Dropped {
            reason: format!("r{number}"),
            packets: 9 - number as u64,
            age: number as u64,
        };
        assert_eq!(dropped(&[]), None);
        let two: Vec<Dropped> = (0..2).map(drop).collect();
        assert_eq!(dropped(&two).as_deref(), Some("dropped: 9 r0 (0s ago), 8 r1 (1s ago)"));
        let many: Vec<Dropped> = (0..8).map(drop).collect();
        assert!(dropped(&many).is_some_and(|line| line.ends_with("4 r5 (5s ago), and 2 more reasons")));
        let six: Vec<Dropped> = (0..6).map(drop).collect();
        assert!(dropped(&six).is_some_and(|line| line.ends_with("4 r5 (5s ago)")));
    }

    #[test]
    fn losses_name_device_and_cause() {
        let loss =
            |device: &str, packets| Loss { device: device.into(), cause: "transmit".into(), packets, age: 3 };
        assert_eq!(losses(&[]), None);
        let expected = "lost by the kernel: 7 on lvsd0, transmit (3s ago); 1 on eth0, transmit (3s ago)";
        assert_eq!(losses(&[loss("lvsd0", 7), loss("eth0", 1)]).as_deref(), Some(expected));
    }

    #[test]
    fn packets_that_were_not_sent_are_summed() {
        let errors = |packets: &[u64]| -> Vec<TransmitErrors> {
            let of = |(number, packets): (usize, &u64)| TransmitErrors {
                cause: format!("c{number}"),
                packets: *packets,
            };
            packets.iter().enumerate().map(of).collect()
        };
        assert_eq!(transmit_errors(&errors(&[])), None);
        assert_eq!(transmit_errors(&errors(&[1])).as_deref(), Some("1 packet not sent so far (c0)"));
        assert_eq!(transmit_errors(&errors(&[1, 4])).as_deref(), Some("5 packets not sent so far (c0, c1)"));
    }
}
