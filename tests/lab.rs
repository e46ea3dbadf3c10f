//! The lab itself: its networks carry packets, its captures and counters are true, and it leaves nothing
//! behind. Run as root or in a user namespace, which `main` enters before there is a second thread.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use lvs_tund::lab::{
    self, Direction, Filter, Lab, LabError, Namespace, Privilege, TemporaryDirectory, Topology,
};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;

type Outcome = Result<(), Failed>;
type Test = fn() -> Outcome;

const TESTS: &[(&str, Test)] = &[
    ("clients_and_real_servers_reach_each_other_in_one_subnet", same_subnet),
    ("clients_reach_real_servers_in_other_subnets_through_the_router", routed),
    ("names_and_addresses_are_those_of_the_plan", plan),
    ("the_largest_lab_can_be_built", largest),
    ("a_topology_that_does_not_exist_is_refused", impossible_topologies),
    ("a_connection_serves_several_requests_and_large_bodies", connections),
    ("a_dropped_server_no_longer_answers", dropped_server),
    ("udp_is_answered_from_the_address_asked", udp),
    ("a_capture_sees_both_directions_and_only_what_it_filters", capture),
    ("a_capture_sees_nothing_of_packets_that_go_elsewhere", capture_elsewhere),
    ("a_capture_sees_replies_when_the_director_does_send_them", capture_of_replies),
    ("interfaces_count_what_passes", counters),
    ("a_narrow_path_is_answered_with_icmp", narrow_path),
    ("a_host_can_be_disconnected_and_connected_again", disconnected),
    ("hosts_begin_with_strict_reverse_path_filters", sysctls),
    ("the_machine_is_left_as_it_was", machine_untouched),
    ("a_panic_inside_a_namespace_reaches_the_caller", panics),
    ("a_daemon_becomes_ready_and_stops_when_asked", daemon),
    ("a_daemon_that_fails_says_why", failing_daemon),
    ("a_stubborn_daemon_is_killed", stubborn_daemon),
    ("a_panic_ends_the_daemons", || lab_that_dies(Death::Panic)),
    ("a_killed_lab_ends_its_daemons", || lab_that_dies(Death::Kill)),
    ("an_ordinary_user_can_build_a_lab_or_learns_why_not", ordinary_user),
];

/// The word that makes this binary play a daemon or a lab instead of testing.
const ACT: &str = "--act-as";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    if arguments.get(1).is_some_and(|argument| argument == ACT) {
        return act(&arguments[2]);
    }
    let entered = lab::enter().err().map(|error| error.to_string());
    let trials = TESTS.iter().map(|&(name, test)| {
        let missing = entered.clone();
        Trial::test(name, move || missing.map_or_else(test, |missing| Err(missing.into())))
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn same_subnet() -> Outcome {
    let lab = Topology::same_subnet(2).build()?;
    let servers = serve(&lab)?;
    assert_eq!(ask(&lab), ["server2", "server3"]);
    assert_eq!(servers.iter().map(lab::http::Server::requests).collect::<Vec<_>>(), [1, 1]);
    Ok(())
}

fn routed() -> Outcome {
    let lab = Topology::routed(2).with_stranger().build()?;
    let _servers = serve(&lab)?;
    assert_eq!(ask(&lab), ["server2", "server3"]);
    let stranger = lab.stranger.as_ref().expect("requested");
    assert_eq!(stranger.get((lab.real_servers[1].address, 80), "/")?.text(), "server3");
    // packets that claim to come from the VIP pass the router, though its route to the VIP points elsewhere
    assert_eq!(lab.middle.read_sysctl("net.ipv4.conf.net12.rp_filter")?, "0");
    Ok(())
}

fn plan() -> Outcome {
    let lab = Topology::same_subnet(9).with_clients(3).with_stranger().build()?;
    let hosts: Vec<_> = lab.hosts().map(|host| format!("{} {}", host.name, host.address)).collect();
    assert_eq!(
        hosts[..5],
        [
            "client 172.25.3.10",
            "client2 172.25.3.111",
            "client3 172.25.3.112",
            "director 172.25.3.1",
            "server2 172.25.3.2"
        ]
    );
    assert_eq!(hosts[11..], ["server9 172.25.3.9", "server11 172.25.3.11", "stranger 172.25.3.99"]);
    assert_eq!(lab.vip, Ipv4Addr::new(172, 25, 3, 100));
    let lab = Topology::routed(2).build()?;
    let hosts: Vec<_> = lab.hosts().map(|host| format!("{} {}", host.name, host.address)).collect();
    let expected =
        ["client 172.25.1.10", "director 172.25.3.1", "server2 172.25.12.2", "server3 172.25.13.2"];
    assert_eq!(hosts, expected);
    Ok(())
}

fn largest() -> Outcome {
    let lab = Topology::routed(lab::REAL_SERVERS_MAX).build()?;
    let _servers = serve(&lab)?;
    let answers: BTreeSet<_> = ask(&lab).into_iter().collect();
    assert_eq!(answers.len(), lab::REAL_SERVERS_MAX);
    Ok(())
}

fn impossible_topologies() -> Outcome {
    for topology in [
        Topology::same_subnet(0),
        Topology::same_subnet(lab::REAL_SERVERS_MAX + 1),
        Topology::routed(1).with_clients(0),
    ] {
        assert!(matches!(topology.build(), Err(LabError::Topology(_))), "{topology:?}");
    }
    let lab = Topology::same_subnet(1).build()?;
    assert!(matches!(lab.set_path_mtu(0, 1400), Err(LabError::Topology(_))));
    Ok(())
}

fn connections() -> Outcome {
    let lab = Topology::same_subnet(1).build()?;
    let servers = serve(&lab)?;
    let mut connection = lab.client().connect((lab.real_servers[0].address, 80))?;
    for _ in 0..3 {
        assert_eq!(connection.get("/")?.text(), "server2");
    }
    assert_eq!(connection.get("/bytes/1000000")?.body.len(), 1_000_000);
    assert_eq!(connection.post("/", &vec![0; 1_000_000])?.text(), "server2");
    assert_eq!(servers[0].requests(), 5);
    Ok(())
}

fn dropped_server() -> Outcome {
    let lab = Topology::same_subnet(1).build()?;
    let servers = serve(&lab)?;
    let address = (lab.real_servers[0].address, 80);
    let mut connection = lab.client().connect(address)?;
    assert_eq!(connection.get("/")?.text(), "server2");
    drop(servers);
    assert!(connection.get("/").is_err(), "an open connection is closed");
    assert!(lab.client().get(address, "/").is_err(), "a new one is refused");
    Ok(())
}

fn udp() -> Outcome {
    let lab = Topology::same_subnet(1).build()?;
    let server = &lab.real_servers[0];
    let address = SocketAddrV4::new(lab.vip, 53);
    // bound while the host does not hold the VIP yet
    let _udp = server.serve_udp(address)?;
    server.add_address(lab.vip, 32)?;
    let socket = lab.client().udp_socket()?;
    socket.connect(address)?;
    assert_eq!(lab::udp::ask(&socket, address, "hello")?, "server2 hello");
    Ok(())
}

fn capture() -> Outcome {
    let lab = Topology::same_subnet(2).build()?;
    let _servers = serve(&lab)?;
    let [client, server] = [lab.client().address, lab.real_servers[0].address];
    let all = lab.client().capture(Filter::default())?;
    let replies = lab.client().capture(Filter { source: Some(server), destination: Some(client) })?;
    ask(&lab);
    let expected = |direction| {
        move |packets: &[lab::CapturedPacket]| packets.iter().any(|packet| packet.direction == direction)
    };
    assert!(all.wait_until(Duration::from_secs(2), expected(Direction::Transmitted)));
    let (all, replies) = (all.stop(), replies.stop());
    assert!(all.iter().any(|packet| packet.source() == lab.real_servers[1].address));
    assert!(
        all.iter().all(|packet| (packet.source() == client) == (packet.direction == Direction::Transmitted))
    );
    assert!(!replies.is_empty());
    for packet in &replies {
        assert_eq!((packet.source(), packet.destination()), (server, client));
        assert_eq!((packet.direction, packet.protocol()), (Direction::Received, 6));
    }
    // "server2\n" and the response head came in one of them
    assert!(replies.iter().any(|packet| packet.length() > 100));
    Ok(())
}

fn capture_elsewhere() -> Outcome {
    let lab = Topology::same_subnet(1).build()?;
    let _servers = serve(&lab)?;
    let filter = Filter { source: Some(lab.real_servers[0].address), destination: None };
    let capture = lab.director.capture(filter)?;
    assert!(!capture.wait_until(Duration::from_millis(1), |packets| !packets.is_empty()));
    assert_eq!(ask(&lab), ["server2"]);
    let seen = capture.stop();
    assert!(seen.is_empty(), "{seen:?}");
    assert!(matches!(
        lab::Capture::start(&lab.director.namespace, "eth7", filter),
        Err(LabError::Netlink { .. })
    ));
    Ok(())
}

/// The demo's proof is a capture that stays empty; here it must not.
fn capture_of_replies() -> Outcome {
    let lab = Topology::same_subnet(1).build()?;
    lab.director.add_address(lab.vip, 32)?;
    let _server = lab.director.serve_http(80)?;
    let filter = Filter { source: Some(lab.vip), destination: Some(lab.client().address) };
    let (at_director, at_client) = (lab.director.capture(filter)?, lab.client().capture(filter)?);
    assert_eq!(lab.client().get((lab.vip, 80), "/")?.text(), "director");
    let bytes = |packets: Vec<lab::CapturedPacket>| -> u64 {
        packets
            .iter()
            .inspect(|packet| assert_eq!(packet.source(), lab.vip))
            .map(|packet| packet.length())
            .sum()
    };
    let (at_director, at_client) = (bytes(at_director.stop()), bytes(at_client.stop()));
    assert!(at_director > 100, "{at_director}");
    assert!(at_client >= at_director, "{at_client}");
    Ok(())
}

fn counters() -> Outcome {
    let lab = Topology::same_subnet(1).build()?;
    let _servers = serve(&lab)?;
    let before = lab.client().counters("eth0")?;
    lab.client().connect((lab.real_servers[0].address, 80))?.post("/", &vec![0; 100_000])?;
    let after = lab.client().counters("eth0")?;
    assert!(after.bytes_transmitted - before.bytes_transmitted > 100_000);
    assert!(after.packets_received > before.packets_received);
    assert_eq!(lab.client().interfaces()?, ["lo", "eth0"]);
    Ok(())
}

fn narrow_path() -> Outcome {
    let lab = Topology::routed(2).build()?;
    lab.set_path_mtu(0, 1300)?;
    let capture = lab.client().capture(Filter { source: lab.client().gateway, destination: None })?;
    let socket = lab.client().udp_socket()?;
    // UDP sets DF by default, ip(7) IP_PMTUDISC_WANT
    socket.send_to(&[0; 1400], (lab.real_servers[1].address, 9))?;
    socket.send_to(&[0; 1400], (lab.real_servers[0].address, 9))?;
    let fragmentation_needed = |packets: &[lab::CapturedPacket]| {
        packets.iter().any(|packet| packet.protocol() == 1 && packet.bytes[20..22] == [3, 4])
    };
    assert!(capture.wait_until(Duration::from_secs(2), fragmentation_needed));
    let packets = capture.stop();
    assert_eq!(packets.len(), 1, "only the narrow path is narrow: {packets:?}");
    // RFC 1191 §4: the next-hop MTU in the last two bytes of the ICMP header
    assert_eq!(packets[0].bytes[26..28], 1300_u16.to_be_bytes());
    Ok(())
}

fn disconnected() -> Outcome {
    let lab = Topology::routed(2).build()?;
    let _servers = serve(&lab)?;
    let server = &lab.real_servers[0];
    server.set_connected(false)?;
    assert!(lab.client().get((server.address, 80), "/").is_err());
    server.set_connected(true)?;
    assert_eq!(ask(&lab), ["server2", "server3"]);
    Ok(())
}

fn sysctls() -> Outcome {
    let lab = Topology::routed(1).build()?;
    for host in lab.hosts() {
        for interface in ["all", "default", "eth0"] {
            let value = host.namespace.read_sysctl(&format!("net.ipv4.conf.{interface}.rp_filter"))?;
            assert_eq!(value, "1", "{interface} of {}", host.name);
        }
        assert_eq!(host.namespace.read_sysctl("net.ipv4.ip_forward")?, "0", "{}", host.name);
    }
    lab.director.namespace.write_sysctl("net.ipv4.ip_forward", "1")?;
    assert_eq!(lab.real_servers[0].namespace.read_sysctl("net.ipv4.ip_forward")?, "0");
    let error = lab.director.namespace.write_sysctl("net.ipv4.no_such_key", "1").unwrap_err();
    assert!(error.to_string().starts_with("cannot set net.ipv4.no_such_key=1 in director: "), "{error}");
    Ok(())
}

/// The machine is played by a host of another lab, where no other program changes anything meanwhile.
fn machine_untouched() -> Outcome {
    let lab = Topology::routed(1).build()?;
    let mut machine = lab.client().spawn_daemon(&[ACT, "machine"])?;
    let status = machine.wait(Duration::from_secs(20))?;
    assert!(status.success(), "{}", machine.log());
    Ok(())
}

fn leave_machine_untouched() -> Outcome {
    let before = machine()?;
    assert!(before.iter().any(|part| part.contains("eth0")), "{before:?}");
    let lab = Topology::routed(2).build()?;
    let servers = serve(&lab)?;
    assert_eq!(ask(&lab), ["server2", "server3"]);
    assert_eq!(machine()?, before, "while it stands");
    let (directory, path) = (lab.directory().to_owned(), lab.director.namespace.path().to_owned());
    assert!(directory.exists() && path.exists());
    drop(servers);
    drop(lab);
    assert_eq!(machine()?, before, "afterwards");
    assert!(!directory.exists() && !path.exists());
    Ok(())
}

fn panics() -> Outcome {
    let namespace = Namespace::create("panic")?;
    // Unwinds as a panic does, but prints nothing.
    let unwind = || namespace.run(|| resume_unwind(Box::new("inside")));
    let panic = catch_unwind(AssertUnwindSafe(unwind)).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"inside"));
    assert_eq!(namespace.run(|| 7), 7, "the namespace outlives it");
    Ok(())
}

fn daemon() -> Outcome {
    let lab = Topology::same_subnet(1).build()?;
    let mut daemon = lab.director.spawn_daemon(&[ACT, "daemon"])?;
    daemon.wait_until_ready(&lab.director, 9690)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9690));
    assert!(lab.client().get(address, "/readyz").is_err(), "it runs in the director's namespace only");
    assert!(daemon.stop()?.success());
    assert_eq!(daemon.log(), "ready\nstopped by a signal\n");
    Ok(())
}

fn failing_daemon() -> Outcome {
    let lab = Topology::same_subnet(1).build()?;
    let mut daemon = lab.director.spawn_daemon(&[ACT, "failure"])?;
    let error = daemon.wait_until_ready(&lab.director, 9690).unwrap_err();
    assert_eq!(error.to_string(), "--act-as on director is not ready: it ended with exit status: 1");
    assert_eq!(error.log(), Some("cannot do it"));
    let missing = Topology::same_subnet(1).with_program("/no/such/program").build()?;
    let error = missing.director.spawn_daemon(&["director"]).unwrap_err().to_string();
    assert!(error.starts_with("cannot start /no/such/program in director: No such file"), "{error}");
    Ok(())
}

fn stubborn_daemon() -> Outcome {
    let lab = Topology::same_subnet(1).build()?;
    let mut daemon = lab.director.spawn_daemon(&[ACT, "stubborn"])?;
    daemon.wait_for_log("stubborn", Duration::from_secs(5))?;
    assert_eq!(killed_by(daemon.stop()?), Some(Signal::SIGKILL));
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Death {
    Panic,
    Kill,
}

fn lab_that_dies(death: Death) -> Outcome {
    // what a killed lab cannot remove
    let directory = TemporaryDirectory::create()?;
    let mut child = Command::new(std::env::current_exe()?)
        .env("TMPDIR", directory.path())
        .args([ACT, if death == Death::Panic { "panicking-lab" } else { "lab" }])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line)?;
    let [daemon, namespace]: [&str; 2] =
        line.split_whitespace().collect::<Vec<_>>().try_into().map_err(|_| format!("it printed {line:?}"))?;
    let daemon = format!("/proc/{daemon}");
    assert!(Path::new(&daemon).exists() && Path::new(namespace).exists(), "{line}");
    if death == Death::Kill {
        child.kill()?;
    }
    // closing its input makes the other one panic
    drop(child.stdin.take());
    assert!(!child.wait()?.success());
    let deadline = Instant::now() + Duration::from_secs(5);
    while is_running(Path::new(&daemon)) || Path::new(namespace).exists() {
        assert!(Instant::now() < deadline, "{line} is still there");
        std::thread::yield_now();
    }
    Ok(())
}

fn ordinary_user() -> Outcome {
    if lab::enter()? == Privilege::UserNamespace {
        // every other test has shown it
        return same_subnet();
    }
    // the binary may lie where only root can reach it
    let directory = TemporaryDirectory::create()?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    let program = directory.path().join("lab");
    fs::copy(std::env::current_exe()?, &program)?;
    let nobody = 65_534;
    let output = Command::new(&program).args([ACT, "user"]).uid(nobody).gid(nobody).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.starts_with("refused: ") {
        let reason = forbidding_sysctl().ok_or(format!("no sysctl forbids it, and yet: {said}"))?;
        assert!(said.contains(&reason), "{said} does not name {reason}");
        return Ok(());
    }
    assert_eq!(said, "UserNamespace server2 server3\n", "{error}");
    assert!(output.status.success(), "{error}");
    Ok(())
}

fn act(role: &str) -> ExitCode {
    if std::env::var_os("LVS_TUND_EXIT_WITH_PARENT").is_some() {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).expect("a valid signal");
    }
    match role {
        "daemon" => wait_for_sigterm(|| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 9690)).expect("a namespace of its own");
            println!("ready");
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.expect("a connection");
                    let _ = stream.read(&mut [0; 1024]);
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                }
            });
        }),
        "stubborn" => wait_for_sigterm(|| println!("stubborn")),
        "failure" => eprintln!("cannot do it"),
        "machine" => match lab::enter().map_err(Failed::from).and_then(|_| leave_machine_untouched()) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(failed) => eprintln!("{failed:?}"),
        },
        "lab" | "panicking-lab" => {
            lab::enter().expect("the tests could");
            let lab = Topology::same_subnet(1).build().expect("a lab");
            let mut daemon = lab.director.spawn_daemon(&[ACT, "stubborn"]).expect("a daemon");
            daemon.wait_for_log("stubborn", Duration::from_secs(5)).expect("a running daemon");
            println!("{} {}", daemon.id(), lab.director.namespace.path().display());
            let _ = std::io::stdin().read(&mut [0]);
            panic!("as the test requires");
        }
        "user" => match lab::enter() {
            Ok(privilege) => {
                let lab = Topology::same_subnet(2).build().expect("a lab");
                let _servers = serve(&lab).expect("servers");
                println!("{privilege:?} {}", ask(&lab).join(" "));
                return ExitCode::SUCCESS;
            }
            Err(error) => println!("refused: {error}"),
        },
        _ => unreachable!("no such role: {role}"),
    }
    ExitCode::FAILURE
}

/// The daemon ends at the first SIGTERM, the stubborn one never.
fn wait_for_sigterm(start: impl FnOnce()) {
    let stubborn = std::env::args().any(|argument| argument == "stubborn");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    runtime.block_on(async {
        let kind = tokio::signal::unix::SignalKind::terminate();
        let mut asked = tokio::signal::unix::signal(kind).expect("a handler");
        start();
        while asked.recv().await.is_some() && stubborn {}
    });
    println!("stopped by a signal");
    std::process::exit(0);
}

fn serve(lab: &Lab) -> Result<Vec<lab::http::Server>, LabError> {
    lab.real_servers.iter().map(|host| host.serve_http(80)).collect()
}

/// What the client receives from each real server in turn, at its own address.
fn ask(lab: &Lab) -> Vec<String> {
    let answer = |host: &lab::Host| match lab.client().get((host.address, 80), "/") {
        Ok(response) => response.text(),
        Err(error) => error.to_string(),
    };
    lab.real_servers.iter().map(answer).collect()
}

/// What a lab could change on the machine it runs on.
fn machine() -> Result<Vec<String>, std::io::Error> {
    let devices = fs::read_to_string("/proc/self/net/dev")?;
    let names = devices.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
    let mut machine: Vec<_> = names.collect();
    for file in ["net/route", "net/fib_trie", "net/arp"] {
        machine.push(fs::read_to_string(Path::new("/proc/self").join(file))?);
    }
    for file in ["ip_forward", "conf/all/rp_filter", "conf/default/rp_filter", "conf/all/arp_ignore"] {
        machine.push(fs::read_to_string(Path::new("/proc/sys/net/ipv4").join(file))?);
    }
    Ok(machine)
}

fn is_running(process: &Path) -> bool {
    // a zombie whose new parent has not looked yet does not run
    let state = fs::read_to_string(process.join("stat")).unwrap_or_default();
    !state.is_empty() && !state.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"))
}

fn killed_by(status: std::process::ExitStatus) -> Option<Signal> {
    use std::os::unix::process::ExitStatusExt;
    match WaitStatus::from_raw(nix::unistd::Pid::from_raw(1), status.into_raw()) {
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(signal),
        _ => None,
    }
}

fn forbidding_sysctl() -> Option<String> {
    let keys = [
        ("user.max_user_namespaces", "0"),
        ("kernel.unprivileged_userns_clone", "0"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1"),
    ];
    let is = |key: &str, value: &str| {
        fs::read_to_string(format!("/proc/sys/{}", key.replace('.', "/")))
            .is_ok_and(|read| read.trim() == value)
    };
    keys.into_iter().find(|(key, value)| is(key, value)).map(|(key, value)| format!("{key} is {value}"))
}
