//! Checks through the tunnel with the real binaries: how long clients are sent to a real server that does not serve,
//! and what follows for the virtual service.
//!
//! `cargo test --test namespaces -- checks_take --nocapture` prints how long each kind of failure takes, next to the time
//! that keepalived needs according to its manual with the same settings.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lvs_tund::control::Client;
use lvs_tund::lab::http::{Connection, Server};
use lvs_tund::lab::{self, Cluster, Daemon, Host, Lab, LabError};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::fixture::{
    Outcome, ask, ask_times, assert_conserved, assert_round_robin, configuration, director_metrics,
    poll_until, same_subnet, service, start_real_servers, web_address,
};

pub const INTERVAL: Duration = Duration::from_millis(300);
const TIMEOUT: Duration = Duration::from_millis(300);
pub const FALL: u32 = 2;

/// What a test allows for scheduling on a busy machine, in addition to the times in the configuration.
const SLACK: Duration = Duration::from_millis(400);

/// The keys of a check; a busy machine may take a while to answer.
pub fn check(kind: &str, more: &str) -> String {
    check_within(Duration::from_secs(1), kind, more)
}

fn check_within(timeout: Duration, kind: &str, more: &str) -> String {
    let (interval, timeout) = (INTERVAL.as_millis(), timeout.as_millis());
    format!(
        "check = {{ type = \"{kind}\", interval = \"{interval}ms\", timeout = \"{timeout}ms\", rise = 1, fall = {FALL}{more} }}\n"
    )
}

pub fn head(lab: &Lab, keys: &str) -> String {
    format!("control = \"{}\"\n{keys}", Cluster::control_path(lab).display())
}

/// The virtual service `web` on port 80 with these keys.
pub fn web_with(lab: &Lab, keys: &str) -> String {
    let web = service(lab, "web", "tcp", 80, 1);
    let at = web.find("scheduler").expect("a key");
    configuration(lab, &head(lab, ""), &[format!("{}{keys}{}", &web[..at], &web[at..])])
}

pub fn client(lab: &Lab) -> Client {
    Client::new(Some(&Cluster::control_path(lab))).expect("a client")
}

/// The service as the API shows it.
pub fn shown(lab: &Lab) -> Value {
    let all: Value = client(lab).get("/api/v1/virtual_services").expect("the virtual services");
    all["virtual_services"][0].clone()
}

/// The health of a real server as the API shows it.
pub fn health_of(lab: &Lab, name: &str) -> Value {
    let servers = shown(lab)["real_servers"].as_array().cloned().unwrap_or_default();
    let server = servers.into_iter().find(|server| server["name"] == name).expect("the real server");
    server["health"].clone()
}

/// A gauge of the director; its series are there as long as what they describe.
fn director_gauge(lab: &Lab, name: &str) -> i64 {
    let scrape = director_metrics(lab).expect("the metrics");
    scrape.sum(&format!("lvs_tund_director_{name}"), &[]).expect("the series") as i64
}

pub fn await_state(lab: &Lab, name: &str, state: &str) {
    poll_until(&format!("{name} is {state}"), || (health_of(lab, name)["state"] == state).then_some(()));
}

/// One request of a client: when it began, and who answered.
pub struct Asked {
    pub at: Instant,
    pub answer: Option<String>,
}

/// Requests on new connections, about a hundred a second, while `during` runs.
pub fn ask_during(lab: &Lab, during: impl FnOnce() -> Outcome) -> Result<Vec<Asked>, libtest_mimic::Failed> {
    let ends = AtomicBool::new(false);
    let vip = SocketAddr::from(web_address(lab));
    let ask = || {
        let mut asked = Vec::new();
        while !ends.load(Ordering::Relaxed) {
            let at = Instant::now();
            let answer = Connection::open(vip, Duration::from_millis(250)).and_then(|mut it| it.get("/"));
            let answer = answer.ok().map(|answer| answer.text());
            asked.push(Asked { at, answer });
            std::thread::sleep(Duration::from_millis(40));
        }
        asked
    };
    std::thread::scope(|scope| {
        let client = lab.client();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| client.run(ask))).collect();
        let outcome = during();
        ends.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().expect("a client"));
        }
        outcome.map(|()| all)
    })
}

/// Two real servers behind a director with these keys in its virtual service.
pub struct Site {
    pub web: Vec<Server>,
    pub real_servers: Vec<Daemon>,
    pub director: Daemon,
}

impl Site {
    pub fn start(lab: &Lab, keys: &str) -> Result<Site, libtest_mimic::Failed> {
        let (web, real_servers) = start_real_servers(lab)?;
        let director = lab::start_director(lab, &web_with(lab, keys))?;
        for host in &lab.real_servers {
            await_state(lab, &host.name, "up");
        }
        Ok(Site { web, real_servers, director })
    }
}

/// How long after `fail` the last request failed; all later ones are answered by the other real server.
fn last_failure(lab: &Lab, fail: impl FnOnce() -> Outcome) -> Result<Duration, libtest_mimic::Failed> {
    let mut failed_at = Instant::now();
    let asked = ask_during(lab, || {
        std::thread::sleep(Duration::from_millis(300));
        failed_at = Instant::now();
        fail()?;
        std::thread::sleep(2 * bound(true) + SLACK);
        Ok(())
    })?;
    let is_early = |asked: &&Asked| asked.at + Duration::from_millis(100) < failed_at;
    assert!(asked.iter().filter(is_early).all(|asked| asked.answer.is_some()), "a request failed too early");
    let last = asked.iter().filter(|asked| asked.answer.is_none()).map(|asked| asked.at).max();
    let last = last.map_or(Duration::ZERO, |last| last.saturating_duration_since(failed_at));
    let late = asked.iter().filter(|asked| asked.at > failed_at + last + Duration::from_millis(1));
    let mut answers = BTreeMap::new();
    late.for_each(|asked| *answers.entry(asked.answer.as_deref()).or_insert(0) += 1);
    assert_eq!(answers.keys().collect::<Vec<_>>(), [&Some("server3")], "{answers:?}");
    Ok(last)
}

/// The longest time until a check notices a failure: it happens just after a probe, then `FALL` probes fail; where nothing
/// answers, the last of them takes its timeout.
fn bound(is_silent: bool) -> Duration {
    INTERVAL * FALL + if is_silent { TIMEOUT } else { Duration::ZERO }
}

/// keepalived's TCP_CHECK with the same times (keepalived.conf(5)): `delay_loop` is a pause after a check, `retry`
/// further attempts follow after `delay_before_retry`, and each may take `connect_timeout`.
fn keepalived(is_silent: bool) -> Duration {
    let attempt = if is_silent { TIMEOUT } else { Duration::ZERO };
    INTERVAL + attempt + (INTERVAL + attempt) * (FALL - 1)
}

/// A way for the first real server to fail.
struct Failing {
    what: &'static str,
    /// Part of the reason that the check then has.
    words: &'static str,
    is_silent: bool,
    /// keepalived checks the real server's own address, and does not notice at all.
    is_hidden_from_the_rip: bool,
    fail: fn(&Lab, &mut Site) -> Outcome,
}

const FAILINGS: &[Failing] = &[
    Failing {
        what: "application down",
        words: "refused",
        is_silent: false,
        is_hidden_from_the_rip: false,
        fail: |_, site| {
            drop(site.web.remove(0));
            Ok(())
        },
    },
    Failing {
        what: "VIP not bound",
        words: "through the tunnel",
        is_silent: true,
        is_hidden_from_the_rip: true,
        fail: |lab, site| {
            site.real_servers[0].kill()?;
            let host = &lab.real_servers[0];
            site.real_servers[0] = start_real_server_with_vip(lab, host, "172.25.3.250")?;
            Ok(())
        },
    },
    Failing {
        what: "companion killed",
        words: "through the tunnel",
        is_silent: false,
        is_hidden_from_the_rip: true,
        fail: |_, site| {
            site.real_servers[0].kill()?;
            Ok(())
        },
    },
    Failing {
        what: "host gone",
        words: "through the tunnel",
        is_silent: true,
        is_hidden_from_the_rip: false,
        fail: |lab, _| Ok(lab.real_servers[0].set_connected(false)?),
    },
];

/// A real server that accepts packets for another VIP only.
fn start_real_server_with_vip(lab: &Lab, host: &Host, vip: &str) -> Result<Daemon, LabError> {
    let director = lab.director.address.to_string();
    let mut daemon = host.spawn_daemon(&["realserver", "--vip", vip, "--director", &director])?;
    daemon.wait_until_ready(host, Cluster::REAL_SERVER_METRICS)?;
    Ok(daemon)
}

pub fn times() -> Outcome {
    println!(
        "| what fails | last request to it | at most | keepalived with the same times |\n|---|---|---|---|"
    );
    for failing in FAILINGS {
        let lab = same_subnet(2).build()?;
        let mut site = Site::start(&lab, &check_within(TIMEOUT, "tcp", ""))?;
        let last = last_failure(&lab, || (failing.fail)(&lab, &mut site))?;
        let most = bound(failing.is_silent);
        let theirs = match failing.is_hidden_from_the_rip {
            true => "never".to_owned(),
            false => format!("{:?}", keepalived(failing.is_silent)),
        };
        println!("| {} | {last:.0?} | {most:?} | {theirs} |", failing.what);
        assert!(last <= most + SLACK, "{}: {last:?}", failing.what);
        let health = health_of(&lab, "server2");
        let why = health["checks"][0]["why"].as_str().unwrap_or_default();
        assert_eq!(health["state"], "down", "{}: {health}", failing.what);
        assert!(why.contains(failing.words), "{}: {why}", failing.what);
        assert_conserved(&lab)?;
    }
    Ok(())
}

/// The companion's host reports "protocol unreachable": the next client is not sent there.
pub fn companion_killed() -> Outcome {
    let lab = same_subnet(2).build()?;
    let keys = "check = { type = \"tcp\", interval = \"20s\", timeout = \"1s\" }\n";
    let mut site = Site::start(&lab, keys)?;
    site.real_servers[0].kill()?;
    let begun = Instant::now();
    let ask = || {
        Connection::open(web_address(&lab).into(), Duration::from_millis(250)).and_then(|mut it| it.get("/"))
    };
    let failed = lab.client().run(|| {
        let mut failed = 0;
        while ask().is_err() || ask().is_err() || ask().is_err() {
            failed += 1;
            assert!(begun.elapsed() < Duration::from_secs(3), "{failed} failed");
        }
        failed
    });
    assert!(failed <= 3, "{failed} requests failed");
    await_state(&lab, "server2", "down");
    assert!(begun.elapsed() < Duration::from_secs(5), "an ordinary probe would have come later");
    Ok(())
}

/// Each request's answer, or none.
fn answers(lab: &Lab, count: usize) -> Vec<Option<String>> {
    (0..count).map(|_| ask(lab).ok()).collect()
}

/// The sorry server serves while quorum is lost, and only then.
pub fn sorry_server() -> Outcome {
    let lab = same_subnet(3).build()?;
    let (mut web, _real_servers) = start_real_servers(&lab)?;
    let keys = check("tcp", "") + "quorum = 1\n";
    let text = web_with(&lab, &keys) + "sorry = true\n";
    let _director = lab::start_director(&lab, &text)?;
    for name in ["server2", "server3"] {
        await_state(&lab, name, "up");
    }
    let is_sorry = |answer: &Option<String>| answer.as_deref() == Some("server4");
    let answers_now = answers(&lab, 6);
    assert!(
        answers_now.iter().all(|answer| answer.is_some() && !is_sorry(answer)),
        "{answers_now:?} {}",
        shown(&lab)
    );
    let (second, first) = (web.remove(1), web.remove(0));
    drop((first, second));
    for name in ["server2", "server3"] {
        await_state(&lab, name, "down");
    }
    assert!(answers(&lab, 6).iter().all(is_sorry));
    assert_eq!(director_gauge(&lab, "virtual_service_quorum"), 0);
    let _web = lab.real_servers[0].serve_http(80)?;
    await_state(&lab, "server2", "up");
    assert!(answers(&lab, 6).iter().all(|answer| answer.as_deref() == Some("server2")));
    assert_eq!(director_gauge(&lab, "virtual_service_quorum"), 1);
    Ok(())
}

/// All are down, and clients are sent to all of them.
pub fn fail_open() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    // Nothing listens on the port of the check.
    let keys = check("tcp", ", port = 81") + "min_healthy = 1\n";
    let director = lab::start_director(&lab, &web_with(&lab, &keys))?;
    await_state(&lab, "server2", "down");
    await_state(&lab, "server3", "down");
    assert_round_robin(&ask_times(&lab, 6)?, 2);
    assert!(director.log().contains("fail"), "{}", director.log());
    Ok(())
}

/// Its weight rises from the moment of its recovery.
pub fn slow_start() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (mut web, _real_servers) = start_real_servers(&lab)?;
    let keys = check("tcp", "") + "slow_start = \"4s\"\n";
    let text = web_with(&lab, &keys).replace("\"rr\"", "\"wrr\"").replace("weight = 1", "weight = 100");
    let _director = lab::start_director(&lab, &text)?;
    await_state(&lab, "server2", "up");
    drop(web.remove(0));
    await_state(&lab, "server2", "down");
    let _web = lab.real_servers[0].serve_http(80)?;
    await_state(&lab, "server2", "up");
    let share = || {
        let of = answers(&lab, 40).into_iter().filter(|answer| answer.as_deref() == Some("server2"));
        of.count()
    };
    let early = share();
    assert!((1..=14).contains(&early), "{early} of 40 in the beginning");
    poll_until("its whole weight", || (health_of(&lab, "server2")["share"] == 1000).then_some(()));
    let late = share();
    assert!((18..=22).contains(&late), "{late} of 40 in the end");
    Ok(())
}

/// A path that has become narrower stops only large packets: check `mtu` notices.
pub fn narrow_path() -> Outcome {
    let lab = same_subnet(2).build()?;
    let mut site = Site::start(&lab, &check("mtu", ""))?;
    poll_until("a size", || (health_of(&lab, "server2")["checks"][0]["path_mtu"] == 1500).then_some(()));
    // It drops what is longer, and reports nothing.
    lab.real_servers[0].set_mtu(1300)?;
    await_state(&lab, "server2", "down");
    let health = health_of(&lab, "server2");
    let measured = health["checks"][0]["path_mtu"].as_u64().expect("a size");
    assert!((1_000..=1_300).contains(&measured), "{health}");
    assert_eq!(health["checks"][0]["last_error"]["class"], "mtu", "{health}");
    assert_eq!(health_of(&lab, "server3")["state"], "up");
    // A real server that may stay up gets packets of the size that passes.
    let text = web_with(&lab, &check("mtu", ", smaller = \"warn\""));
    let file = lab.director.write_file("director.toml", &text)?;
    assert!(file.exists());
    site.director.signal(Signal::SIGHUP)?;
    let path_mtu = || shown(&lab)["real_servers"][0]["path_mtu_now"].as_u64();
    poll_until("its path MTU", || (path_mtu() == Some(measured)).then_some(()));
    await_state(&lab, "server2", "up");
    lab.real_servers[0].set_mtu(1500)?;
    poll_until("the whole size", || (path_mtu() == Some(1500)).then_some(()));
    Ok(())
}
