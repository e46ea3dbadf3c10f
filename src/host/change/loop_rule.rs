//! The rule that drops what comes out of the TUN device for a VIP that is not an address of the host.
//!
//! ```text
//! 0:     lookup local                     the VIP is here: the packet is delivered
//! 1:     iif lvsr0 to VIP blackhole       ← another program has deleted it: the packet ends
//! 32766: lookup main                      without the rule: back to the director, which sends it again
//! ```
//!
//! Only a host that forwards would send it back. The rule matches the destination as routing sees it, so it leaves alone
//! what DNAT has led to a container before (nf_nat_ipv4_pre_routing()). The kernel drops such a packet without an ICMP
//! error (ip_error(), EINVAL).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::mss_rule::MSS_PREFERENCE;
use super::{ChangeKind, Observed, PROTOCOL, Presence, Replaced, Undone};
use crate::host::ahead::is_plain_local;
use crate::host::error::HostError;
use crate::host::journal::Record;
use crate::host::netlink::{Netlink, rule};

/// `iif DEVICE to VIP blackhole`, next to the rule for `local`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LoopRule {
    /// The destination of the packets.
    pub vip: Ipv4Addr,
    /// The name of the real server's TUN device; the kernel compares names, so the rule survives a new index.
    pub device: String,
}

impl LoopRule {
    fn message(&self, preference: u32) -> RuleMessage {
        let mut rule = RuleMessage::default();
        rule.header.family = AddressFamily::Inet;
        rule.header.action = RuleAction::Blackhole;
        rule.header.dst_len = 32;
        rule.attributes = vec![
            RuleAttribute::Destination(self.vip.into()),
            RuleAttribute::Iifname(self.device.clone()),
            RuleAttribute::Priority(preference),
            RuleAttribute::Protocol(PROTOCOL.into()),
        ];
        rule
    }

    fn is(&self, rule: &RuleMessage) -> bool {
        let has = |wanted: RuleAttribute| rule.attributes.contains(&wanted);
        rule.header.action == RuleAction::Blackhole
            && rule.header.dst_len == 32
            && has(RuleAttribute::Destination(IpAddr::V4(self.vip)))
            && has(RuleAttribute::Iifname(self.device.clone()))
    }

    fn is_ours(&self, rule: &RuleMessage) -> bool {
        self.is(rule) && rule::protocol(rule) == PROTOCOL
    }

    /// The rule in `rules`, unless it would end what `local` delivers.
    fn find<'a>(&self, rules: &'a [RuleMessage]) -> Option<&'a RuleMessage> {
        let local = rules.iter().position(is_plain_local).unwrap_or(0);
        let found = rules.iter().position(|rule| self.is(rule));
        found.filter(|place| *place >= local).map(|place| &rules[place])
    }

    /// The preference right after that of `local`, which comes first unless the operator has moved it (VRF).
    fn preference(rules: &[RuleMessage]) -> u32 {
        let local = rules.iter().find(|rule| is_plain_local(rule));
        local.map_or(MSS_PREFERENCE, |local| rule::preference(local).saturating_add(1))
    }

    /// Removes those that a killed daemon with this device has left for other VIPs.
    pub(in crate::host) async fn sweep(
        netlink: &Netlink,
        device: &str,
        vips: &BTreeSet<Ipv4Addr>,
    ) -> Result<(), HostError> {
        for rule in netlink.rules().await? {
            let Some(vip) = destination(&rule).filter(|vip| !vips.contains(vip)) else { continue };
            let left = LoopRule { vip, device: device.to_owned() };
            if left.is_ours(&rule) {
                netlink.delete_rule(left.message(rule::preference(&rule))).await?;
                tracing::info!(kind = "leftover_removed", vip = %vip, "host: removed {} left by a killed daemon", left.describe());
            }
        }
        Ok(())
    }

    async fn delete_ours(&self, netlink: &Netlink, rules: &[RuleMessage]) -> Result<(), HostError> {
        for rule in rules.iter().filter(|rule| self.is_ours(rule)) {
            netlink.delete_rule(self.message(rule::preference(rule))).await?;
        }
        Ok(())
    }
}

fn destination(rule: &RuleMessage) -> Option<Ipv4Addr> {
    rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Destination(IpAddr::V4(destination)) => Some(*destination),
        _ => None,
    })
}

impl ChangeKind for LoopRule {
    async fn observe(&self, netlink: &Netlink, observed: &mut Observed) -> Result<(), HostError> {
        observed.ask_rules(netlink).await
    }

    fn presence(&self, observed: &Observed) -> Result<Presence, HostError> {
        let found = self.find(observed.rules());
        Ok(found.map_or(Presence::Absent, |rule| Presence::by_protocol(rule::protocol(rule))))
    }

    fn record(&self, _: Option<Replaced>) -> Option<Record> {
        Some(Record::LoopRule { vip: self.vip, device: self.device.clone() })
    }

    async fn apply(&self, netlink: &Netlink) -> Result<(), HostError> {
        let rules = netlink.rules().await?;
        // One that comes before `local` ends every packet.
        self.delete_ours(netlink, &rules).await?;
        netlink.add_rule(self.message(LoopRule::preference(&rules))).await
    }

    async fn undo(
        &self,
        netlink: &Netlink,
        now: &Observed,
        _: Option<Replaced>,
    ) -> Result<Undone, HostError> {
        let is_there = now.rules().iter().any(|rule| self.is(rule));
        if is_there && !now.rules().iter().any(|rule| self.is_ours(rule)) {
            return Ok(Undone::taken_over());
        }
        self.delete_ours(netlink, now.rules()).await?;
        Ok(Undone::Removed)
    }

    fn describe(&self) -> String {
        format!("rule iif {} to {} blackhole", self.device, self.vip)
    }

    fn command(&self) -> String {
        format!("ip rule add pref 1 iif {} to {} blackhole", self.device, self.vip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

    fn lookup(preference: u32, table: u32) -> RuleMessage {
        let mut rule = RuleMessage::default();
        rule.header.family = AddressFamily::Inet;
        rule.header.action = RuleAction::ToTable;
        rule.attributes = vec![RuleAttribute::Priority(preference), RuleAttribute::Table(table)];
        rule
    }

    fn rule_of(vip: Ipv4Addr, device: &str) -> LoopRule {
        LoopRule { vip, device: device.to_owned() }
    }

    #[test]
    fn the_rule_stands_right_behind_local_wherever_that_is() {
        for (rules, preference) in [
            (vec![lookup(0, 255), lookup(32766, 254)], 1),
            (vec![lookup(1000, 77), lookup(32765, 255), lookup(32766, 254)], 32766),
            (vec![lookup(32766, 254)], MSS_PREFERENCE),
        ] {
            assert_eq!(LoopRule::preference(&rules), preference);
        }
    }

    #[test]
    fn a_rule_ahead_of_local_is_not_in_place() {
        let ours = rule_of(VIP, "lvsr0");
        let there = vec![lookup(0, 255), ours.message(1), lookup(32766, 254)];
        assert_eq!(ours.find(&there), Some(&there[1]));
        let moved = vec![ours.message(1), lookup(32765, 255), lookup(32766, 254)];
        assert_eq!(ours.find(&moved), None);
        assert_eq!(ours.find(&moved[2..]), None);
        let odd = vec![ours.message(1), lookup(32766, 254)];
        assert_eq!(ours.find(&odd), Some(&odd[0]), "no rule for local is in the way");
    }

    #[test]
    fn only_the_rule_for_the_vip_and_the_device_is_the_one() {
        let ours = rule_of(VIP, "lvsr0");
        assert!(ours.is_ours(&ours.message(1)) && ours.is_ours(&ours.message(32766)));
        assert!(!ours.is(&rule_of(VIP, "lvsr1").message(1)));
        assert!(!ours.is(&rule_of(Ipv4Addr::new(10, 0, 0, 8), "lvsr0").message(1)));
        let mut other = ours.message(1);
        other.header.action = RuleAction::ToTable;
        assert!(!ours.is(&other));
        let mut other = ours.message(1);
        other.header.dst_len = 24;
        assert!(!ours.is(&other));
        let mut foreign = ours.message(1);
        foreign.attributes.retain(|a| !matches!(a, RuleAttribute::Protocol(_)));
        assert!(ours.is(&foreign) && !ours.is_ours(&foreign));
    }
}
