//! A real server on the director's own host, and a director and a companion on one host.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use libtest_mimic::Failed;
use lvs_tund::lab::{self, Cluster, Daemon, Lab};

use crate::fixture::{
    Outcome, PATIENCE, ask, ask_times, assert_conserved, assert_round_robin, configuration, director_count,
    poll_until, same_subnet, service, start_real_servers, stop, web,
};
use crate::host_state::{add_address, assert_same, delete_address, state};
use crate::ipvsadm::Shell;

/// A service `web` with every real server of the lab and the director's host.
fn with_director(lab: &Lab, head: &str, rip: &str) -> String {
    let local = format!("\n[[virtual_service.real_server]]\nname = \"here\"\nrip = \"{rip}\"\n");
    configuration(lab, head, &[service(lab, "web", "tcp", 80, 1) + &local])
}

pub fn shares(interface: &str) -> Outcome {
    let lab = same_subnet(1).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let _here = lab.director.serve_http(80)?;
    add_address(&lab.director, interface, lab.vip);
    let before = state(&lab.director);
    let shell = Shell::new(&lab);
    let head = format!("control = \"{}\"", shell.socket.display());
    let own = lab.director.address;
    let mut director = lab::start_director(&lab, &with_director(&lab, &head, &own.to_string()))?;
    assert_round_robin(&ask_times(&lab, 6)?, 2);
    let mut kept: Vec<_> = (0..2).map(|_| lab.client().connect((lab.vip, 80))).collect::<Result<_, _>>()?;
    let mut names: Vec<_> =
        kept.iter_mut().map(|open| open.get("/").map(|a| a.text())).collect::<Result<_, _>>()?;
    names.sort();
    assert_eq!(names, ["director", "server2"]);
    for open in &mut kept {
        assert_eq!(open.post("/", &vec![7; 5_000_000])?.status, 200);
        assert_eq!(open.get("/bytes/5000000")?.body.len(), 5_000_000);
    }
    // As the kernel lists a local real server that was added with -i.
    let list = shell.ipvsadm("-Ln");
    assert!(list.contains("-> 172.25.3.1:80                Tunnel  1      1          "), "{list}");
    let of_here = |name: &str| director_count(&lab, name, &[("real_server", "here")]);
    assert_eq!(of_here("real_server_connections_total"), 4);
    assert!(of_here("real_server_packets_total") > 1000);
    // A quiesced one keeps its connection.
    shell.ipvsadm(&format!("-e -t {}:80 -r {own}:80 -i -w 0", lab.vip));
    assert_eq!(ask_times(&lab, 3)?, ["server2"; 3]);
    for open in &mut kept {
        open.get("/")?;
    }
    shell.ipvsadm(&format!("-d -t {}:80 -r {own}:80", lab.vip));
    shell.ipvsadm(&format!("-a -t {}:80 -r 127.0.0.1:80 -i", lab.vip));
    assert_round_robin(&ask_times(&lab, 4)?, 2);
    assert_conserved(&lab)?;
    stop(&mut director)?;
    assert_same(&before, &state(&lab.director), "the director's host");
    Ok(())
}

pub fn waits_for_the_vip() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let _here = lab.director.serve_http(80)?;
    let shell = Shell::new(&lab);
    let head = format!("control = \"{}\"", shell.socket.display());
    let mut director = lab::start_director(&lab, &with_director(&lab, &head, "127.0.0.1"))?;
    director.wait_for_log("type: ip address add 172.25.3.100/32 dev lo", PATIENCE)?;
    assert_eq!(ask_times(&lab, 4)?, ["server2"; 4]);
    let list = shell.ipvsadm("-Ln");
    assert!(list.contains("-> 127.0.0.1:80                 Tunnel  0 "), "{list}");
    for interface in ["lo", "eth0"] {
        add_address(&lab.director, interface, lab.vip);
        poll_until("both shares", || {
            let answers = ask_times(&lab, 2).ok()?;
            (answers[0] != answers[1]).then_some(())
        });
        assert_round_robin(&ask_times(&lab, 4)?, 2);
        delete_address(&lab.director, lab.vip);
        director.wait_for_log("is no longer a local address", PATIENCE)?;
        poll_until("the other's share", || {
            let answers = ask_times(&lab, 4).ok()?;
            (answers == ["server2"; 4]).then_some(())
        });
    }
    assert_conserved(&lab)
}

/// A companion on the director's host, which accepts packets from this director and another one.
fn start_companion(lab: &Lab) -> Result<Daemon, Failed> {
    let text =
        format!("vips = [\"{}\"]\ndirectors = [\"{}\", \"172.25.3.4\"]\n", lab.vip, lab.director.address);
    let file = lab.director.write_file("realserver.toml", &text)?;
    let mut daemon =
        lab.director.spawn_daemon(&["realserver".as_ref(), "--config".as_ref(), file.as_os_str()])?;
    daemon.wait_until_ready(&lab.director, Cluster::REAL_SERVER_METRICS)?;
    Ok(daemon)
}

/// The VIP on the companion's device, or on `lo`, serves; only on an interface has VRRP given it to this host.
pub fn companion_of_a_backup() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let mut director = lab::start_director(&lab, &web(&lab, "announce = \"local\""))?;
    let assert_silent = || {
        let answer = lab
            .client()
            .run(|| TcpStream::connect_timeout(&(lab.vip, 80).into(), Duration::from_millis(200)));
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::TimedOut, "a backup does not answer for the VIP");
    };
    assert_silent();
    let mut companion = start_companion(&lab)?;
    director.wait_for_log("is now a local address", PATIENCE)?;
    assert_silent();
    add_address(&lab.director, "lo", lab.vip);
    assert_silent();
    assert!(!director.log().contains("answers ARP"), "{}", director.log());
    add_address(&lab.director, "eth0", lab.vip);
    director.wait_for_log("host: this host answers ARP for VIP 172.25.3.100", PATIENCE)?;
    assert_eq!(poll_until("the master's answer", || ask(&lab).ok()), "server2");
    stop(&mut companion)?;
    assert_eq!(ask(&lab)?, "server2");
    assert_conserved(&lab)
}
