//! Follows a packet through the chains.

use std::net::Ipv4Addr;

use super::rules::{Chain, Condition, Effect, Hook, Match, Rule, Table};

/// Chains may jump 16 levels deep (NFT_JUMP_STACK_SIZE).
const DEPTH_MAX: usize = 16;

/// The packet, as far as rules look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub input: Option<String>,
    pub output: Option<String>,
    /// `None`: any client.
    pub source: Option<Ipv4Addr>,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    /// `None`: the protocol has no ports.
    pub port: Option<u16>,
    pub state: State,
}

/// What connection tracking makes of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    New,
    Invalid,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            State::New => "new",
            State::Invalid => "invalid",
        }
    }
}

/// The fate of the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    Dropped(Place),
    /// Why it cannot be determined, in words.
    Unknown(String),
}

/// Whether a condition or rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Yes,
    No,
    Maybe,
}

/// How a chain ends for the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Accept,
    Drop(Place),
    /// Back to the chain that called this one, or on to the policy.
    Return,
}

/// A rule, or the policy, of one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The chain and the rule, as in a sentence.
    pub words: String,
    /// The command that lists the chain.
    pub listing: String,
    pub table: Table,
    pub chain: String,
    /// Where the kernel came from.
    pub hook: Hook,
}

/// The walk of one packet: what may happen to it, and what made that uncertain.
struct Walk<'a> {
    chains: &'a [Chain],
    probe: &'a Probe,
    hook: Hook,
    is_untracked: bool,
    doubt: Option<String>,
}

/// The fate of a packet that passes these hooks in this order.
pub fn verdict(chains: &[Chain], hooks: &[Hook], probe: &Probe) -> Verdict {
    let mut walk = Walk { chains, probe, hook: Hook::Prerouting, is_untracked: false, doubt: None };
    let mut may_drop = None;
    for hook in hooks {
        walk.hook = *hook;
        let mut called: Vec<&Chain> = chains.iter().filter(|chain| chain.hook == Some(*hook)).collect();
        called.sort_by_key(|chain| chain.priority);
        for chain in called {
            let ends = walk.base(chain);
            let drops = |end: &End| if let End::Drop(place) = end { Some(place.clone()) } else { None };
            let dropped = ends.iter().find_map(drops);
            let is_certain = ends.iter().all(|end| drops(end).is_some());
            match dropped {
                Some(place) if is_certain => {
                    return Verdict::Dropped(place);
                }
                Some(_) => may_drop = may_drop.or(walk.doubt.take()),
                None => walk.doubt = None,
            }
        }
    }
    may_drop.map_or(Verdict::Accepted, Verdict::Unknown)
}

impl Walk<'_> {
    /// All ways in which a base chain may end: accepted or dropped.
    fn base(&mut self, chain: &Chain) -> Vec<End> {
        let mut ends = self.chain(chain, 0);
        for end in &mut ends {
            if *end == End::Return {
                *end = match chain.policy {
                    Effect::Drop => End::Drop(self.place(chain, "its policy")),
                    _ => End::Accept,
                };
            }
        }
        ends
    }

    fn chain(&mut self, chain: &Chain, depth: usize) -> Vec<End> {
        let mut ends = Vec::new();
        for rule in &chain.rules {
            let holds = self.holds(rule);
            if holds == Holds::No || rule.effect == Effect::Nothing {
                continue;
            }
            let (taken, continues) = self.effect(chain, rule, holds, depth);
            if holds == Holds::Maybe && !taken.is_empty() {
                self.doubt.get_or_insert_with(|| format!("{} of {}", rule.name, chain.words()));
            }
            ends.extend(taken);
            if holds == Holds::Yes && !continues {
                return ends;
            }
        }
        ends.push(End::Return);
        ends
    }

    /// How the packet may end if the rule holds, and whether the next rule may follow all the same.
    fn effect(&mut self, chain: &Chain, rule: &Rule, holds: Holds, depth: usize) -> (Vec<End>, bool) {
        match &rule.effect {
            Effect::Nothing => (Vec::new(), true),
            Effect::Accept => (vec![End::Accept], false),
            Effect::Drop => (vec![End::Drop(self.place(chain, &rule.name))], false),
            Effect::Return => (vec![End::Return], false),
            Effect::Untrack => {
                self.is_untracked |= holds == Holds::Yes;
                (Vec::new(), true)
            }
            Effect::Unknown => {
                self.doubt.get_or_insert_with(|| format!("{} of {}", rule.name, chain.words()));
                (vec![End::Accept, End::Drop(self.place(chain, &rule.name))], true)
            }
            Effect::Jump(name) => {
                let mut ends = self.called(chain, name, depth);
                let returns = ends.contains(&End::Return);
                ends.retain(|end| *end != End::Return);
                (ends, returns)
            }
            Effect::Goto(name) => (self.called(chain, name, depth), false),
        }
    }

    /// The ends of the chain of this name in the same table.
    fn called(&mut self, from: &Chain, name: &str, depth: usize) -> Vec<End> {
        let is_it = |chain: &&Chain| chain.table == from.table && chain.name == name;
        match self.chains.iter().find(is_it) {
            Some(chain) if depth < DEPTH_MAX => self.chain(chain, depth + 1),
            _ => vec![End::Return],
        }
    }

    fn place(&self, chain: &Chain, rule: &str) -> Place {
        Place {
            words: format!("{} ({rule})", chain.words()),
            listing: chain.listing(),
            table: chain.table.clone(),
            chain: chain.name.clone(),
            hook: self.hook,
        }
    }

    fn holds(&self, rule: &Rule) -> Holds {
        let mut whole = Holds::Yes;
        for condition in &rule.conditions {
            match self.condition(condition) {
                Holds::No => return Holds::No,
                Holds::Maybe => whole = Holds::Maybe,
                Holds::Yes => {}
            }
        }
        whole
    }

    fn condition(&self, condition: &Condition) -> Holds {
        let holds = match self.is_among(&condition.of) {
            Some(is_among) => is_among != condition.is_negated,
            None => return Holds::Maybe,
        };
        if holds { Holds::Yes } else { Holds::No }
    }

    /// `None` if that cannot be determined.
    fn is_among(&self, of: &Match) -> Option<bool> {
        let probe = self.probe;
        let named = |names: &[String], name: Option<&str>| {
            name.is_some_and(|name| names.iter().any(|pattern| is_named(pattern, name)))
        };
        match of {
            Match::InputInterface(names) => Some(named(names, probe.input.as_deref())),
            Match::OutputInterface(names) => Some(named(names, probe.output.as_deref())),
            Match::Source(prefixes) => match probe.source {
                Some(source) => Some(prefixes.iter().any(|prefix| prefix.contains(&source))),
                None => prefixes.iter().any(|prefix| prefix.prefix_len() == 0).then_some(true),
            },
            Match::Destination(prefixes) => {
                Some(prefixes.iter().any(|prefix| prefix.contains(&probe.destination)))
            }
            Match::Protocol(numbers) => Some(numbers.contains(&probe.protocol)),
            Match::DestinationPort(ranges) => Some(
                probe
                    .port
                    .is_some_and(|port| ranges.iter().any(|(first, last)| *first <= port && port <= *last)),
            ),
            Match::State(names) => {
                let state = if self.is_untracked { "untracked" } else { probe.state.name() };
                Some(names.iter().any(|name| name == state))
            }
            Match::Constant(holds) => Some(*holds),
            Match::Unknown => None,
        }
    }
}

fn is_named(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::super::iptables;
    use super::*;

    fn probe() -> Probe {
        Probe {
            input: Some("eth0".into()),
            output: Some("lvsd0".into()),
            source: None,
            destination: Ipv4Addr::new(172, 25, 3, 100),
            protocol: 6,
            port: Some(80),
            state: State::New,
        }
    }

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
            ("-A FORWARD -p udp -j DROP", "accepted"),
            ("-A FORWARD -j LOG\n-A FORWARD -j MARK --set-mark 1", "accepted"),
        ];
        for (lines, expected) in rows {
            let found = of(lines, &probe());
            assert!(found.starts_with(expected), "{lines}: {found}");
        }
    }

    #[test]
    fn the_policy_decides_where_no_rule_holds() {
        let text = "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n";
        let chains = iptables::parse(text, "iptables");
        let Verdict::Dropped(place) = verdict(&chains, &[Hook::Forward], &probe()) else {
            panic!("not dropped")
        };
        assert_eq!(place.words, "iptables chain FORWARD of table filter (its policy)");
        assert_eq!((place.listing.as_str(), place.hook), ("iptables -t filter -S FORWARD", Hook::Forward));
        assert_eq!(verdict(&chains, &[Hook::Input], &probe()), Verdict::Accepted);
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
            // A circle, which the kernel refuses, ends.
            ("-A FORWARD -j own\n-A own -j own", "accepted"),
        ];
        for (lines, expected) in rows {
            let found = of(lines, &probe());
            assert!(found.starts_with(expected), "{lines}: {found}");
        }
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
            ("-A FORWARD -m set --match-set x src -j own\n-A own -j DROP", "unknown: "),
            ("-A FORWARD -m set --match-set x src -j own\n-A own -p udp -j DROP", "accepted"),
        ];
        for (lines, expected) in rows {
            let found = of(lines, &probe());
            assert!(found.starts_with(expected), "{lines}: {found}");
        }
    }

    #[test]
    fn connection_tracking_sees_new_and_invalid_packets() {
        let stateful = "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
                        -A FORWARD -m conntrack --ctstate INVALID -j DROP";
        let invalid = Probe { state: State::Invalid, ..probe() };
        assert_eq!(of(stateful, &probe()), "accepted");
        assert!(of(stateful, &invalid).starts_with(DROPPED));
        let untracked = format!(
            "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -i eth0 -j CT --notrack\nCOMMIT\n\
             *filter\n:FORWARD ACCEPT [0:0]\n{stateful}\nCOMMIT\n"
        );
        let chains = iptables::parse(&untracked, "iptables");
        assert_eq!(verdict(&chains, &[Hook::Prerouting, Hook::Forward], &invalid), Verdict::Accepted);
        let other = Probe { input: Some("eth1".into()), ..invalid };
        assert_ne!(verdict(&chains, &[Hook::Prerouting, Hook::Forward], &other), Verdict::Accepted);
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
        let Verdict::Dropped(place) = verdict(&chains, &[Hook::Forward], &probe()) else {
            panic!("not dropped")
        };
        assert_eq!(place.words, "nftables chain inet filter early (its policy)");
        assert_eq!(place.listing, "nft -a list chain inet filter early");
        assert_eq!(place.chain, "early");
    }

    #[test]
    fn a_protocol_without_ports_matches_no_port() {
        let ipip = Probe { protocol: 4, port: None, ..probe() };
        assert_eq!(of("-A FORWARD -p tcp -m tcp --dport 1:65535 -j DROP", &ipip), "accepted");
        assert!(of("-A FORWARD -p ipencap -j DROP", &ipip).starts_with(DROPPED));
        assert!(of("-A FORWARD -p 4 -j DROP", &ipip).starts_with(DROPPED));
    }
}
