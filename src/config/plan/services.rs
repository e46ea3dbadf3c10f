//! The `[[virtual_service]]` blocks → [`VirtualServiceConfig`].

use std::collections::HashSet;
use std::net::IpAddr;

use toml::Spanned;

use super::super::file::{DirectorFile, PersistenceFile, RealServerFile, TimeoutsFile, VirtualServiceFile};
use super::super::{ConfigError, Source, clipped};
use super::words;
use crate::director::cluster::{
    Matcher, OnRemoved, Persistence, Ports, RealServerConfig, UnknownTcp, VIRTUAL_SERVICES_MAX,
    VirtualServiceConfig,
};
use crate::director::connection::Timeouts;
use crate::director::scheduler::{self, SCHEDULERS, mh};
use crate::packet::Protocol;

const PROTOCOLS: &[(&str, Protocol)] = &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
const UNKNOWN_TCP: &[(&str, UnknownTcp)] =
    &[("rst", UnknownTcp::Rst), ("drop", UnknownTcp::Drop), ("schedule", UnknownTcp::Schedule)];
const ON_REMOVED: &[(&str, OnRemoved)] =
    &[("reschedule", OnRemoved::Reschedule), ("drop", OnRemoved::Drop), ("keep", OnRemoved::Keep)];

/// ipvs.md §16.4.
const WEIGHT_MAX: i64 = 65_535;
const THRESHOLD_MAX: i64 = i32::MAX as i64;
/// RFC 791: every host forwards 68 bytes; below it the outer header leaves nothing.
const PATH_MTU_MIN: i64 = 88;

/// Reads all virtual services of a file.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn read(source: &Source, file: &DirectorFile) -> Result<Vec<VirtualServiceConfig>, ConfigError> {
    let reader = Reader { source, defaults: Defaults::read(source, file)? };
    let written = &file.virtual_services;
    // Half of the slots, for a reload may replace every service at once.
    const SERVICES_MAX: usize = VIRTUAL_SERVICES_MAX / 2;
    if let Some(first) = written.get(SERVICES_MAX) {
        let message = format!(
            "there are more than {SERVICES_MAX} virtual services; spread them over several directors"
        );
        return Err(source.error(first.span(), message));
    }
    let services =
        written.iter().map(|service| reader.virtual_service(service)).collect::<Result<Vec<_>, _>>()?;
    reader.check_services(written, &services)?;
    Ok(services)
}

/// What a virtual service takes over unless it says otherwise.
struct Defaults {
    /// `None`: as the scheduler suggests.
    unknown_tcp: Option<UnknownTcp>,
    on_removed: OnRemoved,
    timeouts: Timeouts,
}

impl Defaults {
    fn read(source: &Source, file: &DirectorFile) -> Result<Defaults, ConfigError> {
        Ok(Defaults {
            unknown_tcp: unknown_tcp(source, file.unknown_tcp.as_ref())?,
            on_removed: on_removed(source, file.on_removed.as_ref())?.unwrap_or(OnRemoved::Reschedule),
            timeouts: timeouts(source, file.timeouts.as_ref(), Timeouts::default())?,
        })
    }
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
    defaults: Defaults,
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

    /// What the service is for: `protocol`, `vip` and `port`, or a list `match`.
    fn matchers(&self, written: &Spanned<VirtualServiceFile>) -> Result<Vec<Matcher>, ConfigError> {
        let (source, file) = (self.source, written.get_ref());
        if !file.matchers.is_empty() {
            let single = [file.protocol.as_ref(), file.vip.as_ref()].into_iter().flatten().map(Spanned::span);
            if let Some(span) = single.chain(file.port.as_ref().map(Spanned::span)).next() {
                let message = "`match` says what the service is for; leave out protocol, vip and port";
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
                let message = format!("mh_table_size is for scheduler mh, not {}; leave it out", row.name);
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
        let message = "one_packet = true: one-packet scheduling is only for UDP; leave it out";
        Err(self.source.error(written.span(), message))
    }

    fn real_servers(&self, file: &VirtualServiceFile) -> Result<Vec<RealServerConfig>, ConfigError> {
        let source = self.source;
        let mut found: Vec<RealServerConfig> = Vec::new();
        for written in &file.real_servers {
            let server = self.real_server(written.get_ref())?;
            if found.iter().any(|other| other.rip == server.rip) {
                let message =
                    format!("real server {} is listed twice in this virtual service; remove one", server.rip);
                return Err(source.error(written.get_ref().rip.span(), message));
            }
            if let Some(other) = found.iter().find(|other| other.name == server.name) {
                let message = format!(
                    "the name {} is taken by real server {}; give this one another",
                    words::quoted(&server.name),
                    other.rip
                );
                let span = written.get_ref().name.as_ref().map_or_else(|| written.span(), Spanned::span);
                return Err(source.error(span, message));
            }
            found.push(server);
        }
        Ok(found)
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

    /// What can only be seen across services: two for the same packets, a VIP that is a real server.
    fn check_services(
        &self,
        written: &[Spanned<VirtualServiceFile>],
        services: &[VirtualServiceConfig],
    ) -> Result<(), ConfigError> {
        let vips: HashSet<IpAddr> = services.iter().flat_map(VirtualServiceConfig::vips).collect();
        let mut names = HashSet::new();
        let mut taken: Vec<&Matcher> = Vec::new();
        for (file, service) in written.iter().zip(services) {
            let place = file.get_ref().vip.as_ref().map_or_else(|| file.span(), Spanned::span);
            for (index, matcher) in service.matchers.iter().enumerate() {
                let place = file.get_ref().matchers.get(index).map_or_else(|| place.clone(), Spanned::span);
                if let Some(message) = taken.iter().find_map(|other| clash(matcher, other)) {
                    return Err(self.source.error(place, message));
                }
                taken.push(matcher);
            }
            if !names.insert(&service.name) {
                let span = file.get_ref().name.as_ref().map_or_else(|| file.span(), Spanned::span);
                let message = format!(
                    "the name {} is taken by another virtual service; give this one another",
                    words::quoted(&service.name)
                );
                return Err(self.source.error(span, message));
            }
            for (server, config) in file.get_ref().real_servers.iter().zip(&service.real_servers) {
                if vips.contains(&config.rip) {
                    let message = format!(
                        "rip = \"{}\" is a VIP: packets for it come back to the director; give the real server's \
                         own address",
                        config.rip
                    );
                    return Err(self.source.error(server.get_ref().rip.span(), message));
                }
            }
        }
        Ok(())
    }
}

/// "tcp-172.25.3.100-80".
fn name_of(matcher: &Matcher) -> String {
    format!("{}-{}-{}", matcher.protocol.name(), matcher.vip, matcher.ports)
}

/// Why two matchers cannot stand side by side: they are the same, or their ranges overlap without one
/// lying inside the other, so that neither is the narrower one.
fn clash(matcher: &Matcher, other: &Matcher) -> Option<String> {
    if (matcher.protocol, matcher.vip) != (other.protocol, other.vip) {
        return None;
    }
    let (protocol, vip) = (matcher.protocol.name(), matcher.vip);
    let (a, b): (Ports, Ports) = (matcher.ports, other.ports);
    if a == b {
        return Some(format!("virtual service {protocol} {vip}:{a} is there already; merge the two"));
    }
    let is_apart = a.last < b.first || b.last < a.first;
    let is_inside = a.first >= b.first && a.last <= b.last || b.first >= a.first && b.last <= a.last;
    (!is_apart && !is_inside).then(|| {
        format!("ports {a} and {b} of {protocol} {vip} overlap; keep them apart, or one inside the other")
    })
}
