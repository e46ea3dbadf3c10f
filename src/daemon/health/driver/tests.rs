//! The driver with sockets that are made up, under a clock that the tests set.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;
use tokio::io::DuplexStream;
use tokio::time::timeout;

use super::*;
use crate::control::state::AdminStates;
use crate::daemon::health::probe::tests::row_of;
use crate::daemon::health::program::Starter;
use crate::daemon::health::sockets::{Datagrams, Place};
use crate::director::cluster::{ClusterConfig, HostView, RealServerConfig, VirtualServiceConfig};
use crate::director::scheduler::rr;
use crate::health::{State, Transport};
use crate::packet::Protocol;

/// How a connection takes shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Up,
    Refused,
    Silent,
    NoDescriptor,
}

#[derive(Default)]
struct Network {
    /// `None`: as the others.
    modes: Mutex<HashMap<IpAddr, Mode>>,
    all: Mutex<Option<Mode>>,
    open: AtomicUsize,
    open_max: AtomicUsize,
    attempts: Mutex<HashMap<IpAddr, usize>>,
}

impl Network {
    fn set(&self, rip: IpAddr, mode: Mode) {
        self.modes.lock().unwrap().insert(rip, mode);
    }

    fn set_all(&self, mode: Mode) {
        *self.all.lock().unwrap() = Some(mode);
    }

    fn mode(&self, rip: IpAddr) -> Mode {
        let own = self.modes.lock().unwrap().get(&rip).copied();
        own.or(*self.all.lock().unwrap()).unwrap_or(Mode::Up)
    }

    fn attempts(&self, rip: IpAddr) -> usize {
        self.attempts.lock().unwrap().get(&rip).copied().unwrap_or_default()
    }
}

struct Open<'a>(&'a Network);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a connection takes.
const ROUND_TRIP: Duration = Duration::from_millis(100);

struct Fake(Arc<Network>);

struct Nothing;

impl Datagrams for Nothing {
    async fn send(&mut self, _: &[u8]) -> io::Result<()> {
        Err(Errno::ENOSYS.into())
    }

    async fn receive(&mut self) -> io::Result<Vec<u8>> {
        Err(Errno::ENOSYS.into())
    }
}

impl ProbeSockets for Fake {
    type Tcp = DuplexStream;
    type Udp = Nothing;
    type Echo = Nothing;

    async fn connect_tcp(&self, place: &Place) -> io::Result<DuplexStream> {
        let network = &*self.0;
        *network.attempts.lock().unwrap().entry(place.rip).or_default() += 1;
        let open = network.open.fetch_add(1, Ordering::Relaxed) + 1;
        network.open_max.fetch_max(open, Ordering::Relaxed);
        let _open = Open(network);
        tokio::time::sleep(ROUND_TRIP).await;
        match network.mode(place.rip) {
            Mode::Up => Ok(tokio::io::duplex(64).0),
            Mode::Refused => Err(Errno::ECONNREFUSED.into()),
            Mode::NoDescriptor => Err(Errno::EMFILE.into()),
            Mode::Silent => std::future::pending().await,
        }
    }

    async fn open_udp(&self, _: &Place) -> io::Result<Nothing> {
        Ok(Nothing)
    }

    async fn open_echo(&self, _: &Place) -> io::Result<Nothing> {
        Ok(Nothing)
    }
}

fn rip(number: usize) -> IpAddr {
    let [_, _, high, low] = u32::try_from(number).unwrap().to_be_bytes();
    [10, 0, high, low].into()
}

/// One virtual service with so many real servers, each of which has the check.
fn wanted(servers: usize, check: &CheckConfig) -> Arc<Wanted> {
    let mut service = VirtualServiceConfig::new("web", Protocol::Tcp, [192, 0, 2, 1].into(), 80, &rr::ROW);
    service.health.checks = [check.clone()].into();
    service.real_servers = (0..servers).map(|number| RealServerConfig::new(rip(number), 1)).collect();
    let config = ClusterConfig { virtual_services: vec![service], ..ClusterConfig::default() };
    Arc::new(Wanted::new(config.into(), AdminStates::default(), &HostView::default()))
}

fn check() -> CheckConfig {
    CheckConfig::new(row_of(Transport::Tcp))
}

struct Bed {
    network: Arc<Network>,
    ends: Ends,
    asks: mpsc::Sender<Ask>,
}

fn bed(running_max: usize) -> Bed {
    let network = Arc::new(Network::default());
    let tools = Tools::new(Fake(network.clone()), Starter::new().unwrap());
    let origin = Instant::now();
    let clock = move || Moment::ZERO.after(origin.elapsed());
    let (asks, asked) = asks();
    let (driver, ends) = Driver::new(tools, clock, 1, Capacity::each(running_max), asked);
    tokio::spawn(driver.run(std::future::pending::<()>()));
    Bed { network, ends, asks }
}

impl Bed {
    /// Everything that is notified in this time: the events, the last news, and how many there were.
    async fn told(&mut self, time: Duration) -> (Vec<Event>, Option<News>, usize) {
        let until = Instant::now() + time;
        let (mut events, mut last, mut count) = (Vec::new(), None, 0);
        while let Ok(Some(mut news)) = tokio::time::timeout_at(until, self.ends.news.recv()).await {
            events.append(&mut news.events);
            (last, count) = (Some(news), count + 1);
        }
        (events, last, count)
    }

    async fn next_events(&mut self) -> Vec<Event> {
        loop {
            let news = timeout(Duration::from_secs(60), self.ends.news.recv()).await.unwrap().unwrap();
            if !news.events.is_empty() {
                return news.events;
            }
        }
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn states(news: &News) -> Vec<State> {
    news.view.services["web"].real_servers.values().map(|server| server.state).collect()
}

#[tokio::test(start_paused = true)]
async fn a_thousand_checks_run_on_time_and_never_more_than_may_at_once() {
    let mut bed = bed(64);
    bed.ends.wanted.send(wanted(1000, &check())).unwrap();
    let (events, last, _) = bed.told(seconds(21)).await;
    assert!(events.iter().all(|event| matches!(event, Event::QuorumGained { .. })), "{events:?}");
    assert_eq!(states(&last.unwrap()), vec![State::Up; 1000]);
    assert!(bed.network.open_max.load(Ordering::Relaxed) <= 64);
    let attempts: Vec<usize> = (0..1000).map(|number| bed.network.attempts(rip(number))).collect();
    assert!(attempts.iter().all(|attempts| (9..=12).contains(attempts)), "{attempts:?}");
}

#[tokio::test(start_paused = true)]
async fn more_probes_than_may_run_at_once_wait_and_all_have_their_turn() {
    let mut bed = bed(8);
    bed.ends.wanted.send(wanted(200, &check())).unwrap();
    // 200 probes of 100 ms, eight at once, take 2.5 s: longer than their interval.
    bed.told(seconds(25)).await;
    assert_eq!(bed.network.open_max.load(Ordering::Relaxed), 8);
    let attempts: Vec<usize> = (0..200).map(|number| bed.network.attempts(rip(number))).collect();
    assert!(attempts.iter().all(|attempts| (8..=11).contains(attempts)), "{attempts:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_ends_at_the_timeout_and_other_probes_do_not_wait_for_it() {
    let mut bed = bed(64);
    bed.network.set(rip(0), Mode::Silent);
    bed.ends.wanted.send(wanted(20, &check())).unwrap();
    let (events, last, _) = bed.told(seconds(10)).await;
    let down: Vec<&Event> = events.iter().filter(|event| matches!(event, Event::Down { .. })).collect();
    let [Event::Down { rip: down, why, .. }] = down.as_slice() else { panic!("{events:?}") };
    assert_eq!(*down, rip(0));
    assert_eq!(
        why,
        "no answer in time from 10.0.0.0 through the tunnel (no connection within 1s), first probe"
    );
    let states = states(&last.unwrap());
    assert_eq!(states.iter().filter(|state| **state == State::Up).count(), 19);
}

#[tokio::test(start_paused = true)]
async fn all_go_down_and_come_back_with_one_event_each_in_few_messages() {
    let mut bed = bed(256);
    bed.ends.wanted.send(wanted(1000, &check())).unwrap();
    bed.told(seconds(5)).await;
    bed.network.set_all(Mode::Refused);
    let (events, last, messages) = bed.told(seconds(10)).await;
    let count = |is: fn(&Event) -> bool| events.iter().filter(|event| is(event)).count();
    assert_eq!(count(|event| matches!(event, Event::Down { .. })), 1000);
    assert_eq!(count(|event| matches!(event, Event::QuorumLost { .. })), 1);
    assert_eq!(states(&last.unwrap()), vec![State::Down; 1000]);
    assert!(messages <= 1000, "{messages} messages");
    bed.network.set_all(Mode::Up);
    let (events, last, _) = bed.told(seconds(10)).await;
    let up = events.iter().filter(|event| matches!(event, Event::Up { .. })).count();
    assert_eq!((up, states(&last.unwrap())), (1000, vec![State::Up; 1000]));
}

#[tokio::test(start_paused = true)]
async fn a_control_task_that_takes_nothing_gets_everything_later_in_order() {
    let mut bed = bed(64);
    bed.ends.wanted.send(wanted(20, &check())).unwrap();
    tokio::time::sleep(seconds(5)).await;
    bed.network.set_all(Mode::Refused);
    tokio::time::sleep(seconds(20)).await;
    bed.network.set_all(Mode::Up);
    tokio::time::sleep(seconds(20)).await;
    let (events, last, messages) = bed.told(Duration::from_millis(200)).await;
    assert!(messages <= 3, "{messages}");
    let of = |number: usize| {
        let about = events.iter().filter(move |event| match event {
            Event::Up { rip: its, .. } | Event::Down { rip: its, .. } => *its == rip(number),
            _ => false,
        });
        about.map(|event| matches!(event, Event::Up { .. })).collect::<Vec<_>>()
    };
    assert!((0..20).all(|number| of(number) == [false, true]), "{events:?}");
    assert_eq!(states(&last.unwrap()), vec![State::Up; 20]);
}

#[tokio::test(start_paused = true)]
async fn a_configuration_in_the_middle_of_a_probe_ends_what_is_gone_and_keeps_the_rest() {
    let mut bed = bed(64);
    let three_failures = CheckConfig { fall: 3, ..check() };
    bed.ends.wanted.send(wanted(2, &three_failures)).unwrap();
    bed.told(seconds(5)).await;
    bed.network.set_all(Mode::Silent);
    // The third probe of the one that is removed is in flight.
    let third = bed.network.attempts(rip(1)) + 3;
    while bed.network.attempts(rip(1)) < third {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bed.ends.wanted.send(wanted(1, &three_failures)).unwrap();
    let (events, last, _) = bed.told(seconds(3)).await;
    let down: Vec<IpAddr> = events
        .iter()
        .filter_map(|event| if let Event::Down { rip, .. } = event { Some(*rip) } else { None })
        .collect();
    assert_eq!(down, [rip(0)], "the failures before the change count");
    assert_eq!(states(&last.unwrap()), [State::Down]);
    bed.ends.wanted.send(Arc::default()).unwrap();
    let (events, last, _) = bed.told(seconds(5)).await;
    assert_eq!((events, last.unwrap().view.services.len()), (Vec::new(), 0));
    let attempts = bed.network.attempts(rip(0));
    bed.told(seconds(10)).await;
    assert_eq!(bed.network.attempts(rip(0)), attempts, "nothing is probed any more");
}

#[tokio::test(start_paused = true)]
async fn what_this_host_cannot_do_changes_no_state_and_is_a_trouble_until_it_can() {
    let mut bed = bed(64);
    bed.ends.wanted.send(wanted(3, &check())).unwrap();
    bed.told(seconds(5)).await;
    bed.network.set_all(Mode::NoDescriptor);
    let (events, last, _) = bed.told(seconds(30)).await;
    let last = last.unwrap();
    assert_eq!((events, states(&last)), (Vec::new(), vec![State::Up; 3]));
    let [found] = last.troubles.as_slice() else { panic!("{:?}", last.troubles) };
    assert!(found.text.contains("too many open files in this process; raise LimitNOFILE="), "{}", found.text);
    bed.network.set_all(Mode::Up);
    let (_, last, _) = bed.told(seconds(5)).await;
    assert_eq!(last.unwrap().troubles, []);
}

#[tokio::test(start_paused = true)]
async fn checks_that_are_late_for_long_are_a_trouble_until_a_minute_after_the_last_late_one() {
    let mut bed = bed(8);
    bed.network.set_all(Mode::Silent);
    bed.ends.wanted.send_replace(wanted(100, &check()));
    let (_, last, _) = bed.told(seconds(60)).await;
    let last = last.expect("news");
    let [late] = last.troubles.as_slice() else { panic!("{:?}", last.troubles) };
    assert_eq!((late.kind, &*late.subject), (crate::trouble::TroubleKind::ChecksLate, "network"));
    assert!(late.text.contains("at most 8 of their probes run at once; raise LimitNOFILE="), "{}", late.text);
    assert!(last.view.load.network.running <= 8 && bed.network.open_max.load(Ordering::Relaxed) <= 8);
    bed.network.set_all(Mode::Up);
    let (_, last, _) = bed.told(seconds(40)).await;
    assert_eq!(last.map(|news| news.troubles.len()), Some(1));
    let (_, last, _) = bed.told(seconds(60)).await;
    assert_eq!(last.map(|news| news.troubles), Some(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_asked_for_begins_at_once() {
    let slow = CheckConfig { interval: seconds(600), ..check() };
    let mut bed = bed(64);
    bed.ends.wanted.send(wanted(2, &slow)).unwrap();
    bed.told(seconds(1200)).await;
    let before = bed.network.attempts(rip(1));
    let ask = Ask::CheckNow { virtual_service: Some("web".to_owned()), real_server: Some(rip(1)) };
    bed.asks.send(ask).await.unwrap();
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(bed.network.attempts(rip(1)), before + 1);
    bed.asks.send(Ask::Suspect(rip(1), Signal::ProtocolUnreachable)).await.unwrap();
    let events = bed.next_events().await;
    assert!(matches!(&events[0], Event::Down { rip: down, .. } if *down == rip(1)), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn counts_are_fresh_to_the_second_although_nothing_changes() {
    let mut bed = bed(64);
    bed.ends.wanted.send(wanted(10, &check())).unwrap();
    bed.told(seconds(10)).await;
    let (_, last, messages) = bed.told(seconds(10)).await;
    assert!((5..=12).contains(&messages), "{messages}");
    let view = last.unwrap().view;
    let checks = view.services["web"].real_servers.values().flat_map(|server| &server.checks);
    assert!(checks.into_iter().all(|check| check.successes >= 8));
}

#[tokio::test(start_paused = true)]
async fn the_driver_ends_with_the_control_task() {
    let network = Arc::new(Network::default());
    let tools = Tools::new(Fake(network), Starter::new().unwrap());
    let (driver, ends) = Driver::new(tools, || Moment::ZERO, 1, Capacity::each(1), asks().1);
    let task = tokio::spawn(driver.run(std::future::pending::<()>()));
    drop(ends);
    timeout(seconds(1), task).await.unwrap().unwrap();
}
