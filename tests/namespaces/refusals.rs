//! Bad luck and bad configurations: one line with what to do, the documented exit code, an untouched host.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use lvs_tund::lab::{self, Host, Lab};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use socket2::{Domain, Socket, Type};

use crate::fixture::{Outcome, PATIENCE, same_subnet, start_real_servers, web};
use crate::host_state::{add_route_by, assert_same, state};

/// Usage, configuration, or a host that contradicts it.
const REFUSED: i32 = 2;
/// Could not continue.
const FAILED: i32 = 1;

/// The word that makes this binary drop its privilege and become the program.
pub const WITHOUT_PRIVILEGE: &str = "--without-privilege";

/// The word that makes this binary root in a user namespace, and unprivileged outside, before it becomes the program.
pub const IN_USER_NAMESPACE: &str = "--in-user-namespace";

/// In a user namespace of its own a process has no capability over any other network namespace; but over those that
/// it makes there, if it is root in it.
pub fn run_in_user_namespace(is_root: bool, arguments: &[OsString]) -> ExitCode {
    let (user, group) = (geteuid(), getegid());
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWUSER) {
        eprintln!("cannot enter a user namespace: {errno}");
        return ExitCode::FAILURE;
    }
    if is_root {
        fs::write("/proc/self/setgroups", "deny").expect("as in user_namespaces(7)");
        fs::write("/proc/self/uid_map", format!("0 {user} 1")).expect("as in user_namespaces(7)");
        fs::write("/proc/self/gid_map", format!("0 {group} 1")).expect("as in user_namespaces(7)");
    }
    let error = Command::new(env!("CARGO_BIN_EXE_lvs-tund")).args(arguments).exec();
    eprintln!("cannot become the program: {error}");
    ExitCode::FAILURE
}

pub fn configuration() -> Outcome {
    let lab = same_subnet(1).build()?;
    let before = state(&lab.director);
    let rip = |rip: &str| web(&lab, "").replace("172.25.3.2\"", &format!("{rip}\""));
    let director = |text: String, expected: &[&str]| {
        let file = lab.director.write_file("director.toml", &text)?;
        let arguments = ["director", "--config", file.to_str().expect("UTF-8")];
        assert_ends(&lab.director, &arguments, REFUSED, expected)
    };
    director(
        rip("172.25.3.100"),
        &["director.toml:13: rip = \"172.25.3.100\" is a VIP", "use the real server's own address"],
    )?;
    director(rip("server2"), &["director.toml:13: ", "server2"])?;
    director(format!("wieght = 1\n{}", web(&lab, "")), &["director.toml:1: ", "unknown key `wieght`"])?;
    let director =
        |arguments: &[&str], expected: &[&str]| assert_ends(&lab.director, arguments, REFUSED, expected);
    director(&["director"], &["--config FILE", "--interface IF"])?;
    director(&["director", "--config", "/no/such/file"], &["/no/such/file: cannot read: "])?;
    director(&["realserver", "--director", "172.25.3.1"], &["no VIP given", "--vip"])?;
    director(&["realserver", "--vip", "172.25.3.100"], &["no director given", "--director"])?;
    let everybody = ["realserver", "--vip", "172.25.3.100", "--director", "0.0.0.0/0"];
    director(&everybody, &["0.0.0.0/0", "--insecure"])?;
    let both = ["realserver", "--vip", "172.25.3.100", "--director", "172.25.3.100"];
    director(&both, &["172.25.3.100 is given as a VIP and as a director"])?;
    assert_same(&before, &state(&lab.director), "the host");
    Ok(())
}

/// A contradiction with the host: the start refuses it before it changes or announces anything, and `check --host` finds it.
pub fn host() -> Outcome {
    let lab = same_subnet(1).build()?;
    // a way to the real server that leads through the VIP, hence back into the director
    add_route_by(&lab.director, Ipv4Addr::new(192, 0, 2, 0), 24, lab.vip);
    add_route_by(&lab.director, Ipv4Addr::new(172, 25, 3, 177), 32, lab.client().address);
    let before = state(&lab.director);
    let arp = lab.client().run(|| {
        const ETH_P_ARP: u16 = 0x0806;
        Socket::new(Domain::PACKET, Type::RAW, Some(i32::from(ETH_P_ARP.to_be()).into()))
    })?;
    arp.set_nonblocking(true)?;
    let of = |rip: &str, vip: &str, head: &str| {
        web(&lab, head)
            .replace("172.25.3.2\"", &format!("{rip}\""))
            .replace("172.25.3.100\"", &format!("{vip}\""))
    };
    let cases = [
        (
            of("172.25.3.2", "172.25.3.1", ""),
            "would leave with the VIP 172.25.3.1 as their source",
            "set outer_source or add another address",
        ),
        (
            of("192.0.2.2", "172.25.3.100", ""),
            "the route to real server 192.0.2.2 goes through 172.25.3.100, which is a VIP",
            "choose another gateway",
        ),
        (
            of("172.25.3.2", "172.25.3.100", "outer_source = \"172.25.3.99\""),
            "outer_source 172.25.3.99 is not an address of this host",
            "leave the key out",
        ),
        (
            of("172.25.3.2", "172.25.3.177", ""),
            "VIP 172.25.3.177 has a route already (172.25.3.177/32 dev eth0)",
            "`ip route del 172.25.3.177/32`",
        ),
    ];
    for (text, found, remedy) in cases {
        let socket = lab.directory().join("control.sock");
        let file = lab
            .director
            .write_file("director.toml", &format!("control = \"{}\"\n{text}", socket.display()))?;
        let file = file.to_str().expect("UTF-8");
        for arguments in [["director", "--config", file], ["check", "--host", file]] {
            assert_ends(&lab.director, &arguments, REFUSED, &[found, remedy])?;
            assert!(!socket.exists(), "the control socket stays behind");
            assert_same(&before, &state(&lab.director), "the director's host");
        }
        let mut daemon = lab.director.spawn_daemon(&["director", "--config", file])?;
        daemon.wait(PATIENCE)?;
        assert!(!daemon.log().contains("host: "), "a change before the refusal: {}", daemon.log());
    }
    let mut frame = [0; 128];
    while let Ok(length) = (&arp).read(&mut frame) {
        let sender = Ipv4Addr::new(frame[28], frame[29], frame[30], frame[31]);
        assert!(length >= 42 && sender != lab.vip, "a refused director announces the VIP");
    }
    all_at_once(&lab)?;
    let host = &lab.real_servers[0];
    let before = state(host);
    let arguments = ["realserver", "--vip", "172.25.3.100", "--director", "172.25.3.2"];
    let expected = ["director 172.25.3.2 is an address of this host", "use the other directors' addresses"];
    assert_ends(host, &arguments, REFUSED, &expected)?;
    let file =
        host.write_file("realserver.toml", "vips = [\"172.25.3.100\"]\ndirectors = [\"172.25.3.2\"]\n")?;
    assert_ends(host, &["check", "--host", file.to_str().expect("UTF-8")], REFUSED, &expected)?;
    assert_same(&before, &state(host), "the real server's host");
    Ok(())
}

/// Every contradiction is listed, one line each; none while the director runs.
fn all_at_once(lab: &Lab) -> Outcome {
    let head =
        "control_group = \"no-such-group\"\nouter_source = \"172.25.3.99\"\nmetrics = \"192.0.2.1:9690\"";
    let text = web(lab, head).replace("eth0", "eth7").replace("172.25.3.2\"", "192.0.2.2\"");
    let file = lab.director.write_file("director.toml", &text)?;
    let mut check = lab.director.spawn_daemon(&["check", "--host", file.to_str().expect("UTF-8")])?;
    let (status, log) = (check.wait(PATIENCE)?, check.log());
    assert_eq!((status.code(), log.lines().count()), (Some(REFUSED), 5), "{log}");
    for expected in
        ["eth7 does not exist", "outer_source", "real server 192.0.2.2", "192.0.2.1:9690", "groupadd"]
    {
        assert!(log.contains(expected), "{expected} is not in\n{log}");
    }
    let (_web, _real_servers) = start_real_servers(lab)?;
    let _director = lab::start_director(lab, &web(lab, ""))?;
    let file = lab.director.write_file("director.toml", &web(lab, ""))?;
    let mut check = lab.director.spawn_daemon(&["check", "--host", file.to_str().expect("UTF-8")])?;
    assert!(check.wait(PATIENCE)?.success(), "{}", check.log());
    Ok(())
}

pub fn missing() -> Outcome {
    let lab = same_subnet(1).build()?;
    let host = &lab.director;
    let expected = ["interface eth7 does not exist", "`ip link` lists those that do"];
    assert_ends(host, &["director", "--interface", "eth7"], FAILED, &expected)?;

    let taken = host.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 9690)))?;
    let before = state(host);
    let expected =
        ["cannot serve metrics on 127.0.0.1:9690: Address already in use", "--metrics ADDRESS:PORT"];
    assert_ends(host, &["director", "--interface", "eth0"], FAILED, &expected)?;
    let realserver =
        ["realserver", "--vip", "172.25.3.100", "--director", "172.25.3.9", "--metrics", "127.0.0.1:9690"];
    assert_ends(host, &realserver, FAILED, &expected)?;
    drop(taken);

    let nowhere = ["director", "--interface", "eth0", "--metrics", "192.0.2.1:9690"];
    assert_ends(
        host,
        &nowhere,
        FAILED,
        &["cannot serve metrics on 192.0.2.1:9690", "--metrics ADDRESS:PORT"],
    )?;
    let control = ["director", "--interface", "eth0", "--control", "/proc/no/director.sock"];
    assert_ends(host, &control, FAILED, &["control socket /proc/no/director.sock", "--control"])?;

    let file = host.write_file("precious", "somebody's")?;
    let path = file.to_str().expect("UTF-8");
    let control = ["director", "--interface", "eth0", "--control", path];
    assert_ends(host, &control, FAILED, &["control socket", "Address already in use", "--control"])?;
    assert_eq!(fs::read_to_string(&file)?, "somebody's", "a file is no socket that was left behind");
    assert_same(&before, &state(host), "the host");
    Ok(())
}

/// An empty /dev/net, as in a container that was given no device; seen by one thread and its child alone.
pub fn no_driver() -> Outcome {
    let lab = same_subnet(1).build()?;
    let before = state(&lab.director);
    for daemon in [
        &["director", "--interface", "eth0"][..],
        &["realserver", "--vip", "172.25.3.100", "--director", "172.25.3.9"],
    ] {
        let (output, nodes) = lab.director.run(|| -> io::Result<_> {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
            let nothing = None::<&str>;
            mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
            mount(Some("tmpfs"), "/dev/net", Some("tmpfs"), MsFlags::empty(), nothing)?;
            let output = Command::new(env!("CARGO_BIN_EXE_lvs-tund")).args(daemon).output()?;
            Ok((output, fs::read_dir("/dev/net")?.count()))
        })?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(FAILED), "{said}");
        assert!(said.contains("/dev/net/tun is missing; load the module (`modprobe tun`)"), "{said}");
        assert!(said.lines().last().is_some_and(|last| last.starts_with("lvs-tund: ")), "{said}");
        assert_eq!(nodes, 0, "{said}");
    }
    assert_same(&before, &state(&lab.director), "the host");
    Ok(())
}

pub fn no_privilege() -> Outcome {
    let lab = same_subnet(1).with_program(std::env::current_exe()?).build()?;
    let before = state(&lab.director);
    for daemon in [
        &["director", "--interface", "eth0"][..],
        &["realserver", "--vip", "172.25.3.100", "--director", "172.25.3.9"],
    ] {
        let arguments = [&[WITHOUT_PRIVILEGE], daemon].concat();
        let expected = ["no permission to ", "run as root or with CAP_NET_ADMIN and CAP_NET_RAW"];
        assert_ends(&lab.director, &arguments, FAILED, &expected)?;
    }
    assert_same(&before, &state(&lab.director), "the host");
    Ok(())
}

/// The whole of it for a user who is root in a user namespace only, as in a rootless container.
pub fn user_namespace() -> Outcome {
    let demo = [IN_USER_NAMESPACE, "demo", "--requests", "4"];
    let output = Command::new(std::env::current_exe()?).args(demo).output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("0 bytes of replies passed through the director"), "{said}");
    Ok(())
}

/// Runs the program to its end: the exit code, and a single line of error, which has all that is expected.
fn assert_ends(host: &Host, arguments: &[&str], code: i32, expected: &[&str]) -> Outcome {
    let mut daemon = host.spawn_daemon(arguments)?;
    let status = daemon.wait(PATIENCE)?;
    let log = daemon.log();
    // what was done before, and undone, is in the log with its level
    let is_error = |line: &&str| !line.contains(" INFO ") && !line.contains(" WARN ");
    let lines: Vec<_> = log.lines().filter(is_error).collect();
    assert_eq!(lines.len(), 1, "{arguments:?} prints\n{log}");
    assert!(lines[0].starts_with("lvs-tund: "), "{log}");
    for words in expected {
        assert!(lines[0].contains(words), "{words:?} is not in\n{log}");
    }
    assert_eq!(status.code(), Some(code), "{log}");
    Ok(())
}
