//! What a packet meets while the cluster changes or another worker decides: its snapshot is the one it began with.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::choose::Chosen;
use super::*;
use crate::director::cluster::{
    ClusterConfig, HostView, Persistence, RealServerConfig, VirtualServiceConfig,
};
use crate::director::connection::{Inserted, NewConnection};
use crate::director::persistence::{Linked, NewTemplate, TemplateKey};
use crate::director::real_server::{RealServer, Slot};
use crate::director::scheduler::rr;
use crate::director::tables::Tables;
use crate::packet::{Flow, Protocol, protocol};

/// A worker on its way with a snapshot of one real server, while the latest has two.
struct Worker {
    cluster: Cluster,
    latest: Cluster,
    tables: Arc<Tables>,
    director: Director,
}

const TIMEOUT: Duration = Duration::from_secs(30);

impl Worker {
    fn new() -> Worker {
        let mut service = VirtualServiceConfig::new("web", Protocol::Tcp, vip(), 80, &rr::ROW);
        service.persistence = Some(Persistence::new(TIMEOUT));
        let mut config = ClusterConfig { virtual_services: vec![service], ..ClusterConfig::default() };
        let mut add = |rip: [u8; 4]| {
            config.virtual_services[0].real_servers.push(RealServerConfig::new(rip.into(), 1));
            config.clone()
        };
        let cluster = Cluster::new(add([172, 25, 3, 2]), HostView::default());
        let latest = cluster.succeed(add([172, 25, 3, 3]), HostView::default());
        let tables = Arc::new(Tables::new(100, 1));
        Worker { cluster, latest, director: Director::new(tables.clone(), 1), tables }
    }

    /// The real servers of the latest snapshot; the first is in both.
    fn real_servers(&self) -> Vec<Arc<RealServer>> {
        self.latest.in_order()[0].real_servers.clone()
    }

    fn live(&self, place: usize) -> (u64, u64) {
        let live = &self.real_servers()[place].live;
        (live.connections(), live.connections_total.load(Ordering::Relaxed))
    }

    /// Another worker's decision about the same flow.
    fn remember(&self, real_server: Slot) -> Inserted {
        let new = NewConnection {
            virtual_service: 0,
            real_server,
            event: Event::Syn,
            is_known: false,
            template: None,
        };
        let counts = self.tables.counts(&self.latest);
        self.tables.connections.insert(&flow(), new, &Default::default(), Moment::ZERO, &counts)
    }

    /// Another worker's packet of the same flow.
    fn follow(&self, event: Event, secs: u64) {
        let seen = self.entry();
        let (counts, now) = (self.tables.counts(&self.latest), Moment::from_secs(secs));
        assert!(self.tables.connections.keep(&flow(), &seen, event, &Default::default(), now, &counts));
    }

    /// Another worker ends the flow's connection.
    fn forget(&self) {
        let counts = self.tables.counts(&self.latest);
        assert!(self.tables.connections.remove(&flow(), &self.entry(), Moment::ZERO, &counts));
    }

    fn entry(&self) -> Entry {
        self.tables.connections.get(&flow()).expect("an entry")
    }

    fn find(&mut self, secs: u64) -> Result<Option<Decided>, Option<DropReason>> {
        let at = At { cluster: &self.cluster, now: Moment::from_secs(secs) };
        let packet = segment(Flags::ACK);
        let service = self.director.find_service(at, &packet).map_err(|refusal| refusal.reason)?;
        let found = self.director.find_connection(at, service, &packet).map_err(|refusal| refusal.reason)?;
        Ok(found.map(decided))
    }

    /// What a packet does with an entry that it saw earlier, under the latest snapshot.
    fn find_after(&mut self, flags: u8, seen: &Entry, secs: u64) -> Option<Slot> {
        let at = At { cluster: &self.latest, now: Moment::from_secs(secs) };
        let packet = segment(flags);
        let service = at.cluster.find(&packet.flow).expect("a service");
        let found = self.director.follow_entry(at, service, &packet, seen);
        found.unwrap_or_else(|refusal| panic!("{:?}", refusal.reason)).map(|choice| choice.real_server.slot)
    }

    /// A new connection, unless another worker is first.
    fn begin(&mut self) -> Result<Decided, Option<DropReason>> {
        let at = At { cluster: &self.cluster, now: Moment::ZERO };
        let packet = segment(Flags::SYN);
        let service = self.director.find_service(at, &packet).map_err(|refusal| refusal.reason)?;
        let chosen = self.director.choose(at, service, &packet).map_err(|refusal| refusal.reason)?;
        let recorded = self.director.record(at, service, &packet, chosen);
        recorded.map(decided).map_err(|refusal| refusal.reason)
    }

    /// Records that the client gets this real server, as chosen when its template had the one in `seen`.
    fn record(&mut self, place: usize, seen: Option<Slot>) -> Decided {
        let at = At { cluster: &self.cluster, now: Moment::ZERO };
        let packet = segment(Flags::SYN);
        let service = at.cluster.find(&packet.flow).expect("a service");
        let real_server = &service.real_servers[place];
        let chosen = Chosen {
            real_server,
            found_by: FoundBy::Scheduler,
            may_begin: true,
            template: Some((key(), seen)),
        };
        let recorded = self.director.record(at, service, &packet, chosen);
        decided(recorded.unwrap_or_else(|refusal| panic!("{:?}", refusal.reason)))
    }

    /// Another worker gives the client this real server.
    fn link(&self, real_server: Slot) {
        let new = NewTemplate { real_server, instead_of: None, has_entry: false, timeout: TIMEOUT };
        let counts = self.tables.counts(&self.latest);
        assert_eq!(self.tables.templates.link(key(), new, Moment::ZERO, &counts), Linked::Linked);
    }
}

type Decided = (Slot, Tracking, FoundBy);

fn decided(choice: Choice) -> Decided {
    (choice.real_server.slot, choice.tracking, choice.found_by)
}

fn vip() -> std::net::IpAddr {
    [172, 25, 3, 100].into()
}

fn flow() -> Flow {
    Flow {
        protocol: protocol::TCP,
        client: [203, 0, 113, 7].into(),
        client_port: 1,
        vip: vip(),
        vip_port: 80,
    }
}

fn key() -> TemplateKey {
    TemplateKey::new(0, flow().client, &Persistence::new(TIMEOUT))
}

fn segment(flags: u8) -> Packet {
    Packet {
        flow: flow(),
        content: Content::Tcp(Flags(flags)),
        source: flow().client,
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
    let added = worker.real_servers()[1].slot;
    worker.remember(added);
    assert_eq!(worker.find(59), Err(Some(DropReason::NoRealServer)), "nothing this snapshot can forward to");
    assert_eq!((worker.tables.connections.len(), worker.live(1).0), (1, 1));
    worker.tables.sweep(&worker.cluster, Moment::from_secs(59));
    assert_eq!((worker.tables.connections.len(), worker.live(1).0), (1, 1), "a sweep keeps it too");
    assert_eq!(worker.find(60), Ok(None), "it has expired");
    assert_eq!((worker.tables.connections.len(), worker.live(1).0), (0, 0), "and is booked anyway");
}

#[test]
fn a_connection_of_a_real_server_in_no_snapshot_is_discarded() {
    let mut worker = Worker::new();
    worker.remember(Slot::new(99, 1));
    assert_eq!(worker.find(0), Ok(None));
    assert!(worker.tables.connections.is_empty());
}

/// The snapshot that has the real server no longer exists, but a worker that had it was slow.
#[test]
fn a_connection_to_a_real_server_that_has_left_meanwhile_is_counted_and_given_up() {
    for is_swept in [true, false] {
        let mut worker = Worker::new();
        let left = worker.real_servers()[0].clone();
        let mut config = (**worker.latest.config()).clone();
        config.virtual_services[0].real_servers.remove(0);
        let next = worker.latest.succeed(config, HostView::default());
        worker.begin().expect("its snapshot has the real server");
        assert_eq!((left.live.connections(), left.live.persistent()), (1, 1));
        worker.cluster = next.end_grace(&next.awaited().iter().copied().collect());
        assert!(next.real_server(left.slot).is_some(), "it was awaited while no connection pointed to it");
        if is_swept {
            worker.tables.sweep(&worker.cluster, Moment::ZERO);
        } else {
            assert_eq!(worker.find(0), Ok(None));
        }
        assert_eq!((worker.tables.connections.len(), left.live.connections()), (0, 0));
        worker.tables.sweep(&worker.cluster, Moment::from_secs(30));
        assert!(!left.live.is_referenced());
    }
}

#[test]
fn another_workers_choice_for_the_same_flow_stands_and_this_one_leaves_no_trace() {
    for (place, is_in_snapshot) in [(0, true), (1, false)] {
        let mut worker = Worker::new();
        let servers = worker.real_servers();
        worker.remember(servers[place].slot);
        let begun = worker.begin();
        if is_in_snapshot {
            let theirs = (servers[place].slot, Tracking::Known, FoundBy::Entry);
            assert_eq!(begun, Ok(theirs), "its snapshot has the real server");
        } else {
            assert_eq!(begun.map(drop), Err(Some(DropReason::NoRealServer)));
        }
        assert_eq!(worker.live(place), (1, 0), "the other worker's");
        assert_eq!(worker.live(1 - place), (0, 0));
        assert_eq!(worker.cluster.in_order()[0].connections_total.load(Ordering::Relaxed), 0);
        assert_eq!(worker.tables.connections.len(), 1);
        // Its template is there, but nothing hangs on it.
        let live = &servers[0].live;
        assert_eq!((worker.tables.templates.len(), live.persistent()), (1, 1));
        let Worker { tables, latest, .. } = &worker;
        tables.sweep(latest, Moment::from_secs(30));
        assert_eq!((tables.templates.len(), live.persistent()), (0, 0));
    }
}

#[test]
fn a_packet_looks_again_if_its_entry_has_changed_since() {
    let mut worker = Worker::new();
    let [first, second] = [0, 1].map(|place| worker.real_servers()[place].slot);
    worker.remember(first);
    let seen = worker.entry();
    assert_eq!(worker.find_after(Flags::ACK, &seen, 0), Some(first));
    worker.forget();
    assert_eq!(worker.find_after(Flags::ACK, &seen, 0), None, "another worker has removed it");
    worker.remember(second);
    assert_eq!(worker.find_after(Flags::ACK, &seen, 0), Some(second), "another worker has chosen again");
    assert_eq!((worker.live(0).0, worker.live(1).0), (0, 1));
}

#[test]
fn an_expired_entry_that_another_packet_has_renewed_is_not_given_up() {
    let mut worker = Worker::new();
    let first = worker.real_servers()[0].slot;
    worker.remember(first);
    let seen = worker.entry();
    worker.follow(Event::Ack, 59);
    assert_eq!(worker.find_after(Flags::ACK, &seen, 60), Some(first));
    assert_eq!(worker.live(0).0, 1);
}

#[test]
fn a_client_gets_the_real_server_that_another_worker_has_just_given_it() {
    let mut worker = Worker::new();
    worker.cluster = worker.latest.succeed(worker.latest.config().clone(), HostView::default());
    let [first, second] = [0, 1].map(|place| worker.real_servers()[place].slot);
    worker.link(second);
    let theirs = (second, Tracking::New, FoundBy::Template);
    assert_eq!(worker.record(0, None), theirs, "its template was chosen after this one had looked");
    assert_eq!(worker.entry().real_server, second);
    assert_eq!((worker.live(0), worker.live(1)), ((0, 0), (1, 1)));
    worker.forget();
    let own = (first, Tracking::New, FoundBy::Scheduler);
    assert_eq!(worker.record(0, Some(second)), own, "it has looked, and has given that one up");
    let persistent = worker.real_servers().iter().map(|server| server.live.persistent()).collect::<Vec<_>>();
    assert_eq!(persistent, [1, 0]);
}

#[test]
fn a_template_with_a_real_server_of_a_later_snapshot_is_replaced() {
    let mut worker = Worker::new();
    let [first, added] = [0, 1].map(|place| worker.real_servers()[place].slot);
    worker.link(added);
    assert_eq!(worker.record(0, None), (first, Tracking::New, FoundBy::Scheduler));
    assert_eq!(worker.tables.templates.get(&key(), Moment::ZERO), Some(first));
    let persistent = worker.real_servers().iter().map(|server| server.live.persistent()).collect::<Vec<_>>();
    assert_eq!(persistent, [1, 0]);
}
