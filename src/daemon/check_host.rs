//! `lvs-tund check --host`: whether this host suits a valid configuration. Uses the same checks as the start, and changes
//! nothing.

use std::net::IpAddr;

use ipnet::IpNet;

use super::director_daemon::host_options;
use super::{LogFormat, Options, host_view, runtime};
use crate::config::plan::{DirectorPlan, RealserverPlan};
use crate::datapath::tun;
use crate::failure::Failure;
use crate::host::{own_addresses, preflight};
use crate::serve::http;

/// Every reason why this director could not start here, except those that a running daemon with the same device causes.
///
/// # Errors
/// The kernel does not answer.
pub(crate) fn check_director(plan: &DirectorPlan) -> Result<Vec<String>, Failure> {
    let options = Options { changes_host: true, log_format: LogFormat::default() };
    runtime::build()?.block_on(async {
        let found =
            preflight::director(&host_options(plan, options), &host_view::rips(&plan.cluster)).await?;
        let mut errors: Vec<String> = found.iter().map(ToString::to_string).collect();
        if !tun::is_in_use(&plan.tun) {
            errors.extend(tun::check(&plan.tun).err().map(|error| error.to_string()));
            errors.extend(http::listen(plan.metrics, "metrics", http::METRICS_REMEDY).await.err().map(words));
            if let Some(api) = plan.api {
                errors.extend(http::listen(api, "the API", http::API_REMEDY).await.err().map(words));
            }
        }
        if let Some(name) = &plan.control_group {
            errors.extend(http::group(name).err().map(words));
        }
        Ok(errors)
    })
}

/// As [`check_director`], for a real server.
///
/// # Errors
/// As there.
pub(crate) fn check_realserver(plan: &RealserverPlan) -> Result<Vec<String>, Failure> {
    runtime::build()?.block_on(async {
        let own_addresses = own_addresses_without_vips(plan);
        let mut errors: Vec<String> =
            leave_out_this_host(&mut plan.clone(), &own_addresses).err().map(words).into_iter().collect();
        if !tun::is_in_use(&plan.tun) {
            errors.extend(tun::check(&plan.tun).err().map(|error| error.to_string()));
            errors.extend(http::listen(plan.metrics, "metrics", http::METRICS_REMEDY).await.err().map(words));
        }
        Ok(errors)
    })
}

/// The addresses of this host that are no VIPs.
pub(super) fn own_addresses_without_vips(plan: &RealserverPlan) -> Vec<IpAddr> {
    own_addresses().into_iter().filter(|address| !plan.guard.vips.contains(address)).collect()
}

/// Two hosts that are both director and real server may have the same file. A director hands packets to its own host
/// without a tunnel, so no tunnel packet has one of this host's addresses as its source.
pub(super) fn leave_out_this_host(
    plan: &mut RealserverPlan,
    own_addresses: &[IpAddr],
) -> Result<(), Failure> {
    let directors = &mut plan.guard.directors;
    let is_own =
        |prefix: &IpNet| *prefix == IpNet::from(prefix.addr()) && own_addresses.contains(&prefix.addr());
    let Some(own) = directors.iter().find(|prefix| is_own(prefix)).map(IpNet::addr) else { return Ok(()) };
    directors.retain(|prefix| !is_own(prefix));
    if directors.is_empty() {
        let why = "the director on this host needs no companion here to serve as its own real server; \
                   use the other directors' addresses";
        return Err(Failure::Refused(format!("director {own} is an address of this host: {why}")));
    }
    tracing::info!("realserver: director {own} is this host, which hands its packets up without a tunnel");
    Ok(())
}

fn words(failure: Failure) -> String {
    failure.to_string()
}
