//! Checks with the real binary: what they find changes who gets new connections, and programs are notified.

use std::collections::BTreeSet;

use lvs_tund::lab::{self, Cluster};

use super::fixture::{Outcome, ask, ask_times, poll_until, same_subnet, start_real_servers, web};
use super::health::{director_probe, probe};

/// The application of one real server ends and comes back; the companion keeps running.
pub fn application_down() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (mut servers, _daemons) = start_real_servers(&lab)?;
    let told = lab.directory().join("told");
    let head = format!(
        "check = {{ type = \"tcp\", via = \"direct\", interval = \"100ms\", timeout = \"500ms\", rise = 1 }}\n\
         on_change = [{{ command = [\"/bin/sh\", \"-c\", \"cat >> {}\"] }}]\n",
        told.display()
    );
    let director = lab::start_director(&lab, &web(&lab, &head))?;
    let all: BTreeSet<String> = poll_until("answers", || ask_times(&lab, 4).ok()).into_iter().collect();
    assert_eq!(all.len(), 2, "{all:?}");

    drop(servers.remove(0));
    let (first, rip) = (&lab.real_servers[0], lab.real_servers[0].address);
    let line =
        format!("web: real server {} ({rip}) is down: connection refused by {rip} directly", first.name);
    poll_until("the line", || director.log().contains(&line).then_some(()));
    let left: BTreeSet<String> = ask_times(&lab, 10)?.into_iter().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let hook = poll_until("the hook", || {
        let text = std::fs::read_to_string(&told).unwrap_or_default();
        text.lines().find(|line| line.contains("real_server_down")).map(str::to_owned)
    });
    let expected = format!("\"rip\":\"{rip}\"");
    assert!(hook.contains(&expected) && hook.contains("\"live\":1,\"real_servers\":2"), "{hook}");

    let _again = first.serve_http(80)?;
    poll_until("both", || {
        let answers: BTreeSet<String> = ask_times(&lab, 4).ok()?.into_iter().collect();
        (answers == all).then_some(())
    });
    assert!(director.log().contains("is up"), "{}", director.log());
    Ok(())
}

/// With `announce = "healthy"`, clients find no one at the VIP while no real server is up.
pub fn announced_while_healthy() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (mut servers, _daemons) = start_real_servers(&lab)?;
    let head = "announce = \"healthy\"\n\
                check = { type = \"tcp\", via = \"direct\", interval = \"100ms\", timeout = \"500ms\" }\n";
    let director = lab::start_director(&lab, &web(&lab, head))?;
    poll_until("an answer", || ask(&lab).ok());
    servers.clear();
    let silent = format!("this host no longer answers ARP for VIP {}", lab.vip);
    poll_until("silence", || director.log().contains(&silent).then_some(()));
    let _again = lab.real_servers[0].serve_http(80)?;
    poll_until("an answer", || ask(&lab).ok());
    assert_eq!(director_probe(&lab, "/healthz").0, 200);
    Ok(())
}

/// `/healthz` of a real server reports a director's check what it needs to know.
pub fn real_server_says_what_it_serves() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (_servers, _daemons) = start_real_servers(&lab)?;
    let text = format!("alive\nunwraps: yes\n{}: bound", lab.vip);
    let answer = probe(&lab.real_servers[0], Cluster::REAL_SERVER_METRICS, "/healthz");
    assert_eq!(answer, (200, text));
    Ok(())
}
