//! The `[[virtual_service]]` blocks → [`VirtualServiceConfig`].

use std::time::Duration;

use toml::Spanned;

use super::super::consistency::{self, Inconsistency, Place, SERVICES_MAX, too_many_services};
use super::super::file::{DirectorFile, PersistenceFile, RealServerFile, TimeoutsFile, VirtualServiceFile};
use super::super::{ConfigError, Source, clipped};
use super::{ServiceDefaults, words};
use crate::director::cluster::{
    Matcher, OnRemoved, Persistence, RealServerConfig, UnknownTcp, VirtualServiceConfig,
};
use crate::director::connection::Timeouts;
use crate::director::scheduler::{self, SCHEDULERS, mh};
use crate::packet::Protocol;

const PROTOCOLS: &[(&str, Protocol)] = &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
const UNKNOWN_TCP: &[(&str, UnknownTcp)] =
    &[("rst", UnknownTcp::Rst), ("drop", UnknownTcp::Drop), ("schedule", UnknownTcp::Schedule)];
const ON_REMOVED: &[(&str, OnRemoved)] =
    &[("reschedule", OnRemoved::Reschedule), ("drop", OnRemoved::Drop), ("keep", OnRemoved::Keep)];

/// ipvsadm(8), `--weight`: integers from 0 to 65535.
const WEIGHT_MAX: i64 = 65_535;
const THRESHOLD_MAX: i64 = i32::MAX as i64;
/// 88: RFC 791 §3.2 requires every link to carry 68 bytes, and the outer header takes 20 more.
const PATH_MTU_MIN: i64 = 88;

/// Reads all virtual services of a file.
///
/// # Errors
/// The first error, with its line.
pub fn read(
    source: &Source,
    file: &DirectorFile,
    defaults: &ServiceDefaults,
) -> Result<Vec<VirtualServiceConfig>, ConfigError> {
    let written = &file.virtual_services;
    if let Some(first) = written.get(SERVICES_MAX) {
        return Err(source.error(first.span(), too_many_services()));
    }
    let reader = Reader { source, defaults };
    let services =
        written.iter().map(|service| reader.virtual_service(service)).collect::<Result<Vec<_>, _>>()?;
    let place = |found: &Inconsistency| {
        let file = &written[found.service];
        let span = match found.place {
            Place::Name => file.get_ref().name.as_ref().map(Spanned::span),
            Place::Matcher(index) => file.get_ref().matchers.get(index).map(Spanned::span),
            Place::Rip(index) => file.get_ref().real_servers.get(index).map(|s| s.get_ref().rip.span()),
            Place::ServerName(index) => {
                let server = file.get_ref().real_servers.get(index);
                server.map(|s| s.get_ref().name.as_ref().map_or_else(|| s.span(), Spanned::span))
            }
        };
        let vip = || file.get_ref().vip.as_ref().map(Spanned::span);
        let vip = if matches!(found.place, Place::Matcher(_)) { vip() } else { None };
        span.or(vip).unwrap_or_else(|| file.span())
    };
    match consistency::check(&services) {
        Ok(()) => Ok(services),
        Err(found) => Err(source.error(place(&found), found.message)),
    }
}

/// Reads one virtual service on its own.
///
/// # Errors
/// The first error in it; [`consistency::check`] finds conflicts with other services.
pub fn virtual_service(
    file: VirtualServiceFile,
    defaults: &ServiceDefaults,
) -> Result<VirtualServiceConfig, ConfigError> {
    let source = Source { name: "", text: "" };
    Reader { source: &source, defaults }.virtual_service(&Spanned::new(0..0, file))
}

/// Reads one real server on its own.
///
/// # Errors
/// The first error in it.
pub fn real_server(file: &RealServerFile) -> Result<RealServerConfig, ConfigError> {
    let source = Source { name: "", text: "" };
    Reader { source: &source, defaults: &ServiceDefaults::default() }.real_server(file)
}

/// Reads the keys of a file that apply to all virtual services.
pub fn defaults(source: &Source, file: &DirectorFile) -> Result<ServiceDefaults, ConfigError> {
    Ok(ServiceDefaults {
        unknown_tcp: unknown_tcp(source, file.unknown_tcp.as_ref())?,
        on_removed: on_removed(source, file.on_removed.as_ref())?.unwrap_or(OnRemoved::Reschedule),
        timeouts: timeouts(source, file.timeouts.as_ref(), Timeouts::default())?,
    })
}

/// Checks a timeout that does not come from a file.
///
/// # Errors
/// The timeout is beyond ipvsadm's limits.
pub fn timeout(key: &str, duration: Duration) -> Result<Duration, ConfigError> {
    let word = Spanned::new(0..0, humantime::format_duration(duration).to_string());
    words::timeout(&Source { name: "", text: "" }, key, &word)
}

/// The word for this value.
pub fn word_of_unknown_tcp(value: UnknownTcp) -> &'static str {
    word_of(UNKNOWN_TCP, value)
}

/// The word for this value.
pub fn word_of_on_removed(value: OnRemoved) -> &'static str {
    word_of(ON_REMOVED, value)
}

pub(super) fn word_of<T: PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    let found = words.iter().find(|(_, known)| *known == value);
    found.map(|(word, _)| *word).expect("because the table has every value")
}

fn unknown_tcp(source: &Source, word: Option<&Spanned<String>>) -> Result<Option<UnknownTcp>, ConfigError> {
    word.map(|word| words::choice(source, "unknown_tcp", word, UNKNOWN_TCP)).transpose()
}

fn on_removed(source: &Source, word: Option<&Spanned<String>>) -> Result<Option<OnRemoved>, ConfigError> {
    word.map(|word| words::choice(source, "on_removed", word, ON_REMOVED)).transpose()
}

fn timeouts(
    source: &Source,
    written: Option<&TimeoutsFile>,
    default: Timeouts,
) -> Result<Timeouts, ConfigError> {
    let Some(written) = written else { return Ok(default) };
    let read = |key, word: &Option<Spanned<String>>, default| match word {
        Some(word) => words::timeout(source, key, word),
        None => Ok(default),
    };
    Ok(Timeouts {
        established: read("timeouts.tcp", &written.tcp, default.established)?,
        fin_wait: read("timeouts.tcp_fin", &written.tcp_fin, default.fin_wait)?,
        udp: read("timeouts.udp", &written.udp, default.udp)?,
    })
}

struct Reader<'a> {
    source: &'a Source<'a>,
    defaults: &'a ServiceDefaults,
}

impl Reader<'_> {
    fn virtual_service(
        &self,
        written: &Spanned<VirtualServiceFile>,
    ) -> Result<VirtualServiceConfig, ConfigError> {
        let (source, file) = (self.source, written.get_ref());
        let matchers = self.matchers(written)?;
        let default_name = name_of(&matchers[0]);
        let name = file.name.as_ref().map(|word| words::name(source, word)).transpose()?;
        let names: Vec<_> = SCHEDULERS.iter().map(|row| (row.name, row)).collect();
        let row = file.scheduler.as_ref().map(|word| words::choice(source, "scheduler", word, &names));
        let row = row.transpose()?.unwrap_or(scheduler::DEFAULT);
        let unknown_tcp = unknown_tcp(source, file.unknown_tcp.as_ref())?.or(self.defaults.unknown_tcp);
        Ok(VirtualServiceConfig {
            name: name.unwrap_or(default_name),
            scheduler: row.name,
            scheduler_options: self.scheduler_options(row, file)?,
            persistence: file.persistence.as_ref().map(|table| self.persistence(table)).transpose()?,
            is_one_packet: self.one_packet(file, &matchers)?,
            unknown_tcp: unknown_tcp.unwrap_or_else(|| UnknownTcp::default_for(row)),
            on_removed: on_removed(source, file.on_removed.as_ref())?.unwrap_or(self.defaults.on_removed),
            timeouts: timeouts(source, file.timeouts.as_ref(), self.defaults.timeouts)?,
            real_servers: self.real_servers(file)?,
            matchers,
        })
    }

    /// The packets that the service is for: `protocol`, `vip` and `port`, or a list `match`.
    fn matchers(&self, written: &Spanned<VirtualServiceFile>) -> Result<Vec<Matcher>, ConfigError> {
        let (source, file) = (self.source, written.get_ref());
        if !file.matchers.is_empty() {
            let single = [file.protocol.as_ref(), file.vip.as_ref()].into_iter().flatten().map(Spanned::span);
            if let Some(span) = single.chain(file.port.as_ref().map(Spanned::span)).next() {
                let message = "`match` replaces protocol, vip and port; remove these keys";
                return Err(source.error(span, message));
            }
            return file.matchers.iter().map(|word| words::matcher(source, word, PROTOCOLS)).collect();
        }
        let missing = |key: &str, example: &str| {
            let message = format!(
                "`[[virtual_service]]`: the key `{key}` is missing; add it, such as {key} = {example}"
            );
            source.error(written.span(), message)
        };
        let protocol = file.protocol.as_ref().ok_or_else(|| missing("protocol", "\"tcp\""))?;
        let vip = file.vip.as_ref().ok_or_else(|| missing("vip", "\"172.25.3.100\""))?;
        let port = file.port.as_ref().ok_or_else(|| missing("port", "80"))?;
        Ok(vec![Matcher {
            protocol: words::choice(source, "protocol", protocol, PROTOCOLS)?,
            vip: words::address_v4(source, "vip", vip)?.into(),
            ports: words::ports(source, port)?,
        }])
    }

    fn scheduler_options(
        &self,
        row: &scheduler::Row,
        file: &VirtualServiceFile,
    ) -> Result<scheduler::Options, ConfigError> {
        let mut options = scheduler::Options::default();
        for word in &file.scheduler_flags {
            let flag = word.get_ref().as_str();
            if !row.flags.contains(&flag) {
                let known = if row.flags.is_empty() { "none".to_owned() } else { row.flags.join(", ") };
                let flag = words::quoted(flag);
                let message =
                    format!("scheduler_flags: {flag}: the flags of scheduler {} are: {known}", row.name);
                return Err(self.source.error(word.span(), message));
            }
            options.has_port |= flag.ends_with("-port");
            options.has_fallback |= flag.ends_with("-fallback");
        }
        if let Some(size) = &file.mh_table_size {
            if row.name != mh::ROW.name {
                let message = format!("mh_table_size is for scheduler mh, not {}; remove it", row.name);
                return Err(self.source.error(size.span(), message));
            }
            let sizes = mh::TABLE_SIZES;
            let known = u32::try_from(*size.get_ref()).ok().filter(|size| sizes.contains(size));
            options.mh_table_size = known.ok_or_else(|| {
                let sizes = sizes.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
                self.source.error(
                    size.span(),
                    format!("mh_table_size = {}: expected one of {sizes}", size.get_ref()),
                )
            })?;
        }
        Ok(options)
    }

    fn persistence(&self, written: &Spanned<PersistenceFile>) -> Result<Persistence, ConfigError> {
        let (source, file) = (self.source, written.get_ref());
        let timeout = file.timeout.as_ref().map(|word| words::timeout(source, "persistence.timeout", word));
        let prefix = file.prefix.as_ref().map(|n| words::number(source, "persistence.prefix", n, 1..=32));
        let default = Persistence::new(timeout.transpose()?.unwrap_or(Persistence::TIMEOUT_DEFAULT));
        Ok(Persistence {
            prefix_v4: prefix.transpose()?.map_or(default.prefix_v4, |prefix| prefix as u8),
            expires_quiesced: file.expire_quiesced.unwrap_or(default.expires_quiesced),
            ..default
        })
    }

    fn one_packet(&self, file: &VirtualServiceFile, matchers: &[Matcher]) -> Result<bool, ConfigError> {
        let Some(written) = file.one_packet.as_ref().filter(|written| *written.get_ref()) else {
            return Ok(false);
        };
        if matchers.iter().any(|matcher| matcher.protocol == Protocol::Udp) {
            return Ok(true);
        }
        let message = "one_packet = true: one-packet scheduling is only for UDP; remove it";
        Err(self.source.error(written.span(), message))
    }

    fn real_servers(&self, file: &VirtualServiceFile) -> Result<Vec<RealServerConfig>, ConfigError> {
        file.real_servers.iter().map(|written| self.real_server(written.get_ref())).collect()
    }

    fn real_server(&self, file: &RealServerFile) -> Result<RealServerConfig, ConfigError> {
        let source = self.source;
        let rip = words::address_v4(source, "rip", &file.rip)?;
        let name = file.name.as_ref().map(|word| words::name(source, word)).transpose()?;
        let number = |key, written: &Option<Spanned<i64>>, max| {
            written.as_ref().map(|n| words::number(source, key, n, 0..=max)).transpose()
        };
        let weight = number("weight", &file.weight, WEIGHT_MAX)?.unwrap_or(1);
        let upper = number("upper_threshold", &file.upper_threshold, THRESHOLD_MAX)?.unwrap_or(0);
        let lower = number("lower_threshold", &file.lower_threshold, THRESHOLD_MAX)?.unwrap_or(0);
        if let Some(written) = file.lower_threshold.as_ref().filter(|_| lower > upper) {
            let message =
                format!("lower_threshold = {lower}: expected at most upper_threshold, which is {upper}");
            return Err(source.error(written.span(), message));
        }
        let path_mtu = file.path_mtu.as_ref().map(|value| self.path_mtu(value)).transpose()?;
        Ok(RealServerConfig {
            name: name.unwrap_or_else(|| rip.to_string()),
            rip: rip.into(),
            weight: weight as u32,
            upper_threshold: upper as u32,
            lower_threshold: lower as u32,
            path_mtu: path_mtu.flatten(),
        })
    }

    fn path_mtu(&self, written: &Spanned<toml::Value>) -> Result<Option<u16>, ConfigError> {
        match written.get_ref() {
            toml::Value::String(word) if word == "auto" => Ok(None),
            toml::Value::Integer(mtu) if (PATH_MTU_MIN..=65_535).contains(mtu) => Ok(Some(*mtu as u16)),
            other => {
                let message = format!(
                    "path_mtu = {}: expected \"auto\" or a number of bytes from {PATH_MTU_MIN} to 65535",
                    clipped(&other.to_string())
                );
                Err(self.source.error(written.span(), message))
            }
        }
    }
}

/// "tcp-172.25.3.100-80".
pub fn name_of(matcher: &Matcher) -> String {
    format!("{}-{}-{}", matcher.protocol.name(), matcher.vip, matcher.ports)
}
