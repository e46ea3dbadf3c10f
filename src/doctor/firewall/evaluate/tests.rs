//! Packets through chains that are written as `iptables-save` prints them.

use super::*;
use crate::doctor::firewall::iptables;

/// The verdict of FORWARD with these lines: "accepted", "unknown: …" or where it is dropped.
fn of(lines: &str, probe: &Probe) -> String {
    let text = format!("*filter\n:FORWARD ACCEPT [0:0]\n:own - [0:0]\n:deep - [0:0]\n{lines}\nCOMMIT\n");
    let chains = iptables::parse(&text, "iptables");
    match verdict(&chains, &[Hook::Prerouting, Hook::Forward], probe) {
        Verdict::Accepted => "accepted".into(),
        Verdict::Dropped(place) => place.words,
        Verdict::Unknown(why) => format!("unknown: {why}"),
    }
}

const DROPPED: &str = "iptables chain FORWARD of table filter";

#[test]
fn the_first_rule_that_holds_decides() {
    let rows = [
        ("", "accepted"),
        ("-A FORWARD -j DROP", "iptables chain FORWARD of table filter (-A FORWARD -j DROP)"),
        ("-A FORWARD -j REJECT --reject-with icmp-port-unreachable", DROPPED),
        ("-A FORWARD -i eth0 -o lvsd0 -j ACCEPT\n-A FORWARD -j DROP", "accepted"),
        ("-A FORWARD -i eth1 -j ACCEPT\n-A FORWARD -j DROP", DROPPED),
        ("-A FORWARD -o lvs+ -j ACCEPT\n-A FORWARD -j DROP", "accepted"),
        ("-A FORWARD -o docker+ -j ACCEPT\n-A FORWARD -j DROP", DROPPED),
        ("-A FORWARD ! -i eth0 -j DROP", "accepted"),
        ("-A FORWARD ! -i eth1 -j DROP", DROPPED),
        ("-A FORWARD -d 172.25.3.0/24 -j DROP", DROPPED),
        ("-A FORWARD -d 172.25.4.0/24 -j DROP", "accepted"),
        ("-A FORWARD -p tcp -m tcp --dport 80:90 -j DROP", DROPPED),
        ("-A FORWARD -p tcp -m tcp --dport 81:90 -j DROP", "accepted"),
        ("-A FORWARD -p tcp -m tcp --dport 70:80 -j DROP", DROPPED),
        ("-A FORWARD -p tcp -m tcp --dport 70:79 -j DROP", "accepted"),
        ("-A FORWARD -j RETURN\n-A FORWARD -j DROP", "accepted"),
        ("-A FORWARD -i eth0\n-A FORWARD -j DROP", DROPPED),
        ("-A FORWARD -p udp -j DROP", "accepted"),
        ("-A FORWARD -j LOG\n-A FORWARD -j MARK --set-mark 1", "accepted"),
    ];
    for (lines, expected) in rows {
        let found = of(lines, &Probe::new_web_connection());
        assert!(found.starts_with(expected), "{lines}: {found}");
    }
}

#[test]
fn the_policy_decides_where_no_rule_holds() {
    let text = "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n";
    let chains = iptables::parse(text, "iptables");
    let Verdict::Dropped(place) = verdict(&chains, &[Hook::Forward], &Probe::new_web_connection()) else {
        panic!("not dropped")
    };
    assert_eq!(place.words, "iptables chain FORWARD of table filter (its policy)");
    assert_eq!(place.listing, "iptables -t filter -S FORWARD");
    assert_eq!(verdict(&chains, &[Hook::Input], &Probe::new_web_connection()), Verdict::Accepted);
}

#[test]
fn a_jump_returns_and_a_goto_does_not() {
    let rows = [
        ("-A FORWARD -j own\n-A own -j DROP", "iptables chain own of table filter (-A own -j DROP)"),
        ("-A FORWARD -j own\n-A own -j ACCEPT\n-A FORWARD -j DROP", "accepted"),
        ("-A FORWARD -j own\n-A own -j RETURN\n-A own -j DROP", "accepted"),
        ("-A FORWARD -j own\n-A own -p udp -j ACCEPT\n-A FORWARD -j DROP", DROPPED),
        ("-A FORWARD -g own\n-A FORWARD -j DROP", "accepted"),
        ("-A FORWARD -j own\n-A own -j deep\n-A deep -j DROP", "iptables chain deep"),
        ("-A FORWARD -j CT --notrack\n-A FORWARD -j DROP", DROPPED),
        // A circle, which the kernel refuses, ends.
        ("-A FORWARD -j own\n-A own -j own", "accepted"),
    ];
    for (lines, expected) in rows {
        let found = of(lines, &Probe::new_web_connection());
        assert!(found.starts_with(expected), "{lines}: {found}");
    }
}

#[test]
fn chains_call_those_of_their_own_table() {
    let text = "*mangle\n:own - [0:0]\n-A own -j DROP\n*filter\n:FORWARD ACCEPT [0:0]\n:own - [0:0]\n-A FORWARD -j own\n";
    assert_eq!(
        verdict(&iptables::parse(text, "iptables"), &[Hook::Forward], &Probe::new_web_connection()),
        Verdict::Accepted
    );
}

#[test]
fn sixteen_jumps_are_followed_as_the_kernel_does() {
    let last = |jumps: usize| {
        let mut text = "*filter\n:FORWARD ACCEPT [0:0]\n".to_owned();
        (1..=jumps).for_each(|level| text.push_str(&format!(":level{level} - [0:0]\n")));
        text.push_str("-A FORWARD -j level1\n");
        (1..jumps).for_each(|level| text.push_str(&format!("-A level{level} -j level{}\n", level + 1)));
        text.push_str(&format!("-A level{jumps} -j DROP\n"));
        verdict(&iptables::parse(&text, "iptables"), &[Hook::Forward], &Probe::new_web_connection())
    };
    assert!(matches!(last(16), Verdict::Dropped(_)));
    assert_eq!(last(17), Verdict::Accepted);
}

#[test]
fn one_of_several_prefixes_is_enough() {
    let dropped = |of: Match, source: Option<Ipv4Addr>| {
        let rule = Rule { conditions: vec![Condition::is(of)], effect: Effect::Drop, name: "rule".into() };
        let chain = Chain {
            table: Table::Nft { family: "ip".into(), name: "filter".into() },
            name: "forward".into(),
            hook: Some(Hook::Forward),
            priority: 0,
            policy: Effect::Accept,
            rules: vec![rule],
        };
        match verdict(&[chain], &[Hook::Forward], &Probe { source, ..Probe::new_web_connection() }) {
            Verdict::Accepted => "no",
            Verdict::Dropped(_) => "yes",
            Verdict::Unknown(_) => "maybe",
        }
    };
    let nets = |words: [&str; 2]| words.map(|word| word.parse().unwrap()).to_vec();
    let client = Some(Ipv4Addr::new(10, 0, 0, 1));
    let sources = || Match::Source(nets(["192.168.0.0/16", "10.0.0.0/8"]));
    assert_eq!((dropped(sources(), client), dropped(sources(), None)), ("yes", "maybe"));
    assert_eq!(dropped(sources(), Some(Ipv4Addr::new(11, 0, 0, 1))), "no");
    assert_eq!(dropped(Match::Source(nets(["192.168.0.0/16", "0.0.0.0/0"])), None), "yes");
    assert_eq!(dropped(Match::Destination(nets(["172.25.3.0/24", "10.0.0.0/8"])), None), "yes");
}

#[test]
fn a_condition_that_cannot_be_evaluated_matters_only_if_it_decides() {
    let rows = [
        ("-A FORWARD -m set --match-set bad src -j DROP", "unknown: -A FORWARD -m set"),
        ("-A FORWARD -m set --match-set good src -j ACCEPT\n-A FORWARD -j DROP", "unknown: -A FORWARD"),
        ("-A FORWARD -m set --match-set good src -j ACCEPT", "accepted"),
        ("-A FORWARD -m set --match-set bad src -j DROP\n-A FORWARD -j DROP", DROPPED),
        ("-A FORWARD -m set --match-set x src -j LOG", "accepted"),
        ("-A FORWARD -i eth1 -m set --match-set bad src -j DROP", "accepted"),
        ("-A FORWARD -s 10.0.0.0/8 -j DROP", "unknown: -A FORWARD -s"),
        ("-A FORWARD -s 0.0.0.0/0 -j DROP", DROPPED),
        ("-A FORWARD -j TARPIT", "unknown: -A FORWARD -j TARPIT"),
        ("-A FORWARD -m set --match-set x src -j own\n-A own -j DROP", "unknown: -A FORWARD -m set"),
        (
            "-A FORWARD -j own\n-A own -p udp -j DROP\n-A FORWARD -m set --match-set x src -j DROP",
            "unknown: -A FORWARD -m set",
        ),
        (
            "-A FORWARD -m set --match-set x src -j own\n-A own -p udp -j DROP\n-A FORWARD -m mark --mark 1 -j DROP",
            "unknown: -A FORWARD -m mark",
        ),
        ("-A FORWARD -m set --match-set x src -g own\n-A FORWARD -j DROP", "unknown: -A FORWARD -m set"),
        ("-A FORWARD -m set --match-set x src -j own\n-A own -p udp -j DROP", "accepted"),
    ];
    for (lines, expected) in rows {
        let found = of(lines, &Probe::new_web_connection());
        assert!(found.starts_with(expected), "{lines}: {found}");
    }
}

#[test]
fn connection_tracking_sees_new_and_invalid_packets() {
    let stateful = "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
                    -A FORWARD -m conntrack --ctstate INVALID -j DROP";
    let invalid = Probe { state: State::Invalid, ..Probe::new_web_connection() };
    assert_eq!(of(stateful, &Probe::new_web_connection()), "accepted");
    assert!(of(stateful, &invalid).starts_with(DROPPED));
    let untracked = format!(
        "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -i eth0 -j CT --notrack\nCOMMIT\n\
         *filter\n:FORWARD ACCEPT [0:0]\n{stateful}\nCOMMIT\n"
    );
    let chains = iptables::parse(&untracked, "iptables");
    assert_eq!(verdict(&chains, &[Hook::Prerouting, Hook::Forward], &invalid), Verdict::Accepted);
    let other = Probe { input: Some("eth1".into()), ..invalid.clone() };
    assert_ne!(verdict(&chains, &[Hook::Prerouting, Hook::Forward], &other), Verdict::Accepted);
    // A packet that may be untracked may be dropped; a second rule makes that certain.
    let untracked = |lines: &str| {
        let lines: String = lines.lines().map(|line| format!("-A FORWARD {line}\n")).collect();
        of(&format!("{lines}-A FORWARD -m conntrack --ctstate INVALID -j DROP"), &invalid)
    };
    assert!(untracked("-s 10.0.0.0/8 -j NOTRACK").starts_with("unknown: -A FORWARD -m conntrack"));
    assert_eq!(untracked("-j NOTRACK\n-s 10.0.0.0/8 -j NOTRACK"), "accepted");
    assert_eq!(untracked("-s 10.0.0.0/8 -j NOTRACK\n-j NOTRACK"), "accepted");
    let both = "-A FORWARD -s 10.0.0.0/8 -j NOTRACK\n-A FORWARD -m state --state INVALID,UNTRACKED -j DROP";
    assert!(of(both, &invalid).starts_with(DROPPED));
}

#[test]
fn every_chain_of_a_hook_must_accept_by_priority() {
    let chain = |name: &str, priority, policy| Chain {
        table: Table::Nft { family: "inet".into(), name: "filter".into() },
        name: name.into(),
        hook: Some(Hook::Forward),
        priority,
        policy,
        rules: Vec::new(),
    };
    let chains = [
        chain("late", 10, Effect::Drop),
        chain("early", 0, Effect::Drop),
        chain("first", -5, Effect::Accept),
    ];
    let Verdict::Dropped(place) = verdict(&chains, &[Hook::Forward], &Probe::new_web_connection()) else {
        panic!("not dropped")
    };
    assert_eq!(place.words, "nftables chain inet filter early (its policy)");
    assert_eq!(place.listing, "nft -a list chain inet filter early");
    assert_eq!(place.chain, "early");
}

#[test]
fn a_protocol_without_ports_matches_no_port() {
    let ipip = Probe { protocol: 4, port: None, ..Probe::new_web_connection() };
    assert_eq!(of("-A FORWARD -p tcp -m tcp --dport 1:65535 -j DROP", &ipip), "accepted");
    assert!(of("-A FORWARD -p ipencap -j DROP", &ipip).starts_with(DROPPED));
    assert!(of("-A FORWARD -p 4 -j DROP", &ipip).starts_with(DROPPED));
}
