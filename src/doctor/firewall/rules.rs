//! Rules as nftables and iptables have them in common, as far as they are evaluated here.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Where the kernel calls a base chain (`enum nf_inet_hooks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

impl Hook {
    /// From the word of either program, in any case.
    pub fn of(word: &str) -> Option<Hook> {
        let hooks = [
            ("prerouting", Hook::Prerouting),
            ("input", Hook::Input),
            ("forward", Hook::Forward),
            ("output", Hook::Output),
            ("postrouting", Hook::Postrouting),
        ];
        hooks.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, hook)| hook)
    }
}

/// A base chain, or one that others jump to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// As in `nft list chain TABLE NAME`, or `iptables -t TABLE`.
    pub table: Table,
    pub name: String,
    /// `None` if no hook calls it.
    pub hook: Option<Hook>,
    pub priority: i64,
    pub policy: Effect,
    pub rules: Vec<Rule>,
}

/// A table, and the program that lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Table {
    Nft {
        family: String,
        name: String,
    },
    Iptables {
        /// `iptables`, or `iptables-legacy`.
        program: &'static str,
        name: String,
    },
}

impl Chain {
    /// The command that shows the chain.
    pub fn listing(&self) -> String {
        match &self.table {
            Table::Nft { family, name } => format!("nft -a list chain {family} {name} {}", self.name),
            Table::Iptables { program, name } => format!("{program} -t {name} -S {}", self.name),
        }
    }

    /// As in a sentence.
    pub fn words(&self) -> String {
        match &self.table {
            Table::Nft { family, name } => format!("nftables chain {family} {name} {}", self.name),
            Table::Iptables { program, name } => format!("{program} chain {} of table {name}", self.name),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All of them must hold.
    pub conditions: Vec<Condition>,
    pub effect: Effect,
    /// How people find the rule in the listing: its handle, or its text.
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The next rule follows.
    Nothing,
    Accept,
    /// Also a rejection.
    Drop,
    Return,
    /// Connection tracking ignores the packet.
    Untrack,
    Jump(String),
    Goto(String),
    /// It could be any of the above.
    Unknown,
}

/// What one condition requires; it holds if the packet's value is among those listed, unless it is negated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub is_negated: bool,
    pub of: Match,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// Names of interfaces; `*` at the end stands for any ending.
    InputInterface(Vec<String>),
    OutputInterface(Vec<String>),
    Source(Vec<Ipv4Net>),
    Destination(Vec<Ipv4Net>),
    Protocol(Vec<u8>),
    /// Of TCP or UDP: both ends included.
    DestinationPort(Vec<(u16, u16)>),
    /// Names of states, in lower case.
    State(Vec<String>),
    /// Holds for every IPv4 packet, or for none.
    Constant(bool),
    /// Not evaluated here.
    Unknown,
}

impl Condition {
    pub fn is(of: Match) -> Condition {
        Condition { is_negated: false, of }
    }
}

/// "172.25.3.0/24", "172.25.3.1".
pub fn prefix(word: &str) -> Option<Ipv4Net> {
    word.parse().ok().or_else(|| word.parse::<Ipv4Addr>().ok().map(Ipv4Net::from))
}

/// A number, or a name of /etc/protocols that a packet here can have.
pub fn protocol(word: &str) -> Option<u8> {
    const NAMES: &[(&str, u8)] = &[
        ("icmp", 1),
        ("igmp", 2),
        ("ipencap", 4),
        ("ipip", 94),
        ("tcp", 6),
        ("udp", 17),
        ("gre", 47),
        ("esp", 50),
        ("ah", 51),
        ("icmpv6", 58),
        ("ipv6-icmp", 58),
        ("sctp", 132),
        ("udplite", 136),
        ("dccp", 33),
        ("comp", 108),
        ("ospf", 89),
        ("vrrp", 112),
        ("ipv4", 4),
        ("ipv6", 41),
    ];
    let named = || NAMES.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, number)| *number);
    word.parse().ok().or_else(named)
}
