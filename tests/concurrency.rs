//! Several workers on one table, with a sweep and a changing cluster at the same time: no worker waits for ever, and
//! at the end every count is true.
//!
//! Interleavings are left to the scheduler of the machine: dashmap's locks are not instrumented for shuttle
//! or loom, and what is our own between them is one atomic each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use lvs_tund::director::Director;
use lvs_tund::director::cluster::{Cluster, ClusterConfig, HostView, Persistence, VirtualServiceConfig};
use lvs_tund::director::connection::{
    Change, Entry, Event, NewConnection, State, Subscriber, Table, Timeouts,
};
use lvs_tund::director::real_server::Slot;
use lvs_tund::director::tables::Tables;
use lvs_tund::director::verdict::Verdict;
use lvs_tund::metrics::counters::DirectorCounters;
use lvs_tund::packet::{Flow, Frame};
use lvs_tund::time::Moment;

mod support;

use support::clients::*;
use support::packets::*;

const WORKERS: usize = 4;
const PACKETS_PER_WORKER: u32 = 60_000;
/// Packets that a worker handles with one snapshot, while others continue.
const BATCH: u32 = 64;
/// Fewer than flows, so that workers meet on them.
const CONNECTIONS_MAX: usize = 2_000;
const PATIENCE: Duration = Duration::from_secs(120);

fn config(weights: &[u32], scheduler: &'static str, is_persistent: bool) -> ClusterConfig {
    let persistence = is_persistent.then(|| Persistence::new(Duration::from_secs(30)));
    let service = VirtualServiceConfig { persistence, ..web(scheduler, weights) };
    ClusterConfig { virtual_services: vec![service], ..ClusterConfig::default() }
}

/// Every worker sends the same flows, so that they meet on each of them.
fn work(mut director: Director, latest: &ArcSwap<Cluster>, counters: &DirectorCounters, number: u32) {
    let flags = [SYN, ACK, ACK | PSH, FIN | ACK, RST, SYN];
    let mut cluster = latest.load_full();
    for step in 0..PACKETS_PER_WORKER {
        if step % BATCH == 0 {
            cluster = latest.load_full();
        }
        let mix = step.wrapping_mul(2_654_435_761).wrapping_add(number) >> 7;
        let packet =
            tcp_between(client(mix % 500), (mix % 7 + 1) as u16, VIP, 80, flags[mix as usize % 6], b"");
        let mut frame = Frame::from_packet(&packet);
        let verdict = director.handle_packet(&cluster, &mut frame, Moment::from_millis(u64::from(step)));
        counters.count(&verdict, packet.len());
        assert!(!matches!(verdict, Verdict::Hold));
    }
}

fn hammer(scheduler: &'static str, is_persistent: bool) {
    let first = config(&[1, 2, 3], scheduler, is_persistent);
    let cluster = Arc::new(ArcSwap::from_pointee(Cluster::new(first, HostView::default())));
    let tables = Arc::new(Tables::new(CONNECTIONS_MAX, 3));
    let counters: Vec<_> = (0..WORKERS).map(|_| Arc::new(DirectorCounters::default())).collect();
    let is_over = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = counters
        .iter()
        .enumerate()
        .map(|(number, counters)| {
            let director = Director::new(tables.clone(), number as u64);
            let (latest, counters) = (cluster.clone(), counters.clone());
            std::thread::spawn(move || work(director, &latest, &counters, number as u32))
        })
        .collect();
    let background = {
        let (cluster, tables, is_over) = (cluster.clone(), tables.clone(), is_over.clone());
        std::thread::spawn(move || {
            let mut turn = 0u32;
            while !is_over.load(Ordering::Relaxed) {
                turn += 1;
                let weights = [[1, 2, 3].as_slice(), &[0, 1, 1], &[2, 2], &[1, 1, 1, 4]][turn as usize % 4];
                let next =
                    cluster.load().succeed(config(weights, scheduler, is_persistent), HostView::default());
                cluster.store(Arc::new(next));
                tables.sweep(&cluster.load(), Moment::from_millis(u64::from(turn) * 10));
                let mut shown = 0;
                tables.connections.visit(Moment::ZERO, |_| shown += 1);
                assert!(shown <= CONNECTIONS_MAX + WORKERS);
            }
        })
    };
    workers.into_iter().for_each(|worker| worker.join().expect("a worker"));
    is_over.store(true, Ordering::Relaxed);
    background.join().expect("the background");
    check(&cluster, &tables, &counters);
}

fn check(latest: &ArcSwap<Cluster>, tables: &Tables, counters: &[Arc<DirectorCounters>]) {
    let received: u64 = counters.iter().map(|worker| worker.received.packets.get()).sum();
    assert_eq!(received, WORKERS as u64 * u64::from(PACKETS_PER_WORKER));
    let fates = |worker: &Arc<DirectorCounters>| {
        let replied: u64 = worker.replied.iter().map(|count| count.get()).sum();
        let dropped: u64 = worker.dropped.iter().map(|count| count.get()).sum();
        worker.transmitted.get() + replied + dropped
    };
    assert_eq!(received, counters.iter().map(fates).sum::<u64>(), "packets conserve");
    // No worker counts the entries of real servers that left while a worker still chose them.
    tables.sweep(&latest.load(), Moment::ZERO);
    let cluster = latest.load();
    // The counts of the real servers are those of the table, also for those that have left.
    let (mut entries, mut active) = (0, 0);
    tables.connections.visit(Moment::ZERO, |connection| {
        entries += 1;
        active += u64::from(matches!(connection.state, State::SynRecv | State::Established));
    });
    assert_eq!(entries, tables.connections.len());
    let created = tables.connections.created();
    assert_eq!(created - tables.connections.removed(), entries as u64);
    let (mut counted, mut counted_active, mut templates) = (0, 0, 0);
    for server in cluster.real_servers() {
        counted += server.live.connections();
        counted_active += server.active();
        templates += server.live.persistent() as usize;
    }
    assert_eq!((counted, counted_active), (entries as u64, active));
    assert_eq!(templates, tables.templates.len());
    // The end of all things.
    tables.sweep(&latest.load(), Moment::from_secs(1_000_000));
    assert!(tables.connections.is_empty() && tables.templates.is_empty());
    assert!(cluster.real_servers().all(|server| !server.live.is_referenced()));
}

#[test]
fn workers_share_one_table_without_deadlock_or_lost_counts() {
    let (done, is_done) = mpsc::channel();
    let all = std::thread::spawn(move || {
        for (scheduler, is_persistent) in [("rr", false), ("wlc", true), ("mh", false)] {
            hammer(scheduler, is_persistent);
        }
        let _ = done.send(());
    });
    let outcome = is_done.recv_timeout(PATIENCE);
    assert_ne!(outcome, Err(mpsc::RecvTimeoutError::Timeout), "a worker waits for ever");
    all.join().expect("the test");
}

/// The result of applying the changes one after the other.
#[derive(Default)]
struct Copy(Mutex<BTreeMap<Flow, Entry>>);

impl Subscriber for Copy {
    fn on_change(&self, change: &Change) {
        let mut entries = self.0.lock().expect("no thread panics");
        match *change {
            Change::Added { flow, entry } => assert_eq!(entries.insert(flow, entry), None),
            Change::Moved { flow, from, entry } => {
                let before = entries.insert(flow, entry).expect("it was added before");
                assert_eq!((before.state, before.real_server), (from, entry.real_server));
            }
            Change::Removed { flow, entry, .. } => {
                let before = entries.remove(&flow).expect("it was added before");
                assert_eq!((before.state, before.real_server), (entry.state, entry.real_server));
            }
        }
    }
}

/// Every worker uses the same few flows in every way that there is.
fn use_table(table: &Table, changes: &Copy, number: u64) {
    let timeouts = Timeouts::default();
    let events = [Event::Syn, Event::Ack, Event::Fin, Event::Rst];
    for step in 0..u64::from(PACKETS_PER_WORKER) {
        let mix = (step.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number << 40) >> 33;
        let (real_server, now) = (Slot::new(mix as u32 % 3, 1), Moment::from_millis(step));
        let event = events[mix as usize / 8 % 4];
        let vip = VIP.into();
        let flow =
            Flow { protocol: 6, client: client(mix as u32 % 64).into(), client_port: 1, vip, vip_port: 80 };
        let Some(seen) = table.get(&flow) else {
            let new =
                NewConnection { virtual_service: 0, real_server, event, is_known: false, template: None };
            table.insert(&flow, new, &timeouts, now, changes);
            continue;
        };
        match mix / 1024 % 8 {
            0 => drop(table.remove(&flow, &seen, now, changes)),
            1..4 => drop(table.keep(&flow, &seen, event, &timeouts, now, changes)),
            _ => {
                let serving = [real_server].into_iter().collect();
                table.find(&flow, event, &serving, &timeouts, now, changes);
            }
        }
        if step % 512 == 0 {
            table.sweep(&[real_server].into_iter().collect(), now, changes);
        }
    }
}

#[test]
fn the_changes_applied_in_their_order_give_what_the_table_has() {
    let (table, changes) = (Table::new(1_000, 3), Copy::default());
    std::thread::scope(|scope| {
        for number in 0..WORKERS as u64 {
            let (table, changes) = (&table, &changes);
            scope.spawn(move || use_table(table, changes, number));
        }
    });
    let entries = changes.0.into_inner().expect("no thread panics");
    let mut shown = BTreeMap::new();
    table.visit(Moment::ZERO, |connection| {
        shown.insert(connection.flow, (connection.real_server, connection.state));
    });
    let copied: BTreeMap<_, _> =
        entries.into_iter().map(|(flow, entry)| (flow, (entry.real_server, entry.state))).collect();
    assert!(!shown.is_empty() && table.removed() > 1_000);
    assert_eq!(copied, shown);
}

/// A browser's first connections come at once, over several queues: they are one client.
#[test]
fn a_persistent_clients_first_connections_go_to_one_server_on_all_workers() {
    const CLIENTS: u32 = 20_000;
    let cluster =
        Arc::new(ArcSwap::from_pointee(Cluster::new(config(&[1, 1], "rr", true), HostView::default())));
    let tables = Arc::new(Tables::new(1_000_000, 3));
    let barrier = Arc::new(std::sync::Barrier::new(2));
    let worker = |port: u16| {
        let mut director = Director::new(tables.clone(), port.into());
        let (cluster, barrier) = (cluster.load_full(), barrier.clone());
        std::thread::spawn(move || {
            let connect = |n| {
                if n % 100 == 0 {
                    barrier.wait();
                }
                let mut frame = Frame::from_packet(&tcp_between(client(n), port, VIP, 80, SYN, b""));
                server_of(&director.handle_packet(&cluster, &mut frame, Moment::ZERO)).expect("a server")
            };
            (0..CLIENTS).map(connect).collect::<Vec<u8>>()
        })
    };
    let (one, other) = (worker(1), worker(2));
    assert_eq!(one.join().expect("a worker"), other.join().expect("a worker"));
}
