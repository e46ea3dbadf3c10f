//! The fields of a policy rule.

use rtnetlink::packet_route::rule::{RuleAttribute, RuleMessage};

/// The table a rule points to.
pub fn table(rule: &RuleMessage) -> u32 {
    let wide = rule.attributes.iter().find_map(|a| match a {
        RuleAttribute::Table(table) => Some(*table),
        _ => None,
    });
    wide.unwrap_or(u32::from(rule.header.table))
}

/// The protocol number of the program that made the rule; 0 if it did not name one.
pub fn protocol(rule: &RuleMessage) -> u8 {
    let found = rule.attributes.iter().find_map(|a| match a {
        RuleAttribute::Protocol(protocol) => Some(u8::from(*protocol)),
        _ => None,
    });
    found.unwrap_or(0)
}

/// Lower is evaluated first; of equal preferences the older rule comes first.
pub fn preference(rule: &RuleMessage) -> u32 {
    let found = rule.attributes.iter().find_map(|a| match a {
        RuleAttribute::Priority(preference) => Some(*preference),
        _ => None,
    });
    // The kernel omits the attribute for preference 0 (fib_nl_fill_rule()).
    found.unwrap_or(0)
}
