//! Builds the next snapshot: unchanged parts keep their slots and live counts.

mod left;
mod ranges;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::{
    Cluster, EffectiveConfig, EffectiveWeights, HostView, Path, RealServer, RealServerConfig, ServiceKey,
    Standing, VIRTUAL_SERVICES_MAX, VirtualService, VirtualServiceConfig, bits, identity,
};
use left::Leaving;
pub(super) use left::Left;
use ranges::flattened;

use crate::director::path::SoftState;
use crate::director::real_server::{Presence, Slot, SlotSet};
use crate::director::roster;
use crate::director::scheduler::{self, Scheduler};
use crate::packet::MTU_DEFAULT;

/// The snapshot after `old`. [`identity`] decides which virtual services and real servers continue. Unchanged
/// services are shared with `old`, so a change of one service among thousands costs one comparison for each. The
/// real servers in `over` are no longer expected back.
pub(super) fn succeed(old: &Cluster, in_force: EffectiveConfig, host: HostView, over: &SlotSet) -> Cluster {
    let EffectiveConfig { config, weights } = in_force;
    let mut builder = Builder::new(old, &weights, config.virtual_services.len());
    let own = host.own_addresses.iter().chain(&host.lingering_vips).copied().map(bits).collect();
    let vips = host.lingering_vips.iter().copied().map(bits).collect();
    let local_vips = host.local_vips.iter().copied().map(bits).collect();
    let mut cluster = Cluster { host, own, vips, local_vips, roster: old.roster.clone(), ..Cluster::empty() };
    cluster.by_key.reserve(config.virtual_services.len());
    let predecessors = identity::predecessors(&old.config.virtual_services, &config.virtual_services);
    builder.leaving.find_returning(&config.virtual_services, &predecessors);
    for (service, predecessor) in config.virtual_services.iter().zip(predecessors) {
        let predecessor = predecessor.map(|index| &old.in_order[index]);
        let service = builder.virtual_service(service, predecessor, &cluster.host);
        cluster.in_order.push(service.clone());
        for matcher in &service.config.matchers {
            let (protocol, vip) = (matcher.protocol.number(), matcher.vip);
            cluster.vips.insert(bits(vip));
            cluster.own.insert(bits(vip));
            if matcher.ports.is_one() {
                let key = ServiceKey { protocol, vip, port: matcher.ports.first };
                cluster.by_key.insert(key, service.clone());
            } else {
                let ranges = cluster.by_range.entry((protocol, vip)).or_default();
                ranges.push((matcher.ports, service.clone()));
            }
        }
    }
    builder.keep_removed(&cluster.host, over);
    cluster.by_range.values_mut().for_each(|ranges| *ranges = flattened(std::mem::take(ranges)));
    cluster.left = builder.left();
    cluster.virtual_services = builder.virtual_services;
    cluster.real_servers = builder.real_servers;
    let slots = |presence| {
        let servers = cluster.real_servers.iter().flatten();
        servers.filter(move |server| server.presence == presence).map(|server| server.slot)
    };
    cluster.awaited = slots(Presence::Awaited).collect();
    let is_serving = |server: &&Arc<RealServer>| server.is_present() && server.keeps_all();
    let serving = cluster.real_servers.iter().flatten().filter(is_serving);
    cluster.serving = serving.map(|server| server.slot).collect();
    cluster.by_rip =
        cluster.real_servers.iter().flatten().map(|server| (server.rip, server.clone())).collect();
    cluster.number = builder.roster.number();
    builder.roster.finish();
    cluster.config = config;
    cluster.weights = weights;
    cluster
}

struct Builder<'a, 'w> {
    old: &'a Cluster,
    weights: &'w EffectiveWeights,
    real_servers: Vec<Option<Arc<RealServer>>>,
    virtual_services: Vec<Option<Arc<VirtualService>>>,
    roster: roster::Build<'a>,
    /// Slots below this one are used, here or in the old snapshot: no slot becomes free during a build.
    service_from: usize,
    soft: HashMap<Ipv4Addr, Arc<SoftState>>,
    /// Real servers that were removed earlier and that are awaited, or to which connections still point.
    removed: HashMap<(u16, Ipv4Addr), &'a Arc<RealServer>>,
    leaving: Leaving<'w>,
    /// Real servers that a drain has removed: they are not expected back.
    drained: HashSet<Slot>,
}

impl<'a, 'w> Builder<'a, 'w> {
    fn new(old: &'a Cluster, weights: &'w EffectiveWeights, services: usize) -> Builder<'a, 'w> {
        // Where slots run short, only services with connections keep theirs.
        let is_short = old.left.len() + services > VIRTUAL_SERVICES_MAX;
        let may_return = |server: &&Arc<RealServer>| match server.presence {
            Presence::Present => false,
            Presence::Awaited if !is_short => true,
            Presence::Awaited | Presence::Removed => server.live.is_referenced(),
        };
        let removed = old.real_servers().filter(may_return);
        let removed: HashMap<_, _> =
            removed.map(|server| ((server.virtual_service, server.rip), server)).collect();
        let pointed_to: HashSet<u16> = removed.keys().map(|(service, _)| *service).collect();
        Builder {
            old,
            weights,
            real_servers: vec![None; old.real_servers.len()],
            virtual_services: vec![None; old.virtual_services.len()],
            roster: old.roster.build(),
            service_from: 0,
            soft: old.by_rip.iter().map(|(rip, server)| (*rip, server.soft.clone())).collect(),
            removed,
            leaving: Leaving::new(&old.left, &pointed_to),
            drained: HashSet::new(),
        }
    }

    /// Every old real server to which connections or templates point stays in its slot as "not present",
    /// until the configuration has it again. So does one that is awaited, because a worker with an older snapshot may
    /// be about to add a connection to it.
    fn keep_removed(&mut self, host: &HostView, over: &SlotSet) {
        for (slot, old) in self.real_servers.iter_mut().zip(&self.old.real_servers) {
            let Some(server) = old.as_ref().filter(|_| slot.is_none()) else { continue };
            let is_over = over.contains(server.slot) || self.drained.contains(&server.slot);
            let presence = match server.presence {
                Presence::Present | Presence::Awaited if !is_over => Presence::Awaited,
                _ => Presence::Removed,
            };
            if server.live.is_referenced() || presence == Presence::Awaited {
                *slot = Some(Arc::new(RealServer {
                    presence,
                    config: server.config.clone(),
                    live: server.live.clone(),
                    soft: server.soft.clone(),
                    path: host.paths.get(&server.config.rip).copied().unwrap_or(server.path),
                    is_local: host.local_rips.contains(&server.config.rip),
                    ..**server
                }));
            }
        }
    }

    /// The removed services that may return, after this snapshot.
    fn left(&mut self) -> Vec<Left> {
        let removed = self.real_servers.iter().flatten().filter(|server| !server.is_present());
        let pointed_to = removed.map(|server| server.virtual_service).collect();
        let is_gone =
            |service: &&Arc<VirtualService>| self.virtual_services[usize::from(service.slot)].is_none();
        let gone = self.old.virtual_services().filter(is_gone);
        self.leaving.left(gone.map(|service| (&service.config, service.slot)), &pointed_to)
    }

    fn virtual_service(
        &mut self,
        config: &'w VirtualServiceConfig,
        old: Option<&Arc<VirtualService>>,
        host: &HostView,
    ) -> Arc<VirtualService> {
        let has_its_weights = self.old.weights.get(&config.name) == self.weights.get(&config.name);
        let is_same = |old: &&Arc<VirtualService>| {
            has_its_weights && old.config == *config && has_its_paths(old, host, &self.old.host)
        };
        if let Some(service) = old.filter(is_same) {
            for server in &service.real_servers {
                self.real_servers[server.slot.index() as usize] = Some(server.clone());
            }
            self.virtual_services[usize::from(service.slot)] = Some(service.clone());
            return service.clone();
        }
        let slot = old.map_or_else(|| self.free_service_slot(config), |service| service.slot);
        let mut real_servers: Vec<Arc<RealServer>> = config
            .real_servers
            .iter()
            .filter_map(|server| {
                let Some(standing) = self.standing(config, server) else {
                    self.drained.extend(old.and_then(|old| of_rip(old, server.rip)).map(|old| old.slot));
                    return None;
                };
                let weight = if is_stranded(config, server, host) { 0 } else { standing.weight };
                let standing = Standing { weight, ..standing };
                self.real_server(slot, server, standing, old.map(|old| &**old), host)
            })
            .collect();
        real_servers.sort_by_key(|server| server.rip);
        let scheduler = scheduler_of(config, &real_servers, old.map(|service| &**service));
        let service = Arc::new(VirtualService {
            slot,
            config: config.clone(),
            scheduler,
            is_stateless: config.scheduler.is_stateless,
            real_servers,
            connections_total: old.map(|service| service.connections_total.clone()).unwrap_or_default(),
        });
        self.virtual_services[usize::from(slot)] = Some(service.clone());
        service
    }

    /// What the schedulers see; `None`: the real server is not there.
    fn standing(&self, service: &VirtualServiceConfig, server: &RealServerConfig) -> Option<Standing> {
        let effective = self.weights.get(&service.name).and_then(|weights| weights.get(&server.rip));
        effective.copied().unwrap_or(Some(server.weight.into()))
    }

    fn real_server(
        &mut self,
        virtual_service: u16,
        config: &RealServerConfig,
        standing: Standing,
        old: Option<&VirtualService>,
        host: &HostView,
    ) -> Option<Arc<RealServer>> {
        let IpAddr::V4(rip) = config.rip else { return None };
        let present = old.and_then(|old| of_rip(old, config.rip));
        let known = present.or_else(|| self.removed.get(&(virtual_service, rip)).copied());
        let (slot, live) = match known {
            Some(server) => (server.slot, server.live.clone()),
            None => self.roster.add(),
        };
        live.limit(config.upper_threshold, config.lower_threshold);
        let server = Arc::new(RealServer {
            slot,
            virtual_service,
            config: config.clone(),
            weight: standing.weight,
            on_down: standing.on_down,
            rip,
            path: path_of(config, host),
            is_local: host.local_rips.contains(&config.rip),
            soft: self.soft_state(rip, host),
            presence: Presence::Present,
            live,
        });
        let index = slot.index() as usize;
        if index >= self.real_servers.len() {
            self.real_servers.resize(index + 1, None);
        }
        self.real_servers[index] = Some(server.clone());
        Some(server)
    }

    /// A slot for a service without a predecessor: the one it had before it was removed, otherwise one to
    /// which nothing points. A configuration never has more services than there are slots.
    fn free_service_slot(&mut self, config: &VirtualServiceConfig) -> u16 {
        let is_free = |slot: &u16| self.virtual_services.get(usize::from(*slot)).is_none_or(Option::is_none);
        if let Some(slot) = self.leaving.slot_of(config).filter(is_free) {
            return slot;
        }
        loop {
            let slot =
                free_slot(&mut self.virtual_services, &self.old.virtual_services, &mut self.service_from);
            if !self.leaving.is_reserved(slot) {
                return slot;
            }
        }
    }

    fn soft_state(&mut self, rip: Ipv4Addr, host: &HostView) -> Arc<SoftState> {
        let first = host.identification_seed.wrapping_mul(u64::from(u32::from(rip)) | 1) >> 48;
        let soft = self.soft.entry(rip).or_insert_with(|| Arc::new(SoftState::new(first as u16)));
        soft.clone()
    }
}

/// The real server of a virtual service with this RIP.
fn of_rip(service: &VirtualService, rip: IpAddr) -> Option<&Arc<RealServer>> {
    let IpAddr::V4(rip) = rip else { return None };
    let index = service.real_servers.binary_search_by_key(&rip, |server| server.rip).ok()?;
    Some(&service.real_servers[index])
}

/// Whether the host's view of all its real servers is unchanged; `before` is the host as it was.
fn has_its_paths(service: &VirtualService, host: &HostView, before: &HostView) -> bool {
    service.real_servers.iter().all(|server| {
        let (config, of) = (&server.config, |host| is_stranded(&service.config, &server.config, host));
        path_of(config, host) == server.path
            && host.local_rips.contains(&config.rip) == server.is_local
            && of(host) == of(before)
    })
}

/// Whether a real server is on this host, which would not accept the packets of its virtual service: a VIP is not an
/// address of the host. Its weight is 0 then.
fn is_stranded(service: &VirtualServiceConfig, server: &RealServerConfig, host: &HostView) -> bool {
    host.local_rips.contains(&server.rip) && !service.vips().all(|vip| host.local_vips.contains(&vip))
}

/// The configured or known path to a real server.
fn path_of(config: &RealServerConfig, host: &HostView) -> Path {
    let unknown = Path { source: Ipv4Addr::UNSPECIFIED, mtu: MTU_DEFAULT };
    let path = host.paths.get(&config.rip).copied().unwrap_or(unknown);
    Path { mtu: config.path_mtu.unwrap_or(path.mtu), ..path }
}

/// The scheduler is kept while its inputs are unchanged; otherwise it passes its state to the next scheduler
/// of the same kind.
fn scheduler_of(
    config: &VirtualServiceConfig,
    real_servers: &[Arc<RealServer>],
    old: Option<&VirtualService>,
) -> Arc<dyn Scheduler> {
    let build = |memory| (config.scheduler.build)(real_servers, &config.scheduler_options, memory).into();
    let Some(old) = old.filter(|old| old.config.scheduler == config.scheduler) else {
        return build(scheduler::Memory::default());
    };
    let is_same = |(a, b): (&Arc<RealServer>, &Arc<RealServer>)| (a.rip, a.weight()) == (b.rip, b.weight());
    let has_same_servers = old.real_servers.len() == real_servers.len()
        && old.real_servers.iter().zip(real_servers).all(is_same);
    if has_same_servers && old.config.scheduler_options == config.scheduler_options {
        return old.scheduler.clone();
    }
    build(old.scheduler.memory())
}

/// The first slot from `from` on that neither the new snapshot nor the old one uses (a packet in flight may
/// still have an old slot's number); advances `from` past it.
fn free_slot<T>(new: &mut Vec<Option<T>>, old: &[Option<T>], from: &mut usize) -> u16 {
    let is_free = |index: &usize| new[*index].is_none() && old.get(*index).is_none_or(Option::is_none);
    let index = (*from..new.len()).find(is_free).unwrap_or(new.len());
    if index == new.len() {
        new.push(None);
    }
    *from = index + 1;
    u16::try_from(index).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::ClusterConfig;
    use super::*;
    use crate::director::connection::Activity;
    use crate::packet::Protocol;

    fn service(port: u16, rips: &[u8]) -> VirtualServiceConfig {
        let vip = "172.25.3.100".parse().unwrap();
        let server = |last: &u8| RealServerConfig::new(Ipv4Addr::new(172, 25, 3, *last).into(), 1);
        let mut service =
            VirtualServiceConfig::new(&port.to_string(), Protocol::Tcp, vip, port, &scheduler::rr::ROW);
        service.real_servers = rips.iter().map(server).collect();
        service
    }

    fn after(old: &Cluster, services: &[VirtualServiceConfig]) -> Cluster {
        let config = ClusterConfig { virtual_services: services.to_vec(), ..ClusterConfig::default() };
        old.succeed(config, HostView::default())
    }

    fn named<'a>(cluster: &'a Cluster, name: &str) -> &'a Arc<VirtualService> {
        cluster.virtual_services().find(|service| service.config.name == name).unwrap()
    }

    #[test]
    fn unchanged_parts_are_shared_with_the_old_snapshot() {
        let (web, api) = (service(80, &[2, 3]), service(81, &[2, 3]));
        let old = after(&Cluster::empty(), &[web.clone(), api.clone()]);
        let new = after(&old, &[service(80, &[2, 3, 4]), api.clone()]);
        assert!(Arc::ptr_eq(named(&old, "81"), named(&new, "81")));
        assert!(Arc::ptr_eq(
            &named(&old, "80").real_servers[1].live,
            &named(&new, "80").real_servers[1].live
        ));
        let path = Path { source: Ipv4Addr::new(172, 25, 3, 1), mtu: 1400 };
        let rip = "172.25.3.2".parse().unwrap();
        let host = HostView { paths: HashMap::from([(rip, path)]), ..HostView::default() };
        let told = new.succeed(new.config().clone(), host);
        assert_eq!(named(&told, "81").real_servers[0].path, path, "another path is a change");
    }

    #[test]
    fn a_service_that_returns_finds_its_real_servers_and_another_one_does_not() {
        let old = after(&Cluster::empty(), &[service(80, &[2])]);
        let busy = named(&old, "80").real_servers[0].clone();
        busy.live.book_new(Activity::Active);
        let gone = after(&after(&old, &[]), &[]);
        let removed = gone.real_server(busy.slot).unwrap();
        assert!(!removed.is_present() && Arc::ptr_eq(&removed.live, &busy.live));
        let other = after(&gone, &[service(443, &[2])]);
        assert_ne!(named(&other, "443").slot, busy.virtual_service);
        assert!(!Arc::ptr_eq(&named(&other, "443").real_servers[0].live, &busy.live));
        let back = after(&other, &[service(443, &[2]), service(80, &[2])]);
        assert_eq!(named(&back, "80").slot, busy.virtual_service);
        let server = &named(&back, "80").real_servers[0];
        assert!(server.is_present() && server.slot == busy.slot && Arc::ptr_eq(&server.live, &busy.live));
    }

    #[test]
    fn an_effective_weight_changes_what_schedulers_see_and_not_what_is_configured() {
        let old = after(&Cluster::empty(), &[service(80, &[2, 3]), service(81, &[2])]);
        let rip = |last| IpAddr::from([172, 25, 3, last]);
        let weigh = |weights: &[(IpAddr, Option<Standing>)]| {
            let weights = BTreeMap::from([("80".to_owned(), weights.iter().copied().collect())]);
            EffectiveConfig { config: old.config().clone(), weights }
        };
        let busy = named(&old, "80").real_servers[0].clone();
        busy.live.book_new(Activity::Active);
        let quiesced = old.succeed(weigh(&[(rip(2), Some(0.into()))]), HostView::default());
        let server = &named(&quiesced, "80").real_servers[0];
        assert_eq!((server.weight(), server.config.weight, server.is_eligible()), (0, 1, false));
        assert!(Arc::ptr_eq(named(&old, "81"), named(&quiesced, "81")), "another service is not touched");
        let removed = quiesced.succeed(weigh(&[(rip(2), None)]), HostView::default());
        let rips: Vec<_> = named(&removed, "80").real_servers.iter().map(|server| server.rip).collect();
        assert_eq!(rips, [Ipv4Addr::new(172, 25, 3, 3)]);
        assert_eq!(removed.real_server(busy.slot).unwrap().presence, Presence::Removed, "drained");
        let back = removed.succeed(old.config().clone(), HostView::default());
        let server = &named(&back, "80").real_servers[0];
        assert_eq!((server.slot, server.weight(), server.is_present()), (busy.slot, 1, true));
        assert!(Arc::ptr_eq(&server.live, &busy.live), "its connections are its own again");
    }

    #[test]
    fn no_two_hold_one_slot_whatever_comes_and_goes() {
        let mut cluster = Cluster::empty();
        for round in 0..40u16 {
            let ports = (0..20).filter(|port| (port * 7 + round) % 3 != 0);
            let services: Vec<_> = ports.map(|port| service(port + 1, &[2, 3 + (round % 5) as u8])).collect();
            cluster = after(&cluster, &services);
            let slots: HashSet<u16> = cluster.virtual_services().map(|service| service.slot).collect();
            assert_eq!(slots.len(), services.len());
            let servers: HashSet<_> =
                cluster.virtual_services().flat_map(|s| &s.real_servers).map(|server| server.slot).collect();
            assert_eq!(servers.len(), 2 * services.len());
            for service in cluster.virtual_services().filter(|service| service.slot % 4 == 0) {
                service.real_servers[1].live.book_new(Activity::Active);
            }
        }
    }
}
