//! `lvs-tund demo` as a person runs it: what a program reads of it, and how it ends when it is interrupted.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lvs-tund"));
    command.arg("demo").args(arguments).env("NO_COLOR", "1").stdin(Stdio::null()).process_group(0);
    command
}

/// A demo that runs, and is ended also when its test panics.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(arguments: &[&str]) -> Running {
        let mut child = demo(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines }
    }

    fn read_until(&mut self, is_it: impl Fn(&str) -> bool) -> String {
        self.lines.by_ref().map(Result::unwrap).find(|line| is_it(line)).expect("a line before the end")
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// The daemons it has started.
    fn children(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let of_task =
            |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
        let all: String = tasks.map(|task| of_task(task.unwrap()) + " ").collect();
        all.split_whitespace().map(str::to_owned).collect()
    }

    /// Signals the whole process group, as a terminal does on Ctrl-C; returns how it ended, and what it complained of.
    fn interrupt(&mut self) -> (ExitStatus, String) {
        let daemons = self.children();
        assert_eq!(daemons.len(), 3, "a director and two real servers");
        killpg(self.pid(), Signal::SIGINT).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it continues in spite of Ctrl-C");
            thread::sleep(Duration::from_millis(20));
        };
        for daemon in daemons {
            assert!(!Path::new("/proc").join(&daemon).exists(), "process {daemon} is left");
        }
        let mut complaint = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        (status, complaint)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_json_output_is_one_object() {
    for (arguments, kind, real_servers, requests) in [
        (&["--format", "json"][..], "same_subnet", 2, 8),
        (&["--routed", "--real-servers", "3", "--requests", "9", "--format", "json"], "routed", 3, 9),
    ] {
        let output = demo(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["topology"]["kind"], kind);
        assert_eq!(
            (&report["round_robin"], &report["reply_bytes_through_director"]),
            (&true.into(), &0.into())
        );
        assert!(report["bytes_to_client"].as_u64().unwrap() > 0);
        let answers = report["answers"].as_array().unwrap();
        assert_eq!(answers.len(), requests);
        for (answer, one_round_later) in answers.iter().zip(&answers[real_servers..]) {
            assert_eq!(answer, one_round_later);
        }
        let mut first_round = answers[..real_servers].to_vec();
        first_round.sort_by_key(ToString::to_string);
        first_round.dedup();
        assert_eq!(first_round.len(), real_servers);
    }
}

#[test]
fn a_held_demo_can_be_changed_and_entered_and_ends_with_ctrl_c() {
    let mut running = Running::start(&["--hold"]);
    let socket = running.read_until(|line| line.contains("export LVS_TUND_CONTROL="));
    for verb in ["connections", "ipvsadm", "weight", "drain", "undrain"] {
        let command = running.read_until(|line| line.contains(&format!(" {verb} ")) || line.ends_with(verb));
        let script = format!("{socket}\n{command}");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{script}: {output:?}");
    }
    running.read_until(|line| line.starts_with("running until Ctrl-C"));
    for (name, address) in [("client", "172.25.3.10"), ("director", "172.25.3.1"), ("server2", "172.25.3.2")]
    {
        let line = running.read_until(|line| line.trim_start().starts_with(name));
        let command = line.trim_start().strip_prefix(name).unwrap();
        let mut shell = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        shell.stdin.take().unwrap().write_all(b"cat /proc/net/fib_trie\n").unwrap();
        let seen = String::from_utf8(shell.wait_with_output().unwrap().stdout).unwrap();
        let is_its_own = |pair: &[&str]| {
            pair[0].trim_end().ends_with(&format!("|-- {address}")) && pair[1].contains("/32 host LOCAL")
        };
        let lines: Vec<_> = seen.lines().collect();
        assert!(lines.windows(2).any(is_its_own), "{command} is not {name}:\n{seen}");
    }
    let (status, complaint) = running.interrupt();
    assert_eq!((status.code(), complaint.as_str()), (Some(0), ""));
}

#[test]
fn ctrl_c_during_the_requests_removes_everything() {
    let mut running = Running::start(&["--requests", "100000"]);
    // the topology names it first; the tenth request's answer is behind it
    running.read_until(|line| line.trim_start().starts_with("10 "));
    let (status, complaint) = running.interrupt();
    assert_eq!(status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("interrupted; everything was taken down"), "{complaint}");
}
