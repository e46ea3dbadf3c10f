//! A VIP that is the director's own address, as an operator adds it with ipvsadm: everything but the virtual service's
//! port is the host's.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use lvs_tund::lab::{self, Cluster, Host, Lab, udp};
use lvs_tund::packet::checksum;

use crate::answers::raw;
use crate::fixture::{
    Outcome, PATIENCE, assert_conserved, configuration, director_count, poll_until, same_subnet, stop,
};
use crate::host_state::{assert_same, state};
use crate::ipvsadm::Shell;

const SSH: u16 = 22;
const NTP: u16 = 123;
const SERVICE: u16 = 8080;
/// The director's second address, from which outer packets come: the first one is the VIP.
const SECOND: Ipv4Addr = Ipv4Addr::new(172, 25, 3, 4);
const UPLOAD: usize = 20_000_000;

pub fn own_address(capture: &str) -> Outcome {
    let lab = same_subnet(1).build()?;
    let (own, server) = (lab.director.address, &lab.real_servers[0]);
    lab.director.add_address(SECOND, 24)?;
    let _ssh = lab.director.serve_http(SSH)?;
    let _older = lab.director.serve_http(SERVICE)?;
    let _ntp = lab.director.serve_udp(SocketAddrV4::new(own, NTP))?;
    let _behind = server.serve_http(SERVICE)?;
    let _web = lab.client().serve_http(80)?;
    let vip = format!("vips = [\"{own}\"]\ndirectors = [\"{SECOND}\"]\n");
    let file = server.write_file("realserver.toml", &vip)?;
    let mut companion =
        server.spawn_daemon(&["realserver".as_ref(), "--config".as_ref(), file.as_os_str()])?;
    companion.wait_until_ready(server, Cluster::REAL_SERVER_METRICS)?;

    let before = state(&lab.director);
    let shell = Shell::new(&lab);
    let head = format!("capture = \"{capture}\"\ncontrol = \"{}\"", shell.socket.display());
    let mut director = lab::start_director(&lab, &configuration(&lab, &head, &[]))?;
    let mut session = lab.client().connect((own, SSH))?;
    let mut older = lab.client().connect((own, SERVICE))?;
    assert_eq!((session.get("/")?.text(), older.get("/")?.text()), ("director".into(), "director".into()));

    shell.ipvsadm(&format!("-A -t {own}:{SERVICE} -s rr"));
    shell.ipvsadm(&format!("-a -t {own}:{SERVICE} -r {}:{SERVICE} -i", server.address));
    for _ in 0..3 {
        assert_eq!(lab.client().get((own, SERVICE), "/")?.text(), "server2", "a new connection is served");
        assert_eq!(older.get("/")?.text(), "director", "one that is older than the service continues");
        assert_eq!(session.get("/")?.text(), "director", "so does one to another port");
        assert_eq!(lab.client().get((own, SSH), "/")?.text(), "director", "and there are new ones");
    }
    assert_everything_else_is_the_hosts(&lab)?;
    assert!(director_count(&lab, "packets_passed_total", &[]) > (UPLOAD / 1460) as u64);
    assert_eq!(director_count(&lab, "packets_replied_total", &[]), 0);
    assert_conserved(&lab)?;

    shell.ipvsadm(&format!("-D -t {own}:{SERVICE}"));
    assert_eq!(lab.client().get((own, SERVICE), "/")?.text(), "director", "the port is the host's at once");
    assert_eq!((session.get("/")?.text(), older.get("/")?.text()), ("director".into(), "director".into()));
    assert_conserved(&lab)?;
    stop(&mut director)?;
    assert_eq!((session.get("/")?.text(), older.get("/")?.text()), ("director".into(), "director".into()));
    assert_same(&before, &state(&lab.director), "the director's host");
    Ok(())
}

fn assert_everything_else_is_the_hosts(lab: &Lab) -> Outcome {
    let own = lab.director.address;
    let mut large = lab.client().connect((own, SSH))?;
    assert_eq!(large.post("/", &vec![7; UPLOAD])?.status, 200, "a large upload");
    assert_eq!(large.get(&format!("/bytes/{UPLOAD}"))?.body.len(), UPLOAD, "a large download");
    assert_eq!(
        lab.director.get((lab.client().address, 80), "/")?.text(),
        "client",
        "the host's own connection"
    );
    let socket = lab.client().udp_socket()?;
    for size in [10, 1472, 1473, 5000, 60_000] {
        let message = "x".repeat(size);
        let answer = udp::ask(&socket, SocketAddrV4::new(own, NTP), &message)?;
        assert!(answer.contains(&message), "{size} bytes by UDP");
    }
    for size in [10, 4000, 60_000] {
        ping(lab.client(), own, size)?;
    }
    // The host's answers to its own pings come to the VIP.
    ping(&lab.director, lab.client().address, 100)?;
    // The last probe of a traceroute.
    let probe = lab.client().run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
    probe.set_ttl(2)?;
    probe.set_read_timeout(Some(PATIENCE))?;
    probe.connect((own, 33_434))?;
    probe.send(b"probe")?;
    assert_eq!(probe.recv(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    Ok(())
}

fn ping(from: &Host, to: Ipv4Addr, size: usize) -> Outcome {
    let socket = raw(from, 1)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut request = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
    request.resize(8 + size, 7);
    let sum = checksum::checksum(&request);
    request[2..4].copy_from_slice(&sum.to_be_bytes());
    socket.send_to(&request, &SocketAddrV4::new(to, 0).into())?;
    let mut buffer = vec![0; 70_000];
    loop {
        let length = (&socket).read(&mut buffer)?;
        let message = &buffer[20..length];
        if message[0] == 0 && message[4..] == request[4..] {
            return Ok(());
        }
    }
}

/// With `announce = "never"` nothing is announced, but neighbours find the host's own address as before.
pub fn never_announced() -> Outcome {
    let lab = same_subnet(1).build()?;
    let own = lab.director.address;
    let _ssh = lab.director.serve_http(SSH)?;
    let text = format!(
        "\n[[virtual_service]]\nprotocol = \"tcp\"\nvip = \"{own}\"\nport = {SERVICE}\nscheduler = \"rr\"\n"
    );
    let _director = lab::start_director(&lab, &configuration(&lab, "announce = \"never\"", &[text]))?;
    poll_until("a connection after an ARP request", || {
        lab.client().get((own, SSH), "/").ok().filter(|answer| answer.text() == "director")
    });
    assert_conserved(&lab)
}
