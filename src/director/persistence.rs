//! Persistence: a template records the real server of a client (or of a prefix of clients) beyond one
//! connection.
//!
//! A template's timer restarts with each new connection. While connections use it, it does not expire but is
//! checked again every 60 s. A template whose real server cannot be used is replaced in place and keeps the
//! count of its connections. In a table that is filling up, a template ends with its last connection if none of them
//! was more than a first packet, which a forged source could have sent.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use foldhash::quality::SeedableRandomState;

use super::cluster::Persistence;
use super::cluster::config::masked;
use super::connection::Subscriber;
use super::connection::table::{hasher, shards};
use super::real_server::Slot;
use crate::time::Moment;

/// As in IPVS, where ip_vs_conn_expire() retries after 60 s.
const RETRY: Duration = Duration::from_secs(60);

/// A part of the table, from which on it is filling up, and the size from which on that matters.
const FILLING: usize = 4;
const RULED_FROM: usize = 1 << 16;

/// The key of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TemplateKey {
    /// Slot; services never share templates.
    pub virtual_service: u16,
    /// With the bits after the prefix cleared.
    pub client: IpAddr,
    /// In the key, so that templates with another prefix length are different ones.
    pub prefix: u8,
}

impl TemplateKey {
    /// The key that `client` has under this service's prefix lengths.
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
    /// Whether one of its connections that have ended was more than a first packet.
    is_assured: bool,
    deadline: Moment,
}

impl Template {
    fn is_expired(&self, now: Moment) -> bool {
        self.connections == 0 && self.deadline <= now
    }

    /// The first check at or after `now` that finds no connection: every 60 s after the deadline.
    fn postpone(&mut self, now: Moment) {
        if self.deadline < now {
            let looks = now.since(self.deadline).as_nanos().div_ceil(RETRY.as_nanos());
            self.deadline = self.deadline.after(RETRY * u32::try_from(looks).unwrap_or(u32::MAX));
        }
    }
}

/// A new connection's request for its client's template.
#[derive(Clone, Copy, Debug)]
pub struct NewTemplate {
    /// The scheduler's choice for this connection, which later ones then follow.
    pub real_server: Slot,
    /// The real server that the template may have before: the one that it had when this one was chosen.
    pub instead_of: Option<Slot>,
    /// Whether the connection has an entry, whose end [`Templates::unlink`] must report.
    pub has_entry: bool,
    /// The service's [`Persistence::timeout`], to which the template's timer is set.
    pub timeout: Duration,
}

/// Whether a template now points to the requested real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linked {
    /// The template points there, and its timer has restarted.
    Linked,
    /// The client has been given this other real server meanwhile; nothing has changed.
    Taken(Slot),
    /// There are too many templates already.
    Full,
}

/// A template in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Service, client and prefix.
    pub key: TemplateKey,
    /// Slot in the cluster; the real server may have been removed since.
    pub real_server: Slot,
    /// Zero if it has expired but connections still use it.
    pub expires_in: Duration,
}

/// A template now points to a real server, or no longer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateChange {
    /// A template points to it that did not before.
    Added {
        /// The new one, if a template changes its real server.
        real_server: Slot,
    },
    /// The template expired, or points to another real server now.
    Removed {
        /// Where it pointed.
        real_server: Slot,
    },
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

    /// Including expired ones that the sweep has not removed yet.
    pub fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Whether no template is left, not even an expired one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The real server of a live template.
    pub fn get(&self, key: &TemplateKey, now: Moment) -> Option<Slot> {
        let template = self.map.get(key).map(|template| *template)?;
        (!template.is_expired(now)).then_some(template.real_server)
    }

    /// Adds or renews the template for a new connection, unless it points to a real server that the caller has not
    /// seen.
    pub fn link(
        &self,
        key: TemplateKey,
        new: NewTemplate,
        now: Moment,
        changes: &impl Subscriber<TemplateChange>,
    ) -> Linked {
        let NewTemplate { real_server, instead_of, has_entry, timeout } = new;
        let (connections, deadline) = (u32::from(has_entry), now.after(timeout));
        match self.map.entry(key) {
            Entry::Vacant(_) if self.len() >= self.templates_max => Linked::Full,
            Entry::Vacant(place) => {
                self.entries.fetch_add(1, Ordering::Relaxed);
                changes.on_change(&TemplateChange::Added { real_server });
                let is_assured = !has_entry;
                place.insert(Template { real_server, connections, is_assured, deadline });
                Linked::Linked
            }
            Entry::Occupied(mut place) => {
                let template = place.get_mut();
                let before = template.real_server;
                if before != real_server {
                    if !template.is_expired(now) && instead_of != Some(before) {
                        return Linked::Taken(before);
                    }
                    changes.on_change(&TemplateChange::Removed { real_server: before });
                    changes.on_change(&TemplateChange::Added { real_server });
                    template.real_server = real_server;
                }
                template.connections += connections;
                template.deadline = deadline;
                Linked::Linked
            }
        }
    }

    /// Reports that a connection of the template has ended, and whether it was more than a first packet.
    pub fn unlink(&self, key: &TemplateKey, is_confirmed: bool, now: Moment) {
        if let Some(mut template) = self.map.get_mut(key) {
            template.connections = template.connections.saturating_sub(1);
            template.is_assured |= is_confirmed;
            match template.connections {
                0 if !template.is_assured && self.is_filling_up() => template.deadline = now,
                0 => template.postpone(now),
                _ => {}
            }
        }
    }

    fn is_filling_up(&self) -> bool {
        self.templates_max >= RULED_FROM && self.len() >= self.templates_max / FILLING
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
    pub fn sweep(&self, now: Moment, changes: &impl Subscriber<TemplateChange>) {
        self.map.retain(|_, template| {
            let is_kept = !template.is_expired(now);
            if !is_kept {
                self.entries.fetch_sub(1, Ordering::Relaxed);
                changes.on_change(&TemplateChange::Removed { real_server: template.real_server });
            }
            is_kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::connection::change::record::Record;

    const TIMEOUT: Duration = Duration::from_secs(360);

    fn slot(index: u32) -> Slot {
        Slot::new(index, 0)
    }

    type Changes = Record<TemplateChange>;

    fn new(server: u32) -> NewTemplate {
        NewTemplate { real_server: slot(server), instead_of: None, has_entry: false, timeout: TIMEOUT }
    }

    /// Of a connection with or without an entry.
    fn link(templates: &Templates, key: TemplateKey, server: u32, has_entry: bool, now: Moment) -> Linked {
        templates.link(key, NewTemplate { has_entry, ..new(server) }, now, &Changes::new())
    }

    #[test]
    fn the_faster_workers_choice_stands() {
        let (templates, changes) = (Templates::new(2, 1), Changes::new());
        let key = key("203.0.113.7", 32);
        assert_eq!(link(&templates, key, 6, true, Moment::ZERO), Linked::Linked);
        let second = NewTemplate { has_entry: true, ..new(7) };
        for instead_of in [None, Some(slot(5))] {
            let second = NewTemplate { instead_of, ..second };
            assert_eq!(templates.link(key, second, Moment::from_secs(100), &changes), Linked::Taken(slot(6)));
        }
        assert!(changes.take().is_empty());
        assert_eq!(find(&templates, &key, 0), Some(slot(6)));
        templates.unlink(&key, true, Moment::ZERO);
        assert_eq!(find(&templates, &key, 360), None, "the second has neither a part in it nor restarted it");
    }

    fn key(client: &str, prefix_v4: u8) -> TemplateKey {
        let persistence = Persistence { prefix_v4, ..Persistence::new(TIMEOUT) };
        TemplateKey::new(1, client.parse().unwrap(), &persistence)
    }

    fn find(templates: &Templates, key: &TemplateKey, secs: u64) -> Option<Slot> {
        templates.get(key, Moment::from_secs(secs))
    }

    /// A template for each of `count` clients.
    fn filled(templates_max: usize, count: usize) -> Templates {
        let templates = Templates::new(templates_max, 1);
        for number in 0..count {
            let client = std::net::Ipv4Addr::from_bits(0x0b00_0000 + u32::try_from(number).unwrap());
            link(&templates, key(&client.to_string(), 32), 5, true, Moment::ZERO);
        }
        templates
    }

    #[test]
    fn while_the_table_fills_up_a_template_ends_with_the_last_of_its_unconfirmed_connections() {
        let full = RULED_FROM / FILLING;
        for (case, templates_max, others, confirmed, expected) in [
            ("filling up", RULED_FROM, full - 1, [false, false], None),
            ("one of them confirmed", RULED_FROM, full - 1, [true, false], Some(slot(7))),
            ("the last one confirmed", RULED_FROM, full - 1, [false, true], Some(slot(7))),
            ("room enough", RULED_FROM, full - 2, [false, false], Some(slot(7))),
            ("a small table", RULED_FROM - 1, full - 1, [false, false], Some(slot(7))),
        ] {
            let templates = filled(templates_max, others);
            let key = key("203.0.113.7", 32);
            for _ in confirmed {
                link(&templates, key, 7, true, Moment::ZERO);
            }
            templates.unlink(&key, confirmed[0], Moment::from_secs(60));
            assert_eq!(find(&templates, &key, 60), Some(slot(7)), "{case}: one connection is left");
            templates.unlink(&key, confirmed[1], Moment::from_secs(60));
            assert_eq!(find(&templates, &key, 60), expected, "{case}");
        }
    }

    #[test]
    fn a_template_of_datagrams_without_entries_lasts_as_long_as_its_timer() {
        let templates = filled(RULED_FROM, RULED_FROM / FILLING);
        let key = key("203.0.113.7", 32);
        link(&templates, key, 7, false, Moment::ZERO);
        link(&templates, key, 7, true, Moment::ZERO);
        templates.unlink(&key, false, Moment::from_secs(60));
        assert_eq!(find(&templates, &key, 359), Some(slot(7)));
    }

    #[test]
    fn each_new_connection_restarts_the_timer() {
        let templates = Templates::new(2, 1);
        let key = key("203.0.113.7", 32);
        link(&templates, key, 5, false, Moment::ZERO);
        assert_eq!(find(&templates, &key, 359), Some(slot(5)));
        link(&templates, key, 5, false, Moment::from_secs(359));
        assert_eq!(find(&templates, &key, 718), Some(slot(5)));
        assert_eq!(find(&templates, &key, 719), None);
        // Of the same real server: there is nothing to book.
        let (again, changes) = (Moment::from_secs(719), Changes::new());
        assert_eq!(templates.link(key, new(5), again, &changes), Linked::Linked);
        assert!(changes.take().is_empty());
        assert!(templates.len() == 1 && !templates.is_empty());
    }

    #[test]
    fn connections_keep_a_template_and_it_looks_again_every_minute() {
        let templates = Templates::new(2, 1);
        let key = key("203.0.113.7", 32);
        link(&templates, key, 5, true, Moment::ZERO);
        assert_eq!(find(&templates, &key, 5000), Some(slot(5)));
        templates.unlink(&key, true, Moment::from_secs(365));
        assert_eq!(find(&templates, &key, 419), Some(slot(5)), "the look at 360 s found a connection");
        assert_eq!(find(&templates, &key, 420), None);
        let changes = Changes::new();
        templates.sweep(Moment::from_secs(420), &changes);
        assert_eq!(changes.take(), [TemplateChange::Removed { real_server: slot(5) }]);
        assert!(templates.is_empty());
    }

    #[test]
    fn a_look_is_taken_every_minute_from_the_templates_own_end_on() {
        for (last_ends, template_ends) in [(360, 360), (361, 420), (420, 420), (421, 480), (3600, 3600)] {
            let templates = Templates::new(2, 1);
            let key = key("203.0.113.7", 32);
            link(&templates, key, 5, true, Moment::ZERO);
            link(&templates, key, 5, true, Moment::ZERO);
            templates.unlink(&key, true, Moment::from_secs(359));
            templates.unlink(&key, true, Moment::from_secs(last_ends));
            assert_eq!(find(&templates, &key, template_ends - 1), Some(slot(5)), "{last_ends} s");
            assert_eq!(find(&templates, &key, template_ends), None, "{last_ends} s");
        }
    }

    #[test]
    fn a_listing_shows_what_lives() {
        let templates = Templates::new(2, 1);
        let key = key("203.0.113.7", 24);
        link(&templates, key, 5, false, Moment::ZERO);
        let listed = |secs| -> Vec<Listed> {
            (0..templates.parts()).flat_map(|part| templates.part(part, Moment::from_secs(secs))).collect()
        };
        let expires_in = Duration::from_secs(350);
        assert_eq!(listed(10), [Listed { key, real_server: slot(5), expires_in }]);
        assert!(listed(360).is_empty() && templates.part(templates.parts(), Moment::ZERO).is_empty());
        link(&templates, key, 5, true, Moment::ZERO);
        link(&templates, key, 5, true, Moment::ZERO);
        templates.unlink(&key, true, Moment::from_secs(370));
        let expires_in = Duration::ZERO;
        assert_eq!(listed(371), [Listed { key, real_server: slot(5), expires_in }], "one hangs on it still");
    }

    #[test]
    fn there_are_only_so_many() {
        let templates = Templates::new(1, 1);
        let link = |client| link(&templates, key(client, 32), 5, false, Moment::ZERO) == Linked::Linked;
        assert_eq!(["203.0.113.7", "203.0.113.8", "203.0.113.7"].map(link), [true, false, true]);
        templates.sweep(Moment::from_secs(360), &Changes::new());
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
    fn a_template_is_replaced_if_it_is_expired_or_still_what_was_seen() {
        for (instead_of, secs) in [(Some(slot(5)), 0), (None, 360)] {
            let (templates, changes) = (Templates::new(2, 1), Changes::new());
            let key = key("203.0.113.7", 32);
            templates.link(key, new(5), Moment::ZERO, &changes);
            let linked =
                templates.link(key, NewTemplate { instead_of, ..new(6) }, Moment::from_secs(secs), &changes);
            assert_eq!(linked, Linked::Linked);
            let (added, removed) = (
                |server| TemplateChange::Added { real_server: slot(server) },
                |server| TemplateChange::Removed { real_server: slot(server) },
            );
            assert_eq!(changes.take(), [added(5), removed(5), added(6)]);
            assert_eq!((find(&templates, &key, secs), templates.len()), (Some(slot(6)), 1));
        }
    }
}
