//! A flood from forged sources, ten times as large as the table, with the default configuration.

mod support;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use lvs_tund::director::cluster::VirtualServiceConfig;
use lvs_tund::director::scheduler::rr;
use lvs_tund::director::verdict::{Tracking, Verdict};
use lvs_tund::packet::Protocol;

use support::clients::{client, server_of, servers, tracking_of, web};
use support::packets::{ACK, SYN, VIP, tcp_between, udp_between};
use support::world::World;

/// The smallest table for which the rule about floods holds.
const CONNECTIONS_MAX: usize = 1 << 16;
const FLOOD: usize = 10 * CONNECTIONS_MAX;
const ESTABLISHED: u32 = 1000;

/// In each step, 10 ms, come this many forged packets, and an honest client's SYN.
const FORGED: usize = 400;
const STEP: Duration = Duration::from_millis(10);
/// A client's ACK comes this many steps after its SYN, 200 ms.
const ANSWERS_AFTER: usize = 20;

fn forged(number: usize, is_tcp: bool) -> Vec<u8> {
    let source = Ipv4Addr::from_bits(0x2000_0000 + number as u32);
    match is_tcp {
        true => tcp_between(source, 1024, VIP, 80, SYN, b""),
        false => udp_between(source, 1024, 53, b"question"),
    }
}

/// What a flood did to honest clients.
struct Outcome {
    /// Of [`ESTABLISHED`], those that are known after it.
    established: usize,
    honest: usize,
    /// Of these, those whose handshake went to one real server.
    completed: usize,
    /// Of these, those that live after half a minute without a packet.
    lasting: usize,
}

fn flood(is_tcp: impl Fn(usize) -> bool) -> Outcome {
    let dns = VirtualServiceConfig {
        real_servers: servers(&[1, 1]),
        ..VirtualServiceConfig::new("dns", Protocol::Udp, VIP.into(), 53, &rr::ROW)
    };
    let mut world = World::limited(vec![web("wlc", &[1, 1, 1]), dns], CONNECTIONS_MAX);
    let established: Vec<_> = (0..ESTABLISHED).map(|n| (n, world.connect(client(n), 1))).collect();
    for (n, server) in &established {
        assert_eq!(world.ack(client(*n), 1), Ok(*server));
    }
    let mut waiting = VecDeque::new();
    let (mut honest, mut completed) = (ESTABLISHED, Vec::new());
    for step in 0..FLOOD / FORGED {
        world.now = world.now.after(STEP);
        if step % 100 == 0 {
            world.tables.sweep(&world.cluster.load(), world.now);
        }
        for number in step * FORGED..(step + 1) * FORGED {
            let verdict = world.send(&forged(number, is_tcp(number)));
            assert!(matches!(verdict, Verdict::Transmit(_)), "{verdict:?}");
        }
        waiting.push_back((honest, world.connect(client(honest), 1)));
        honest += 1;
        if waiting.len() > ANSWERS_AFTER {
            let (n, server) = waiting.pop_front().expect("one waits");
            if world.ack(client(n), 1) == Ok(server) {
                completed.push((n, server));
            }
        }
    }
    let honest = (honest - ESTABLISHED) as usize - waiting.len();
    world.wait(30);
    world.tables.sweep(&world.cluster.load(), world.now);
    let mut known = |connections: &[(u32, u8)]| {
        let lives = |(n, server): &&(u32, u8)| {
            let verdict = world.tcp(client(*n), 1, ACK);
            server_of(&verdict) == Ok(*server) && tracking_of(&verdict) == Tracking::Known
        };
        connections.iter().filter(lives).count()
    };
    let (established, lasting) = (known(&established), known(&completed));
    Outcome { established, honest, completed: completed.len(), lasting }
}

#[test]
fn a_flood_of_ten_times_the_table_hurts_no_connection_and_keeps_no_client_out() {
    println!("| flood | established | new connections completed | of these lasting |\n|---|---|---|---|");
    for (name, is_tcp) in
        [("datagrams", (|_| false) as fn(usize) -> bool), ("SYNs and datagrams", |number| number % 2 == 0)]
    {
        let Outcome { established, honest, completed, lasting } = flood(is_tcp);
        println!("| {name} | {established} of {ESTABLISHED} | {completed} of {honest} | {lasting} |");
        assert_eq!(established, ESTABLISHED as usize, "{name}");
        assert!(completed * 100 >= honest * 95, "{name}: {completed} of {honest} completed their handshake");
        assert_eq!(lasting, completed, "{name}: an idle connection lives on when the flood is over");
    }
}

#[test]
fn a_flood_of_datagrams_at_a_few_thousand_a_second_leaves_most_of_the_table_free() {
    let dns = VirtualServiceConfig {
        real_servers: servers(&[1, 1]),
        ..VirtualServiceConfig::new("dns", Protocol::Udp, VIP.into(), 53, &rr::ROW)
    };
    let mut world = World::limited(vec![dns], CONNECTIONS_MAX);
    let mut most = 0;
    for second in 0..600 {
        world.wait(1);
        world.tables.sweep(&world.cluster.load(), world.now);
        // In proportion to the table as 3,500 to a million.
        for number in 0..220 {
            world.send(&forged(second * 220 + number, false));
        }
        most = most.max(world.tables.connections.len());
    }
    assert!(most < CONNECTIONS_MAX / 2, "{most} entries");
}
