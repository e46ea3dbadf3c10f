//! Faults that the doctor finds on a director's host.

use std::net::Ipv4Addr;

use lvs_tund::lab::{self, Lab, Topology};
use rtnetlink::LinkUnspec;

use crate::fixture::{self, Outcome, Running, director, poll_until, program, request, same_subnet};

/// The lab's file with other text for a part of it.
fn configuration(lab: &Lab, from: &str, to: &str) -> String {
    let text = lab::director_configuration(lab, "rr");
    assert!(text.contains(from), "{from} is not in {text}");
    text.replacen(from, to, 1)
}

pub fn healthy() -> Outcome {
    let lab = same_subnet(2).build()?;
    let _running = Running::start(&lab)?;
    assert!(request(&lab)?.starts_with("server"));
    director(&lab).are(&[]);
    for host in &lab.real_servers {
        fixture::realserver(&lab, host, "services = [\"tcp/80\"]").are(&[]);
        fixture::realserver(&lab, host, "").are(&[]);
    }
    let socket = fixture::socket(&lab);
    let output =
        program(&lab.director, &["doctor", "director", "--control", socket.to_str().unwrap_or_default()]);
    let text = String::from_utf8(output.stdout)?;
    assert!(output.status.success() && text.ends_with("\n0 errors, 0 warnings\n"), "{text}");
    assert!(
        text.contains("ok       route       real server server2 (172.25.3.2) is reached through eth0\n"),
        "{text}"
    );
    Ok(())
}

pub fn routed() -> Outcome {
    let lab = Topology::routed(2).with_program(env!("CARGO_BIN_EXE_lvs-tund")).build()?;
    let _running = Running::start(&lab)?;
    director(&lab).are(&[]);
    fixture::realserver(&lab, &lab.real_servers[1], "").are(&[]);
    Ok(())
}

pub fn not_running() -> Outcome {
    let lab = same_subnet(1).build()?;
    let file = lab.director.write_file("director.toml", &lab::director_configuration(&lab, "rr"))?;
    let found = fixture::director_of(&lab, &file);
    found.are(&[("daemon", "no director is running at ")]);
    assert_eq!(found.remedy("daemon"), format!("lvs-tund director --config {}", file.display()));
    Ok(())
}

pub fn refused() -> Outcome {
    let lab = same_subnet(1).build()?;
    let file = lab.director.write_file("bad.toml", "interface = 1\n")?;
    let socket = fixture::socket(&lab);
    let control = ["--control", socket.to_str().unwrap_or_default()];
    let rows: [(&[&str], &str); 4] = [
        (&["director"], "no configuration: no director answers that could name its file; use --config FILE"),
        (&["director", "--config", "/nonexistent.toml"], "/nonexistent.toml: cannot read"),
        (&["director", "--config", file.to_str().unwrap_or_default()], "bad.toml:1: "),
        (&["realserver"], "no VIP given"),
    ];
    for (arguments, words) in rows {
        let control = if arguments[0] == "director" { &control[..] } else { &[] };
        let output = program(&lab.director, &[&["doctor"], arguments, control].concat());
        let errors = String::from_utf8(output.stderr)?;
        assert!(output.status.code() == Some(2) && errors.contains(words), "{arguments:?}: {errors}");
    }
    Ok(())
}

pub fn nobody_has_the_rip() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _running =
        Running::start_with(&lab, &configuration(&lab, "rip = \"172.25.3.2\"", "rip = \"172.25.3.77\""))?;
    director(&lab).are(&[("route", "real server server2 (172.25.3.77) does not answer ARP on eth0")]);
    Ok(())
}

pub fn no_gateway() -> Outcome {
    let lab = Topology::routed(1).with_program(env!("CARGO_BIN_EXE_lvs-tund")).build()?;
    let _running = Running::start(&lab)?;
    // The router stops answering ARP.
    lab.middle.write_sysctl("net.ipv4.conf.all.arp_ignore", "8")?;
    director(&lab).are(&[(
        "route",
        "the gateway 172.25.3.254 to real server server2 (172.25.12.2) does not answer ARP",
    )]);
    Ok(())
}

pub fn another_owner() -> Outcome {
    let lab = same_subnet(1).with_stranger().build()?;
    let _running = Running::start(&lab)?;
    let stranger = lab.stranger.as_ref().ok_or("no stranger")?;
    stranger.add_address(lab.vip, 32)?;
    let found = director(&lab);
    found.are(&[("arp", ") answers ARP for 172.25.3.100: clients reach either of them")]);
    let mac = stranger.run(|| mac_of("eth0")).ok_or("no MAC address")?;
    assert!(found.remedy("arp").contains(&mac), "{} without {mac}", found.remedy("arp"));
    Ok(())
}

fn mac_of(interface: &str) -> Option<String> {
    let mut entries = nix::ifaddrs::getifaddrs().ok()?.filter(|entry| entry.interface_name == interface);
    let mac = entries.find_map(|entry| entry.address?.as_link_addr()?.addr())?;
    Some(mac.map(|byte| format!("{byte:02x}")).join(":"))
}

pub fn real_server_owns_the_vip() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _running = Running::start(&lab)?;
    lab.real_servers[0].add_address(lab.vip, 24)?;
    director(&lab).are(&[("arp", "real server server2 (")]);
    let found = fixture::realserver(&lab, &lab.real_servers[0], "");
    found.are(&[("vip", "VIP 172.25.3.100 is an address of eth0")]);
    assert_eq!(found.remedy("vip"), "ip address delete 172.25.3.100/24 dev eth0");
    Ok(())
}

pub fn two_directors() -> Outcome {
    let lab = same_subnet(1).with_stranger().build()?;
    let _running = Running::start(&lab)?;
    let stranger = lab.stranger.as_ref().ok_or("no stranger")?;
    let text = configuration(&lab, "director.sock", "other.sock");
    let file = stranger.write_file("other.toml", &text)?;
    let mut other = stranger.spawn_daemon(&["director".as_ref(), "--config".as_ref(), file.as_os_str()])?;
    other.wait_until_ready(stranger, lab::Cluster::DIRECTOR_METRICS)?;
    director(&lab).are(&[("arp", "another host (")]);
    Ok(())
}

pub fn no_host_changes() -> Outcome {
    let lab = same_subnet(1).build()?;
    let file = lab.director.write_file("director.toml", &lab::director_configuration(&lab, "rr"))?;
    let config = file.to_str().unwrap_or_default();
    let mut daemon = lab.director.spawn_daemon(&["director", "--config", config, "--no-host-changes"])?;
    daemon.wait_until_ready(&lab.director, lab::Cluster::DIRECTOR_METRICS)?;
    director(&lab).are(&[
        ("announce", "this host does not answer ARP for 172.25.3.100 on eth0"),
        ("rp_filter", "rp_filter of eth0 is 1 (strict)"),
        ("forwarding", "eth0 does not forward"),
    ]);
    lab.director.namespace.write_sysctl("net.ipv4.conf.eth0.rp_filter", "2")?;
    lab.director.namespace.write_sysctl("net.ipv4.conf.eth0.forwarding", "1")?;
    director(&lab).are(&[
        ("announce", "this host does not answer ARP for 172.25.3.100 on eth0"),
        ("capture", "packets for 172.25.3.100 that arrive on eth0 are sent to eth0, not to lvsd0"),
    ]);
    lab.director.add_address(lab.vip, 32)?;
    director(&lab).are(&[("capture", "are delivered to this host's own programs, not to lvsd0")]);
    Ok(())
}

/// The switch's port to the real server carries less than the links: it drops what is longer, as a switch does.
pub fn silent_path_mtu() -> Outcome {
    let lab = same_subnet(1).build()?;
    let running = Running::start(&lab)?;
    set_mtu(&lab, "server2", 1400);
    let found = director(&lab);
    found.are(&[("mtu", "loses packets longer than ")]);
    let text = found.remedy("mtu");
    let mtu: u32 = text.trim_start_matches("path_mtu = ").split(' ').next().unwrap_or_default().parse()?;
    assert!((1390..=1400).contains(&mtu), "{text}");
    drop(running.director);
    let cured = configuration(&lab, "rip = ", &format!("path_mtu = {mtu}\nrip = "));
    let _director = lab::start_director(&lab, &cured)?;
    director(&lab).are(&[]);
    Ok(())
}

fn set_mtu(lab: &Lab, link: &str, mtu: u32) {
    lab.middle.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
            tokio::spawn(connection);
            let message = LinkUnspec::new_with_name(link).mtu(mtu).build();
            handle.link().set(message).execute().await.expect("the MTU");
        });
    });
}

pub fn weights() -> Outcome {
    let lab = same_subnet(2).build()?;
    let zero = lab::director_configuration(&lab, "rr").replace("rip = ", "weight = 0\nrip = ");
    let file = lab.director.write_file("zero.toml", &zero)?;
    let expected = ("weights", "all real servers of virtual service web have weight 0");
    fixture::director_of(&lab, &file).are(&[("daemon", "no director is running"), expected]);

    let _running = Running::start(&lab)?;
    let socket = fixture::socket(&lab);
    for name in ["server2", "server3"] {
        let control = socket.to_str().unwrap_or_default();
        let output = program(&lab.director, &["weight", name, "0", "--control", control]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let found = director(&lab);
    found.are(&[expected]);
    assert_eq!(found.remedy("weights"), "lvs-tund weight server2 1");
    Ok(())
}

pub fn no_companion() -> Outcome {
    let lab = same_subnet(1).build()?;
    let mut running = Running::start(&lab)?;
    running.real_servers.clear();
    let _ = request(&lab);
    let found = director(&lab);
    found.are(&[("companion", "real server server2 refuses encapsulated packets")]);
    let typed = "lvs-tund realserver --vip 172.25.3.100 --director 172.25.3.1   # on server2";
    assert_eq!(found.remedy("companion"), typed);
    let address = Ipv4Addr::new(172, 25, 3, 2);
    assert_eq!(lab.real_servers[0].address, address);
    Ok(())
}

pub fn interface_down() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _running = Running::start(&lab)?;
    lab.director.set_connected(false)?;
    poll_until("the error about the interface", || {
        let findings = director(&lab).0["findings"].to_string();
        findings.contains("eth0 is down, or has no carrier")
    });
    Ok(())
}
