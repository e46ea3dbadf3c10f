//! Runs a program of the operator's: a check, or a hook.
//!
//! It gets no shell, no descriptor but its standard ones, and a process group of its own, which is ended together with
//! it: SIGTERM at the end of its time, SIGKILL a second later, and SIGKILL for what it leaves behind.

mod missing;
mod starter;

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::{Group, Pid, User};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{sleep, timeout};

pub(super) use missing::missing;
pub(in crate::daemon) use starter::Starter;

/// What is kept of the output; the rest is read and thrown away, so that the program never waits for a reader.
pub(super) const OUTPUT_MAX: usize = 4 << 10;

/// Between SIGTERM and SIGKILL, and between SIGKILL and giving up a process that the kernel does not end.
const TERM_GRACE: Duration = Duration::from_secs(1);

/// What ends a program, one after the other.
const KILLS: [Signal; 2] = [Signal::SIGTERM, Signal::SIGKILL];

/// After the end of the program, for output that is still on its way.
const OUTPUT_GRACE: Duration = Duration::from_millis(100);

/// The search path of programs if the daemon has none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program and what it gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Program {
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// A name or a number; `None`: the daemon's.
    pub user: Option<String>,
    /// As `user`; `None`: the user's own group.
    pub group: Option<String>,
    /// In addition to `PATH`.
    pub environment: Vec<(&'static str, String)>,
    /// Its standard input; empty: `/dev/null`.
    pub input: Vec<u8>,
}

/// How a program ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// `None`: a signal ended it.
    pub code: Option<i32>,
    /// Whether its time was over, or the daemon's.
    pub is_interrupted: bool,
    /// At most [`OUTPUT_MAX`] bytes of its standard output and standard error.
    pub output: Vec<u8>,
}

/// Why a program could not be started, with the remedy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotStarted(pub String);

impl Program {
    /// Runs it until it ends or `over` does. Dropping the future kills it with its group.
    pub(super) async fn run(
        &self,
        starter: &Starter,
        over: impl Future<Output = ()>,
    ) -> Result<Ended, NotStarted> {
        let (mut child, input, output) = self.start(starter).await?;
        let group = ProcessGroup::of(&child, starter);
        let mut kept = Vec::new();
        let attended =
            attend(&mut child, group, keep(output, &mut kept), feed(input, &self.input), over).await;
        let (status, is_interrupted) = attended;
        Ok(Ended { code: status.and_then(|status| status.code()), is_interrupted, output: kept })
    }

    async fn start(&self, starter: &Starter) -> Result<(Child, Option<ChildStdin>, Receiver), NotStarted> {
        let no_pipe = |error: io::Error| NotStarted(format!("cannot make a pipe: {error}"));
        let (output, written) = io::pipe().map_err(no_pipe)?;
        let output = Receiver::from_owned_fd(output.into()).map_err(no_pipe)?;
        let mut command = self.command(self.identity().await?)?;
        command.stdout(written.try_clone().map_err(no_pipe)?).stderr(written);
        let mut child = starter.start(command).await.map_err(|error| self.not_started(&error))?;
        let input = child.stdin.take();
        Ok((child, input, output))
    }

    fn command(&self, identity: Identity) -> Result<Command, NotStarted> {
        let Some((program, arguments)) = self.arguments.split_first() else {
            return Err(NotStarted("no command is configured".to_owned()));
        };
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", search_path()).current_dir("/").kill_on_drop(true);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.process_group(0);
        command.stdin(if self.input.is_empty() { Stdio::null() } else { Stdio::piped() });
        // The standard library also drops the supplementary groups when root sets a user.
        if let Some(gid) = identity.gid {
            command.gid(gid);
        }
        if let Some(uid) = identity.uid {
            command.uid(uid);
        }
        Ok(command)
    }

    /// Looks the user and the group up, where the host's name service may take a while.
    async fn identity(&self) -> Result<Identity, NotStarted> {
        let (user, group) = (self.user.clone(), self.group.clone());
        if user.is_none() && group.is_none() {
            return Ok(Identity::default());
        }
        let found = tokio::task::spawn_blocking(move || identity(user.as_deref(), group.as_deref())).await;
        found.unwrap_or_else(|error| Err(NotStarted(error.to_string())))
    }

    fn not_started(&self, error: &io::Error) -> NotStarted {
        let program = self.arguments.first().map_or("", String::as_str);
        NotStarted(match (error.raw_os_error().map(Errno::from_raw), &self.user) {
            (Some(Errno::ENOENT), _) => format!("there is no program {program}; name its whole path"),
            (Some(Errno::EACCES), _) => format!("{program} may not be executed; see: ls -l {program}"),
            (Some(Errno::ENOEXEC), _) => format!("{program} is no program; does a script begin with #!?"),
            (Some(Errno::EPERM), Some(user)) => format!(
                "this daemon may not run {program} as user {user}; it needs CAP_SETUID and CAP_SETGID"
            ),
            (Some(Errno::EMFILE | Errno::ENFILE), _) => {
                format!("too many open files to start {program}; raise LimitNOFILE= of the unit")
            }
            (Some(Errno::EAGAIN), _) => {
                format!("too many processes to start {program}; raise TasksMax= or LimitNPROC= of the unit")
            }
            _ => format!("cannot start {program}: {error}"),
        })
    }
}

fn search_path() -> String {
    std::env::var("PATH").unwrap_or_else(|_| PATH.to_owned())
}

/// Whom a program runs as; `None`: as the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Identity {
    uid: Option<u32>,
    gid: Option<u32>,
}

fn identity(user: Option<&str>, group: Option<&str>) -> Result<Identity, NotStarted> {
    let found = |name: &str| User::from_name(name).ok().flatten();
    let mut identity = Identity::default();
    if let Some(name) = user {
        match (found(name), name.parse()) {
            (Some(user), _) => {
                identity = Identity { uid: Some(user.uid.as_raw()), gid: Some(user.gid.as_raw()) };
            }
            (None, Ok(uid)) => identity = Identity { uid: Some(uid), gid: Some(uid) },
            (None, Err(_)) => return Err(NotStarted(format!("there is no user {name} on this host"))),
        }
    }
    if let Some(name) = group {
        let found = Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
        identity.gid = Some(
            found
                .or_else(|| name.parse().ok())
                .ok_or_else(|| NotStarted(format!("there is no group {name} on this host")))?,
        );
    }
    Ok(identity)
}

/// Waits for the end of the program, and enforces it when its time is `over`: the status, `None` if the kernel does not end
/// it, and whether a signal was needed.
async fn attend(
    child: &mut Child,
    group: ProcessGroup,
    reader: impl Future<Output = ()>,
    feeder: impl Future<Output = ()>,
    over: impl Future<Output = ()>,
) -> (Option<ExitStatus>, bool) {
    tokio::pin!(reader, feeder, over);
    let (mut is_read, mut is_fed, mut sent) = (false, false, 0);
    let status = loop {
        let pause = async {
            match sent {
                0 => over.as_mut().await,
                _ => sleep(TERM_GRACE).await,
            }
        };
        tokio::select! {
            status = child.wait() => break status.ok(),
            () = reader.as_mut(), if !is_read => is_read = true,
            () = feeder.as_mut(), if !is_fed => is_fed = true,
            () = pause => match KILLS.get(sent) {
                Some(signal) => {
                    group.signal(*signal);
                    sent += 1;
                }
                // The process waits in the kernel; the runtime reaps it when it ends.
                None => break None,
            }
        }
    };
    drop(group);
    if !is_read {
        // What the group wrote before it was killed; a process that has left the group may keep the pipe open.
        let _ = timeout(OUTPUT_GRACE, reader).await;
    }
    (status, sent > 0)
}

/// Reads to the end, and keeps the beginning.
async fn keep(mut output: Receiver, kept: &mut Vec<u8>) {
    let mut buffer = [0; OUTPUT_MAX];
    while let Ok(length @ 1..) = output.read(&mut buffer).await {
        let room = OUTPUT_MAX - kept.len();
        kept.extend_from_slice(&buffer[..length.min(room)]);
    }
}

/// Writes the standard input; a program need not read it.
async fn feed(input: Option<ChildStdin>, bytes: &[u8]) {
    if let Some(mut input) = input {
        let _ = input.write_all(bytes).await;
    }
}

/// The processes of a program. Dropping it kills those that are left.
struct ProcessGroup {
    leader: Option<Pid>,
    starter: Starter,
}

impl ProcessGroup {
    fn of(child: &Child, starter: &Starter) -> ProcessGroup {
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        ProcessGroup { leader, starter: starter.clone() }
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            self.starter.signal(leader, signal);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests;
