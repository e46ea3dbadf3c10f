//! Which changes no packet flows without.

use super::change::Change;

/// The settings without which packets are not forwarded, or not accepted.
const NEEDED_SETTINGS: [&str; 2] = ["forwarding", "rp_filter"];

impl Change {
    /// Without the others packets take longer, go round in a circle, are larger than they need be, the host answers ARP for a VIP, or checks fail.
    pub(super) fn is_needed(&self) -> bool {
        match self {
            Change::Address(_)
            | Change::CaptureRule(_)
            | Change::DeviceAddress(_)
            | Change::Proxy(_)
            | Change::Route(_) => true,
            Change::AnswerRoute(_)
            | Change::LoopRule(_)
            | Change::MssRoute(_)
            | Change::MssRule(_)
            | Change::ProbeRule(_) => false,
            Change::Sysctl(_) => {
                let command = self.command();
                NEEDED_SETTINGS.iter().any(|setting| command.contains(&format!(".{setting}=")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::sysctl::{Sysctl, Wanted};
    use super::*;

    #[test]
    fn forwarding_is_needed_and_an_answer_without_delay_is_not() {
        let of =
            |name: &str| Change::from(Sysctl::of_interface("eth0", name, Wanted::Exactly(1))).is_needed();
        assert!(of("forwarding") && of("rp_filter"));
        assert!(!of("send_redirects") && !of("arp_ignore") && !of("mc_forwarding"));
    }
}
