//! Warnings for configurations that are valid but rarely intended: `check` prints them, and a director logs them.

mod checks;

use super::plan::{DirectorPlan, MssSetting, RealserverPlan};
use crate::director::cluster::{RealServerConfig, VirtualServiceConfig};
use crate::director::scheduler::dh;

/// RFC 9000 §14: QUIC needs paths that carry 1200 bytes. RFC 791 §3.1 and RFC 8200 §5 allow less, but
/// applications do not expect it.
const INNER_MTU_MIN: u16 = 1200;

/// One sentence per warning, with what to do.
pub fn director(plan: &DirectorPlan) -> Vec<String> {
    let services = &plan.cluster.virtual_services;
    let mut advice: Vec<String> = services.iter().flat_map(service_warnings).collect();
    let is_hashed = |service: &&VirtualServiceConfig| service.scheduler.is_stateless;
    if let Some(service) = services.iter().find(is_hashed).filter(|_| plan.hash_key.is_none()) {
        advice.push(format!(
            "virtual service {}: scheduler {} without hash_key: after a restart, and at another director, clients are sent \
             to other real servers; set hash_key to the same value on all directors",
            service.name, service.scheduler.name
        ));
    }
    advice.extend(checks::of_hooks(&plan.cluster));
    advice
}

fn service_warnings(service: &VirtualServiceConfig) -> Vec<String> {
    let (name, scheduler) = (&service.name, service.scheduler.name);
    let mut advice = Vec::new();
    let is_hashed = service.scheduler.is_stateless || *service.scheduler == dh::ROW;
    if service.persistence.is_some() && is_hashed {
        advice.push(format!(
            "virtual service {name}: persistence with scheduler {scheduler}: both keep a client on its real server; \
             remove one of them, usually persistence"
        ));
    }
    if service.real_servers.is_empty() {
        advice.push(format!("virtual service {name}: no real server: its clients are refused; add one"));
    } else if service.real_servers.iter().all(|server| server.weight == 0) {
        advice.push(format!(
            "virtual service {name}: every real server has weight 0: new connections are refused; give one a weight"
        ));
    }
    advice.extend(health_warnings(service));
    for server in &service.real_servers {
        let overhead = server.encapsulation.overhead;
        let inner = server.path_mtu.map(|mtu| mtu.saturating_sub(overhead));
        if let Some(inner) = inner.filter(|inner| *inner < INNER_MTU_MIN) {
            advice.push(format!(
                "virtual service {name}: real server {}: path_mtu leaves {inner} bytes for a client's packet; many \
                 applications need {INNER_MTU_MIN}; remove path_mtu to use what the path allows",
                server.name
            ));
        }
    }
    advice
}

fn health_warnings(service: &VirtualServiceConfig) -> Vec<String> {
    let (name, health) = (&service.name, &service.health);
    let mut advice = Vec::new();
    let servers = || service.real_servers.iter().filter(|server| !server.is_sorry);
    let weights: u64 = servers().map(|server| u64::from(server.weight)).sum();
    let needed = u64::from(health.quorum) + u64::from(health.hysteresis);
    if needed > weights && !service.real_servers.is_empty() {
        advice.push(format!(
            "virtual service {name}: quorum and hysteresis together are {needed}, and the weights of its real servers are \
             {weights}: all real servers must be up to gain it; lower quorum"
        ));
    }
    let is_checked = |server: &RealServerConfig| !server.checks.as_ref().unwrap_or(&health.checks).is_empty();
    let wants_checks = needed > 0 || health.min_healthy > 0 || !health.slow_start.is_zero();
    if wants_checks && !service.real_servers.is_empty() && !service.real_servers.iter().any(is_checked) {
        advice.push(format!(
            "virtual service {name}: quorum, min_healthy and slow_start do nothing without a check; add check = \"tcp\""
        ));
    }
    advice.extend(checks::warnings(service));
    advice
}

/// One sentence per warning, with what to do.
pub fn realserver(plan: &RealserverPlan) -> Vec<String> {
    let mut advice = Vec::new();
    if plan.mss == MssSetting::Off {
        advice.push(
            "mss = \"off\": uploads hang for clients that receive no ICMP, unless something else announces a smaller MSS \
             for the VIPs; remove the key"
                .to_owned(),
        );
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::super::{Source, plan};
    use super::*;

    fn advice(text: &str) -> Vec<String> {
        director(&plan::director(&Source { name: "director.toml", text }, Some("eth0")).unwrap())
    }

    fn service(keys: &str, server: &str) -> String {
        format!(
            "hash_key = \"00112233445566778899aabbccddeeff\"\n[[virtual_service]]\nname = \"web\"\nprotocol = \"tcp\"\n\
             vip = \"172.25.3.100\"\nport = 80\n{keys}\n[[virtual_service.real_server]]\nrip = \"172.25.3.2\"\n{server}\n"
        )
    }

    #[test]
    fn each_questionable_setting_gets_its_warning_and_nothing_else_does() {
        assert!(advice("").is_empty());
        assert!(advice(&service("", "")).is_empty());
        let rows = [
            (service("scheduler = \"mh\"\npersistence = {}", ""), "persistence with scheduler mh"),
            (service("scheduler = \"dh\"\npersistence = {}", ""), "persistence with scheduler dh"),
            (service("", "weight = 0"), "every real server has weight 0"),
            (service("", "path_mtu = 1200"), "leaves 1180 bytes"),
            (
                service("check = \"tcp\"\nquorum = 2", ""),
                "together are 2, and the weights of its real servers are 1",
            ),
            (service("check = \"tcp\"\nquorum = 3\nhysteresis = 1", "weight = 3"), "together are 4"),
            (service("quorum = 1", ""), "do nothing without a check"),
            (service("min_healthy = 1", ""), "do nothing without a check"),
            (service("slow_start = \"1s\"", ""), "do nothing without a check"),
            (
                service("check = { type = \"tcp\", interval = \"1s\", timeout = \"1001ms\" }", ""),
                "longer than its interval",
            ),
            (service("scheduler = \"sh\"", "").replace("hash_key", "#"), "scheduler sh without hash_key"),
        ];
        for (text, expected) in rows {
            let warnings = advice(&text);
            assert!(warnings.len() == 1 && warnings[0].contains(expected), "{expected}: {warnings:?}");
        }
        for text in [
            service("check = { type = \"tcp\", interval = \"1s\", timeout = \"1s\" }\nquorum = 1", ""),
            service("quorum = 1", "check = \"tcp\""),
            service("check = \"tcp\"\nquorum = 2\nhysteresis = 1", "weight = 3"),
        ] {
            assert_eq!(advice(&text), Vec::<String>::new());
        }
        let empty = service("", "");
        let empty = empty.split("[[virtual_service.real_server]]").next().unwrap();
        assert!(advice(empty)[0].contains("no real server"));
    }

    #[test]
    fn switching_the_mss_off_gives_a_warning() {
        let advice = |keys: &str| {
            let text = format!("vips = [\"172.25.3.100\"]\ndirectors = [\"172.25.3.1\"]\n{keys}");
            let source = Source { name: "realserver.toml", text: &text };
            realserver(&plan::realserver(&source, &[], &[], false).unwrap())
        };
        assert!(advice("").is_empty());
        assert!(advice("mss = \"off\"")[0].contains("uploads"));
    }
}
