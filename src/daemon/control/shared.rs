//! What the control task publishes and anyone may read; no lock is held for longer than one service takes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, broadcast};

use crate::config::plan::DirectorPlan;
use crate::control::model::Event;
use crate::control::operation::Zeroed;
use crate::control::state::AdminStates;
use crate::daemon::clock::{self, Clock};
use crate::daemon::lost::Lost;
use crate::director::cluster::{Cluster, VirtualService};
use crate::director::tables::Tables;
use crate::director::verdict::DropReason;
use crate::health::View;
use crate::metrics::counters::DirectorCounters;
use crate::metrics::ledger::Ledger;
use crate::metrics::losses::LossCause;
use crate::metrics::recent::{Grown, Recent};
use crate::serve::{Health, Published, RunningDirector};
use crate::time::Moment;

/// The generation of the configuration a director starts with.
pub(crate) const FIRST_GENERATION: u64 = 1;

/// Events that a slow reader may lag behind.
const EVENTS_MAX: usize = 256;

/// Everything that readers need.
pub(crate) struct Shared {
    /// The start-up configuration of keys that need a restart; its cluster is the first one, not the running
    /// one.
    pub plan: DirectorPlan,
    pub config_file: Option<String>,
    pub clock: Clock,
    pub tables: Arc<Tables>,
    pub workers: Vec<Arc<DirectorCounters>>,
    /// What is wrong with the host's settings, and whatever else keeps packets from flowing.
    pub health: Arc<Health>,
    pub lost: Lost,
    /// Notified when a route or an address of the host has changed.
    pub paths_moved: Arc<Notify>,
    published: ArcSwap<Published>,
    health_view: ArcSwap<View>,
    ledger: Mutex<Ledger>,
    drops: Mutex<Recent<&'static str>>,
    events: broadcast::Sender<Arc<Event>>,
}

/// What others find out.
pub(crate) struct Known {
    pub health: Arc<Health>,
    pub lost: Lost,
}

impl Shared {
    pub(crate) fn new(
        plan: DirectorPlan,
        config_file: Option<String>,
        clock: Clock,
        tables: Arc<Tables>,
        workers: Vec<Arc<DirectorCounters>>,
        cluster: Arc<Cluster>,
        known: Known,
    ) -> Shared {
        let Known { health, lost } = known;
        let mut ledger = Ledger::default();
        ledger.follow(&cluster, &workers);
        let published = Published {
            generation: FIRST_GENERATION,
            cluster,
            defaults: plan.defaults.clone(),
            states: AdminStates::default(),
            hash_key: plan.hash_key,
        };
        Shared {
            plan,
            config_file,
            clock,
            tables,
            workers,
            health,
            lost,
            paths_moved: Arc::default(),
            published: ArcSwap::from_pointee(published),
            health_view: ArcSwap::default(),
            ledger: Mutex::new(ledger),
            drops: Mutex::default(),
            events: broadcast::Sender::new(EVENTS_MAX),
        }
    }

    pub(crate) fn ledger_mutex(&self) -> &Mutex<Ledger> {
        &self.ledger
    }

    /// Must be called before the snapshot is published.
    pub(super) fn follow(&self, cluster: &Cluster) {
        self.ledger().follow(cluster, &self.workers);
    }

    pub(super) fn publish(&self, published: Published) {
        self.published.store(Arc::new(published));
    }

    /// Shows the API and the metrics what the checks have found.
    pub(in crate::daemon) fn publish_health(&self, view: Arc<View>) {
        self.health_view.store(view);
    }

    pub(super) fn zero(&self, zeroed: &Zeroed, cluster: &Cluster) {
        let is_meant = |service: &&Arc<VirtualService>| match zeroed {
            Zeroed::Nothing => false,
            Zeroed::All => true,
            Zeroed::VirtualServices(names) => names.contains(&service.config.name),
        };
        let services: Vec<_> = cluster.virtual_services().filter(is_meant).collect();
        let mut ledger = self.ledger();
        services.into_iter().for_each(|service| ledger.zero(service, &self.workers));
    }

    /// Sends an event to all subscribers, if there are any.
    pub(super) fn tell(&self, event: Event) {
        let _ = self.events.send(Arc::new(event));
    }

    /// Must be called every [`crate::metrics::estimator::PERIOD`].
    pub(crate) fn tick(&self) {
        let published = self.published();
        self.ledger().tick(&published.cluster, &self.workers);
        drop(self.look_at_drops());
    }

    fn look_at_drops(&self) -> MutexGuard<'_, Recent<&'static str>> {
        let dropped = |reason: &DropReason| {
            let counts = self.workers.iter().map(|worker| worker.dropped[*reason as usize].get());
            (reason.label(), counts.sum())
        };
        let mut drops = self.drops.lock().unwrap_or_else(PoisonError::into_inner);
        drops.look(DropReason::ALL.iter().map(dropped), self.clock.now());
        drops
    }
}

impl RunningDirector for Shared {
    fn published(&self) -> Arc<Published> {
        self.published.load_full()
    }

    fn plan(&self) -> &DirectorPlan {
        &self.plan
    }

    fn config_file(&self) -> Option<&str> {
        self.config_file.as_deref()
    }

    fn tables(&self) -> &Tables {
        &self.tables
    }

    fn workers(&self) -> &[Arc<DirectorCounters>] {
        &self.workers
    }

    /// A poisoned lock is used anyway: its holder panicked, but the counters are still the best available.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn losses(&self) -> Vec<Grown<(String, LossCause)>> {
        self.lost.list()
    }

    fn drops(&self) -> Vec<Grown<&'static str>> {
        self.look_at_drops().list()
    }

    fn health_view(&self) -> Arc<View> {
        self.health_view.load_full()
    }

    fn health(&self) -> &Health {
        &self.health
    }

    fn events(&self) -> broadcast::Receiver<Arc<Event>> {
        self.events.subscribe()
    }

    fn now(&self) -> Moment {
        self.clock.now()
    }

    fn since_epoch(&self) -> f64 {
        clock::since_epoch()
    }
}
