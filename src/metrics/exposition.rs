//! Counters as Prometheus text. Each rendering starts from an empty registry: a removed real server leaves no
//! stale series, and no handle can outlive its series.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;

use super::counters::{DirectorCounters, PathCounters, RealserverCounters};
use super::ledger::Ledger;
use super::losses::Losses;
use super::names::{self, Kind, NAMES};
use super::series::{Series, Unassigned};
use super::strays::StrayPackets;
use crate::director::cluster::Cluster;
use crate::director::tables::Tables;
use crate::director::verdict::{DropReason, ReplyKind};
use crate::health::View;
use crate::realserver::guard::GuardConfig;
use crate::realserver::verdict::DropReason as RefusalReason;
use crate::time::Moment;

/// Content type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What both daemons report about themselves.
#[derive(Clone, Debug)]
pub struct Process {
    /// `director` or `realserver`: a label of `lvs_tund_build_info`.
    pub role: &'static str,
    /// Changes to the host that exit undoes.
    pub host_changes: usize,
    /// What the kernel has dropped around the daemon.
    pub losses: Arc<Losses>,
    /// Log lines that could not be written.
    pub log_lines_lost: u64,
    /// ARP messages of other hosts that have a VIP as their sender; a real server's daemon has none.
    pub vip_claims: BTreeMap<Ipv4Addr, u64>,
    /// Publishes the metrics of the process (`process_*`) to the recorder in scope.
    pub publish_own: fn(),
}

/// A daemon's metrics at one moment: a text of some thousand bytes, and the series that grow with the configuration.
pub struct Exposition {
    /// Everything but the series.
    pub head: String,
    /// Of virtual services and real servers; a real server's daemon has none.
    pub series: Series,
}

/// Who counts in a director.
#[derive(Clone, Copy)]
pub struct Counts<'a> {
    /// Of the packets on the TUN device.
    pub workers: &'a [Arc<DirectorCounters>],
    /// Which virtual service owns which of the workers' counters.
    pub ledger: &'a Mutex<Ledger>,
    /// Of errors about outer packets.
    pub paths: &'a PathCounters,
    /// Of packets that never reach the TUN device.
    pub strays: &'a StrayPackets,
    /// What the checks have found.
    pub health: &'a View,
}

/// A director's metrics.
pub fn director(
    process: Process,
    counts: &Counts<'_>,
    cluster: &Cluster,
    tables: &Tables,
    now: Moment,
) -> Exposition {
    let vip_claims = process.vip_claims.clone();
    let Counts { workers, ledger, paths, strays, health } = *counts;
    let head = render("lvs_tund_director_", process, || {
        let sum =
            |read: &dyn Fn(&DirectorCounters) -> u64| workers.iter().map(|worker| read(worker)).sum::<u64>();
        counter!(names::RECEIVED_PACKETS).absolute(sum(&|w| w.received.packets.get()));
        counter!(names::RECEIVED_BYTES).absolute(sum(&|w| w.received.bytes.get()));
        counter!(names::TRANSMITTED_PACKETS).absolute(sum(&|w| w.transmitted.get()));
        counter!(names::PASSED_PACKETS).absolute(sum(&|w| w.passed.get()));
        gauge!(names::HELD_PACKETS).set(sum(&|w| w.held.get()) as f64);
        counter!(names::STATELESS_PACKETS).absolute(sum(&|w| w.stateless.get()));
        counter!(names::FLOOD_PACKETS).absolute(sum(&|w| w.flood.get()));
        counter!(names::PROBE_PACKETS).absolute(sum(&|w| w.probes.get()));
        for kind in ReplyKind::all() {
            let count = sum(&|w| w.replied[kind.index()].get());
            counter!(names::REPLIED_PACKETS, "kind" => kind.label()).absolute(count);
        }
        for reason in DropReason::ALL {
            let count = sum(&|w| w.dropped[*reason as usize].get());
            counter!(names::DROPPED_PACKETS, "reason" => reason.label()).absolute(count);
        }
        for (interface, packets) in strays.read() {
            counter!(names::STRAY_PACKETS, "interface" => interface).absolute(packets);
        }
        counter!(names::PATH_ERRORS_TOLD).absolute(sum(&|w| w.told.get()));
        for (vip, count) in &vip_claims {
            counter!(names::VIP_CLAIMS, "vip" => vip.to_string()).absolute(*count);
        }
        for (kind, line) in health.load.by_label() {
            gauge!(names::PROBES_RUNNING, "kind" => kind).set(line.running as f64);
            gauge!(names::PROBES_MAX, "kind" => kind).set(line.max as f64);
        }
        let table = &tables.connections;
        gauge!(names::TEMPLATES).set(tables.templates.len() as f64);
        gauge!(names::CONNECTIONS).set(table.len() as f64);
        gauge!(names::CONNECTIONS_UNCONFIRMED).set(table.unconfirmed() as f64);
        gauge!(names::CONNECTIONS_MAX).set(table.connections_max() as f64);
        counter!(names::CONNECTIONS_CREATED).absolute(table.created());
        counter!(names::CONNECTIONS_REMOVED).absolute(table.removed());
    });
    let unassigned = Unassigned::take(workers, paths);
    let series = Series::take(cluster, workers, ledger, unassigned, now).with_health(health, now);
    Exposition { head, series }
}

/// A real server's metrics.
pub fn realserver(
    process: Process,
    counters: &RealserverCounters,
    guard: &GuardConfig,
    mss: u16,
) -> Exposition {
    let head = render("lvs_tund_realserver_", process, || {
        gauge!(names::MSS).set(f64::from(mss));
        counter!(names::ENCAPSULATED_PACKETS).absolute(counters.received.packets.get());
        counter!(names::ENCAPSULATED_BYTES).absolute(counters.received.bytes.get());
        counter!(names::SURPRISING_ECN).absolute(counters.surprising_ecn.get());
        for reason in RefusalReason::ALL {
            let count = counters.dropped[*reason as usize].get();
            counter!(names::REFUSED_PACKETS, "reason" => reason.label()).absolute(count);
        }
        for (cause, count) in counters.errors.read() {
            counter!(names::DELIVER_ERRORS, "cause" => cause.label()).absolute(count);
        }
        for (index, vip) in (0..).zip(&guard.vips) {
            let (packets, bytes) = counters.delivered.read(index);
            counter!(names::DELIVERED_PACKETS, "vip" => vip.to_string()).absolute(packets);
            counter!(names::DELIVERED_BYTES, "vip" => vip.to_string()).absolute(bytes);
        }
    });
    Exposition { head, series: Series::default() }
}

/// Renders what `publish` records, limited to families whose names begin with `prefix` and common ones.
fn render(prefix: &str, process: Process, publish: impl FnOnce()) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        let is_common = |name: &str| {
            matches!(
                name,
                names::BUILD_INFO | names::HOST_CHANGES | names::KERNEL_DROPPED | names::LOG_LINES_LOST
            )
        };
        for entry in NAMES.iter().filter(|entry| is_common(entry.name) || entry.name.starts_with(prefix)) {
            match entry.kind {
                Kind::Counter => describe_counter!(entry.name, entry.help),
                Kind::Gauge => describe_gauge!(entry.name, entry.help),
                Kind::Histogram => describe_histogram!(entry.name, entry.help),
            }
        }
        gauge!(names::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION"), "role" => process.role).set(1.0);
        gauge!(names::HOST_CHANGES).set(process.host_changes as f64);
        for (device, cause, packets) in process.losses.read() {
            counter!(names::KERNEL_DROPPED, "device" => device, "cause" => cause.label()).absolute(packets);
        }
        counter!(names::LOG_LINES_LOST).absolute(process.log_lines_lost);
        (process.publish_own)();
        publish();
    });
    handle.render()
}
