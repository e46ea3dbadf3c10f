//! Clients are served from a keepalived.conf: `convert`, `check`, and the director with the result, unedited but for the
//! control socket, which keepalived has not.

use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Failed;
use lvs_tund::lab::{Cluster, Daemon, Host, Lab, http};
use serde_json::Value;

use crate::failing::client;
use crate::fixture::{
    Outcome, ask_times, assert_conserved, assert_round_robin, poll_within, same_subnet, start_real_servers,
};

/// A check of this file needs a second between two probes, and `retry` makes it fail at the second one in a row.
const PATIENCE: Duration = Duration::from_secs(15);

/// Port 80 with HTTP_GET, port 8080 with TCP_CHECK; the fourth host apologises for both.
fn keepalived_conf(lab: &Lab) -> String {
    let vip = lab.vip;
    let [first, second, third, sorry] = [0, 1, 2, 3].map(|index: usize| lab.real_servers[index].address);
    let http = "HTTP_GET {\n            url {\n                path /health\n                status_code 200\n            }\n\
                \x20           connect_timeout 1\n            retry 1\n            delay_before_retry 1\n        }";
    let tcp = "TCP_CHECK {\n            connect_timeout 1\n            retry 1\n            delay_before_retry 1\n        }";
    let server = |rip, port, check| {
        format!("    real_server {rip} {port} {{\n        weight 1\n        {check}\n    }}\n")
    };
    format!(
        "! the web, as it was with LVS/TUN\nglobal_defs {{\n    router_id LVS_MAIN\n}}\n\
         virtual_server {vip} 80 {{\n    delay_loop 1\n    lb_algo rr\n    lb_kind TUN\n    protocol TCP\n    quorum 2\n\
         \x20   sorry_server {sorry} 80\n{}{}{}}}\n\
         virtual_server {vip} 8080 {{\n    delay_loop 1\n    lb_algo rr\n    lb_kind TUN\n    protocol TCP\n\
         \x20   sorry_server {sorry} 8080\n{}}}\n",
        server(first, 80, http),
        server(second, 80, http),
        server(third, 80, http),
        server(first, 8080, tcp),
    )
}

/// Standard output of a command of this program on a host.
fn output(host: &Host, arguments: &[&str]) -> Result<String, Failed> {
    let output = host
        .run(|| Command::new(env!("CARGO_BIN_EXE_lvs-tund")).args(arguments).stdin(Stdio::null()).output())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(said),
        false => Err(format!("{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

fn start_director(lab: &Lab) -> Result<Daemon, Failed> {
    let host = &lab.director;
    let theirs = host.write_file("keepalived.conf", &keepalived_conf(lab))?;
    let text = output(host, &["convert", theirs.to_str().expect("UTF-8")])?;
    let file = host.write_file("converted.toml", &text)?;
    let file = file.to_str().expect("UTF-8");
    output(host, &["check", file])?;
    let control = Cluster::control_path(lab).display().to_string();
    let mut daemon = host.spawn_daemon(&["director", "--config", file, "--control", &control])?;
    daemon.wait_until_ready(host, Cluster::DIRECTOR_METRICS)?;
    Ok(daemon)
}

/// The answers to requests at a port of the VIP.
fn answers(lab: &Lab, port: u16, count: usize) -> Vec<Option<String>> {
    let get = |_| Some(lab.client().get((lab.vip, port), "/").ok()?.text());
    (0..count).map(get).collect()
}

fn await_answers(lab: &Lab, port: u16, expected: &[&str]) {
    let expected: Vec<_> = expected.iter().map(|name| Some((*name).to_owned())).collect();
    let mut last = Vec::new();
    poll_within(PATIENCE, &format!("{expected:?} on port {port}"), || {
        last = answers(lab, port, expected.len());
        last.sort();
        (last == expected).then_some(())
    });
}

/// Waits until the virtual services have quorum or not, in the order of the file.
fn await_quorums(lab: &Lab, expected: [bool; 2]) {
    poll_within(PATIENCE, &format!("quorums {expected:?}"), || {
        let all: Value = client(lab).get("/api/v1/virtual_services").ok()?;
        let services = all["virtual_services"].as_array()?.iter();
        let quorums: Vec<_> = services.map(|service| service["health"]["has_quorum"].as_bool()).collect();
        (quorums == expected.map(Some)).then_some(())
    });
}

pub fn keepalived() -> Outcome {
    let lab = same_subnet(4).build()?;
    let (web, _real_servers) = start_real_servers(&lab)?;
    let mut web: Vec<Option<http::Server>> = web.into_iter().map(Some).collect();
    let mut proxy = Some(lab.real_servers[0].serve_http(8080)?);
    let _sorry = lab.real_servers[3].serve_http(8080)?;
    let _director = start_director(&lab)?;
    await_answers(&lab, 80, &["server2", "server3", "server4"]);
    assert_round_robin(&ask_times(&lab, 9)?, 3);
    await_answers(&lab, 8080, &["server2"; 3]);
    await_quorums(&lab, [true, true]);

    // One of three is out, and quorum 2 holds.
    web[1] = None;
    await_answers(&lab, 80, &["server2", "server2", "server4", "server4"]);
    await_quorums(&lab, [true, true]);
    // keepalived has the sorry server serve as soon as quorum is lost, although one real server is up.
    web[0] = None;
    await_answers(&lab, 80, &["server5"; 4]);
    await_quorums(&lab, [false, true]);
    web[2] = None;
    proxy.take();
    await_answers(&lab, 8080, &["server5"; 3]);
    await_answers(&lab, 80, &["server5"; 4]);
    await_quorums(&lab, [false, false]);

    for (host, server) in lab.real_servers.iter().zip(&mut web).take(3) {
        *server = Some(host.serve_http(80)?);
    }
    proxy = Some(lab.real_servers[0].serve_http(8080)?);
    await_answers(&lab, 80, &["server2", "server3", "server4"]);
    await_answers(&lab, 8080, &["server2"; 3]);
    assert_round_robin(&ask_times(&lab, 9)?, 3);
    await_quorums(&lab, [true, true]);
    drop(proxy);
    assert_conserved(&lab)
}
