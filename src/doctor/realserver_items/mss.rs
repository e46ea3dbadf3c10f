//! Is the MSS announced that leaves room for the outer header?

use crate::config::plan::MssSetting;
use crate::doctor::facts::Realserver;
use crate::doctor::finding::Finding;

/// As `crate::metrics::names` has it.
const ANNOUNCED: &str = "lvs_tund_realserver_mss_bytes";

/// Nothing without the daemon's metrics.
pub(super) fn examine(facts: &Realserver) -> Vec<Finding> {
    let Some(metrics) = &facts.host.metrics else { return Vec::new() };
    if facts.plan.mss == MssSetting::Off {
        return vec![Finding::warning(
            "mss is \"off\": uploads hang for clients that receive no ICMP, unless another program lowers the MSS",
            format!("lvs-tund check {}   # then remove the key mss", facts.file),
        )];
    }
    let mss = metrics.sum(ANNOUNCED, &[]);
    let lacking = facts.vips().find(|vip| !facts.mss_rules.contains(vip));
    let finding = match lacking {
        _ if mss == 0 => Finding::warning(
            "no MSS is announced for the VIPs: the routing tables 7691 to 7698 are taken, or table main is too large",
            "ip rule; ip route show table 7691   # and see docs/mtu.md",
        ),
        Some(vip) => Finding::error(
            format!("the routing rule that announces the MSS of {vip} is missing: uploads may hang"),
            format!("ip rule show from {vip}   # another program removed it; the daemon adds it again"),
        ),
        None => Finding::ok(announced(facts, mss)),
    };
    vec![finding]
}

/// What DNAT leads to a container has an MSS that the container announces.
fn announced(facts: &Realserver, mss: u64) -> String {
    let tun = &facts.plan.tun;
    let forwards = facts.host.interface(tun).is_some_and(|tun| tun.settings.forwarding == Some(1));
    match forwards {
        false => format!("an MSS of {mss} bytes is announced for the VIPs"),
        true => format!(
            "an MSS of {mss} bytes is announced for the VIPs; {tun} forwards, and a container to which DNAT leads their \
             packets announces its own: docs/mtu.md has the rule that lowers it"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;
    use crate::doctor::samples::Samples;

    #[test]
    fn an_mss_that_is_not_announced_is_named() {
        let mut facts = bed::realserver("");
        assert_eq!(
            examine(&facts),
            [Finding::ok(
                "an MSS of 1440 bytes is announced for the VIPs; lvsr0 forwards, and a container to which DNAT leads their \
                 packets announces its own: docs/mtu.md has the rule that lowers it"
            )]
        );
        facts.host.interfaces[1].settings.forwarding = Some(0);
        assert_eq!(examine(&facts), [Finding::ok("an MSS of 1440 bytes is announced for the VIPs")]);
        facts.mss_rules.clear();
        assert_eq!(
            examine(&facts),
            [Finding::error(
                "the routing rule that announces the MSS of 172.25.3.100 is missing: uploads may hang",
                "ip rule show from 172.25.3.100   # another program removed it; the daemon adds it again"
            )]
        );
        facts.host.metrics = Some(Samples::default());
        assert_eq!(
            examine(&facts),
            [Finding::warning(
                "no MSS is announced for the VIPs: the routing tables 7691 to 7698 are taken, or table main is too large",
                "ip rule; ip route show table 7691   # and see docs/mtu.md"
            )]
        );
        facts.plan.mss = MssSetting::Off;
        assert_eq!(
            examine(&facts),
            [Finding::warning(
                "mss is \"off\": uploads hang for clients that receive no ICMP, unless another program lowers the MSS",
                "lvs-tund check realserver.toml   # then remove the key mss"
            )]
        );
        facts.host.metrics = None;
        assert_eq!(examine(&facts), []);
    }
}
