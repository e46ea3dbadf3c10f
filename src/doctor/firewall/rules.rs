//! Rules as nftables and iptables have them in common, as far as they are evaluated here.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Where the kernel calls a base chain (`enum nf_inet_hooks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Before the route lookup (NF_INET_PRE_ROUTING).
    Prerouting,
    /// To a program of the host (NF_INET_LOCAL_IN).
    Input,
    /// Through the host (NF_INET_FORWARD).
    Forward,
    /// From a program of the host (NF_INET_LOCAL_OUT).
    Output,
    /// Before the packet leaves (NF_INET_POST_ROUTING).
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
    /// Unique in its table.
    pub name: String,
    /// `None` if no hook calls it.
    pub hook: Option<Hook>,
    /// At the same hook, chains of lower priority run first.
    pub priority: i64,
    /// What happens at the end of a base chain.
    pub policy: Effect,
    /// In the order of evaluation.
    pub rules: Vec<Rule>,
}

/// A table, and the program that lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Table {
    /// `nft list table FAMILY NAME`.
    Nft {
        /// `ip`, `inet`, and so on.
        family: String,
        /// As the administrator chose it.
        name: String,
    },
    /// `PROGRAM -t NAME -S`.
    Iptables {
        /// `iptables`, or `iptables-legacy`.
        program: &'static str,
        /// `filter`, `mangle`, `raw`, and so on.
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

/// One line of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All of them must hold.
    pub conditions: Vec<Condition>,
    /// Applies only if the conditions hold.
    pub effect: Effect,
    /// How people find the rule in the listing: its handle, or its text.
    pub name: String,
}

/// What a rule or a policy does with the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The next rule follows.
    Nothing,
    /// Ends this base chain; a later one at the same hook may still drop the packet.
    Accept,
    /// Also a rejection.
    Drop,
    /// Back to the chain that jumped here; in a base chain, to the policy.
    Return,
    /// Connection tracking ignores the packet.
    Untrack,
    /// To a chain that returns to the next rule.
    Jump(String),
    /// To a chain that returns to the caller of this one.
    Goto(String),
    /// It could be any of the above.
    Unknown,
}

/// What one condition requires; it holds if the packet's value is among those listed, unless it is negated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `!=` of nft, `!` of iptables.
    pub is_negated: bool,
    /// The property of the packet, and the values that are listed.
    pub of: Match,
}

/// A property of a packet with the values that a rule lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// Names of interfaces; `*` at the end stands for any ending.
    InputInterface(Vec<String>),
    /// As for the input interface; no packet has one before the route lookup.
    OutputInterface(Vec<String>),
    /// Prefixes of the source address.
    Source(Vec<Ipv4Net>),
    /// Prefixes of the destination address.
    Destination(Vec<Ipv4Net>),
    /// Numbers of the protocol field in the IP header.
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
    /// A condition that is not negated.
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
