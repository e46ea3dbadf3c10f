//! `-S`: the configuration as commands that [`super::restore`] can read.

use std::fmt::Write;

use super::IpvsadmError;
use super::listing::{flags_text, mask_text, sorted_servers, sorted_services};
use super::names::{Names, place_text, port_text};
use super::options::Transport;
use super::served::{has_ops, place_of};
use super::values::AddressPort;
use crate::config::plan::default_service_name;
use crate::control::model::{OnRemoved, RealServer, Timeouts, UnknownTcp, VirtualService};
use crate::director::cluster::UnknownTcp as ClusterUnknownTcp;
use crate::director::scheduler;

/// A saved configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// One command per line, in an order that [`super::restore`] can apply.
    pub text: String,
    /// The keys that ipvsadm cannot express, and where: "web: name".
    pub left_out: Vec<String>,
}

/// The commands that create these services, in the order of lists.
///
/// Deviation: thresholds are saved too, after everything that ipvsadm saves. ipvsadm drops them.
///
/// # Errors
/// A virtual service whose packets no command can describe.
pub fn save(
    services: &[VirtualService],
    defaults: &Timeouts,
    names: &dyn Names,
) -> Result<Saved, IpvsadmError> {
    let mut saved = Saved::default();
    for service in sorted_services(services) {
        let place = address(service)?;
        let word = service_word(place, names);
        _ = writeln!(saved.text, "-A {word} -s {}{}", service.scheduler, service_terms(service));
        for server in sorted_servers(service) {
            let rip = place_text(server.rip, &port_text(place.1.port, place.0, names), names);
            // A draining real server is saved with its configured weight.
            let (weight, encapsulation) = (server.weight, &server.encapsulation);
            let thresholds = thresholds(server);
            _ = writeln!(
                saved.text,
                "-a {word} -r {rip} -i -w {weight} --tun-type {encapsulation}{thresholds}"
            );
        }
        note_left_out(&mut saved.left_out, service, defaults);
    }
    Ok(saved)
}

fn address(service: &VirtualService) -> Result<(Transport, AddressPort), IpvsadmError> {
    let refused = |why: &str| {
        let text = format!(
            "lvs-tund: virtual service {:?} {why}, which no ipvsadm command can express; `lvs-tund save` writes the \
             whole configuration",
            service.name
        );
        IpvsadmError::list(text)
    };
    let [matcher] = service.matchers.as_slice() else {
        return Err(refused("matches several addresses or ports"));
    };
    let place = place_of(matcher).ok_or_else(|| refused("has a range of ports"))?;
    if place.1.port == 0 && service.persistence.is_none() {
        return Err(refused("has all ports and is not persistent"));
    }
    Ok(place)
}

fn service_word((transport, place): (Transport, AddressPort), names: &dyn Names) -> String {
    let option = match transport {
        Transport::Tcp => "-t",
        Transport::Udp => "-u",
        Transport::Sctp => "--sctp-service",
    };
    format!("{option} {}", place_text(place.address, &port_text(place.port, transport, names), names))
}

fn service_terms(service: &VirtualService) -> String {
    let mut text = String::new();
    if let Some(persistence) = &service.persistence {
        _ = write!(text, " -p {}", persistence.timeout.whole());
        if let Some(mask) = mask_text(persistence) {
            _ = write!(text, " -M {mask}");
        }
    }
    if has_ops(service) {
        text.push_str(" -o");
    }
    if !service.scheduler_flags.is_empty() {
        _ = write!(text, " -b {}", flags_text(service));
    }
    text
}

fn thresholds(server: &RealServer) -> String {
    let mut text = String::new();
    for (option, threshold) in [("-x", server.upper_threshold), ("-y", server.lower_threshold)] {
        if threshold > 0 {
            _ = write!(text, " {option} {threshold}");
        }
    }
    text
}

fn note_left_out(left_out: &mut Vec<String>, service: &VirtualService, defaults: &Timeouts) {
    let default_name = service.matchers.first().map(|matcher| default_service_name(&(*matcher).into()));
    let unknown_tcp = scheduler::find(&service.scheduler).map(ClusterUnknownTcp::default_for);
    let odd = [
        (default_name.as_ref() != Some(&service.name), "name"),
        (
            service.mh_table_size.is_some_and(|size| size != scheduler::mh::TABLE_SIZE_DEFAULT),
            "mh_table_size",
        ),
        (
            service.persistence.is_some_and(|persistence| persistence.expire_quiesced),
            "persistence.expire_quiesced",
        ),
        (unknown_tcp.map(UnknownTcp::from) != Some(service.unknown_tcp), "unknown_tcp"),
        (service.on_removed != OnRemoved::Reschedule, "on_removed"),
        (service.timeouts != *defaults, "timeouts"),
    ];
    let keys: Vec<&str> = odd.into_iter().filter(|(is_odd, _)| *is_odd).map(|(_, key)| key).collect();
    if !keys.is_empty() {
        left_out.push(format!("{}: {}", service.name, keys.join(", ")));
    }
    for server in sorted_servers(service) {
        let odd = [
            (server.name != server.rip.to_string(), "name"),
            (server.path_mtu.is_some(), "path_mtu"),
            (server.drain.is_some(), "drain"),
        ];
        let keys: Vec<&str> = odd.into_iter().filter(|(is_odd, _)| *is_odd).map(|(_, key)| key).collect();
        if !keys.is_empty() {
            left_out.push(format!("{} {}: {}", service.name, server.name, keys.join(", ")));
        }
    }
}
