//! The cost of reading and changing a running director: `cargo bench --bench control`.
//!
//! Runs the real binary in the lab: listings, a stream of a million connections, reloads and writes under
//! traffic. It also times the steps of a change separately, by number of services.
//!
//! On two cores shared with other work: listing 16,000 services takes 73 ms (bar: 100 ms), streaming a
//! million connections 0.7 s (3 s), and a reload that changes one of 1,000 services 15 ms (50 ms). One client
//! makes 1,078 changes per second among 1,000 services and 3,146 among 10, one after the other, under traffic
//! (1,000 datagrams per second) that loses no datagram.

use std::hint::black_box;
use std::net::{Ipv4Addr, UdpSocket};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lvs_tund::config::plan::{self, DirectorPlan};
use lvs_tund::config::{Source, consistency, diff};
use lvs_tund::control::Client;
use lvs_tund::control::model::{Change, Operation, Reload};
use lvs_tund::control::operation::{Running, apply};
use lvs_tund::director::cluster::{Cluster, HostView};
use lvs_tund::lab::{self, Lab, LabError, Topology};
use lvs_tund::time::Moment;
use serde::de::IgnoredAny;

const VIP: &str = "172.25.3.100";

fn main() -> ExitCode {
    // Must enter the user namespace before any thread starts.
    let entered = lab::enter().and_then(|_| lab::require_tun());
    for services in [1_000, 16_000] {
        steps(services);
    }
    let outcome = entered.and_then(|()| listings()).and_then(|()| writes());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The shortest, median and longest of several runs.
fn report(what: &str, runs: usize, mut run: impl FnMut()) {
    let mut took: Vec<Duration> = (0..runs)
        .map(|_| {
            let since = Instant::now();
            run();
            since.elapsed()
        })
        .collect();
    took.sort();
    println!("{what:<64} {:>10.3?} {:>10.3?} {:>10.3?}", took[0], took[runs / 2], took[runs - 1]);
}

/// Services with two real servers each, on the VIP's ports; `weight` is the weight of the first real server
/// of the first service.
fn file(head: &str, vip: &str, rips: [&str; 2], services: usize, weight: u32) -> String {
    let mut text = format!("{head}\n");
    for index in 0..services {
        let weight = if index == 0 { weight } else { 1 };
        let protocol = if index < 60_000 { "tcp" } else { "udp" };
        let port = index % 60_000 + 1;
        let [a, b] = rips;
        text.push_str(&format!(
            "[[virtual_service]]\nprotocol = \"{protocol}\"\nvip = \"{vip}\"\nport = {port}\nscheduler = \"rr\"\n\
             [[virtual_service.real_server]]\nrip = \"{a}\"\nweight = {weight}\n\
             [[virtual_service.real_server]]\nrip = \"{b}\"\n",
        ));
    }
    text
}

fn read(text: &str) -> DirectorPlan {
    plan::director(&Source { name: "bench", text }, None).unwrap_or_else(|error| panic!("{error}"))
}

fn weight(weight: u32) -> Vec<Operation> {
    let service = format!("{{\"protocol\": \"tcp\", \"vip\": \"{VIP}\", \"port\": 1}}");
    let json = format!(
        "[{{\"operation\": \"set_weight\", \"virtual_service\": {service}, \"real_server\": \"172.25.3.2\", \
         \"weight\": {weight}}}]"
    );
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}"))
}

/// One change, step by step.
fn steps(services: usize) {
    println!(
        "\n{services} services of two real servers                       shortest     middle    longest"
    );
    let rips = ["172.25.3.2", "172.25.3.3"];
    let text = file("interface = \"eth0\"", VIP, rips, services, 1);
    report("  read the file", 10, || drop(black_box(read(&text))));
    let (plan, changed) = (read(&text), read(&file("interface = \"eth0\"", VIP, rips, services, 2)));
    let running = Running {
        cluster: plan.cluster.clone().into(),
        defaults: plan.defaults,
        hash_key: [0; 16],
        ..Running::default()
    };
    let operations = weight(3);
    let applied = || apply(&running, &operations, Moment::ZERO).unwrap_or_else(|error| panic!("{error}"));
    report("  set a weight", 50, || drop(black_box(applied())));
    let next = applied().running.cluster;
    report("  check services for conflicts", 50, || {
        black_box(consistency::check(&next.virtual_services)).unwrap_or_else(|found| panic!("{found:?}"));
    });
    report("  compare two clusters", 50, || drop(black_box(diff::clusters(&running.cluster, &next))));
    report("  merge a changed file", 50, || {
        drop(black_box(diff::merge(&plan.cluster, &changed.cluster, &running.cluster)));
    });
    let cluster = Cluster::new(running.cluster.clone(), HostView::default());
    report("  the first snapshot", 10, || {
        drop(black_box(Cluster::new(running.cluster.clone(), HostView::default())));
    });
    report("  the next snapshot, with one weight changed", 50, || {
        drop(black_box(cluster.succeed(next.clone(), HostView::default())));
    });
    let mut all = (*running.cluster).clone();
    for service in &mut all.virtual_services {
        service.real_servers[0].weight = 9;
    }
    let all = std::sync::Arc::new(all);
    report("  the next snapshot, with every service changed", 10, || {
        drop(black_box(cluster.succeed(all.clone(), HostView::default())));
    });
}

fn topology() -> Result<Lab, LabError> {
    Topology::same_subnet(2).with_program(env!("CARGO_BIN_EXE_lvs-tund")).build()
}

fn head(lab: &Lab) -> String {
    let socket = lab.directory().join("director.sock");
    format!("interface = \"{}\"\ncontrol = \"{}\"\n", lab.director.interface(), socket.display())
}

fn client(lab: &Lab) -> Client {
    Client::new(Some(&lab.directory().join("director.sock"))).unwrap_or_else(|error| panic!("{error}"))
}

fn lab_file(lab: &Lab, services: usize, weight: u32) -> String {
    let [vip, a, b] =
        [lab.vip, lab.real_servers[0].address, lab.real_servers[1].address].map(|a| a.to_string());
    file(&head(lab), &vip, [&a, &b], services, weight)
}

fn listings() -> Result<(), LabError> {
    println!(
        "\na director                                                        shortest     middle    longest"
    );
    let lab = topology()?;
    // One service has the VIP's 65,535 UDP ports: enough flows for a million connections.
    let vip = lab.vip;
    let all_ports = format!(
        "[[virtual_service]]\nname = \"udp\"\nprotocol = \"udp\"\nvip = \"{vip}\"\nport = \"all\"\n\
         [[virtual_service.real_server]]\nrip = \"{}\"\n",
        lab.real_servers[0].address
    );
    let director = lab::start_director(&lab, &(lab_file(&lab, 16_000, 1) + &all_ports))?;
    let client = client(&lab);
    report("  list 16,000 services", 10, || {
        let _: IgnoredAny = client.get("/api/v1/virtual_services").unwrap_or_else(|error| panic!("{error}"));
    });
    report("  list their statistics", 10, || {
        let _: IgnoredAny = client.get("/api/v1/statistics").unwrap_or_else(|error| panic!("{error}"));
    });
    open_connections(&lab, 1_000_000);
    report("  stream a million connections", 3, || {
        let mut connections = 0;
        let listed = client.lines("/api/v1/connections?stream=true", |_: IgnoredAny| {
            connections += 1;
            ControlFlow::Continue(())
        });
        listed.unwrap_or_else(|error| panic!("{error}"));
        assert!(connections >= 1_000_000, "{connections} connections");
    });
    println!("  the director's memory after that: {}", memory(director.id()));
    Ok(())
}

/// Resident memory, current and peak.
fn memory(process: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let lines: Vec<&str> =
        status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM")).collect();
    lines.join(", ").replace('\t', " ")
}

/// One datagram per flow, repeated for those that were lost, until the director knows `wanted` connections.
fn open_connections(lab: &Lab, wanted: usize) {
    let sockets: Vec<UdpSocket> =
        (0..16).map(|_| lab.client().udp_socket().unwrap_or_else(|error| panic!("{error}"))).collect();
    let known = || client(lab).status().unwrap_or_else(|error| panic!("{error}")).connections;
    for _ in 0..5 {
        for port in 1..=u16::MAX {
            for socket in &sockets {
                // A full queue loses it; the next round sends it again.
                let _ = socket.send_to(b"x", (lab.vip, port));
            }
            if port.is_multiple_of(64) {
                thread::sleep(Duration::from_millis(5));
            }
        }
        if known() >= wanted {
            return;
        }
    }
    panic!("{} connections, not {wanted}", known());
}

/// Reloads and writes under traffic, which must not lose a datagram.
fn writes() -> Result<(), LabError> {
    for services in [10, 1_000] {
        println!(
            "\na director of {services} services under traffic                          shortest     middle    longest"
        );
        let lab = topology()?;
        let _web: Vec<_> =
            lab.real_servers.iter().map(|host| host.serve_http(1)).collect::<Result<_, _>>()?;
        let _real_servers: Vec<_> = lab
            .real_servers
            .iter()
            .map(|host| lab::start_real_server(&lab, host))
            .collect::<Result<_, _>>()?;
        let udp = format!(
            "[[virtual_service]]\nname = \"udp\"\nprotocol = \"udp\"\nvip = \"{}\"\nport = 9\n\
             [[virtual_service.real_server]]\nrip = \"{}\"\n",
            lab.vip, lab.real_servers[0].address
        );
        let with = |weight| lab_file(&lab, services, weight) + &udp;
        let _director = lab::start_director(&lab, &with(1))?;
        let client = client(&lab);
        let (is_over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| -> Result<(), LabError> {
            scope.spawn(|| traffic(&lab, &is_over, &sent));
            let mut turn = 1;
            report("  a reload that changes one service", 20, || {
                turn += 1;
                lab.director
                    .write_file("director.toml", &with(turn))
                    .unwrap_or_else(|error| panic!("{error}"));
                let changed = client.reload(&Reload::default()).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(changed.differences.len(), 1, "{changed:?}");
            });
            let (writes, since) = (5_000, Instant::now());
            for turn in 0..writes {
                let mut operations = weight(turn % 100 + 100);
                if let Operation::SetWeight { virtual_service, real_server, .. } = &mut operations[0] {
                    *virtual_service =
                        Some(lvs_tund::control::model::ServiceRef::Name(format!("tcp-{}-1", lab.vip)));
                    *real_server = lab.real_servers[0].address.to_string();
                }
                let changed =
                    client.change(&Change::from(operations)).unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(changed.differences.len(), 1);
            }
            println!(
                "  {writes} writes, one after the other: {:.0} per second",
                f64::from(writes) / since.elapsed().as_secs_f64()
            );
            is_over.store(true, Ordering::Relaxed);
            Ok(())
        })?;
        thread::sleep(Duration::from_millis(200));
        let metrics = lab.director.scrape(lab::Cluster::DIRECTOR_METRICS)?;
        let count = |name: &str| metrics.sum(&format!("lvs_tund_director_{name}"), &[]).unwrap_or(0.0) as u64;
        println!(
            "  datagrams sent {}, received {}, transmitted {}, dropped {}",
            sent.load(Ordering::Relaxed),
            count("packets_received_total"),
            count("packets_transmitted_total"),
            count("packets_dropped_total")
        );
    }
    Ok(())
}

/// About 20,000 datagrams per second, in bursts of 20.
fn traffic(lab: &Lab, is_over: &AtomicBool, sent: &AtomicU64) {
    let socket = lab.client().udp_socket().unwrap_or_else(|error| panic!("{error}"));
    let to: (Ipv4Addr, u16) = (lab.vip, 9);
    while !is_over.load(Ordering::Relaxed) {
        for _ in 0..20 {
            sent.fetch_add(u64::from(socket.send_to(b"hello", to).is_ok()), Ordering::Relaxed);
        }
        thread::sleep(Duration::from_millis(1));
    }
}
