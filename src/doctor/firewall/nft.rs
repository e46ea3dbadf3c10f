//! The output of `nft -j list ruleset` (libnftables-json(5)).

use std::collections::HashMap;

use serde_json::Value;

use super::rules::{Chain, Condition, Effect, Hook, Match, Rule, Table, prefix, protocol};

/// Elements of named sets, by family, table and name.
type Sets = HashMap<(String, String, String), Vec<Value>>;

/// What the listing contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Chains that IPv4 packets may pass, but those of type `nat`.
    pub chains: Vec<Chain>,
    /// Rules of iptables that nft cannot show as its own: the table is one of [`super::iptables`].
    pub has_iptables: bool,
}

/// # Errors
/// It is no such listing.
pub fn parse(text: &str) -> Result<Listing, String> {
    let whole: Value = serde_json::from_str(text).map_err(|error| format!("nft printed no JSON: {error}"))?;
    let objects = whole["nftables"].as_array().ok_or("nft printed no list of objects")?;
    let mut listing = Listing::default();
    let mut sets = Sets::new();
    let of = |kind: &'static str| objects.iter().filter_map(move |object| object.get(kind));
    for set in of("set") {
        let elements = set["elem"].as_array().cloned().unwrap_or_default();
        sets.insert((word(set, "family"), word(set, "table"), word(set, "name")), elements);
    }
    listing.chains.extend(of("chain").filter_map(chain));
    for object in of("rule") {
        let table = Table::Nft { family: word(object, "family"), name: word(object, "table") };
        let name = word(object, "chain");
        let chain = listing.chains.iter_mut().find(|chain| chain.table == table && chain.name == name);
        let Some(chain) = chain else { continue };
        let statements = object["expr"].as_array().map(Vec::as_slice).unwrap_or_default();
        listing.has_iptables |= statements.iter().any(|statement| statement.get("xt").is_some());
        chain.rules.extend(rules(object, statements, &sets));
    }
    Ok(listing)
}

fn word(object: &Value, key: &str) -> String {
    object[key].as_str().unwrap_or_default().to_owned()
}

fn chain(object: &Value) -> Option<Chain> {
    let family = word(object, "family");
    if !matches!(family.as_str(), "ip" | "inet") || object["type"] == "nat" {
        return None;
    }
    Some(Chain {
        table: Table::Nft { family, name: word(object, "table") },
        name: word(object, "name"),
        hook: object["hook"].as_str().and_then(Hook::of),
        priority: object["prio"].as_i64().unwrap_or_default(),
        policy: if object["policy"] == "drop" { Effect::Drop } else { Effect::Accept },
        rules: Vec::new(),
    })
}

/// One rule, or several: a verdict map is as many rules as it has elements.
fn rules(object: &Value, statements: &[Value], sets: &Sets) -> Vec<Rule> {
    let name = format!("rule with handle {}", object["handle"]);
    let scope = (word(object, "family"), word(object, "table"));
    let named = |set: &str| sets.get(&(scope.0.clone(), scope.1.clone(), set.to_owned())).cloned();
    let mut conditions = Vec::new();
    let mut rules = Vec::new();
    for statement in statements {
        let Some((kind, body)) = statement.as_object().and_then(|map| map.iter().next()) else { continue };
        match kind.as_str() {
            "match" => conditions.extend(matched(body, &named)),
            "limit" | "quota" | "ct count" => conditions.push(Condition::is(Match::Unknown)),
            "vmap" => rules.extend(mapped(body, &conditions, &name)),
            kind => {
                let effect = effect(kind, body);
                rules.push(Rule { conditions: conditions.clone(), effect, name: name.clone() });
            }
        }
    }
    rules
}

fn effect(kind: &str, body: &Value) -> Effect {
    let target = || body["target"].as_str().unwrap_or_default().to_owned();
    match kind {
        "accept" => Effect::Accept,
        "drop" | "reject" => Effect::Drop,
        "return" => Effect::Return,
        "notrack" => Effect::Untrack,
        "jump" => Effect::Jump(target()),
        "goto" => Effect::Goto(target()),
        "xt" | "queue" | "tproxy" | "fwd" | "synproxy" => Effect::Unknown,
        _ => Effect::Nothing,
    }
}

fn mapped(body: &Value, before: &[Condition], name: &str) -> Vec<Rule> {
    let Some(elements) = body["data"]["set"].as_array() else {
        let effect = Effect::Unknown;
        return vec![Rule { conditions: before.to_vec(), effect, name: name.to_owned() }];
    };
    let rule = |element: &Value| {
        let (value, verdict) = (element.get(0)?, element.get(1)?);
        let (kind, target) = verdict.as_object()?.iter().next()?;
        let mut conditions = before.to_vec();
        conditions.extend(compared(&body["key"], value, false, &|_| None));
        Some(Rule { conditions, effect: effect(kind, target), name: name.to_owned() })
    };
    elements.iter().filter_map(rule).collect()
}

fn matched(body: &Value, named: &dyn Fn(&str) -> Option<Vec<Value>>) -> Vec<Condition> {
    match body["op"].as_str() {
        Some("==" | "in") => compared(&body["left"], &body["right"], false, named),
        Some("!=") => compared(&body["left"], &body["right"], true, named),
        _ => vec![Condition::is(Match::Unknown)],
    }
}

/// What `left` must be among.
fn compared(
    left: &Value,
    right: &Value,
    is_negated: bool,
    named: &dyn Fn(&str) -> Option<Vec<Value>>,
) -> Vec<Condition> {
    let of = values(right, named).map_or(Match::Unknown, |values| compared_with(left, &values));
    let mut conditions = implied(left);
    conditions.push(Condition { is_negated, of });
    conditions
}

/// What nft requires in addition to what it shows: `tcp dport` holds for TCP only.
fn implied(left: &Value) -> Vec<Condition> {
    let of = match left["payload"]["protocol"].as_str() {
        Some("ip6") => Match::Constant(false),
        Some("icmpv6") => Match::Protocol(vec![58]),
        Some(name @ ("tcp" | "udp" | "icmp" | "sctp")) => {
            Match::Protocol(protocol(name).into_iter().collect())
        }
        _ => return Vec::new(),
    };
    vec![Condition::is(of)]
}

/// The single values; `None` if a set is not known.
fn values(right: &Value, named: &dyn Fn(&str) -> Option<Vec<Value>>) -> Option<Vec<Value>> {
    let elements = match right {
        Value::String(name) if name.starts_with('@') => named(&name[1..])?,
        Value::Array(values) => values.clone(),
        other => match other.get("set") {
            Some(Value::Array(values)) => values.clone(),
            Some(single) => vec![single.clone()],
            None => vec![other.clone()],
        },
    };
    // An element with a timeout or comment.
    Some(elements.into_iter().map(|value| value["elem"].get("val").cloned().unwrap_or(value)).collect())
}

fn compared_with(left: &Value, values: &[Value]) -> Match {
    let texts = || values.iter().map(|value| value.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
    let prefixes = || values.iter().map(prefix_of).collect::<Option<Vec<_>>>();
    let protocols = || values.iter().map(protocol_of).collect::<Option<Vec<_>>>();
    let of = match left["meta"]["key"].as_str() {
        Some("iif" | "iifname") => texts().map(Match::InputInterface),
        Some("oif" | "oifname") => texts().map(Match::OutputInterface),
        Some("l4proto") => protocols().map(Match::Protocol),
        Some("nfproto") => texts().map(|names| Match::Constant(names.iter().any(|name| name == "ipv4"))),
        Some("protocol") => texts().map(|names| Match::Constant(names.iter().any(|name| name == "ip"))),
        _ => None,
    };
    let of = of.or_else(|| match left["payload"]["field"].as_str()? {
        "saddr" => prefixes().map(Match::Source),
        "daddr" => prefixes().map(Match::Destination),
        "protocol" => protocols().map(Match::Protocol),
        "dport" => values.iter().map(ports_of).collect::<Option<_>>().map(Match::DestinationPort),
        _ => None,
    });
    let is_state = left["ct"]["key"] == "state";
    of.or_else(|| texts().filter(|_| is_state).map(Match::State)).unwrap_or(Match::Unknown)
}

fn prefix_of(value: &Value) -> Option<ipnet::Ipv4Net> {
    match value.get("prefix") {
        Some(net) => prefix(&format!("{}/{}", net["addr"].as_str()?, net["len"])),
        None => prefix(value.as_str()?),
    }
}

fn protocol_of(value: &Value) -> Option<u8> {
    match value {
        Value::Number(number) => number.as_u64().and_then(|number| number.try_into().ok()),
        value => protocol(value.as_str()?),
    }
}

fn ports_of(value: &Value) -> Option<(u16, u16)> {
    let port = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
    match value.get("range") {
        Some(range) => Some((port(&range[0])?, port(&range[1])?)),
        None => port(value).map(|port| (port, port)),
    }
}

#[cfg(test)]
mod tests {

    use serde_json::json;

    use super::super::{Firewall, Probe, Verdict};
    use super::*;

    /// A listing with one forward chain of a table `inet filter`, and a chain `own`.
    fn listing(policy: &str, rules: &[Value]) -> Listing {
        let mut objects = vec![
            json!({"metainfo": {"version": "1.0.6"}}),
            json!({"set": {"family": "inet", "table": "filter", "name": "ours",
                "elem": ["10.0.0.1", {"elem": {"val": "172.25.3.100", "timeout": 5}}]}}),
            json!({"chain": {"family": "ip", "table": "filter", "name": "forward", "type": "filter", "hook": "input",
                "prio": 0, "policy": "accept"}}),
            json!({"chain": {"family": "inet", "table": "filter", "name": "forward", "type": "filter",
                "hook": "forward", "prio": -5, "policy": policy}}),
            json!({"chain": {"family": "inet", "table": "filter", "name": "own"}}),
            json!({"chain": {"family": "ip6", "table": "filter", "name": "six", "hook": "forward", "policy": "drop"}}),
            json!({"chain": {"family": "ip", "table": "nat", "name": "nat", "type": "nat", "hook": "forward",
                "policy": "drop"}}),
        ];
        objects.extend(rules.iter().map(|expr| {
            json!({"rule": {"family": "inet", "table": "filter", "chain": "forward", "handle": 7, "expr": expr}})
        }));
        let drop = json!([{"drop": null}]);
        objects.push(
            json!({"rule": {"family": "inet", "table": "filter", "chain": "own", "handle": 8, "expr": drop}}),
        );
        parse(&json!({"nftables": objects}).to_string()).unwrap()
    }

    fn fate(policy: &str, expr: Value) -> &'static str {
        fate_of(policy, &[expr])
    }

    fn fate_of(policy: &str, rules: &[Value]) -> &'static str {
        let probe = Probe::new_web_connection();
        match Firewall::Rules(listing(policy, rules).chains).verdict(&[Hook::Forward], &probe) {
            Verdict::Accepted => "accepted",
            Verdict::Dropped(_) => "dropped",
            Verdict::Unknown(_) => "unknown",
        }
    }

    fn compare(op: &str, left: Value, right: Value) -> Value {
        json!({"match": {"op": op, "left": left, "right": right}})
    }

    #[test]
    fn a_match_is_read_with_its_operator_and_value() {
        let meta = |key: &str| json!({"meta": {"key": key}});
        let payload =
            |protocol: &str, field: &str| json!({"payload": {"protocol": protocol, "field": field}});
        let state = json!({"ct": {"key": "state"}});
        let rows = [
            (compare("==", meta("iifname"), json!("eth0")), true),
            (compare("==", meta("iif"), json!("eth1")), false),
            (compare("!=", meta("iifname"), json!("eth1")), true),
            (compare("==", meta("oifname"), json!("lvs*")), true),
            (compare("==", meta("oif"), json!({"set": ["docker0", "lvsd0"]})), true),
            (compare("==", meta("l4proto"), json!({"set": ["udp", "tcp"]})), true),
            (compare("==", meta("l4proto"), json!("ipencap")), false),
            (compare("==", meta("l4proto"), json!(6)), true),
            (compare("==", meta("nfproto"), json!("ipv6")), false),
            (compare("==", meta("nfproto"), json!({"set": ["ipv6", "ipv4"]})), true),
            (compare("==", meta("protocol"), json!("ip")), true),
            (compare("==", meta("protocol"), json!("ip6")), false),
            (compare("==", meta("protocol"), json!({"set": ["ip6", "ip"]})), true),
            (compare("==", payload("ip", "saddr"), json!({"prefix": {"addr": "0.0.0.0", "len": 0}})), true),
            (compare("==", payload("ip", "daddr"), json!("172.25.3.100")), true),
            (
                compare("==", payload("ip", "daddr"), json!({"prefix": {"addr": "172.25.3.0", "len": 24}})),
                true,
            ),
            (
                compare("==", payload("ip", "daddr"), json!({"prefix": {"addr": "172.25.4.0", "len": 24}})),
                false,
            ),
            (compare("==", payload("ip", "daddr"), json!("@ours")), true),
            (compare("==", payload("ip6", "daddr"), json!("::1")), false),
            (compare("==", payload("ip", "protocol"), json!("tcp")), true),
            (compare("==", payload("tcp", "dport"), json!(80)), true),
            (compare("==", payload("tcp", "dport"), json!({"set": [22, {"range": [79, 81]}]})), true),
            (compare("==", payload("tcp", "dport"), json!({"range": [81, 90]})), false),
            (compare("!=", payload("tcp", "dport"), json!(80)), false),
            (compare("==", payload("th", "dport"), json!(80)), true),
            (compare("==", payload("udp", "dport"), json!(80)), false),
            (compare("!=", payload("udp", "dport"), json!(80)), false),
            (compare("==", payload("icmp", "type"), json!("echo-request")), false),
            (
                compare(
                    "==",
                    payload("icmp", "type"),
                    json!({"set": ["destination-unreachable", "echo-request"]}),
                ),
                false,
            ),
            (compare("==", payload("icmpv6", "type"), json!("echo-request")), false),
            (compare("in", state.clone(), json!(["established", "new"])), true),
            (compare("in", state.clone(), json!("invalid")), false),
            (compare("==", state, json!({"set": ["new"]})), true),
        ];
        for (condition, holds) in rows {
            let expected = if holds { "dropped" } else { "accepted" };
            let words = condition.to_string();
            assert_eq!(
                fate("accept", json!([condition, {"counter": {}}, {"drop": null}])),
                expected,
                "{words}"
            );
        }
    }

    #[test]
    fn what_cannot_be_evaluated_is_unknown() {
        let rows = [
            compare("==", json!({"meta": {"key": "mark"}}), json!(1)),
            compare("==", json!({"payload": {"protocol": "ip", "field": "daddr"}}), json!("@theirs")),
            compare("==", json!({"payload": {"protocol": "ip", "field": "saddr"}}), json!("10.0.0.1")),
            compare("<", json!({"payload": {"protocol": "tcp", "field": "dport"}}), json!(1000)),
            compare("in", json!({"ct": {"key": "status"}}), json!("new")),
            json!({"limit": {"rate": 5}}),
            json!({"quota": {"val": 5}}),
            json!({"ct count": {"val": 5}}),
            json!({"xt": {"type": "match", "name": "conntrack"}}),
        ];
        for condition in rows {
            let words = condition.to_string();
            assert_eq!(fate("accept", json!([condition, {"drop": null}])), "unknown", "{words}");
        }
        for kind in ["xt", "queue", "tproxy", "fwd", "synproxy"] {
            assert_eq!(fate("accept", json!([{(kind): {}}])), "unknown", "{kind}");
        }
        assert_eq!(fate("accept", json!([{"vmap": {"key": {}, "data": "@map"}}])), "unknown");
    }

    #[test]
    fn verdicts_maps_and_policies_decide() {
        assert_eq!(fate("drop", json!([])), "dropped");
        assert_eq!(fate("drop", json!([{"accept": null}])), "accepted");
        assert_eq!(fate("drop", json!([{"log": null}, {"return": null}])), "dropped");
        assert_eq!(fate_of("accept", &[json!([{"return": null}]), json!([{"drop": null}])]), "accepted");
        let untracked = compare("==", json!({"ct": {"key": "state"}}), json!("untracked"));
        let rules = [json!([{"notrack": null}]), json!([untracked, {"accept": null}])];
        assert_eq!((fate_of("drop", &rules), fate_of("drop", &rules[1..])), ("accepted", "dropped"));
        assert_eq!(fate("accept", json!([{"reject": {"type": "tcp reset"}}])), "dropped");
        assert_eq!(fate("accept", json!([{"jump": {"target": "own"}}])), "dropped");
        assert_eq!(fate("accept", json!([{"goto": {"target": "own"}}])), "dropped");
        let map = |new: &str| {
            let data = json!({"set": [["invalid", {"accept": null}], ["new", {(new): {"target": "own"}}]]});
            json!([{"vmap": {"key": {"ct": {"key": "state"}}, "data": data}}])
        };
        assert_eq!(fate("accept", map("jump")), "dropped");
        assert_eq!(fate("drop", map("accept")), "accepted");
    }

    #[test]
    fn rules_of_iptables_are_noticed() {
        assert!(!listing("accept", &[json!([{"drop": null}])]).has_iptables);
        let mark = json!({"xt": {"type": "match", "name": "mark"}});
        let found = listing("accept", &[json!([mark, {"drop": null}])]);
        assert!(found.has_iptables);
        let rules: Vec<_> =
            found.chains.iter().map(|chain| (chain.name.as_str(), chain.rules.len())).collect();
        assert_eq!(rules, [("forward", 0), ("forward", 2), ("own", 1)]);
        assert!(parse("").unwrap_err().starts_with("nft printed no JSON"));
        assert!(parse("{}").unwrap_err().starts_with("nft printed no list"));
    }
}
