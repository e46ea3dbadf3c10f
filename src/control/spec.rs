//! Request ↔ configuration: a specification goes through the same reader as a block of the file, so that it
//! has the same defaults, the same limits and the same error messages.

use std::net::IpAddr;
use std::time::Duration;

use toml::Spanned;

use super::error::{Code, ControlError};
use super::model::{
    Persistence, RealServerEdit, RealServerSpec, Seconds, TimeoutsSpec, VirtualServiceEdit,
    VirtualServiceSpec,
};
use crate::config::file::{PersistenceFile, RealServerFile, TimeoutsFile, VirtualServiceFile};
use crate::config::plan::{self, ServiceDefaults};
use crate::config::{ConfigError, write};
use crate::director::cluster::{Matcher, RealServerConfig, UnknownTcp, VirtualServiceConfig};
use crate::director::connection::Timeouts;
use crate::director::scheduler;
use crate::encapsulation;

/// The virtual service of a specification.
pub fn virtual_service(
    spec: &VirtualServiceSpec,
    defaults: &ServiceDefaults,
) -> Result<VirtualServiceConfig, ControlError> {
    for matcher in &spec.matchers {
        check_family("vip", matcher.vip)?;
    }
    if spec.matchers.is_empty() {
        let message = "match: a virtual service needs at least one protocol, VIP and port";
        return Err(ControlError::new(Code::Invalid, message));
    }
    if let Some(name) = spec.scheduler.as_ref().filter(|name| scheduler::find(name).is_none()) {
        let known: Vec<&str> = scheduler::SCHEDULERS.iter().map(|row| row.name).collect();
        let message = format!("scheduler {name:?} is not known; expected one of {}", known.join(", "));
        return Err(ControlError::new(Code::NoSuchScheduler, message));
    }
    let mut config = plan::virtual_service(file_of(spec), defaults).map_err(invalid)?;
    config.real_servers = spec.real_servers.iter().map(real_server).collect::<Result<_, _>>()?;
    Ok(config)
}

/// The real server of a specification.
pub fn real_server(spec: &RealServerSpec) -> Result<RealServerConfig, ControlError> {
    check_family("rip", spec.rip)?;
    if let Some(name) = spec.encapsulation.as_ref().filter(|name| encapsulation::find(name).is_none()) {
        let known: Vec<&str> = encapsulation::ENCAPSULATIONS.iter().map(|row| row.name).collect();
        let message = format!("encapsulation {name:?} is not known; expected one of {}", known.join(", "));
        return Err(ControlError::new(Code::Invalid, message));
    }
    let number = |number: Option<u32>| number.map(|number| bare(i64::from(number)));
    let file = RealServerFile {
        name: spec.name.clone().map(bare),
        rip: bare(spec.rip.to_string()),
        weight: number(spec.weight),
        upper_threshold: number(spec.upper_threshold),
        lower_threshold: number(spec.lower_threshold),
        path_mtu: spec.path_mtu.map(|mtu| bare(toml::Value::Integer(mtu.into()))),
    };
    plan::real_server(&file).map_err(invalid)
}

/// A virtual service after an edit.
pub fn edited_service(
    config: &VirtualServiceConfig,
    edit: &VirtualServiceEdit,
) -> Result<VirtualServiceConfig, ControlError> {
    let mut spec = spec_of(config);
    spec.name = edit.name.clone().or(spec.name);
    if let Some(matchers) = &edit.matchers {
        spec.matchers.clone_from(matchers);
    }
    let is_other = edit.scheduler.as_ref().is_some_and(|name| *name != config.scheduler);
    if is_other {
        spec.scheduler_flags.clear();
        spec.mh_table_size = None;
        // A behaviour that the scheduler chose by default changes with it; one that an operator chose stays.
        let suggested = scheduler::find(config.scheduler).map(UnknownTcp::default_for);
        spec.unknown_tcp = spec.unknown_tcp.filter(|chosen| Some(UnknownTcp::from(*chosen)) != suggested);
    }
    spec.scheduler = edit.scheduler.clone().or(spec.scheduler);
    spec.scheduler_flags = edit.scheduler_flags.clone().unwrap_or(spec.scheduler_flags);
    spec.mh_table_size = edit.mh_table_size.or(spec.mh_table_size);
    spec.persistence = edit.persistence.unwrap_or(spec.persistence);
    spec.one_packet = edit.one_packet.unwrap_or(spec.one_packet);
    spec.unknown_tcp = edit.unknown_tcp.or(spec.unknown_tcp);
    spec.on_removed = edit.on_removed.or(spec.on_removed);
    spec.timeouts = TimeoutsSpec {
        tcp: edit.timeouts.tcp.or(spec.timeouts.tcp),
        tcp_fin: edit.timeouts.tcp_fin.or(spec.timeouts.tcp_fin),
        udp: edit.timeouts.udp.or(spec.timeouts.udp),
    };
    let mut next = virtual_service(&spec, &ServiceDefaults::default())?;
    next.scheduler_options.hash_key = config.scheduler_options.hash_key;
    if let (Some(next), Some(before)) = (&mut next.persistence, &config.persistence) {
        next.prefix_v6 = before.prefix_v6;
    }
    next.real_servers.clone_from(&config.real_servers);
    Ok(next)
}

/// A real server after an edit.
pub fn edited_server(
    config: &RealServerConfig,
    edit: &RealServerEdit,
) -> Result<RealServerConfig, ControlError> {
    real_server(&RealServerSpec {
        rip: config.rip,
        name: Some(edit.name.clone().unwrap_or_else(|| config.name.clone())),
        weight: Some(edit.weight.unwrap_or(config.weight)),
        upper_threshold: Some(edit.upper_threshold.unwrap_or(config.upper_threshold)),
        lower_threshold: Some(edit.lower_threshold.unwrap_or(config.lower_threshold)),
        path_mtu: edit.path_mtu.unwrap_or(config.path_mtu),
        encapsulation: edit.encapsulation.clone(),
    })
}

/// Timeouts with an edit applied.
pub fn edited_timeouts(before: Timeouts, edit: &TimeoutsSpec) -> Result<Timeouts, ControlError> {
    let read = |key: &str, seconds: Option<Seconds>, before: Duration| match seconds {
        None => Ok(before),
        Some(Seconds(duration)) => plan::timeout(key, duration).map_err(invalid),
    };
    Ok(Timeouts {
        established: read("timeouts.tcp", edit.tcp, before.established)?,
        fin_wait: read("timeouts.tcp_fin", edit.tcp_fin, before.fin_wait)?,
        udp: read("timeouts.udp", edit.udp, before.udp)?,
    })
}

/// The specification that would create this virtual service, without its real servers.
pub fn spec_of(config: &VirtualServiceConfig) -> VirtualServiceSpec {
    VirtualServiceSpec {
        name: Some(config.name.clone()),
        matchers: config.matchers.iter().copied().map(Into::into).collect(),
        scheduler: Some(config.scheduler.to_owned()),
        scheduler_flags: write::scheduler_flags(config).into_iter().map(str::to_owned).collect(),
        mh_table_size: mh_table_size(config),
        persistence: config.persistence.map(|persistence| Persistence {
            timeout: Seconds(persistence.timeout),
            prefix: persistence.prefix_v4,
            expire_quiesced: persistence.expires_quiesced,
        }),
        one_packet: config.is_one_packet,
        unknown_tcp: Some(config.unknown_tcp.into()),
        on_removed: Some(config.on_removed.into()),
        timeouts: TimeoutsSpec {
            tcp: Some(Seconds(config.timeouts.established)),
            tcp_fin: Some(Seconds(config.timeouts.fin_wait)),
            udp: Some(Seconds(config.timeouts.udp)),
        },
        real_servers: Vec::new(),
    }
}

/// `None` if the scheduler has no such table.
pub fn mh_table_size(config: &VirtualServiceConfig) -> Option<u32> {
    (config.scheduler == scheduler::mh::ROW.name).then_some(config.scheduler_options.mh_table_size)
}

fn file_of(spec: &VirtualServiceSpec) -> VirtualServiceFile {
    let matcher = |matcher: Matcher| {
        let Matcher { protocol, vip, ports } = matcher;
        bare(format!("{} {vip}:{ports}", protocol.name()))
    };
    let duration = |seconds: Seconds| bare(humantime::format_duration(seconds.0).to_string());
    VirtualServiceFile {
        name: spec.name.clone().map(bare),
        protocol: None,
        vip: None,
        port: None,
        matchers: spec.matchers.iter().map(|written| matcher((*written).into())).collect(),
        scheduler: spec.scheduler.clone().map(bare),
        scheduler_flags: spec.scheduler_flags.iter().cloned().map(bare).collect(),
        mh_table_size: spec.mh_table_size.map(|size| bare(size.into())),
        persistence: spec.persistence.map(|persistence| {
            bare(PersistenceFile {
                timeout: Some(duration(persistence.timeout)),
                prefix: Some(bare(persistence.prefix.into())),
                expire_quiesced: Some(persistence.expire_quiesced),
            })
        }),
        one_packet: Some(bare(spec.one_packet)),
        unknown_tcp: spec.unknown_tcp.map(|word| bare(plan::word_of_unknown_tcp(word.into()).to_owned())),
        on_removed: spec.on_removed.map(|word| bare(plan::word_of_on_removed(word.into()).to_owned())),
        timeouts: Some(TimeoutsFile {
            tcp: spec.timeouts.tcp.map(duration),
            tcp_fin: spec.timeouts.tcp_fin.map(duration),
            udp: spec.timeouts.udp.map(duration),
        }),
        real_servers: Vec::new(),
    }
}

/// A value that does not come from a file.
fn bare<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

fn check_family(key: &str, address: IpAddr) -> Result<(), ControlError> {
    if address.is_ipv4() {
        return Ok(());
    }
    let message = format!("{key} = \"{address}\": IPv6 is not forwarded yet; use an IPv4 address");
    Err(ControlError::new(Code::UnsupportedAddressFamily, message))
}

/// The reader's message without a file name and line.
fn invalid(error: ConfigError) -> ControlError {
    ControlError::new(Code::Invalid, error.message)
}
