//! Checks in bad surroundings: applications that behave badly, a director without descriptors,
//! everything down at once, another address of the director.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use lvs_tund::lab::{self, Cluster, Daemon, Host, Lab, LabError};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use socket2::SockRef;

use crate::failing::{Site, await_state, check, health_of, web_with};
use crate::fixture::{
    Outcome, PATIENCE, ask_times, assert_conserved, assert_round_robin, director_metrics, poll_until,
    same_subnet, start_real_servers, stop,
};
use crate::host_state::delete_address;
use crate::probing::connections;
use crate::serving::command;

pub const PROBES: &str = "lvs_tund_director_real_server_probes_total";

/// Probes of all virtual services that have ended.
pub fn probes(lab: &Lab, labels: &[(&str, &str)]) -> Result<f64, LabError> {
    Ok(director_metrics(lab)?.sum(PROBES, labels).unwrap_or(0.0))
}

/// Accepts nothing: the kernel completes the connections, which the probes end with a reset.
pub fn quiet_listener(host: &Host, port: u16) -> Result<TcpListener, Failed> {
    Ok(host.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))?)
}

/// An application that behaves in one way on each connection; it ends with its value.
struct Odd {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Odd {
    fn start(host: &Host, port: u16, behaviour: fn(TcpStream)) -> Result<Odd, Failed> {
        let listener = quiet_listener(host, port)?;
        listener.set_nonblocking(true)?;
        let ends = Arc::new(AtomicBool::new(false));
        let is_over = ends.clone();
        let thread = host.namespace.start(move || {
            let mut workers = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => workers.push(std::thread::spawn(move || {
                        let patience = Some(Duration::from_secs(2));
                        let _ = stream.set_nonblocking(false);
                        let _ = stream.set_read_timeout(patience).and(stream.set_write_timeout(patience));
                        behaviour(stream);
                    })),
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
            for worker in workers {
                let _ = worker.join();
            }
        })?;
        Ok(Odd { ends, thread: Some(thread) })
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn read_request(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0; 4096]);
}

/// The behaviour of an application, and the words of a check that meets it.
type Behaviour = (&'static str, &'static str, fn(TcpStream));

const BEHAVIOURS: &[Behaviour] = &[
    ("is silent", "no answer in time from", |mut stream| {
        // Until the probe has ended.
        while stream.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {}
    }),
    ("resets", "connection reset by", |mut stream| {
        read_request(&mut stream);
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }),
    ("half-closes", "closed too early by", |mut stream| {
        read_request(&mut stream);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        read_request(&mut stream);
    }),
    ("floods", "answer", |mut stream| {
        read_request(&mut stream);
        while stream.write_all(&[b'x'; 65536]).is_ok() {}
    }),
    ("floods the head", "answer", |mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"A: b\r\n".repeat(1000).as_slice()).is_ok() {}
    }),
    ("answers garbage", "invalid answer from", |mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(b"\0\x01\x02 garbage\r\n\r\n");
    }),
    ("drips", "status 200, but no end of the answer in time", |mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nA: ");
        // Longer than a probe; the last one may have ended without a word, with its director.
        for _ in 0..50 {
            let _ = stream.write_all(b"b");
            std::thread::sleep(Duration::from_millis(20));
        }
    }),
];

/// Each real server that behaves badly is down in words; the last one serves, and the director is as quick as before.
pub fn odd_applications() -> Outcome {
    let lab = same_subnet(BEHAVIOURS.len() + 1).build()?;
    let (good, odd) = lab.real_servers.split_last().expect("real servers");
    let _real_servers: Vec<Daemon> =
        lab.real_servers.iter().map(|host| lab::start_real_server(&lab, host)).collect::<Result<_, _>>()?;
    let _web = good.serve_http(80)?;
    let _odd = odd
        .iter()
        .zip(BEHAVIOURS)
        .map(|(host, (.., behaviour))| Odd::start(host, 80, *behaviour))
        .collect::<Result<Vec<_>, _>>()?;
    let _director = lab::start_director(&lab, &web_with(&lab, &check("http", "")))?;
    for (host, (what, words, _)) in odd.iter().zip(BEHAVIOURS) {
        await_state(&lab, &host.name, "down");
        let health = health_of(&lab, &host.name);
        let why = health["why"].as_str().unwrap_or_default();
        println!("{what}: {why}");
        assert!(why.contains(words) && why.contains("through the tunnel"), "{what}: {why}");
    }
    let probed = |host: &Host| probes(&lab, &[("real_server", &host.name)]).unwrap_or_default();
    let before: Vec<f64> = odd.iter().map(probed).collect();
    poll_until("more probes of each", || {
        odd.iter().zip(&before).all(|(host, before)| probed(host) > before + 2.0).then_some(())
    });
    await_state(&lab, &good.name, "up");
    let begun = Instant::now();
    assert_eq!(ask_times(&lab, 10)?, vec![good.name.clone(); 10]);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_conserved(&lab)
}

/// A director that stops in the middle of a probe resets its connection: an application without a timeout would keep it.
pub fn stopped() -> Outcome {
    let lab = same_subnet(1).build()?;
    let host = &lab.real_servers[0];
    let _real_server = lab::start_real_server(&lab, host)?;
    let _silent = quiet_listener(host, 80)?;
    let keys = "check = { type = \"http\", interval = \"100ms\", timeout = \"30s\" }\n";
    let mut director = lab::start_director(&lab, &web_with(&lab, keys))?;
    poll_until("a probe", || (connections(host) == 1).then_some(()));
    stop(&mut director)?;
    poll_until("no connection", || (connections(host) == 0).then_some(()));
    Ok(())
}

/// Probes that cannot be opened prove nothing about real servers: these keep their states, and the trouble is reported.
pub fn no_descriptors() -> Outcome {
    let lab = same_subnet(2).build()?;
    let mut site = Site::start(&lab, &check("tcp", ""))?;
    drop(site.web.remove(0));
    await_state(&lab, "server2", "down");
    let id = Pid::from_raw(site.director.id() as i32);
    let allow = |files| {
        let limit = Rlimit { current: Some(files), maximum: Some(1024) };
        prlimit(id, Resource::Nofile, limit).map(drop)
    };
    allow(3)?;
    site.director.wait_for_log("cannot be made, and its real server keeps its state", PATIENCE)?;
    let before = site.director.log().len();
    std::thread::sleep(Duration::from_secs(1));
    let said = site.director.log()[before..].to_owned();
    assert!(!said.contains("is down") && !said.contains("is up"), "{said}");
    assert_eq!(ask_times(&lab, 4)?, ["server3"; 4], "clients need no descriptor of the director");
    allow(1024)?;
    let _web = lab.real_servers[0].serve_http(80)?;
    await_state(&lab, "server2", "up");
    let said = poll_until("no trouble", || {
        let said = command(&lab, &["status"]).ok()?;
        (!said.contains("cannot be made")).then_some(said)
    });
    assert!(said.contains("web"), "{said}");
    Ok(())
}

/// All applications end at once and are back at once, and each change is reported once.
pub fn all_at_once() -> Outcome {
    let lab = same_subnet(8).build()?;
    let (mut web, _real_servers) = start_real_servers(&lab)?;
    let director = lab::start_director(&lab, &web_with(&lab, &check("tcp", ", start = \"down\"")))?;
    let all_are = |state: &str| lab.real_servers.iter().for_each(|host| await_state(&lab, &host.name, state));
    all_are("up");
    let lines = |words: &str| director.log().lines().filter(|line| line.contains(words)).count();
    for round in 1..=2 {
        web.clear();
        all_are("down");
        assert!(ask_times(&lab, 1).is_err());
        web = lab.real_servers.iter().map(|host| host.serve_http(80)).collect::<Result<_, _>>()?;
        all_are("up");
        assert_round_robin(&ask_times(&lab, 16)?, 8);
        // The first time is that of the start. A line follows what the API shows.
        let told = || (lines(") is down"), lines(") is up"));
        poll_until("a line for each change", || (told() == (8 * round, 8 * (round + 1))).then_some(()));
    }
    assert_conserved(&lab)
}

/// DHCP gives the director another address: probes leave with it, and no real server goes down for longer than it takes.
pub fn renumbered() -> Outcome {
    let lab = same_subnet(2).build()?;
    let _web: Vec<_> = lab.real_servers.iter().map(|host| host.serve_http(80)).collect::<Result<_, _>>()?;
    let vip = lab.vip.to_string();
    let start = |host: &Host| -> Result<Daemon, LabError> {
        let mut daemon = host.spawn_daemon(&["realserver", "--vip", &vip, "--director", "172.25.3.0/24"])?;
        daemon.wait_until_ready(host, Cluster::REAL_SERVER_METRICS)?;
        Ok(daemon)
    };
    let _real_servers = lab.real_servers.iter().map(start).collect::<Result<Vec<_>, _>>()?;
    let _director = lab::start_director(&lab, &web_with(&lab, &check("http", ", start = \"down\"")))?;
    await_state(&lab, "server2", "up");
    delete_address(&lab.director, lab.director.address);
    lab.director.add_address(Ipv4Addr::new(172, 25, 3, 51), lab.director.prefix_length)?;
    let successes = || Some([0, 1].map(|index: usize| successes(&lab, &lab.real_servers[index].name)));
    let before = successes().unwrap_or_default();
    poll_until("probes with the new address", || {
        let now = successes()?;
        (now[0] > before[0] + 3 && now[1] > before[1] + 3).then_some(())
    });
    for host in &lab.real_servers {
        await_state(&lab, &host.name, "up");
    }
    assert_round_robin(&ask_times(&lab, 4)?, 2);
    assert_conserved(&lab)
}

fn successes(lab: &Lab, name: &str) -> u64 {
    health_of(lab, name)["checks"][0]["successes"].as_u64().unwrap_or(0)
}
