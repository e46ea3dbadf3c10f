//! Many checks: a thousand probes a second next to clients at full load, and all real servers silent and back at once.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use lvs_tund::lab::http::Connection;
use lvs_tund::lab::{self, Cluster, Daemon, Lab, Scrape};
use nix::sys::signal::Signal;

use crate::failing::{client, head};
use crate::fixture::{
    Outcome, ask_times, assert_conserved, assert_round_robin, configuration, director_metrics, poll_until,
    same_subnet, service, start_real_servers, web_address,
};
use crate::misfortune::{PROBES, probes, quiet_listener};

const UP: &str = "lvs_tund_director_real_server_up";

/// What a test allows for scheduling on a busy machine, in addition to the times in the configuration.
const SLACK: Duration = Duration::from_secs(3);

/// A request that takes longer has failed: time for two retransmissions of a SYN (RFC 6298: after 1 s and 3 s).
const REQUEST_MAX: Duration = Duration::from_secs(4);

/// Ports from 2000 on; each is a virtual service on every real server, whose application accepts nothing.
fn many(lab: &Lab, services: u16) -> Result<(Vec<String>, Vec<TcpListener>), Failed> {
    let ports = 2000..2000 + services;
    let listeners = ports.clone().flat_map(|port| lab.real_servers.iter().map(move |host| (host, port)));
    let listeners = listeners.map(|(host, port)| quiet_listener(host, port)).collect::<Result<_, _>>()?;
    Ok((ports.map(|port| service(lab, &format!("s{port}"), "tcp", port, 1)).collect(), listeners))
}

/// Requests of all clients, one after the other as fast as they can, while `during` runs: how long each took, and how many
/// failed.
fn full_load(lab: &Lab, during: impl FnOnce()) -> (Vec<Duration>, usize) {
    const THREADS: usize = 2;
    let (ends, vip) = (AtomicBool::new(false), SocketAddr::from(web_address(lab)));
    let ask = || {
        let (mut took, mut failed) = (Vec::new(), 0);
        while !ends.load(Ordering::Relaxed) {
            let begun = Instant::now();
            match Connection::open(vip, REQUEST_MAX).and_then(|mut it| it.get("/")) {
                Ok(_) => took.push(begun.elapsed()),
                Err(_) => failed += 1,
            }
        }
        (took, failed)
    };
    let all: Vec<(Vec<Duration>, usize)> = std::thread::scope(|scope| {
        let clients = lab.clients.iter().flat_map(|host| std::iter::repeat_n(host, THREADS));
        let threads: Vec<_> = clients.map(|host| scope.spawn(|| host.run(ask))).collect();
        during();
        ends.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().expect("a client")).collect()
    });
    let failed = all.iter().map(|(_, failed)| failed).sum();
    let mut took: Vec<Duration> = all.into_iter().flat_map(|(took, _)| took).collect();
    took.sort_unstable();
    (took, failed)
}

/// Packets for which a device or a socket of a daemon had no room.
fn kernel_dropped(lab: &Lab) -> Result<u64, Failed> {
    let of = |scrape: Scrape| scrape.sum("lvs_tund_kernel_dropped_total", &[]).unwrap_or_default() as u64;
    let ports = lab.real_servers.iter().map(|host| (host, Cluster::REAL_SERVER_METRICS));
    let all = ports.chain([(&lab.director, Cluster::DIRECTOR_METRICS)]);
    Ok(all.map(|(host, port)| host.scrape(port).map(of)).sum::<Result<u64, _>>()?)
}

/// A thousand probes a second, while clients send requests as fast as they can.
pub fn load() -> Outcome {
    const SERVICES: u16 = 250;
    const TIME: Duration = Duration::from_secs(5);
    let lab = same_subnet(2).with_clients(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let (more, _many) = many(&lab, SERVICES)?;
    let services = [vec![service(&lab, "web", "tcp", 80, 1)], more].concat();
    let keys = "check = { type = \"tcp\", interval = \"500ms\", timeout = \"3s\", start = \"down\" }\n";
    let _director = lab::start_director(&lab, &configuration(&lab, &head(&lab, keys), &services))?;
    poll_until("all up", || {
        let up = director_metrics(&lab).ok()?.sum(UP, &[])?;
        (up as usize == 2 * services.len()).then_some(())
    });
    let (before, begun) = (probes(&lab, &[])?, Instant::now());
    let mut rate = 0.0;
    let (took, lost) = full_load(&lab, || {
        std::thread::sleep(TIME);
        let after = probes(&lab, &[]).unwrap_or_default();
        rate = (after - before) / begun.elapsed().as_secs_f64();
    });
    let scrape = director_metrics(&lab)?;
    let all = scrape.named(PROBES).filter(|sample| sample.label("outcome") != Some("success"));
    let failed: u64 = all.map(|sample| sample.value as u64).sum();
    let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)];
    println!(
        "{rate:.0} probes per second, {failed} failed; {:.0} requests per second, {lost} failed, median {:?}, of a hundred the \
         slowest {:?}, slowest of all {:?}",
        took.len() as f64 / TIME.as_secs_f64(),
        at(50),
        at(99),
        at(100)
    );
    assert_eq!((lost, failed, kernel_dropped(&lab)?), (0, 0, 0));
    assert!((800.0..1200.0).contains(&rate), "{rate}");
    assert!(at(50) < Duration::from_millis(100), "{:?}", at(50));
    assert_conserved(&lab)
}

/// All real servers swallow every packet, and all at once unwrap again: each state changes in time and is reported once.
pub fn silent_at_once() -> Outcome {
    const SERVICES: u16 = 100;
    const HOSTS: usize = 4;
    let lab = same_subnet(HOSTS).build()?;
    let (_web, mut real_servers) = start_real_servers(&lab)?;
    let (more, _many) = many(&lab, SERVICES)?;
    let services = [vec![service(&lab, "web", "tcp", 80, 1)], more].concat();
    let keys = "check = { type = \"tcp\", interval = \"1s\", timeout = \"800ms\", rise = 2, fall = 3, start = \"down\" }\n";
    let director = lab::start_director(&lab, &configuration(&lab, &head(&lab, keys), &services))?;
    let all = HOSTS * services.len();
    let (fall, rise) = (Duration::from_millis(3 * 1030 + 800), Duration::from_millis(2 * 1030 + 800));
    let told = || {
        let mut counts = BTreeMap::new();
        let count = |kind| director.log().lines().filter(|line| line.contains(kind)).count();
        for words in [") is down", ") is up", "(quorum lost)", "(quorum gained)", "flaps"] {
            counts.insert(words, count(words));
        }
        counts
    };
    await_up(&lab, all, SLACK + rise)?;
    poll_until("a line for each change", || (told()[") is up"] == all).then_some(()));
    for round in 1..=2 {
        // A stopped daemon keeps its raw socket, so that no host answers for it.
        signal(&mut real_servers, Signal::SIGSTOP)?;
        let down = await_up(&lab, 0, SLACK + fall)?;
        signal(&mut real_servers, Signal::SIGCONT)?;
        let up = await_up(&lab, all, SLACK + rise)?;
        println!(
            "{all} states: all down after {down:?} (at most {fall:?}), all up after {up:?} (at most {rise:?})"
        );
        let expected = BTreeMap::from([
            (") is down", all * round),
            (") is up", all * (round + 1)),
            ("(quorum lost)", services.len() * round),
            // Programs run for the first state, but it is no change.
            ("(quorum gained)", services.len() * round),
            ("flaps", 0),
        ]);
        let deadline = Instant::now() + SLACK;
        while told() != expected && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(told(), expected, "one line for each change");
        assert_round_robin(&ask_times(&lab, 4 * HOSTS)?, HOSTS);
        lab.client().connect((lab.vip, 2000 + SERVICES - 1))?;
    }
    let shown: serde_json::Value = client(&lab).get("/api/v1/virtual_services")?;
    let of = |service: &serde_json::Value| service["health"]["up"].as_u64();
    let services = shown["virtual_services"].as_array().cloned().unwrap_or_default();
    assert!(services.iter().all(|service| of(service) == Some(HOSTS as u64)), "{shown}");
    assert_conserved(&lab)
}

fn signal(daemons: &mut [Daemon], signal: Signal) -> Outcome {
    Ok(daemons.iter_mut().try_for_each(|daemon| daemon.signal(signal))?)
}

/// How long it takes until as many are up.
fn await_up(lab: &Lab, expected: usize, within: Duration) -> Result<Duration, Failed> {
    let begun = Instant::now();
    loop {
        let up = director_metrics(lab)?.sum(UP, &[]).map(|up| up as usize);
        if up == Some(expected) {
            return Ok(begun.elapsed());
        }
        assert!(begun.elapsed() < within, "{up:?} and not {expected} are up after {within:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
