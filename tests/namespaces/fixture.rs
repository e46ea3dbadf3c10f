//! What every test with the real binary needs: labs that start it, configurations, and the conservation of packets.

#![allow(dead_code, reason = "only the namespace tests use all of it")]

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use lvs_tund::lab::{
    self, Capture, CapturedPacket, Cluster, Daemon, Filter, Host, Lab, LabError, Scrape, Topology,
};
use lvs_tund::metrics::names;

pub type Outcome = Result<(), Failed>;

/// Longer than anything awaited here takes, shorter than patience.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks at something that is awaited.
const TICK: Duration = Duration::from_millis(5);

/// Everyone in one subnet, the real binary as the lab's program.
pub fn same_subnet(real_servers: usize) -> Topology {
    Topology::same_subnet(real_servers).with_program(env!("CARGO_BIN_EXE_lvs-tund"))
}

/// Everyone behind a router.
pub fn routed(real_servers: usize) -> Topology {
    Topology::routed(real_servers).with_program(env!("CARGO_BIN_EXE_lvs-tund"))
}

/// Web servers and real servers; the director is the test's own affair.
pub fn start_real_servers(lab: &Lab) -> Result<(Vec<lab::http::Server>, Vec<Daemon>), LabError> {
    let web = lab.real_servers.iter().map(|host| host.serve_http(80)).collect::<Result<_, _>>()?;
    let daemons =
        lab.real_servers.iter().map(|host| lab::start_real_server(lab, host)).collect::<Result<_, _>>()?;
    Ok((web, daemons))
}

/// A real server with some keys in addition to the VIP and the director.
pub fn start_real_server_with(lab: &Lab, host: &Host, keys: &str) -> Result<Daemon, LabError> {
    let text = format!("vips = [\"{}\"]\ndirectors = [\"{}\"]\n{keys}\n", lab.vip, lab.director.address);
    let file = host.write_file("realserver.toml", &text)?;
    let mut daemon = host.spawn_daemon(&["realserver".as_ref(), "--config".as_ref(), file.as_os_str()])?;
    daemon.wait_until_ready(host, Cluster::REAL_SERVER_METRICS)?;
    Ok(daemon)
}

/// A virtual service as TOML, with every real server of the lab.
pub fn service(lab: &Lab, name: &str, protocol: &str, port: u16, weight: u32) -> String {
    let mut text = format!(
        "\n[[virtual_service]]\nname = \"{name}\"\nprotocol = \"{protocol}\"\nvip = \"{}\"\nport = {port}\n\
         scheduler = \"rr\"\n",
        lab.vip
    );
    for host in &lab.real_servers {
        text.push_str(&format!(
            "\n[[virtual_service.real_server]]\nname = \"{}\"\nrip = \"{}\"\nweight = {weight}\n",
            host.name, host.address
        ));
    }
    text
}

/// A director's file: `head` are keys of the whole file, `services` come from [`service`].
pub fn configuration(lab: &Lab, head: &str, services: &[String]) -> String {
    format!("interface = \"{}\"\n{head}\n{}", lab.director.interface(), services.concat())
}

/// The director's file with one service `web` and some keys for the whole file.
pub fn web(lab: &Lab, head: &str) -> String {
    configuration(lab, head, &[service(lab, "web", "tcp", 80, 1)])
}

/// Who answers a request of the first client for the VIP, or why no one does.
pub fn ask(lab: &Lab) -> Result<String, io::Error> {
    Ok(lab.client().get((lab.vip, 80), "/")?.text())
}

/// `count` requests one after the other.
pub fn ask_times(lab: &Lab, count: usize) -> Result<Vec<String>, io::Error> {
    (0..count).map(|_| ask(lab)).collect()
}

/// The real servers took turns in one order, beginning anywhere.
pub fn assert_round_robin(answers: &[String], real_servers: usize) {
    for (turn, answer) in answers.iter().enumerate() {
        match turn.checked_sub(real_servers) {
            Some(before) => assert_eq!(*answer, answers[before], "{answers:?}"),
            None => assert!(!answers[..turn].contains(answer), "{answers:?}"),
        }
    }
}

/// Everything from the VIP to the first client that passes the director's interface, either way.
pub fn capture_replies_at_director(lab: &Lab) -> Result<Capture, LabError> {
    lab.director.capture(Filter { source: Some(lab.vip), destination: Some(lab.client().address) })
}

pub fn web_address(lab: &Lab) -> SocketAddrV4 {
    SocketAddrV4::new(lab.vip, 80)
}

/// Polls until `attempt` returns something; fails with what was awaited.
pub fn poll_until<T>(what: &str, attempt: impl FnMut() -> Option<T>) -> T {
    poll_within(PATIENCE, what, attempt)
}

/// As [`poll_until`], for what takes longer by its configuration.
pub fn poll_within<T>(patience: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not happen within {patience:?}");
        std::thread::sleep(TICK);
    }
}

pub fn director_metrics(lab: &Lab) -> Result<Scrape, LabError> {
    lab.director.scrape(Cluster::DIRECTOR_METRICS)
}

/// One counter of the director, summed over its series with these labels; 0 where what they describe is not there yet.
pub fn director_count(lab: &Lab, name: &str, labels: &[(&str, &str)]) -> u64 {
    let scrape = director_metrics(lab).expect("the director's metrics");
    count(&scrape, &format!("lvs_tund_director_{name}"), labels)
}

/// One counter of a real server.
pub fn real_server_count(host: &Host, name: &str, labels: &[(&str, &str)]) -> u64 {
    let scrape = host.scrape(Cluster::REAL_SERVER_METRICS).expect("the real server's metrics");
    count(&scrape, &format!("lvs_tund_realserver_{name}"), labels)
}

pub fn dropped(lab: &Lab, reason: &str) -> u64 {
    director_count(lab, "packets_dropped_total", &[("reason", reason)])
}

pub fn replied(lab: &Lab, kind: &str) -> u64 {
    director_count(lab, "packets_replied_total", &[("kind", kind)])
}

fn count(scrape: &Scrape, name: &str, labels: &[(&str, &str)]) -> u64 {
    let entry = names::find(name).unwrap_or_else(|| panic!("{name} is no metric"));
    // These series come with what they describe; all others are there from the beginning, and none of them is 0
    // because a label is misspelt.
    let comes_later = ["cause", "virtual_service", "real_server", "interface"];
    let may_be_missing = entry.labels.iter().any(|label| comes_later.contains(label));
    let sum = scrape.sum(name, labels);
    assert!(sum.is_some() || may_be_missing, "{name} has no series with {labels:?}");
    sum.unwrap_or(0.0) as u64
}

/// Every packet has exactly one fate: received = transmitted + replied + passed + held + Σ dropped, by the director's own
/// account and by that of each real server that runs; `transmitted` may be polled until the last packet is through.
///
/// # Errors
/// When the accounts do not agree within the patience.
pub fn assert_conserved(lab: &Lab) -> Outcome {
    poll_for_agreement(|| {
        let scrape = director_metrics(lab)?;
        let of = |name: &str| count(&scrape, &format!("lvs_tund_director_{name}"), &[]);
        let fates = [
            of("packets_transmitted_total"),
            of("packets_replied_total"),
            of("packets_passed_total"),
            of("packets_held"),
            of("packets_dropped_total"),
        ];
        agree("director", of("packets_received_total"), &fates)
    })?;
    for host in &lab.real_servers {
        // A real server that does not run has no account.
        if host.scrape(Cluster::REAL_SERVER_METRICS).is_err() {
            continue;
        }
        poll_for_agreement(|| {
            let of = |name: &str| real_server_count(host, name, &[]);
            let fates = [of("packets_delivered_total"), of("packets_dropped_total")];
            agree(&host.name, of("packets_received_total"), &fates)
        })?;
    }
    Ok(())
}

/// What the director sent is what the real servers received; not where one was killed before that.
///
/// # Errors
/// As [`assert_conserved`], which it includes.
pub fn assert_nothing_lost(lab: &Lab) -> Outcome {
    assert_conserved(lab)?;
    poll_for_agreement(|| {
        let sent = director_count(lab, "packets_transmitted_total", &[]);
        let received: Vec<u64> = lab
            .real_servers
            .iter()
            .map(|host| real_server_count(host, "packets_received_total", &[]))
            .collect();
        agree("the network of the real servers", sent, &received)
    })
}

fn agree(who: &str, whole: u64, parts: &[u64]) -> Outcome {
    match parts.iter().sum::<u64>() == whole {
        true => Ok(()),
        false => Err(format!("{who}: {whole} is not the sum of {parts:?}").into()),
    }
}

fn poll_for_agreement(mut look: impl FnMut() -> Outcome) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(()) => return Ok(()),
            Err(disagreement) if Instant::now() > deadline => return Err(disagreement),
            Err(_) => std::thread::sleep(TICK),
        }
    }
}

/// Ends a daemon as an operator does; fails unless it ends well and quickly.
pub fn stop(daemon: &mut Daemon) -> Outcome {
    let since = Instant::now();
    let status = daemon.stop()?;
    let took = since.elapsed();
    assert!(status.success(), "{} ended with {status}:\n{}", daemon.name(), daemon.log());
    assert!(took < Duration::from_secs(1), "{} took {took:?} to end", daemon.name());
    Ok(())
}

/// The quoted packet's ICMP type and code, if this is ICMP.
pub fn icmp_type(packet: &CapturedPacket) -> Option<(u8, u8)> {
    let header = usize::from(packet.bytes[0] & 15) * 4;
    (packet.protocol() == 1).then(|| (packet.bytes[header], packet.bytes[header + 1]))
}

/// A capture of everything that comes to the first client from this address.
pub fn capture_at_client(lab: &Lab, source: Ipv4Addr) -> Result<Capture, LabError> {
    lab.client().capture(Filter { source: Some(source), destination: Some(lab.client().address) })
}
