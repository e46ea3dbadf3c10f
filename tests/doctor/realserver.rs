//! Faults that the doctor finds on a real server's host.

use std::net::SocketAddr;

use lvs_tund::lab::{self, Cluster, Daemon, Lab, http};

use crate::fixture::{
    Outcome, Running, poll_until, program, realserver, realserver_of, request, same_subnet,
};

/// A web server, and the daemon with this file; the director is started last.
fn start(lab: &Lab, text: &str) -> Result<(http::Server, Daemon, Daemon), libtest_mimic::Failed> {
    let host = &lab.real_servers[0];
    let web = host.serve_http(80)?;
    let file = host.write_file("realserver.toml", text)?;
    let mut daemon = host.spawn_daemon(&["realserver".as_ref(), "--config".as_ref(), file.as_os_str()])?;
    daemon.wait_until_ready(host, Cluster::REAL_SERVER_METRICS)?;
    let director = lab::start_director(lab, &lab::director_configuration(lab, "rr"))?;
    Ok((web, daemon, director))
}

pub fn wrong_vip() -> Outcome {
    let lab = same_subnet(1).build()?;
    let text = "vips = [\"172.25.3.101\"]\ndirectors = [\"172.25.3.1\"]\n";
    let _running = start(&lab, text)?;
    let _ = request(&lab);
    let found = realserver_of(&lab.real_servers[0], text);
    found.are_with_warnings(&[], &[("refused", "whose VIP is not in vips (inner_not_vip)")]);
    Ok(())
}

pub fn wrong_director() -> Outcome {
    let lab = same_subnet(1).build()?;
    let text = "vips = [\"172.25.3.100\"]\ndirectors = [\"172.25.3.50\"]\n";
    let _running = start(&lab, text)?;
    let _ = request(&lab);
    let found = realserver_of(&lab.real_servers[0], text);
    found.are_with_warnings(&[], &[("directors", "from hosts that are not in directors")]);
    // While the director sends, its address is named.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2 {
                let _ = request(&lab);
            }
        });
        poll_until("the director's name", || {
            let findings = realserver_of(&lab.real_servers[0], text).0["findings"].to_string();
            findings.contains("172.25.3.1 sends encapsulated packets and is not in directors")
        });
    });
    Ok(())
}

pub fn wrong_services() -> Outcome {
    let lab = same_subnet(1).build()?;
    let text = "vips = [\"172.25.3.100\"]\ndirectors = [\"172.25.3.1\"]\nservices = [\"tcp/81\"]\n";
    let _running = start(&lab, text)?;
    let _ = request(&lab);
    let found = realserver_of(&lab.real_servers[0], text);
    found.are_with_warnings(
        &[("listening", "no program listens on 172.25.3.100, tcp port 81")],
        &[("refused", "whose port is not in services (inner_not_served)")],
    );
    Ok(())
}

pub fn application_down() -> Outcome {
    let lab = same_subnet(1).build()?;
    let mut running = Running::start(&lab)?;
    running.web.clear();
    let expected = ("listening", "no program listens on 172.25.3.100, tcp port 80: clients are refused");
    realserver(&lab, &lab.real_servers[0], "services = [\"tcp/80\"]").are(&[expected]);
    realserver(&lab, &lab.real_servers[0], "").are(&[("listening", "no program listens on the VIPs")]);
    Ok(())
}

pub fn application_on_the_rip() -> Outcome {
    let lab = same_subnet(1).build()?;
    let mut running = Running::start(&lab)?;
    running.web.clear();
    let host = &lab.real_servers[0];
    let address = SocketAddr::from((host.address, 80));
    let _web = http::Server::start(&host.namespace, address, &host.name)?;
    let words = "the program on tcp port 80 listens on 172.25.3.2 only: clients of 172.25.3.100 are refused";
    realserver(&lab, host, "services = [\"tcp/80\"]").are(&[("listening", words)]);
    realserver(&lab, host, "").are_with_warnings(&[], &[("listening", words)]);
    Ok(())
}

pub fn not_running() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _web = lab.real_servers[0].serve_http(80)?;
    let found = realserver(&lab, &lab.real_servers[0], "");
    found.are(&[("daemon", "no real server daemon is running")]);
    assert!(
        found.remedy("daemon").starts_with("lvs-tund realserver --config /"),
        "{}",
        found.remedy("daemon")
    );
    let output = program(
        &lab.real_servers[0],
        &["doctor", "realserver", "--vip", "172.25.3.100", "--director", "172.25.3.1"],
    );
    let text = String::from_utf8(output.stdout)?;
    assert!(text.contains("  lvs-tund realserver --vip 172.25.3.100 --director 172.25.3.1\n"), "{text}");
    Ok(())
}

/// The daemon was started with `--no-host-changes`, and no one made the changes.
pub fn announcing() -> Outcome {
    let lab = same_subnet(1).build()?;
    let host = &lab.real_servers[0];
    let _web = host.serve_http(80)?;
    let (vip, director) = (lab.vip.to_string(), lab.director.address.to_string());
    let arguments = ["realserver", "--vip", &vip, "--director", &director, "--no-host-changes"];
    let mut daemon = host.spawn_daemon(&arguments)?;
    daemon.wait_until_ready(host, Cluster::REAL_SERVER_METRICS)?;
    let found = realserver(&lab, host, "mss = \"off\"");
    found.are_with_warnings(
        &[
            ("rp_filter", "rp_filter of lvsr0 is 1 (strict)"),
            ("vip", "VIP 172.25.3.100 is not an address of lvsr0"),
            ("arp", "arp_ignore of eth0 is 0"),
            ("arp", "arp_announce of eth0 is 0"),
        ],
        &[("mss", "mss is \"off\"")],
    );
    assert_eq!(found.remedy("arp"), "sysctl -w net.ipv4.conf.all.arp_ignore=1");
    Ok(())
}

/// The daemon repairs the value, and waits longer before each further repair.
pub fn strict_filter() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _running = Running::start(&lab)?;
    let host = &lab.real_servers[0];
    poll_until("the finding", || {
        host.namespace.write_sysctl("net.ipv4.conf.lvsr0.rp_filter", "1").expect("the sysctl");
        let findings = realserver(&lab, host, "").0["findings"].to_string();
        findings.contains("rp_filter of lvsr0 is 1 (strict): the kernel drops every unwrapped packet")
    });
    Ok(())
}
