//! Devices that other programs set down, rename, delete or create again while a daemon runs.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lvs_tund::lab::{self, CapturedPacket, Cluster, Filter, Host, Lab, LabError};
use nix::sys::signal::Signal;

use crate::fixture::{
    Outcome, PATIENCE, ask_times, assert_conserved, assert_round_robin, poll_until, same_subnet,
    start_real_servers, stop, web, web_address,
};
use crate::host_state::{add_bridge, assert_same, delete_address, delete_link, rename_link, set_down, state};

/// Within which traffic flows again.
const CURE: Duration = Duration::from_secs(2);

/// What is done to a device, and the line in the log.
type Deed = (fn(&Host, &str), &'static str);

const DEEDS: [Deed; 3] = [
    (set_down, "was set down by another program; set it up again"),
    (|host, device| rename_link(host, device, "other0"), "was renamed other0 by another program"),
    (delete_link, "was deleted by another program; created it again"),
];

/// A connection that is open meanwhile continues within [`CURE`], and new ones are served.
fn assert_served(lab: &Lab, kept: &mut lab::http::Connection, server: &str, what: &str) -> Outcome {
    let since = Instant::now();
    assert_eq!(kept.get("/").map_err(|error| format!("{what}: {error}"))?.text(), server, "{what}");
    let took = since.elapsed();
    assert!(took < CURE, "{what}: it took {took:?}");
    let answers = ask_times(lab, 4).map_err(|error| format!("{what}: {error}"))?;
    assert_round_robin(&answers, 2);
    Ok(())
}

pub fn of_director() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let before = state(&lab.director);
    let mut director = lab::start_director(&lab, &web(&lab, "queues = 2"))?;
    let mut kept = lab.client().connect(web_address(&lab))?;
    let server = kept.get("/")?.text();
    // Twice each: nothing may be left of the first time.
    for (deed, text) in DEEDS.into_iter().chain(DEEDS) {
        deed(&lab.director, "lvsd0");
        assert_served(&lab, &mut kept, &server, text)
            .map_err(|failed| format!("{:?}: {}", failed.message(), director.log()))?;
        director.wait_for_log(text, PATIENCE)?;
    }
    for (_, text) in DEEDS {
        assert_eq!(director.log().matches(text).count(), 2, "{}", director.log());
    }
    assert!(!director.log().contains("degraded"), "{}", director.log());
    assert_conserved(&lab)?;
    stop(&mut director)?;
    assert_same(&before, &state(&lab.director), "the director's host");
    Ok(())
}

pub fn of_real_server() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, mut real_servers) = start_real_servers(&lab)?;
    let _director = lab::start_director(&lab, &web(&lab, ""))?;
    let (host, daemon) = (&lab.real_servers[0], &mut real_servers[0]);
    let mut kept = lab.client().connect(web_address(&lab))?;
    assert_eq!(kept.get("/")?.text(), "server2");
    for (deed, text) in DEEDS.into_iter().chain(DEEDS) {
        deed(host, "lvsr0");
        assert_served(&lab, &mut kept, "server2", text)?;
        daemon.wait_for_log(text, PATIENCE)?;
    }
    assert_conserved(&lab)?;
    stop(daemon)?;
    let names = host.interfaces()?;
    assert!(!names.iter().any(|name| name.starts_with("lvs") || name == "other0"), "{names:?}");
    Ok(())
}

/// While another device has its name the state is degraded, with the remedy in words, and a line when that is over.
pub fn taken() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    let mut kept = lab.client().connect(web_address(&lab))?;
    let server = kept.get("/")?.text();
    add_bridge(&lab.director, "spare0");
    // In one step, so that the name is taken before the director looks.
    director.signal(Signal::SIGSTOP)?;
    delete_link(&lab.director, "lvsd0");
    rename_link(&lab.director, "spare0", "lvsd0");
    director.signal(Signal::SIGCONT)?;
    let why = "TUN device lvsd0 was deleted and cannot be created again: interface lvsd0 already exists";
    director.wait_for_log(&format!("director: degraded: {why}"), PATIENCE)?;
    delete_link(&lab.director, "lvsd0");
    assert_served(&lab, &mut kept, &server, "free again")?;
    director.wait_for_log(&format!("s: {why}"), PATIENCE)?;
    assert_eq!(director.log().matches(why).count(), 2, "once each: {}", director.log());
    assert_conserved(&lab)
}

pub fn interface_replaced() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    let mut kept = lab.client().connect(web_address(&lab))?;
    let server = kept.get("/")?.text();
    let logged = |text: &str, times: usize| {
        poll_until(text, || (director.log().matches(text).count() == times).then_some(()));
    };
    for round in 1..=2 {
        lab.replace_interface(|| logged("degraded: interface eth0 does not exist", round))?;
        assert_served(&lab, &mut kept, &server, "replaced")
            .map_err(|failed| format!("{:?}: {}", failed.message(), director.log()))?;
        // The second time it has to hold for longer.
        logged("s: interface eth0 does not exist", 1);
    }
    assert_conserved(&lab)?;
    stop(&mut director)
}

/// Nothing but the name has changed: the kernel keeps settings and neighbours, and the rest is made again.
pub fn interface_renamed() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let before = state(&lab.director);
    let mut director = lab::start_director(&lab, &web(&lab, ""))?;
    let mut kept = lab.client().connect(web_address(&lab))?;
    let server = kept.get("/")?.text();
    for (from, to) in [("eth0", "wan0"), ("wan0", "eth0")] {
        rename_link(&lab.director, from, to);
        director.wait_for_log(&format!("interface {from} has been renamed {to}"), PATIENCE)?;
        assert_served(&lab, &mut kept, &server, to)?;
    }
    assert_eq!(
        director.log().matches("interface eth0 has been renamed wan0").count(),
        1,
        "{}",
        director.log()
    );
    assert_conserved(&lab)?;
    stop(&mut director)?;
    assert_same(&before, &state(&lab.director), "the director's host");
    Ok(())
}

/// DHCP gives the director another address: outer packets have it as their source within a second.
pub fn renumbered() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, real_servers) = start_real_servers(&lab)?;
    drop(real_servers);
    let vip = lab.vip.to_string();
    let start = |host: &Host| {
        let mut daemon = host.spawn_daemon(&["realserver", "--vip", &vip, "--director", "172.25.3.0/24"])?;
        daemon.wait_until_ready(host, Cluster::REAL_SERVER_METRICS)?;
        Ok(daemon)
    };
    let _real_servers = lab.real_servers.iter().map(start).collect::<Result<Vec<_>, LabError>>()?;
    let _director = lab::start_director(&lab, &web(&lab, ""))?;
    let mut kept = lab.client().connect(web_address(&lab))?;
    let server = kept.get("/")?.text();
    for last in [51, 52] {
        let next = Ipv4Addr::new(172, 25, 3, last);
        let before = if last == 51 { lab.director.address } else { Ipv4Addr::new(172, 25, 3, 51) };
        let host = lab.real_servers.iter().find(|host| host.name == server).expect("its host");
        let capture = host.capture(Filter { source: Some(next), destination: Some(host.address) })?;
        delete_address(&lab.director, before);
        lab.director.add_address(next, lab.director.prefix_length)?;
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let client = scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(kept.get("/").expect("an answer").text(), server);
                }
            });
            let is_new = |packets: &[CapturedPacket]| packets.iter().any(|packet| packet.protocol() == 4);
            let is_seen = capture.wait_until(Duration::from_secs(1), is_new);
            is_over.store(true, Ordering::Relaxed);
            client.join().expect("the connection lives");
            assert!(is_seen, "no outer packet from {next} within a second");
        });
    }
    assert_conserved(&lab)
}
