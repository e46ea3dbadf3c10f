//! The task that owns the judge: starts the probes that are due, a limited number at once, hands their outcomes to the
//! judge, and reports the control task what has changed.
//!
//! ```text
//! control ──Wanted──▶ ┌────────┐ ──probe──▶ a task each
//! API, ICMP ──Ask───▶ │ driver │ ◀─outcome─
//! control ◀──News──── └────────┘
//! ```
//!
//! The control task never waits for it, and it never waits for the control task: what has not been taken yet is merged.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::impossible::{Impossible, Subject};
use super::limits::Capacity;
use super::probe::{self, Tools};
use super::sockets::ProbeSockets;
use super::wanted::{PathFacts, Wanted};
use crate::daemon::random;
use crate::health::check::{Check, Target};
use crate::health::judge::{Event, Judge, Probe, ProbeId, Signal};
use crate::health::{CheckConfig, Failure, FailureClass, Options, Outcome, Via, View};
use crate::packet::MTU_DEFAULT;
use crate::time::Moment;
use crate::trouble::Found;

/// News that follow each other within this time are one.
const NEWS_PAUSE: Duration = Duration::from_millis(10);

/// A view is published at least as long after the last one as that one took to make, this many times: during a storm, a
/// tenth of a thread is enough for it.
const NEWS_COST: u32 = 10;

/// Counts and times of the view are at most this old.
const REFRESH: Duration = Duration::from_secs(1);

/// Events that wait for the control task; if there are more, and more than two for each virtual service and real server, the
/// oldest are dropped.
const EVENTS_MAX: usize = 10_000;

/// What others want of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Ask {
    /// A packet has shown something about a real server.
    Suspect(IpAddr, Signal),
    /// Probes at once; `None`: of all.
    CheckNow { virtual_service: Option<String>, real_server: Option<IpAddr> },
}

/// What has changed.
#[derive(Debug)]
pub(in crate::daemon) struct News {
    pub view: Arc<View>,
    pub events: Vec<Event>,
    /// Events that were dropped because no one took them.
    pub dropped: u64,
    /// Checks that this host cannot make at present, or not in time.
    pub troubles: Vec<Found>,
}

/// The ends of the driver that others hold.
pub(in crate::daemon) struct Ends {
    pub wanted: watch::Sender<Arc<Wanted>>,
    pub news: mpsc::Receiver<News>,
}

/// Requests that may wait in the queue.
const ASKS_MAX: usize = 1024;

/// Both ends of the queue of requests.
pub(in crate::daemon) fn asks() -> (mpsc::Sender<Ask>, mpsc::Receiver<Ask>) {
    mpsc::channel(ASKS_MAX)
}

/// The driver's task.
pub(in crate::daemon) struct Driver<S, C> {
    judge: Judge,
    tools: Arc<Tools<S>>,
    clock: C,
    capacity: Capacity,
    wanted: watch::Receiver<Arc<Wanted>>,
    asks: mpsc::Receiver<Ask>,
    news: mpsc::Sender<News>,
    paths: HashMap<IpAddr, PathFacts>,
    running: JoinSet<Outcome>,
    probes: HashMap<Id, Running>,
    /// Built from the options of each kind, because building may be costly: a regular expression.
    built: HashMap<(&'static str, Options), Arc<dyn Check>>,
    impossible: Impossible,
    events: VecDeque<Event>,
    events_max: usize,
    dropped: u64,
    /// Whether something has changed that the control task does not know yet.
    has_news: bool,
    /// Whether a probe has ended since the last view.
    has_outcomes: bool,
    /// Whether the last news reported that checks are late, which ends with time.
    is_late: bool,
    published: Instant,
    pause: Duration,
}

/// A probe in flight.
struct Running {
    id: ProbeId,
    subject: Subject,
}

impl<S: ProbeSockets, C: Fn() -> Moment + Send> Driver<S, C> {
    /// `clock` advances as tokio's does: not while the host is suspended (CLOCK_MONOTONIC).
    pub(in crate::daemon) fn new(
        tools: Tools<S>,
        clock: C,
        seed: u64,
        capacity: Capacity,
        asks: mpsc::Receiver<Ask>,
    ) -> (Driver<S, C>, Ends) {
        let (wanted, wanted_here) = watch::channel(Arc::default());
        let (news_here, news) = mpsc::channel(1);
        let driver = Driver {
            judge: Judge::new(seed),
            tools: Arc::new(tools),
            clock,
            capacity,
            wanted: wanted_here,
            asks,
            news: news_here,
            paths: HashMap::new(),
            running: JoinSet::new(),
            probes: HashMap::new(),
            built: HashMap::new(),
            impossible: Impossible::default(),
            events: VecDeque::new(),
            events_max: EVENTS_MAX,
            dropped: 0,
            has_news: false,
            has_outcomes: false,
            is_late: false,
            published: Instant::now(),
            pause: NEWS_PAUSE,
        };
        (driver, Ends { wanted, news })
    }

    /// Runs until `end`, or until the other ends are dropped. Then no probe has a socket any more.
    pub(in crate::daemon) async fn run(mut self, end: impl Future) {
        tokio::select! {
            _ = end => {}
            () = self.probe() => {}
        }
        self.running.shutdown().await;
    }

    async fn probe(&mut self) {
        loop {
            self.start_due();
            let news = self.news.clone();
            let (due, news_due) = (self.until_due(), self.news_due());
            tokio::select! {
                ended = self.running.join_next_with_id(), if !self.running.is_empty() => {
                    ended.into_iter().for_each(|ended| self.finish(ended));
                    while let Some(ended) = self.running.try_join_next_with_id() {
                        self.finish(ended);
                    }
                }
                changed = self.wanted.changed() => match changed {
                    Ok(()) => self.configure(),
                    Err(_) => return,
                },
                Some(ask) = self.asks.recv() => self.ask(ask),
                () = at(due.map(|due| Instant::now() + due)) => {}
                permit = after(news_due, news.reserve()) => match permit {
                    Ok(permit) => permit.send(self.take_news()),
                    Err(_) => return,
                },
            }
            self.collect();
        }
    }

    fn start_due(&mut self) {
        let now = (self.clock)();
        for probe in self.judge.start_due(now, self.capacity.limits) {
            match self.built(&probe.check) {
                Ok(check) => self.start(probe, check),
                Err(failure) => {
                    self.impossible.note(subject(&probe), &failure.text);
                    self.judge.finish(probe.id, Err(failure), now);
                }
            }
        }
        self.collect();
    }

    fn start(&mut self, probe: Probe, check: Arc<dyn Check>) {
        let target = self.completed(&probe);
        let running = Running { id: probe.id, subject: subject(&probe) };
        let (tools, chance, is_local) = (self.tools.clone(), random::draw(), probe.is_local);
        let task = self.running.spawn(async move {
            probe::run(&probe.check, &*check, (&target, is_local), chance, &tools).await.0
        });
        self.probes.insert(task.id(), running);
    }

    /// The target with what the judge does not know.
    fn completed(&self, probe: &Probe) -> Target {
        let facts = self.paths.get(&probe.target.rip);
        let is_wrapped = probe.way == Via::Tunnel && !probe.is_local;
        Target {
            path_mtu: facts.map_or(MTU_DEFAULT, |facts| facts.mtu),
            overhead: facts.filter(|_| is_wrapped).map_or(0, |facts| facts.overhead),
            ..probe.target.clone()
        }
    }

    /// The check of these options, made once.
    fn built(&mut self, config: &CheckConfig) -> Result<Arc<dyn Check>, Failure> {
        let key = (config.row.name, config.options.clone());
        if let Some(check) = self.built.get(&key) {
            return Ok(check.clone());
        }
        let built = (config.row.build)(&config.options);
        let check = built.map_err(|(option, why)| {
            Failure::new(FailureClass::Local, format!("option {option} of check {} is wrong: {why}", key.0))
        })?;
        self.built.insert(key, check.clone());
        Ok(check)
    }

    fn finish(&mut self, ended: Result<(Id, Outcome), JoinError>) {
        let (task, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let text = "the check has failed in this program; please report it".to_owned();
                tracing::error!(kind = "check_failed", "director: a check has failed: {error}");
                (error.id(), Err(Failure::new(FailureClass::Local, text)))
            }
        };
        let Some(running) = self.probes.remove(&task) else { return };
        match &outcome {
            Err(failure) if failure.class == FailureClass::Local => {
                self.impossible.note(running.subject, &failure.text);
            }
            _ => self.impossible.forget(&running.subject),
        }
        self.has_outcomes = true;
        self.judge.finish(running.id, outcome, (self.clock)());
    }

    /// What is the same keeps its state; the outcomes of checks that no longer exist are ignored.
    fn configure(&mut self) {
        let wanted = self.wanted.borrow_and_update().clone();
        let judged = wanted.judged();
        let subjects: usize = judged.iter().map(|service| 1 + service.real_servers.len()).sum();
        self.events_max = EVENTS_MAX.max(2 * subjects);
        self.judge.configure(&judged, (self.clock)());
        self.paths = wanted.path_facts();
        self.impossible.keep(|rip| self.paths.contains_key(&rip));
        let used: HashSet<_> = wanted.checks().map(|check| (check.row.name, &check.options)).collect();
        self.built.retain(|(name, options), _| used.contains(&(*name, options)));
        let tls: Vec<_> = self.built.values().filter_map(|check| check.tls()).collect();
        self.tools.connectors.keep(tls.iter());
        self.has_news = true;
    }

    fn ask(&mut self, ask: Ask) {
        let now = (self.clock)();
        match ask {
            Ask::Suspect(rip, signal) => self.judge.suspect(rip, signal, now),
            Ask::CheckNow { virtual_service, real_server } => {
                self.judge.check_now(virtual_service.as_deref(), real_server, now);
            }
        }
    }

    /// Collects what the judge reports.
    fn collect(&mut self) {
        self.events.extend(self.judge.take_events());
        while self.events.len() > self.events_max {
            self.events.pop_front();
            self.dropped += 1;
        }
        self.has_news |= self.judge.take_changed() | !self.events.is_empty() | self.impossible.take_changed();
    }

    /// How long until a probe may begin.
    fn until_due(&self) -> Option<Duration> {
        let due = self.judge.next_due()?;
        Some(due.since((self.clock)()))
    }

    /// When to notify the control task; `None`: there is nothing to notify.
    fn news_due(&self) -> Option<Instant> {
        match (self.has_news, self.has_outcomes || self.is_late) {
            (true, _) => Some(self.published + self.pause),
            (false, true) => Some(self.published + self.pause.max(REFRESH)),
            (false, false) => None,
        }
    }

    fn take_news(&mut self) -> News {
        let begun = Instant::now();
        let view = Arc::new(self.judge.view((self.clock)()));
        self.published = Instant::now();
        self.pause = NEWS_PAUSE.max((self.published - begun) * NEWS_COST);
        (self.has_news, self.has_outcomes) = (false, false);
        let late = self.capacity.found(&view.load);
        self.is_late = !late.is_empty();
        News {
            view,
            events: std::mem::take(&mut self.events).into(),
            dropped: std::mem::take(&mut self.dropped),
            troubles: self.impossible.found().into_iter().chain(late).collect(),
        }
    }
}

/// The check and whom it queries, for an operator.
fn subject(probe: &Probe) -> Subject {
    let (check, address) = (probe.check.row.name, probe.target.address);
    let check = match probe.target.port {
        0 => format!("{check} of {address}"),
        port => format!("{check} of {address} port {port}"),
    };
    Subject { rip: probe.target.rip, check }
}

/// Never, without a time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Waits for the future from this time on; never, without a time.
async fn after<T>(time: Option<Instant>, future: impl Future<Output = T>) -> T {
    at(time).await;
    future.await
}

#[cfg(test)]
mod tests;
