//! Turns the specifications and edits of requests into configurations. They pass through the same rows as the blocks of
//! a file, and therefore have the same defaults, limits and error messages.

use std::net::IpAddr;

use super::error::{Code, ControlError};
use super::model::{
    Matcher, RealServerEdit, RealServerSpec, TimeoutsSpec, VirtualServiceEdit, VirtualServiceSpec,
};
use crate::config::keys::matchers::NO_MATCHER;
use crate::config::keys::{real_server as server_keys, service as service_keys, timeouts};
use crate::config::plan::{self, ServiceDefaults};
use crate::director::cluster::{RealServerConfig, VirtualServiceConfig};
use crate::director::connection::Timeouts;
use crate::director::scheduler;

/// The virtual service of a specification.
pub(super) fn virtual_service(
    spec: &VirtualServiceSpec,
    defaults: &ServiceDefaults,
) -> Result<VirtualServiceConfig, ControlError> {
    check_matchers(&spec.matchers)?;
    spec.scheduler.as_deref().map(known_scheduler).transpose()?;
    let mut config = plan::virtual_service(spec, defaults).map_err(invalid)?;
    config.real_servers = spec.real_servers.iter().map(real_server).collect::<Result<_, _>>()?;
    Ok(config)
}

/// The real server of a specification.
pub(super) fn real_server(spec: &RealServerSpec) -> Result<RealServerConfig, ControlError> {
    check_family("rip", spec.rip)?;
    plan::real_server(spec).map_err(invalid)
}

/// A virtual service after an edit.
pub(super) fn edited_service(
    config: &VirtualServiceConfig,
    edit: &VirtualServiceEdit,
) -> Result<VirtualServiceConfig, ControlError> {
    edit.matchers.as_deref().map(check_matchers).transpose()?;
    let scheduler = edit.scheduler.as_deref().map(known_scheduler).transpose()?;
    let mut next = config.clone();
    if let Some(scheduler) = scheduler.filter(|scheduler| *scheduler != config.scheduler) {
        service_keys::change_scheduler(&mut next, scheduler);
    }
    edit.apply(&mut next).map_err(invalid)?;
    service_keys::check(&next).map_err(|(_, message)| invalid(message))?;
    Ok(next)
}

/// A real server after an edit.
pub(super) fn edited_server(
    config: &RealServerConfig,
    edit: &RealServerEdit,
) -> Result<RealServerConfig, ControlError> {
    let mut next = config.clone();
    edit.apply(&mut next).map_err(invalid)?;
    server_keys::check(&next).map_err(|(_, message)| invalid(message))?;
    Ok(next)
}

/// Timeouts with an edit applied.
pub(super) fn edited_timeouts(before: Timeouts, edit: &TimeoutsSpec) -> Result<Timeouts, ControlError> {
    timeouts::edited(before, edit).map_err(invalid)
}

fn known_scheduler(name: &str) -> Result<&'static scheduler::Row, ControlError> {
    scheduler::find(name).ok_or_else(|| {
        let known: Vec<&str> = scheduler::SCHEDULERS.iter().map(|row| row.name).collect();
        let message = format!("scheduler {name:?} is unknown; expected one of {}", known.join(", "));
        ControlError::new(Code::NoSuchScheduler, message)
    })
}

fn check_matchers(matchers: &[Matcher]) -> Result<(), ControlError> {
    matchers.iter().try_for_each(|matcher| check_family("vip", matcher.vip))?;
    match matchers {
        [] => Err(invalid(NO_MATCHER.to_owned())),
        _ => Ok(()),
    }
}

fn check_family(key: &str, address: IpAddr) -> Result<(), ControlError> {
    if address.is_ipv4() {
        return Ok(());
    }
    let message = format!("{key} = \"{address}\": IPv6 is not forwarded yet; use an IPv4 address");
    Err(ControlError::new(Code::UnsupportedAddressFamily, message))
}

fn invalid(message: String) -> ControlError {
    ControlError::new(Code::Invalid, message)
}
