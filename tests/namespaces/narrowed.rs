//! A path that becomes narrower under running checks of its MTU: what the check reports, what `status` and the metrics show,
//! and that large requests and answers continue.

use std::time::Duration;

use lvs_tund::lab::http::Connection;
use lvs_tund::lab::{self, Daemon, Lab};
use nix::sys::signal::Signal;

use crate::failing::{await_state, check, health_of, web_with};
use crate::fixture::{
    Outcome, assert_conserved, director_count, poll_until, poll_within, routed, same_subnet,
    start_real_server_with, web_address,
};
use crate::host_state::narrow_port;
use crate::serving::command;

const LARGE: usize = 1_000_000;

/// Real servers that leave the size of the clients' segments alone, so that only the director keeps them small.
fn start(lab: &Lab, more: &str) -> Result<(Vec<lab::http::Server>, Vec<Daemon>, Daemon), lab::LabError> {
    let web = lab.real_servers.iter().map(|host| host.serve_http(80)).collect::<Result<_, _>>()?;
    let start = |host| start_real_server_with(lab, host, "mss = \"off\"");
    let real_servers = lab.real_servers.iter().map(start).collect::<Result<_, _>>()?;
    let director = lab::start_director(lab, &web_with(lab, &check("mtu", more)))?;
    for host in &lab.real_servers {
        let measured = || (health_of(lab, &host.name)["checks"][0]["path_mtu"] == 1500).then_some(());
        poll_until("a size", measured);
    }
    Ok((web, real_servers, director))
}

/// As many large requests as real servers, each with a large answer, and who has served them.
fn transfer(lab: &Lab, by: &[&str]) -> Outcome {
    let mut names = Vec::new();
    for _ in &lab.real_servers {
        let (name, length) = lab.client().run(|| -> std::io::Result<_> {
            let mut connection = Connection::open(web_address(lab).into(), Duration::from_secs(10))?;
            let name = connection.post("/", &vec![7; LARGE])?.text();
            Ok((name, connection.get(&format!("/bytes/{LARGE}"))?.body.len()))
        })?;
        assert_eq!(length, LARGE);
        names.push(name);
    }
    names.sort();
    assert_eq!(names, by);
    Ok(())
}

/// Waits until these sizes are used and found for the first real server.
fn await_path_mtu(lab: &Lab, used: u64, found: u64) {
    let of = |name: &str| director_count(lab, name, &[("real_server", "server2")]);
    let mut now = (0, 0);
    poll_within(Duration::from_secs(15), &format!("path MTU {used}, found {found}"), || {
        now = (of("real_server_path_mtu_bytes"), of("real_server_path_mtu_found_bytes"));
        (now == (used, found)).then_some(())
    });
}

/// A trouble's text has what follows the semicolon as its remedy.
const WARNING: &str = "packets of 1480 bytes do not pass";

const WORDS: &str =
    "packets of 1480 bytes do not pass; the largest that passed has 1380, 1400 with the encapsulation";

/// A switch drops what is longer, and reports nothing: the check finds out, and its size is used.
pub fn in_silence() -> Outcome {
    let lab = same_subnet(2).build()?;
    let _running = start(&lab, ", smaller = \"warn\"")?;
    transfer(&lab, &["server2", "server3"])?;
    narrow_port(&lab.middle, "server2", 1400);
    await_path_mtu(&lab, 1400, 1400);
    let health = health_of(&lab, "server2");
    assert_eq!(
        (&health["state"], &health["checks"][0]["warning"]),
        (&"up".into(), &WORDS.into()),
        "{health}"
    );
    poll_until("the warning in the status", || {
        command(&lab, &["status"]).ok()?.contains(WARNING).then_some(())
    });
    transfer(&lab, &["server2", "server3"])?;
    narrow_port(&lab.middle, "server2", 1500);
    await_path_mtu(&lab, 1500, 1500);
    poll_until("no warning", || (!command(&lab, &["status"]).ok()?.contains(WARNING)).then_some(()));
    transfer(&lab, &["server2", "server3"])?;
    assert_conserved(&lab)
}

/// A router reports it to the director: for `smaller = "fail"` the real server is down anyway, and where it is up again
/// as one for which less is enough, clients' packets have the size that passes.
pub fn with_a_report() -> Outcome {
    let lab = routed(2).build()?;
    let mut running = start(&lab, "")?;
    transfer(&lab, &["server2", "server3"])?;
    lab.set_path_mtu(0, 1400)?;
    await_state(&lab, "server2", "down");
    await_path_mtu(&lab, 1400, 1400);
    let health = health_of(&lab, "server2");
    assert_eq!(health["checks"][0]["last_error"]["class"], "mtu", "{health}");
    let words = format!("large packets do not reach 172.25.12.2 through the tunnel ({WORDS})");
    assert!(health["why"].as_str().is_some_and(|why| why.starts_with(&words)), "{health}");
    poll_until("the reason in the status", || {
        command(&lab, &["status"]).ok()?.contains(&words).then_some(())
    });
    transfer(&lab, &["server3"; 2])?;

    lab.director.write_file("director.toml", &web_with(&lab, &check("mtu", ", size = 1380")))?;
    running.2.signal(Signal::SIGHUP)?;
    await_state(&lab, "server2", "up");
    transfer(&lab, &["server2", "server3"])?;
    assert_eq!(health_of(&lab, "server3")["state"], "up");
    assert_conserved(&lab)
}
