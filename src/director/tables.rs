//! The state that all workers of a director share and change: connections and persistence templates, whose changes the
//! real servers' counts follow, and the flows of probes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::cluster::Cluster;
use super::connection::{Change, Entry, State, Subscriber, Table};
use super::fate;
use super::flood;
use super::persistence::{TemplateChange, TemplateKey, Templates};
use super::pins::Pins;
use super::real_server::Live;
use crate::packet::Flow;
use crate::time::Moment;

/// How often workers record a flood that continues, so that they do not write to the same place for each packet.
const NOTED_EVERY: Duration = Duration::from_secs(1);

/// Connections, templates and the flows of probes.
pub struct Tables {
    /// By flow; the counts of its limit are its own.
    pub connections: Table,
    /// By virtual service and client prefix.
    pub templates: Templates,
    /// The flows of probes, which are in no other table.
    pub pins: Arc<Pins>,
    /// The last time that a worker noted a flow instead of adding an entry, in nanoseconds; 0: never.
    noted: AtomicU64,
}

impl Tables {
    /// At most `connections_max` of each. `seed` keys the hashes, which clients must not be able to predict.
    pub fn new(connections_max: usize, seed: u64) -> Tables {
        Tables::of(Table::new(connections_max, seed), Templates::new(connections_max, seed))
    }

    /// Of these two, with their own limits.
    pub fn of(connections: Table, templates: Templates) -> Tables {
        Tables { connections, templates, pins: Arc::default(), noted: AtomicU64::new(0) }
    }

    /// The same with another limit to one client's connections.
    pub fn with_connections_per_client_max(self, max: u32) -> Tables {
        Tables { connections: self.connections.with_connections_per_client_max(max), ..self }
    }

    /// Removes expired entries, and the connections of removed real servers if the service is configured so.
    pub fn sweep(&self, cluster: &Cluster, now: Moment) {
        let counts = self.counts(cluster);
        self.connections.sweep(&fate::given_up(cluster), now, &counts);
        self.templates.sweep(now, &counts);
    }

    /// Records that a worker noted a flow instead of adding an entry.
    pub(super) fn note_flood(&self, now: Moment) {
        if !self.is_flooded(now) || now.since(self.noted()) >= NOTED_EVERY {
            self.noted.store(now.as_nanos().max(1), Ordering::Relaxed);
        }
    }

    /// Whether there may be flows without an entry that a worker still has a note of.
    pub fn is_flooded(&self, now: Moment) -> bool {
        let noted = self.noted();
        noted != Moment::ZERO && now.since(noted) < flood::LIFETIME + NOTED_EVERY
    }

    fn noted(&self) -> Moment {
        Moment::from_nanos(self.noted.load(Ordering::Relaxed))
    }

    /// The subscriber to the changes of both tables.
    pub fn counts<'a>(&'a self, cluster: &'a Cluster) -> Counts<'a> {
        Counts { cluster, templates: &self.templates }
    }
}

/// Keeps the counts of real servers, and of the connections that use a template.
pub struct Counts<'a> {
    cluster: &'a Cluster,
    templates: &'a Templates,
}

impl Subscriber for Counts<'_> {
    #[inline(always)]
    fn on_change(&self, change: &Change) {
        match change {
            Change::Added { entry, .. } => {
                self.cluster.with_live(entry.real_server, |live| {
                    live.book_new(entry.activity());
                    if entry.state == State::SynRecv {
                        live.handshakes.book_begun();
                    }
                });
            }
            Change::Moved { from: State::SynRecv, entry, .. } if entry.state == State::Established => {
                self.cluster.with_live(entry.real_server, |live| live.handshakes.book_completed());
            }
            Change::Moved { from, entry, .. } if from.activity() == entry.activity() => {}
            Change::Moved { entry, .. } => {
                self.cluster.with_live(entry.real_server, |live| live.book_move(entry.activity()));
            }
            Change::Removed { flow, entry, ended } => self.on_removed(flow, entry, *ended),
        }
    }
}

impl Counts<'_> {
    fn on_removed(&self, flow: &Flow, entry: &Entry, ended: Moment) {
        self.cluster.with_live(entry.real_server, |live| live.book_end(entry.activity()));
        if let Some(prefix) = entry.template {
            let key = TemplateKey::of_connection(entry.virtual_service, flow.client, prefix.length());
            self.templates.unlink(&key, entry.state.is_confirmed(), ended);
        }
    }
}

impl Subscriber<TemplateChange> for Counts<'_> {
    fn on_change(&self, change: &TemplateChange) {
        match *change {
            TemplateChange::Added { real_server } => {
                self.cluster.with_live(real_server, Live::book_template);
            }
            TemplateChange::Removed { real_server } => {
                self.cluster.with_live(real_server, Live::book_template_end);
            }
        }
    }
}
