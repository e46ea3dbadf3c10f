//! A program running in a namespace; it is stopped and reaped when its value is dropped.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Attempt, Host, Interrupt, LabError, http};

/// How long a daemon may take to become ready.
const READY_MAX: Duration = Duration::from_secs(10);
/// How long a daemon may take after SIGTERM to undo its changes on the host.
const STOP_MAX: Duration = Duration::from_secs(2);
/// Pause between two polls.
const TICK: Duration = Duration::from_millis(10);
/// Lines of the log that an error contains.
const LOG_LINES_MAX: usize = 20;

/// One running program; its output goes to a file.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
    status: Option<ExitStatus>,
    interrupt: Option<Interrupt>,
}

impl Daemon {
    pub(super) fn spawn<A: AsRef<OsStr>>(
        host: &Host,
        program: &Path,
        arguments: &[A],
        log: PathBuf,
        errors: Option<Stdio>,
    ) -> Result<Self, LabError> {
        let what = || format!("cannot start {} in {}", program.display(), host.name);
        let output = File::options().create(true).append(true).open(&log).attempt(what)?;
        let errors = match errors {
            Some(errors) => errors,
            None => output.try_clone().attempt(what)?.into(),
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("LVS_TUND_EXIT_WITH_PARENT", "1")
            .env("NO_COLOR", "1")
            // The journals of its daemons end with the lab.
            .env("RUNTIME_DIRECTORY", log.parent().unwrap_or(Path::new("/run")))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            // Its own process group: Ctrl-C in the terminal reaches only the lab, which stops its daemons in
            // order.
            .process_group(0);
        let child = host.namespace.spawn(command).attempt(what)?;
        let role = arguments.first().map(|role| role.as_ref().to_string_lossy().into_owned());
        let name = format!("{} on {}", role.unwrap_or_else(|| "program".into()), host.name);
        Ok(Daemon { name, child, log, status: None, interrupt: host.interrupt.clone() })
    }

    /// The program and its host: `director on director`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written so far, to standard output and error.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last lines of [`log`](Self::log).
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_MAX)..].join("\n")
    }

    /// Waits until `http://127.0.0.1:port/healthz` answers, at most 10 s: the daemon serves once it has set up its host.
    /// Whether it is ready depends on the cluster too.
    ///
    /// # Errors
    /// It ends, or is not ready in time; the error contains the last log lines.
    pub fn wait_until_ready(&mut self, host: &Host, port: u16) -> Result<(), LabError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let last = self.poll_until(READY_MAX, || {
            host.run(|| match http::get(address, "/healthz", Duration::from_secs(1)) {
                Ok(response) if matches!(response.status, 200 | 503) => Ok(()),
                Ok(response) => Err(format!("/healthz returned {} {}", response.status, response.text())),
                Err(error) => Err(format!("{address}: {error}")),
            })
        });
        last.map_err(|reason| self.error(&format!("is not ready: {reason}")))
    }

    /// Waits until its log contains `text`.
    ///
    /// # Errors
    /// As [`wait_until_ready`](Self::wait_until_ready).
    pub fn wait_for_log(&mut self, text: &str, within: Duration) -> Result<(), LabError> {
        let log = self.log.clone();
        let last = self.poll_until(within, || {
            let read = fs::read_to_string(&log).unwrap_or_default();
            read.contains(text).then_some(()).ok_or_else(|| format!("its log does not contain {text:?}"))
        });
        last.map_err(|reason| self.error(&reason))
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// It still runs after that time.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus, LabError> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.exit_status() {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(self.error(&format!("still running after {within:?}")));
            }
            thread::sleep(TICK);
        }
    }

    /// Its exit status, if it has ended.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// Sends a signal; if the daemon has ended, that is not an error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<(), LabError> {
        if self.exit_status().is_some() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.child.id() as i32), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno).attempt(|| format!("cannot send {signal} to {}", self.name)),
        }
    }

    /// Sends SIGTERM, and SIGKILL after 2 s; returns its exit status.
    ///
    /// # Errors
    /// It could not be ended.
    pub fn stop(&mut self) -> Result<ExitStatus, LabError> {
        self.signal(Signal::SIGTERM)?;
        if let Ok(status) = self.wait(STOP_MAX) {
            return Ok(status);
        }
        self.kill()
    }

    /// Kills it, as in a crash: it cannot undo anything.
    ///
    /// # Errors
    /// It could not be ended.
    pub fn kill(&mut self) -> Result<ExitStatus, LabError> {
        self.signal(Signal::SIGKILL)?;
        let status = match self.status {
            Some(status) => status,
            None => self.child.wait().attempt(|| format!("cannot end {}", self.name))?,
        };
        self.status = Some(status);
        Ok(status)
    }

    fn poll_until(
        &mut self,
        within: Duration,
        mut attempt: impl FnMut() -> Result<(), String>,
    ) -> Result<(), String> {
        let deadline = Instant::now() + within;
        loop {
            let ended = self.exit_status();
            match (attempt(), ended) {
                (Ok(()), _) => return Ok(()),
                (Err(_), Some(status)) => return Err(format!("it ended with {status}")),
                (Err(_), None) if self.interrupt.as_ref().is_some_and(Interrupt::is_raised) => {
                    return Err("interrupted".into());
                }
                (Err(reason), None) if Instant::now() > deadline => return Err(reason),
                (Err(_), None) => thread::sleep(TICK),
            }
        }
    }

    fn error(&self, reason: &str) -> LabError {
        LabError::Daemon { what: format!("{} {reason}", self.name), log: self.log_tail() }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}
