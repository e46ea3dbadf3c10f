//! Real servers whose weight comes from a check: from the exit code of a program on the director's host, and from an agent on
//! the real server.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use libtest_mimic::Failed;
use lvs_tund::lab::{self, Host, Lab};

use crate::failing::{FALL, INTERVAL, await_state, health_of, shown, web_with};
use crate::fixture::{Outcome, ask_times, assert_conserved, poll_until, same_subnet, start_real_servers};

/// Both real servers have weight 4, and these checks.
fn file(lab: &Lab, checks: &str) -> String {
    web_with(lab, &format!("check = {checks}\n"))
        .replace("\"rr\"", "\"wrr\"")
        .replace("weight = 1", "weight = 4")
}

fn times() -> String {
    format!("interval = \"{}ms\", timeout = \"1s\", rise = 1, fall = {FALL}", INTERVAL.as_millis())
}

fn await_weights(lab: &Lab, expected: [u64; 2]) {
    poll_until(&format!("weights {expected:?}"), || {
        let service = shown(lab);
        let weights = service["real_servers"].as_array()?.iter().map(|server| server["weight_now"].as_u64());
        weights.eq(expected.map(Some)).then_some(())
    });
}

/// Who answers how many of eight requests.
fn shares(lab: &Lab) -> Result<BTreeMap<String, usize>, Failed> {
    let mut shares = BTreeMap::new();
    ask_times(lab, 8)?.into_iter().for_each(|name| *shares.entry(name).or_default() += 1);
    Ok(shares)
}

fn expected(shares: &[(&str, usize)]) -> BTreeMap<String, usize> {
    shares.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

/// The program ends with the number in the file of its real server: 2 more than the weight, or 1 for a failure.
pub fn by_program() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let file_of = |name: &str| -> PathBuf { lab.directory().join(format!("weight-{name}")) };
    let set = |name: &str, code: &str| -> Outcome {
        // In one step, so that the program never reads an empty file.
        let new = lab.directory().join("new");
        std::fs::write(&new, code)?;
        Ok(std::fs::rename(new, file_of(name))?)
    };
    set("server2", "5")?;
    set("server3", "3")?;
    let script = format!("exit $(cat {}/weight-$LVS_TUND_REAL_SERVER)", lab.directory().display());
    let check = format!(
        "{{ type = \"exec\", command = [\"/bin/sh\", \"-c\", \"{script}\"], weight_from_exit = true, {} }}",
        times()
    );
    let _director = lab::start_director(&lab, &file(&lab, &check))?;
    await_weights(&lab, [3, 1]);
    assert_eq!(shares(&lab)?, expected(&[("server2", 6), ("server3", 2)]));
    set("server2", "2")?;
    await_weights(&lab, [0, 1]);
    assert_eq!(health_of(&lab, "server2")["state"], "up", "weight 0 is no failure");
    assert_eq!(shares(&lab)?, expected(&[("server3", 8)]));
    set("server2", "1")?;
    await_state(&lab, "server2", "down");
    let health = health_of(&lab, "server2");
    assert!(
        health["why"].as_str().is_some_and(|why| why.starts_with("command failed for 172.25.3.2")),
        "{health}"
    );
    set("server2", "0")?;
    set("server3", "6")?;
    await_weights(&lab, [4, 4]);
    assert_eq!(shares(&lab)?, expected(&[("server2", 4), ("server3", 4)]));
    assert_conserved(&lab)
}

/// Answers each connection with its present line; it ends with its value.
struct Agent {
    line: Arc<Mutex<&'static str>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    const PORT: u16 = 9777;

    fn start(host: &Host, line: &'static str) -> Result<Agent, Failed> {
        let listener = host.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, Agent::PORT)))?;
        listener.set_nonblocking(true)?;
        let (line, ends) = (Arc::new(Mutex::new(line)), Arc::new(AtomicBool::new(false)));
        let (said, is_over) = (line.clone(), ends.clone());
        let thread = host.namespace.start(move || {
            while !is_over.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut stream, _)) => {
                        let _ = writeln!(stream, "{}", said.lock().expect("the line"));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        })?;
        Ok(Agent { line, ends, thread: Some(thread) })
    }

    fn say(&self, line: &'static str) {
        *self.line.lock().expect("the line") = line;
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// In addition to a check of the application itself.
pub fn by_agent() -> Outcome {
    let lab = same_subnet(2).build()?;
    let (_web, _real_servers) = start_real_servers(&lab)?;
    let first = Agent::start(&lab.real_servers[0], "up 75%")?;
    let second = Agent::start(&lab.real_servers[1], "25%")?;
    let (times, port) = (times(), Agent::PORT);
    let checks = format!(
        "[{{ type = \"tcp\", {times} }}, {{ type = \"agent\", port = {port}, via = \"direct\", {times} }}]"
    );
    let _director = lab::start_director(&lab, &file(&lab, &checks))?;
    await_weights(&lab, [3, 1]);
    assert_eq!(shares(&lab)?, expected(&[("server2", 6), ("server3", 2)]));
    first.say("drain");
    await_weights(&lab, [0, 1]);
    assert_eq!(health_of(&lab, "server2")["state"], "up", "a drained real server is not down");
    assert_eq!(shares(&lab)?, expected(&[("server3", 8)]));
    first.say("down # new disks");
    await_state(&lab, "server2", "down");
    let health = health_of(&lab, "server2");
    assert!(health["why"].as_str().is_some_and(|why| why.contains("new disks")), "{health}");
    first.say("ready");
    second.say("4");
    await_weights(&lab, [4, 4]);
    assert_eq!(shares(&lab)?, expected(&[("server2", 4), ("server3", 4)]));
    assert_conserved(&lab)
}
