//! A worker: one thread, one queue. Read a batch, handle each, transmit the batch, count.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;
use tokio::sync::mpsc;

use super::clock::Clock;
use crate::datapath::{BATCH, Capture, Exit, Outgoing, Transmit, frames};
use crate::packet::Frame;
use crate::time::Moment;

/// Handles packets and counts what became of them.
pub(super) trait Handler {
    /// What happens to a packet.
    type Verdict;

    /// The verdict on a packet that the kernel refuses to send.
    const SEND_ERROR: Self::Verdict;

    /// Called before each batch, and before [`Handler::poll_extra`] if there is no batch: the place for what
    /// needs to be read once for all packets of a batch.
    fn begin_batch(&mut self) {}

    /// Handles a frame; returns the verdict and the frame's exit, if it is to be sent.
    fn handle(&mut self, frame: &mut Frame, now: Moment) -> (Self::Verdict, Option<Exit>);

    /// Counts a packet. Called when the batch has been sent, because a counter must not decrease.
    fn count(&mut self, fate: &Fate<Self::Verdict>);

    /// A frame could not be sent. `verdict` is that on its packet, `None` for a frame that belongs to no packet.
    fn on_failure(&mut self, verdict: Option<&Self::Verdict>, error: &io::Error);

    /// Another frame to send, or `None`. Called after each batch, and every [`WAIT_MAX`] while
    /// [`Handler::is_waiting`].
    fn poll_extra(&mut self, _: Moment) -> Option<ExtraFrame<Self::Verdict>> {
        None
    }

    /// Counts a packet that arrived in an earlier batch and was held until now.
    fn count_late(&mut self, _: &Fate<Self::Verdict>) {}

    /// True while [`Handler::poll_extra`] may return a frame because of the time alone.
    fn is_waiting(&self) -> bool {
        false
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fate<V> {
    pub verdict: V,
    /// Bytes as captured.
    pub captured: usize,
    /// Bytes of the frame after it was handled.
    pub handled: usize,
}

/// A frame that belongs to no packet of the batch.
pub(super) struct ExtraFrame<V> {
    pub frame: Frame,
    pub exit: Exit,
    /// The fate of the packet that was held until now; `None` if the frame belongs to a packet that has been
    /// counted already.
    pub late: Option<Fate<V>>,
}

/// The longest sleep of a worker while it is waiting: milliseconds.
const WAIT_MAX: u16 = 250;

/// Pause between two looks for a device that was deleted, in milliseconds: its descriptor is always readable.
const ABSENCE_PAUSE: u16 = 20;

/// The workers of a daemon. Dropping them stops them and waits for their threads.
pub(super) struct Workers {
    is_stopping: Arc<AtomicBool>,
    /// Closing it wakes the workers that wait.
    alarm: Option<OwnedFd>,
    alarm_heard: Arc<OwnedFd>,
    threads: Vec<JoinHandle<()>>,
    failures: mpsc::UnboundedSender<String>,
}

impl Workers {
    /// No workers yet, and the channel on which a worker reports why it stopped.
    pub(super) fn new() -> io::Result<(Workers, mpsc::UnboundedReceiver<String>)> {
        let (alarm_heard, alarm) = pipe2(OFlag::O_CLOEXEC)?;
        let (failures, receiver) = mpsc::unbounded_channel();
        let workers = Workers {
            is_stopping: Arc::new(AtomicBool::new(false)),
            alarm: Some(alarm),
            alarm_heard: Arc::new(alarm_heard),
            threads: Vec::new(),
            failures,
        };
        Ok((workers, receiver))
    }

    /// The names of the threads that have ended.
    pub(super) fn ended(&self) -> impl Iterator<Item = &str> {
        let ended = self.threads.iter().filter(|thread| thread.is_finished());
        ended.map(|thread| thread.thread().name().unwrap_or("worker"))
    }

    /// Starts a thread.
    pub(super) fn start<C, T, H>(
        &mut self,
        name: &str,
        clock: Clock,
        capture: C,
        transmit: T,
        handler: H,
    ) -> io::Result<()>
    where
        C: Capture + Send + 'static,
        T: Transmit + Send + 'static,
        H: Handler + Send + 'static,
    {
        let (is_stopping, alarm) = (self.is_stopping.clone(), self.alarm_heard.clone());
        let failures = self.failures.clone();
        let mut worker = Worker { capture, transmit, handler, clock };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // A queue without a worker would silently lose its share of the flows.
            let ended = catch_unwind(AssertUnwindSafe(|| worker.run(&is_stopping, &alarm)));
            let error = match ended {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "a worker panicked".to_owned(),
            };
            // The receiver has been dropped only if the daemon is shutting down.
            let _ = failures.send(error);
        })?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::Release);
        self.alarm = None;
        for thread in self.threads.drain(..) {
            // A panic was reported already.
            let _ = thread.join();
        }
    }
}

struct Worker<C, T, H> {
    capture: C,
    transmit: T,
    handler: H,
    clock: Clock,
}

impl<C: Capture, T: Transmit, H: Handler> Worker<C, T, H> {
    fn run(&mut self, is_stopping: &AtomicBool, alarm: &OwnedFd) -> io::Result<()> {
        let mut frames = frames(BATCH);
        let mut outgoing = Vec::with_capacity(BATCH);
        // By the frame's index in the batch.
        let mut fates = Vec::with_capacity(BATCH);
        while !is_stopping.load(Ordering::Acquire) {
            let count = self.capture.capture(&mut frames)?;
            if count == 0 {
                self.wait(alarm)?;
                self.handler.begin_batch();
                self.transmit_extra(self.clock.now());
                continue;
            }
            let now = self.clock.now();
            outgoing.clear();
            fates.clear();
            self.handler.begin_batch();
            for (index, frame) in frames[..count].iter_mut().enumerate() {
                let captured = frame.len();
                let (verdict, exit) = self.handler.handle(frame, now);
                fates.push(Fate { verdict, captured, handled: frame.len() });
                outgoing.extend(exit.map(|exit| Outgoing { frame: index, exit }));
            }
            let handler = &mut self.handler;
            self.transmit.transmit(&mut frames, &outgoing, &mut |position, error| {
                let verdict = &mut fates[outgoing[position].frame].verdict;
                handler.on_failure(Some(verdict), &error);
                *verdict = H::SEND_ERROR;
            });
            fates.iter().for_each(|fate| handler.count(fate));
            self.transmit_extra(now);
        }
        Ok(())
    }

    /// Sends extra frames one by one: they are rare.
    fn transmit_extra(&mut self, now: Moment) {
        while let Some(ExtraFrame { frame, exit, mut late }) = self.handler.poll_extra(now) {
            let handler = &mut self.handler;
            self.transmit.transmit(&mut [frame], &[Outgoing { frame: 0, exit }], &mut |_, error| {
                handler.on_failure(late.as_ref().map(|late| &late.verdict), &error);
                late.iter_mut().for_each(|late| late.verdict = H::SEND_ERROR);
            });
            if let Some(late) = late {
                handler.count_late(&late);
            }
        }
    }

    /// Sleeps until a packet arrives or the alarm is closed.
    fn wait(&self, alarm: &OwnedFd) -> io::Result<()> {
        let Some(readiness) = self.capture.readiness() else {
            return Err(io::Error::other("the capture has ended"));
        };
        let mut fds =
            [PollFd::new(readiness, PollFlags::POLLIN), PollFd::new(alarm.as_fd(), PollFlags::POLLIN)];
        let timeout = if self.handler.is_waiting() { PollTimeout::from(WAIT_MAX) } else { PollTimeout::NONE };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let is_broken = |fd: &PollFd| {
            fd.revents().is_some_and(|events| events.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL))
        };
        if !is_broken(&fds[0]) {
            return Ok(());
        }
        if !self.capture.may_return() {
            return Err(io::Error::other("the device no longer exists"));
        }
        match poll(&mut [PollFd::new(alarm.as_fd(), PollFlags::POLLIN)], ABSENCE_PAUSE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::memory::{Sink, Source};

    const UNREACHABLE: u8 = 3;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Verdict {
        Sent(u8),
        Dropped,
        Failed,
    }

    /// Sends every packet to the address that its first byte names, shortened by one byte; drops 0. Holds a
    /// copy of each batch's first packet and sends it with the extra frames.
    #[derive(Default)]
    struct Echo {
        batches: usize,
        fates: Vec<Fate<Verdict>>,
        failures: Vec<Option<Verdict>>,
        held: Option<u8>,
        late: Vec<Fate<Verdict>>,
    }

    impl Echo {
        fn address(last: u8) -> Exit {
            Exit::Network([10, 0, 0, last].into())
        }
    }

    impl Handler for Echo {
        type Verdict = Verdict;

        const SEND_ERROR: Verdict = Verdict::Failed;

        fn begin_batch(&mut self) {
            self.batches += 1;
        }

        fn handle(&mut self, frame: &mut Frame, _: Moment) -> (Verdict, Option<Exit>) {
            let last = frame.packet()[0];
            frame.replace(&[last]);
            self.held = self.held.or(Some(last));
            match last {
                0 => (Verdict::Dropped, None),
                last => (Verdict::Sent(last), Some(Echo::address(last))),
            }
        }

        fn count(&mut self, fate: &Fate<Verdict>) {
            self.fates.push(*fate);
        }

        fn on_failure(&mut self, verdict: Option<&Verdict>, _: &io::Error) {
            self.failures.push(verdict.copied());
        }

        fn poll_extra(&mut self, _: Moment) -> Option<ExtraFrame<Verdict>> {
            let last = self.held.take()?;
            let mut frame = Frame::with_capacity(64);
            frame.replace(&[last]);
            let late = Fate { verdict: Verdict::Sent(last), captured: 2, handled: 1 };
            Some(ExtraFrame { frame, exit: Echo::address(last), late: Some(late) })
        }

        fn count_late(&mut self, fate: &Fate<Verdict>) {
            self.late.push(*fate);
        }
    }

    struct Panics;

    impl Handler for Panics {
        type Verdict = ();

        const SEND_ERROR: () = ();

        fn handle(&mut self, _: &mut Frame, _: Moment) -> ((), Option<Exit>) {
            // Unwinds as a panic does, but prints nothing.
            std::panic::resume_unwind(Box::new("as a test"))
        }

        fn count(&mut self, _: &Fate<()>) {}

        fn on_failure(&mut self, _: Option<&()>, _: &io::Error) {}
    }

    fn run(packets: Vec<Vec<u8>>) -> Worker<Source, Sink, Echo> {
        let sink = Sink { unreachable: vec![Echo::address(UNREACHABLE)], ..Sink::default() };
        let (capture, clock) = (Source { packets: packets.into() }, Clock::start());
        let mut worker = Worker { capture, transmit: sink, handler: Echo::default(), clock };
        let (alarm, _wake) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let ended = worker.run(&AtomicBool::new(false), &alarm).unwrap_err();
        assert_eq!(ended.to_string(), "the capture has ended");
        worker
    }

    #[test]
    fn a_worker_that_panics_reports_why_it_stopped() {
        let (mut workers, mut failures) = Workers::new().unwrap();
        let capture = Source { packets: vec![vec![1]].into() };
        workers.start("panics", Clock::start(), capture, Sink::default(), Panics).unwrap();
        assert_eq!(failures.blocking_recv().as_deref(), Some("a worker panicked"));
    }

    #[test]
    fn every_packet_is_counted_once_and_a_failed_one_as_a_send_error() {
        let worker = run((0..200u32).map(|number| vec![(number % 4) as u8, 0]).collect());
        let expected: Vec<Fate<Verdict>> =
            [Verdict::Dropped, Verdict::Sent(1), Verdict::Sent(2), Verdict::Failed]
                .into_iter()
                .cycle()
                .take(200)
                .map(|verdict| Fate { verdict, captured: 2, handled: 1 })
                .collect();
        assert_eq!(worker.handler.fates, expected);
        assert_eq!(worker.transmit.packets.iter().filter(|(to, _)| *to == Echo::address(1)).count(), 50);
    }

    #[test]
    fn a_batch_begins_once_for_all_its_packets() {
        assert_eq!(run(vec![vec![1]; 3 * BATCH]).handler.batches, 3);
    }

    #[test]
    fn a_held_packet_is_counted_when_its_frame_was_sent_or_failed() {
        for (last, verdict) in [(1, Verdict::Sent(1)), (UNREACHABLE, Verdict::Failed)] {
            let worker = run(vec![vec![last, 0]]);
            assert_eq!(worker.handler.late, [Fate { verdict, captured: 2, handled: 1 }]);
            let failed = vec![Some(Verdict::Sent(last)); 2];
            assert_eq!(worker.handler.failures, if last == UNREACHABLE { failed } else { Vec::new() });
        }
    }
}
