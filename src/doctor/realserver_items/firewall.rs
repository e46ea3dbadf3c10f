//! Does the packet filter accept the unwrapped packets?

use crate::doctor::facts::Realserver;
use crate::doctor::finding::Finding;
use crate::doctor::firewall::gate::{DELIVERED, Gate};
use crate::doctor::firewall::{Probe, State, Verdict};

/// One finding for all services, or one for each that is not accepted. Without `services`, any port may be intended to be
/// closed: as long as one of those that programs listen on is open, that is the one that clients use.
pub(super) fn examine(facts: &Realserver) -> Vec<Finding> {
    let tun = &facts.plan.tun;
    let (mut findings, mut is_any_open) = (Vec::new(), false);
    for (vip, protocol, port) in facts.services() {
        let (name, number) = (protocol.name(), protocol.number());
        let probe = Probe {
            input: Some(tun.clone()),
            output: None,
            source: None,
            destination: vip,
            protocol: number,
            port: Some(port),
            state: State::New,
        };
        let gate = Gate {
            packets: format!("packets for {vip}, {name} port {port}, that arrive on {tun}"),
            nft: format!("iifname \"{tun}\" {name} dport {port}"),
            iptables: format!("-i {tun} -p {name} --dport {port}"),
        };
        let verdict = facts.host.firewall.verdict(DELIVERED, &probe);
        match verdict {
            Verdict::Accepted => is_any_open = true,
            verdict => findings.push(gate.finding(&verdict)),
        }
    }
    if findings.is_empty() || is_any_open && facts.plan.guard.services.is_empty() {
        findings.clear();
        findings.push(Finding::ok(format!("the firewall accepts the services on {tun}")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::bed;

    #[test]
    fn a_rule_for_the_device_and_the_port_is_enough() {
        let mut facts = bed::realserver("services = [\"tcp/80\"]");
        let rules = "*filter\n:INPUT DROP [0:0]\n-A INPUT -m state --state INVALID -j DROP\n\
                     -A INPUT -i lvsr0 -p tcp -m tcp --dport 80 -j ACCEPT\n";
        facts.host.firewall = bed::firewall(rules);
        assert_eq!(examine(&facts), [Finding::ok("the firewall accepts the services on lvsr0")]);
    }

    #[test]
    fn a_closed_port_matters_only_if_it_is_a_service() {
        let rules = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -i lvsr0 -p tcp -m tcp --dport 22 -j DROP\n";
        for (keys, findings) in [("", 0), ("services = [\"tcp/22\", \"tcp/80\"]", 1)] {
            let mut facts = bed::realserver(keys);
            let ssh = crate::doctor::facts::Socket { port: 22, ..facts.sockets[0] };
            facts.sockets.push(ssh);
            facts.host.firewall = bed::firewall(rules);
            let found = examine(&facts);
            assert_eq!((found.len(), found.iter().filter(|f| f.remedy.is_some()).count()), (1, findings));
        }
    }

    #[test]
    fn an_input_that_drops_the_service_is_an_error() {
        // A port from the file, and one on which a program listens.
        for keys in ["services = [\"tcp/80\"]", ""] {
            let mut facts = bed::realserver(keys);
            assert_eq!(examine(&facts), [Finding::ok("the firewall accepts the services on lvsr0")]);
            facts.host.firewall = bed::firewall("*filter\n:INPUT DROP [0:0]\n-A INPUT -i eth0 -j ACCEPT\n");
            assert_eq!(
                examine(&facts),
                [Finding::error(
                    "iptables chain INPUT of table filter (its policy) drops packets for 172.25.3.100, tcp port 80, that \
                     arrive on lvsr0",
                    "iptables -t filter -I INPUT -i lvsr0 -p tcp --dport 80 -j ACCEPT"
                )]
            );
        }
    }
}
