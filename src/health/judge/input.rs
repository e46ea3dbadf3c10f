//! What is judged: the virtual services as configured, as far as health is concerned.

use std::net::IpAddr;

use crate::health::spec::{CheckConfig, ServiceHealth};

/// A virtual service.
#[derive(Clone, Debug)]
pub struct Judged<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its VIP.
    pub vip: IpAddr,
    /// The first port of its first matcher; 0: all ports.
    pub port: u16,
    /// What it makes of its checks.
    pub health: &'a ServiceHealth,
    /// Whether the weights may rise in steps; false for hash schedulers, whose tables would change with each step.
    pub has_ramp: bool,
    /// In the order of the configuration.
    pub real_servers: Vec<JudgedServer<'a>>,
}

/// A real server of a virtual service.
#[derive(Clone, Debug)]
pub struct JudgedServer<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its RIP; a virtual service contains it once.
    pub rip: IpAddr,
    /// The configured weight.
    pub weight: u32,
    /// Whether it serves only while quorum is lost.
    pub is_sorry: bool,
    /// The checks that apply: its own or those of its virtual service; empty: it counts as up.
    pub checks: &'a [CheckConfig],
    /// False if an operator has disabled it: it is probed, but counts neither for quorum nor for `min_healthy`.
    pub is_enabled: bool,
    /// Whether the RIP is an address of this host.
    pub is_local: bool,
}
