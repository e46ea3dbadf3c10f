//! The `sh` blocks of the documents, run in the lab.
//!
//! Each block gets its own lab with everything running, and is run by `sh -eu` on the director. A daemon that the block
//! itself starts takes the place of the lab's. Lines in [`LEFT_OUT`] are not run, each for the reason given there;
//! [`PLACES`] lists the blocks that belong to another host, need something to be there first, or have an effect to check.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use lvs_tund::lab::{self, Cluster, Daemon, Host, Lab, Topology};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::Outcome;
use crate::support::markdown::{Block, documents, root};

/// Longer than any block takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a line that is not run begins with, and why it is not run.
const LEFT_OUT: &[(&str, &str)] = &[
    ("cargo ", "builds or tests the whole program; .ci/run does"),
    (".ci/run", "this test is a part of it"),
    ("tests/mutants/run", "takes minutes; .ci/run does a sample"),
    ("tests/fuzz/run ", "takes a minute; .ci/run does it"),
    ("ln -s ", "changes the machine; each block has the program under its other names"),
    ("modprobe ", "changes the machine"),
    ("tcpdump ", "waits for packets until it is interrupted"),
    ("lvs-tund status --watch", "repeats until it is interrupted"),
    ("lvs-tund explain director --config director.toml --pcap", "needs the capture that tcpdump writes"),
    ("api -N ", "streams until it is interrupted"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Director,
    RealServer,
    Client,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    /// The client's requests are answered.
    Serves,
    /// They are answered, and were not before the block.
    Repairs,
}

/// A block that is not simply for the director: how it begins, where it is run, what is run there first, and what its
/// effect has to be.
const PLACES: &[(&str, Place, &str, Then)] = &[
    ("lvs-tund realserver --vip 172.25.3.100 --director 172.25.3.1\n", Place::RealServer, "", Then::Serves),
    ("lvs-tund check director.toml\nlvs-tund director ", Place::Director, "", Then::Serves),
    ("lvs-tund director --interface eth0", Place::Director, "", Then::Serves),
    ("curl http://172.25.3.100/", Place::Client, "", Then::Serves),
    ("nft insert rule inet filter forward ", Place::Director, DIRECTOR_FILTERS, Then::Repairs),
    ("nft insert rule inet filter input ", Place::RealServer, REAL_SERVER_FILTERS, Then::Repairs),
    ("nft add rule inet filter input ip protocol 4 ", Place::RealServer, REAL_SERVER_ACCEPTS, Then::Serves),
    ("iptables -I FORWARD ", Place::Director, "iptables -P FORWARD DROP", Then::Repairs),
    ("iptables -I INPUT ", Place::RealServer, "iptables -P INPUT DROP", Then::Repairs),
    ("curl -sf http://127.0.0.1:9691/", Place::RealServer, "", Then::Nothing),
    ("tcpdump -ni eth0 ip proto 4", Place::RealServer, "", Then::Nothing),
    ("ip -brief address show lvsr0", Place::RealServer, "", Then::Nothing),
    ("lvs-tund doctor realserver ", Place::RealServer, "", Then::Nothing),
    ("ip rule add from ", Place::RealServer, "", Then::Nothing),
];

/// The usual rules of a stateful firewall.
const DIRECTOR_FILTERS: &str = "nft 'table inet filter { chain forward { type filter hook forward priority 0; \
     policy drop; ct state established,related accept; ct state invalid drop; }; }'";
const REAL_SERVER_FILTERS: &str = "nft 'table inet filter { chain input { type filter hook input priority 0; \
     policy drop; iif lo accept; ct state established,related accept; ct state invalid drop; }; }'";
const REAL_SERVER_ACCEPTS: &str =
    "nft 'table inet filter { chain input { type filter hook input priority 0; policy accept; }; }'";

/// Programs that not every machine has; a block that uses one of them is ignored where it is missing.
const PROGRAMS: &[&str] = &["awk", "curl", "ip", "iptables", "nft", "ss", "sysctl"];

/// The socket in the documents; the lab has its own.
const SOCKET: &str = "/run/lvs-tund/director.sock";

/// One block of one page, without what is omitted.
pub struct Commands {
    page: String,
    block: Block,
    lines: Vec<String>,
}

/// Every block of which something is left to run.
pub fn all() -> Vec<Commands> {
    let mut found = Vec::new();
    for document in documents() {
        for block in document.blocks().into_iter().filter(|block| block.language == "sh") {
            let is_left_out = |line: &&str| LEFT_OUT.iter().any(|(begin, _)| line.starts_with(begin));
            let lines = block.code.lines().filter(|line| !is_left_out(line));
            let lines: Vec<String> = lines.map(str::to_owned).collect();
            if lines.iter().any(|line| !line.trim().is_empty() && !line.starts_with('#')) {
                found.push(Commands { page: document.path.display().to_string(), block, lines });
            }
        }
    }
    found
}

/// An exception that no block needs hides the next mistake.
pub fn exceptions_are_needed() -> Outcome {
    let blocks: Vec<Block> = documents().iter().flat_map(|document| document.blocks()).collect();
    let blocks: Vec<_> = blocks.iter().filter(|block| block.language == "sh").collect();
    assert!(blocks.len() > 15, "only {} blocks", blocks.len());
    for (begin, reason) in LEFT_OUT {
        let is_used = blocks.iter().any(|block| block.code.lines().any(|line| line.starts_with(begin)));
        assert!(is_used && !reason.is_empty(), "no line begins with `{begin}`");
    }
    for (begin, ..) in PLACES {
        assert!(blocks.iter().any(|block| block.code.starts_with(begin)), "no block begins with `{begin}`");
    }
    Ok(())
}

impl Commands {
    /// `docs/operating.md:12: lvs-tund status`.
    pub fn name(&self) -> String {
        let is_command = |line: &&String| !line.trim().is_empty() && !line.starts_with('#');
        let first = self.lines.iter().find(is_command).map_or("", |line| line.as_str());
        format!("{}:{}: {first:.60}", self.page, self.block.line)
    }

    pub fn lacks_a_program(&self) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_there =
            |program: &str| std::env::split_paths(&path).any(|directory| directory.join(program).exists());
        let mut words = self.lines.iter().flat_map(|line| line.split_whitespace());
        words.any(|word| PROGRAMS.contains(&word) && !is_there(word))
    }

    pub fn run(&self) -> Outcome {
        let lab = Topology::same_subnet(2).with_program(env!("CARGO_BIN_EXE_lvs-tund")).build()?;
        let (_, place, first, then) = PLACES
            .iter()
            .find(|(begin, ..)| self.block.code.starts_with(begin))
            .unwrap_or(&("", Place::Director, "", Then::Nothing));
        let (daemons, commands): (Vec<&str>, Vec<&str>) =
            self.lines.iter().map(String::as_str).partition(|line| role_of(line).is_some());
        let _web = lab.real_servers.iter().map(|host| host.serve_http(80)).collect::<Result<Vec<_>, _>>()?;
        let _running = start(&lab, &daemons)?;
        let host = match place {
            Place::Director => &lab.director,
            Place::RealServer => &lab.real_servers[0],
            Place::Client => lab.client(),
        };
        let shell = Shell::new(&lab, host)?;
        shell.run(first)?;
        if *then == Then::Repairs {
            assert_ne!(answers(&lab), 2, "the client is answered without the block");
        }
        let script: String = commands.iter().map(|line| format!("{line}\n")).collect();
        shell.run(&script)?;
        if *then != Then::Nothing {
            assert_eq!(answers(&lab), 2, "requests that are answered after the block");
        }
        Ok(())
    }
}

/// The role that this line starts.
fn role_of(line: &str) -> Option<&'static str> {
    let starts = |role: &&str| line.starts_with(&format!("lvs-tund {role} --")) && !line.contains("--help");
    ["director", "realserver"].into_iter().find(starts)
}

/// How many of two requests of the client are answered.
fn answers(lab: &Lab) -> usize {
    (0..2).filter(|_| lab.client().get((lab.vip, 80), "/").is_ok()).count()
}

/// A director and two real servers, started by `lines` of a block or, where none starts them, as the lab does.
fn start(lab: &Lab, lines: &[&str]) -> Result<Vec<Daemon>, Failed> {
    let line_of = |role| lines.iter().find(|line| role_of(line) == Some(role));
    let mut daemons = Vec::new();
    match line_of("realserver") {
        Some(line) => {
            let host = &lab.real_servers[0];
            daemons.push(start_line(host, line, &[], Cluster::REAL_SERVER_METRICS)?);
        }
        None => daemons.push(lab::start_real_server(lab, &lab.real_servers[0])?),
    }
    daemons.push(lab::start_real_server(lab, &lab.real_servers[1])?);
    let control = lab.directory().join("director.sock").display().to_string();
    match line_of("director") {
        Some(line) => {
            let more = ["--control".to_owned(), control];
            daemons.push(start_line(&lab.director, line, &more, Cluster::DIRECTOR_METRICS)?);
        }
        None => daemons.push(lab::start_director(lab, &lab::director_configuration(lab, "rr"))?),
    }
    Ok(daemons)
}

/// Files are those of `config/`, whatever directory the daemon starts in.
fn start_line(host: &Host, line: &str, more: &[String], port: u16) -> Result<Daemon, Failed> {
    let word = |word: &str| match word.ends_with(".toml") {
        true => root().join("config").join(word).display().to_string(),
        false => word.to_owned(),
    };
    let words = line.trim_end_matches('&').split_whitespace().skip(1).map(word);
    let words: Vec<String> = words.chain(more.iter().cloned()).collect();
    let mut daemon = host.spawn_daemon(&words)?;
    daemon.wait_until_ready(host, port)?;
    Ok(daemon)
}

/// `sh` on one host, in a directory that holds the example configurations, with the program under all its names.
struct Shell<'a> {
    lab: &'a Lab,
    host: &'a Host,
    directory: tempfile::TempDir,
}

impl<'a> Shell<'a> {
    fn new(lab: &'a Lab, host: &'a Host) -> std::io::Result<Shell<'a>> {
        let directory = tempfile::tempdir()?;
        for name in ["director.toml", "realserver.toml"] {
            fs::copy(root().join("config").join(name), directory.path().join(name))?;
        }
        fs::create_dir(directory.path().join("bin"))?;
        for name in ["lvs-tund", "ipvsadm", "ipvsadm-save", "ipvsadm-restore"] {
            let link = directory.path().join("bin").join(name);
            std::os::unix::fs::symlink(Path::new(env!("CARGO_BIN_EXE_lvs-tund")), link)?;
        }
        Ok(Shell { lab, host, directory })
    }

    /// Fails with everything the script wrote.
    fn run(&self, script: &str) -> Outcome {
        let socket = self.lab.directory().join("director.sock").display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", self.directory.path().join("bin").display());
        let mut command = Command::new("sh");
        command
            .args(["-euc", &format!("exec 2>&1\n{}", script.replace(SOCKET, &socket))])
            .current_dir(self.directory.path())
            .env("PATH", path)
            .env("LVS_TUND_CONTROL", &socket)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0);
        self.host.run(|| {
            let mut child = command.spawn()?;
            let mut output = child.stdout.take().expect("it was requested");
            let reader = std::thread::spawn(move || {
                let mut text = Vec::new();
                let _ = output.read_to_end(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            });
            let deadline = Instant::now() + PATIENCE;
            let status = loop {
                if let Some(status) = child.try_wait()? {
                    break Some(status);
                }
                if Instant::now() > deadline {
                    break None;
                }
                std::thread::sleep(Duration::from_millis(10));
            };
            // Whatever it started in the background ends with it.
            let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
            let _ = child.wait();
            let text = reader.join().expect("the reader does not panic");
            match status {
                Some(status) if status.success() => Ok(()),
                Some(status) => Err(format!("{script}{status}:\n{text}").into()),
                None => Err(format!("{script}still runs after {PATIENCE:?}:\n{text}").into()),
            }
        })
    }
}
