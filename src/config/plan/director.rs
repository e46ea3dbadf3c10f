//! `director.toml` → [`DirectorPlan`].

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use toml::Spanned;

use super::super::file::{self, DirectorFile, RealServerFile, TimeoutsFile, VirtualServiceFile};
use super::super::{ConfigError, Source};
use super::{
    Announce, CONNECTIONS_MAX_DEFAULT, Capture, DirectorPlan, METRICS_DIRECTOR, TUN_DIRECTOR, words,
};
use crate::director::cluster::{
    ClusterConfig, NoService, Protocol, RealServerConfig, UnknownTcp, VirtualServiceConfig,
};
use crate::director::connection::Timeouts;
use crate::director::scheduler::{self, SCHEDULERS};
use crate::encapsulation::Ttl;

const PROTOCOLS: &[(&str, Protocol)] = &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
const UNKNOWN_TCP: &[(&str, UnknownTcp)] =
    &[("rst", UnknownTcp::Rst), ("drop", UnknownTcp::Drop), ("schedule", UnknownTcp::Schedule)];
const NO_SERVICE: &[(&str, NoService)] = &[("reject", NoService::Reject), ("drop", NoService::Drop)];
const CAPTURE: &[(&str, Capture)] =
    &[("auto", Capture::Auto), ("route", Capture::Route), ("rule", Capture::Rule)];
const ANNOUNCE: &[(&str, Announce)] =
    &[("always", Announce::Always), ("local", Announce::Local), ("never", Announce::Never)];

/// ipvs.md §16.4.
const WEIGHT_MAX: i64 = 65_535;
/// One thread each; a TUN device takes up to 256 (MAX_TAP_QUEUES of drivers/net/tun.c).
const QUEUES_MAX: i64 = 256;
/// About 10 GB of entries.
const CONNECTIONS_LIMIT: i64 = 100_000_000;
/// RFC 791: every host forwards 68 bytes; below it the outer header leaves nothing.
const PATH_MTU_MIN: i64 = 88;

/// Reads a director's configuration. `interface` (from the command line) goes before the file's.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn director(source: &Source, interface: Option<&str>) -> Result<DirectorPlan, ConfigError> {
    let file: DirectorFile = file::parse(source)?;
    let reader = Reader { source, defaults: Defaults::read(source, &file)? };
    let interface = match (interface, &file.interface) {
        (Some(given), _) => given.to_owned(),
        (None, Some(written)) => words::interface(source, "interface", written)?,
        (None, None) => {
            let message = "the key `interface` is missing: the interface on which clients' packets for the \
                           VIPs arrive, such as interface = \"eth0\"";
            return Err(source.error_whole(message));
        }
    };
    let tun = file.tun.as_ref().map(|word| words::interface(source, "tun", word)).transpose()?;
    let tun = tun.unwrap_or_else(|| TUN_DIRECTOR.to_owned());
    if tun == interface {
        return Err(
            source.error_whole(format!("tun and interface are both \"{tun}\"; the TUN device is a new one"))
        );
    }
    let queues =
        file.queues.as_ref().map(|n| words::number(source, "queues", n, 1..=QUEUES_MAX)).transpose()?;
    let metrics = file.metrics.as_ref().map(|word| words::listen(source, "metrics", word)).transpose()?;
    let capture = file.capture.as_ref().map(|word| words::choice(source, "capture", word, CAPTURE));
    let announce = file.announce.as_ref().map(|word| words::choice(source, "announce", word, ANNOUNCE));
    let outer_source = match &file.outer_source {
        Some(word) if word.get_ref() != "auto" => Some(words::address_v4(source, "outer_source", word)?),
        _ => None,
    };
    let max = file.connections_max.as_ref();
    let max = max.map(|n| words::number(source, "connections_max", n, 1..=CONNECTIONS_LIMIT)).transpose()?;
    Ok(DirectorPlan {
        interface,
        tun,
        queues: queues.map(|queues| queues as usize),
        metrics: metrics
            .unwrap_or_else(|| METRICS_DIRECTOR.parse().expect("because the constant is an address")),
        control: file.control.as_ref().map(|path| path.get_ref().into()),
        capture: capture.transpose()?.unwrap_or(Capture::Auto),
        announce: announce.transpose()?.unwrap_or(Announce::Always),
        outer_source,
        connections_max: max.map_or(CONNECTIONS_MAX_DEFAULT, |max| max as usize),
        cluster: reader.cluster(&file)?,
    })
}

/// What a virtual service takes over unless it says otherwise.
struct Defaults {
    unknown_tcp: UnknownTcp,
    timeouts: Timeouts,
}

impl Defaults {
    fn read(source: &Source, file: &DirectorFile) -> Result<Defaults, ConfigError> {
        let unknown_tcp =
            file.unknown_tcp.as_ref().map(|word| words::choice(source, "unknown_tcp", word, UNKNOWN_TCP));
        Ok(Defaults {
            unknown_tcp: unknown_tcp.transpose()?.unwrap_or(UnknownTcp::Rst),
            timeouts: timeouts(source, file.timeouts.as_ref(), Timeouts::default())?,
        })
    }
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
        established: read("tcp", &written.tcp, default.established)?,
        fin_wait: read("tcp_fin", &written.tcp_fin, default.fin_wait)?,
        udp: read("udp", &written.udp, default.udp)?,
    })
}

struct Reader<'a> {
    source: &'a Source<'a>,
    defaults: Defaults,
}

impl Reader<'_> {
    fn cluster(&self, file: &DirectorFile) -> Result<ClusterConfig, ConfigError> {
        let source = self.source;
        let no_service =
            file.no_service.as_ref().map(|word| words::choice(source, "no_service", word, NO_SERVICE));
        let ttl = file.outer_ttl.as_ref().map(|value| self.ttl(value)).transpose()?;
        let written = &file.virtual_services;
        let services = written.iter().map(|service| self.virtual_service(service.get_ref()));
        let virtual_services = services.collect::<Result<Vec<_>, _>>()?;
        self.check_services(written, &virtual_services)?;
        Ok(ClusterConfig {
            no_service: no_service.transpose()?.unwrap_or(NoService::Reject),
            ttl: ttl.unwrap_or_default(),
            virtual_services,
        })
    }

    fn ttl(&self, written: &Spanned<toml::Value>) -> Result<Ttl, ConfigError> {
        match written.get_ref() {
            toml::Value::Integer(ttl @ 1..=255) => Ok(Ttl::Fixed(*ttl as u8)),
            toml::Value::String(word) if word == "inherit" => Ok(Ttl::Inherit),
            other => Err(self.source.error(
                written.span(),
                format!("outer_ttl = {other}: expected a number from 1 to 255 or \"inherit\""),
            )),
        }
    }

    fn virtual_service(&self, file: &VirtualServiceFile) -> Result<VirtualServiceConfig, ConfigError> {
        let source = self.source;
        let protocol = words::choice(source, "protocol", &file.protocol, PROTOCOLS)?;
        let vip = words::address_v4(source, "vip", &file.vip)?;
        let port = words::number(source, "port", &file.port, 1..=65_535)? as u16;
        let default_name = format!("{}-{vip}-{port}", protocol.name());
        let name = file.name.as_ref().map(|word| words::name(source, word)).transpose()?;
        let schedulers: Vec<_> = SCHEDULERS.iter().map(|row| (row.name, row.name)).collect();
        let scheduler =
            file.scheduler.as_ref().map(|word| words::choice(source, "scheduler", word, &schedulers));
        let unknown_tcp =
            file.unknown_tcp.as_ref().map(|word| words::choice(source, "unknown_tcp", word, UNKNOWN_TCP));
        let mut real_servers: Vec<RealServerConfig> = Vec::new();
        for written in &file.real_servers {
            let server = self.real_server(written.get_ref())?;
            let clash =
                real_servers.iter().find(|other| other.rip == server.rip || other.name == server.name);
            if let Some(other) = clash {
                let message =
                    format!("real server {} ({}) is listed twice; remove one", other.name, server.rip);
                return Err(source.error(written.span(), message));
            }
            real_servers.push(server);
        }
        Ok(VirtualServiceConfig {
            name: name.unwrap_or(default_name),
            protocol,
            vip: vip.into(),
            port,
            scheduler: scheduler.transpose()?.unwrap_or(scheduler::DEFAULT.name),
            unknown_tcp: unknown_tcp.transpose()?.unwrap_or(self.defaults.unknown_tcp),
            timeouts: timeouts(source, file.timeouts.as_ref(), self.defaults.timeouts)?,
            real_servers,
        })
    }

    fn real_server(&self, file: &RealServerFile) -> Result<RealServerConfig, ConfigError> {
        let source = self.source;
        let rip = words::address_v4(source, "rip", &file.rip)?;
        let name = file.name.as_ref().map(|word| words::name(source, word)).transpose()?;
        let weight =
            file.weight.as_ref().map(|n| words::number(source, "weight", n, 0..=WEIGHT_MAX)).transpose()?;
        let path_mtu = file.path_mtu.as_ref().map(|value| self.path_mtu(value)).transpose()?;
        Ok(RealServerConfig {
            name: name.unwrap_or_else(|| rip.to_string()),
            rip: rip.into(),
            weight: weight.unwrap_or(1) as u32,
            path_mtu: path_mtu.flatten(),
        })
    }

    fn path_mtu(&self, written: &Spanned<toml::Value>) -> Result<Option<u16>, ConfigError> {
        match written.get_ref() {
            toml::Value::String(word) if word == "auto" => Ok(None),
            toml::Value::Integer(mtu) if (PATH_MTU_MIN..=65_535).contains(mtu) => Ok(Some(*mtu as u16)),
            other => {
                let message =
                    format!("path_mtu = {other}: expected \"auto\" or {PATH_MTU_MIN} to 65535 bytes");
                Err(self.source.error(written.span(), message))
            }
        }
    }

    /// What can only be seen across services: the same one twice, a VIP that is a real server.
    fn check_services(
        &self,
        written: &[Spanned<VirtualServiceFile>],
        services: &[VirtualServiceConfig],
    ) -> Result<(), ConfigError> {
        let vips: HashSet<IpAddr> = services.iter().map(|service| service.vip).collect();
        let mut keys = HashSet::new();
        let mut names: HashMap<&str, IpAddr> = HashMap::new();
        for (file, service) in written.iter().zip(services) {
            let protocol = service.protocol.name();
            if !keys.insert((service.protocol, service.vip, service.port)) {
                let (vip, port) = (service.vip, service.port);
                let message =
                    format!("virtual service {protocol} {vip}:{port} is there already; merge the two");
                return Err(self.source.error(file.get_ref().vip.span(), message));
            }
            if names.insert(&service.name, service.vip).is_some() {
                let span = file.get_ref().name.as_ref().map_or_else(|| file.span(), Spanned::span);
                let message = format!("the name \"{}\" is taken by another virtual service", service.name);
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
