//! Runs the doctor on a host of the lab and compares what it finds.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use lvs_tund::lab::{self, Daemon, Host, Lab, LabError, Topology, http};
use serde_json::Value;

pub type Outcome = Result<(), Failed>;

/// Longer than a doctor takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Everyone in one subnet, the real binary as the lab's program.
pub fn same_subnet(real_servers: usize) -> Topology {
    Topology::same_subnet(real_servers).with_program(env!("CARGO_BIN_EXE_lvs-tund"))
}

pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).exists())
}

/// Everything runs; a web server answers on each real server.
pub struct Running {
    pub web: Vec<http::Server>,
    pub real_servers: Vec<Daemon>,
    pub director: Daemon,
}

impl Running {
    pub fn start(lab: &Lab) -> Result<Running, LabError> {
        Running::start_with(lab, &lab::director_configuration(lab, "rr"))
    }

    pub fn start_with(lab: &Lab, configuration: &str) -> Result<Running, LabError> {
        let web = lab.real_servers.iter().map(|host| host.serve_http(80)).collect::<Result<_, _>>()?;
        let real_servers = lab
            .real_servers
            .iter()
            .map(|host| lab::start_real_server(lab, host))
            .collect::<Result<_, _>>()?;
        let director = lab::start_director(lab, configuration)?;
        Ok(Running { web, real_servers, director })
    }
}

/// The control socket of [`lab::director_configuration`].
pub fn socket(lab: &Lab) -> PathBuf {
    lab.directory().join("director.sock")
}

pub fn program(host: &Host, arguments: &[&str]) -> Output {
    host.run(|| Command::new(env!("CARGO_BIN_EXE_lvs-tund")).args(arguments).output()).expect("the program")
}

/// Runs a line of a shell on the host.
pub fn shell(host: &Host, line: &str) {
    let output = host.run(|| Command::new("sh").args(["-c", line]).output()).expect("sh");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What a doctor found.
pub struct Findings(pub Value);

/// The running director's host.
pub fn director(lab: &Lab) -> Findings {
    let socket = socket(lab);
    doctor(&lab.director, &["director", "--control", socket.to_str().expect("UTF-8")])
}

/// The running director's host, and packets through the tunnel.
pub fn director_via(lab: &Lab) -> Findings {
    let socket = socket(lab);
    doctor(&lab.director, &["director", "--via", "--control", socket.to_str().expect("UTF-8")])
}

/// The director's host with this file, whether a director runs or not.
pub fn director_of(lab: &Lab, file: &Path) -> Findings {
    let (file, socket) = (file.to_str().expect("UTF-8"), socket(lab));
    doctor(&lab.director, &["director", "--config", file, "--control", socket.to_str().expect("UTF-8")])
}

/// A real server's host, with the lab's VIP and director.
pub fn realserver(lab: &Lab, host: &Host, keys: &str) -> Findings {
    let text = format!("vips = [\"{}\"]\ndirectors = [\"{}\"]\n{keys}\n", lab.vip, lab.director.address);
    realserver_of(host, &text)
}

/// A real server's host with this file.
pub fn realserver_of(host: &Host, text: &str) -> Findings {
    let file = host.write_file("doctor.toml", text).expect("the file");
    doctor(host, &["realserver", "--config", file.to_str().expect("UTF-8")])
}

fn doctor(host: &Host, arguments: &[&str]) -> Findings {
    let started = Instant::now();
    let arguments = [&["doctor"], arguments, &["--format", "json"]].concat();
    let output = program(host, &arguments);
    assert!(started.elapsed() < PATIENCE, "the doctor took {:?}", started.elapsed());
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let found = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {errors}"));
    let found = Findings(found);
    let expected = if found.of("error").is_empty() { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(expected), "{errors}");
    found
}

impl Findings {
    /// Item and sentence of every finding of this level.
    fn of(&self, level: &str) -> Vec<(String, String)> {
        let findings = self.0["findings"].as_array().expect("findings");
        let word = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let of_level = findings.iter().filter(|finding| finding["level"] == level);
        of_level.map(|finding| (word(finding, "item"), word(finding, "found"))).collect()
    }

    /// Exactly these errors, and no warning: item, and a part of the sentence.
    #[track_caller]
    pub fn are(&self, expected: &[(&str, &str)]) {
        self.are_with_warnings(expected, &[]);
    }

    #[track_caller]
    pub fn are_with_warnings(&self, errors: &[(&str, &str)], warnings: &[(&str, &str)]) {
        for (level, expected) in [("error", errors), ("warning", warnings)] {
            let found = self.of(level);
            let is_it = found.len() == expected.len()
                && found
                    .iter()
                    .zip(expected)
                    .all(|(found, expected)| found.0 == expected.0 && found.1.contains(expected.1));
            assert!(is_it, "{level}s: {found:#?} instead of {expected:#?}");
        }
    }

    /// What was found about this item, if it is but one finding.
    pub fn found(&self, item: &str) -> String {
        let findings = self.0["findings"].as_array().expect("findings");
        let [finding] = findings.iter().filter(|finding| finding["item"] == item).collect::<Vec<_>>()[..]
        else {
            panic!("not one finding of {item}: {findings:#?}")
        };
        finding["found"].as_str().unwrap_or_default().to_owned()
    }

    /// What to type about this item.
    pub fn remedy(&self, item: &str) -> String {
        let findings = self.0["findings"].as_array().expect("findings");
        let finding =
            findings.iter().find(|finding| finding["item"] == item && finding["remedy"].is_string());
        finding.unwrap_or_else(|| panic!("no remedy of {item}"))["remedy"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// A request of the client, whatever happens to it.
pub fn request(lab: &Lab) -> std::io::Result<String> {
    Ok(lab.client().get((lab.vip, 80), "/")?.text())
}

/// Polls until `attempt` holds; fails with what was awaited.
pub fn poll_until(what: &str, mut attempt: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !attempt() {
        assert!(Instant::now() < deadline, "{what} did not happen within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
