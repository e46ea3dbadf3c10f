//! The configuration of checks, as valid values. Words and files belong to `config`; the options of one kind of check
//! belong to its file below [`super::check`].

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::protocol::Check;

/// Which way a probe takes to the real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// Addressed to the VIP, encapsulated to the real server like a client's packet; the answer comes back directly.
    Tunnel,
    /// Addressed to the RIP.
    Direct,
}

/// What happens to the connections of a real server that is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDown {
    /// They continue; new ones avoid it.
    #[default]
    Quiesce,
    /// TCP connections continue; UDP flows are scheduled again with their next packet.
    Drain,
    /// All are scheduled again with their next packet: TCP connections get a reset.
    Remove,
}

/// The state of a check before its first probe ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Start {
    /// Up; the first failure makes it down.
    Up,
    /// Down; the first success makes it up.
    Down,
}

/// What carries a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP connection.
    Tcp,
    /// TLS over a TCP connection.
    Tls,
    /// Datagrams.
    Udp,
    /// ICMP echo requests.
    Icmp,
    /// A program on this host.
    Command,
}

/// The value of an option of a check.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// Text, and one of several words.
    Text(String),
    /// A list of texts.
    Texts(Vec<String>),
    /// A whole number.
    Number(i64),
    /// `true` or `false`.
    Flag(bool),
    /// A duration, as "2s" in a file.
    Duration(Duration),
    /// Names with a text each, such as headers.
    Table(BTreeMap<String, String>),
    /// A list of tables, such as the steps of an exchange.
    Tables(Vec<BTreeMap<String, String>>),
}

/// The values that an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// [`Value::Text`].
    Text,
    /// One of these words, as [`Value::Text`].
    Words(&'static [&'static str]),
    /// [`Value::Texts`]; a single text counts as a list of one.
    Texts,
    /// [`Value::Number`] within these bounds, both included.
    Number(i64, i64),
    /// [`Value::Flag`].
    Flag,
    /// [`Value::Duration`].
    Duration,
    /// [`Value::Table`].
    Table,
    /// [`Value::Tables`]; the names that a table may contain.
    Tables(&'static [&'static str]),
}

/// An option of a kind of check.
#[derive(Clone, Copy, Debug)]
pub struct OptionRow {
    /// The key in the check's table.
    pub name: &'static str,
    /// One line of explanation, with the default.
    pub help: &'static str,
    /// The values that it takes.
    pub shape: Shape,
}

/// The options of a check that were given; absent ones have the defaults of its kind.
pub type Options = BTreeMap<&'static str, Value>;

/// An option with a value of the right shape that is wrong nevertheless: its name, and a sentence about it.
pub type BadOption = (&'static str, String);

/// A kind of check: a row of [`super::CHECKS`].
#[derive(Debug)]
pub struct Row {
    /// The word in `check = { type = "…" }`.
    pub name: &'static str,
    /// One line of explanation.
    pub summary: &'static str,
    /// What carries it, with these options.
    pub transport: fn(&Options) -> Transport,
    /// The port that it uses unless the check or the virtual service names one.
    pub port: Option<u16>,
    /// Its own options, in addition to those of every check.
    pub options: &'static [OptionRow],
    /// Creates the check, or reports which option is wrong.
    pub build: fn(&Options) -> Result<Arc<dyn Check>, BadOption>,
}

impl PartialEq for Row {
    fn eq(&self, other: &Row) -> bool {
        self.name == other.name
    }
}

impl Eq for Row {}

impl Hash for Row {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// A check as configured: the options that every check has, and those of its kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckConfig {
    /// Its kind.
    pub row: &'static Row,
    /// The options of its kind.
    pub options: Options,
    /// `None`: through the tunnel if the check can be addressed to the VIP, otherwise direct.
    pub via: Option<Via>,
    /// Where the probe is sent instead of the VIP or the RIP; only with [`Via::Direct`].
    pub address: Option<IpAddr>,
    /// `None`: the virtual service's first port, or that of the kind.
    pub port: Option<u16>,
    /// From the beginning of one probe to that of the next.
    pub interval: Duration,
    /// As `interval`, while a failure or a success is not yet confirmed; `None`: `interval`.
    pub fast_interval: Option<Duration>,
    /// As `interval`, while down; doubles up to this with each failure. `None`: `interval`.
    pub down_interval: Option<Duration>,
    /// For the whole probe.
    pub timeout: Duration,
    /// Successes in a row after which it is up.
    pub rise: u32,
    /// Failures in a row after which it is down.
    pub fall: u32,
    /// Before the first probe has ended.
    pub start: Start,
    /// After the start or the addition of the real server, failures do not count for this long.
    pub grace: Duration,
}

impl CheckConfig {
    /// The interval of every check by default.
    pub const INTERVAL: Duration = Duration::from_secs(2);
    /// The timeout of every check by default.
    pub const TIMEOUT: Duration = Duration::from_secs(1);
    /// Successes in a row of every check by default.
    pub const RISE: u32 = 2;
    /// Failures in a row of every check by default.
    pub const FALL: u32 = 3;

    /// A check of this kind with every default.
    pub fn new(row: &'static Row) -> CheckConfig {
        CheckConfig {
            row,
            options: Options::new(),
            via: None,
            address: None,
            port: None,
            interval: CheckConfig::INTERVAL,
            fast_interval: None,
            down_interval: None,
            timeout: CheckConfig::TIMEOUT,
            rise: CheckConfig::RISE,
            fall: CheckConfig::FALL,
            start: Start::Up,
            grace: Duration::ZERO,
        }
    }

    /// The way that the probes take.
    pub fn way(&self) -> Via {
        let can_tunnel = (self.row.transport)(&self.options) != Transport::Command && self.address.is_none();
        self.via.unwrap_or(if can_tunnel { Via::Tunnel } else { Via::Direct })
    }
}

/// How many of several checks of a real server must succeed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Agreement {
    /// Every one.
    #[default]
    All,
    /// At least one.
    Any,
}

/// What a virtual service makes of its checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceHealth {
    /// The checks of its real servers, unless a real server has its own; empty: none, every real server counts as up.
    pub checks: Arc<[CheckConfig]>,
    /// Whether every check counts.
    pub agreement: Agreement,
    /// What happens to the connections of a real server that is down.
    pub on_down: OnDown,
    /// The sum of the weights of live real servers that the service needs; 0: one live real server is enough.
    pub quorum: u32,
    /// Quorum is lost below `quorum - hysteresis` and gained at `quorum + hysteresis`.
    pub hysteresis: u32,
    /// With fewer live real servers than this, all count as up; 0: never.
    pub min_healthy: u32,
    /// How long the weight of a real server rises after it comes up; zero: at once.
    pub slow_start: Duration,
}
