//! What an operation is given, with every key, or why it is refused: the defaults and the limits of the model.

use std::time::Duration;

use lvs_tund::control::Code;
use lvs_tund::control::model::{
    Matcher, Protocol, RealServerSpec, Seconds, TimeoutsSpec, UnknownTcp, VirtualServiceSpec,
};

pub fn default_service_name(matcher: &Matcher) -> String {
    let protocol = match matcher.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("{protocol}-{}-{}", matcher.vip, matcher.port.0)
}

pub fn suggested(scheduler: &str) -> UnknownTcp {
    if ["sh", "mh"].contains(&scheduler) { UnknownTcp::Schedule } else { UnknownTcp::Rst }
}

/// The service with every key, if it can be.
pub fn checked(mut service: VirtualServiceSpec, before: &TimeoutsSpec) -> Result<VirtualServiceSpec, Code> {
    if service.matchers.iter().any(|matcher| matcher.vip.is_ipv6()) {
        return Err(Code::UnsupportedAddressFamily);
    }
    if service.matchers.is_empty() {
        return Err(Code::Invalid);
    }
    let scheduler = service.scheduler.clone().unwrap_or_default();
    if scheduler == "nosuch" {
        return Err(Code::NoSuchScheduler);
    }
    service.scheduler_flags.sort();
    service.scheduler_flags.dedup();
    let is_udp = service.matchers.iter().any(|matcher| matcher.protocol == Protocol::Udp);
    let is_good = service.scheduler_flags.iter().all(|flag| flag.starts_with(&format!("{scheduler}-")))
        && service.mh_table_size.is_none_or(|size| scheduler == "mh" && size != 500)
        && service.persistence.is_none_or(|p| is_timeout(p.timeout) && (1..=32).contains(&p.prefix))
        && (is_udp || !service.one_packet);
    if !is_good {
        return Err(Code::Invalid);
    }
    service.mh_table_size = service.mh_table_size.or(Some(65_537));
    service.timeouts = or(&service.timeouts, before)?;
    Ok(service)
}

/// The real server with every key, if it can be.
pub fn complete(asked: &RealServerSpec) -> Result<RealServerSpec, Code> {
    if asked.rip.is_ipv6() {
        return Err(Code::UnsupportedAddressFamily);
    }
    let server = RealServerSpec {
        rip: asked.rip,
        name: asked.name.clone().or(Some(asked.rip.to_string())),
        weight: asked.weight.or(Some(1)),
        upper_threshold: asked.upper_threshold.or(Some(0)),
        lower_threshold: asked.lower_threshold.or(Some(0)),
        path_mtu: asked.path_mtu,
        encapsulation: asked.encapsulation.clone().or(Some("ipip".to_owned())),
        check: None,
        sorry: asked.sorry,
    };
    let is_good = server.encapsulation.as_deref() == Some("ipip")
        && server.weight <= Some(i32::MAX as u32)
        && server.lower_threshold <= server.upper_threshold
        && server.path_mtu.is_none_or(|mtu| mtu >= 88);
    if is_good { Ok(server) } else { Err(Code::Invalid) }
}

fn is_timeout(seconds: Seconds) -> bool {
    (Duration::from_secs(1)..=Duration::from_secs(31 * 86_400)).contains(&seconds.0)
}

/// Those that are requested, otherwise those before.
pub fn or(asked: &TimeoutsSpec, before: &TimeoutsSpec) -> Result<TimeoutsSpec, Code> {
    if [asked.tcp, asked.tcp_fin, asked.udp].into_iter().flatten().all(is_timeout) {
        let (tcp, tcp_fin) = (asked.tcp.or(before.tcp), asked.tcp_fin.or(before.tcp_fin));
        return Ok(TimeoutsSpec { tcp, tcp_fin, udp: asked.udp.or(before.udp) });
    }
    Err(Code::Invalid)
}
