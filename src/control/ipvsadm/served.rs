//! Turns a valid command into the operation for a running director, or into one sentence about why lvs-tund does not
//! support it and what to do instead.

use super::IpvsadmError;
use super::command::{Command, ServerTerms, ServiceAddress, ServiceTerms};
use super::legality::TunnelType;
use super::options::{Forwarding, Transport};
use super::values::{AddressPort, Mask};
use crate::control::model::{
    Matcher, Operation, Persistence, Port, Protocol, RealServerEdit, RealServerSpec, Seconds, ServiceRef,
    TimeoutsSpec, VirtualService, VirtualServiceEdit, VirtualServiceSpec,
};

/// The operation for a command.
///
/// # Errors
/// Anything that lvs-tund does not support. No option is silently ignored.
pub fn operation(command: &Command) -> Result<Operation, IpvsadmError> {
    Ok(match command {
        Command::AddService(terms) => Operation::AddVirtualService { virtual_service: service_spec(terms)? },
        Command::EditService(terms) => Operation::EditVirtualService {
            virtual_service: known_service(&terms.address, NO_SUCH_SERVICE)?,
            set: service_edit(terms)?,
        },
        Command::DeleteService(address) => {
            Operation::RemoveVirtualService { virtual_service: known_service(address, NO_SUCH_SERVICE)? }
        }
        Command::AddServer(address, terms) => Operation::AddRealServer {
            virtual_service: known_service(address, SERVICE_NOT_DEFINED)?,
            real_server: server_spec(terms)?,
        },
        Command::EditServer(address, terms) => Operation::EditRealServer {
            virtual_service: known_service(address, SERVICE_NOT_DEFINED)?,
            real_server: terms.place.address.to_string(),
            set: server_edit(terms)?,
        },
        Command::DeleteServer(address, place) => Operation::RemoveRealServer {
            virtual_service: known_service(address, SERVICE_NOT_DEFINED)?,
            real_server: place.address.to_string(),
        },
        Command::Flush => Operation::Flush {},
        Command::Zero(address) => Operation::Zero {
            virtual_service: address.as_ref().map(|at| known_service(at, NO_SUCH_SERVICE)).transpose()?,
        },
        Command::SetTimeouts([tcp, tcp_fin, udp]) => {
            let seconds = |value: u32| (value > 0).then(|| Seconds::new(value.into()));
            let timeouts =
                TimeoutsSpec { tcp: seconds(*tcp), tcp_fin: seconds(*tcp_fin), udp: seconds(*udp) };
            Operation::SetTimeouts { timeouts }
        }
        Command::StartDaemon | Command::StopDaemon => {
            let text = "connections are not synchronized between directors; use scheduler mh with the same \
                        hash_key on all directors, which then choose the same real servers";
            return Err(unserved(text));
        }
        Command::List(_) | Command::Save { .. } | Command::Restore | Command::Help | Command::Version => {
            return Err(unserved("this command changes nothing; run it on its own"));
        }
    })
}

/// What an operator may not expect of a command that succeeds.
pub fn note(command: &Command) -> Option<String> {
    let (Command::AddServer(_, terms) | Command::EditServer(_, terms)) = command else { return None };
    let AddressPort { address, port } = terms.place;
    let ignored = terms.ignored_port?;
    let reached = if port == 0 { "the port that the client used".to_owned() } else { format!("port {port}") };
    Some(format!(
        "lvs-tund: port {ignored} of {address} has no effect: a tunnelled packet keeps its port, so the real server \
         receives it on {reached}"
    ))
}

/// ESRCH in ipvs_strerror() of libipvs.c.
pub(super) const NO_SUCH_SERVICE: &str = "No such service";
pub(super) const SERVICE_NOT_DEFINED: &str = "Service not defined";

/// A sentence of lvs-tund's own; the real program supports the option and has no text for this.
fn unserved(text: impl AsRef<str>) -> IpvsadmError {
    IpvsadmError::usage(format!("lvs-tund: {}", text.as_ref()))
}

/// The packets of an address; `None` if no virtual service here can match them.
pub fn matcher(address: &ServiceAddress) -> Option<Matcher> {
    let ServiceAddress::AddressPort(transport, place) = address else { return None };
    let protocol = match transport {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
        Transport::Sctp => return None,
    };
    let port = if place.port == 0 { Port::ALL } else { Port::one(place.port) };
    place.address.is_ipv4().then_some(Matcher { protocol, vip: place.address, port })
}

fn known_service(address: &ServiceAddress, missing: &str) -> Result<ServiceRef, IpvsadmError> {
    matcher(address).map(ServiceRef::Matcher).ok_or_else(|| IpvsadmError::kernel(missing))
}

fn service_spec(terms: &ServiceTerms) -> Result<VirtualServiceSpec, IpvsadmError> {
    let Some(matcher) = matcher(&terms.address) else {
        return Err(unserved(match terms.address {
            ServiceAddress::FirewallMark { .. } => {
                "firewall marks are not served; write a virtual service with several VIPs, ports and protocols \
                 in the configuration: match = [\"tcp VIP:80\", \"tcp VIP:443\"]"
            }
            ServiceAddress::AddressPort(Transport::Sctp, _) => "SCTP is not served; use -t or -u",
            ServiceAddress::AddressPort(..) => "IPv6 is not forwarded yet; use an IPv4 address",
        }));
    };
    Ok(VirtualServiceSpec {
        matchers: vec![matcher],
        scheduler: Some(terms.scheduler.clone()),
        scheduler_flags: scheduler_flags(terms)?,
        persistence: persistence(terms)?,
        one_packet: terms.has_ops,
        ..VirtualServiceSpec::default()
    })
}

/// `-E` replaces every setting: options that are not given return to their defaults (as in the real program).
fn service_edit(terms: &ServiceTerms) -> Result<VirtualServiceEdit, IpvsadmError> {
    Ok(VirtualServiceEdit {
        scheduler: Some(terms.scheduler.clone()),
        scheduler_flags: Some(scheduler_flags(terms)?),
        persistence: Some(persistence(terms)?),
        one_packet: Some(terms.has_ops),
        ..VirtualServiceEdit::default()
    })
}

fn scheduler_flags(terms: &ServiceTerms) -> Result<Vec<String>, IpvsadmError> {
    let scheduler = terms.scheduler.as_str();
    let is_hash = matches!(scheduler, "sh" | "mh");
    if terms.scheduler_flags & 4 != 0 || (terms.scheduler_flags != 0 && !is_hash) {
        let text = format!(
            "scheduler {scheduler} has no such flag; sh and mh have sh-fallback, sh-port, mh-fallback, mh-port"
        );
        return Err(unserved(text));
    }
    let flags = [(1, "fallback"), (2, "port")];
    let flags = flags.into_iter().filter(|(bit, _)| terms.scheduler_flags & bit != 0);
    Ok(flags.map(|(_, flag)| format!("{scheduler}-{flag}")).collect())
}

fn persistence(terms: &ServiceTerms) -> Result<Option<Persistence>, IpvsadmError> {
    if let Some(engine) = &terms.persistence_engine {
        let text =
            format!("--pe {engine}: there are no persistence engines; remove it to use the client's address");
        return Err(unserved(text));
    }
    let Some(timeout) = terms.persistence else { return Ok(None) };
    let prefix = match terms.mask {
        None => 32,
        Some(mask) => mask.prefix().ok_or_else(|| {
            let shown = match mask {
                Mask::V4(mask) => mask.to_string(),
                Mask::V6(prefix) => prefix.to_string(),
            };
            unserved(format!(
                "-M {shown}: clients are grouped by prefix; use a mask from 128.0.0.0 to \
                 255.255.255.255 with contiguous ones"
            ))
        })?,
    };
    Ok(Some(Persistence { timeout: Seconds::new(timeout.into()), prefix, expire_quiesced: false }))
}

/// Refuses every forwarding method except tunnelling.
fn check_forwarding(terms: &ServerTerms) -> Result<(), IpvsadmError> {
    let what = match terms.forwarding {
        Some(Forwarding::Tunnel) => return check_tunnel(terms),
        // ipvsadm(8): without a forwarding option, ipvsadm uses direct routing.
        None => {
            "without -i ipvsadm means -g (direct routing), which lvs-tund does not do; add -i (tunneling)"
        }
        Some(Forwarding::DirectRouting) => "-g (direct routing) is not served; use -i (tunneling) instead",
        Some(Forwarding::Masquerading) => "-m (masquerading) is not served; use -i (tunneling) instead",
    };
    Err(unserved(format!("{what}, and run `lvs-tund realserver` on {}", terms.place.address)))
}

fn check_tunnel(terms: &ServerTerms) -> Result<(), IpvsadmError> {
    if terms.tunnel != TunnelType::Ipip {
        let name = terms.tunnel.name();
        return Err(unserved(format!("--tun-type {name} is not served yet; remove it to use ipip")));
    }
    if terms.place.address.is_ipv6() {
        return Err(unserved("IPv6 is not forwarded yet; use the real server's IPv4 address"));
    }
    if terms.lower_threshold > terms.upper_threshold {
        // strerror(ERANGE), the kernel's answer.
        let text = format!(
            "Numerical result out of range\nlvs-tund: -y {} is above -x {}; use a value of at most -x",
            terms.lower_threshold, terms.upper_threshold
        );
        return Err(IpvsadmError::kernel(text));
    }
    Ok(())
}

fn server_spec(terms: &ServerTerms) -> Result<RealServerSpec, IpvsadmError> {
    check_forwarding(terms)?;
    Ok(RealServerSpec {
        weight: Some(terms.weight),
        upper_threshold: Some(terms.upper_threshold),
        lower_threshold: Some(terms.lower_threshold),
        encapsulation: Some(terms.tunnel.name().to_owned()),
        ..RealServerSpec::new(terms.place.address)
    })
}

/// `-e` replaces every setting, as `-E` does.
fn server_edit(terms: &ServerTerms) -> Result<RealServerEdit, IpvsadmError> {
    check_forwarding(terms)?;
    Ok(RealServerEdit {
        weight: Some(terms.weight),
        upper_threshold: Some(terms.upper_threshold),
        lower_threshold: Some(terms.lower_threshold),
        encapsulation: Some(terms.tunnel.name().to_owned()),
        ..RealServerEdit::default()
    })
}

/// Adapts operations to the existing virtual services, which may have properties that ipvsadm cannot express:
/// a service with several addresses cannot be changed through one of them, and an edit keeps the settings
/// that ipvsadm cannot express.
///
/// # Errors
/// A sentence that names the service.
pub fn fit(operations: &mut [Operation], services: &[VirtualService]) -> Result<(), IpvsadmError> {
    let is_odd = |service: &&VirtualService| service.matchers.len() > 1 || expires_quiesced(service);
    let odd: Vec<&VirtualService> = services.iter().filter(is_odd).collect();
    for operation in operations {
        let (asked, edit) = match operation {
            Operation::EditVirtualService { virtual_service, set } => (virtual_service, Some(set)),
            Operation::RemoveVirtualService { virtual_service } => (virtual_service, None),
            _ => continue,
        };
        let ServiceRef::Matcher(matcher) = asked else { continue };
        let Some(service) = odd.iter().find(|service| service.matchers.contains(matcher)) else { continue };
        if service.matchers.len() > 1 {
            let text = format!(
                "lvs-tund: virtual service {:?} matches {} addresses and ports; change it in the \
                 configuration and `lvs-tund reload`",
                service.name,
                service.matchers.len()
            );
            return Err(IpvsadmError::kernel(text));
        }
        if let Some(Some(persistence)) = edit.and_then(|edit| edit.persistence.as_mut()) {
            persistence.expire_quiesced = expires_quiesced(service);
        }
    }
    Ok(())
}

fn expires_quiesced(service: &VirtualService) -> bool {
    service.persistence.is_some_and(|persistence| persistence.expire_quiesced)
}

/// Whether `-o` is set.
pub(super) fn has_ops(service: &VirtualService) -> bool {
    service.one_packet
}

/// The address of a matcher as ipvsadm writes it.
pub fn place_of(matcher: &Matcher) -> Option<(Transport, AddressPort)> {
    let transport = transport_of(matcher.protocol);
    let port = match matcher.port {
        Port::ALL => 0,
        Port(ports) if ports.is_one() => ports.first,
        Port(_) => return None,
    };
    Some((transport, AddressPort { address: matcher.vip, port }))
}

pub(super) const fn transport_of(protocol: Protocol) -> Transport {
    match protocol {
        Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
    }
}
