//! The cost of the core, without any socket: `cargo bench --bench core`.
//!
//! Medians of two runs on two virtual cores of an AMD EPYC (L2 1 MiB each, L3 32 MiB shared with others),
//! Linux 6.18. Whole runs differ by 30 %, so compare within one run.
//!
//! | what | measured | bar |
//! |---|---|---|
//! | hit, 1 flow | 113, 131 ns | 150 ns |
//! | hit, a million flows in random order | 513, 580 ns | 350 ns, **not reached** |
//! | new connection, `wlc` over 100 real servers | 599, 645 ns | 1 µs |
//! | new connection, `mh` over 100 real servers | 262, 336 ns | 500 ns |
//! | sweep of a million entries | 17 ms, which is 0.2 % of a core every 10 s | 1 % |
//! | sweep of a million entries that all end | 26 ms over 4096 shards: 6 µs a lock | 100 µs a lock |
//! | `mh` table of 65,537 for 1000 real servers | 1.9, 2.1 ms | 20 ms |
//!
//! A unit test in `scheduler/mh.rs` bounds how many connections move under `mh` when one of N real servers
//! leaves.
//!
//! Why a million flows miss the bar: on this machine one dependent memory access costs 165 to 218 ns (pointer
//! chase over 64 and 128 MiB), and dashmap needs two, control byte and bucket. Its bare `get_mut` over a
//! million entries of this size costs 436 ns. Huge pages (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`) reduce it
//! from 577 to 490 ns in one run. Prefetching the buckets of a batch would hide the latency, but needs access
//! to the map's internals.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lvs_tund::director::Director;
use lvs_tund::director::cluster::{Cluster, ClusterConfig, HostView, RealServerConfig, VirtualServiceConfig};
use lvs_tund::director::scheduler::{self, Memory, Options};
use lvs_tund::director::tables::Tables;
use lvs_tund::director::verdict::Verdict;
use lvs_tund::packet::{Frame, Protocol};
use lvs_tund::time::Moment;

#[path = "../tests/support/mod.rs"]
mod support;

use support::packets::{ACK, SYN, VIP, tcp_between};
use support::world::World;

const MILLION: u32 = 1_000_000;

fn world(scheduler: &'static str, real_servers: u32, connections_max: usize) -> World {
    let row = scheduler::find(scheduler).expect("a row");
    let rip = |n| Ipv4Addr::from(0x0a00_0001 + n).into();
    let service = VirtualServiceConfig {
        real_servers: (0..real_servers).map(|n| RealServerConfig::new(rip(n), 65_535)).collect(),
        ..VirtualServiceConfig::new("web", Protocol::Tcp, VIP.into(), 80, row)
    };
    // All connections begin at the same moment, which is no flood here.
    let new_connections_per_second_max = u32::MAX;
    let virtual_services = vec![service];
    let config =
        ClusterConfig { new_connections_per_second_max, virtual_services, ..ClusterConfig::default() };
    World::new(config, HostView::default(), Tables::new(connections_max, 7))
}

/// One frame with a variable client: address and port of flow `n`, with the header checksum updated.
struct Client {
    frame: Frame,
    sum: u32,
}

impl Client {
    fn new(flags: u8) -> Client {
        let packet = tcp_between(Ipv4Addr::new(16, 0, 0, 0), 1, VIP, 80, flags, b"");
        let words =
            packet[..20].chunks(2).enumerate().filter(|(index, _)| *index != 5 && !(6..8).contains(index));
        let sum = words.map(|(_, word)| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
        Client { frame: Frame::from_packet(&packet), sum }
    }

    fn set(&mut self, n: u32) {
        let address = 0x1000_0000 + (n >> 4);
        let mut sum = self.sum + (address >> 16) + (address & 0xffff);
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        let packet = self.frame.packet_mut();
        packet[12..16].copy_from_slice(&address.to_be_bytes());
        packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        packet[20..22].copy_from_slice(&(1024 + (n & 15) as u16).to_be_bytes());
    }

    /// Lets the director wrap the packet, then removes the wrapping again.
    fn send(&mut self, director: &mut Director, cluster: &Cluster, now: Moment) {
        let verdict = director.handle_packet(cluster, &mut self.frame, now);
        debug_assert!(matches!(verdict, Verdict::Transmit(_)), "{verdict:?}");
        black_box(&verdict);
        self.frame.strip_front(20);
    }
}

/// Every number below `count` once, in an order that no cache can predict.
fn shuffled(count: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count).collect();
    let mut state = 88_172_645_463_325_252u64;
    for index in (1..order.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(index, (state % (index as u64 + 1)) as usize);
    }
    order
}

fn fill(world: &mut World, count: u32) {
    let (mut syn, mut ack) = (Client::new(SYN), Client::new(ACK));
    let cluster = world.cluster.load_full();
    for n in 0..count {
        for client in [&mut syn, &mut ack] {
            client.set(n);
            client.send(&mut world.director, &cluster, Moment::ZERO);
        }
    }
    assert_eq!(world.tables.connections.len(), count as usize);
}

/// From classification to the encapsulated frame, for a known connection.
fn hit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hit");
    group.throughput(Throughput::Elements(1));
    for flows in [1, 1000, MILLION] {
        let mut world = world("wlc", 100, 2 * MILLION as usize);
        fill(&mut world, flows);
        let cluster = world.cluster.load_full();
        let order = shuffled(flows);
        let mut client = Client::new(ACK);
        let mut next = order.iter().cycle();
        group.bench_function(BenchmarkId::new("flows", flows), |bencher| {
            bencher.iter(|| {
                client.set(*next.next().expect("a cycle has no end"));
                client.send(&mut world.director, &cluster, Moment::from_secs(1));
            });
        });
    }
    group.finish();
}

/// The same loop as `hit` without the director: what the harness itself costs.
fn harness(criterion: &mut Criterion) {
    let order = shuffled(MILLION);
    let mut client = Client::new(ACK);
    let mut next = order.iter().cycle();
    criterion.bench_function("harness", |bencher| {
        bencher.iter(|| {
            client.set(*next.next().expect("a cycle has no end"));
            black_box(client.frame.packet());
        });
    });
}

/// A SYN: classify, choose, record, wrap. The table starts empty and grows.
fn new_connection(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("new_connection");
    for scheduler in scheduler::SCHEDULERS {
        group.bench_function(BenchmarkId::new(scheduler.name, "100 real servers"), |bencher| {
            bencher.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                let mut left = iterations;
                while left > 0 {
                    let count = left.min(200_000) as u32;
                    let mut world = world(scheduler.name, 100, 400_000);
                    let cluster = world.cluster.load_full();
                    let mut client = Client::new(SYN);
                    let start = Instant::now();
                    for n in 0..count {
                        client.set(n);
                        client.send(&mut world.director, &cluster, Moment::ZERO);
                    }
                    spent += start.elapsed();
                    left -= u64::from(count);
                }
                spent
            });
        });
    }
    group.finish();
}

/// Visits each of a million entries: once with none expired, and in the worst case with all of them expired.
fn sweep(criterion: &mut Criterion) {
    let mut world = world("wlc", 100, MILLION as usize);
    fill(&mut world, MILLION);
    let mut group = criterion.benchmark_group("sweep");
    group.sample_size(10);
    group.bench_function("a million entries", |bencher| {
        bencher.iter(|| world.tables.sweep(&world.cluster.load(), Moment::from_secs(1)));
    });
    group.bench_function("a million entries that end", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                world.tables.sweep(&world.cluster.load(), Moment::from_secs(100_000));
                fill(&mut world, MILLION);
                let started = Instant::now();
                world.tables.sweep(&world.cluster.load(), Moment::from_secs(100_000));
                spent += started.elapsed();
                assert_eq!(world.tables.connections.len(), 0);
            }
            spent
        });
    });
    group.finish();
}

fn maglev(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mh_table");
    group.sample_size(10);
    for count in [10, 100, 1000] {
        let cluster = world("mh", count, 1).cluster.load_full();
        let service = cluster.virtual_services().next().expect("a service").clone();
        let row = scheduler::find("mh").expect("a row");
        group.bench_function(BenchmarkId::new("65537 entries", count), |bencher| {
            bencher.iter(|| (row.build)(&service.real_servers, &Options::default(), Memory::default()));
        });
    }
    group.finish();
}

criterion_group!(benches, harness, hit, new_connection, sweep, maglev);
criterion_main!(benches);
