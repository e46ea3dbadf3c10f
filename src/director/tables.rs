//! The state that all workers of a director share and change: connections and persistence templates, and the
//! bookkeeping that keeps the real servers' counts consistent with both.

use super::cluster::{Cluster, OnRemoved};
use super::connection::{Change, Table};
use super::persistence::{TemplateChange, TemplateKey, Templates};
use crate::time::Moment;

/// Connections and templates.
pub struct Tables {
    pub connections: Table,
    pub templates: Templates,
}

impl Tables {
    /// At most `connections_max` of each. `seed` keys the hashes, which clients must not be able to predict.
    pub fn new(connections_max: usize, seed: u64) -> Tables {
        let templates = Templates::new(connections_max, seed);
        Tables { connections: Table::new(connections_max, seed), templates }
    }

    /// The same with another limit to one client's connections.
    pub fn with_connections_per_client_max(self, max: u32) -> Tables {
        Tables { connections: self.connections.with_connections_per_client_max(max), ..self }
    }

    /// Books a change that the connection table reported.
    pub fn book(&self, cluster: &Cluster, change: Change) {
        match change {
            Change::Moved { real_server, to } => cluster.with_live(real_server, |live| live.book_move(to)),
            Change::Removed { real_server, from, ended, virtual_service, client, template } => {
                cluster.with_live(real_server, |live| live.book_end(from));
                if let Some(prefix) = template {
                    let key = TemplateKey::of_connection(virtual_service, client, prefix.length());
                    self.templates.unlink(&key, ended);
                }
            }
        }
    }

    /// Removes expired entries, and the connections of removed real servers if the service is configured so.
    pub fn sweep(&self, cluster: &Cluster, now: Moment) {
        let is_given_up = |slot| {
            let Some(server) = cluster.real_server(slot) else { return !cluster.is_later(slot) };
            let service = cluster.virtual_service(server.virtual_service);
            let on_removed = service.map_or(OnRemoved::Reschedule, |service| service.config.on_removed);
            !server.is_present && on_removed == OnRemoved::Reschedule
        };
        self.connections.sweep(now, is_given_up, |change| self.book(cluster, change));
        self.templates.sweep(now, |change| book_template(cluster, change));
    }
}

/// Books a change that the template table reported.
pub fn book_template(cluster: &Cluster, change: TemplateChange) {
    match change {
        TemplateChange::Added { real_server } => cluster.with_live(real_server, |live| live.book_template(1)),
        TemplateChange::Removed { real_server } => {
            cluster.with_live(real_server, |live| live.book_template(-1))
        }
    }
}
