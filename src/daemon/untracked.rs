//! Which packets connection tracking has to leave alone: those of virtual services.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::plan::DirectorPlan;
use crate::daemon::Options;
use crate::director::cluster::{ClusterConfig, Ports, VirtualServiceConfig};
use crate::host::{Notrack, UntrackedPorts};

/// The exemption of a director with this configuration.
pub(super) fn exemption(plan: &DirectorPlan, options: Options) -> Notrack {
    let mut notrack = Notrack::new(&plan.tun, Notrack::mode(options.host_changes(), plan.notrack));
    notrack.set(ports(&plan.cluster));
    notrack
}

/// The ports of every virtual service.
pub(super) fn ports(config: &ClusterConfig) -> impl Iterator<Item = UntrackedPorts> {
    config.virtual_services.iter().flat_map(of_service)
}

fn of_service(service: &VirtualServiceConfig) -> Vec<UntrackedPorts> {
    let of = |protocol: u8, vip: Ipv4Addr, ports: Ports| UntrackedPorts {
        protocol,
        vip,
        first: ports.first,
        last: ports.last,
    };
    let mut found = Vec::new();
    for matcher in &service.matchers {
        let IpAddr::V4(vip) = matcher.vip else { continue };
        let protocol = matcher.protocol.number();
        found.push(of(protocol, vip, matcher.ports));
        let data = matcher.data_ports().filter(|_| service.persistence.is_some());
        found.extend(data.into_iter().flatten().map(|ports| of(protocol, vip, ports)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::cluster::Persistence;
    use crate::packet::Protocol;

    #[test]
    fn a_persistent_ftp_service_has_its_data_ports_too() {
        let vip = Ipv4Addr::new(10, 0, 0, 9);
        let service = |protocol, port, persistence| VirtualServiceConfig {
            persistence,
            ..VirtualServiceConfig::new("ftp", protocol, vip.into(), port, "rr")
        };
        let persistence = Some(Persistence::default());
        let of =
            |service| of_service(&service).iter().map(|p| (p.protocol, p.first, p.last)).collect::<Vec<_>>();
        assert_eq!(
            of(service(Protocol::Tcp, 21, persistence)),
            [(6, 21, 21), (6, 20, 20), (6, 1024, 65_535)]
        );
        assert_eq!(of(service(Protocol::Tcp, 21, None)), [(6, 21, 21)]);
        assert_eq!(of(service(Protocol::Udp, 21, persistence)), [(17, 21, 21)]);
        assert_eq!(of(service(Protocol::Tcp, 80, persistence)), [(6, 80, 80)]);
    }
}
