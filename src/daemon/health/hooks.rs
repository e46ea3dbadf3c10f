//! Runs the programs of `on_change`: for each hook one after the other in the order of the changes. No one waits for them.

mod last_words;
mod message;
mod waiting;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::message::{About, Message};
use self::waiting::Queue;
use super::program::{Ended, NotStarted, Program, Starter};
use crate::director::cluster::ClusterConfig;
use crate::health::judge::Event;
use crate::health::{Hook, View, When};

/// Characters of a program's output in the log.
const SHOWN_MAX: usize = 1000;

/// For the programs that run when the daemon stops: SIGTERM at once, SIGKILL a second later.
const STOP_MAX: Duration = Duration::from_millis(1500);

/// How long the daemon waits at its end for hooks with `at_stop`.
const LAST_WORDS_MAX: Duration = Duration::from_secs(30);

/// A virtual service, or a real server of it.
type Subject = (String, Option<IpAddr>);

/// The hooks of the running configuration.
pub(in crate::daemon) struct Hooks {
    starter: Starter,
    workers: Vec<Worker>,
    /// A task for each worker, those that no longer exist included until they have run what waited.
    tasks: JoinSet<()>,
    stop: watch::Sender<Stop>,
    /// Whether the last state of each subject that was reported here is good.
    told: HashMap<Subject, bool>,
}

/// Whose programs end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    /// Those of hooks without `at_stop`.
    Others,
    All,
}

impl Stop {
    fn ends(self, hook: &Hook) -> bool {
        self == Stop::All || self == Stop::Others && !hook.at_stop
    }
}

/// A hook with its queue. When it is dropped, its task runs what waits and ends.
struct Worker {
    hook: Hook,
    queue: Arc<Queue>,
}

impl Hooks {
    pub(in crate::daemon) fn new(starter: Starter) -> Hooks {
        let (workers, tasks, told) = (Vec::new(), JoinSet::new(), HashMap::new());
        Hooks { starter, workers, tasks, stop: watch::Sender::new(Stop::No), told }
    }

    /// Follows a configuration. A hook that is the same keeps what waits for it; one that no longer exists still runs for the changes
    /// that waited.
    pub(in crate::daemon) fn follow(&mut self, hooks: &[Hook]) {
        while self.tasks.try_join_next().is_some() {}
        let mut before = std::mem::take(&mut self.workers);
        for hook in hooks {
            let same = before.iter().position(|worker| worker.hook == *hook);
            let worker = same.map_or_else(|| self.start(hook), |at| before.swap_remove(at));
            self.workers.push(worker);
        }
    }

    /// What was reported of virtual services other than these is forgotten.
    pub(in crate::daemon) fn keep(&mut self, services: &HashSet<&str>) {
        self.told.retain(|(service, _), _| services.contains(service.as_str()));
    }

    /// Runs the hooks that wait for this event, later.
    pub(in crate::daemon) fn report(
        &mut self,
        event: &Event,
        config: &ClusterConfig,
        view: &View,
        since_epoch: f64,
    ) {
        let Some(About { when, real_server, .. }) = About::of(event) else { return };
        let (service, rip) = (event.service(), real_server.map(|(_, rip)| rip));
        self.told.insert((service.to_owned(), rip), when.is_good());
        if !self.workers.iter().any(|worker| worker.hook.is_for(when, service, rip)) {
            return;
        }
        if let Some((when, message)) = Message::of(event, config, view, since_epoch) {
            self.tell(when, message);
        }
    }

    /// Runs the hooks that wait for this change, later.
    fn tell(&self, when: When, message: Message) {
        let message = Arc::new(message);
        let (service, rip) = message.subject();
        for worker in self.workers.iter().filter(|worker| worker.hook.is_for(when, service, rip)) {
            worker.queue.push(message.clone());
        }
    }

    /// The daemon stops: ends the programs that run and drops what waits, except for hooks with `at_stop`: these run for all
    /// that waits, and then as if everything that is up went down.
    pub(in crate::daemon) async fn stop(mut self, config: &ClusterConfig, view: &View, since_epoch: f64) {
        self.stop.send_replace(Stop::Others);
        if self.workers.iter().any(|worker| worker.hook.at_stop) {
            for event in last_words::of(config, view, &self.told) {
                self.report(&event, config, view, since_epoch);
            }
            // Without a worker, its task ends when nothing waits any more.
            self.workers.clear();
            let all = async { while self.tasks.join_next().await.is_some() {} };
            if timeout(LAST_WORDS_MAX, all).await.is_err() {
                let limit = LAST_WORDS_MAX.as_secs();
                tracing::warn!(
                    kind = "hook_abandoned",
                    "director: programs with at_stop have not ended within {limit} s; they are ended"
                );
            }
        }
        self.stop.send_replace(Stop::All);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = timeout(STOP_MAX, all).await;
    }

    fn start(&mut self, hook: &Hook) -> Worker {
        let queue = Arc::new(Queue::default());
        self.tasks.spawn(run(hook.clone(), queue.clone(), self.starter.clone(), self.stop.subscribe()));
        Worker { hook: hook.clone(), queue }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queue.close();
    }
}

async fn run(hook: Hook, queue: Arc<Queue>, starter: Starter, mut stop: watch::Receiver<Stop>) {
    let command = hook.command.arguments.join(" ");
    loop {
        let next = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| stop.ends(&hook)) => return,
            next = queue.next() => next,
        };
        let Some((message, dropped)) = next else { return };
        if dropped > 0 {
            tracing::warn!(
                kind = "hook_dropped",
                command,
                dropped,
                "director: hook {command} is too slow: it was not run for {dropped} changes that others have undone or followed since; make it faster"
            );
        }
        let program = program(&hook, &message);
        let over = async {
            tokio::select! {
                () = sleep(hook.timeout) => {}
                _ = stop.wait_for(|stop| stop.ends(&hook)) => {}
            }
        };
        let ended = program.run(&starter, over).await;
        let is_stopping = stop.borrow().ends(&hook);
        report(&hook, &command, &message, ended, is_stopping);
    }
}

fn program(hook: &Hook, message: &Message) -> Program {
    Program {
        arguments: hook.command.arguments.clone(),
        user: hook.command.user.clone(),
        group: hook.command.group.clone(),
        environment: message.environment(),
        input: message.json(),
    }
}

/// Logs how it ended.
fn report(
    hook: &Hook,
    command: &str,
    message: &Message,
    ended: Result<Ended, NotStarted>,
    is_stopping: bool,
) {
    let title = message.title();
    let (output, why) = match ended {
        Ok(Ended { code: Some(0), is_interrupted: false, output }) => {
            let output = shown(&output);
            tracing::info!(kind = "hook", command, output, "director: hook {command} has run for {title}");
            return;
        }
        Err(NotStarted(why)) => (String::new(), why),
        Ok(Ended { is_interrupted: true, output, .. }) if is_stopping => {
            (shown(&output), "it was ended because the director stops".to_owned())
        }
        Ok(Ended { is_interrupted: true, output, .. }) => {
            let limit = humantime::format_duration(hook.timeout);
            (shown(&output), format!("it did not end within {limit} and was killed; raise its timeout"))
        }
        Ok(Ended { code: Some(code), output, .. }) => {
            (shown(&output), format!("exit code {code}; run it by hand with the same input"))
        }
        Ok(Ended { code: None, output, .. }) => (shown(&output), "a signal ended it".to_owned()),
    };
    tracing::warn!(
        kind = "hook_failed",
        command,
        output,
        "director: hook {command} for {title} has failed: {why}"
    );
}

/// The beginning of the output as text. The log escapes what is not printable.
fn shown(output: &[u8]) -> String {
    String::from_utf8_lossy(output).trim().chars().take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests;
