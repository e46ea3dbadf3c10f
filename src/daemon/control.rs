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

pub mod shared;
mod told;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use super::clock::Clock;
use super::view;
use crate::config::diff::{self, Difference};
use crate::config::plan::DirectorPlan;
use crate::config::{ConfigError, Source, consistency};
use crate::control::model::{Change, Changed, Configuration, Event, EventKind, Reload};
use crate::control::operation::{Applied, Running, Zeroed, apply, drain};
use crate::control::state::{AdminStates, FileNames};
use crate::control::{Code, ControlError};
use crate::director::cluster::{Cluster, ClusterConfig, VirtualServiceConfig};
use crate::host::DirectorHost;
use crate::time::Moment;

pub use shared::{Published, Shared};
use told::{differences, log_drained, summary, word};

/// How long a VIP stays captured after its last virtual service was removed: longer than a client or a script
/// needs to continue, shorter than it takes to move the VIP to another host.
const VIP_LEFT_FOR: Duration = Duration::from_secs(10);

/// Where the configuration came from, and how to turn its text into a plan; the command line takes
/// precedence.
pub struct ConfigFile {
    pub path: Option<PathBuf>,
    pub read: ReadPlan,
}

pub type ReadPlan = Arc<dyn Fn(&Source) -> Result<DirectorPlan, ConfigError> + Send + Sync>;

/// A request to the task.
pub enum Demand {
    Change(Change),
    Configure(Configuration),
    Reload(Reload),
}

pub struct Request {
    pub demand: Demand,
    /// Who sent the request.
    pub by: String,
    pub answer: oneshot::Sender<Result<Changed, ControlError>>,
}

pub struct Control {
    file: ConfigFile,
    /// The file as last applied, without its hash key.
    base: DirectorPlan,
    running: Running,
    generation: u64,
    clock: Clock,
    latest: Arc<ArcSwap<Cluster>>,
    shared: Arc<Shared>,
    /// When to release each VIP that no longer has a service.
    left: HashMap<IpAddr, Moment>,
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
    pub fn new(
        file: ConfigFile,
        base: DirectorPlan,
        running: Running,
        clock: Clock,
        latest: Arc<ArcSwap<Cluster>>,
        shared: Arc<Shared>,
    ) -> Control {
        let retired = Vec::new();
        let (generation, left) = (shared::FIRST_GENERATION, HashMap::new());
        Control { file, base, running, generation, clock, latest, shared, left, retired }
    }

    /// Handles a request and answers it; the client may have disconnected meanwhile.
    pub async fn answer(&mut self, request: Request, host: &mut DirectorHost) {
        let Request { demand, by, answer } = request;
        let outcome = match demand {
            Demand::Change(change) => self.change(change, by, host).await,
            Demand::Configure(configuration) => self.configure(configuration, by, host).await,
            Demand::Reload(reload) => self.reload(reload, by, host).await,
        };
        let _ = answer.send(outcome);
    }

    async fn change(
        &mut self,
        change: Change,
        by: String,
        host: &mut DirectorHost,
    ) -> Result<Changed, ControlError> {
        self.check_generation(change.if_generation)?;
        let Applied { running, zeroed } = apply(&self.running, &change.operations, self.clock.now())?;
        let next = Next { running, zeroed, by, what: EventKind::Changed, dry_run: change.dry_run };
        self.advance(next, host).await
    }

    async fn configure(
        &mut self,
        configuration: Configuration,
        by: String,
        host: &mut DirectorHost,
    ) -> Result<Changed, ControlError> {
        self.check_generation(configuration.if_generation)?;
        let plan = self.read("request".to_owned(), configuration.toml).await?;
        self.check_restart(&plan)?;
        let hash_key = plan.hash_key.unwrap_or(self.running.hash_key);
        let next = Running {
            cluster: Arc::new(plan.cluster.clone()),
            defaults: plan.defaults,
            hash_key,
            states: AdminStates::default(),
            file_names: Arc::default(),
        };
        let running = self.carried_over(next, &plan.cluster)?;
        let (zeroed, dry_run) = (Zeroed::Nothing, configuration.dry_run);
        let next = Next { running, zeroed, by, what: EventKind::Replaced, dry_run };
        let changed = self.advance(next, host).await?;
        if !dry_run {
            self.base.hash_key = plan.hash_key.or(self.base.hash_key);
            self.publish();
        }
        Ok(changed)
    }

    /// Applies the current file. A file that cannot be applied changes nothing, and the reason is logged.
    pub async fn reload(
        &mut self,
        reload: Reload,
        by: String,
        host: &mut DirectorHost,
    ) -> Result<Changed, ControlError> {
        let outcome = self.reload_unlogged(&reload, &by, host).await;
        if let (Err(error), false) = (&outcome, reload.dry_run) {
            tracing::warn!(by, generation = self.generation, "director: reload refused: {error}");
            self.tell(&by, EventKind::ReloadRefused, error.to_string(), Vec::new());
        }
        if outcome.as_ref().is_ok_and(|changed| changed.differences.is_empty() && !reload.dry_run) {
            tracing::info!(by, generation = self.generation, "director: reloaded: the file has not changed");
        }
        outcome
    }

    async fn reload_unlogged(
        &mut self,
        reload: &Reload,
        by: &str,
        host: &mut DirectorHost,
    ) -> Result<Changed, ControlError> {
        self.check_generation(reload.if_generation)?;
        let Some(path) = self.file.path.clone() else {
            let message = "the director was started without --config, so there is no file to reload";
            return Err(ControlError::new(Code::NoFile, message));
        };
        let name = path.display().to_string();
        let text = tokio::fs::read_to_string(&path).await.map_err(|error| {
            ControlError::new(Code::BadConfiguration, format!("{name}: cannot read: {error}"))
        })?;
        let plan = self.read(name, text).await?;
        self.check_restart(&plan)?;
        let (base, file) = (&self.base, &plan);
        let hash_key = match file.hash_key.filter(|_| file.hash_key != base.hash_key) {
            Some(key) => key,
            None => self.running.hash_key,
        };
        let next = Running {
            cluster: diff::merge(&base.cluster, &file.cluster, &self.running.cluster).into(),
            defaults: diff::merge_defaults(&base.defaults, &file.defaults, &self.running.defaults),
            hash_key,
            states: AdminStates::default(),
            file_names: Arc::default(),
        };
        let running = self.carried_over(next, &file.cluster)?;
        let next = Next {
            running,
            zeroed: Zeroed::Nothing,
            by: by.to_owned(),
            what: EventKind::Reloaded,
            dry_run: reload.dry_run,
        };
        let changed = self.advance(next, host).await?;
        if !reload.dry_run {
            self.base = plan;
            self.publish();
        }
        Ok(changed)
    }

    /// Reading a thousand services takes milliseconds, so it does not run on a thread that answers others.
    async fn read(&self, name: String, text: String) -> Result<DirectorPlan, ControlError> {
        // Editors and shells briefly leave an empty file; it does not mean that nothing is to be served.
        let says_something = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        if !text.lines().any(says_something) {
            let message = format!("{name}: the configuration is empty; nothing was changed");
            return Err(ControlError::new(Code::BadConfiguration, message));
        }
        let read = self.file.read.clone();
        let plan = tokio::task::spawn_blocking(move || read(&Source { name: &name, text: &text })).await;
        let plan = plan.map_err(|error| ControlError::new(Code::Internal, error.to_string()))?;
        plan.map_err(|error| ControlError::new(Code::BadConfiguration, error.to_string()))
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

    fn check_restart(&self, plan: &DirectorPlan) -> Result<(), ControlError> {
        let keys = diff::needs_restart(&self.base, plan);
        if keys.is_empty() {
            return Ok(());
        }
        let message = format!(
            "{}: cannot change without a restart of the director; nothing was changed",
            keys.join(", ")
        );
        Err(ControlError::new(Code::NeedsRestart, message))
    }

    /// States and the hash key are no part of a file's services; the rest is checked as a whole.
    fn carried_over(&self, next: Running, file: &ClusterConfig) -> Result<Running, ControlError> {
        let mut cluster = Arc::unwrap_or_clone(next.cluster);
        for service in &mut cluster.virtual_services {
            service.scheduler_options.hash_key = next.hash_key;
        }
        let states = self.running.states.carried_over(&self.running.cluster, &cluster, file);
        consistency::check(&cluster.virtual_services).map_err(|found| {
            let message = format!("{}; a service added by command is in the way", found.message);
            ControlError::new(Code::Invalid, message)
        })?;
        let file_names = FileNames::new(file).into();
        Ok(Running { cluster: cluster.into(), states, file_names, ..next })
    }

    /// Whether a drain or a released VIP is due later.
    pub fn has_to_tend(&self) -> bool {
        !self.left.is_empty() || self.running.states.draining() > 0
    }

    /// Finishes what is over; call it once a second while [`Control::has_to_tend`].
    pub async fn tend(&mut self, host: &mut DirectorHost) {
        self.tend_drains(host).await;
        self.tend_vips(host).await;
    }

    /// Ends drains that are over.
    async fn tend_drains(&mut self, host: &mut DirectorHost) {
        let cluster = self.latest.load_full();
        let is_empty = |name: &str, rip: IpAddr| {
            let service = cluster.virtual_services().find(|service| service.config.name == name);
            let server = service.and_then(|s| s.real_servers.iter().find(|server| server.rip == rip));
            server.is_none_or(|server| !server.live.is_referenced())
        };
        let Some((running, ended)) = drain::finish(&self.running, is_empty, self.clock.now()) else { return };
        for drained in &ended {
            self.tell("drain", EventKind::Drained, log_drained(drained), Vec::new());
        }
        let (by, zeroed) = ("drain".to_owned(), Zeroed::Nothing);
        let next = Next { running, zeroed, by, what: EventKind::Changed, dry_run: false };
        if let Err(error) = self.advance(next, host).await {
            tracing::warn!("director: cannot end a drain: {error}");
        }
    }

    fn note_vips_left(&mut self) {
        let (latest, deadline) = (self.latest.load_full(), self.clock.now().after(VIP_LEFT_FOR));
        let left = &latest.host().vips_left;
        self.left.retain(|vip, _| left.contains(vip));
        for vip in left {
            self.left.entry(*vip).or_insert(deadline);
        }
    }

    /// Releases the VIPs that have been without a virtual service long enough.
    async fn tend_vips(&mut self, host: &mut DirectorHost) {
        let now = self.clock.now();
        let due: Vec<IpAddr> =
            self.left.iter().filter(|(_, deadline)| **deadline <= now).map(|(vip, _)| *vip).collect();
        if due.is_empty() {
            return;
        }
        self.left.retain(|vip, _| !due.contains(vip));
        if let Err(error) = host.remove_vips(&due).await {
            // They serve nothing any more, and the next event of the host tries again.
            tracing::warn!("director: cannot release a VIP: {error}");
        }
        let cluster = self.latest.load_full();
        let mut view = cluster.host().clone();
        view.vips_left.retain(|vip| !due.contains(vip));
        self.install(cluster.succeed(self.running.in_force(), view));
        self.publish();
    }

    /// Publishes a new snapshot if the host's addresses or routes have changed.
    pub async fn follow_paths(&mut self, host: &DirectorHost) {
        let cluster = self.latest.load_full();
        let config = &self.running.cluster;
        match view::look(config, self.base.outer_source, host, Some(cluster.host())).await {
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
    async fn advance(&mut self, next: Next, host: &mut DirectorHost) -> Result<Changed, ControlError> {
        let Next { running, zeroed, by, what, dry_run } = next;
        let differences = differences(&self.running, &running);
        if running.is_same(&self.running) && zeroed == Zeroed::Nothing {
            if !dry_run {
                self.running = running;
            }
            return Ok(Changed { generation: self.generation, dry_run, differences });
        }
        let refused = |error: crate::host::HostError| {
            ControlError::new(Code::HostRefused, format!("{error}; nothing was changed"))
        };
        let cluster = self.latest.load_full();
        let (old, new) = (self.running.in_force(), running.in_force());
        // Where nothing comes or goes, the host has nothing to say.
        let is_news = !addresses(&old.config).eq(addresses(&new.config));
        let view = match is_news {
            true => {
                let source = self.base.outer_source;
                view::look_at_news(&new.config, source, host, cluster.host(), &old.config)
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
            let captured = if is_news { capture_new(&old.config, &new.config, host).await } else { Ok(()) };
            if let Err(error) = captured {
                let latest = self.latest.load_full();
                self.install(latest.succeed(old, cluster.host().clone()));
                return Err(refused(error));
            }
            self.note_vips_left();
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

/// Captures new VIPs; those without a service are released later.
async fn capture_new(
    old: &ClusterConfig,
    new: &ClusterConfig,
    host: &mut DirectorHost,
) -> Result<(), crate::host::HostError> {
    let added: Vec<IpAddr> = view::vips(new).difference(&view::vips(old)).copied().collect();
    host.add_vips(&added).await
}
