//! Records whose traffic a slot's counters count. Counters belong to a slot and never decrease. A slot that
//! is given to another virtual service or real server starts at 0 for its new owner; an operator's zero
//! resets the listings only.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::counters::{BySlot, DirectorCounters};
use super::estimator::Estimator;
use super::totals::Totals;
use crate::director::cluster::{Cluster, VirtualService};
use crate::director::real_server::{Live, RealServer};

/// The counts of one holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Since it was given its slot; never decreases.
    pub total: Totals,
    /// Since it was given its slot, or since an operator's zero.
    pub since_zero: Totals,
    /// Per second, as [`Estimator`] averages them.
    pub rates: Totals,
}

/// One slot and its holder.
struct Account<H> {
    /// Weak, so that a slot becomes free; its address is not given to another holder meanwhile.
    holder: Weak<H>,
    /// The slot's counters when it was given to the holder.
    birth: Totals,
    zero: Totals,
    estimator: Estimator,
}

/// The accounts of all slots, by index.
struct Accounts<H>(Vec<Option<Account<H>>>);

impl<H> Default for Accounts<H> {
    fn default() -> Accounts<H> {
        Accounts(Vec::new())
    }
}

impl<H> Accounts<H> {
    /// Opens an account for the slot's holder unless it has one. `now` are the slot's counters, without
    /// connections, which are counted by holder.
    fn open(&mut self, index: usize, holder: &Arc<H>, now: impl FnOnce() -> Totals) {
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        let is_known = |account: &Account<H>| account.is_of(holder);
        if !self.0[index].as_ref().is_some_and(is_known) {
            let birth = Totals { connections: 0, ..now() };
            let estimator = Estimator::starting_at(birth);
            self.0[index] = Some(Account { holder: Arc::downgrade(holder), birth, zero: birth, estimator });
        }
    }

    fn of(&mut self, index: usize, holder: &Arc<H>) -> Option<&mut Account<H>> {
        let account = self.0.get_mut(index)?.as_mut();
        account.filter(|account| account.is_of(holder))
    }
}

impl<H> Account<H> {
    fn is_of(&self, holder: &Arc<H>) -> bool {
        std::ptr::eq(self.holder.as_ptr(), Arc::as_ptr(holder))
    }

    fn reading(&self, now: Totals) -> Reading {
        Reading {
            total: now.since(&self.birth),
            since_zero: now.since(&self.zero),
            rates: self.estimator.rates(),
        }
    }

    fn zero(&mut self, now: Totals) {
        self.zero = now;
        self.estimator = Estimator::starting_at(now);
    }
}

/// All accounts of a director.
#[derive(Default)]
pub struct Ledger {
    virtual_services: Accounts<AtomicU64>,
    real_servers: Accounts<Live>,
}

impl Ledger {
    /// Records the holder of each slot. Call it before the snapshot is published: otherwise the first packets
    /// of a new holder would be counted for the previous one.
    pub fn follow(&mut self, cluster: &Cluster, workers: &[Arc<DirectorCounters>]) {
        for service in cluster.virtual_services() {
            let now = || of_service(service, workers);
            self.virtual_services.open(service.slot.into(), &service.connections_total, now);
            for server in &service.real_servers {
                let now = || of_server(server, workers);
                self.real_servers.open(server.slot.index() as usize, &server.live, now);
            }
        }
    }

    /// The counts of a service in the snapshot followed last.
    pub fn service(&mut self, service: &VirtualService, workers: &[Arc<DirectorCounters>]) -> Reading {
        let account = self.virtual_services.of(service.slot.into(), &service.connections_total);
        account.map(|account| account.reading(of_service(service, workers))).unwrap_or_default()
    }

    /// The counts of a real server in the snapshot followed last.
    pub fn server(&mut self, server: &RealServer, workers: &[Arc<DirectorCounters>]) -> Reading {
        let account = self.real_servers.of(server.slot.index() as usize, &server.live);
        account.map(|account| account.reading(of_server(server, workers))).unwrap_or_default()
    }

    /// Resets the listings of a service and of its real servers to 0.
    pub fn zero(&mut self, service: &VirtualService, workers: &[Arc<DirectorCounters>]) {
        if let Some(account) = self.virtual_services.of(service.slot.into(), &service.connections_total) {
            account.zero(of_service(service, workers));
        }
        for server in &service.real_servers {
            if let Some(account) = self.real_servers.of(server.slot.index() as usize, &server.live) {
                account.zero(of_server(server, workers));
            }
        }
    }

    /// Call it every [`super::estimator::PERIOD`].
    pub fn tick(&mut self, cluster: &Cluster, workers: &[Arc<DirectorCounters>]) {
        for service in cluster.virtual_services() {
            let account = self.virtual_services.of(service.slot.into(), &service.connections_total);
            account.into_iter().for_each(|account| account.estimator.tick(of_service(service, workers)));
            for server in &service.real_servers {
                let account = self.real_servers.of(server.slot.index() as usize, &server.live);
                account.into_iter().for_each(|account| account.estimator.tick(of_server(server, workers)));
            }
        }
    }
}

fn of_service(service: &VirtualService, workers: &[Arc<DirectorCounters>]) -> Totals {
    let connections = service.connections_total.load(Ordering::Relaxed);
    traffic(connections, service.slot.into(), workers.iter().map(|worker| &worker.virtual_services))
}

fn of_server(server: &RealServer, workers: &[Arc<DirectorCounters>]) -> Totals {
    let connections = server.live.connections_total.load(Ordering::Relaxed);
    traffic(connections, server.slot.index(), workers.iter().map(|worker| &worker.real_servers))
}

fn traffic<'a>(connections: u64, slot: u32, counters: impl Iterator<Item = &'a BySlot>) -> Totals {
    counters.map(|counters| counters.read(slot)).fold(
        Totals { connections, ..Totals::default() },
        |sum, (packets, bytes)| Totals { packets: sum.packets + packets, bytes: sum.bytes + bytes, ..sum },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::cluster::{ClusterConfig, HostView, RealServerConfig, VirtualServiceConfig};
    use crate::director::scheduler::rr;
    use crate::director::verdict::{Route, Verdict};
    use crate::packet::Protocol;

    fn cluster(before: Option<&Cluster>, ports: &[u16]) -> Cluster {
        let service = |port: &u16| {
            let (vip, rip) = ("172.25.3.100".parse().unwrap(), "172.25.3.2".parse().unwrap());
            let mut service =
                VirtualServiceConfig::new(&port.to_string(), Protocol::Tcp, vip, *port, &rr::ROW);
            service.real_servers = vec![RealServerConfig::new(rip, 1)];
            service
        };
        let virtual_services = ports.iter().map(service).collect();
        let config = ClusterConfig { virtual_services, ..ClusterConfig::default() };
        match before {
            None => Cluster::new(config, HostView::default()),
            Some(before) => before.succeed(config, HostView::default()),
        }
    }

    fn first(cluster: &Cluster) -> &Arc<VirtualService> {
        cluster.virtual_services().next().unwrap()
    }

    fn forward(cluster: &Cluster, workers: &[Arc<DirectorCounters>]) {
        let service = first(cluster);
        let server = &service.real_servers[0];
        let route = Route::of(service.slot, server.slot, server.rip);
        workers[0].count(&Verdict::Transmit(route), 100);
        service.connections_total.fetch_add(1, Ordering::Relaxed);
        service.real_servers[0].live.connections_total.fetch_add(1, Ordering::Relaxed);
    }

    const ONE: Totals = Totals { connections: 1, packets: 1, bytes: 100 };

    #[test]
    fn a_slot_given_to_another_service_begins_at_zero() {
        let workers = [Arc::new(DirectorCounters::default())];
        let mut ledger = Ledger::default();
        let mut before = cluster(None, &[80]);
        ledger.follow(&before, &workers);
        forward(&before, &workers);
        assert_eq!(ledger.service(first(&before), &workers).total, ONE);
        let (service, server) = (first(&before).slot, first(&before).real_servers[0].slot);
        // A slot stays unused while its real server is awaited, and for one snapshot more.
        before = cluster(Some(&before), &[]);
        let over = before.awaited().iter().copied().collect();
        before = before.end_grace(&over);
        before = cluster(Some(&before), &[443]);
        ledger.follow(&before, &workers);
        assert_eq!(
            (first(&before).slot, first(&before).real_servers[0].slot.index()),
            (service, server.index())
        );
        assert_eq!(ledger.service(first(&before), &workers), Reading::default());
        assert_eq!(ledger.server(&first(&before).real_servers[0], &workers), Reading::default());
    }

    #[test]
    fn zeroing_resets_the_listings_and_not_the_totals() {
        let workers = [Arc::new(DirectorCounters::default())];
        let mut ledger = Ledger::default();
        let cluster = cluster(None, &[80]);
        ledger.follow(&cluster, &workers);
        forward(&cluster, &workers);
        ledger.tick(&cluster, &workers);
        ledger.zero(first(&cluster), &workers);
        let zeroed = ledger.service(first(&cluster), &workers);
        assert_eq!(zeroed, Reading { total: ONE, ..Reading::default() });
        forward(&cluster, &workers);
        ledger.follow(&cluster, &workers);
        ledger.tick(&cluster, &workers);
        let server = ledger.server(&first(&cluster).real_servers[0], &workers);
        assert_eq!((server.total, server.since_zero), (ONE.plus(&ONE), ONE));
        // 100 bytes in 2 s are 50 per second; a quarter of that, rounded down, as the kernel does.
        assert_eq!(server.rates.bytes, 12);
    }
}
