//! Foreign programs inside the lab's namespaces.

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use lvs_tund::lab::{Host, Lab};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fixture::{PATIENCE, poll_until};

const PROGRAMS: [&str; 19] = [
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
    "tc",
    "clang",
    "ethtool",
    "dumpcap",
    "tshark",
];

/// Administrators' programs may not be on the path of other users.
const MORE_PATH: &str = ":/usr/local/sbin:/usr/sbin:/sbin";

/// One sentence if a program is missing.
pub fn missing() -> Option<String> {
    let path = path();
    let is_there = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let missing: Vec<_> = PROGRAMS.into_iter().filter(|program| !is_there(program)).collect();
    let sentence = || format!("these tests need {}; .ci/run installs them with apt", missing.join(", "));
    (!missing.is_empty()).then(sentence)
}

pub fn path() -> String {
    std::env::var("PATH").unwrap_or_default() + MORE_PATH
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
