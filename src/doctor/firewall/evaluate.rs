//! Follows a packet through the chains.

use std::net::Ipv4Addr;

use super::rules::{Chain, Condition, Effect, Hook, Match, Rule, Table};

/// Chains may jump 16 levels deep (NFT_JUMP_STACK_SIZE).
const DEPTH_MAX: usize = 16;

/// The packet, as far as rules look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The interface by which it arrives; `None` for a packet of the host's own.
    pub input: Option<String>,
    /// The interface by which it leaves; `None` for one that is delivered locally.
    pub output: Option<String>,
    /// `None`: any client.
    pub source: Option<Ipv4Addr>,
    /// Of the IP header that the hook sees: the VIP, or the RIP of an encapsulated packet.
    pub destination: Ipv4Addr,
    /// The protocol number of the IP header.
    pub protocol: u8,
    /// `None`: the protocol has no ports.
    pub port: Option<u16>,
    /// For conditions such as `ct state`.
    pub state: State,
}

/// What connection tracking makes of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The first packet of a connection.
    New,
    /// A packet that fits no tracked connection, such as one of TCP after its SYN took another path.
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
    /// No hook drops it.
    Accepted,
    /// By a rule, or by the policy of a chain.
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

/// Where the packet goes from a rule or a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Accept,
    Drop(Place),
    /// Back to the chain that called this one, or on to the policy.
    Return,
    /// To the next rule.
    Next,
}

/// A rule, or the policy, of one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The chain and the rule, as in a sentence.
    pub words: String,
    /// The command that lists the chain.
    pub listing: String,
    /// Where a remedy inserts its rule.
    pub table: Table,
    /// Without its table.
    pub chain: String,
}

/// The walk of one packet: what may happen to it, and what made that uncertain.
struct Walk<'a> {
    chains: &'a [Chain],
    probe: &'a Probe,
    /// Whether connection tracking ignores the packet.
    is_untracked: Holds,
    doubt: Option<String>,
}

/// The fate of a packet that passes these hooks in this order.
pub fn verdict(chains: &[Chain], hooks: &[Hook], probe: &Probe) -> Verdict {
    let mut walk = Walk { chains, probe, is_untracked: Holds::No, doubt: None };
    let mut may_drop = None;
    for hook in hooks {
        let mut called: Vec<&Chain> = chains.iter().filter(|chain| chain.hook == Some(*hook)).collect();
        called.sort_by_key(|chain| chain.priority);
        for chain in called {
            let fates = walk.base(chain);
            let doubt = walk.doubt.take().unwrap_or_default();
            match fates.iter().flatten().next() {
                Some(place) if !fates.contains(&None) => return Verdict::Dropped(place.clone()),
                Some(_) => may_drop = may_drop.or(Some(doubt)),
                None => {}
            }
        }
    }
    may_drop.map_or(Verdict::Accepted, Verdict::Unknown)
}

impl Walk<'_> {
    /// The places where a base chain may drop the packet; `None` if it may accept it.
    fn base(&mut self, chain: &Chain) -> Vec<Option<Place>> {
        let fate = |end: End| match end {
            End::Drop(place) => Some(place),
            End::Return if chain.policy == Effect::Drop => Some(place(chain, "its policy")),
            _ => None,
        };
        self.chain(chain, 0).into_iter().map(fate).collect()
    }

    fn chain(&mut self, chain: &Chain, depth: usize) -> Vec<End> {
        let mut ends = Vec::new();
        for rule in &chain.rules {
            let holds = self.holds(rule);
            if holds == Holds::No {
                continue;
            }
            let mut taken = self.effect(chain, rule, holds, depth);
            let continues = taken.contains(&End::Next);
            taken.retain(|end| *end != End::Next);
            let is_doubtful = holds == Holds::Maybe || rule.effect == Effect::Unknown;
            if is_doubtful && !taken.is_empty() {
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

    /// Where the packet may go if the rule holds.
    fn effect(&mut self, chain: &Chain, rule: &Rule, holds: Holds, depth: usize) -> Vec<End> {
        match &rule.effect {
            Effect::Nothing => vec![End::Next],
            Effect::Accept => vec![End::Accept],
            Effect::Drop => vec![End::Drop(place(chain, &rule.name))],
            Effect::Return => vec![End::Return],
            Effect::Untrack => {
                if self.is_untracked != Holds::Yes {
                    self.is_untracked = holds;
                }
                vec![End::Next]
            }
            Effect::Unknown => vec![End::Accept, End::Drop(place(chain, &rule.name))],
            Effect::Goto(name) => self.called(chain, name, depth),
            Effect::Jump(name) => {
                let next = |end| if end == End::Return { End::Next } else { end };
                self.called(chain, name, depth).into_iter().map(next).collect()
            }
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
                let has = |state: &str| names.iter().any(|name| name == state);
                let (untracked, tracked) = (has("untracked"), has(probe.state.name()));
                match self.is_untracked {
                    Holds::Yes => Some(untracked),
                    Holds::No => Some(tracked),
                    Holds::Maybe => (untracked == tracked).then_some(tracked),
                }
            }
            Match::Constant(holds) => Some(*holds),
            Match::Unknown => None,
        }
    }
}

fn place(chain: &Chain, rule: &str) -> Place {
    Place {
        words: format!("{} ({rule})", chain.words()),
        listing: chain.listing(),
        table: chain.table.clone(),
        chain: chain.name.clone(),
    }
}

fn is_named(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

#[cfg(test)]
impl Probe {
    /// The first packet of a connection to a web service, from the interface to the device.
    pub(super) fn new_web_connection() -> Probe {
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
}

#[cfg(test)]
mod tests;
