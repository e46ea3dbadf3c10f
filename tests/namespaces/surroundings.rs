//! Daemons where something around them is missing, full or read-only: they work, or end with a last line that reports why and a
//! host as it was.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lvs_tund::lab::{Cluster, Host, Lab, http};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{Outcome, PATIENCE, same_subnet, web};
use crate::host_state::{assert_same, state};

const NOTHING: Option<&str> = None;

/// What happens before the daemon starts, in its own mount namespace; and what to its standard output.
type Surroundings = (&'static str, fn() -> io::Result<()>, fn() -> Stdio);

fn nothing() -> io::Result<()> {
    Ok(())
}

/// As in a container without privileges.
fn read_only_sysctls() -> io::Result<()> {
    mount(Some("/proc/sys"), "/proc/sys", NOTHING, MsFlags::MS_BIND, NOTHING)?;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(NOTHING, "/proc/sys", NOTHING, flags, NOTHING)?;
    Ok(())
}

fn full_run() -> io::Result<()> {
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("size=4k,nr_inodes=3"))?;
    let filled = OpenOptions::new().write(true).create(true).truncate(true).open("/run/filler");
    while filled.as_ref().is_ok_and(|mut file| file.write_all(&[0; 4096]).is_ok()) {}
    (0..4).try_for_each(|number| std::fs::write(format!("/run/{number}"), "")).or(Ok(()))
}

fn read_only_run() -> io::Result<()> {
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::MS_RDONLY, NOTHING)?;
    Ok(())
}

fn no_journal() -> io::Result<()> {
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), NOTHING)?;
    Ok(())
}

fn closed() -> Stdio {
    io::pipe().map_or_else(|_| Stdio::null(), |(_, writer)| writer.into())
}

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").map_or_else(|_| Stdio::null(), Stdio::from)
}

const SURROUNDINGS: &[Surroundings] = &[
    ("everything works", nothing, Stdio::null),
    ("read-only sysctls", read_only_sysctls, Stdio::null),
    ("/run is full", full_run, Stdio::null),
    ("/run is read-only", read_only_run, Stdio::null),
    ("/run is empty", no_journal, Stdio::null),
    ("no reader of standard output", nothing, closed),
    ("standard output is full", nothing, full),
];

/// The outcome of a run until it ends, or is ready and then stopped.
struct Run {
    was_ready: bool,
    code: Option<i32>,
    errors: String,
}

fn run(host: &Host, (_, prepare, output): &Surroundings, arguments: &[&str], port: u16) -> io::Result<Run> {
    host.run(|| {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
        mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
        prepare()?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_lvs-tund"))
            .args(arguments)
            .env("LVS_TUND_EXIT_WITH_PARENT", "1")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(output())
            .stderr(Stdio::piped())
            .spawn()?;
        let was_ready = wait_until_ready(&mut child, port)?;
        if was_ready {
            kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM)?;
        }
        let mut errors = String::new();
        if let Some(stream) = &mut child.stderr {
            stream.read_to_string(&mut errors)?;
        }
        Ok(Run { was_ready, code: child.wait()?.code(), errors })
    })
}

/// False if it ends first.
fn wait_until_ready(child: &mut Child, port: u16) -> io::Result<bool> {
    let (deadline, address) = (Instant::now() + PATIENCE, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    loop {
        if child.try_wait()?.is_some() {
            return Ok(false);
        }
        if http::get(address, "/healthz", PATIENCE).is_ok_and(|answer| matches!(answer.status, 200 | 503)) {
            return Ok(true);
        }
        if Instant::now() > deadline {
            child.kill()?;
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn assert_orderly(what: &str, run: &Run) {
    assert!(!run.errors.contains("panicked"), "{what}: {}", run.errors);
    match run.was_ready {
        true => assert_eq!(run.code, Some(0), "{what}: {}", run.errors),
        false => {
            assert!(matches!(run.code, Some(1 | 2)), "{what}: {:?} {}", run.code, run.errors);
            let last = run.errors.lines().last().unwrap_or_default();
            assert!(last.starts_with("lvs-tund: "), "{what}: {}", run.errors);
        }
    }
}

/// Both daemons, with and without the permission to change the host.
pub fn broken() -> Outcome {
    let lab = same_subnet(1).build()?;
    let (director, server) = (&lab.director, &lab.real_servers[0]);
    // The default control socket is in /run.
    let file = director.write_file("director.toml", &web(&lab, ""))?;
    let [vip, address] = [lab.vip, director.address].map(|address| address.to_string());
    let file = file.to_str().expect("a path");
    let of_director = ["director", "--config", file];
    let of_server = ["realserver", "--vip", &vip, "--director", &address];
    let daemons = [
        (director, &of_director[..], Cluster::DIRECTOR_METRICS),
        (server, &of_server[..], Cluster::REAL_SERVER_METRICS),
    ];
    for (host, arguments, port) in daemons {
        let before = state(host);
        for surroundings in SURROUNDINGS {
            for more in [&[][..], &["--no-host-changes"]] {
                let what = format!("{} {more:?}: {}", arguments[0], surroundings.0);
                let run = run(host, surroundings, &[arguments, more].concat(), port)?;
                assert_orderly(&what, &run);
                let needs_sysctls = surroundings.0 == "read-only sysctls" && more.is_empty();
                assert!(run.was_ready || needs_sysctls, "{what}: {}", run.errors);
                assert_same(&before, &state(host), &what);
            }
        }
    }
    Ok(())
}

/// The directory of the control socket disappears under a running director.
pub fn control_directory_gone() -> Outcome {
    let lab = same_subnet(1).build()?;
    let directory = lab.directory().join("run");
    let before = state(&lab.director);
    let mut director = director_in(&lab, &directory)?;
    std::fs::remove_dir_all(&directory)?;
    director.signal(Signal::SIGHUP)?;
    director.wait_for_log("the file has not changed", PATIENCE)?;
    let status = director.stop()?;
    assert!(status.success(), "{status} {}", director.log());
    assert_same(&before, &state(&lab.director), "the host");
    Ok(())
}

fn director_in(lab: &Lab, directory: &Path) -> Result<lvs_tund::lab::Daemon, lvs_tund::lab::LabError> {
    let head = format!("control = \"{}\"\n", directory.join("director.sock").display());
    lvs_tund::lab::start_director(lab, &web(lab, &head))
}

/// Runs a command against the lab's director; returns its exit code, and what it writes to standard error.
fn command(lab: &Lab, arguments: &[&str], output: Stdio) -> io::Result<(Option<i32>, String)> {
    let output = Command::new(env!("CARGO_BIN_EXE_lvs-tund"))
        .args(arguments)
        .env("LVS_TUND_CONTROL", Cluster::control_path(lab))
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::piped())
        .spawn()?
        .wait_with_output()?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Every command that prints ends quietly with its reader, and fails on a full disk.
pub fn outputs_of_commands() -> Outcome {
    let lab = same_subnet(1).build()?;
    let _director = director_in(&lab, lab.directory())?;
    let head = format!("control = \"{}\"\n", Cluster::control_path(&lab).display());
    let file = lab.director.write_file("again.toml", &web(&lab, &head))?;
    let file = file.to_str().expect("a path");
    let director =
        &["explain", "director", "--config", file, "--packet", "45000014000000004001000001020304"][..];
    let commands = [
        &["--help"][..],
        &["--version"],
        &["check", file],
        &["check", "--format", "json", file],
        director,
        &["status"],
        &["status", "--format", "json"],
        &["connections"],
        &["save"],
        &["save", "-"],
        &["save", "/dev/stdout"],
        &["diff", file],
        &["weight", "server2", "3", "--dry-run"],
        &["ipvsadm", "-Ln"],
        &["ipvsadm", "-Lcn"],
        &["ipvsadm", "-S", "-n"],
        &["ipvsadm", "-h"],
    ];
    for arguments in commands {
        let (code, errors) = command(&lab, arguments, closed())?;
        // ipvsadm cannot express names.
        let errors = errors.lines().find(|line| !line.starts_with("lvs-tund: omitted, because ipvsadm"));
        assert_eq!((code, errors), (Some(0), None), "{arguments:?} without a reader");
        let (code, errors) = command(&lab, arguments, full())?;
        assert!(code.is_some_and(|code| code != 0), "{arguments:?} on a full disk: {code:?} {errors}");
        assert!(errors.contains("cannot write to standard output: No space left"), "{arguments:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{arguments:?}: {errors}");
    }
    Ok(())
}

/// A device stays a device, a link stays a link, and a file keeps its mode.
pub fn saved_to_anything() -> Outcome {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    let lab = same_subnet(1).build()?;
    let _director = director_in(&lab, lab.directory())?;
    let saved = |target: &str| command(&lab, &["save", target], Stdio::null()).expect("a command");
    assert_eq!(saved("/dev/null"), (Some(0), String::new()));
    assert!(std::fs::metadata("/dev/null")?.file_type().is_char_device());
    let (code, errors) = saved("/dev/full");
    assert!(code == Some(1) && errors.contains("/dev/full: cannot be written: No space left"), "{errors}");
    let directory = lab.directory().join("saved");
    std::fs::create_dir(&directory)?;
    let (file, link) = (directory.join("director.toml"), directory.join("link.toml"));
    symlink("director.toml", &link)?;
    assert_eq!(saved(link.to_str().expect("a path")), (Some(0), String::new()));
    assert!(std::fs::symlink_metadata(&link)?.is_symlink() && std::fs::symlink_metadata(&file)?.is_file());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644))?;
    assert_eq!(saved(file.to_str().expect("a path")), (Some(0), String::new()));
    assert_eq!(file.metadata()?.permissions().mode() & 0o777, 0o644);
    assert!(std::fs::read_to_string(&file)?.contains("[[virtual_service]]"));
    let fifo = directory.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU)?;
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || std::fs::read_to_string(fifo)
    });
    assert_eq!(saved(fifo.to_str().expect("a path")), (Some(0), String::new()));
    assert!(reader.join().expect("a reader")?.contains("[[virtual_service]]"));
    assert!(std::fs::metadata(&fifo)?.file_type().is_fifo());
    assert_eq!(std::fs::read_dir(&directory)?.count(), 3, "nothing is left behind");
    Ok(())
}
