//! What the servers read from a running director, and what they hand to it.

use std::sync::{Arc, MutexGuard};

use tokio::sync::{broadcast, oneshot};

use crate::config::plan::{DirectorPlan, ServiceDefaults};
use crate::control::ControlError;
use crate::control::model::{Change, Changed, Configuration, Event, Reload};
use crate::control::state::AdminStates;
use crate::director::cluster::Cluster;
use crate::director::tables::Tables;
use crate::metrics::counters::DirectorCounters;
use crate::metrics::ledger::Ledger;
use crate::time::Moment;

/// What a director shows. No method waits for the control task or for a worker.
pub trait RunningDirector: Send + Sync {
    /// The generation of the running configuration.
    fn published(&self) -> Arc<Published>;

    /// The start-up configuration of keys that need a restart; its cluster is the first one, not the running
    /// one.
    fn plan(&self) -> &DirectorPlan;

    fn config_file(&self) -> Option<&str>;

    fn tables(&self) -> &Tables;

    /// The counters of each worker.
    fn workers(&self) -> &[Arc<DirectorCounters>];

    /// Who owns which counters. Hold it for no longer than one virtual service takes.
    fn ledger(&self) -> MutexGuard<'_, Ledger>;

    /// Events from now on.
    fn events(&self) -> broadcast::Receiver<Arc<Event>>;

    fn now(&self) -> Moment;

    /// The wall clock, for people: seconds since 1970-01-01 00:00 UTC.
    fn since_epoch(&self) -> f64;
}

/// One generation of the configuration.
pub struct Published {
    pub generation: u64,
    pub cluster: Arc<Cluster>,
    pub defaults: ServiceDefaults,
    pub states: AdminStates,
    /// As configured by an operator; `None` for a random one, which is not shown.
    pub hash_key: Option<[u8; 16]>,
}

/// A change that is requested of a director.
pub enum Demand {
    Change(Change),
    Configure(Configuration),
    Reload(Reload),
}

/// A demand with its sender.
pub struct Request {
    pub demand: Demand,
    /// Who sent the request.
    pub by: String,
    pub answer: oneshot::Sender<Result<Changed, ControlError>>,
}

impl Request {
    /// A request whose sender does not wait for the answer.
    pub fn unanswered(demand: Demand, by: &str) -> Request {
        Request { demand, by: by.to_owned(), answer: oneshot::channel().0 }
    }
}
