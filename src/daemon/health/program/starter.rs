//! The thread that starts programs and ends them: it alone keeps the capabilities that another user's programs need, and
//! no other thread waits for a fork.

use std::io;
use std::sync::mpsc;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::daemon::privileges;
use crate::datapath::descriptors;

/// Starts and ends programs; the thread ends with the last clone.
#[derive(Clone)]
pub(in crate::daemon) struct Starter(mpsc::Sender<Job>);

enum Job {
    Start(Box<Command>, oneshot::Sender<io::Result<Child>>),
    Signal(Pid, Signal),
}

impl Starter {
    /// Call it in a runtime, while the calling thread still has the capabilities that the daemon began with.
    pub(in crate::daemon) fn new() -> io::Result<Starter> {
        let (sender, jobs) = mpsc::channel();
        let runtime = Handle::current();
        // What this process opens itself has the flag anyway.
        let _ = descriptors::close_at_exec();
        std::thread::Builder::new().name("lvs-tund-programs".to_owned()).spawn(move || {
            privileges::reduce_for_programs();
            let _inside = runtime.enter();
            for job in jobs {
                work(job);
            }
        })?;
        Ok(Starter(sender))
    }

    pub(super) async fn start(&self, command: Command) -> io::Result<Child> {
        let (sender, started) = oneshot::channel();
        let is_sent = self.0.send(Job::Start(Box::new(command), sender)).is_ok();
        let ended = || io::Error::other("the thread that starts programs has ended; restart the daemon");
        if is_sent { started.await.map_err(|_| ended())? } else { Err(ended()) }
    }

    /// Sends a signal to a process group. One that no longer exists is no error.
    pub(super) fn signal(&self, group: Pid, signal: Signal) {
        let _ = self.0.send(Job::Signal(group, signal));
    }
}

fn work(job: Job) {
    match job {
        Job::Start(mut command, started) => {
            // A child that no one waits for is killed when it is dropped.
            let _ = started.send(command.spawn());
        }
        Job::Signal(group, signal) => {
            // Fails if no process of the group is left.
            let _ = killpg(group, signal);
        }
    }
}
