//! A changed configuration: what is the same keeps its state, its counts and its times.

use std::collections::BTreeMap;
use std::time::Duration;

use super::input::{Judged, JudgedServer};
use super::machine::Machine;
use super::server::{Server, find};
use super::service::Service;
use super::shared::{CheckId, Key, SharedCheck};
use super::{Judge, State};
use crate::health::spec::{CheckConfig, Start};
use crate::time::Moment;

/// The first probe of a new or changed check begins within its interval, and within this time.
const FIRST_WITHIN: Duration = Duration::from_secs(10);

impl Judge {
    /// Follows a configuration. Virtual services are the same by name, or by VIP and port after a change of the name; real
    /// servers by RIP; checks if they are equal in everything.
    pub fn configure(&mut self, services: &[Judged], now: Moment) {
        let mut before: BTreeMap<String, Service> =
            self.services.drain(..).map(|service| (service.name.clone(), service)).collect();
        self.queue.forget_users();
        self.timers.clear();
        self.timer_of = vec![None; services.len()];
        let predecessors: Vec<Option<Service>> =
            services.iter().map(|given| before.remove(given.name)).collect();
        for (at, (given, same)) in services.iter().zip(predecessors).enumerate() {
            let renamed = || {
                let name =
                    before.values().find(|it| (it.vip, it.port) == (given.vip, given.port))?.name.clone();
                before.remove(&name)
            };
            let old = same.or_else(renamed);
            self.add_service(at, given, old, now);
        }
        self.queue.remove_unused();
        let queue = &self.queue;
        self.keys.retain(|_, id| queue.check(*id).is_some());
        self.signalled.retain(|rip| queue.checks_of(*rip).next().is_some());
        for at in 0..services.len() {
            self.settle(at, now);
        }
        self.has_changed = true;
    }

    fn add_service(&mut self, at: usize, given: &Judged, old: Option<Service>, now: Moment) {
        let mut service = old.as_ref().map_or_else(|| Service::new(given), |old| old.succeed(given));
        let old_name = old.as_ref().map_or(given.name, |old| &old.name).to_owned();
        let has_begun = old.is_some();
        let mut old_servers: BTreeMap<_, Server> =
            old.into_iter().flat_map(|old| old.servers).map(|server| (server.rip, server)).collect();
        for given_server in &given.real_servers {
            let old_server = old_servers.remove(&given_server.rip);
            let user = (at, service.servers.len());
            let checks: Vec<CheckId> = given_server
                .checks
                .iter()
                .map(|config| {
                    let id =
                        self.find_check(config, &old_name, given, given_server, old_server.as_ref(), now);
                    self.queue.change(id, |check| check.add_user(user, given, given_server));
                    id
                })
                .collect();
            let finding = find(&checks, &self.queue, service.agreement(), given_server.weight);
            let mut server = Server::new(given_server, checks, finding, now);
            match old_server {
                Some(old) => {
                    let is_enabled_again = server.is_enabled && !old.is_enabled;
                    server.succeed(old);
                    if is_enabled_again && server.state != State::Down {
                        server.ramp = service.begin_ramp(now);
                    }
                }
                None if has_begun => {
                    server.is_fresh = false;
                    server.ramp = service.begin_ramp(now).filter(|_| server.state != State::Down);
                }
                None => {}
            }
            server.ramp = service.keep_ramp(server.ramp);
            service.servers.push(server);
        }
        self.services.push(service);
    }

    /// The check if it exists, under the former name of its virtual service too; otherwise a new one.
    fn find_check(
        &mut self,
        config: &CheckConfig,
        old_name: &str,
        service: &Judged,
        server: &JudgedServer,
        old_server: Option<&Server>,
        now: Moment,
    ) -> CheckId {
        let key = Key::new(config, service.name, service, server);
        if let Some(id) = self.keys.get(&key) {
            return *id;
        }
        let old_key = Key::new(config, old_name, service, server);
        let id = match self.keys.remove(&old_key) {
            Some(id) => {
                self.queue.change(id, |check| check.key = key.clone());
                id
            }
            None => {
                let continued = old_server.map(|old| self.continued(&key, old, (service, server), now));
                let (machine, grace_ends) =
                    continued.unwrap_or_else(|| (Machine::new(config.start, now), now.after(config.grace)));
                let check = SharedCheck::new(key.clone(), machine, FIRST_WITHIN, &mut self.spread, now);
                self.queue.add(check.with_grace(grace_ends))
            }
        };
        self.keys.insert(key, id);
        id
    }

    /// How a changed or added check of a real server that has a state begins, and until when its failures do not count. It
    /// continues the check that it replaces: the one at its place, or else one of its kind.
    fn continued(
        &self,
        key: &Key,
        old: &Server,
        (service, server): (&Judged, &JudgedServer),
        now: Moment,
    ) -> (Machine, Moment) {
        let wanted: Vec<Key> =
            server.checks.iter().map(|config| Key::new(config, service.name, service, server)).collect();
        let place = wanted.iter().position(|wanted| wanted == key);
        let is_replaced = |check: &SharedCheck| !wanted.contains(&check.key);
        let is_of_kind = |check: &SharedCheck| check.config().row.name == key.config().row.name;
        let all = old.checks.iter().enumerate();
        let replaced = all
            .filter_map(|(at, id)| Some((at, self.queue.check(*id)?)))
            .filter(|(_, check)| is_replaced(check));
        let best = replaced.max_by_key(|(at, check)| (is_of_kind(check), Some(*at) == place));
        match (best, old.state) {
            (Some((_, check)), _) => (check.machine.changed(is_of_kind(check), now), check.grace_ends),
            // Nothing has shown yet that it is up: the first probe decides.
            (None, State::Unchecked) => (Machine::new(Start::Up, now), now),
            (None, state) => (Machine::added(state != State::Down, now), now),
        }
    }

    /// What follows from the configuration for one virtual service.
    fn settle(&mut self, at: usize, now: Moment) {
        self.services[at].settle(&self.queue, &mut self.events, now);
        self.set_timer(at, now);
    }
}
