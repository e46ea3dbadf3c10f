//! What is wrong with a cluster, from its configuration and from the errors of the paths: services without a usable real
//! server, and real servers that packets do not reach.

mod health;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::director::cluster::{Cluster, VirtualService};
use crate::director::real_server::RealServer;
use crate::director::reply::IcmpError;
use crate::director::server_errors::Cause;
use crate::time::Moment;
use crate::trouble::{Found, TroubleKind};

pub use health::of_health;

/// Everything that is wrong with the services, and then with each real server, once for all its services. With
/// `awaits_vips` another program brings the VIPs to this host (`announce = "local"`): without them it is a backup.
pub fn of_cluster(cluster: &Cluster, awaits_vips: bool, now: Moment) -> Vec<Found> {
    let mut found = of_services(cluster, awaits_vips);
    let mut paths: BTreeMap<Ipv4Addr, Path> = BTreeMap::new();
    for server in cluster.in_order().iter().flat_map(|service| &service.real_servers) {
        let path = paths.entry(server.rip).or_insert_with(|| Path { server, causes: Vec::new() });
        let errors = server.live.errors_so_far();
        for cause in errors.into_iter().flat_map(|errors| errors.present(now)) {
            if !path.causes.contains(&cause) {
                path.causes.push(cause);
            }
        }
    }
    found.extend(paths.values().flat_map(|path| path.troubles(cluster, now)));
    found
}

/// Whether packets can leave for it.
fn has_route(cluster: &Cluster, server: &RealServer) -> bool {
    server.is_local || cluster.host().paths.contains_key(&server.config.rip)
}

fn is_usable(cluster: &Cluster, awaits_vips: bool, server: &RealServer) -> bool {
    (server.weight() > 0 && has_route(cluster, server)) || (awaits_vips && lacks_vip(server))
}

/// Whether it is on this host, and has no weight for want of the VIP.
fn lacks_vip(server: &RealServer) -> bool {
    server.is_local && server.weight() == 0 && server.config.weight > 0
}

fn of_services(cluster: &Cluster, awaits_vips: bool) -> Vec<Found> {
    let services = cluster.in_order();
    let is_served = |service: &VirtualService| {
        service.real_servers.iter().any(|server| is_usable(cluster, awaits_vips, server))
    };
    let unserved: Vec<_> = services.iter().filter(|service| !is_served(service)).collect();
    if unserved.len() == services.len() {
        return vec![nothing_served(cluster)];
    }
    let trouble = |service: &VirtualService| {
        let name = &service.config.name;
        let why = why_unserved(service.real_servers.iter());
        Found {
            kind: TroubleKind::ServiceUnserved,
            subject: name.clone(),
            text: format!("virtual service {name} has no usable real server, {why}"),
        }
    };
    unserved.into_iter().map(|service| trouble(service)).collect()
}

fn nothing_served(cluster: &Cluster) -> Found {
    let services = cluster.in_order();
    let text = match services {
        [] => "no virtual service is configured; add one: lvs-tund ipvsadm -A -t VIP:PORT -s rr".to_owned(),
        _ => {
            let servers = services.iter().flat_map(|service| &service.real_servers);
            format!("no virtual service has a usable real server, {}", why_unserved(servers))
        }
    };
    Found { kind: TroubleKind::NothingServed, subject: "cluster".to_owned(), text }
}

/// The reason that none of these is usable, and the remedy.
fn why_unserved<'a>(servers: impl Iterator<Item = &'a Arc<RealServer>>) -> String {
    let (mut is_any, mut is_down, mut with_weight, mut without_vip) = (false, false, None, None);
    for server in servers {
        is_any = true;
        is_down |= server.on_down.is_some();
        without_vip = without_vip.or_else(|| Some(server).filter(|server| lacks_vip(server)));
        with_weight = with_weight.or_else(|| Some(server).filter(|server| server.weight() > 0));
    }
    if let (None, Some(server)) = (with_weight, without_vip) {
        let rip = server.rip;
        return format!(
            "{rip} is this host, which does not have the VIP; type: ip address add VIP/32 dev lo"
        );
    }
    match (is_any, with_weight) {
        (false, _) => "it has none; add one: lvs-tund ipvsadm -a -t VIP:PORT -r RIP -i".to_owned(),
        (true, None) if is_down => "their checks fail; see: lvs-tund status".to_owned(),
        (true, None) => "every weight is 0; raise one: lvs-tund weight RIP 1".to_owned(),
        (true, Some(server)) => format!("none with a weight has a route; see: ip route get {}", server.rip),
    }
}

/// A RIP with what is known against it.
struct Path<'a> {
    /// Any real server with this RIP.
    server: &'a RealServer,
    /// Why the kernel refuses packets to any of them.
    causes: Vec<Cause>,
}

impl Path<'_> {
    fn troubles(&self, cluster: &Cluster, now: Moment) -> Vec<Found> {
        let (server, rip) = (self.server, self.server.rip);
        let mut found = Vec::new();
        let mut add = |kind, text| found.push(Found { kind, subject: rip.to_string(), text });
        if !has_route(cluster, server) {
            let text = format!("no route to real server {rip}; traffic resumes when a route appears");
            add(TroubleKind::NoRoute, text);
        }
        if server.soft.is_suspect(now) {
            let text = format!(
                "real server {rip} answers \"protocol unreachable\"; is lvs-tund realserver running there?"
            );
            add(TroubleKind::ProtocolUnreachable, text);
        }
        if let Some(error) = server.soft.unreachable(now) {
            add(TroubleKind::Unreachable, unreachable(rip, error));
        }
        if let Some(mtu) = server.soft.mtu(now).filter(|mtu| *mtu < server.path.mtu) {
            let text = format!(
                "path MTU to {rip} lowered to {mtu} bytes for 10 minutes; a router on the path reported it, see docs/mtu.md"
            );
            add(TroubleKind::PathMtuLowered, text);
        }
        let refused = self.causes.iter().filter_map(|cause| refusal(*cause, rip)).next();
        if let Some(why) = refused {
            let text = format!("the kernel refuses packets to real server {rip}: {why}");
            add(TroubleKind::TransmitErrors, text);
        }
        found
    }
}

fn unreachable(rip: Ipv4Addr, error: IcmpError) -> String {
    match error {
        IcmpError::NetUnreachable => format!(
            "packets to real server {rip} are answered \"net unreachable\": a router on the path has no route; see: \
             traceroute -n {rip}"
        ),
        IcmpError::TimeExceeded => format!(
            "packets to real server {rip} are answered \"time exceeded\": their TTL ends on the path; raise outer_ttl, or look \
             for a routing loop: traceroute -n {rip}"
        ),
        _ => format!(
            "packets to real server {rip} are answered \"host unreachable\": the host is down, or not in its network; see: \
             ping {rip}"
        ),
    }
}

/// What the cause means, and the remedy; `None` for a packet that did not fit: it is answered, and its sender sends
/// smaller ones.
fn refusal(cause: Cause, rip: Ipv4Addr) -> Option<String> {
    let route = format!("see: ip route get {rip}");
    let (why, remedy) = match cause {
        Cause::MessageTooLong => return None,
        Cause::NoBuffer => ("a queue of the interface is full", "see: tc -s qdisc".to_owned()),
        Cause::WouldBlock => ("the socket's buffer is full", "see: tc -s qdisc".to_owned()),
        Cause::NotPermitted => (
            "the packet filter of this host drops them",
            "accept protocol 4 in its output rules; see: nft list ruleset".to_owned(),
        ),
        Cause::NetworkUnreachable => ("there is no route", route),
        Cause::HostUnreachable => ("no neighbour answers, or a route forbids them", route),
        Cause::NetworkDown => ("the interface is down", "see: ip link".to_owned()),
        Cause::Invalid => ("it does not accept the header", route),
        Cause::InputOutput => ("the device is down", "see: ip link".to_owned()),
        Cause::Other => ("an error that is not listed in docs/metrics.md", route),
    };
    Some(format!("{why}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;
    use crate::director::cluster::{
        ClusterConfig, EffectiveConfig, HostView, Path as Way, RealServerConfig, VirtualServiceConfig,
    };
    use crate::director::scheduler::rr;
    use crate::packet::Protocol;

    const NOW: Moment = Moment::from_secs(100);

    fn cluster(services: &[&[u32]], routes: &[u8]) -> Cluster {
        cluster_at(services, routes, HostView::default())
    }

    fn cluster_at(services: &[&[u32]], routes: &[u8], host: HostView) -> Cluster {
        let service = |(index, weights): (usize, &&[u32])| {
            let port = 80 + u16::try_from(index).unwrap();
            let vip = IpAddr::from([172, 25, 3, 100]);
            let name = format!("s{index}");
            let mut config = VirtualServiceConfig::new(&name, Protocol::Tcp, vip, port, &rr::ROW);
            config.real_servers = (2..)
                .zip(*weights)
                .map(|(last, weight)| RealServerConfig::new(IpAddr::from([172, 25, 3, last]), *weight))
                .collect();
            config
        };
        let config = ClusterConfig {
            virtual_services: services.iter().enumerate().map(service).collect(),
            ..ClusterConfig::default()
        };
        let way = Way { source: [172, 25, 3, 1].into(), mtu: 1500 };
        let paths: HashMap<IpAddr, Way> =
            routes.iter().map(|last| (IpAddr::from([172, 25, 3, *last]), way)).collect();
        Cluster::new(EffectiveConfig::from(config), HostView { paths, ..host })
    }

    fn kinds(cluster: &Cluster) -> Vec<(TroubleKind, String)> {
        of_cluster(cluster, false, NOW).into_iter().map(|found| (found.kind, found.subject)).collect()
    }

    fn texts(cluster: &Cluster) -> Vec<String> {
        of_cluster(cluster, false, NOW).into_iter().map(|found| found.text).collect()
    }

    #[test]
    fn a_service_is_served_by_a_real_server_with_a_weight_and_a_route() {
        assert_eq!(kinds(&cluster(&[&[1, 0]], &[2, 3])), []);
        let unserved = |name: &str| (TroubleKind::ServiceUnserved, name.to_owned());
        assert_eq!(kinds(&cluster(&[&[1], &[0]], &[2])), [unserved("s1")]);
        assert_eq!(kinds(&cluster(&[&[1], &[]], &[2])), [unserved("s1")]);
        let no_route = (TroubleKind::NoRoute, "172.25.3.3".to_owned());
        assert_eq!(kinds(&cluster(&[&[1], &[0, 1]], &[2])), [unserved("s1"), no_route]);
    }

    #[test]
    fn a_real_server_on_this_host_needs_no_route_but_the_vip() {
        let (vip, rip) = (IpAddr::from([172, 25, 3, 100]), IpAddr::from([172, 25, 3, 2]));
        let host = |vips: &[IpAddr]| HostView {
            local_rips: [rip].into(),
            local_vips: vips.iter().copied().collect(),
            ..HostView::default()
        };
        assert_eq!(kinds(&cluster_at(&[&[1]], &[], host(&[vip]))), []);
        let nothing = (TroubleKind::NothingServed, "cluster".to_owned());
        let backup = cluster_at(&[&[1]], &[], host(&[]));
        assert_eq!(kinds(&backup), [nothing]);
        assert!(texts(&backup)[0].contains("172.25.3.2 is this host, which does not have the VIP"));
        assert_eq!(of_cluster(&backup, true, NOW), [], "another program brings the VIP");
        let quiesced = cluster_at(&[&[0]], &[], host(&[]));
        assert_eq!(of_cluster(&quiesced, true, NOW).len(), 1);
    }

    #[test]
    fn if_no_service_is_served_the_reason_is_given_once() {
        let first = |services: &[&[u32]], routes: &[u8]| texts(&cluster(services, routes)).remove(0);
        let nothing = "no virtual service has a usable real server, ";
        assert_eq!(
            texts(&cluster(&[], &[])),
            ["no virtual service is configured; add one: lvs-tund ipvsadm -A -t VIP:PORT -s rr"]
        );
        assert_eq!(
            first(&[&[0], &[0, 0]], &[2, 3]),
            format!("{nothing}every weight is 0; raise one: lvs-tund weight RIP 1")
        );
        assert_eq!(
            first(&[&[]], &[]),
            format!("{nothing}it has none; add one: lvs-tund ipvsadm -a -t VIP:PORT -r RIP -i")
        );
        assert_eq!(
            first(&[&[0, 1], &[0]], &[2]),
            format!("{nothing}none with a weight has a route; see: ip route get 172.25.3.3")
        );
        assert_eq!(kinds(&cluster(&[&[0]], &[2])), [(TroubleKind::NothingServed, "cluster".to_owned())]);
    }

    #[test]
    fn what_a_path_reports_is_listed_once_for_all_services_and_ends() {
        let cluster = cluster(&[&[1, 1], &[1, 1]], &[2, 3]);
        let server = cluster.real_server_at([172, 25, 3, 3].into()).unwrap();
        server.soft.suspect(NOW);
        server.soft.note_unreachable(IcmpError::HostUnreachable, NOW);
        server.soft.lower_mtu(1400, NOW);
        for server in cluster.real_servers().filter(|server| server.rip.octets()[3] == 3) {
            server.live.errors().count_transmit(Cause::NotPermitted, NOW);
        }
        let found = of_cluster(&cluster, false, NOW);
        assert!(found.iter().all(|found| found.subject == "172.25.3.3"));
        let words: Vec<&str> = found.iter().map(Found::words).collect();
        let expected = [
            "real server 172.25.3.3 answers \"protocol unreachable\"",
            "packets to real server 172.25.3.3 are answered \"host unreachable\": the host is down, or not in its network",
            "path MTU to 172.25.3.3 lowered to 1400 bytes for 10 minutes",
            "the kernel refuses packets to real server 172.25.3.3: the packet filter of this host drops them",
        ];
        assert_eq!(words, expected);
        let later = |seconds| of_cluster(&cluster, false, NOW.after(Duration::from_secs(seconds))).len();
        assert_eq!((later(9), later(10), later(30), later(600)), (4, 3, 1, 0));
    }

    #[test]
    fn a_path_mtu_that_the_route_has_anyway_is_no_trouble() {
        let cluster = cluster(&[&[1]], &[2]);
        let server = cluster.real_server_at([172, 25, 3, 2].into()).unwrap();
        server.soft.lower_mtu(1500, NOW);
        assert_eq!(kinds(&cluster), []);
    }

    #[test]
    fn every_cause_but_a_packet_that_does_not_fit_has_words_and_a_remedy() {
        let rip = Ipv4Addr::new(172, 25, 3, 2);
        for cause in Cause::ALL {
            let words = refusal(*cause, rip);
            assert_eq!(words.is_none(), *cause == Cause::MessageTooLong, "{cause}");
            assert!(words.is_none_or(|words| words.contains("; ")), "{cause}");
        }
        for (error, words) in [
            (IcmpError::NetUnreachable, "net unreachable"),
            (IcmpError::TimeExceeded, "time exceeded"),
            (IcmpError::HostUnreachable, "host unreachable"),
        ] {
            assert!(unreachable(rip, error).contains(words));
        }
    }
}
