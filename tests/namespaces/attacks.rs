//! What must not stop a daemon: a log, a file or a client that does not work, and clients that want all places.

use std::fs::OpenOptions;
use std::io::{PipeReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use lvs_tund::control::Client;
use lvs_tund::control::model::Operation;
use lvs_tund::lab::{self, Cluster, Daemon, Host, Lab};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::answers::{ipv4, raw, segment};
use crate::fixture::{
    Outcome, PATIENCE, ask, assert_conserved, configuration, director_metrics, poll_until, real_server_count,
    same_subnet, start_real_server_with, start_real_servers, stop, web,
};
use crate::host_state::{assert_same, state};

const METRICS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, Cluster::DIRECTOR_METRICS));

/// A daemon ends within this time, whatever its clients and its log do.
const END: Duration = Duration::from_secs(1);

fn head(lab: &Lab) -> String {
    format!("control = \"{}\"\n", Cluster::control_path(lab).display())
}

fn client(lab: &Lab) -> Client {
    Client::new(Some(&Cluster::control_path(lab))).expect("a client")
}

/// Changes a weight, which logs a line.
fn set_weight(lab: &Lab, weight: u32) {
    let operation = Operation::SetWeight { virtual_service: None, real_server: "server2".to_owned(), weight };
    // A place becomes free when the slowest request is old enough to be given up.
    poll_until("a change", || client(lab).change(&vec![operation.clone()].into()).ok());
}

fn is_ready(host: &Host) -> bool {
    host.get(METRICS, "/readyz").is_ok_and(|answer| answer.status == 200)
}

fn ends_at_once(daemon: &mut Daemon) -> Outcome {
    let begun = Instant::now();
    daemon.signal(Signal::SIGTERM)?;
    let status = daemon.wait(PATIENCE)?;
    assert!(status.success() && begun.elapsed() < END, "{status} after {:?}", begun.elapsed());
    Ok(())
}

/// A standard error that does not work, and what keeps it so.
fn broken_errors() -> Vec<(&'static str, Stdio, Option<PipeReader>, bool)> {
    let (reader, closed) = std::io::pipe().expect("a pipe");
    drop(reader);
    let full = OpenOptions::new().write(true).open("/dev/full").expect("the device");
    let (reader, mut stalled) = std::io::pipe().expect("a pipe");
    let capacity = fcntl(&stalled, FcntlArg::F_SETPIPE_SZ(4096)).expect("a size");
    stalled.write_all(&vec![b'x'; capacity as usize]).expect("a full pipe");
    vec![
        ("a reader that has gone", closed.into(), None, true),
        ("a full disk", full.into(), None, true),
        ("a reader that has stalled", stalled.into(), Some(reader), false),
    ]
}

/// Neither a change nor SIGTERM nor a packet waits for the log; the lines are lost, and counted.
pub fn broken_log() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (_web, mut real_servers) = start_real_servers(&lab)?;
    let file = lab.director.write_file("director.toml", &web(&lab, &head(&lab)))?;
    let before = state(&lab.director);
    for (what, errors, _reader, is_lost) in broken_errors() {
        let arguments = ["director".as_ref(), "--config".as_ref(), file.as_os_str()];
        let mut director = lab.director.spawn_daemon_with_errors_to(&arguments, errors)?;
        director.wait_until_ready(&lab.director, Cluster::DIRECTOR_METRICS)?;
        (2..30).for_each(|weight| set_weight(&lab, weight));
        assert_eq!(ask(&lab)?, "server2", "{what}");
        let lost = director_metrics(&lab)?.sum("lvs_tund_log_lines_lost_total", &[]);
        assert_eq!(lost.is_some_and(|lost| lost >= 28.0), is_lost, "{what}: {lost:?}");
        assert_conserved(&lab)?;
        ends_at_once(&mut director)?;
        assert_same(&before, &state(&lab.director), what);
    }
    real_servers.iter_mut().try_for_each(stop)?;
    let host = &lab.real_servers[0];
    let before = state(host);
    for (what, errors, _reader, _) in broken_errors() {
        let (vip, director) = (lab.vip.to_string(), lab.director.address.to_string());
        let arguments = ["realserver", "--vip", &vip, "--director", &director];
        let mut daemon = host.spawn_daemon_with_errors_to(&arguments, errors)?;
        daemon.wait_until_ready(host, Cluster::REAL_SERVER_METRICS)?;
        ends_at_once(&mut daemon)?;
        assert_same(&before, &state(host), what);
    }
    Ok(())
}

const SERVICES: usize = 400;

/// So many services, with names so long, that their metrics are longer than a text that is sent as a whole.
fn many_services(lab: &Lab) -> String {
    let name = "x".repeat(110);
    let service = |index: usize| {
        let (vip, rip) = (lab.vip, lab.real_servers[0].address);
        format!(
            "[[virtual_service]]\nname = \"web-{index}-{name}\"\nprotocol = \"tcp\"\nvip = \"{vip}\"\nport = {}\n\
             [[virtual_service.real_server]]\nname = \"server2\"\nrip = \"{rip}\"\n",
            index + 80
        )
    };
    configuration(lab, &head(lab), &(0..SERVICES).map(service).collect::<Vec<_>>())
}

fn resident_mebibytes(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}

/// Any number of silent clients, slow scrapes and half bodies: probes, scrapes, commands and changes are answered, memory is
/// bounded, and SIGTERM waits for none of them.
pub fn clients_that_want_all_places() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let mut director = lab::start_director(&lab, &many_services(&lab))?;
    let connect = || lab.director.run(|| TcpStream::connect(METRICS).expect("a connection"));
    let idle: Vec<TcpStream> = (0..300).map(|_| connect()).collect();
    assert!(is_ready(&lab.director), "with {} idle clients", idle.len());
    let text = lab.director.get(METRICS, "/metrics")?.body;
    assert!(text.len() > 1 << 20, "{} bytes", text.len());
    let before = resident_mebibytes(&director);
    let slow = |_| {
        let mut stream = connect();
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").expect("a request");
        stream
    };
    let slow: Vec<TcpStream> = (0..200).map(slow).collect();
    assert!(is_ready(&lab.director), "with {} slow scrapes", slow.len());
    poll_until("a scrape", || director_metrics(&lab).ok());
    let after = resident_mebibytes(&director);
    assert!(after < before + 32, "{before} MiB before, {after} MiB with {} slow scrapes", slow.len());
    let half = |_| {
        let mut stream = UnixStream::connect(Cluster::control_path(&lab)).expect("a connection");
        let length = 31 << 20;
        write!(stream, "POST /api/v1/changes HTTP/1.1\r\nhost: d\r\ncontent-length: {length}\r\n\r\n{{")
            .expect("a part of a request");
        stream
    };
    let half: Vec<UnixStream> = (0..300).map(half).collect();
    assert_eq!(client(&lab).status().expect("the status").virtual_services, SERVICES);
    assert!(is_ready(&lab.director), "with {} half bodies", half.len());
    set_weight(&lab, 3);
    assert_eq!(ask(&lab)?, "server2");
    assert_conserved(&lab)?;
    ends_at_once(&mut director)
}

/// Whether the other end has closed the connection.
fn was_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket without waiting");
    matches!(stream.peek(&mut [0]), Ok(0))
}

/// A process without files left takes one from an idle client.
pub fn few_files() -> Outcome {
    let lab = same_subnet(1).build()?;
    let mut director = lab::start_director(&lab, &web(&lab, &head(&lab)))?;
    let path = format!("/proc/{}/fd", director.id());
    let open = std::fs::read_dir(&path)?.count() as u64;
    let limit = Rlimit { current: Some(open + 6), maximum: Some(open + 6) };
    prlimit(Pid::from_raw(director.id() as i32), Resource::Nofile, limit)?;
    let connect = || lab.director.run(|| TcpStream::connect(METRICS).expect("a connection"));
    let idle: Vec<TcpStream> = (0..20).map(|_| connect()).collect();
    poll_until("a client whose file was taken", || idle.iter().any(was_closed).then_some(()));
    assert!(is_ready(&lab.director));
    drop(idle);
    let idle: Vec<UnixStream> =
        (0..20).map(|_| UnixStream::connect(Cluster::control_path(&lab))).collect::<Result<_, _>>()?;
    let begun = Instant::now();
    assert_eq!(client(&lab).status().expect("the status").virtual_services, 1);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    drop(idle);
    ends_at_once(&mut director)
}

/// The configuration is replaced by a FIFO without a writer: its reload waits alone.
pub fn endless_configuration() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let mut director = lab::start_director(&lab, &web(&lab, &head(&lab)))?;
    let file = client(&lab).status().expect("the status").config_file.expect("a file");
    std::fs::remove_file(&file)?;
    nix::unistd::mkfifo(Path::new(&file), Mode::S_IRWXU)?;
    director.signal(Signal::SIGHUP)?;
    let begun = Instant::now();
    set_weight(&lab, 7);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    std::fs::remove_file(&file)?;
    std::os::unix::fs::symlink("/dev/zero", &file)?;
    director.signal(Signal::SIGHUP)?;
    director.wait_for_log("reload refused: ", PATIENCE)?;
    assert!(
        director.log().contains("cannot read: longer than 64 MiB; nothing was changed"),
        "{}",
        director.log()
    );
    assert_eq!(ask(&lab)?, "server2");
    ends_at_once(&mut director)
}

/// What a browser sends for a page whose name leads here gets nothing.
pub fn another_hosts_name() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let head = head(&lab) + "api = \"127.0.0.1:9692\"\nhttp_names = [\"director1.example.com\"]\n";
    let _director = lab::start_director(&lab, &web(&lab, &head))?;
    let status = |host: &Host, port: u16, path: &str, name: &str| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = host.run(|| TcpStream::connect(address)).expect("a connection");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n")
            .expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.split(' ').nth(1).map(str::to_owned).unwrap_or_default()
    };
    let own = [(Cluster::DIRECTOR_METRICS, "/metrics"), (9692, "/api/v1/connections"), (9692, "/readyz")];
    for (port, path) in own {
        for (name, expected) in
            [("evil.example", "421"), ("director1.example.com", "200"), ("127.0.0.1:1", "200")]
        {
            assert_eq!(status(&lab.director, port, path, name), expected, "{path} {name}");
        }
    }
    let server = &lab.real_servers[0];
    assert_eq!(status(server, Cluster::REAL_SERVER_METRICS, "/metrics", "evil.example"), "421");
    assert_eq!(status(server, Cluster::REAL_SERVER_METRICS, "/metrics", "localhost"), "200");
    Ok(())
}

/// Every thread has the capabilities for packets and settings of the network, and cannot gain others.
pub fn capabilities() -> Outcome {
    /// CAP_DAC_READ_SEARCH, CAP_NET_ADMIN and CAP_NET_RAW of linux/capability.h.
    const KEPT: u64 = 1 << 2 | 1 << 12 | 1 << 13;
    /// CAP_KILL, CAP_SETGID and CAP_SETUID, of the thread that starts programs.
    const FOR_PROGRAMS: u64 = 1 << 5 | 1 << 6 | 1 << 7;
    let lab = same_subnet(1).build()?;
    let cluster = Cluster::start(&lab)?;
    for daemon in [&cluster.director, &cluster.real_servers[0]] {
        // Starts a thread for work that blocks.
        client(&lab).configuration().expect("the configuration");
        let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.id()))?;
        let mut threads = 0;
        for task in tasks {
            let status = std::fs::read_to_string(task?.path().join("status"))?;
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
                line.trim().to_owned()
            };
            for name in ["CapEff:", "CapPrm:", "CapInh:"] {
                let bits = u64::from_str_radix(&field(name), 16)?;
                let thread = field("Name:");
                let kept = if thread == "lvs-tund-progra" { KEPT | FOR_PROGRAMS } else { KEPT };
                assert_eq!(bits & !kept, 0, "{} {name} {bits:x} of {thread}", daemon.name());
            }
            assert_eq!(field("NoNewPrivs:"), "1", "{} of {}", field("Name:"), daemon.name());
            threads += 1;
        }
        assert!(threads >= 4, "{threads} threads");
    }
    assert_eq!(ask(&lab)?, "server2");
    Ok(())
}

/// Outer packets for everyone, with a director's source, are not delivered; those for an address that has come are.
pub fn outer_destinations() -> Outcome {
    let lab = same_subnet(1).build()?;
    let server = &lab.real_servers[0];
    let _daemon = start_real_server_with(&lab, server, "")?;
    let sent = segment(lab.client().address, lab.vip, 40_000, 80, 0x02, 7, 0);
    let inner = ipv4(lab.client().address, lab.vip, 6, &sent);
    let socket = raw(&lab.director, 4)?;
    socket.set_broadcast(true)?;
    let send = |to: Ipv4Addr| socket.send_to(&inner, &SocketAddrV4::new(to, 0).into());
    let refused = || real_server_count(server, "packets_dropped_total", &[("reason", "outer_not_own")]);
    let delivered = || real_server_count(server, "packets_delivered_total", &[]);
    let broadcast = Ipv4Addr::from(u32::from(server.address) | 0xff);
    send(broadcast)?;
    send(Ipv4Addr::BROADCAST)
        .or_else(|error| if error.raw_os_error() == Some(101) { Ok(0) } else { Err(error) })?;
    poll_until("the refusal", || (refused() >= 1).then_some(()));
    assert_eq!(delivered(), 0);
    send(server.address)?;
    poll_until("the delivery", || (delivered() == 1).then_some(()));
    let other = Ipv4Addr::from(u32::from(server.address) + 100);
    server.add_address(other, 24)?;
    poll_until("a delivery to the address that has come", || {
        send(other).expect("a packet");
        (delivered() > 1).then_some(())
    });
    Ok(())
}
