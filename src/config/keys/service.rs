//! `[[virtual_service]]`.

use crate::config::ConfigError;
use crate::config::json::{Matcher as JsonMatcher, OnRemoved as JsonOnRemoved, UnknownTcp as JsonUnknownTcp};
use crate::config::key::{Served, Takes, keys};
use crate::config::keys::real_server::RealServerSpec;
use crate::config::keys::timeouts::{HasTimeouts, TimeoutsSpec};
use crate::config::keys::{persistence, timeouts};
use crate::config::kinds::{self, Address, Flag, Member, Name, PROTOCOLS, Word, Words, escaped, missing};
use crate::config::plan::name_of;
use crate::config::toml::{Block, Lines, Value, integer, quoted};
use crate::director::cluster::{Matcher, OnRemoved, Ports, UnknownTcp, VirtualServiceConfig};
use crate::director::connection::Timeouts as TimeoutsConfig;
use crate::director::scheduler::{self, Options, SCHEDULERS, mh};
use crate::packet::Protocol;

pub use super::persistence::Persistence;
pub use super::timeouts::Timeouts;

/// As words, here and for all services.
pub const UNKNOWN_TCP: Words<UnknownTcp, JsonUnknownTcp> =
    Words::new(&[("rst", UnknownTcp::Rst), ("drop", UnknownTcp::Drop), ("schedule", UnknownTcp::Schedule)]);
pub const ON_REMOVED: Words<OnRemoved, JsonOnRemoved> = Words::new(&[
    ("reschedule", OnRemoved::Reschedule),
    ("drop", OnRemoved::Drop),
    ("keep", OnRemoved::Keep),
]);

const SCHEDULER: Member = Member(|| SCHEDULERS.iter().map(|row| row.name).collect());

keys! {
    SERVICE_KEYS of VirtualServiceConfig {
        name, matchers, scheduler, scheduler_options, persistence, is_one_packet, unknown_tcp, on_removed, timeouts
    } aside { real_servers }
    asked "A virtual service to be; what is left out is as in a file that leaves it out."
        VirtualServiceSpec { real_servers: Vec<RealServerSpec> }
    edited "What is to change of a virtual service; what is left out stays." VirtualServiceEdit
    shown "Every key of a virtual service, as configured." VirtualServiceKeys;

    /// Label in metrics and logs; left out: protocol, VIP and port, as in "tcp-172.25.3.100-80".
    optional name "name" [String] in name [], Name, |service, _| default_name(service), Live;
    /// Which packets it is for; at least one.
    required matchers "match" [Vec<JsonMatcher>] in matchers [],
        Matchers, |service, _| service.matchers.clone(), Live;
    /// Chooses the real server of a new connection; left out: "wlc". Another scheduler begins without flags.
    optional scheduler "scheduler" [String] in scheduler [], SCHEDULER, |_, _| scheduler::DEFAULT.name, Live;
    /// What the scheduler also regards.
    plain scheduler_flags "scheduler_flags" [Vec<String>] in scheduler_options [flags_of, set_flags],
        SchedulerFlags, |_, _| Vec::new(), Live;
    /// Entries of the table of scheduler mh; others have none.
    known mh_table_size "mh_table_size" [u32] in scheduler_options [mh_table_size_of, set_mh_table_size],
        MhTableSize, |_, _| None, Live;
    /// A client's later connections go where its first one went; `null`: they need not.
    nullable persistence "persistence" [Persistence] in persistence [], persistence::Table, |_, _| None, Live;
    /// Each UDP datagram is scheduled by itself and leaves no entry.
    plain one_packet "one_packet" [bool] in is_one_packet [], Flag, |_, _| false, Live;
    /// What a TCP segment that is no SYN and belongs to no connection gets.
    optional unknown_tcp "unknown_tcp" [JsonUnknownTcp] in unknown_tcp [],
        UNKNOWN_TCP, |service, defaults| defaults.unknown_tcp.unwrap_or_else(|| suggested_unknown_tcp(service)), Live;
    /// What becomes of a connection whose real server has left the configuration.
    optional on_removed "on_removed" [JsonOnRemoved] in on_removed [],
        ON_REMOVED, |_, defaults| defaults.on_removed, Live;
    /// How long a connection is remembered without a packet.
    nested timeouts "timeouts" [TimeoutsSpec Timeouts] in timeouts [],
        timeouts::Table, |_, defaults| defaults.timeouts, Live;
}

// Every option of a scheduler has a row, but for the key that all of them share.
const _: fn(&Options) = |Options { has_port: _, has_fallback: _, mh_table_size: _, hash_key: _ }| {};

impl Default for VirtualServiceSpec {
    fn default() -> VirtualServiceSpec {
        VirtualServiceSpec::new()
    }
}

impl HasTimeouts for VirtualServiceConfig {
    fn timeouts(&self) -> &TimeoutsConfig {
        &self.timeouts
    }
}

fn default_name(service: &VirtualServiceConfig) -> String {
    service.matchers.first().map(name_of).unwrap_or_default()
}

fn row(service: &VirtualServiceConfig) -> &'static scheduler::Row {
    scheduler::find(service.scheduler).unwrap_or(scheduler::DEFAULT)
}

fn suggested_unknown_tcp(service: &VirtualServiceConfig) -> UnknownTcp {
    UnknownTcp::default_for(row(service))
}

/// What is wrong with keys that are right by themselves: the key, and a sentence.
///
/// # Errors
/// The first of them.
pub fn check(service: &VirtualServiceConfig) -> Result<(), (&'static str, String)> {
    if service.is_one_packet && !has_udp(service) {
        let message = "one_packet = true: one-packet scheduling is only for UDP; leave it out";
        return Err(("one_packet", message.to_owned()));
    }
    Ok(())
}

fn has_udp(service: &VirtualServiceConfig) -> bool {
    service.matchers.iter().any(|matcher| matcher.protocol == Protocol::Udp)
}

/// Before another scheduler: what it suggested, and its options, go with it; what an operator said stays.
pub fn forget_scheduler(service: &mut VirtualServiceConfig, next: &'static str) {
    let has_suggested = service.unknown_tcp == suggested_unknown_tcp(service);
    service.scheduler = next;
    set_flags(service, Vec::new());
    set_mh_table_size(service, None);
    if has_suggested {
        service.unknown_tcp = suggested_unknown_tcp(service);
    }
}

/// Keys of the file, and others set by hand, may be impossible together: options are a scheduler's, and who takes
/// UDP away takes with it what one packet is for.
pub fn reconcile(
    base: &VirtualServiceConfig,
    file: &VirtualServiceConfig,
    before: &VirtualServiceConfig,
    next: &mut VirtualServiceConfig,
) {
    if base.scheduler != file.scheduler {
        next.scheduler_options = file.scheduler_options;
    } else if before.scheduler != file.scheduler {
        next.scheduler_options = before.scheduler_options;
    }
    next.is_one_packet &= has_udp(next);
}

/// The words of `scheduler_flags` that are in force.
pub fn flags_of(service: &VirtualServiceConfig) -> Vec<&'static str> {
    let options = &service.scheduler_options;
    let is_set = |flag: &&str| {
        flag.ends_with("-port") && options.has_port || flag.ends_with("-fallback") && options.has_fallback
    };
    row(service).flags.iter().copied().filter(is_set).collect()
}

fn set_flags(service: &mut VirtualServiceConfig, flags: Vec<&'static str>) {
    let options = &mut service.scheduler_options;
    options.has_port = flags.iter().any(|flag| flag.ends_with("-port"));
    options.has_fallback = flags.iter().any(|flag| flag.ends_with("-fallback"));
}

fn is_mh(service: &VirtualServiceConfig) -> bool {
    service.scheduler == mh::ROW.name
}

/// Where it is not the default, for other schedulers may not have it at all.
fn mh_table_size_of(service: &VirtualServiceConfig) -> Option<u32> {
    let size = service.scheduler_options.mh_table_size;
    (is_mh(service) && size != mh::TABLE_SIZE_DEFAULT).then_some(size)
}

fn set_mh_table_size(service: &mut VirtualServiceConfig, size: Option<u32>) {
    service.scheduler_options.mh_table_size = size.unwrap_or(mh::TABLE_SIZE_DEFAULT);
}

/// Words that the scheduler has.
struct SchedulerFlags;

fn known_flag(key: &str, service: &VirtualServiceConfig, word: &str) -> Result<&'static str, String> {
    let row = row(service);
    let found = row.flags.iter().find(|flag| **flag == word).copied();
    found.ok_or_else(|| {
        let known = if row.flags.is_empty() { "none".to_owned() } else { row.flags.join(", ") };
        format!("{key}: {}: the flags of scheduler {} are: {known}", escaped(word), row.name)
    })
}

impl Takes<VirtualServiceConfig> for SchedulerFlags {
    type Value = Vec<&'static str>;

    fn read(
        &self,
        key: &str,
        service: &VirtualServiceConfig,
        block: &Block,
    ) -> Result<Option<Vec<&'static str>>, ConfigError> {
        let Some(value) = block.get(key) else { return Ok(None) };
        let read = |item: &Value| {
            let flag = known_flag(key, service, block.text(item)?);
            flag.map_err(|message| block.error(item.span(), message))
        };
        block.list(value)?.iter().map(read).collect::<Result<_, _>>().map(Some)
    }

    fn text(&self, value: &Vec<&'static str>) -> Option<String> {
        Some(list(value.iter().map(|flag| quoted(flag))))
    }
}

impl Served<VirtualServiceConfig> for SchedulerFlags {
    type Asked = Vec<String>;
    type Shown = Vec<String>;

    fn accept(
        &self,
        key: &str,
        service: &VirtualServiceConfig,
        asked: Vec<String>,
    ) -> Result<Vec<&'static str>, String> {
        asked.iter().map(|word| known_flag(key, service, word)).collect()
    }

    fn show(&self, _: &VirtualServiceConfig, value: Vec<&'static str>) -> Vec<String> {
        value.into_iter().map(str::to_owned).collect()
    }
}

/// One of the sizes of mh's table.
struct MhTableSize;

fn known_size(key: &str, service: &VirtualServiceConfig, size: i64) -> Result<Option<u32>, String> {
    if !is_mh(service) {
        return Err(format!("{key} is for scheduler mh, not {}; leave it out", service.scheduler));
    }
    let sizes = mh::TABLE_SIZES;
    let known = u32::try_from(size).ok().filter(|size| sizes.contains(size));
    known.map(Some).ok_or_else(|| {
        let sizes = sizes.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        format!("{key} = {size}: expected one of {sizes}")
    })
}

impl Takes<VirtualServiceConfig> for MhTableSize {
    type Value = Option<u32>;

    fn read(
        &self,
        key: &str,
        service: &VirtualServiceConfig,
        block: &Block,
    ) -> Result<Option<Option<u32>>, ConfigError> {
        let Some(value) = block.get(key) else { return Ok(None) };
        let size = known_size(key, service, block.number(value)?);
        size.map(Some).map_err(|message| block.error(value.span(), message))
    }

    fn text(&self, value: &Option<u32>) -> Option<String> {
        value.map(|size| size.to_string())
    }
}

impl Served<VirtualServiceConfig> for MhTableSize {
    type Asked = u32;
    type Shown = Option<u32>;

    fn accept(&self, key: &str, service: &VirtualServiceConfig, asked: u32) -> Result<Option<u32>, String> {
        known_size(key, service, asked.into())
    }

    fn show(&self, service: &VirtualServiceConfig, _: Option<u32>) -> Option<u32> {
        is_mh(service).then_some(service.scheduler_options.mh_table_size)
    }
}

/// `protocol`, `vip` and `port`, or a list `match`.
struct Matchers;

impl Takes<VirtualServiceConfig> for Matchers {
    type Value = Vec<Matcher>;

    fn read(
        &self,
        key: &str,
        _: &VirtualServiceConfig,
        block: &Block,
    ) -> Result<Option<Vec<Matcher>>, ConfigError> {
        let listed = block.get(key).map(|value| block.list(value)).transpose()?.unwrap_or_default();
        if !listed.is_empty() {
            let single = ["protocol", "vip", "port"].into_iter().find_map(|key| block.get(key));
            if let Some(value) = single {
                let message = "`match` says what the service is for; leave out protocol, vip and port";
                return Err(block.error(value.span(), message));
            }
            let read = |item: &Value| {
                let word = block.text(item)?;
                parse_matcher(word).map_err(|message| block.error(item.span(), message))
            };
            return listed.iter().map(read).collect::<Result<_, _>>().map(Some);
        }
        let part = |key: &str, example| block.get(key).ok_or_else(|| missing(block, key, example));
        let (protocol, vip, port) =
            (part("protocol", "\"tcp\"")?, part("vip", "\"172.25.3.100\"")?, part("port", "80")?);
        let word = |key: &'static str, value: &Value| block.text(value).map(|word| (key, word.to_owned()));
        let (key, name) = word("protocol", protocol)?;
        let protocol_of = kinds::choice(key, &name, PROTOCOLS);
        let protocol = protocol_of.map_err(|message| block.error(protocol.span(), message))?;
        let (key, address) = word("vip", vip)?;
        let address = Address.parse(key, &address).map_err(|message| block.error(vip.span(), message))?;
        Ok(Some(vec![Matcher { protocol, vip: address, ports: ports(block, port)? }]))
    }

    fn text(&self, value: &Vec<Matcher>) -> Option<String> {
        Some(list(value.iter().map(|matcher| quoted(&text_of(matcher)))))
    }

    fn names(&self, name: &'static str, found: &mut Vec<&'static str>) {
        found.extend(["protocol", "vip", "port", name]);
    }

    fn explained(&self, name: &'static str, found: &mut Vec<String>) {
        found.extend(["protocol", "vip", "port", name].map(str::to_owned));
    }

    fn write(&self, key: &str, value: &Vec<Matcher>, _: Option<&Vec<Matcher>>, lines: &mut Lines) {
        let mut line = |key: &str, text: String| lines.push((key.to_owned(), text));
        if let [Matcher { protocol, vip, ports }] = value[..] {
            let port = if ports.is_one() { ports.to_string() } else { quoted(&ports.to_string()) };
            line("protocol", quoted(protocol.name()));
            line("vip", quoted(&vip.to_string()));
            line("port", port);
        } else {
            line(key, self.text(value).unwrap_or_default());
        }
    }
}

impl Served<VirtualServiceConfig> for Matchers {
    type Asked = Vec<JsonMatcher>;
    type Shown = Vec<JsonMatcher>;

    fn accept(
        &self,
        _: &str,
        _: &VirtualServiceConfig,
        asked: Vec<JsonMatcher>,
    ) -> Result<Vec<Matcher>, String> {
        use crate::config::key::ServedLeaf;
        if asked.is_empty() {
            return Err(NO_MATCHER.to_owned());
        }
        let accept = |matcher: JsonMatcher| {
            let matcher: Matcher = matcher.into();
            ServedLeaf::accept(&Address, "vip", matcher.vip).map(|vip| Matcher { vip, ..matcher })
        };
        asked.into_iter().map(accept).collect()
    }

    fn show(&self, _: &VirtualServiceConfig, value: Vec<Matcher>) -> Vec<JsonMatcher> {
        value.into_iter().map(Into::into).collect()
    }
}

pub const NO_MATCHER: &str = "match: a virtual service needs at least one protocol, VIP and port";

/// "tcp 172.25.3.100:80".
pub fn text_of(matcher: &Matcher) -> String {
    format!("{} {}:{}", matcher.protocol.name(), matcher.vip, matcher.ports)
}

/// "tcp 172.25.3.100:80", also with a range or "all" behind the colon.
fn parse_matcher(word: &str) -> Result<Matcher, String> {
    let unclear = || {
        format!(
            "match: {}: expected PROTOCOL VIP:PORTS, such as \"tcp 172.25.3.100:80\" or \"udp 172.25.3.100:all\"",
            escaped(word)
        )
    };
    let (name, rest) = word.split_once(' ').ok_or_else(unclear)?;
    let (vip, ports) = rest.rsplit_once(':').ok_or_else(unclear)?;
    let (_, protocol) = PROTOCOLS.iter().find(|(known, _)| *known == name).ok_or_else(unclear)?;
    let vip = Address.parse("match", vip)?;
    Ok(Matcher { protocol: *protocol, vip, ports: ports.parse().map_err(|_| unclear())? })
}

/// A port, a range "8000-8099", or "all".
fn ports(block: &Block, value: &Value) -> Result<Ports, ConfigError> {
    if let Some(Some(number)) = integer(value) {
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        let outside = || block.error(value.span(), format!("port = {number}: expected 1 to 65535"));
        return port.map(Ports::one).ok_or_else(outside);
    }
    // A number in quotes is a slip, not a range.
    let word = block.text(value).ok().filter(|word| word.parse::<i64>().is_err());
    word.and_then(|word| word.parse().ok()).ok_or_else(|| {
        let message = format!(
            "port = {}: expected a number from 1 to 65535, a range such as \"8000-8099\", or \"all\"",
            block.shown(value)
        );
        block.error(value.span(), message)
    })
}

fn list(words: impl Iterator<Item = String>) -> String {
    format!("[{}]", words.collect::<Vec<_>>().join(", "))
}
