//! Runs the programs of `on_change`: for each hook one after the other in the order of the changes. No one waits for them.

mod message;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub(in crate::daemon) use message::Message;

use super::program::{Ended, NotStarted, Program, Starter};
use crate::health::{Hook, When};

/// Changes that wait for one hook; if there are more, the oldest are dropped.
const WAITING_MAX: usize = 1000;

/// Characters of a program's output in the log.
const SHOWN_MAX: usize = 1000;

/// For the programs that run when the daemon stops: SIGTERM at once, SIGKILL a second later.
const STOP_MAX: Duration = Duration::from_millis(1500);

/// The hooks of the running configuration.
pub(in crate::daemon) struct Hooks {
    starter: Starter,
    workers: Vec<Worker>,
    /// A task for each worker, those that no longer exist included until they have run what waited.
    tasks: JoinSet<()>,
    /// True when the daemon stops.
    stop: watch::Sender<bool>,
}

/// A hook with its queue. When it is dropped, its task runs what waits and ends.
struct Worker {
    hook: Hook,
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Notified when a change waits, and when no more will come.
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Arc<Message>>,
    dropped: u64,
    is_closed: bool,
}

impl Hooks {
    pub(in crate::daemon) fn new(starter: Starter) -> Hooks {
        Hooks { starter, workers: Vec::new(), tasks: JoinSet::new(), stop: watch::Sender::new(false) }
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

    /// Runs the hooks that wait for this change, later.
    pub(in crate::daemon) fn tell(&self, when: When, message: Message) {
        let message = Arc::new(message);
        let (service, rip) = message.subject();
        for worker in self.workers.iter().filter(|worker| worker.hook.is_for(when, service, rip)) {
            worker.queue.push(message.clone());
        }
    }

    /// Ends the programs that run, and drops what waits.
    pub(in crate::daemon) async fn stop(mut self) {
        self.stop.send_replace(true);
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
        self.queue.lock().is_closed = true;
        self.queue.news.notify_one();
    }
}

impl Queue {
    fn push(&self, message: Arc<Message>) {
        let mut waiting = self.lock();
        if waiting.messages.len() == WAITING_MAX {
            waiting.messages.pop_front();
            waiting.dropped += 1;
        }
        waiting.messages.push_back(message);
        self.news.notify_one();
    }

    /// The next change, and how many were dropped before it; `None`: no more will come.
    async fn next(&self) -> Option<(Arc<Message>, u64)> {
        loop {
            {
                let mut waiting = self.lock();
                if let Some(message) = waiting.messages.pop_front() {
                    return Some((message, std::mem::take(&mut waiting.dropped)));
                }
                if waiting.is_closed {
                    return None;
                }
            }
            self.news.notified().await;
        }
    }

    /// A poisoned lock is used anyway: the queue is whole at every moment.
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(hook: Hook, queue: Arc<Queue>, starter: Starter, mut stop: watch::Receiver<bool>) {
    let command = hook.command.arguments.join(" ");
    loop {
        let next = tokio::select! {
            biased;
            _ = stop.wait_for(|stops| *stops) => return,
            next = queue.next() => next,
        };
        let Some((message, dropped)) = next else { return };
        if dropped > 0 {
            tracing::warn!(
                kind = "hook_dropped",
                command,
                dropped,
                "director: hook {command} is too slow: it was not run for {dropped} older changes; make it faster"
            );
        }
        let program = program(&hook, &message);
        let over = async {
            tokio::select! {
                () = sleep(hook.timeout) => {}
                _ = stop.wait_for(|stops| *stops) => {}
            }
        };
        let ended = program.run(&starter, over).await;
        let is_stopping = *stop.borrow();
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
