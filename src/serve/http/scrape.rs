//! `/metrics`: one thread renders for all who ask, at a lower priority than the threads that forward packets.
//!
//! ```text
//! scrape ─▶ begin ─┬ short: the whole text, shared by all who wait for it
//!                  └ long: pieces, each made when its reader has taken the one before
//! ```
//!
//! The numbers of a few renderings are kept at most: a reader of an older one is too slow. A reader holds at most one piece of a long text, whatever its pace. A rendering that is being read serves those who
//! ask meanwhile, for a second. A rendering without a client that waits is not made.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::oneshot;

use crate::metrics::exposition::{CONTENT_TYPE, Exposition};
use crate::metrics::series::Place;

/// Takes the numbers at the time of the request.
pub(crate) type Render = Arc<dyn Fn() -> Exposition + Send + Sync>;

/// A text up to this length is kept and sent as a whole, and so many bytes of a longer one are kept for the readers
/// behind the first.
const KEPT: usize = 1 << 20;

/// How long a rendering serves those who ask while it is read.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// Renderings of long texts whose numbers are kept, some megabytes each with 32,000 virtual services.
const RENDERINGS_MAX: usize = 4;

/// nice(2): less than half a packet thread's share of a core that both want.
const NICE: i32 = 5;

/// The end for the requests; a clone uses the same thread.
#[derive(Clone)]
pub(super) struct Scrapes {
    jobs: Sender<Job>,
}

enum Job {
    Begin(oneshot::Sender<Begun>),
    Piece(Arc<Rendering>, usize, oneshot::Sender<Option<Bytes>>),
}

#[derive(Clone)]
enum Begun {
    Whole(Bytes),
    Long(Arc<Rendering>),
}

impl Scrapes {
    /// Starts the thread. It ends with the last clone, and no thread waits for it.
    pub(super) fn start(render: Render) -> Scrapes {
        let (jobs, requested) = channel();
        // Without a thread every request is answered with an error.
        let _ = std::thread::Builder::new()
            .name("lvs-tund-scrape".to_owned())
            .spawn(move || Renderer { render, renderings: VecDeque::new() }.run(&requested));
        Scrapes { jobs }
    }

    pub(super) async fn response(self) -> Response {
        let (answer, begun) = oneshot::channel();
        // An error means that the thread has ended; then there is no answer either.
        let _ = self.jobs.send(Job::Begin(answer));
        let body = match begun.await {
            Ok(Begun::Whole(text)) => Body::from(text),
            Ok(Begun::Long(rendering)) => Body::from_stream(self.pieces(rendering)),
            Err(_) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        };
        ([(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response()
    }

    fn pieces(self, rendering: Arc<Rendering>) -> impl futures_util::Stream<Item = io::Result<Bytes>> {
        stream::unfold((self, rendering, 0), |(scrapes, rendering, index)| async move {
            let (answer, piece) = oneshot::channel();
            let _ = scrapes.jobs.send(Job::Piece(rendering.clone(), index, answer));
            match piece.await {
                Ok(piece) => Some((Ok(piece?), (scrapes, rendering, index + 1))),
                Err(_) => Some((Err(io::ErrorKind::BrokenPipe.into()), (scrapes, rendering, usize::MAX))),
            }
        })
    }
}

/// The thread.
struct Renderer {
    render: Render,
    /// Of long texts; the newest last.
    renderings: VecDeque<Weak<Rendering>>,
}

impl Renderer {
    fn run(mut self, requested: &Receiver<Job>) {
        // Without the lower priority it works as well.
        let _ = rustix::process::setpriority_process(None, NICE);
        while let Ok(job) = requested.recv() {
            // All that wait now; those who begin get the same rendering.
            let jobs: Vec<Job> = std::iter::once(job).chain(requested.try_iter()).collect();
            // A panic costs these answers, and not the thread.
            let _ = catch_unwind(AssertUnwindSafe(|| self.handle(jobs)));
        }
    }

    fn handle(&mut self, jobs: Vec<Job>) {
        let mut beginners = Vec::new();
        for job in jobs {
            match job {
                Job::Begin(answer) if !answer.is_closed() => beginners.push(answer),
                Job::Piece(rendering, index, answer) if !answer.is_closed() => {
                    // Without an answer the reader's connection ends. The reader may leave at any time.
                    let _ = rendering.piece(index).map(|piece| answer.send(piece));
                }
                Job::Begin(_) | Job::Piece(..) => {}
            }
        }
        if beginners.is_empty() {
            return;
        }
        let begun = self.begin();
        for answer in beginners {
            let _ = answer.send(begun.clone());
        }
    }

    fn begin(&mut self) -> Begun {
        let latest = self.renderings.back().and_then(Weak::upgrade);
        if let Some(rendering) = latest.filter(|latest| latest.is_shared()) {
            return Begun::Long(rendering);
        }
        let rendering = Rendering::new((self.render)());
        if let Some(text) = rendering.whole() {
            return Begun::Whole(text);
        }
        let rendering = Arc::new(rendering);
        self.renderings.retain(|rendering| rendering.strong_count() > 0);
        self.renderings.push_back(Arc::downgrade(&rendering));
        if self.renderings.len() > RENDERINGS_MAX {
            let oldest = self.renderings.pop_front().and_then(|oldest| oldest.upgrade());
            oldest.into_iter().for_each(|oldest| oldest.end());
        }
        Begun::Long(rendering)
    }
}

/// One moment's numbers as text.
struct Rendering {
    begun: Instant,
    made: Mutex<Made>,
    /// A reader has all of it: later requests expect newer numbers.
    is_over: AtomicBool,
}

/// A rendering that was ended for newer ones.
#[derive(Debug, PartialEq, Eq)]
struct Ended;

struct Made {
    exposition: Result<Exposition, Ended>,
    /// Where each piece of the series begins, as far as it is known.
    places: Vec<Option<Place>>,
    /// The pieces made last.
    recent: VecDeque<(usize, Bytes)>,
    bytes: usize,
}

impl Rendering {
    fn new(exposition: Exposition) -> Rendering {
        let places = vec![Some(Place::default())];
        let made = Made { exposition: Ok(exposition), places, recent: VecDeque::new(), bytes: 0 };
        Rendering { begun: Instant::now(), made: Mutex::new(made), is_over: AtomicBool::new(false) }
    }

    /// Frees the numbers; its readers get no more.
    fn end(&self) {
        let mut made = self.lock();
        made.exposition = Err(Ended);
        made.recent.clear();
        made.bytes = 0;
    }

    fn lock(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_shared(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed) && self.begun.elapsed() < SHARED_FOR
    }

    /// The whole text, if it is short.
    fn whole(&self) -> Option<Bytes> {
        let mut text = Vec::new();
        for index in 0.. {
            let Ok(Some(piece)) = self.piece(index) else { break };
            text.extend_from_slice(&piece);
            if text.len() > KEPT {
                return None;
            }
        }
        Some(text.into())
    }

    /// A piece; `None` behind the last one. The first is the head, the others are the series.
    fn piece(&self, index: usize) -> Result<Option<Bytes>, Ended> {
        let mut made = self.lock();
        if let Some((_, piece)) = made.recent.iter().find(|(recent, _)| *recent == index) {
            return Ok(Some(piece.clone()));
        }
        let Made { exposition: Ok(exposition), places, .. } = &mut *made else { return Err(Ended) };
        let piece: Bytes = match index.checked_sub(1) {
            None => exposition.head.clone().into(),
            Some(of_series) => {
                let Some(place) = places.get(of_series).copied().flatten() else {
                    self.is_over.store(true, Ordering::Relaxed);
                    return Ok(None);
                };
                let (text, next) = exposition.series.piece(place);
                if places.len() == of_series + 1 {
                    places.push(next);
                }
                text.into()
            }
        };
        made.keep(index, piece.clone());
        Ok(Some(piece))
    }
}

impl Made {
    fn keep(&mut self, index: usize, piece: Bytes) {
        self.bytes += piece.len();
        self.recent.push_back((index, piece));
        while self.bytes > KEPT {
            let Some((_, piece)) = self.recent.pop_front() else { return };
            self.bytes -= piece.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::StreamExt;

    use super::*;
    use crate::director::cluster::{
        Cluster, ClusterConfig, HostView, RealServerConfig, VirtualServiceConfig,
    };
    use crate::metrics::ledger::Ledger;
    use crate::metrics::series::{Series, Unassigned};
    use crate::packet::Protocol;
    use crate::time::Moment;

    /// Renderings of so many services, and how many there have been; a head names its own.
    fn scrapes(services: u16) -> (Scrapes, Arc<AtomicUsize>) {
        let service = |index: u16| {
            let vip = "172.25.3.100".parse().unwrap();
            let mut service = VirtualServiceConfig::new(
                &format!("web-{index}"),
                Protocol::Tcp,
                vip,
                index + 1,
                &crate::director::scheduler::rr::ROW,
            );
            service.real_servers = vec![RealServerConfig::new([10, 0, 0, 2].into(), 1)];
            service
        };
        let virtual_services = (0..services).map(service).collect();
        let config = ClusterConfig { virtual_services, ..ClusterConfig::default() };
        let cluster = Cluster::new(config, HostView::default());
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let render = move || {
            let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
            let series = Series::take(
                &cluster,
                &[],
                &Mutex::new(Ledger::default()),
                Unassigned::default(),
                Moment::ZERO,
            );
            Exposition { head: format!("rendering {number}\n"), series }
        };
        (Scrapes::start(Arc::new(render)), count)
    }

    async fn text(scrapes: &Scrapes) -> String {
        let body = scrapes.clone().response().await.into_body();
        String::from_utf8(axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_scrape_shows_what_was_counted_before_it_and_says_how_long_it_is() {
        let (scrapes, _) = scrapes(1);
        for number in 1..=3 {
            let response = scrapes.clone().response().await;
            let length = axum::body::HttpBody::size_hint(response.body()).exact();
            let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
            assert_eq!(length, Some(bytes.len() as u64));
            assert!(bytes.starts_with(format!("rendering {number}\n").as_bytes()));
        }
    }

    #[tokio::test]
    async fn those_who_ask_while_a_long_text_is_read_share_its_rendering() {
        let (scrapes, count) = scrapes(2_000);
        let mut slow = scrapes.clone().response().await.into_body().into_data_stream();
        let mut begin = slow.next().await.unwrap().unwrap().to_vec();
        let ahead: Vec<_> = (0..4)
            .map(|_| {
                let scrapes = scrapes.clone();
                tokio::spawn(async move { scrapes.clone().response().await })
            })
            .collect();
        let mut bodies = Vec::new();
        for response in ahead {
            bodies.push(response.await.unwrap().into_body());
        }
        assert_eq!(count.load(Ordering::SeqCst), 1, "five readers, one rendering");
        let mut texts = Vec::new();
        for body in bodies {
            texts.push(axum::body::to_bytes(body, usize::MAX).await.unwrap());
        }
        while let Some(piece) = slow.next().await {
            begin.extend_from_slice(&piece.unwrap());
        }
        assert!(begin.len() > KEPT && texts.iter().all(|text| *text == begin), "the slow one reads the same");
        assert!(text(&scrapes).await.starts_with("rendering 2\n"), "it is over");
    }

    #[tokio::test]
    async fn a_slow_reader_holds_one_piece_and_a_part_of_the_text() {
        let (scrapes, _) = scrapes(4_000);
        let Begun::Long(rendering) = ({
            let (answer, begun) = oneshot::channel();
            scrapes.jobs.send(Job::Begin(answer)).unwrap();
            begun.await.unwrap()
        }) else {
            panic!("short")
        };
        let pieces = (0..)
            .map_while(|index| rendering.piece(index).unwrap())
            .map(|piece| piece.len())
            .collect::<Vec<_>>();
        assert!(pieces.iter().sum::<usize>() > 4 * KEPT && pieces.iter().all(|length| *length < 66 << 10));
        let made = rendering.made.lock().unwrap();
        assert!(
            made.bytes <= KEPT
                && made.recent.iter().map(|(_, piece)| piece.len()).sum::<usize>() == made.bytes
        );
        assert!(!rendering.is_shared());
    }

    #[test]
    fn the_numbers_of_four_renderings_are_kept_and_a_reader_of_an_older_one_is_ended() {
        let head = "x".repeat(KEPT + 1);
        let render = move || Exposition { head: head.clone(), series: Series::default() };
        let mut renderer = Renderer { render: Arc::new(render), renderings: VecDeque::new() };
        let mut begin = || match renderer.begin() {
            Begun::Long(rendering) => {
                rendering.is_over.store(true, Ordering::Relaxed);
                rendering
            }
            Begun::Whole(_) => panic!("short"),
        };
        let held: Vec<_> = (0..RENDERINGS_MAX).map(|_| begin()).collect();
        assert!(held.iter().all(|rendering| rendering.piece(0).is_ok()));
        drop(begin());
        let is_ended: Vec<bool> = held.iter().map(|rendering| rendering.piece(0) == Err(Ended)).collect();
        assert_eq!(is_ended, [true, false, false, false]);
        drop(begin());
        assert!(held[1].piece(0).is_ok(), "one without a reader makes room first");
    }

    #[tokio::test]
    async fn a_rendering_that_fails_or_has_no_client_delays_no_other() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let render: Render = Arc::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            panic!("as a test")
        });
        let scrapes = Scrapes::start(render);
        let (answer, gone) = oneshot::channel();
        drop(gone);
        scrapes.jobs.send(Job::Begin(answer)).unwrap();
        let response = scrapes.clone().response().await;
        assert_eq!((response.status(), count.load(Ordering::SeqCst)), (StatusCode::INTERNAL_SERVER_ERROR, 1));
        assert_eq!(
            scrapes.response().await.status(),
            StatusCode::INTERNAL_SERVER_ERROR,
            "and the thread lives"
        );
    }
}
