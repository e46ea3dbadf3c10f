//! Rules that have to come before the one for `local`.
//!
//! The kernel keeps rules of equal preference in the order of insertion, and refuses a duplicate only on
//! request (NLM_F_EXCL). So such a rule is added after `local`, then a copy of `local` after it, then
//! the first `local` is deleted: the host always has one, and deleting the rule later leaves the
//! rules as they were.
//!
//! One gap cannot be avoided: until the first rule is added to a namespace, the kernel keeps `local` and
//! `main` in one trie, and while it splits them (fib_unmerge()) a lookup may miss a local address.

use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::error::HostError;
use super::netlink::Netlink;
use super::netlink::rule::{preference, table};
use super::{ANSWER_TABLE, CAPTURE_TABLE, PROBE_TABLE};

/// `rtnetlink.h` RT_TABLE_LOCAL.
const TABLE_LOCAL: u32 = 255;

/// The protocol (rtnetlink.h) of the rule for `local` that exists while its place changes; no routing daemon has it.
const STAND_IN: u8 = 76;

/// Where rules of this program lead that come before `local`.
const TABLES: [u32; 3] = [CAPTURE_TABLE, PROBE_TABLE, ANSWER_TABLE];

/// A rule that has to come before the one for `local`.
pub trait Ahead {
    /// The rule with this preference, to be added.
    fn message(&self, preference: u32) -> RuleMessage;

    /// Whether `rule` does the same, regardless of who made it.
    fn is(&self, rule: &RuleMessage) -> bool;

    /// The commands that add it by hand, given the arguments of `ip rule add pref 0`. `ip` refuses a second rule for
    /// `local` that differs in nothing, so the copy that stands in meanwhile has a protocol of its own.
    fn commands(&self, words: &str) -> String {
        let stand_in = format!("lookup local protocol {STAND_IN}");
        format!(
            "ip rule add pref 0 {words} && ip rule add pref 0 {stand_in} && ip rule del pref 0 lookup local \
             && ip rule add pref 0 lookup local && ip rule del pref 0 {stand_in}"
        )
    }
}

/// One of the netlink requests that produce the required order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To be added without NLM_F_EXCL.
    Add(RuleMessage),
    /// Deletes the first rule that matches this one.
    Delete(RuleMessage),
}

/// Sends the requests, one after the other.
pub async fn carry_out(netlink: &Netlink, steps: Vec<Step>) -> Result<(), HostError> {
    for step in steps {
        match step {
            Step::Add(rule) => netlink.add_rule(rule).await?,
            Step::Delete(rule) => netlink.delete_rule(rule).await?,
        }
    }
    Ok(())
}

/// Whether the rule comes before every rule for `local`.
fn is_ahead_of_local(rules: &[RuleMessage], rule: &impl Ahead) -> bool {
    let ours = rules.iter().position(|found| rule.is(found));
    let local = rules.iter().position(is_plain_local);
    match (ours, local) {
        (Some(ours), Some(local)) => ours < local,
        (ours, None) => ours.is_some(),
        (None, Some(_)) => false,
    }
}

/// The requests that place the rule before `local`, given the host's `rules` in the kernel's order. They also complete
/// what a killed daemon left half done.
///
/// Refuses if other programs' rules share the preference of `local` and come after it, because they would end
/// up before it.
pub fn plan(rules: &[RuleMessage], rule: &impl Ahead) -> Result<Vec<Step>, HostError> {
    if is_ahead_of_local(rules, rule) {
        return Ok(Vec::new());
    }
    let ours = rules.iter().position(|found| rule.is(found));
    let Some(first_local) = rules.iter().position(is_plain_local) else {
        return Ok(vec![Step::Add(rule.message(0))]);
    };
    let local = &rules[first_local];
    let local_preference = preference(local);
    if ours.is_none() && local_preference > 0 {
        return Ok(vec![Step::Add(rule.message(local_preference - 1))]);
    }
    let behind = rules[first_local..].iter().take_while(|rule| preference(rule) == local_preference);
    if let Some(stranger) = behind.clone().find(|r| !is_plain_local(r) && !TABLES.contains(&table(r))) {
        return Err(HostError::Refused(format!(
            "the rule for table {} at preference {local_preference} comes after the rule for `local`, and \
             capturing a local VIP would move it to the front: give it another preference (`ip rule`)",
            table(stranger)
        )));
    }
    let ours = ours.unwrap_or(usize::MAX);
    let is_behind_ours = |(index, rule): (usize, &RuleMessage)| index > ours && is_plain_local(rule);
    let mut steps = Vec::new();
    if ours == usize::MAX {
        steps.push(Step::Add(rule.message(local_preference)));
    }
    if !rules.iter().enumerate().any(is_behind_ours) {
        steps.push(Step::Add(with_preference(local)));
    }
    let locals_ahead = rules.iter().take(ours).filter(|rule| is_plain_local(rule));
    steps.extend(locals_ahead.map(|rule| Step::Delete(with_preference(rule))));
    Ok(steps)
}

/// The requests that remove the rule, and the second rule for `local` that a daemon leaves if it is killed while it places
/// the first.
pub fn removal(rules: &[RuleMessage], rule: &impl Ahead) -> Vec<Step> {
    let Some(ours) = rules.iter().position(|found| rule.is(found)) else {
        return Vec::new();
    };
    let is_copy = |rule: &&RuleMessage| is_plain_local(rule) && preference(rule) == preference(&rules[ours]);
    let is_ahead = rules[..ours].iter().any(|rule| is_copy(&rule));
    let copy = rules[ours..].iter().find(is_copy).filter(|_| is_ahead);
    let unneeded = std::iter::once(&rules[ours]).chain(copy);
    unneeded.map(|rule| Step::Delete(with_preference(rule))).collect()
}

/// The rule in `rules`, if it is in its place.
pub fn find_ahead<'a>(rules: &'a [RuleMessage], rule: &impl Ahead) -> Option<&'a RuleMessage> {
    find(rules, rule).filter(|_| is_ahead_of_local(rules, rule))
}

/// The rule in `rules`.
pub fn find<'a>(rules: &'a [RuleMessage], rule: &impl Ahead) -> Option<&'a RuleMessage> {
    rules.iter().find(|found| rule.is(found))
}

/// A rule with an explicit preference: the kernel's dump omits 0, and for a rule added without one the kernel
/// chooses a preference (fib_default_rule_pref()).
fn with_preference(rule: &RuleMessage) -> RuleMessage {
    let mut rule = rule.clone();
    if !rule.attributes.iter().any(|a| matches!(a, RuleAttribute::Priority(_))) {
        rule.attributes.push(RuleAttribute::Priority(0));
    }
    rule
}

/// The rule that looks up every packet in `local`.
pub fn is_plain_local(rule: &RuleMessage) -> bool {
    let selects = |a: &RuleAttribute| {
        matches!(
            a,
            RuleAttribute::Iifname(_)
                | RuleAttribute::Oifname(_)
                | RuleAttribute::FwMark(_)
                | RuleAttribute::UidRange(_)
                | RuleAttribute::IpProtocol(_)
                | RuleAttribute::SourcePortRange(_)
                | RuleAttribute::DestinationPortRange(_)
        )
    };
    table(rule) == TABLE_LOCAL
        && rule.header.action == RuleAction::ToTable
        && (rule.header.src_len, rule.header.dst_len, rule.header.tos) == (0, 0, 0)
        && !rule.attributes.iter().any(selects)
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::AddressFamily;

    use super::super::change::capture_rule::CaptureRule;
    use super::*;

    fn on(interface: &str) -> CaptureRule {
        CaptureRule { interface: interface.to_owned(), tun: 7 }
    }

    fn to_table(preference: u32, table: u32) -> RuleMessage {
        let mut rule = RuleMessage::default();
        rule.header.family = AddressFamily::Inet;
        rule.header.action = RuleAction::ToTable;
        rule.attributes = vec![RuleAttribute::Priority(preference), RuleAttribute::Table(table)];
        rule
    }

    /// The effect of the steps in the kernel.
    fn carried_out(mut rules: Vec<RuleMessage>, steps: Vec<Step>) -> Vec<RuleMessage> {
        for step in steps {
            match step {
                Step::Add(rule) => {
                    let place = rules.iter().position(|r| preference(r) > preference(&rule));
                    rules.insert(place.unwrap_or(rules.len()), rule);
                }
                Step::Delete(rule) => {
                    let place = rules.iter().position(|r| *r == rule).unwrap();
                    rules.remove(place);
                }
            }
            assert!(rules.iter().any(is_plain_local), "a moment without `local`");
        }
        rules
    }

    #[test]
    fn the_rule_comes_before_local_and_its_removal_restores_the_order() {
        let before = vec![to_table(0, 255), to_table(32766, 254)];
        let mut after = carried_out(before.clone(), plan(&before, &on("eth0")).unwrap());
        assert!(is_ahead_of_local(&after, &on("eth0")));
        assert_eq!(plan(&after, &on("eth0")).unwrap(), []);
        after.retain(|rule| !on("eth0").is(rule));
        assert_eq!(after, before);
    }

    #[test]
    fn the_copy_of_local_names_its_preference_although_the_dump_does_not() {
        let mut local = to_table(0, 255);
        local.attributes.retain(|a| !matches!(a, RuleAttribute::Priority(_)));
        for step in plan(&[local, to_table(32766, 254)], &on("eth0")).unwrap() {
            let (Step::Add(rule) | Step::Delete(rule)) = step;
            assert!(rule.attributes.contains(&RuleAttribute::Priority(0)), "{rule:?}");
        }
    }

    #[test]
    fn steps_that_a_killed_daemon_left_undone_are_completed() {
        let half = vec![to_table(0, 255), on("eth0").message(0), to_table(32766, 254)];
        let most = vec![to_table(0, 255), on("eth0").message(0), to_table(0, 255), to_table(32766, 254)];
        for left in [half, most] {
            let done = carried_out(left.clone(), plan(&left, &on("eth0")).unwrap());
            assert_eq!(done, [on("eth0").message(0), to_table(0, 255), to_table(32766, 254)]);
            let removed = carried_out(left.clone(), removal(&left, &on("eth0")));
            assert_eq!(removed, [to_table(0, 255), to_table(32766, 254)]);
        }
    }

    #[test]
    fn a_removal_leaves_the_rules_of_others_and_the_one_for_local() {
        let rules =
            vec![on("eth1").message(0), on("eth0").message(0), to_table(0, 255), to_table(32766, 254)];
        let left = carried_out(rules.clone(), removal(&rules, &on("eth0")));
        assert_eq!(left, [on("eth1").message(0), to_table(0, 255), to_table(32766, 254)]);
        assert_eq!(removal(&left, &on("eth0")), []);
        let apart = vec![to_table(0, 255), on("eth0").message(99), to_table(100, 255)];
        let left = carried_out(apart.clone(), removal(&apart, &on("eth0")));
        assert_eq!(left, [to_table(0, 255), to_table(100, 255)], "two that the operator has");
    }

    #[test]
    fn a_moved_local_rule_stays_where_it_is() {
        let rules = vec![to_table(50, 77), to_table(100, 255), to_table(32766, 254)];
        assert_eq!(plan(&rules, &on("eth0")).unwrap(), [Step::Add(on("eth0").message(99))]);
    }

    #[test]
    fn a_second_director_keeps_the_first_ones_rule() {
        let rules = vec![on("eth1").message(0), to_table(0, 255), to_table(32766, 254)];
        let done = carried_out(rules.clone(), plan(&rules, &on("eth0")).unwrap());
        assert!(is_ahead_of_local(&done, &on("eth0")) && is_ahead_of_local(&done, &on("eth1")));
    }

    #[test]
    fn another_programs_rule_after_local_is_not_moved() {
        let rules = vec![to_table(0, 255), to_table(0, 77)];
        let message = plan(&rules, &on("eth0")).unwrap_err().to_string();
        assert!(message.contains("table 77") && message.contains("ip rule"), "{message}");
    }
}
