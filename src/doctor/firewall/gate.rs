//! The finding about one kind of packet that the packet filter has to accept, and the rule that accepts it.

use super::{Hook, Verdict};
use crate::doctor::finding::Finding;
use crate::doctor::firewall::evaluate::Place;
use crate::doctor::firewall::rules::Table;

/// The packets, and how a rule describes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// In plural: "packets from eth0 to lvsd0".
    pub packets: String,
    /// Conditions of nft, valid at every hook that these packets pass.
    pub nft: String,
    /// Conditions of iptables.
    pub iptables: String,
}

impl Gate {
    /// A warning if the verdict is unknown, with the command that shows the rules.
    pub fn finding(&self, verdict: &Verdict) -> Finding {
        let packets = &self.packets;
        match verdict {
            Verdict::Accepted => Finding::ok(format!("the firewall accepts {packets}")),
            Verdict::Dropped(place) => {
                Finding::error(format!("{} drops {packets}", place.words), self.remedy(place))
            }
            Verdict::Unknown(why) => Finding::warning(
                format!("cannot determine whether the firewall accepts {packets}: {why}"),
                "nft list ruleset",
            ),
        }
    }

    /// The command that accepts the packets ahead of the rule that drops them.
    pub fn remedy(&self, place: &Place) -> String {
        let chain = &place.chain;
        match &place.table {
            Table::Nft { family, name } => {
                format!("nft insert rule {family} {name} {chain} {} accept", self.nft)
            }
            Table::Iptables { program, name } => {
                format!("{program} -t {name} -I {chain} {} -j ACCEPT", self.iptables)
            }
        }
    }
}

/// The hooks of a packet that the host forwards.
pub const FORWARDED: &[Hook] = &[Hook::Prerouting, Hook::Forward, Hook::Postrouting];
/// The hooks of a packet for a program of the host.
pub const DELIVERED: &[Hook] = &[Hook::Prerouting, Hook::Input];
/// The hooks of a packet that the host sends.
pub const SENT: &[Hook] = &[Hook::Output, Hook::Postrouting];

#[cfg(test)]
mod tests {
    use super::super::{Firewall, Probe, State, iptables};
    use super::*;
    use crate::doctor::firewall::rules::{Chain, Effect};

    fn gate() -> Gate {
        Gate {
            packets: "packets of IP protocol 4 to 172.25.3.2".into(),
            nft: "ip daddr 172.25.3.2 ip protocol 4".into(),
            iptables: "-d 172.25.3.2 -p 4".into(),
        }
    }

    fn finding(chains: Vec<Chain>) -> Finding {
        let probe = Probe {
            input: None,
            output: Some("eth0".into()),
            source: None,
            destination: [172, 25, 3, 2].into(),
            protocol: 4,
            port: None,
            state: State::New,
        };
        gate().finding(&Firewall::Rules(chains).verdict(SENT, &probe))
    }

    #[test]
    fn a_drop_comes_with_the_rule_that_accepts() {
        let saved =
            |rule: &str| iptables::parse(&format!("*filter\n:OUTPUT ACCEPT [0:0]\n{rule}\n"), "iptables");
        assert_eq!(
            finding(saved("-A OUTPUT -p ipencap -j DROP")),
            Finding::error(
                "iptables chain OUTPUT of table filter (-A OUTPUT -p ipencap -j DROP) drops packets of IP protocol 4 to \
                 172.25.3.2",
                "iptables -t filter -I OUTPUT -d 172.25.3.2 -p 4 -j ACCEPT"
            )
        );
        assert_eq!(
            finding(saved("-A OUTPUT -m mark --mark 0x1 -j DROP")),
            Finding::warning(
                "cannot determine whether the firewall accepts packets of IP protocol 4 to 172.25.3.2: -A OUTPUT -m mark \
                 --mark 0x1 -j DROP of iptables chain OUTPUT of table filter",
                "nft list ruleset"
            )
        );
        assert_eq!(
            finding(saved("")),
            Finding::ok("the firewall accepts packets of IP protocol 4 to 172.25.3.2")
        );
    }

    #[test]
    fn for_nftables_the_rule_is_one_of_nft() {
        let chain = Chain {
            table: Table::Nft { family: "inet".into(), name: "filter".into() },
            name: "out".into(),
            hook: Some(Hook::Output),
            priority: 0,
            policy: Effect::Drop,
            rules: Vec::new(),
        };
        assert_eq!(
            finding(vec![chain]).remedy.unwrap(),
            "nft insert rule inet filter out ip daddr 172.25.3.2 ip protocol 4 accept"
        );
    }
}
