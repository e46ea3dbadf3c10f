//! Persistence: a template records the real server of a client (or of a prefix of clients) beyond one
//! connection.
//!
//! A template's timer restarts with each new connection. While connections use it, it does not expire but is
//! checked again every 60 s. A template whose real server cannot be used is replaced in place and keeps the
//! count of its connections.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use foldhash::quality::SeedableRandomState;

use super::cluster::Persistence;
use super::cluster::config::masked;
use super::connection::table::{hasher, shards};
use super::real_server::Slot;
use crate::time::Moment;

/// As in IPVS, where ip_vs_conn_expire() retries after 60 s.
const RETRY: Duration = Duration::from_secs(60);

/// The key of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TemplateKey {
    pub virtual_service: u16,
    /// With the bits after the prefix cleared.
    pub client: IpAddr,
    /// In the key, so that templates with another prefix length are different ones.
    pub prefix: u8,
}

impl TemplateKey {
    pub fn new(virtual_service: u16, client: IpAddr, persistence: &Persistence) -> TemplateKey {
        let (client, prefix) = persistence.mask(client);
        TemplateKey { virtual_service, client, prefix }
    }

    /// The key for a connection that records only the prefix length.
    pub fn of_connection(virtual_service: u16, client: IpAddr, prefix: u8) -> TemplateKey {
        TemplateKey { virtual_service, client: masked(client, prefix), prefix }
    }
}

#[derive(Clone, Copy, Debug)]
struct Template {
    real_server: Slot,
    /// Connections that use it.
    connections: u32,
    deadline: Moment,
}

impl Template {
    fn is_expired(&self, now: Moment) -> bool {
        self.connections == 0 && self.deadline <= now
    }

    /// The first check at or after `now` that finds no connection: every 60 s after the deadline.
    fn postpone(&mut self, now: Moment) {
        if self.deadline < now {
            let late = now.since(self.deadline).as_nanos() as u64;
            let looks = late.div_ceil(RETRY.as_nanos() as u64);
            self.deadline = self.deadline.after(RETRY * looks.min(u64::from(u32::MAX)) as u32);
        }
    }
}

/// A new connection's request for its client's template.
#[derive(Clone, Copy, Debug)]
pub struct NewTemplate {
    pub real_server: Slot,
    pub hangs: bool,
    pub timeout: Duration,
}

/// A template in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: TemplateKey,
    pub real_server: Slot,
    /// Zero if it has expired but connections still use it.
    pub expires_in: Duration,
}

/// A template now points to a real server, or no longer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateChange {
    Added { real_server: Slot },
    Removed { real_server: Slot },
}

/// All templates of a director.
pub struct Templates {
    map: DashMap<TemplateKey, Template, SeedableRandomState>,
    entries: AtomicUsize,
    templates_max: usize,
}

impl Templates {
    /// At most `templates_max`; `seed` keys the hash.
    pub fn new(templates_max: usize, seed: u64) -> Templates {
        let map = DashMap::with_hasher_and_shard_amount(hasher(seed), shards(templates_max));
        Templates { map, entries: AtomicUsize::new(0), templates_max }
    }

    pub fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The real server of a live template, if `is_usable` accepts it.
    pub fn find(&self, key: &TemplateKey, is_usable: impl Fn(Slot) -> bool, now: Moment) -> Option<Slot> {
        let template = self.map.get(key).map(|template| *template)?;
        (!template.is_expired(now) && is_usable(template.real_server)).then_some(template.real_server)
    }

    /// Adds or renews the template for a new connection, and returns the slot to which it points then:
    /// `real_server`, or the one that another worker has just given the client, if `is_usable` accepts it.
    /// `hangs`: the connection has an entry, whose end [`Templates::unlink`] must report. `None` if there are
    /// too many templates already.
    pub fn link(
        &self,
        key: TemplateKey,
        new: NewTemplate,
        is_usable: impl Fn(Slot) -> bool,
        now: Moment,
        mut on_change: impl FnMut(TemplateChange),
    ) -> Option<Slot> {
        let NewTemplate { real_server, hangs, timeout } = new;
        let deadline = now.after(timeout);
        match self.map.entry(key) {
            Entry::Vacant(_) if self.len() >= self.templates_max => None,
            Entry::Vacant(slot) => {
                self.entries.fetch_add(1, Ordering::Relaxed);
                slot.insert(Template { real_server, connections: u32::from(hangs), deadline });
                on_change(TemplateChange::Added { real_server });
                Some(real_server)
            }
            Entry::Occupied(mut slot) => {
                let template = slot.get_mut();
                let is_kept = !template.is_expired(now) && is_usable(template.real_server);
                if template.real_server != real_server && !is_kept {
                    on_change(TemplateChange::Removed { real_server: template.real_server });
                    on_change(TemplateChange::Added { real_server });
                    template.real_server = real_server;
                }
                template.connections += u32::from(hangs);
                template.deadline = deadline;
                Some(template.real_server)
            }
        }
    }

    /// Reports that a connection of the template has ended.
    pub fn unlink(&self, key: &TemplateKey, now: Moment) {
        if let Some(mut template) = self.map.get_mut(key) {
            template.connections = template.connections.saturating_sub(1);
            if template.connections == 0 {
                template.postpone(now);
            }
        }
    }

    /// The number of parts of a listing.
    pub fn parts(&self) -> usize {
        self.map.shards().len()
    }

    /// The live templates of one part; the lock is held only to copy, for some microseconds.
    pub fn part(&self, index: usize, now: Moment) -> Vec<Listed> {
        let Some(shard) = self.map.shards().get(index) else { return Vec::new() };
        let copied = shard.read().clone();
        let listed = |(key, template): (TemplateKey, dashmap::SharedValue<Template>)| {
            let template = template.into_inner();
            let expires_in = template.deadline.since(now);
            (!template.is_expired(now)).then_some(Listed {
                key,
                real_server: template.real_server,
                expires_in,
            })
        };
        copied.into_iter().filter_map(listed).collect()
    }

    /// Removes what has expired.
    pub fn sweep(&self, now: Moment, mut on_change: impl FnMut(TemplateChange)) {
        self.map.retain(|_, template| {
            let is_kept = !template.is_expired(now);
            if !is_kept {
                self.entries.fetch_sub(1, Ordering::Relaxed);
                on_change(TemplateChange::Removed { real_server: template.real_server });
            }
            is_kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(360);

    fn slot(index: u32) -> Slot {
        Slot::new(index, 0)
    }

    /// Server 5 becomes unusable.
    fn link(
        templates: &Templates,
        key: TemplateKey,
        server: u32,
        hangs: bool,
        now: Moment,
        on_change: impl FnMut(TemplateChange),
    ) -> Option<Slot> {
        let new = NewTemplate { real_server: slot(server), hangs, timeout: TIMEOUT };
        templates.link(key, new, |found| found != slot(5), now, on_change)
    }

    #[test]
    fn the_faster_workers_choice_stands() {
        let templates = Templates::new(2, 1);
        let key = key("203.0.113.7", 32);
        assert_eq!(link(&templates, key, 6, true, Moment::ZERO, |_| {}), Some(slot(6)));
        assert_eq!(
            link(&templates, key, 7, true, Moment::ZERO, |change| panic!("{change:?}")),
            Some(slot(6))
        );
        assert_eq!(find(&templates, &key, 0), Some(slot(6)));
    }

    fn key(client: &str, prefix_v4: u8) -> TemplateKey {
        let persistence = Persistence { prefix_v4, ..Persistence::new(TIMEOUT) };
        TemplateKey::new(1, client.parse().unwrap(), &persistence)
    }

    fn find(templates: &Templates, key: &TemplateKey, secs: u64) -> Option<Slot> {
        templates.find(key, |_| true, Moment::from_secs(secs))
    }

    #[test]
    fn each_new_connection_restarts_the_timer() {
        let templates = Templates::new(2, 1);
        let key = key("203.0.113.7", 32);
        link(&templates, key, 5, false, Moment::ZERO, |_| {});
        assert_eq!(find(&templates, &key, 359), Some(slot(5)));
        link(&templates, key, 5, false, Moment::from_secs(359), |_| {});
        assert_eq!(find(&templates, &key, 718), Some(slot(5)));
        assert_eq!(find(&templates, &key, 719), None);
        // Of the same real server: there is nothing to book.
        let again = Moment::from_secs(719);
        assert_eq!(link(&templates, key, 5, false, again, |change| panic!("{change:?}")), Some(slot(5)));
        assert!(templates.len() == 1 && !templates.is_empty());
    }

    #[test]
    fn connections_keep_a_template_and_it_looks_again_every_minute() {
        let templates = Templates::new(2, 1);
        let key = key("203.0.113.7", 32);
        link(&templates, key, 5, true, Moment::ZERO, |_| {});
        assert_eq!(find(&templates, &key, 5000), Some(slot(5)));
        templates.unlink(&key, Moment::from_secs(365));
        assert_eq!(find(&templates, &key, 419), Some(slot(5)), "the look at 360 s found a connection");
        assert_eq!(find(&templates, &key, 420), None);
        let mut changes = Vec::new();
        templates.sweep(Moment::from_secs(420), |change| changes.push(change));
        assert_eq!(changes, [TemplateChange::Removed { real_server: slot(5) }]);
        assert!(templates.is_empty());
    }

    #[test]
    fn a_look_is_taken_every_minute_from_the_templates_own_end_on() {
        for (last_ends, template_ends) in [(360, 360), (361, 420), (420, 420), (421, 480), (3600, 3600)] {
            let templates = Templates::new(2, 1);
            let key = key("203.0.113.7", 32);
            link(&templates, key, 5, true, Moment::ZERO, |_| {});
            link(&templates, key, 5, true, Moment::ZERO, |_| {});
            templates.unlink(&key, Moment::from_secs(359));
            templates.unlink(&key, Moment::from_secs(last_ends));
            assert_eq!(find(&templates, &key, template_ends - 1), Some(slot(5)), "{last_ends} s");
            assert_eq!(find(&templates, &key, template_ends), None, "{last_ends} s");
        }
    }

    #[test]
    fn a_listing_shows_what_lives() {
        let templates = Templates::new(2, 1);
        let key = key("203.0.113.7", 24);
        link(&templates, key, 5, false, Moment::ZERO, |_| {});
        let listed = |secs| -> Vec<Listed> {
            (0..templates.parts()).flat_map(|part| templates.part(part, Moment::from_secs(secs))).collect()
        };
        let expires_in = Duration::from_secs(350);
        assert_eq!(listed(10), [Listed { key, real_server: slot(5), expires_in }]);
        assert!(listed(360).is_empty() && templates.part(templates.parts(), Moment::ZERO).is_empty());
        link(&templates, key, 5, true, Moment::ZERO, |_| {});
        link(&templates, key, 5, true, Moment::ZERO, |_| {});
        templates.unlink(&key, Moment::from_secs(370));
        let expires_in = Duration::ZERO;
        assert_eq!(listed(371), [Listed { key, real_server: slot(5), expires_in }], "one hangs on it still");
    }

    #[test]
    fn there_are_only_so_many() {
        let templates = Templates::new(1, 1);
        let link = |client| link(&templates, key(client, 32), 5, false, Moment::ZERO, |_| {}).is_some();
        assert_eq!(["203.0.113.7", "203.0.113.8", "203.0.113.7"].map(link), [true, false, true]);
        templates.sweep(Moment::from_secs(360), |_| {});
        assert!(link("203.0.113.8"));
    }

    #[test]
    fn a_prefix_is_one_client() {
        assert_eq!(key("203.0.113.7", 24), key("203.0.113.200", 24));
        assert_ne!(key("203.0.113.7", 24), key("203.0.113.0", 32));
        let prefix = key("203.0.113.7", 24).prefix;
        let connection = TemplateKey::of_connection(1, "203.0.113.9".parse().unwrap(), prefix);
        assert_eq!(connection, key("203.0.113.7", 24));
    }

    #[test]
    fn a_template_of_an_unusable_server_is_replaced() {
        let templates = Templates::new(2, 1);
        let key = key("203.0.113.7", 32);
        link(&templates, key, 5, true, Moment::ZERO, |_| {});
        assert_eq!(templates.find(&key, |found| found != slot(5), Moment::ZERO), None);
        let mut changes = Vec::new();
        link(&templates, key, 6, true, Moment::ZERO, |change| changes.push(change));
        assert_eq!(
            changes,
            [
                TemplateChange::Removed { real_server: slot(5) },
                TemplateChange::Added { real_server: slot(6) }
            ]
        );
        assert_eq!(find(&templates, &key, 0), Some(slot(6)));
    }
}
