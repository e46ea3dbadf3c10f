//! What operations do, written a second time and as plainly as possible: lists are searched from their beginning,
//! and the whole is looked at after every change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lvs_tund::control::Code;
use lvs_tund::control::model::{
    AfterDrain, Matcher, OnRemoved, Operation, Persistence, RealServerEdit, RealServerSpec, Seconds,
    ServiceRef, TimeoutsSpec, UnknownTcp, VirtualServiceEdit, VirtualServiceSpec,
};
use lvs_tund::control::operation::{Running, Zeroed};
use lvs_tund::control::state::AdminState;
use lvs_tund::time::Moment;

use crate::completed::{checked, complete, default_service_name, or, suggested};

/// Nothing in `service` and `servers` is omitted.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub service: VirtualServiceSpec,
    pub servers: Vec<RealServerSpec>,
    pub hash_key: [u8; 16],
}

/// What keeps a real server from getting new connections.
#[derive(Clone, Debug, PartialEq)]
pub enum Drain {
    Drain { deadline: Option<Moment>, then: AfterDrain },
    Disabled,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub services: Vec<Service>,
    pub hash_key: [u8; 16],
    pub unknown_tcp: Option<UnknownTcp>,
    pub on_removed: OnRemoved,
    pub timeouts: TimeoutsSpec,
    pub drains: BTreeMap<(String, IpAddr), Drain>,
}

/// Code, and the operation's index.
pub type Refusal = (Code, Option<usize>);

/// Whose statistics a change zeroes: all, or those of these services.
#[derive(Clone, Debug, PartialEq)]
pub enum Wiped {
    All,
    Of(BTreeSet<String>),
}

impl From<&Zeroed> for Wiped {
    fn from(zeroed: &Zeroed) -> Wiped {
        match zeroed {
            Zeroed::Nothing => Wiped::Of(BTreeSet::new()),
            Zeroed::VirtualServices(names) => {
                assert!(!names.is_empty(), "that is nothing");
                Wiped::Of(names.iter().cloned().collect())
            }
            Zeroed::All => Wiped::All,
        }
    }
}

/// What can be seen of a running configuration.
impl From<&Running> for Model {
    fn from(running: &Running) -> Model {
        let service = |config: &lvs_tund::director::cluster::VirtualServiceConfig| {
            let options = &config.scheduler_options;
            let flag = |is_set: bool, word: &str| is_set.then(|| format!("{}-{word}", config.scheduler.name));
            let flags = [flag(options.has_fallback, "fallback"), flag(options.has_port, "port")];
            let servers = config.real_servers.iter().map(|server| RealServerSpec {
                rip: server.rip,
                name: Some(server.name.clone()),
                weight: Some(server.weight),
                upper_threshold: Some(server.upper_threshold),
                lower_threshold: Some(server.lower_threshold),
                path_mtu: server.path_mtu,
                encapsulation: Some("ipip".to_owned()),
                check: None,
                sorry: server.is_sorry,
            });
            Service {
                service: VirtualServiceSpec {
                    name: Some(config.name.clone()),
                    matchers: config.matchers.iter().map(|matcher| (*matcher).into()).collect(),
                    scheduler: Some(config.scheduler.name.to_owned()),
                    scheduler_flags: flags.into_iter().flatten().collect(),
                    mh_table_size: Some(options.mh_table_size),
                    persistence: config.persistence.map(|persistence| Persistence {
                        timeout: Seconds(persistence.timeout),
                        prefix: persistence.prefix_v4,
                        expire_quiesced: persistence.expires_quiesced,
                    }),
                    one_packet: config.is_one_packet,
                    unknown_tcp: Some(config.unknown_tcp.into()),
                    on_removed: Some(config.on_removed.into()),
                    timeouts: timeouts(&config.timeouts),
                    real_servers: Vec::new(),
                    ..VirtualServiceSpec::default()
                },
                servers: servers.collect(),
                hash_key: options.hash_key,
            }
        };
        let drain = |(service, rip, state): (&str, IpAddr, AdminState)| {
            let drain = match state {
                AdminState::Draining { until, then } => Drain::Drain { deadline: until, then },
                AdminState::Disabled => Drain::Disabled,
                _ => panic!("no operation ends a drain so"),
            };
            ((service.to_owned(), rip), drain)
        };
        Model {
            services: running.cluster.virtual_services.iter().map(service).collect(),
            hash_key: running.hash_key,
            unknown_tcp: running.defaults.unknown_tcp.map(Into::into),
            on_removed: running.defaults.on_removed.into(),
            timeouts: timeouts(&running.defaults.timeouts),
            drains: running.states.iter().map(drain).collect(),
        }
    }
}

fn timeouts(timeouts: &lvs_tund::director::connection::Timeouts) -> TimeoutsSpec {
    TimeoutsSpec {
        tcp: Some(Seconds(timeouts.established)),
        tcp_fin: Some(Seconds(timeouts.fin_wait)),
        udp: Some(Seconds(timeouts.udp)),
    }
}

impl Service {
    fn name(&self) -> &str {
        self.service.name.as_deref().expect("because nothing is omitted")
    }
}

impl Model {
    /// The configuration after a change, and whose statistics begin again.
    pub fn after(&self, operations: &[Operation], now: Moment) -> Result<(Model, Wiped), Refusal> {
        let mut next = self.clone();
        // Services keep their identity through a rename, so they are wiped by what they are called in the end.
        let mut wiped: Vec<String> = Vec::new();
        let mut is_all = false;
        for (index, operation) in operations.iter().enumerate() {
            let at_index = |code| (code, Some(index));
            match operation {
                Operation::Zero { virtual_service: None } => is_all = true,
                Operation::Zero { virtual_service: Some(service) } => {
                    let at = next.find(service).map_err(at_index)?;
                    wiped.push(next.services[at].name().to_owned());
                }
                _ => {
                    let names = next.names();
                    next.carry_out(operation, now).map_err(at_index)?;
                    follow(&mut wiped, &names, &next.names(), operation);
                }
            }
        }
        if !next.is_consistent() {
            return Err((Code::Invalid, None));
        }
        let wiped = if is_all { Wiped::All } else { Wiped::Of(wiped.into_iter().collect()) };
        Ok((next, wiped))
    }

    fn names(&self) -> Vec<String> {
        self.services.iter().map(|service| service.name().to_owned()).collect()
    }

    fn carry_out(&mut self, operation: &Operation, now: Moment) -> Result<(), Code> {
        match operation {
            Operation::AddVirtualService { virtual_service } => self.add(virtual_service),
            Operation::EditVirtualService { virtual_service, set } => self.edit(virtual_service, set),
            Operation::RemoveVirtualService { virtual_service } => {
                let at = self.find(virtual_service)?;
                let name = self.services.remove(at).name().to_owned();
                self.drains.retain(|(service, _), _| *service != name);
                Ok(())
            }
            Operation::AddRealServer { virtual_service, real_server } => {
                let at = self.find(virtual_service)?;
                self.add_server(at, complete(real_server)?)
            }
            Operation::EditRealServer { virtual_service, real_server, set } => {
                let at = self.find(virtual_service)?;
                let server = self.find_server(at, real_server).ok_or(Code::NoSuchRealServer)?;
                self.edit_server(at, server, set)
            }
            Operation::RemoveRealServer { virtual_service, real_server } => {
                let at = self.find(virtual_service)?;
                let server = self.find_server(at, real_server).ok_or(Code::NoSuchRealServer)?;
                let key = self.key(at, server);
                self.services[at].servers.remove(server);
                self.drains.remove(&key);
                Ok(())
            }
            Operation::SetWeight { virtual_service, real_server, weight } => {
                let set = RealServerEdit { weight: Some(*weight), ..RealServerEdit::default() };
                for (at, server) in self.places(virtual_service.as_ref(), real_server)? {
                    self.edit_server(at, server, &set)?;
                }
                Ok(())
            }
            Operation::Flush {} => {
                self.services.clear();
                self.drains.clear();
                Ok(())
            }
            Operation::SetTimeouts { timeouts } => {
                self.timeouts = or(timeouts, &self.timeouts)?;
                for service in &mut self.services {
                    service.service.timeouts = or(timeouts, &service.service.timeouts)?;
                }
                Ok(())
            }
            _ => self.change_state(operation, now),
        }
    }

    fn change_state(&mut self, operation: &Operation, now: Moment) -> Result<(), Code> {
        match operation {
            Operation::Drain { virtual_service, real_server, timeout, then } => {
                for (at, server) in self.places(virtual_service.as_ref(), real_server)? {
                    let key = self.key(at, server);
                    let deadline = timeout.map(|timeout| now.after(timeout.0));
                    self.drains.insert(key, Drain::Drain { deadline, then: *then });
                }
                Ok(())
            }
            Operation::Undrain { virtual_service, real_server } => {
                let mut outcome = Err(Code::NotDraining);
                for (at, server) in self.places(virtual_service.as_ref(), real_server)? {
                    if self.end_drain(at, server) {
                        outcome = Ok(());
                    }
                }
                outcome
            }
            Operation::Disable { virtual_service, real_server } => {
                for (at, server) in self.places(virtual_service.as_ref(), real_server)? {
                    let key = self.key(at, server);
                    self.drains.insert(key, Drain::Disabled);
                }
                Ok(())
            }
            Operation::Enable { virtual_service, real_server } => {
                let places = self.places(virtual_service.as_ref(), real_server)?;
                let keys: Vec<_> = places.into_iter().map(|(at, server)| self.key(at, server)).collect();
                let is_drained = |key| matches!(self.drains.get(key), Some(Drain::Drain { .. }));
                if keys.iter().all(is_drained) {
                    return Err(Code::Invalid);
                }
                for key in keys
                    .iter()
                    .filter(|key| self.drains.get(key) == Some(&Drain::Disabled))
                    .cloned()
                    .collect::<Vec<_>>()
                {
                    self.drains.remove(&key);
                }
                Ok(())
            }
            _ => unreachable!("because no other operation changes a state"),
        }
    }

    fn add_server(&mut self, at: usize, server: RealServerSpec) -> Result<(), Code> {
        let others = &mut self.services[at].servers;
        if others.iter().any(|other| other.rip == server.rip || other.name == server.name) {
            return Err(Code::RealServerExists);
        }
        others.push(server);
        Ok(())
    }

    fn add(&mut self, asked: &VirtualServiceSpec) -> Result<(), Code> {
        let scheduler = asked.scheduler.clone().unwrap_or("wlc".to_owned());
        let suggested = suggested(&scheduler);
        let service = VirtualServiceSpec {
            name: asked.name.clone().or_else(|| asked.matchers.first().map(default_service_name)),
            mh_table_size: asked.mh_table_size,
            unknown_tcp: asked.unknown_tcp.or(self.unknown_tcp).or(Some(suggested)),
            on_removed: asked.on_removed.or(Some(self.on_removed)),
            real_servers: Vec::new(),
            scheduler: Some(scheduler),
            ..asked.clone()
        };
        let service = checked(service, &self.timeouts)?;
        let servers = asked.real_servers.iter().map(complete).collect::<Result<_, _>>()?;
        let next = Service { service, servers, hash_key: self.hash_key };
        let is_taken = |other: &Service| shares(other, &next);
        if self.services.iter().any(is_taken) {
            return Err(Code::ServiceExists);
        }
        self.services.push(next);
        Ok(())
    }

    fn edit(&mut self, service: &ServiceRef, set: &VirtualServiceEdit) -> Result<(), Code> {
        let at = self.find(service)?;
        let before = self.services[at].service.clone();
        let mut next = before.clone();
        if set.scheduler.is_some() && set.scheduler != before.scheduler {
            let of = |spec: &VirtualServiceSpec| spec.scheduler.as_deref().map(suggested);
            next.scheduler.clone_from(&set.scheduler);
            next.scheduler_flags.clear();
            next.mh_table_size = None;
            if before.unknown_tcp == of(&before) {
                next.unknown_tcp = of(&next);
            }
        }
        // The table size under another scheduler is the default; it cannot be requested.
        if next.scheduler.as_deref() != Some("mh") {
            next.mh_table_size = None;
        }
        next.name = set.name.clone().or(next.name);
        next.matchers = set.matchers.clone().unwrap_or(next.matchers);
        next.scheduler_flags = set.scheduler_flags.clone().unwrap_or(next.scheduler_flags);
        next.mh_table_size = set.mh_table_size.or(next.mh_table_size);
        next.persistence = set.persistence.unwrap_or(next.persistence);
        next.one_packet = set.one_packet.unwrap_or(next.one_packet);
        next.unknown_tcp = set.unknown_tcp.or(next.unknown_tcp);
        next.on_removed = set.on_removed.or(next.on_removed);
        next.timeouts = set.timeouts;
        let service = checked(next, &before.timeouts)?;
        let next = Service { service, ..self.services[at].clone() };
        if self.services.iter().enumerate().any(|(index, other)| index != at && shares(other, &next)) {
            return Err(Code::ServiceExists);
        }
        let (old, new) = (self.services[at].name().to_owned(), next.name().to_owned());
        let drains = std::mem::take(&mut self.drains);
        let renamed = |name: String| if name == old { new.clone() } else { name };
        self.drains = drains.into_iter().map(|((name, rip), drain)| ((renamed(name), rip), drain)).collect();
        self.services[at] = next;
        Ok(())
    }

    fn edit_server(&mut self, at: usize, server: usize, set: &RealServerEdit) -> Result<(), Code> {
        let before = self.services[at].servers[server].clone();
        let next = complete(&RealServerSpec {
            rip: before.rip,
            name: set.name.clone().or(before.name),
            weight: set.weight.or(before.weight),
            upper_threshold: set.upper_threshold.or(before.upper_threshold),
            lower_threshold: set.lower_threshold.or(before.lower_threshold),
            path_mtu: set.path_mtu.unwrap_or(before.path_mtu),
            encapsulation: set.encapsulation.clone(),
            check: None,
            sorry: set.sorry.unwrap_or(before.sorry),
        })?;
        if set.weight.is_some() {
            self.end_drain(at, server);
        }
        self.services[at].servers[server] = next;
        Ok(())
    }

    fn end_drain(&mut self, at: usize, server: usize) -> bool {
        let key = self.key(at, server);
        matches!(self.drains.get(&key), Some(Drain::Drain { .. })) && self.drains.remove(&key).is_some()
    }

    fn find(&self, service: &ServiceRef) -> Result<usize, Code> {
        let is_it = |candidate: &Service| match service {
            ServiceRef::Name(name) => candidate.name() == name,
            ServiceRef::Matcher(matcher) => candidate.service.matchers.contains(matcher),
        };
        self.services.iter().position(is_it).ok_or(Code::NoSuchService)
    }

    fn find_server(&self, at: usize, word: &str) -> Option<usize> {
        let rip: Option<IpAddr> = word.parse().ok();
        self.services[at].servers.iter().position(|server| match rip {
            Some(rip) => server.rip == rip,
            None => server.name.as_deref() == Some(word),
        })
    }

    fn places(&self, service: Option<&ServiceRef>, word: &str) -> Result<Vec<(usize, usize)>, Code> {
        let services = match service {
            Some(service) => vec![self.find(service)?],
            None => (0..self.services.len()).collect(),
        };
        let places: Vec<_> =
            services.into_iter().filter_map(|at| Some((at, self.find_server(at, word)?))).collect();
        if places.is_empty() { Err(Code::NoSuchRealServer) } else { Ok(places) }
    }

    fn key(&self, at: usize, server: usize) -> (String, IpAddr) {
        (self.services[at].name().to_owned(), self.services[at].servers[server].rip)
    }

    /// Whether all of it can stand side by side; names and matchers of services were looked at before.
    fn is_consistent(&self) -> bool {
        let matchers: Vec<&Matcher> = self.services.iter().flat_map(|s| &s.service.matchers).collect();
        let is_apart = |(index, a): (usize, &&Matcher)| {
            let mut others =
                matchers[index + 1..].iter().filter(|b| (a.protocol, a.vip) == (b.protocol, b.vip));
            others.all(|b| {
                let (a, b) = (a.port.0, b.port.0);
                let is_inside = |a: lvs_tund::director::cluster::Ports,
                                 b: lvs_tund::director::cluster::Ports| {
                    b.first <= a.first && a.last <= b.last
                };
                a != b && (a.last < b.first || b.last < a.first || is_inside(a, b) || is_inside(b, a))
            })
        };
        let are_servers_good = self.services.iter().all(|service| {
            let rips: BTreeSet<_> = service.servers.iter().map(|server| server.rip).collect();
            let names: BTreeSet<_> = service.servers.iter().map(|server| server.name.clone()).collect();
            let is_vip = |rip: &IpAddr| matchers.iter().any(|matcher| matcher.vip == *rip);
            rips.len() == service.servers.len() && names.len() == rips.len() && !rips.iter().any(is_vip)
        });
        matchers.iter().enumerate().all(is_apart) && are_servers_good
    }
}

/// Two services of one name, or for the same packets.
fn shares(a: &Service, b: &Service) -> bool {
    a.name() == b.name() || a.service.matchers.iter().any(|matcher| b.service.matchers.contains(matcher))
}

/// Carries names over a rename, and forgets those of services that are gone.
fn follow(wiped: &mut Vec<String>, before: &[String], after: &[String], operation: &Operation) {
    if let Operation::EditVirtualService { .. } = operation {
        for (old, new) in before.iter().zip(after).filter(|(old, new)| old != new) {
            wiped.iter_mut().filter(|name| *name == old).for_each(|name| name.clone_from(new));
        }
    }
    wiped.retain(|name| after.contains(name));
}
