//! The one task that changes a running director: it owns the running configuration and its generation.
//!
//! ```text
//! change, configuration, reload, SIGHUP, a drain's end
//!   └▶ next configuration ▶ query the host ▶ snapshot ▶ publish ▶ capture new VIPs …▶ release old ones
//! ```
//!
//! In this order, a packet for a new VIP finds its service, and a VIP that stays never loses its capture. If
//! the host refuses a VIP, the previous snapshot is published again and nothing has changed. A VIP without
//! services is released a while later, and the connections of a removed real server wait as long: until then the
//! director refuses new clients, and everything may come back at once, as with scripts that clear the table before
//! they set it up again.

mod health;
mod reload;
mod reread;
pub(super) mod shared;
mod tend;
mod troubles;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use super::clock;
use super::device::{DeviceState, OwnDevice};
use super::health::News;
use super::losses::LossWatch;
use super::troubles::{SECOND_LOOK, Watch};
use super::warnings::Warnings;
use super::{claims, host_view, strays, untracked};
use crate::config::diff::Difference;
use crate::config::plan::DirectorPlan;
use crate::config::{self, ConfigError};
use crate::control::change_summary::{differences, summary, word};
use crate::control::model::{Change, Changed, Event, EventKind};
use crate::control::operation::{Applied, Running, Zeroed, apply};
use crate::control::{Code, ControlError};
use crate::director::cluster::grace::Grace;
use crate::director::cluster::{Cluster, ClusterConfig, VirtualServiceConfig};
use crate::host::{DirectorHost, HostError, Notice, Notrack};
use crate::metrics::losses::Losses;
use crate::metrics::strays::StrayPackets;
use crate::serve::{Demand, Published, Request};
use crate::time::Moment;
use crate::trouble::{Found, Source};

pub(super) use health::{Checks, probed};
pub(super) use reread::{Reread, with_text};
pub(super) use shared::{Known, Shared};

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
pub(crate) type ReadPlan = Arc<dyn Fn(&config::Source) -> Result<DirectorPlan, ConfigError> + Send + Sync>;

/// What the control task handles next.
pub(super) enum Input {
    Request(Request),
    /// A request for a reload, with the file as it was read meanwhile.
    Reload(Request, Reread),
    /// The host has changed, or is to be checked.
    Host(Notice),
    /// The paths to the real servers may be others: a packet did not fit its path, or a route or an address has changed.
    PathsMoved,
    /// Due once a second while [`Control::has_to_tend`].
    Tend,
    /// Due once a second, and when the path to a real server has changed.
    Look,
    /// The checks have found something.
    Health(News),
}

/// The control task: the running configuration, and the host that it needs.
pub(super) struct Control {
    file: ConfigFile,
    /// The file as last applied, without its hash key.
    base: DirectorPlan,
    running: Running,
    generation: u64,
    device: OwnDevice,
    host: DirectorHost,
    notrack: Notrack,
    losses: LossWatch,
    /// The number of changes on the host, which the metrics show.
    host_changes: Arc<AtomicUsize>,
    strays: strays::StrayWatch,
    claimed: claims::Claimed,
    /// Ticks of the host since the start.
    ticks: u32,
    latest: Arc<ArcSwap<Cluster>>,
    shared: Arc<Shared>,
    /// When to release each VIP that no longer has a service.
    lingering: HashMap<IpAddr, Moment>,
    /// Until when connections of removed real servers wait for them.
    grace: Grace,
    /// Snapshots that a worker may still use: a thread that forwards packets must never free one.
    retired: Vec<Arc<Cluster>>,
    watch: Watch,
    warnings: Warnings,
    checks: Checks,
}

/// What the director has on its host.
pub(super) struct Outside {
    pub device: OwnDevice,
    pub host: DirectorHost,
    /// For the configuration at the start.
    pub notrack: Notrack,
    pub losses: LossWatch,
    pub watch: Watch,
    pub checks: Checks,
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
        outside: Outside,
    ) -> Control {
        let Outside { device, host, notrack, losses, watch, checks } = outside;
        Control {
            file,
            base,
            running,
            generation: shared::FIRST_GENERATION,
            strays: strays::StrayWatch::default(),
            claimed: claims::Claimed::default(),
            host_changes: Arc::new(AtomicUsize::new(
                host.changes().entries().len() + usize::from(notrack.is_in_force()),
            )),
            device,
            host,
            notrack,
            losses,
            ticks: 0,
            latest,
            shared,
            lingering: HashMap::new(),
            grace: Grace::default(),
            retired: Vec::new(),
            watch,
            warnings: Warnings::default(),
            checks,
        }
    }

    /// Logs what is rarely intended in the file, later.
    pub(super) fn warn_of_file(&self) {
        self.warnings.follow(self.base.clone());
    }

    /// The number of changes on the host, kept up to date.
    pub(super) fn host_changes(&self) -> Arc<AtomicUsize> {
        self.host_changes.clone()
    }

    /// What the kernel has dropped, kept up to date.
    pub(super) fn losses(&self) -> Arc<Losses> {
        self.losses.losses()
    }

    /// The messages of other hosts that have a VIP, kept up to date.
    pub(super) fn claims(&self) -> Arc<claims::Totals> {
        self.claimed.totals()
    }

    /// What has arrived where nothing captures it, kept up to date.
    pub(super) fn strays(&self) -> Arc<StrayPackets> {
        self.strays.counts()
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
            Input::Request(request) => self.answer(request, None).await,
            Input::Reload(request, text) => self.answer(request, Some(text)).await,
            Input::Host(notice) => self.follow_host(notice).await,
            Input::Look => self.look().await,
            Input::PathsMoved => self.follow_paths().await,
            Input::Tend => self.tend().await,
            Input::Health(news) => self.on_health(news).await,
        }
        self.follow_checks().await;
        let changes = self.host.changes().entries().len() + usize::from(self.notrack.is_in_force());
        self.host_changes.store(changes, Ordering::Relaxed);
    }

    /// Stops the programs, then the workers, and undoes the changes on the host. Clients are served until what announces the
    /// VIPs elsewhere has ended.
    pub(super) async fn stop<W>(self, workers: W) {
        let Control { checks, running, mut notrack, host, .. } = self;
        checks.hooks.stop(&running.cluster, &running.health, clock::since_epoch()).await;
        drop(workers);
        notrack.stop();
        host.stop().await;
    }

    /// Handles a request and answers it; the client may have disconnected meanwhile.
    async fn answer(&mut self, request: Request, text: Option<Reread>) {
        let Request { demand, by, answer } = request;
        let outcome = match demand {
            Demand::Change(change) => self.change(change, by).await,
            Demand::Configure(configuration) => self.configure(configuration, by).await,
            Demand::CheckNow(request) => self.check_now(&request),
            Demand::Reload(reload) => self.reload(reload, by, text.unwrap_or(Reread::NoFile)).await,
        };
        let _ = answer.send(outcome);
    }

    async fn change(&mut self, change: Change, by: String) -> Result<Changed, ControlError> {
        self.check_generation(change.if_generation)?;
        let Applied { running, zeroed } = apply(&self.running, &change.operations, self.shared.clock.now())?;
        let next = Next { running, zeroed, by, what: EventKind::Changed, dry_run: change.dry_run };
        let changed = self.advance(next).await?;
        self.check_enabled(&change);
        Ok(changed)
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
        if notice == Notice::Paths {
            return self.shared.paths_moved.notify_one();
        }
        if notice == Notice::Tick {
            self.notrack.audit();
            self.losses.look().await;
            self.host.probe_vips();
        }
        let mut found = self.check_host(notice).await;
        if self.watch.has_news(Source::Host, &found) {
            // A program that changes something often changes more in the next moment.
            tokio::time::sleep(SECOND_LOOK).await;
            found = self.check_host(notice).await;
        }
        self.watch.report(Source::Host, found);
        let now = self.shared.clock.now();
        self.strays.look(&mut self.host, &self.latest.load_full(), now).await;
        let claims = self.host.take_claims();
        self.claimed.look(self.host.answered_vips(), claims, now);
        self.look().await;
        self.ticks = self.ticks.wrapping_add(1);
        if notice == Notice::Changed || self.has_moved_vip() || self.ticks.is_multiple_of(TICKS_PER_LOOK) {
            self.follow_paths().await;
        }
    }

    /// Puts the device and the host's settings right, and returns what is still wrong.
    async fn check_host(&mut self, notice: Notice) -> Vec<Found> {
        let device = self.device.restore().await;
        if device == Ok(DeviceState::Restored) {
            self.host.on_device_restored();
        }
        self.host.on_notice(notice).await;
        // What the device has taken with it comes back with it.
        device.map_or_else(|trouble| vec![trouble], |_| self.host.troubles())
    }

    /// Whether a VIP has become an address of the host, or is none any more, since the last query.
    fn has_moved_vip(&self) -> bool {
        let cluster = self.latest.load();
        self.host.vips().iter().any(|(vip, state)| cluster.has_local_vip((*vip).into()) != state.is_local)
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
                        kind = "paths_changed",
                        "director: the host's addresses or routes have changed; paths to the real servers updated"
                    );
                }
            }
            Err(error) => tracing::warn!(kind = "paths_unknown", "director: {error}"),
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
        if !Arc::ptr_eq(self.latest.load().config(), cluster.config()) {
            self.notrack.set(untracked::ports(cluster.config()));
        }
        self.shared.follow(&cluster);
        self.grace.follow(&cluster, self.shared.clock.now());
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
    fn publish(&mut self) {
        self.shared.publish_health(self.running.health.clone());
        self.shared.publish(Published {
            generation: self.generation,
            cluster: self.latest.load_full(),
            defaults: self.running.defaults.clone(),
            states: self.running.states.clone(),
            hash_key: self.base.hash_key.and(Some(self.running.hash_key)),
        });
    }

    fn tell(&self, by: &str, what: EventKind, message: String, differences: Vec<Difference>) {
        let (generation, at) = (self.generation, clock::since_epoch());
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
