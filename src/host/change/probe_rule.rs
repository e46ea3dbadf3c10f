//! The rules for checks through the tunnel.
//!
//! ```text
//! 0: fwmark 76 ipproto tcp lookup 7688                     the packets of a check: VIP/32 dev TUN
//! 0: iif lo ipproto tcp sport 61000-62999 lookup 7689      the validation of the answers: VIP/32 dev eth0
//! 0: lookup local
//! ```
//! Both come before `local`, because the VIP may be an address of the host, and before main, which may lead to the TUN
//! device.
//!
//! For the answer VIP→DIP, fib_validate_source() looks up the VIP as if the host sent a packet to it: `iif lo`, without
//! the mark, with the ports of the check's own packets. It has to find the device on which the answer arrives. It has the
//! ports only where some rule needs them whose interface is not lo (fib_rule_requires_fldissect()): that is what
//! `ipproto` in the first rule is for.

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange};

use super::{
    ANSWER_TABLE, ChangeKind, Observed, PROBE_MARK, PROBE_TABLE, PROTOCOL, Presence, Replaced, Undone,
};
use crate::host::ahead::{Ahead, carry_out, find, find_ahead, plan, removal};
use crate::host::error::HostError;
use crate::host::journal::Record;
use crate::host::netlink::Netlink;
use crate::host::netlink::rule::{protocol, table};
use crate::host::probe_packets::{Carrier, Direction};
use crate::packet::{self, probe};

/// One of the four rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProbeRule {
    /// Of the packets.
    pub direction: Direction,
    /// Of the packets.
    pub carrier: Carrier,
}

impl ProbeRule {
    /// All of them.
    pub const ALL: [ProbeRule; 4] = [
        ProbeRule { direction: Direction::Out, carrier: Carrier::Tcp },
        ProbeRule { direction: Direction::Out, carrier: Carrier::Udp },
        ProbeRule { direction: Direction::Back, carrier: Carrier::Tcp },
        ProbeRule { direction: Direction::Back, carrier: Carrier::Udp },
    ];

    fn table(self) -> u32 {
        match self.direction {
            Direction::Out => PROBE_TABLE,
            Direction::Back => ANSWER_TABLE,
        }
    }

    fn selectors(self) -> Vec<RuleAttribute> {
        let number = match self.carrier {
            Carrier::Tcp => packet::protocol::TCP,
            Carrier::Udp => packet::protocol::UDP,
        };
        let ports = RulePortRange { start: *probe::PORTS.start(), end: *probe::PORTS.end() };
        let mut selectors = vec![RuleAttribute::IpProtocol(i32::from(number).into())];
        match self.direction {
            Direction::Out => {
                selectors.extend([RuleAttribute::FwMark(PROBE_MARK), RuleAttribute::FwMask(u32::MAX)])
            }
            Direction::Back => selectors
                .extend([RuleAttribute::Iifname("lo".to_owned()), RuleAttribute::SourcePortRange(ports)]),
        }
        selectors
    }

    fn words(self) -> String {
        let ports = probe::PORTS;
        let carrier = match self.carrier {
            Carrier::Tcp => "tcp",
            Carrier::Udp => "udp",
        };
        let table = self.table();
        match self.direction {
            Direction::Out => format!("fwmark {PROBE_MARK} ipproto {carrier} lookup {table}"),
            Direction::Back => {
                format!("iif lo ipproto {carrier} sport {}-{} lookup {table}", ports.start(), ports.end())
            }
        }
    }
}

impl Ahead for ProbeRule {
    fn message(&self, preference: u32) -> RuleMessage {
        let mut rule = RuleMessage::default();
        rule.header.family = AddressFamily::Inet;
        rule.header.action = RuleAction::ToTable;
        rule.attributes = self.selectors();
        rule.attributes.extend([
            RuleAttribute::Priority(preference),
            RuleAttribute::Table(self.table()),
            RuleAttribute::Protocol(PROTOCOL.into()),
        ]);
        rule
    }

    fn is(&self, rule: &RuleMessage) -> bool {
        table(rule) == self.table()
            && self.selectors().iter().all(|selector| rule.attributes.contains(selector))
    }
}

impl ChangeKind for ProbeRule {
    async fn observe(&self, netlink: &Netlink, observed: &mut Observed) -> Result<(), HostError> {
        observed.ask_rules(netlink).await
    }

    fn presence(&self, observed: &Observed) -> Result<Presence, HostError> {
        let found = find_ahead(observed.rules(), self);
        Ok(found.map_or(Presence::Absent, |rule| Presence::by_protocol(protocol(rule))))
    }

    fn record(&self, _: Option<Replaced>) -> Option<Record> {
        Some(Record::ProbeRule { direction: self.direction, carrier: self.carrier })
    }

    async fn apply(&self, netlink: &Netlink) -> Result<(), HostError> {
        carry_out(netlink, plan(&netlink.rules().await?, self)?).await
    }

    /// The routes are undone before: those that are left belong to another director.
    async fn undo(&self, netlink: &Netlink, _: &Observed, _: Option<Replaced>) -> Result<Undone, HostError> {
        if !netlink.routes_in(self.table()).await?.is_empty() {
            return Ok(Undone::Left(format!("table {} contains routes of another daemon", self.table())));
        }
        let rules = netlink.rules().await?;
        if find(&rules, self).is_some_and(|rule| protocol(rule) != PROTOCOL) {
            return Ok(Undone::taken_over());
        }
        carry_out(netlink, removal(&rules, self)).await?;
        Ok(Undone::Removed)
    }

    fn describe(&self) -> String {
        format!("rule {} ahead of local", self.words())
    }

    fn command(&self) -> String {
        self.commands(&self.words())
    }

    fn is_optional(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_the_rules_is_itself_and_none_of_the_others() {
        for rule in ProbeRule::ALL {
            for other in ProbeRule::ALL {
                assert_eq!(rule.is(&other.message(0)), rule == other, "{rule:?} {other:?}");
            }
            let mut elsewhere = rule.message(0);
            elsewhere.attributes.retain(|attribute| !matches!(attribute, RuleAttribute::Table(_)));
            elsewhere.attributes.push(RuleAttribute::Table(254));
            assert!(!rule.is(&elsewhere));
        }
    }

    /// The condition of fib_rule_requires_fldissect().
    #[test]
    fn some_rule_makes_the_kernel_look_at_the_ports_of_answers() {
        let requires = |rule: &ProbeRule| {
            let message = rule.message(0);
            let has = |wanted: fn(&RuleAttribute) -> bool| message.attributes.iter().any(wanted);
            !has(|attribute| matches!(attribute, RuleAttribute::Iifname(name) if name == "lo"))
                && has(|attribute| matches!(attribute, RuleAttribute::IpProtocol(_)))
        };
        assert!(ProbeRule::ALL.iter().any(requires));
    }
}
