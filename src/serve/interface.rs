//! What the servers read from a running director, and what they hand to it.

use std::sync::{Arc, MutexGuard};

use tokio::sync::{broadcast, oneshot};

use super::readiness::Health;
use crate::config::plan::{DirectorPlan, ServiceDefaults};
use crate::control::ControlError;
use crate::control::model::{Change, Changed, CheckNow, Configuration, Event, Reload};
use crate::control::state::AdminStates;
use crate::director::cluster::Cluster;
use crate::director::tables::Tables;
use crate::health::View;
use crate::metrics::counters::DirectorCounters;
use crate::metrics::ledger::Ledger;
use crate::metrics::losses::LossCause;
use crate::metrics::recent::Grown;
use crate::time::Moment;

/// What a director shows. No method waits for the control task or for a worker.
pub trait RunningDirector: Send + Sync {
    /// The generation of the running configuration.
    fn published(&self) -> Arc<Published>;

    /// The start-up configuration of keys that need a restart; its cluster is the first one, not the running
    /// one.
    fn plan(&self) -> &DirectorPlan;

    /// The path from the command line, which a reload reads again; `None` if there was none.
    fn config_file(&self) -> Option<&str>;

    /// The connection table and its companions, which the workers write to at the same time.
    fn tables(&self) -> &Tables;

    /// The counters of each worker.
    fn workers(&self) -> &[Arc<DirectorCounters>];

    /// Who owns which counters. Hold it for no longer than one virtual service takes.
    fn ledger(&self) -> MutexGuard<'_, Ledger>;

    /// The reasons for which packets were dropped, the latest first.
    fn drops(&self) -> Vec<Grown<&'static str>>;

    /// What the kernel has dropped around the daemon, the latest first: the device, and the place in it.
    fn losses(&self) -> Vec<Grown<(String, LossCause)>>;

    /// What the checks have found.
    fn health_view(&self) -> Arc<View>;

    /// What is wrong at present.
    fn health(&self) -> &Health;

    /// Events from now on.
    fn events(&self) -> broadcast::Receiver<Arc<Event>>;

    /// The director's monotonic clock, which all moments of its tables refer to.
    fn now(&self) -> Moment;

    /// The wall clock, for people: seconds since 1970-01-01 00:00 UTC.
    fn since_epoch(&self) -> f64;
}

/// One generation of the configuration.
pub struct Published {
    /// Counts from 1 and rises with each change of the configuration; a request may name the one that it expects.
    pub generation: u64,
    /// The snapshot that the workers use, with the effective weights.
    pub cluster: Arc<Cluster>,
    /// What a virtual service gets for the keys that it omits.
    pub defaults: ServiceDefaults,
    /// Kept apart from the configuration: the effective weights follow from both.
    pub states: AdminStates,
    /// As configured by an operator; `None` for a random one, which is not shown.
    pub hash_key: Option<[u8; 16]>,
}

/// A change that is requested of a director.
pub enum Demand {
    /// A list of operations, applied together or not at all.
    Change(Change),
    /// Replaces the services and their defaults by those of a text.
    Configure(Configuration),
    /// Reads the configuration file again, as SIGHUP does.
    Reload(Reload),
    /// Checks real servers at once.
    CheckNow(CheckNow),
}

/// A demand with its sender.
pub struct Request {
    /// Handled by the control task, one at a time in the order of arrival.
    pub demand: Demand,
    /// Who sent the request.
    pub by: String,
    /// Dropped without an answer if the director ends first.
    pub answer: oneshot::Sender<Result<Changed, ControlError>>,
}

impl Request {
    /// A request whose sender does not wait for the answer.
    pub fn unanswered(demand: Demand, by: &str) -> Request {
        Request { demand, by: by.to_owned(), answer: oneshot::channel().0 }
    }
}
