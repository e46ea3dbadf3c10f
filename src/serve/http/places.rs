//! The places of one listening socket: who may be connected, and how many may do the same thing at once.
//!
//! ```text
//! connection ─▶ idle ─▶ probe │ scrape │ query │ bulk │ write │ events ─▶ idle …
//! ```
//!
//! No client is refused while another one wastes a place. When all places are taken, the connection that has been idle
//! for longest makes room; when all places for one kind of request are, the slowest of them does. One peer cannot take
//! all of either.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Connections of a socket if the process may open that many files.
pub(super) const CONNECTIONS_MAX: usize = 256;

/// A connection without a request: longer than the deadline for the next request's header, so that this one only ends
/// those whose client does not take the rest of an answer.
const IDLE_MAX: Duration = Duration::from_secs(15);

/// No request is called slow before; by then an ordinary one is over.
const SLOW_AFTER: Duration = Duration::from_secs(1);

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Between two requests, or before the first one is complete.
    Idle,
    /// `/healthz` and `/readyz`.
    Probe,
    /// `/metrics`.
    Scrape,
    /// A short answer.
    Query,
    /// An answer that may have hundreds of megabytes.
    Bulk,
    /// A request that changes the director.
    Write,
    /// Events, for as long as the client likes.
    Events,
}

impl Use {
    /// How many of [`CONNECTIONS_MAX`] may do this at once; together they leave places for the idle.
    const fn share(self) -> usize {
        match self {
            Use::Idle | Use::Probe => CONNECTIONS_MAX,
            Use::Scrape => 16,
            Use::Query | Use::Write | Use::Events => 64,
            Use::Bulk => 8,
        }
    }

    /// From the request's header to the end of the answer.
    const fn deadline(self) -> Option<Duration> {
        match self {
            Use::Idle => Some(IDLE_MAX),
            Use::Probe => Some(Duration::from_secs(5)),
            Use::Scrape => Some(Duration::from_secs(30)),
            Use::Query => Some(Duration::from_secs(60)),
            // A body may take 30 s, and a restore of a hundred thousand lines seconds.
            Use::Write => Some(Duration::from_secs(120)),
            Use::Bulk => Some(Duration::from_secs(600)),
            Use::Events => None,
        }
    }
}

/// Whose connections count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerKey {
    /// A user of this host.
    Uid(u32),
    /// Another host.
    Address(IpAddr),
    /// The peer has gone already.
    Unknown,
}

/// One connection.
pub(super) struct Seat {
    peer: PeerKey,
    state: Mutex<State>,
    ended: Notify,
}

struct State {
    doing: Use,
    since: Instant,
    /// Bytes received and sent since then, and when the last of them were.
    moved: u64,
    moved_at: Instant,
}

impl Seat {
    fn new(peer: PeerKey, now: Instant) -> Seat {
        let state = State { doing: Use::Idle, since: now, moved: 0, moved_at: now };
        Seat { peer, state: Mutex::new(state), ended: Notify::new() }
    }

    /// The client has sent or taken some bytes.
    pub(super) fn on_moved(&self, bytes: usize, now: Instant) {
        let mut state = self.lock();
        state.moved += bytes as u64;
        state.moved_at = now;
    }

    /// Waits until the place is given to another connection. Cancel-safe.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, doing: Use) -> bool {
        self.lock().doing == doing
    }

    fn set(&self, doing: Use, now: Instant) {
        let mut state = self.lock();
        *state = State { doing, since: now, moved: 0, moved_at: now };
    }

    /// How long it has been idle.
    fn idle_for(&self, now: Instant) -> Option<Duration> {
        let state = self.lock();
        (state.doing == Use::Idle).then(|| now.saturating_duration_since(state.moved_at))
    }

    /// Bytes per second of a request that has had the time to be quick.
    fn slowness(&self, now: Instant) -> Option<u64> {
        let state = self.lock();
        let age = now.saturating_duration_since(state.since);
        let is_slow = !matches!(state.doing, Use::Idle | Use::Events) && age >= SLOW_AFTER;
        is_slow.then(|| state.moved / age.as_secs())
    }

    fn is_overdue(&self, now: Instant) -> bool {
        let state = self.lock();
        let since = if state.doing == Use::Idle { state.moved_at } else { state.since };
        state.doing.deadline().is_some_and(|deadline| now.saturating_duration_since(since) > deadline)
    }
}

/// All places of a socket.
pub(super) struct Places {
    max: usize,
    seats: Mutex<Vec<Arc<Seat>>>,
}

impl Places {
    pub(super) fn new(max: usize) -> Places {
        Places { max: max.clamp(1, CONNECTIONS_MAX), seats: Mutex::default() }
    }

    /// A place for a new connection; `None` if all others are busy and none of them is slow.
    pub(super) fn admit(&self, peer: PeerKey, now: Instant) -> Option<Arc<Seat>> {
        let mut seats = self.lock();
        let is_own = |seat: &Arc<Seat>| seat.peer == peer;
        if seats.iter().filter(|seat| is_own(seat)).count() >= most_of(self.max) {
            end_one(&mut seats, is_own, now)?;
        } else if seats.len() >= self.max {
            end_one(&mut seats, |_| true, now)?;
        }
        let seat = Arc::new(Seat::new(peer, now));
        seats.push(seat.clone());
        Some(seat)
    }

    /// The connection has ended.
    pub(super) fn leave(&self, seat: &Arc<Seat>) {
        self.lock().retain(|other| !Arc::ptr_eq(other, seat));
    }

    /// Ends one connection of any peer, when the process cannot open another file.
    pub(super) fn make_room(&self, now: Instant) {
        end_one(&mut self.lock(), |_| true, now);
    }

    /// Begins a request; false if all places for such requests are taken and none of them is slow.
    pub(super) fn begin(&self, seat: &Arc<Seat>, doing: Use, now: Instant) -> bool {
        let mut seats = self.lock();
        let max = (doing.share() * self.max).div_ceil(CONNECTIONS_MAX);
        let is_same = |other: &Arc<Seat>| other.is(doing);
        let is_own = |other: &Arc<Seat>| is_same(other) && other.peer == seat.peer;
        // The readers of events are one operator's programs, and wait for nothing but events.
        let is_limited = doing != Use::Events;
        let room = if is_limited && seats.iter().filter(|other| is_own(other)).count() >= most_of(max) {
            end_slowest(&mut seats, is_own, now)
        } else if seats.iter().filter(|other| is_same(other)).count() >= max {
            end_slowest(&mut seats, is_same, now)
        } else {
            Some(())
        };
        if room.is_some() {
            seat.set(doing, now);
        }
        room.is_some()
    }

    /// Ends what has passed its deadline.
    pub(super) fn end_overdue(&self, now: Instant) {
        let mut seats = self.lock();
        while let Some(index) = seats.iter().position(|seat| seat.is_overdue(now)) {
            end(&mut seats, index);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Seat>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The request of a seat is over, however it ended.
pub(super) struct Request(pub(super) Arc<Seat>);

impl Drop for Request {
    fn drop(&mut self) {
        self.0.set(Use::Idle, Instant::now());
    }
}

/// What one peer may take: three quarters, and one place at least.
const fn most_of(places: usize) -> usize {
    (places * 3).div_ceil(4)
}

/// Ends the connection that has been idle for longest or, if none is idle, the slowest request.
fn end_one(seats: &mut Vec<Arc<Seat>>, of: impl Fn(&Arc<Seat>) -> bool, now: Instant) -> Option<()> {
    let candidates = seats.iter().enumerate().filter(|(_, seat)| of(seat));
    let idle = candidates.filter_map(|(index, seat)| Some((seat.idle_for(now)?, index)));
    match idle.max_by_key(|(idle_for, _)| *idle_for) {
        Some((_, index)) => {
            end(seats, index);
            Some(())
        }
        None => end_slowest(seats, of, now),
    }
}

fn end_slowest(seats: &mut Vec<Arc<Seat>>, of: impl Fn(&Arc<Seat>) -> bool, now: Instant) -> Option<()> {
    let candidates = seats.iter().enumerate().filter(|(_, seat)| of(seat));
    let slow = candidates.filter_map(|(index, seat)| Some((seat.slowness(now)?, index)));
    let (_, index) = slow.min_by_key(|(rate, _)| *rate)?;
    end(seats, index);
    Some(())
}

fn end(seats: &mut Vec<Arc<Seat>>, index: usize) {
    // Kept until the connection's task waits for it.
    seats.swap_remove(index).ended.notify_one();
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const ROOT: PeerKey = PeerKey::Uid(0);
    const USER: PeerKey = PeerKey::Uid(1000);

    fn is_ended(seat: &Seat) -> bool {
        seat.ended().now_or_never().is_some()
    }

    fn after(begun: Instant, millis: u64) -> Instant {
        begun + Duration::from_millis(millis)
    }

    #[test]
    fn the_connection_that_has_been_idle_for_longest_makes_room() {
        let (places, begun) = (Places::new(4), Instant::now());
        let first = places.admit(ROOT, begun).unwrap();
        let second = places.admit(USER, after(begun, 1)).unwrap();
        let busy = places.admit(USER, after(begun, 2)).unwrap();
        assert!(places.begin(&busy, Use::Query, after(begun, 2)));
        let last = places.admit(USER, after(begun, 3)).unwrap();
        first.on_moved(1, after(begun, 4));
        assert!(places.admit(ROOT, after(begun, 5)).is_some());
        assert_eq!([&first, &second, &busy, &last].map(|seat| is_ended(seat)), [false, true, false, false]);
        places.leave(&first);
        assert!(places.admit(ROOT, after(begun, 6)).is_some(), "a place is free");
        assert!(!is_ended(&last) && !is_ended(&busy));
    }

    #[test]
    fn one_peer_takes_three_quarters_and_then_its_own_places() {
        let (places, begun) = (Places::new(8), Instant::now());
        let seats: Vec<_> = (0..9).map(|at| places.admit(USER, after(begun, at)).unwrap()).collect();
        let ended: Vec<bool> = seats.iter().map(|seat| is_ended(seat)).collect();
        assert_eq!(ended, [true, true, true, false, false, false, false, false, false]);
        let others: Vec<_> = (0..2).map(|_| places.admit(ROOT, after(begun, 20)).unwrap()).collect();
        assert!(places.admit(USER, after(begun, 30)).is_some());
        assert!(others.iter().all(|seat| !is_ended(seat)));
        assert!(is_ended(&seats[3]) && !is_ended(&seats[4]));
    }

    #[test]
    fn the_slowest_request_makes_room_once_it_has_had_a_second() {
        let (places, begun) = (Places::new(CONNECTIONS_MAX), Instant::now());
        let scrapes: Vec<_> =
            (0..16).map(|index| places.admit(PeerKey::Uid(index % 4), begun).unwrap()).collect();
        for scrape in &scrapes {
            assert!(places.begin(scrape, Use::Scrape, begun));
            scrape.on_moved(1000, begun);
        }
        let newcomer = places.admit(ROOT, begun).unwrap();
        scrapes[5].on_moved(7, begun);
        scrapes.iter().skip(6).for_each(|scrape| scrape.on_moved(50, begun));
        scrapes.iter().take(5).for_each(|scrape| scrape.on_moved(60, begun));
        assert!(!places.begin(&newcomer, Use::Scrape, after(begun, 999)), "none is slow yet");
        assert!(
            places.begin(&newcomer, Use::Query, after(begun, 999)),
            "other requests have their own places"
        );
        assert!(places.begin(&newcomer, Use::Scrape, after(begun, 1000)));
        let ended: Vec<usize> = (0..16).filter(|index| is_ended(&scrapes[*index])).collect();
        assert_eq!(ended, [5]);
    }

    #[test]
    fn one_peer_cannot_take_all_places_of_a_kind() {
        let (places, begun) = (Places::new(CONNECTIONS_MAX), Instant::now());
        let begin = |peer| {
            let seat = places.admit(peer, begun).unwrap();
            places.begin(&seat, Use::Scrape, begun).then_some(seat)
        };
        let own: Vec<_> = (0..16).filter_map(|_| begin(USER)).collect();
        assert_eq!(own.len(), 12);
        assert_eq!((0..16).filter_map(|_| begin(ROOT)).count(), 4);
        own[3].on_moved(9, begun);
        drop(Request(own[3].clone()));
        assert!(begin(USER).is_some(), "a request that is over leaves its place");
    }

    #[test]
    fn events_are_never_slow_and_everything_else_has_a_deadline() {
        let (places, begun) = (Places::new(4), Instant::now());
        let uses = [Use::Idle, Use::Probe, Use::Events, Use::Bulk];
        let seats: Vec<_> = (0..)
            .zip(uses)
            .map(|(uid, doing)| {
                let seat = places.admit(PeerKey::Uid(uid), begun).unwrap();
                assert!(doing == Use::Idle || places.begin(&seat, doing, begun));
                seat
            })
            .collect();
        let ended = || seats.iter().map(|seat| is_ended(seat)).collect::<Vec<_>>();
        places.end_overdue(after(begun, 5_000));
        assert_eq!(ended(), [false; 4]);
        places.end_overdue(after(begun, 5_001));
        assert_eq!(ended(), [false, true, false, false]);
        seats[0].on_moved(1, after(begun, 5_001));
        places.end_overdue(after(begun, 20_001));
        assert_eq!(ended(), [false; 4]);
        places.end_overdue(after(begun, 20_002));
        assert_eq!(ended(), [true, false, false, false]);
        places.make_room(after(begun, 30_000));
        places.make_room(after(begun, 30_000));
        assert_eq!(ended(), [false, false, false, true], "events have no deadline and are never slow");
    }

    #[test]
    fn with_few_files_every_kind_of_request_has_a_place() {
        let (places, begun) = (Places::new(2), Instant::now());
        for doing in [Use::Probe, Use::Scrape, Use::Query, Use::Bulk, Use::Write, Use::Events] {
            let seat = places.admit(ROOT, begun).unwrap();
            assert!(places.begin(&seat, doing, begun), "{doing:?}");
            places.leave(&seat);
        }
    }
}
