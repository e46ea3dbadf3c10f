//! What attacks cost honest clients, with the real binaries: `cargo bench --bench attack`. `LVS_TUND` names another
//! binary to compare with. It prints three tables:
//!
//! - scrapes: the time of a request on established connections, and new connections that fail, while 250 readers take
//!   `/metrics` of 1,000 virtual services slowly;
//! - memory: the same in a memory cgroup of 64 MiB, where this host has the cgroup (v1) and allows it;
//! - floods: forged datagrams and SYNs, ten times the table in all, against established and new connections.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use lvs_tund::lab::http::Connection;
use lvs_tund::lab::{self, Cluster, Daemon, Host, Lab, LabError, Topology};
use lvs_tund::metrics::names;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

const METRICS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, Cluster::DIRECTOR_METRICS);

/// How long each situation is measured.
const DURATION: Duration = Duration::from_secs(6);
/// A client's patience with a new connection: the first SYN, and one retransmission a second later.
const PATIENCE: Duration = Duration::from_millis(1_900);
const READERS: usize = 250;
const SERVICES: usize = 1_000;
const TABLE: usize = 16_384;
const ESTABLISHED: usize = 100;

fn main() -> ExitCode {
    // Must enter the user namespace before any thread starts.
    let outcome = lab::enter().and_then(|_| lab::require_tun());
    match outcome.and_then(|()| scrapes()).and_then(|()| memory()).and_then(|()| floods()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn topology() -> Result<Lab, LabError> {
    let own = || PathBuf::from(env!("CARGO_BIN_EXE_lvs-tund"));
    let program = std::env::var_os("LVS_TUND").map_or_else(own, PathBuf::from);
    Topology::routed(2).with_program(program).build()
}

/// Port 80 of the VIP in TCP and UDP, further ports for the length of the metrics, and keys of the whole file.
fn start(lab: &Lab, services: usize, head: &str) -> Result<(Cluster, Daemon), LabError> {
    let mut cluster = Cluster::start(lab)?;
    cluster.director.stop()?;
    let control = Cluster::control_path(lab);
    let mut text = format!(
        "interface = \"{}\"\ncontrol = \"{}\"\n{head}\n",
        lab.director.interface(),
        control.display()
    );
    let ports = (0..services).map(|index| ("tcp", 80 + index)).chain([("udp", 53)]);
    for (protocol, port) in ports {
        let vip = lab.vip;
        text.push_str(&format!(
            "[[virtual_service]]\nprotocol = \"{protocol}\"\nvip = \"{vip}\"\nport = {port}\nscheduler = \"rr\"\n"
        ));
        for server in &lab.real_servers {
            text.push_str(&format!("[[virtual_service.real_server]]\nrip = \"{}\"\n", server.address));
        }
    }
    let director = lab::start_director(lab, &text)?;
    Ok((cluster, director))
}

/// What clients experience.
#[derive(Default)]
struct Experience {
    /// Of the requests on established connections.
    latencies: Vec<Duration>,
    lost: usize,
    tried: usize,
    failed: usize,
}

impl Experience {
    fn percentile(&mut self, percent: usize) -> Duration {
        self.latencies.sort_unstable();
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((self.latencies.len() * percent / 100).min(last)).copied().unwrap_or_default()
    }

    fn row(&mut self) -> String {
        let (half, most, all) = (self.percentile(50), self.percentile(99), self.percentile(100));
        let Experience { lost, tried, failed, .. } = self;
        format!("{half:>9.2?} {most:>9.2?} {all:>9.2?} | {lost} lost | {failed} of {tried} new failed")
    }
}

/// Requests on four established connections, and ten new connections a second.
fn experience(lab: &Lab) -> Experience {
    let web = SocketAddrV4::new(lab.vip, 80);
    let deadline = Instant::now() + DURATION;
    let client = lab.client();
    let established = || {
        let mut found = Experience::default();
        let Ok(mut connection) = client.run(|| Connection::open(web.into(), PATIENCE)) else {
            return Experience { lost: 1, ..found };
        };
        while Instant::now() < deadline {
            let begun = Instant::now();
            if connection.get("/").is_err() {
                found.lost += 1;
                return found;
            }
            found.latencies.push(begun.elapsed());
            sleep(Duration::from_millis(5));
        }
        found
    };
    let new = || {
        let mut found = Experience::default();
        while Instant::now() < deadline {
            found.tried += 1;
            let answer = client.run(|| Connection::open(web.into(), PATIENCE).and_then(|mut it| it.get("/")));
            found.failed += usize::from(answer.is_err());
            sleep(Duration::from_millis(100));
        }
        found
    };
    std::thread::scope(|scope| {
        let mut threads: Vec<_> = (0..4).map(|_| scope.spawn(established)).collect();
        threads.push(scope.spawn(new));
        let mut all = Experience::default();
        for found in threads.into_iter().filter_map(|thread| thread.join().ok()) {
            all.latencies.extend(found.latencies);
            all.lost += found.lost;
            all.tried += found.tried;
            all.failed += found.failed;
        }
        all
    })
}

fn scrape(director: &Host) -> io::Result<TcpStream> {
    let mut stream = director.run(|| TcpStream::connect(METRICS))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Readers that take 4 KiB twenty times a second, and come back when they are sent away.
fn read_slowly(director: &Host, ends: &AtomicBool) {
    let mut readers: Vec<Option<TcpStream>> = (0..READERS).map(|_| None).collect();
    let mut buffer = [0; 4096];
    while !ends.load(Ordering::Relaxed) {
        for reader in &mut readers {
            let is_over = match reader {
                None => true,
                Some(stream) => match stream.read(&mut buffer) {
                    Ok(0) => true,
                    Ok(_) => false,
                    Err(error) => error.kind() != io::ErrorKind::WouldBlock,
                },
            };
            if is_over {
                *reader = scrape(director).ok();
            }
        }
        sleep(Duration::from_millis(50));
    }
}

fn with_slow_readers(lab: &Lab) -> Experience {
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| read_slowly(&lab.director, &ends));
        sleep(Duration::from_secs(1));
        let found = experience(lab);
        ends.store(true, Ordering::Relaxed);
        found
    })
}

fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() / 1024
}

fn scrapes() -> Result<(), LabError> {
    let lab = topology()?;
    let (_cluster, director) = start(&lab, SERVICES, "")?;
    println!("established: half, 99 of 100, and all requests took less than");
    println!("no scrapes      {}", experience(&lab).row());
    let row = with_slow_readers(&lab).row();
    println!("{READERS} slow readers {row} | at most {} MiB resident", resident(director.id()));
    Ok(())
}

/// A memory cgroup (v1) of 64 MiB, removed with the value.
struct Small(PathBuf);

impl Small {
    fn with(process: u32) -> io::Result<Small> {
        let path = PathBuf::from(format!("/sys/fs/cgroup/memory/lvs-tund-bench-{}", std::process::id()));
        fs::create_dir(&path)?;
        let small = Small(path);
        fs::write(small.0.join("memory.limit_in_bytes"), (64 << 20).to_string())?;
        fs::write(small.0.join("cgroup.procs"), process.to_string())?;
        Ok(small)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // A cgroup in use cannot be removed; its processes have ended by now.
        for _ in 0..50 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            sleep(Duration::from_millis(20));
        }
    }
}

fn memory() -> Result<(), LabError> {
    let lab = topology()?;
    let (_cluster, mut director) = start(&lab, SERVICES, "")?;
    let small = match Small::with(director.id()) {
        Ok(small) => small,
        Err(error) => {
            println!("64 MiB cgroup: not measured: {error}");
            return Ok(());
        }
    };
    let row = with_slow_readers(&lab).row();
    let end =
        director.exit_status().map_or_else(|| "is alive".to_owned(), |status| format!("ended: {status}"));
    println!("in 64 MiB       {row} | the director {end}");
    drop(director);
    drop(small);
    Ok(())
}

/// A datagram or a SYN from one of many forged sources.
fn forged(lab: &Lab, number: u32, is_tcp: bool) -> Vec<u8> {
    let source = (0xc612_0000 + number / 8).to_be_bytes();
    let port = 1024 + u16::try_from(number % 8).unwrap_or(0) * 31;
    let packet = PacketBuilder::ipv4(source, lab.vip.octets(), 60);
    let mut bytes = Vec::new();
    let written = match is_tcp {
        true => packet.tcp(port, 80, number, 65_000).syn().write(&mut bytes, &[]),
        false => packet.udp(port, 53).write(&mut bytes, b"forged"),
    };
    written.unwrap_or_else(|error| panic!("{error}"));
    bytes
}

/// Sends ten times the table within the time of the measurement.
fn flood(lab: &Lab, is_tcp: fn(u32) -> bool) -> io::Result<usize> {
    let raw = lab.client().run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))))?;
    let to = SockAddr::from(SocketAddrV4::new(lab.vip, 0));
    let (begun, all) = (Instant::now(), 10 * TABLE as u32);
    let mut sent = 0;
    for number in 0..all {
        sent += usize::from(raw.send_to(&forged(lab, number, is_tcp(number)), &to).is_ok());
        if number % 64 == 0 {
            let due = DURATION.mul_f64(f64::from(number) / f64::from(all));
            sleep(due.saturating_sub(begun.elapsed()));
        }
    }
    Ok(sent)
}

fn entries(lab: &Lab) -> Result<u64, LabError> {
    let scrape = lab.director.scrape(Cluster::DIRECTOR_METRICS)?;
    Ok(scrape.sum(names::CONNECTIONS, &[]).unwrap_or_default() as u64)
}

/// Whether a packet of a flood is a SYN, by its number.
type IsTcp = fn(u32) -> bool;

fn floods() -> Result<(), LabError> {
    println!("floods of {} packets against a table of {TABLE} entries", 10 * TABLE);
    let floods: [(&str, IsTcp); 3] =
        [("datagrams", |_| false), ("SYNs", |_| true), ("both", |number| number % 2 == 0)];
    for (name, is_tcp) in floods {
        let lab = topology()?;
        let (_cluster, _director) = start(&lab, 1, &format!("connections_max = {TABLE}"))?;
        let web = SocketAddrV4::new(lab.vip, 80);
        let open = || lab.client().run(|| Connection::open(web.into(), PATIENCE)).ok();
        let mut established: Vec<Connection> = (0..ESTABLISHED).filter_map(|_| open()).collect();
        let works = |connections: &mut Vec<Connection>| {
            connections.iter_mut().filter_map(|it| it.get("/").ok()).count()
        };
        assert_eq!(works(&mut established), ESTABLISHED, "before the flood");
        let (sent, mut begun, mut tried) = std::thread::scope(|scope| {
            let flood = scope.spawn(|| flood(&lab, is_tcp));
            let (mut begun, mut tried) = (Vec::new(), 0);
            while !flood.is_finished() {
                tried += 1;
                begun.extend(open());
                sleep(Duration::from_millis(20));
            }
            (flood.join().ok().and_then(Result::ok).unwrap_or(0), begun, tried)
        });
        let made = begun.len();
        tried = tried.max(1);
        let entries = entries(&lab)?;
        sleep(Duration::from_secs(5));
        println!(
            "{name:>10}: {sent} packets, {entries} entries | established: {} of {ESTABLISHED} live | new: {made} of {tried} connected, {} live \
             after 5 s idle",
            works(&mut established),
            works(&mut begun),
        );
    }
    Ok(())
}
