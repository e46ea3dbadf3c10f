//! The rule that makes the host look up its own packets from a VIP in a table before main.

use std::net::{IpAddr, Ipv4Addr};

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::{ChangeKind, Observed, PROTOCOL, Presence, Replaced, Undone};
use crate::host::error::HostError;
use crate::host::netlink::{Netlink, rule};

/// The last preference before that of main, 32766 (fib_default_rules_init()).
pub const MSS_PREFERENCE: u32 = 32_765;

/// `from VIP iif lo lookup TABLE`: matches what this host sends itself, and nothing that it forwards.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MssRule {
    /// The source address of the packets whose route is looked up in the table.
    pub vip: Ipv4Addr,
    /// One of [`crate::host::mss::MSS_TABLES`].
    pub table: u32,
}

impl MssRule {
    fn message(&self) -> RuleMessage {
        let mut rule = RuleMessage::default();
        rule.header.family = AddressFamily::Inet;
        rule.header.action = RuleAction::ToTable;
        rule.header.src_len = 32;
        rule.attributes = vec![
            RuleAttribute::Source(self.vip.into()),
            RuleAttribute::Iifname("lo".to_owned()),
            RuleAttribute::Priority(MSS_PREFERENCE),
            RuleAttribute::Table(self.table),
            RuleAttribute::Protocol(PROTOCOL.into()),
        ];
        rule
    }

    fn is(&self, rule: &RuleMessage) -> bool {
        rule::table(rule) == self.table && source(rule) == Some(self.vip)
    }
}

/// The single source address that a rule matches.
pub fn source(rule: &RuleMessage) -> Option<Ipv4Addr> {
    rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Source(IpAddr::V4(address)) if rule.header.src_len == 32 => Some(*address),
        _ => None,
    })
}

impl ChangeKind for MssRule {
    async fn observe(&self, netlink: &Netlink, observed: &mut Observed) -> Result<(), HostError> {
        observed.ask_rules(netlink).await
    }

    fn presence(&self, observed: &Observed) -> Result<Presence, HostError> {
        let found = observed.rules().iter().find(|rule| self.is(rule));
        Ok(found.map_or(Presence::Absent, |found| Presence::by_protocol(rule::protocol(found))))
    }

    async fn apply(&self, netlink: &Netlink) -> Result<(), HostError> {
        netlink.add_rule(self.message()).await
    }

    async fn undo(
        &self,
        netlink: &Netlink,
        now: &Observed,
        _: Option<Replaced>,
    ) -> Result<Undone, HostError> {
        let mut found = now.rules().iter().filter(|rule| self.is(rule)).peekable();
        // The kernel deletes a rule whatever its protocol number (rule_find()).
        if found.peek().is_some() && found.all(|rule| rule::protocol(rule) != PROTOCOL) {
            return Ok(Undone::taken_over());
        }
        netlink.delete_rule(self.message()).await?;
        Ok(Undone::Removed)
    }

    fn describe(&self) -> String {
        format!("rule from {} iif lo lookup {}", self.vip, self.table)
    }

    fn command(&self) -> String {
        let MssRule { vip, table } = self;
        format!("ip rule add pref {MSS_PREFERENCE} from {vip} iif lo lookup {table}")
    }
}
