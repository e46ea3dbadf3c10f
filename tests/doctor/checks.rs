//! Real servers that their checks have found down: the doctor shows why, and its next step leads to the cause.

use lvs_tund::lab::{self, Cluster, Daemon, Lab, http};

use crate::fixture::{Findings, Outcome, director, poll_until, program, realserver, same_subnet, socket};

const CHECK: &str = "check = { type = \"tcp\", interval = \"300ms\", timeout = \"1s\", rise = 1, fall = 2, start = \"down\" }\n";

fn start_director(lab: &Lab) -> Result<Daemon, lab::LabError> {
    lab::start_director(lab, &format!("{CHECK}{}", lab::director_configuration(lab, "rr")))
}

/// A web server and `realserver` on each real server.
fn start_real_servers(lab: &Lab) -> Result<(Vec<http::Server>, Vec<Daemon>), lab::LabError> {
    let web = lab.real_servers.iter().map(|host| host.serve_http(80)).collect::<Result<_, _>>()?;
    let daemons =
        lab.real_servers.iter().map(|host| lab::start_real_server(lab, host)).collect::<Result<_, _>>()?;
    Ok((web, daemons))
}

/// What `lvs-tund status` prints.
fn status(lab: &Lab) -> String {
    status_as(lab, "text")
}

fn status_as(lab: &Lab, format: &str) -> String {
    let socket = socket(lab);
    let control = socket.to_str().expect("UTF-8");
    let output = program(&lab.director, &["status", "--control", control, "--format", format]);
    String::from_utf8(output.stdout).expect("text")
}

/// What the doctor finds once the director reports that a real server is down for this reason.
fn findings_after(lab: &Lab, words: &str) -> Findings {
    poll_until(words, || status_as(lab, "json").contains(&format!("is down in web: {words}")));
    director(lab)
}

/// Only one of two is down, so nothing is an error; with both down, the virtual service has no quorum.
pub fn application_stopped() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (mut web, _real_servers) = start_real_servers(&lab)?;
    let _director = start_director(&lab)?;
    poll_until("both up", || !status(&lab).contains("down"));
    director(&lab).are(&[]);

    drop(web.remove(0));
    let found = findings_after(&lab, "connection refused by 172.25.3.2");
    let first = "real server 172.25.3.2 is down in web: connection refused by 172.25.3.2 through the tunnel";
    found.are_with_warnings(&[], &[("health", first)]);
    let step = "start the application there, and let it listen on the VIP; type there: ss -ltn";
    assert_eq!(found.remedy("health"), step);
    realserver(&lab, &lab.real_servers[0], "services = [\"tcp/80\"]")
        .are(&[("listening", "no program listens")]);

    web.clear();
    let found = findings_after(&lab, "connection refused by 172.25.3.3");
    let second = "real server 172.25.3.3 is down in web: connection refused by 172.25.3.3 through the tunnel";
    let errors = [
        ("health", "virtual service web has lost its quorum"),
        ("weights", "all real servers of virtual service web have weight 0"),
    ];
    found.are_with_warnings(&errors, &[("health", first), ("health", second)]);
    assert_eq!(found.remedy("weights"), "lvs-tund status   # shows why their checks fail");
    Ok(())
}

/// The daemon runs and unwraps, but its operator has not bound the VIP.
pub fn vip_not_bound() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, mut real_servers) = start_real_servers(&lab)?;
    real_servers[0].stop()?;
    let host = &lab.real_servers[0];
    let (vip, dip) = (lab.vip.to_string(), lab.director.address.to_string());
    let arguments = ["realserver", "--no-host-changes", "--vip", &vip, "--director", &dip];
    let mut daemon = host.spawn_daemon(&arguments)?;
    daemon.wait_until_ready(host, Cluster::REAL_SERVER_METRICS)?;
    let _director = start_director(&lab)?;
    let found = findings_after(&lab, "no answer in time from 172.25.3.2");
    let words = "real server 172.25.3.2 is down in web: no answer in time from 172.25.3.2 through the tunnel";
    found.are_with_warnings(&[], &[("health", words)]);
    let step = "type there: lvs-tund doctor realserver, which shows whether the VIP is bound and packets are unwrapped";
    assert_eq!(found.remedy("health"), step);
    let there = realserver(&lab, host, "");
    assert_eq!(
        there.found("vip"),
        "VIP 172.25.3.100 is not an address of lvsr0: this host drops its packets"
    );
    assert_eq!(there.remedy("vip"), "ip address add 172.25.3.100/32 dev lvsr0");

    daemon.stop()?;
    let _daemon = lab::start_real_server(&lab, host)?;
    poll_until("both up", || !status(&lab).contains("down"));
    director(&lab).are(&[]);
    Ok(())
}

pub fn companion_stopped() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, mut real_servers) = start_real_servers(&lab)?;
    let _director = start_director(&lab)?;
    poll_until("both up", || !status(&lab).contains("down"));
    real_servers[0].stop()?;
    let found = findings_after(&lab, "encapsulated packets not accepted by 172.25.3.2");
    let words = "real server 172.25.3.2 is down in web: encapsulated packets not accepted by 172.25.3.2";
    // The probes' errors are seen, too.
    let refuses = "real server server2 refuses encapsulated packets: no program there receives IP protocol 4";
    found.are_with_warnings(&[("companion", refuses)], &[("health", words)]);
    let step = "start the daemon there; type there: lvs-tund realserver --config realserver.toml";
    assert_eq!(found.remedy("health"), step);
    realserver(&lab, &lab.real_servers[0], "").are(&[("daemon", "no real server daemon is running")]);
    Ok(())
}
