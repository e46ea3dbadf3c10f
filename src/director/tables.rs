//! What all workers of a director share and change: connections and persistence templates, and the
//! bookkeeping that keeps the real servers' counts true to both.

use std::sync::atomic::Ordering;

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
    /// `seed` keys the hashes: clients must not be able to guess it.
    pub fn new(connections_max: usize, seed: u64) -> Tables {
        Tables { connections: Table::new(connections_max, seed), templates: Templates::new(seed) }
    }

    /// Books what the connection table reported.
    pub fn book(&self, cluster: &Cluster, change: Change) {
        match change {
            Change::Moved { real_server, to } => {
                if let Some(server) = cluster.real_server(real_server) {
                    server.book_move(to);
                }
            }
            Change::Removed { real_server, from, ended, client, template } => {
                let Some(server) = cluster.real_server(real_server) else { return };
                server.book_end(from);
                if let Some(prefix) = template {
                    let key = TemplateKey::of_connection(server.virtual_service, client, prefix.length());
                    self.templates.unlink(&key, ended);
                }
            }
        }
    }

    /// Books what the template table reported.
    pub fn book_template(cluster: &Cluster, change: TemplateChange) {
        let (slot, step) = match change {
            TemplateChange::Added { real_server } => (real_server, 1),
            TemplateChange::Removed { real_server } => (real_server, u32::MAX),
        };
        if let Some(server) = cluster.real_server(slot) {
            server.live.persistent.fetch_add(step, Ordering::Relaxed);
        }
    }

    /// Removes what has expired, and the connections of real servers that have left where the service says
    /// so.
    pub fn sweep(&self, cluster: &Cluster, now: Moment) {
        let is_given_up = |slot| {
            let server = cluster.real_server(slot).filter(|server| !server.is_present);
            server.is_some_and(|server| {
                let service = cluster.virtual_service(server.virtual_service);
                service.is_none_or(|service| service.config.on_removed == OnRemoved::Reschedule)
            })
        };
        self.connections.sweep(now, is_given_up, |change| self.book(cluster, change));
        self.templates.sweep(now, |change| Tables::book_template(cluster, change));
    }
}
