//! The text of the series, as a whole and in its parts.

use std::time::Duration;

use super::*;
use crate::director::cluster::{ClusterConfig, HostView, RealServerConfig, VirtualServiceConfig};
use crate::director::scheduler::rr;
use crate::health::durations::{BOUNDS_MS, Durations};
use crate::health::view::{CheckView, ServerView, ServiceView};
use crate::health::{FailureClass, State};
use crate::packet::Protocol;

fn cluster(services: usize, servers: u8) -> Cluster {
    let service = |index: usize| {
        let (vip, port) = ("172.25.3.100".parse().unwrap(), u16::try_from(index + 1).unwrap());
        let mut service =
            VirtualServiceConfig::new(&format!("web-{index}"), Protocol::Tcp, vip, port, &rr::ROW);
        service.real_servers =
            (0..servers).map(|last| RealServerConfig::new([10, 0, 0, last].into(), 1)).collect();
        service
    };
    let virtual_services = (0..services).map(service).collect();
    Cluster::new(ClusterConfig { virtual_services, ..ClusterConfig::default() }, HostView::default())
}

fn series(cluster: &Cluster) -> Series {
    let ledger = Mutex::new(Ledger::default());
    ledger.lock().unwrap().follow(cluster, &[]);
    let transmit = BTreeMap::from([("no_buffer", 3)]);
    let unassigned = Unassigned { transmit, path: vec![(PathErrorKind::TooBig, Outcome::Noted, 2)] };
    Series::take(cluster, &[], &ledger, unassigned, Moment::ZERO).with_health(&View::default(), Moment::ZERO)
}

/// Of each virtual service: every real server has two checks `tcp` and one `mtu`, and those with odd addresses are down.
fn view(cluster: &Cluster) -> View {
    let check = |kind, last: u8, path_mtu| CheckView {
        kind,
        state: State::Up,
        since: Moment::ZERO,
        contrary: 0,
        last: None,
        took: Duration::from_micros(12_500),
        durations: {
            let mut durations = Durations::default();
            durations.add(Duration::from_micros(12_500));
            durations
        },
        why: None,
        cause: None,
        warning: (kind == "tcp" && last == 0).then(|| "soon".to_owned()),
        path_mtu,
        successes: 7,
        failures: BTreeMap::from([(FailureClass::Refused, 3)]),
    };
    let server = |last: u8| ServerView {
        state: if last.is_multiple_of(2) { State::Up } else { State::Down },
        is_enabled: true,
        since: Moment::from_secs(10),
        weight: None,
        share: 1000,
        checks: vec![check("tcp", last, None), check("tcp", 9, None), check("mtu", last, Some(1400))],
    };
    let service = |service: &Arc<VirtualService>| {
        let rips = service.real_servers.iter().map(|s| (s.config.rip, server(s.rip.octets()[3]))).collect();
        let view = ServiceView { has_quorum: true, fails_open: false, uses_sorry: true, real_servers: rips };
        (service.config.name.clone(), view)
    };
    let mut load = Load::default();
    load.network.delays.add(Duration::from_micros(12_500));
    View { services: cluster.virtual_services().map(service).collect(), load }
}

#[test]
fn an_unchecked_real_server_has_no_series_of_health() {
    let cluster = cluster(1, 1);
    let mut view = view(&cluster);
    let service = view.services.values_mut().next().unwrap();
    service.real_servers.values_mut().for_each(|server| server.state = State::Unchecked);
    let text = pieces(&series(&cluster).with_health(&view, Moment::ZERO)).concat();
    assert!(text.contains("virtual_service_quorum{") && !text.contains("real_server_up{"), "{text}");
    assert!(!text.contains("probes_total{") && !text.contains("check_warning{"), "{text}");
}

fn pieces(series: &Series) -> Vec<String> {
    let (mut pieces, mut place) = (Vec::new(), Some(Place::default()));
    while let Some(at) = place {
        let (piece, next) = series.piece(at);
        assert_eq!(series.piece(at), (piece.clone(), next), "a piece can be made again");
        pieces.push(piece);
        place = next;
    }
    pieces
}

#[test]
fn every_family_has_a_head_and_one_sample_of_each_row() {
    let cluster = cluster(1, 2);
    let (service, server) = (cluster.virtual_services().next().unwrap(), cluster.real_servers().next());
    service.connections_total.store(7, Ordering::Relaxed);
    let live = &server.unwrap().live;
    live.is_overloaded.store(true, Ordering::Relaxed);
    live.errors().count_path(PathErrorKind::TooBig, Outcome::Relayed);
    let now = Moment::from_secs(100);
    let text = pieces(&series(&cluster).with_health(&view(&cluster), now)).concat();
    let rows = [
        "probe_delay_seconds_bucket{kind=\"network\",le=\"0.01\"} 0",
        "probe_delay_seconds_bucket{kind=\"network\",le=\"0.025\"} 1",
        "probe_delay_seconds_sum{kind=\"network\"} 0.0125",
        "probe_delay_seconds_count{kind=\"program\"} 0",
        "virtual_service_quorum{virtual_service=\"web-0\"} 1",
        "virtual_service_fails_open{virtual_service=\"web-0\"} 0",
        "virtual_service_uses_sorry{virtual_service=\"web-0\"} 1",
        "real_server_up{virtual_service=\"web-0\",real_server=\"10.0.0.0\"} 1",
        "real_server_up{virtual_service=\"web-0\",real_server=\"10.0.0.1\"} 0",
        "real_server_state_age_seconds{virtual_service=\"web-0\",real_server=\"10.0.0.1\"} 90",
        "real_server_probes_total{virtual_service=\"web-0\",real_server=\"10.0.0.1\",check=\"tcp\",outcome=\"success\"} 14",
        "real_server_probes_total{virtual_service=\"web-0\",real_server=\"10.0.0.1\",check=\"tcp\",outcome=\"refused\"} 6",
        "real_server_probe_duration_seconds_bucket{virtual_service=\"web-0\",real_server=\"10.0.0.0\",check=\"tcp\",le=\"0.01\"} 0",
        "real_server_probe_duration_seconds_bucket{virtual_service=\"web-0\",real_server=\"10.0.0.0\",check=\"tcp\",le=\"0.025\"} 2",
        "real_server_probe_duration_seconds_bucket{virtual_service=\"web-0\",real_server=\"10.0.0.0\",check=\"tcp\",le=\"+Inf\"} 2",
        "real_server_probe_duration_seconds_sum{virtual_service=\"web-0\",real_server=\"10.0.0.0\",check=\"tcp\"} 0.025",
        "real_server_probe_duration_seconds_count{virtual_service=\"web-0\",real_server=\"10.0.0.0\",check=\"tcp\"} 2",
        "real_server_path_mtu_found_bytes{virtual_service=\"web-0\",real_server=\"10.0.0.0\"} 1400",
        "real_server_check_warning{virtual_service=\"web-0\",real_server=\"10.0.0.0\",check=\"mtu\"} 0",
        "real_server_check_warning{virtual_service=\"web-0\",real_server=\"10.0.0.0\",check=\"tcp\"} 1",
        "transmit_errors_total{virtual_service=\"\",real_server=\"\",cause=\"no_buffer\"} 3",
        "path_errors_total{virtual_service=\"\",real_server=\"\",kind=\"too_big\",outcome=\"noted\"} 2",
        "path_errors_total{virtual_service=\"web-0\",real_server=\"10.0.0.0\",kind=\"too_big\",outcome=\"relayed\"} 1",
        "virtual_service_info{virtual_service=\"web-0\",protocol=\"tcp\",vip=\"172.25.3.100\",port=\"1\",scheduler=\"rr\"} 1",
        "virtual_service_connections_total{virtual_service=\"web-0\"} 7",
        "real_server_info{virtual_service=\"web-0\",real_server=\"10.0.0.0\",rip=\"10.0.0.0\"} 1",
        "real_server_weight{virtual_service=\"web-0\",real_server=\"10.0.0.1\"} 1",
        "real_server_path_mtu_bytes{virtual_service=\"web-0\",real_server=\"10.0.0.1\"} 1500",
        "real_server_overloaded{virtual_service=\"web-0\",real_server=\"10.0.0.0\"} 1",
        "real_server_overloaded{virtual_service=\"web-0\",real_server=\"10.0.0.1\"} 0",
        "real_server_connections{virtual_service=\"web-0\",real_server=\"10.0.0.1\",state=\"inactive\"} 0",
    ];
    for row in rows {
        assert!(text.contains(&format!("\nlvs_tund_director_{row}\n")), "{row}\n{text}");
    }
    let prefixes = ["lvs_tund_director_virtual_service_", "lvs_tund_director_real_server_"];
    for entry in names::NAMES.iter().filter(|entry| prefixes.iter().any(|p| entry.name.starts_with(p))) {
        let (name, part, kind) = match entry.kind {
            Kind::Counter => (entry.name, "", "counter"),
            Kind::Gauge => (entry.name, "", "gauge"),
            Kind::Histogram => (entry.name, "_bucket", "histogram"),
        };
        let head = format!("# HELP {name} {}\n# TYPE {name} {kind}\n{name}{part}{{", entry.help);
        // Round robin has no table, and so no fingerprint.
        let heads = usize::from(name != names::SERVICE_FINGERPRINT);
        assert_eq!(text.matches(&head).count(), heads, "{name}\n{text}");
    }
    assert_eq!(text.matches("# TYPE").count(), FAMILIES.len() + health::FAMILIES.len() - 1);
}

#[test]
fn a_long_text_is_cut_between_lines_and_no_family_is_split() {
    let cluster = cluster(500, 3);
    let pieces = pieces(&series(&cluster));
    assert!(pieces.len() > 10, "{} pieces", pieces.len());
    for piece in &pieces {
        assert!(piece.len() < PIECE + 1024 && piece.ends_with('\n'), "{}", piece.len());
    }
    let text = pieces.concat();
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let samples: Vec<&str> = samples.collect();
    assert_eq!(samples.len(), 2 + 500 * 4 + 1500 * 11 + 2 * (BOUNDS_MS.len() + 3));
    let names = samples.iter().filter_map(|line| line.split('{').next());
    let mut seen: Vec<&str> = names.filter(|name| !name.contains("probe_delay")).collect();
    seen.dedup();
    assert_eq!(seen.len(), FAMILIES.len() - 1, "{seen:?}");
    assert_eq!(text.matches("# HELP").count(), seen.len() + 1);
    assert!(self::pieces(&Series::default()).concat().is_empty());
}

#[test]
fn a_label_is_escaped() {
    let mut text = "{".to_owned();
    let mut lines = Lines { text: &mut text, name: "x", has_head: true };
    lines.label("name", "a\\b\"c\nd");
    assert_eq!(text, "{name=\"a\\\\b\\\"c\\nd\"");
}
