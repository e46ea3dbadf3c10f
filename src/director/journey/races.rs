//! What a packet meets while the cluster changes or another worker decides: its snapshot is the one it began with.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::director::cluster::{
    ClusterConfig, HostView, Persistence, RealServerConfig, VirtualServiceConfig,
};
use crate::director::connection::Activity;
use crate::packet::{Flow, Protocol};

/// A worker on its way with a snapshot of one real server, while the latest has two.
struct Worker {
    cluster: Cluster,
    latest: Cluster,
    tables: Tables,
    flood: Flood,
    fragments: Fragments,
    chance: Chance,
    outbox: Outbox,
}

impl Worker {
    fn new() -> Worker {
        let mut service = VirtualServiceConfig::new("web", Protocol::Tcp, vip(), 80, "rr");
        service.persistence = Some(Persistence::new(Duration::from_secs(30)));
        let mut config = ClusterConfig { virtual_services: vec![service], ..ClusterConfig::default() };
        let mut add = |rip: [u8; 4]| {
            config.virtual_services[0].real_servers.push(RealServerConfig::new(rip.into(), 1));
            config.clone()
        };
        let cluster = Cluster::new(add([172, 25, 3, 2]), HostView::default());
        let latest = cluster.succeed(add([172, 25, 3, 3]), HostView::default());
        Worker {
            cluster,
            latest,
            tables: Tables::new(100, 1),
            flood: Flood::new(1),
            fragments: Fragments::new(1),
            chance: Chance(1),
            outbox: Outbox::default(),
        }
    }

    /// The real servers of the latest snapshot; the first is in both.
    fn real_servers(&self) -> Vec<Arc<RealServer>> {
        self.latest.in_order()[0].real_servers.clone()
    }

    /// Another worker's decision about the same flow.
    fn remember(&self, real_server: Slot) -> Inserted {
        let new = NewConnection { virtual_service: 0, real_server, event: Event::Syn, template: None };
        self.tables.connections.insert(&segment(Flags::SYN).flow, new, &Default::default(), Moment::ZERO)
    }

    fn find(&mut self, secs: u64) -> Result<Option<Route>, Option<DropReason>> {
        let mut journey = self.journey(secs);
        let packet = segment(Flags::ACK);
        let service = journey.find_service(&packet).map_err(|refusal| refusal.reason)?;
        let found = journey.find_connection(service, &packet).map_err(|refusal| refusal.reason)?;
        Ok(found.map(Route::from))
    }

    fn begin(&mut self) -> Result<Route, Option<DropReason>> {
        let mut journey = self.journey(0);
        let packet = segment(Flags::SYN);
        let service = journey.find_service(&packet).map_err(|refusal| refusal.reason)?;
        journey.begin_connection(service, &packet).map(Route::from).map_err(|refusal| refusal.reason)
    }

    fn journey(&mut self, secs: u64) -> Journey<'_> {
        let Worker { cluster, tables, flood, fragments, chance, outbox, .. } = self;
        Journey { cluster, tables, flood, fragments, chance, outbox, now: Moment::from_secs(secs) }
    }
}

fn vip() -> std::net::IpAddr {
    [172, 25, 3, 100].into()
}

fn segment(flags: u8) -> Packet {
    let client = [203, 0, 113, 7].into();
    Packet {
        flow: Flow { protocol: protocol::TCP, client, client_port: 1, vip: vip(), vip_port: 80 },
        content: Content::Tcp(Flags(flags)),
        source: client,
        destination: vip(),
        total_length: 40,
        ttl: 64,
        has_dont_fragment: true,
        fragment: None,
    }
}

#[test]
fn a_connection_of_a_real_server_that_was_added_meanwhile_is_kept() {
    let mut worker = Worker::new();
    let [_, added] = &worker.real_servers()[..] else { panic!("two real servers") };
    added.live.book_new(Activity::Active);
    worker.remember(added.slot);
    assert_eq!(worker.find(59), Err(Some(DropReason::NoRealServer)), "nothing this snapshot can forward to");
    assert_eq!((worker.tables.connections.len(), added.live.connections()), (1, 1));
    assert_eq!(worker.find(60), Ok(None), "it has expired");
    assert_eq!(
        (worker.tables.connections.len(), added.live.connections()),
        (0, 0),
        "and is booked all the same"
    );
}

#[test]
fn a_connection_of_a_real_server_that_nobody_knows_is_given_up() {
    let mut worker = Worker::new();
    worker.remember(Slot::new(99, 1));
    assert_eq!(worker.find(0), Ok(None));
    assert!(worker.tables.connections.is_empty());
}

#[test]
fn another_workers_choice_for_the_same_flow_stands_and_this_one_leaves_no_trace() {
    for (place, is_in_snapshot) in [(0, true), (1, false)] {
        let mut worker = Worker::new();
        let servers = worker.real_servers();
        worker.remember(servers[place].slot);
        let begun = worker.begin();
        if is_in_snapshot {
            let route = begun.expect("its snapshot has the real server");
            assert_eq!((route.real_server, route.memory), (servers[place].slot, Memory::Known));
        } else {
            assert_eq!(begun.map(drop), Err(Some(DropReason::NoRealServer)));
        }
        let live = &servers[0].live;
        assert_eq!((live.connections(), live.connections_total.load(Ordering::Relaxed)), (0, 0));
        assert_eq!(worker.cluster.in_order()[0].connections_total.load(Ordering::Relaxed), 0);
        assert_eq!(worker.tables.connections.len(), 1);
        // Its template is there, but nothing hangs on it.
        assert_eq!((worker.tables.templates.len(), live.persistent()), (1, 1));
        let Worker { tables, latest, .. } = &worker;
        tables.sweep(latest, Moment::from_secs(30));
        assert_eq!((tables.templates.len(), live.persistent()), (0, 0));
    }
}
