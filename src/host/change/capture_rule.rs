//! The one policy rule that captures VIPs which are local addresses of the host.
//!
//! ```text
//! before                        captured
//! 0:     lookup local           0:     iif eth0 lookup 7690     ← VIP/32 dev TUN lives in this table
//! 32766: lookup main            0:     lookup local
//! 32767: lookup default         32766: lookup main …
//! ```
//!
//! A VIP that is not in the table is looked up in `local` next: one rule serves every VIP, and the rule of a
//! killed daemon points to an empty table, because its routes disappeared with the TUN device.
//!
//! How it gets to its place: [`crate::host::ahead`].

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::{CAPTURE_TABLE, ChangeKind, Observed, PROTOCOL, Presence, Replaced, Undone};
use crate::host::ahead::{Ahead, carry_out, find, find_ahead, plan, removal};
use crate::host::error::HostError;
use crate::host::journal::Record;
use crate::host::netlink::Netlink;
use crate::host::netlink::rule::{protocol, table};

/// Packets that arrive on the interface are looked up in [`CAPTURE_TABLE`] before `local`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CaptureRule {
    /// The name of the client-side interface; the kernel compares names, so the rule survives a new index.
    pub interface: String,
    /// The index of the TUN device that the routes of this daemon lead to.
    pub tun: u32,
}

impl ChangeKind for CaptureRule {
    async fn observe(&self, netlink: &Netlink, observed: &mut Observed) -> Result<(), HostError> {
        observed.ask_rules(netlink).await
    }

    fn presence(&self, observed: &Observed) -> Result<Presence, HostError> {
        let found = find_ahead(observed.rules(), self);
        Ok(found.map_or(Presence::Absent, |rule| Presence::by_protocol(protocol(rule))))
    }

    fn record(&self, _: Option<Replaced>) -> Option<Record> {
        Some(Record::CaptureRule { interface: self.interface.clone() })
    }

    async fn apply(&self, netlink: &Netlink) -> Result<(), HostError> {
        carry_out(netlink, plan(&netlink.rules().await?, self)?).await
    }

    async fn undo(&self, netlink: &Netlink, _: &Observed, _: Option<Replaced>) -> Result<Undone, HostError> {
        if netlink.routes_in(CAPTURE_TABLE).await?.iter().any(|route| route.index != self.tun) {
            return Ok(Undone::Left(format!("table {CAPTURE_TABLE} contains routes of another daemon")));
        }
        let rules = netlink.rules().await?;
        if find(&rules, self).is_some_and(|rule| protocol(rule) != PROTOCOL) {
            return Ok(Undone::taken_over());
        }
        carry_out(netlink, removal(&rules, self)).await?;
        Ok(Undone::Removed)
    }

    fn describe(&self) -> String {
        format!("rule iif {} lookup {CAPTURE_TABLE} ahead of local", self.interface)
    }

    fn command(&self) -> String {
        self.commands(&format!("iif {} lookup {CAPTURE_TABLE}", self.interface))
    }
}

impl Ahead for CaptureRule {
    fn message(&self, preference: u32) -> RuleMessage {
        let mut rule = RuleMessage::default();
        rule.header.family = AddressFamily::Inet;
        rule.header.action = RuleAction::ToTable;
        rule.attributes = vec![
            RuleAttribute::Iifname(self.interface.clone()),
            RuleAttribute::Priority(preference),
            RuleAttribute::Table(CAPTURE_TABLE),
            RuleAttribute::Protocol(PROTOCOL.into()),
        ];
        rule
    }

    fn is(&self, rule: &RuleMessage) -> bool {
        table(rule) == CAPTURE_TABLE
            && rule.attributes.contains(&RuleAttribute::Iifname(self.interface.clone()))
    }
}
