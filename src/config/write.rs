//! Writes a plan as `director.toml`: a file that reads back as the same plan. Keys with their default value are
//! omitted.

use std::fmt::Write as _;

use super::key::{self, Keys};
use super::keys::cluster::{CLUSTER_KEYS, DEFAULT_KEYS};
use super::keys::host::HOST_KEYS;
use super::keys::real_server::REAL_SERVER_KEYS;
use super::keys::service::SERVICE_KEYS;
use super::plan::{DirectorPlan, ServiceDefaults};
use super::toml::Lines;

/// The text of a file that describes this plan.
pub fn director(plan: &DirectorPlan) -> String {
    let (mut text, nothing) = (String::new(), ServiceDefaults::default());
    block(&mut text, HOST_KEYS, plan, &nothing);
    block(&mut text, CLUSTER_KEYS, &plan.cluster, &nothing);
    block(&mut text, DEFAULT_KEYS, &plan.defaults, &nothing);
    for service in &plan.cluster.virtual_services {
        text.push_str("\n[[virtual_service]]\n");
        block(&mut text, SERVICE_KEYS, service, &plan.defaults);
        for server in &service.real_servers {
            text.push_str("\n[[virtual_service.real_server]]\n");
            block(&mut text, REAL_SERVER_KEYS, server, &plan.defaults);
        }
    }
    text
}

fn block<C>(text: &mut String, keys: &Keys<C>, config: &C, defaults: &ServiceDefaults) {
    let mut lines = Lines::new();
    key::write(keys, config, defaults, &mut lines);
    for (key, value) in lines {
        let _ = writeln!(text, "{key} = {value}");
    }
}

/// A number with its noun: "1 VIP", "2 VIPs".
pub fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
