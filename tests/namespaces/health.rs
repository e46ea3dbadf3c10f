//! Whether a daemon is ready, and what it reports to be wrong: by its probes, by `status`, and once in its log.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

use lvs_tund::control::Client;
use lvs_tund::control::model::{RealserverStatus, Status, VirtualServices};
use lvs_tund::lab::{self, Cluster, Daemon, Host, Lab};
use serde_json::Value;

use crate::answers::raw;
use crate::fixture::{
    Outcome, PATIENCE, ask, configuration, director_count, poll_until, same_subnet, service,
    start_real_servers, web, web_address,
};
use crate::host_state::add_address;

/// The answer of a probe.
pub fn probe(host: &Host, port: u16, path: &str) -> (u16, String) {
    let answer = host.get(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), path).expect("an answer");
    (answer.status, answer.text())
}

pub fn director_probe(lab: &Lab, path: &str) -> (u16, String) {
    probe(&lab.director, Cluster::DIRECTOR_METRICS, path)
}

fn await_ready(host: &Host, port: u16) {
    poll_until("readiness", || (probe(host, port, "/readyz") == (200, "ready".to_owned())).then_some(()));
}

/// Waits until it is not ready, for a reason that contains these words.
pub fn await_reason(host: &Host, port: u16, words: &str) {
    poll_until(words, || {
        let (status, text) = probe(host, port, "/readyz");
        (status == 503 && text.starts_with("not ready: ") && text.contains(words)).then_some(())
    });
}

fn client(path: &Path) -> Client {
    Client::new(Some(path)).expect("a client")
}

fn with_control(lab: &Lab, keys: &str) -> String {
    format!("control = \"{}\"\n{keys}", Cluster::control_path(lab).display())
}

/// What `lvs-tund status` prints for the daemon behind this socket.
fn status_of(path: &Path, format: &str) -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_lvs-tund"))
        .args(["status", "--control", &path.display().to_string(), "--format", format])
        .output()
        .expect("the program");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn lines_with(daemon: &Daemon, words: &str) -> usize {
    daemon.log().lines().filter(|line| line.contains(words)).count()
}

pub fn director() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let director = lab::start_director(&lab, &web(&lab, &with_control(&lab, "")))?;
    let port = Cluster::DIRECTOR_METRICS;
    await_ready(&lab.director, port);
    assert_eq!(director_probe(&lab, "/healthz"), (200, "alive".to_owned()));
    assert_eq!(director_probe(&lab, "/healthz?verbose"), (200, "alive\nready".to_owned()));

    let control = client(&Cluster::control_path(&lab));
    let weigh = |weight: u32| {
        let operation = lvs_tund::control::model::Operation::SetWeight {
            virtual_service: None,
            real_server: lab.real_servers[0].name.clone(),
            weight,
        };
        control.change(&vec![operation].into()).expect("a change");
    };
    weigh(0);
    await_reason(&lab.director, port, "no virtual service has a usable real server, every weight is 0");
    weigh(1);
    await_ready(&lab.director, port);

    let link = format!("interface {} is down, or its link has no carrier", lab.director.interface());
    lab.director.set_connected(false)?;
    await_reason(&lab.director, port, &link);
    let verbose = director_probe(&lab, "/healthz?verbose").1;
    assert!(verbose.starts_with("alive\nnot ready\n") && verbose.contains(&link), "{verbose}");
    let text = status_of(&Cluster::control_path(&lab), "text");
    assert!(text.contains(&format!("not ready: {link}")), "{text}");
    assert!(!control.status()?.ready);
    lab.director.set_connected(true)?;
    await_ready(&lab.director, port);
    let is_over = |line: &str| line.contains("INFO director: over after ") && line.ends_with(&link);
    poll_until("the line that it is over", || director.log().lines().any(is_over).then_some(()));
    assert_eq!(lines_with(&director, &format!("WARN director: degraded: {link}")), 1, "{}", director.log());
    poll_until("an answer", || ask(&lab).ok());
    Ok(())
}

/// Not to be the master is no reason: a backup that were not ready could never become the master.
pub fn backup() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let _director = lab::start_director(&lab, &web(&lab, "announce = \"local\""))?;
    await_ready(&lab.director, Cluster::DIRECTOR_METRICS);
    Ok(())
}

pub fn empty() -> Outcome {
    let lab = same_subnet(1).build()?;
    let file = configuration(&lab, &with_control(&lab, ""), &[]);
    let _director = lab::start_director(&lab, &file)?;
    await_reason(&lab.director, Cluster::DIRECTOR_METRICS, "no virtual service is configured");
    assert_eq!(director_probe(&lab, "/healthz").0, 200, "it is alive anyway");
    Ok(())
}

/// Nothing is bound until the operator types the command that the reason names.
pub fn real_server() -> Outcome {
    let lab = same_subnet(1).build()?;
    let host = &lab.real_servers[0];
    let (vip, director) = (lab.vip.to_string(), lab.director.address.to_string());
    let socket = Cluster::real_server_control_path(&lab, host);
    let mut daemon = host.spawn_daemon(&[
        "realserver",
        "--no-host-changes",
        "--vip",
        &vip,
        "--director",
        &director,
        "--control",
        &socket.display().to_string(),
    ])?;
    let port = Cluster::REAL_SERVER_METRICS;
    daemon.wait_until_ready(host, port)?;
    await_reason(host, port, &format!("run: ip address add {vip}/32 dev lvsr0"));
    let status: RealserverStatus = client(&socket).get("/api/v1/status")?;
    assert!(!status.ready && !status.vips[0].bound, "{status:?}");
    assert_eq!(probe(host, port, "/healthz"), (503, format!("alive\nunwraps: yes\n{vip}: not bound")));
    add_address(host, "lvsr0", lab.vip);
    poll_until("the VIP", || (!probe(host, port, "/readyz").1.contains("ip address add")).then_some(()));
    poll_until("the VIP in the status", || {
        let status: RealserverStatus = client(&socket).get("/api/v1/status").expect("a status");
        status.vips[0].bound.then_some(())
    });
    Ok(())
}

/// A daemon that is not running is reported wherever an operator looks, and once in the log.
pub fn suspect() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, mut daemons) = start_real_servers(&lab)?;
    let socket = Cluster::control_path(&lab);
    let director = lab::start_director(&lab, &web(&lab, &with_control(&lab, "")))?;
    daemons[0].kill()?;
    let words = "real server 172.25.3.2 answers \"protocol unreachable\"";
    let connect = || {
        let timeout = Duration::from_millis(100);
        std::net::TcpStream::connect_timeout(&web_address(&lab).into(), timeout).map(drop)
    };
    let services: VirtualServices = poll_until("the trouble", || {
        let _ = lab.client().run(connect);
        let services = client(&socket).virtual_services().expect("services");
        (!services.virtual_services[0].real_servers[0].troubles.is_empty()).then_some(services)
    });
    let [first, second] = &services.virtual_services[0].real_servers[..] else { panic!("two") };
    assert_eq!(first.troubles.len(), 1, "{first:?}");
    assert_eq!(first.troubles[0].kind, "protocol_unreachable");
    assert!(first.troubles[0].message.starts_with(words), "{first:?}");
    assert!(second.troubles.is_empty(), "{second:?}");
    let text = status_of(&socket, "text");
    assert!(text.contains(&format!("    warning: {words}")), "{text}");
    assert!(text.contains("lvs-tund realserver running there? (for "), "{text}");
    let whole: Value = serde_json::from_str(&status_of(&socket, "json"))?;
    let server = &whole["virtual_services"][0]["real_servers"][0];
    assert_eq!(server["troubles"][0]["kind"], "protocol_unreachable", "{whole}");
    assert_eq!(whole["director"]["role"], "director");
    let labels = [("virtual_service", "web"), ("real_server", "server2"), ("kind", "protocol_unreachable")];
    assert!(director_count(&lab, "path_errors_total", &labels) > 0);
    for _ in 0..5 {
        let _ = lab.client().run(connect);
    }
    assert_eq!(lines_with(&director, words), 1, "once: {}", director.log());
    assert!(client(&socket).status()?.ready, "the other one serves");
    Ok(())
}

/// Packets that the kernel refuses are counted with their real server, and the latest reason is listed first.
pub fn no_route() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let socket = Cluster::control_path(&lab);
    // RFC 5737 TEST-NET-1
    let file = configuration(
        &lab,
        &with_control(&lab, ""),
        &[service(&lab, "web", "tcp", 80, 1).replace("172.25.3.2\"", "192.0.2.2\"")],
    );
    let director = lab::start_director(&lab, &file)?;
    let labels = [("virtual_service", "web"), ("real_server", "server2"), ("cause", "network_unreachable")];
    poll_until("the refusal", || {
        let _ = ask(&lab);
        (director_count(&lab, "transmit_errors_total", &labels) > 0).then_some(())
    });
    let other = [("real_server", "server3")];
    assert_eq!(director_count(&lab, "transmit_errors_total", &other), 0);
    let services = client(&socket).virtual_services()?;
    let first = &services.virtual_services[0].real_servers[0];
    assert_eq!(first.transmit_errors[0].cause, "network_unreachable");
    assert!(first.troubles.iter().any(|trouble| trouble.kind == "no_route"), "{first:?}");
    let status: Status = client(&socket).status()?;
    assert_eq!(status.dropped[0].reason, "send_error", "{status:?}");
    let text = status_of(&socket, "text");
    assert!(text.contains("\ndropped: ") && text.contains(" send_error ("), "{text}");
    poll_until("the line in the log", || {
        (lines_with(&director, "the kernel refuses packets to real server 192.0.2.2") == 1).then_some(())
    });
    Ok(())
}

/// `status` on a real server's host: which directors sent packets, who was refused, and whether the application is there.
pub fn real_server_status() -> Outcome {
    let lab = same_subnet(1).with_stranger().build()?;
    let Cluster { director: _director, real_servers, web_servers } = Cluster::start(&lab)?;
    let (host, socket) =
        (&lab.real_servers[0], Cluster::real_server_control_path(&lab, &lab.real_servers[0]));
    ask(&lab)?;
    let status = || client(&socket).get::<RealserverStatus>("/api/v1/status").expect("a status");
    let found = status();
    assert!(found.ready && found.refused.is_empty(), "{found:?}");
    assert_eq!(
        (found.directors_seen.len(), found.directors_seen[0].director),
        (1, lab.director.address.into())
    );
    assert!(found.directors_seen[0].packets > 2 && found.mss == 1440, "{found:?}");
    let port = &found.vips[0].services[0];
    assert!(found.vips[0].bound && port.port == 80 && port.listening && port.packets > 2, "{found:?}");

    let stranger = lab.stranger.as_ref().expect("requested");
    raw(stranger, 4)?.send_to(&[0x45; 40], &SocketAddrV4::new(host.address, 0).into())?;
    poll_until("the stranger", || {
        let refused = status().refused;
        refused.iter().any(|it| it.source == stranger.address && it.reason == "unknown_peer").then_some(())
    });
    let words = format!("{} sends encapsulated packets and is not in directors", stranger.address);
    poll_until("its line in the log", || (lines_with(&real_servers[0], &words) == 1).then_some(()));

    drop(web_servers);
    let _ = ask(&lab);
    poll_until("the application's absence", || {
        let found = status();
        let is_told = found.troubles.iter().any(|trouble| trouble.kind == "application_down");
        (is_told && !found.vips[0].services[0].listening).then_some(())
    });
    let text = status_of(&socket, "text");
    assert!(text.contains("  tcp    80: NO PROGRAM LISTENS"), "{text}");
    assert!(text.contains("real server, up") && text.contains("reason unknown_peer"), "{text}");
    assert_eq!(probe(host, Cluster::REAL_SERVER_METRICS, "/readyz").0, 200, "its packets arrive");
    Ok(())
}

/// A VIP that is the host's own address is refused; one left on the interface is warned of.
pub fn vip_elsewhere() -> Outcome {
    let lab = same_subnet(1).build()?;
    let host = &lab.real_servers[0];
    let (own, director) = (host.address.to_string(), lab.director.address.to_string());
    let mut refused = host.spawn_daemon(&["realserver", "--vip", &own, "--director", &director])?;
    assert_eq!(refused.wait(PATIENCE)?.code(), Some(2), "{}", refused.log());
    let words = format!("VIP {own} is this host's own address on eth0");
    assert!(refused.log().contains(&words), "{}", refused.log());
    add_address(host, "eth0", lab.vip);
    let mut daemon = lab::start_real_server(&lab, host)?;
    let words = "VIP 172.25.3.100 is an address of eth0 too";
    daemon.wait_for_log(words, PATIENCE)?;
    assert!(daemon.log().contains("run: ip address del 172.25.3.100/32 dev eth0"), "{}", daemon.log());
    Ok(())
}
