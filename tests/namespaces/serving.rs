//! Checks through the tunnel wherever the VIP is, and what follows from them outside the director: programs, ARP answers,
//! commands, reloads.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use lvs_tund::lab::http::Connection;
use lvs_tund::lab::{self, Cluster, Host, Lab};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::failing::{Site, ask_during, await_state, check, health_of, web_with};
use crate::fixture::{
    Outcome, PATIENCE, ask, ask_times, assert_conserved, assert_round_robin, poll_until, same_subnet,
    service, start_real_servers, web_address,
};
use crate::host_state::{add_address, delete_address, neighbour};

/// What a command of this program prints for the lab's director; it has to succeed.
pub fn command(lab: &Lab, arguments: &[&str]) -> Result<String, Failed> {
    let output = Command::new(env!("CARGO_BIN_EXE_lvs-tund"))
        .args(arguments)
        .env("LVS_TUND_CONTROL", Cluster::control_path(lab))
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(said),
        false => Err(format!("{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// The director's file with these keys at the top, and in its virtual service `web`.
fn file(lab: &Lab, top: &str, keys: &str) -> String {
    web_with(lab, keys).replacen("control =", &format!("{top}control ="), 1)
}

/// The names of the real servers that are up, as `lvs-tund status` lists them.
fn listed(lab: &Lab) -> Result<String, Failed> {
    command(lab, &["status"])
}

/// A standby does not take clients' packets: the VIP is at another host, and nothing is announced here.
pub fn standby() -> Outcome {
    for capture in ["rule", "route"] {
        let lab = same_subnet(2).with_stranger().build()?;
        let stranger = lab.stranger.as_ref().expect("another host");
        add_address(stranger, stranger.interface(), lab.vip);
        let (_web, _real_servers) = start_real_servers(&lab)?;
        let top = format!("announce = \"never\"\ncapture = \"{capture}\"\n");
        let _director = lab::start_director(&lab, &file(&lab, &top, &check("tcp", ", start = \"down\"")))?;
        for host in &lab.real_servers {
            await_state(&lab, &host.name, "up");
        }
        let said = listed(&lab)?;
        assert!(!said.contains("down"), "{capture}: {said}");
        assert_eq!(neighbour(stranger, lab.vip), None);
        assert_conserved(&lab)?;
    }
    Ok(())
}

/// The application of one real server ends while another host has the VIP, which then comes here.
pub fn takes_over() -> Outcome {
    let lab = same_subnet(2).with_stranger().build()?;
    let stranger = lab.stranger.as_ref().expect("another host");
    add_address(stranger, stranger.interface(), lab.vip);
    let (mut web, _real_servers) = start_real_servers(&lab)?;
    let file = file(&lab, "announce = \"local\"\n", &check("tcp", ", start = \"down\""));
    let mut director = lab::start_director(&lab, &file)?;
    for host in &lab.real_servers {
        await_state(&lab, &host.name, "up");
    }
    drop(web.remove(0));
    await_state(&lab, "server2", "down");
    let why = health_of(&lab, "server2")["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.starts_with("connection refused by 172.25.3.2 through the tunnel"), "{why}");

    delete_address(stranger, lab.vip);
    add_address(&lab.director, lab.director.interface(), lab.vip);
    director.wait_for_log("is now a local address", PATIENCE)?;
    assert_eq!(ask_times(&lab, 6)?, ["server3"; 6]);
    let _web = lab.real_servers[0].serve_http(80)?;
    await_state(&lab, "server2", "up");
    assert_round_robin(&ask_times(&lab, 6)?, 2);
    assert_conserved(&lab)
}

/// Strict reverse path filters, as on every host of the lab.
pub fn local_vip() -> Outcome {
    let lab = same_subnet(2).build()?;
    add_address(&lab.director, "eth0", lab.vip);
    let mut site = Site::start(&lab, &check("http", ", start = \"down\""))?;
    assert_round_robin(&ask_times(&lab, 6)?, 2);
    drop(site.web.remove(0));
    await_state(&lab, "server2", "down");
    assert_eq!(ask_times(&lab, 4)?, ["server3"; 4]);
    assert_conserved(&lab)
}

/// The director's own host is a real server, too, and is probed without the tunnel.
pub fn local_real_server() -> Outcome {
    let lab = same_subnet(1).build()?;
    add_address(&lab.director, "lo", lab.vip);
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let here = lab.director.serve_http(80)?;
    let keys = check("http", ", start = \"down\"");
    let text =
        web_with(&lab, &keys) + "\n[[virtual_service.real_server]]\nname = \"here\"\nrip = \"127.0.0.1\"\n";
    let _director = lab::start_director(&lab, &text)?;
    for name in ["here", "server2"] {
        await_state(&lab, name, "up");
    }
    assert_round_robin(&ask_times(&lab, 4)?, 2);
    drop(here);
    await_state(&lab, "here", "down");
    let why = health_of(&lab, "here")["checks"][0]["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("refused by 127.0.0.1 on this host"), "{why}");
    assert_eq!(ask_times(&lab, 4)?, ["server2"; 4]);
    let _here = lab.director.serve_http(80)?;
    await_state(&lab, "here", "up");
    assert_round_robin(&ask_times(&lab, 4)?, 2);
    assert_conserved(&lab)
}

/// Events in a file, as the programs of `on_change` have received them.
fn events(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn names(path: &Path) -> Vec<String> {
    events(path).iter().filter_map(|event| Some(event["event"].as_str()?.to_owned())).collect()
}

/// Each change runs the programs that wait for it, once and in order.
pub fn programs_are_told() -> Outcome {
    let lab = same_subnet(2).build()?;
    let [all, quorum] = ["all", "quorum"].map(|name| lab.directory().join(name));
    let writes = |path: &Path| format!("command = [\"/bin/sh\", \"-c\", \"cat >> {}\"]", path.display());
    let top = format!(
        "on_change = [{{ {} }}, {{ when = [\"quorum_lost\", \"quorum_gained\"], {} }}]\n",
        writes(&all),
        writes(&quorum)
    );
    let (mut web, _real_servers) = start_real_servers(&lab)?;
    let _director = lab::start_director(&lab, &file(&lab, &top, &(check("tcp", "") + "quorum = 2\n")))?;
    poll_until("the state at the start", || (names(&all) == ["quorum_gained"]).then_some(()));
    drop(web.remove(0));
    let expected = ["quorum_gained", "real_server_down", "quorum_lost"];
    poll_until("the programs", || (names(&all) == expected).then_some(()));
    let _web = lab.real_servers[0].serve_http(80)?;
    let expected = ["quorum_gained", "real_server_down", "quorum_lost", "real_server_up", "quorum_gained"];
    poll_until("the programs again", || (names(&all) == expected).then_some(()));
    let expected = ["quorum_gained", "quorum_lost", "quorum_gained"];
    poll_until("the second program", || (names(&quorum) == expected).then_some(()));
    let down = &events(&all)[1];
    assert_eq!((&down["real_server"], &down["has_quorum"]), (&"server2".into(), &false.into()), "{down}");
    assert!(down["why"].as_str().is_some_and(|why| why.contains("refused")), "{down}");
    Ok(())
}

/// Events with their causes.
fn caused(path: &Path) -> Vec<String> {
    let text = |event: &Value| format!("{} {}", event["event"], event["cause"]).replace('"', "");
    events(path).iter().map(text).collect()
}

/// A program that announces a route runs after the director's start and, with `at_stop`, at the end. Clients are
/// served until it has ended.
pub fn programs_know_start_and_end() -> Outcome {
    let lab = same_subnet(1).build()?;
    let [told, others, end] = ["told", "others", "end"].map(|name| lab.directory().join(name));
    let script = format!(
        "cat >> {}; test $LVS_TUND_CAUSE = stop || exit 0; until test -e {}; do sleep 0.05; done",
        told.display(),
        end.display()
    );
    let top = format!(
        "on_change = [{{ command = [\"/bin/sh\", \"-c\", \"{script}\"], at_stop = true, timeout = \"25s\", \
         when = [\"quorum_lost\", \"quorum_gained\"] }}, \
         {{ command = [\"/bin/sh\", \"-c\", \"cat >> {}\"] }}]\n",
        others.display()
    );
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let mut director = lab::start_director(&lab, &file(&lab, &top, &check("tcp", "")))?;
    let start = ["quorum_gained start"];
    poll_until("the start", || (caused(&told) == start && caused(&others) == start).then_some(()));
    director.signal(Signal::SIGTERM)?;
    let both = ["quorum_gained start", "quorum_lost stop"];
    poll_until("the end", || (caused(&told) == both).then_some(()));
    assert!(ask(&lab).is_ok(), "the program has not ended yet");
    std::fs::write(&end, "")?;
    poll_until("the exit", || director.exit_status());
    let last = &events(&told)[1];
    assert_eq!((&last["live"], &last["has_quorum"]), (&0.into(), &false.into()), "{last}");
    assert_eq!(caused(&others), start, "without at_stop");
    Ok(())
}

/// Whether a client without any neighbour entry gets an answer at the VIP.
fn is_found(lab: &Lab) -> Result<bool, Failed> {
    let client: &Host = lab.client();
    client.set_connected(false)?;
    client.set_connected(true)?;
    let patience = Duration::from_millis(300);
    Ok(client.run(|| Connection::open(web_address(lab).into(), patience)).is_ok())
}

/// Without quorum, no one answers ARP for the VIP, even where it is an address of the host.
pub fn announced_while_healthy() -> Outcome {
    for is_local in [false, true] {
        let lab = same_subnet(1).build()?;
        if is_local {
            add_address(&lab.director, "eth0", lab.vip);
        }
        let (mut web, _real_servers) = start_real_servers(&lab)?;
        let text = file(&lab, "announce = \"healthy\"\n", &check("tcp", ""));
        let _director = lab::start_director(&lab, &text)?;
        await_state(&lab, "server2", "up");
        assert!(is_found(&lab)?, "local: {is_local}");
        web.clear();
        await_state(&lab, "server2", "down");
        // A moment earlier the VIP is still answered, and the connection refused.
        poll_until("silence", || {
            let is_silent = !is_found(&lab).expect("a look") && neighbour(lab.client(), lab.vip).is_none();
            is_silent.then_some(())
        });
        let _web = lab.real_servers[0].serve_http(80)?;
        await_state(&lab, "server2", "up");
        poll_until("an answer", || is_found(&lab).expect("a look").then_some(()));
        assert!(ask(&lab).is_ok(), "local: {is_local}");
    }
    Ok(())
}

/// `disable`, `enable` and `check-now` by command; `status` shows the reason.
pub fn commands() -> Outcome {
    let lab = same_subnet(2).build()?;
    let keys = "check = { type = \"http\", interval = \"30s\", timeout = \"1s\", fall = 1, rise = 1 }\n";
    let mut site = Site::start(&lab, keys)?;
    command(&lab, &["disable", "server2"])?;
    assert_eq!(ask_times(&lab, 4)?, ["server3"; 4]);
    assert_eq!(health_of(&lab, "server2")["state"], "up", "administrative state and health are two things");
    command(&lab, &["enable", "server2"])?;
    assert_round_robin(&ask_times(&lab, 4)?, 2);
    command(&lab, &["check-now"])?;
    let probed = |name: &str| health_of(&lab, name)["checks"][0]["successes"].as_u64().unwrap_or(0);
    poll_until("the first probes", || (probed("server2") > 0 && probed("server3") > 0).then_some(()));
    drop(site.web.remove(0));
    let begun = Instant::now();
    command(&lab, &["check-now", "web", "server2"])?;
    await_state(&lab, "server2", "down");
    assert!(begun.elapsed() < Duration::from_secs(3), "an ordinary probe would have come later");
    let said = listed(&lab)?;
    let words = format!("connection refused by {} through the tunnel", lab.real_servers[0].address);
    assert!(said.contains(&words), "{said}");
    // `doctor` and the metrics show what is reported.
    let reported = command(&lab, &["status", "--format", "json"])?;
    assert!(reported.contains("\"real_server_down\""), "{reported}");
    assert_eq!(ask_times(&lab, 4)?, ["server3"; 4]);
    let _web = lab.real_servers[0].serve_http(80)?;
    command(&lab, &["check-now"])?;
    await_state(&lab, "server2", "up");
    assert!(!listed(&lab)?.contains("refused"));
    Ok(())
}

/// Its probes that have failed.
fn failures_of(lab: &Lab, name: &str) -> u64 {
    let health = health_of(lab, name);
    let classes = health["checks"][0]["failures"].as_object().cloned().unwrap_or_default();
    classes.values().filter_map(Value::as_u64).sum()
}

/// Every state and count survives reloads that do not change the check, and clients notice nothing.
pub fn reloads() -> Outcome {
    let lab = same_subnet(3).build()?;
    let mut site = Site::start(&lab, &check("tcp", ""))?;
    drop(site.web.remove(0));
    await_state(&lab, "server2", "down");
    let path = lab.directory().join("director-director.toml");
    let text = std::fs::read_to_string(&path)?;
    let counted = |name: &str, what: &str| health_of(&lab, name)["checks"][0][what].as_u64().unwrap_or(0);
    poll_until("some probes", || (counted("server3", "successes") > 3).then_some(()));
    let (log, successes) = (site.director.log().len(), counted("server3", "successes"));
    let failures = || failures_of(&lab, "server2");
    let failed = failures();
    let asked = ask_during(&lab, || {
        for round in 0..10 {
            // Another virtual service comes and goes, with the same check.
            let more = service(&lab, "more", "tcp", 8080, 1).replacen(
                "scheduler",
                &(check("tcp", ", port = 80") + "scheduler"),
                1,
            );
            let text = if round % 2 == 0 { format!("{text}{more}") } else { text.clone() };
            std::fs::File::create(&path)?.write_all(text.as_bytes())?;
            command(&lab, &["reload"])?;
            std::thread::sleep(Duration::from_millis(70));
        }
        Ok(())
    })?;
    assert!(asked.iter().all(|asked| asked.answer.as_deref().is_some_and(|name| name != "server2")));
    let all: BTreeSet<_> = asked.iter().filter_map(|asked| asked.answer.as_deref()).collect();
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(
        counted("server3", "successes") > successes && failures() > failed,
        "a count has begun again at 0"
    );
    let since = &site.director.log()[log..];
    assert!(!since.contains("web: real server"), "{since}");
    assert_conserved(&lab)
}

/// A warning about the file is logged at the start, and after a reload only if it is new.
pub fn warnings() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let first = "on_change = { command = [\"/absent\"] }\n";
    let both = "on_change = [{ command = [\"/absent\"] }, { command = [\"/missing\"] }]\n";
    let director = lab::start_director(&lab, &file(&lab, first, ""))?;
    let count = |program: &str| {
        let words = format!("director: on_change: there is no program {program};");
        director.log().lines().filter(|line| line.contains("WARN") && line.contains(&words)).count()
    };
    poll_until("the warning at the start", || (count("/absent") == 1).then_some(()));
    let path = lab.directory().join("director-director.toml");
    std::fs::write(&path, std::fs::read_to_string(&path)?.replacen(first, both, 1))?;
    command(&lab, &["reload"])?;
    poll_until("the warning of the reload", || (count("/missing") == 1).then_some(()));
    assert_eq!(count("/absent"), 1);
    Ok(())
}
