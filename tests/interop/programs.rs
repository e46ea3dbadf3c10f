//! Foreign programs inside the lab's namespaces.

use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use lvs_tund::lab::{Host, Lab};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::fixture::{PATIENCE, poll_until};

const PROGRAMS: [&str; 24] = [
    "nginx",
    "curl",
    "wrk",
    "promtool",
    "ip",
    "sysctl",
    "nft",
    "ping",
    "traceroute",
    "keepalived",
    "ldirectord",
    "redis-server",
    "dnsmasq",
    "openssl",
    "memcached",
    "vsftpd",
    "mariadbd",
    "postgres",
    "setpriv",
    "tc",
    "clang",
    "ethtool",
    "dumpcap",
    "tshark",
];

/// Debian's own, which has the modules that Debian's packages contain.
pub const PYTHON: &str = "/usr/bin/python3";

/// Administrators' programs may not be on the path of other users.
const MORE_PATH: &str = ":/usr/local/sbin:/usr/sbin:/sbin";

/// One sentence if a program is missing.
pub fn missing() -> Option<String> {
    let path = path();
    let is_there = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let missing: Vec<_> = PROGRAMS.into_iter().filter(|program| !is_there(program)).collect();
    let sentence = |missing: &str| format!("these tests need {missing}; .ci/run installs them with apt");
    if !missing.is_empty() {
        return Some(sentence(&missing.join(", ")));
    }
    let modules = Command::new(PYTHON).args(["-c", "import aiosmtpd, grpc"]).stderr(Stdio::null()).status();
    let has_modules = modules.is_ok_and(|status| status.success());
    (!has_modules).then(|| sentence("the modules aiosmtpd and grpc of python3"))
}

/// That of the environment and [`MORE_PATH`]; the programs of PostgreSQL are in a folder for each version.
pub fn path() -> String {
    let mut path = std::env::var("PATH").unwrap_or_default() + MORE_PATH;
    for version in std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten() {
        path.push_str(&format!(":{}/bin", version.path().display()));
    }
    path
}

/// Runs a program on a host to its end; what it wrote to its standard output.
///
/// # Errors
/// When it fails; with all its output.
pub fn run(host: &Host, program: &str, arguments: &[&str]) -> Result<String, Failed> {
    run_with_input(host, program, arguments, "")
}

/// As [`run`], with something on its standard input.
///
/// # Errors
/// As [`run`].
pub fn run_with_input(host: &Host, program: &str, arguments: &[&str], input: &str) -> Result<String, Failed> {
    let output = host.run(|| -> std::io::Result<Output> {
        let mut child = Command::new(program)
            .args(arguments)
            .env("PATH", path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // a program that ends without reading breaks the pipe, which its status explains better
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
        child.wait_with_output()
    })?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(said),
        false => Err(format!("{program} on {}: {}: {said}{complained}", host.name, output.status).into()),
    }
}

/// A web server in the foreground; killed with its value.
pub struct Nginx(Child);

impl Nginx {
    /// Serves the host's name on port 80 of all its addresses; `/upload` reads a whole body first.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(lab: &Lab, host: &Host) -> Result<Nginx, Failed> {
        Nginx::start_with(lab, host, "")
    }

    /// As [`Nginx::start`], with more `server` blocks.
    ///
    /// # Errors
    /// As [`Nginx::start`].
    pub fn start_with(lab: &Lab, host: &Host, more: &str) -> Result<Nginx, Failed> {
        let folder = lab.directory().join(format!("{}-nginx", host.name));
        std::fs::create_dir_all(&folder)?;
        let text = configuration(&folder.display().to_string(), &host.name, more);
        let file: PathBuf = host.write_file("nginx.conf", &text)?;
        let child = host.run(|| {
            Command::new("nginx")
                .args(["-p".as_ref(), folder.as_os_str(), "-c".as_ref(), file.as_os_str()])
                .args(["-e", "stderr"])
                .env("PATH", path())
                .stdin(Stdio::null())
                .spawn()
        })?;
        let nginx = Nginx(child);
        poll_until("nginx", || host.get((Ipv4Addr::LOCALHOST, 80), "/").ok());
        Ok(nginx)
    }
}

/// A program in the foreground; ended with its value, its process group with it.
pub struct Program {
    child: Child,
    ends_by: Signal,
}

impl Program {
    /// # Errors
    /// When it cannot be started.
    pub fn start(host: &Host, program: &str, arguments: &[&str]) -> Result<Program, Failed> {
        let child = host.run(|| {
            Command::new(program)
                .args(arguments)
                .env("PATH", path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
        })?;
        Ok(Program { child, ends_by: Signal::SIGKILL })
    }

    /// How it is ended, if not killed.
    pub fn ends_by(&mut self, signal: Signal) {
        self.ends_by = signal;
    }

    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), Failed> {
        Ok(kill(Pid::from_raw(self.child.id().cast_signed()), signal)?)
    }

    /// Ends it, and waits for that.
    pub fn end(&mut self, signal: Signal) {
        let group = Pid::from_raw(self.child.id().cast_signed());
        let _ = killpg(group, signal);
        let deadline = Instant::now() + PATIENCE;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > deadline {
                let _ = killpg(group, Signal::SIGKILL);
                let _ = self.child.wait();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.end(self.ends_by);
        }
    }
}

/// keepalived in the foreground, with VRRP only; stopped with its value.
pub struct Keepalived {
    child: Child,
    folder: PathBuf,
}

impl Keepalived {
    /// # Errors
    /// When it does not start.
    pub fn start(lab: &Lab, host: &Host, configuration: &str) -> Result<Keepalived, Failed> {
        let folder = lab.directory().join(format!("{}-keepalived", host.name));
        std::fs::create_dir_all(&folder)?;
        let file = host.write_file("keepalived.conf", configuration)?;
        let log = std::fs::File::create(folder.join("log"))?;
        let child = host.run(|| {
            Command::new("keepalived")
                .args(["--dont-fork", "--vrrp", "--log-console", "--no-syslog", "--log-detail"])
                .args(["--use-file".as_ref(), file.as_os_str()])
                .args(["--pid".as_ref(), folder.join("pid").as_os_str()])
                .args(["--vrrp_pid".as_ref(), folder.join("vrrp").as_os_str()])
                .env("PATH", path())
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()
        })?;
        Ok(Keepalived { child, folder })
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        // Not killed: its child, which has the sockets, would stay.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let deadline = Instant::now() + PATIENCE;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn configuration(folder: &str, name: &str, more: &str) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("    {kind}_temp_path {folder}/{kind};\n"))
        .collect();
    // one process and no other user: also root in a user namespace may run it
    format!(
        "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr error;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n    access_log off;\n    keepalive_requests 1000000;\n    client_max_body_size 100m;\n{temporary}\
         \x20   server {{\n        listen 80 backlog=1024;\n        default_type text/plain;\n\
         \x20       location / {{ return 200 \"{name}\\n\"; }}\n\
         \x20       location /upload {{ proxy_pass http://127.0.0.1:81/; }}\n    }}\n\
         \x20   server {{\n        listen 127.0.0.1:81;\n\
         \x20       location / {{ return 200 \"{name}\\n\"; }}\n    }}\n{more}}}\n"
    )
}
