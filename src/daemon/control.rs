//! The one task that changes a running director: it owns the running configuration and its generation.
//!
//! ```text
//! change, configuration, reload, SIGHUP, a drain's end
//!   └▶ next configuration ▶ query the host ▶ snapshot ▶ publish ▶ capture new VIPs …▶ release old ones
//! ```
//!
//! In this order, a packet for a new VIP finds its service, and a VIP that stays never loses its capture. If
//! the host refuses a VIP, the previous snapshot is published again and nothing has changed. A VIP without
//! services is released a while later: until then the director refuses its clients, and the VIP may come back
//! at once, as with scripts that clear everything before they set it up again.

mod reload;
pub(super) mod shared;
mod tend;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use super::host_view;
use crate::config::diff::Difference;
use crate::config::plan::DirectorPlan;
use crate::config::{ConfigError, Source};
use crate::control::change_summary::{differences, summary, word};
use crate::control::model::{Change, Changed, Event, EventKind};
use crate::control::operation::{Applied, Running, Zeroed, apply};
use crate::control::{Code, ControlError};
use crate::director::cluster::{Cluster, ClusterConfig, VirtualServiceConfig};
use crate::host::{DirectorHost, HostError, Notice};
use crate::serve::{Demand, Published, Request};
use crate::time::Moment;

pub(super) use shared::Shared;

/// Ticks of the host (2 s each) between two queries of routes without a change notification.
const TICKS_PER_LOOK: u32 = 15;

/// Where the configuration came from, and how to turn its text into a plan; the command line takes
/// precedence.
pub(crate) struct ConfigFile {
    /// What a reload reads; `None` refuses it.
    pub path: Option<PathBuf>,
    /// Called on a blocking thread for each reload and each replaced configuration.
    pub read: ReadPlan,
}

/// Turns a text into a plan, with the options of the command line applied.
pub(crate) type ReadPlan = Arc<dyn Fn(&Source) -> Result<DirectorPlan, ConfigError> + Send + Sync>;

/// What the control task handles next.
pub(super) enum Input {
    Request(Request),
    /// The host has changed, or is to be checked.
    Host(Notice),
    /// A packet did not fit its path; the kernel may know a smaller MTU now.
    PathNarrowed,
    /// Due once a second while [`Control::has_to_tend`].
    Tend,
}

/// The control task: the running configuration, and the host that it needs.
pub(super) struct Control {
    file: ConfigFile,
    /// The file as last applied, without its hash key.
    base: DirectorPlan,
    running: Running,
    generation: u64,
    host: DirectorHost,
    /// The number of changes on the host, which the metrics show.
    host_changes: Arc<AtomicUsize>,
    /// Ticks of the host since the start.
    ticks: u32,
    latest: Arc<ArcSwap<Cluster>>,
    shared: Arc<Shared>,
    /// When to release each VIP that no longer has a service.
    lingering: HashMap<IpAddr, Moment>,
    /// Snapshots that a worker may still use: a thread that forwards packets must never free one.
    retired: Vec<Arc<Cluster>>,
}

/// A configuration to apply, and how to report it.
struct Next {
    running: Running,
    zeroed: Zeroed,
    by: String,
    what: EventKind,
    dry_run: bool,
}

impl Control {
    /// `running` is already published in `shared`.
    pub(super) fn new(
        file: ConfigFile,
        base: DirectorPlan,
        running: Running,
        latest: Arc<ArcSwap<Cluster>>,
        shared: Arc<Shared>,
        host: DirectorHost,
    ) -> Control {
        Control {
            file,
            base,
            running,
            generation: shared::FIRST_GENERATION,
            host_changes: Arc::new(AtomicUsize::new(host.changes().entries().len())),
            host,
            ticks: 0,
            latest,
            shared,
            lingering: HashMap::new(),
            retired: Vec::new(),
        }
    }

    /// The number of changes on the host, kept up to date.
    pub(super) fn host_changes(&self) -> Arc<AtomicUsize> {
        self.host_changes.clone()
    }

    /// The snapshot that the workers use.
    pub(super) fn latest(&self) -> Arc<ArcSwap<Cluster>> {
        self.latest.clone()
    }

    /// Waits for a reason to check the host. Cancel-safe.
    pub(super) async fn wait_for_host(&mut self) -> Notice {
        self.host.wait().await
    }

    /// Does what the input requests. Failures are answered or logged. Not cancel-safe.
    pub(super) async fn handle(&mut self, input: Input) {
        match input {
            Input::Request(request) => self.answer(request).await,
            Input::Host(notice) => self.follow_host(notice).await,
            Input::PathNarrowed => self.follow_paths().await,
            Input::Tend => self.tend().await,
        }
        self.host_changes.store(self.host.changes().entries().len(), Ordering::Relaxed);
    }

    /// Undoes the changes on the host.
    pub(super) async fn stop(self) {
        self.host.stop().await;
    }

    /// Handles a request and answers it; the client may have disconnected meanwhile.
    async fn answer(&mut self, request: Request) {
        let Request { demand, by, answer } = request;
        let outcome = match demand {
            Demand::Change(change) => self.change(change, by).await,
            Demand::Configure(configuration) => self.configure(configuration, by).await,
            Demand::Reload(reload) => self.reload(reload, by).await,
        };
        let _ = answer.send(outcome);
    }

    async fn change(&mut self, change: Change, by: String) -> Result<Changed, ControlError> {
        self.check_generation(change.if_generation)?;
        let Applied { running, zeroed } = apply(&self.running, &change.operations, self.shared.clock.now())?;
        let next = Next { running, zeroed, by, what: EventKind::Changed, dry_run: change.dry_run };
        self.advance(next).await
    }

    fn check_generation(&self, expected: Option<u64>) -> Result<(), ControlError> {
        let generation = self.generation;
        match expected.filter(|expected| *expected != generation) {
            None => Ok(()),
            Some(expected) => Err(ControlError::new(
                Code::GenerationConflict,
                format!("the configuration is at generation {generation}, not {expected}; read it again"),
            )),
        }
    }

    async fn follow_host(&mut self, notice: Notice) {
        self.host.on_notice(notice).await;
        self.ticks = self.ticks.wrapping_add(1);
        if notice == Notice::Changed || self.ticks.is_multiple_of(TICKS_PER_LOOK) {
            self.follow_paths().await;
        }
    }

    /// Publishes a new snapshot if the host's addresses or routes have changed.
    async fn follow_paths(&mut self) {
        let cluster = self.latest.load_full();
        let config = &self.running.cluster;
        match host_view::query(config, self.base.outer_source, &self.host, Some(cluster.host())).await {
            Ok(view) => {
                if *cluster.host() != view {
                    let next = cluster.succeed(self.running.in_force(), view);
                    self.install(next);
                    self.publish();
                    tracing::info!(
                        "director: the host's addresses or routes have changed; paths to the real servers updated"
                    );
                }
            }
            Err(error) => tracing::warn!("director: {error}"),
        }
    }

    /// Applies the next configuration, or only reports what would change.
    async fn advance(&mut self, next: Next) -> Result<Changed, ControlError> {
        let Next { running, zeroed, by, what, dry_run } = next;
        let differences = differences(&self.running, &running);
        if running.is_same(&self.running) && zeroed == Zeroed::Nothing {
            if !dry_run {
                self.running = running;
            }
            return Ok(Changed { generation: self.generation, dry_run, differences });
        }
        let refused =
            |error: HostError| ControlError::new(Code::HostRefused, format!("{error}; nothing was changed"));
        let cluster = self.latest.load_full();
        let (old, new) = (self.running.in_force(), running.in_force());
        // Without another VIP or RIP, the host need not be queried.
        let has_moved = !addresses(&old.config).eq(addresses(&new.config));
        let view = match has_moved {
            true => {
                let source = self.base.outer_source;
                host_view::refresh_added(&new.config, source, &self.host, cluster.host(), &old.config)
                    .await
                    .map_err(refused)?
            }
            false => cluster.host().clone(),
        };
        if dry_run {
            return Ok(Changed { generation: self.generation + 1, dry_run, differences });
        }
        if old != new {
            self.install(cluster.succeed(new.clone(), view));
            let captured =
                if has_moved { self.capture_added(&old.config, &new.config).await } else { Ok(()) };
            if let Err(error) = captured {
                let latest = self.latest.load_full();
                self.install(latest.succeed(old, cluster.host().clone()));
                return Err(refused(error));
            }
            self.note_lingering_vips();
        }
        self.generation += 1;
        self.running = running;
        self.shared.zero(&zeroed, &self.latest.load());
        self.publish();
        let message = summary(&differences, &zeroed);
        let kind = word(what);
        tracing::info!(by, generation = self.generation, kind, "director: {kind}: {message}");
        self.tell(&by, what, message, differences.clone());
        Ok(Changed { generation: self.generation, dry_run, differences })
    }

    /// Captures new VIPs; those without a service are released later.
    async fn capture_added(&mut self, old: &ClusterConfig, new: &ClusterConfig) -> Result<(), HostError> {
        let added: Vec<IpAddr> = host_view::vips(new).difference(&host_view::vips(old)).copied().collect();
        self.host.add_vips(&added).await
    }

    /// Hands the workers a new snapshot.
    fn install(&mut self, cluster: Cluster) {
        let cluster = Arc::new(cluster);
        self.shared.follow(&cluster);
        self.retired.push(self.latest.swap(cluster));
        let retired = std::mem::take(&mut self.retired);
        let (free, held) = retired.into_iter().partition(|old| Arc::strong_count(old) == 1);
        let free: Vec<Arc<Cluster>> = free;
        self.retired = held;
        if !free.is_empty() {
            tokio::task::spawn_blocking(move || drop(free));
        }
    }

    /// Hands readers the new state.
    fn publish(&self) {
        self.shared.publish(Published {
            generation: self.generation,
            cluster: self.latest.load_full(),
            defaults: self.running.defaults,
            states: self.running.states.clone(),
            hash_key: self.base.hash_key.and(Some(self.running.hash_key)),
        });
    }

    fn tell(&self, by: &str, what: EventKind, message: String, differences: Vec<Difference>) {
        let (generation, at) = (self.generation, super::clock::since_epoch());
        self.shared.tell(Event { generation, at, by: by.to_owned(), what, message, differences });
    }
}

/// VIPs and RIPs, in the configuration's order.
fn addresses(config: &ClusterConfig) -> impl Iterator<Item = IpAddr> {
    let of_service = |service: &'_ VirtualServiceConfig| -> Vec<IpAddr> {
        service.vips().chain(service.real_servers.iter().map(|server| server.rip)).collect()
    };
    config.virtual_services.iter().flat_map(of_service)
}
