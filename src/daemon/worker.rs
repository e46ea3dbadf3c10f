//! A worker: one thread, one queue. Read a batch, handle each, transmit the batch, count.

use std::io;
use std::net::IpAddr;
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
use crate::datapath::{BATCH, Capture, Outgoing, Transmit, frames};
use crate::packet::Frame;
use crate::time::Moment;

/// Handles the packets of a batch.
pub trait Handler {
    /// Handles the frame at `index` of the batch; returns its destination, if it is to be sent.
    fn handle(&mut self, index: usize, frame: &mut Frame, now: Moment) -> Option<IpAddr>;

    /// The frame at `index` could not be sent.
    fn on_failure(&mut self, index: usize, error: &io::Error);

    /// The batch of `count` frames is over, and the fate of each is final.
    fn on_end(&mut self, count: usize);

    /// Another frame to send, or `None`. Called after each batch, and every [`WAIT_MAX`] while
    /// [`Handler::is_waiting`].
    fn poll_extra(&mut self, _: Moment) -> Option<(Frame, IpAddr)> {
        None
    }

    /// The frame that [`Handler::poll_extra`] returned last was sent, or failed.
    fn on_extra_end(&mut self, _: Option<&io::Error>) {}

    /// True while [`Handler::poll_extra`] may return a frame because of the time alone.
    fn is_waiting(&self) -> bool {
        false
    }
}

/// The longest sleep of a worker while it is waiting: milliseconds.
const WAIT_MAX: u16 = 250;

/// The workers of a daemon. Dropping them stops them and waits for their threads.
pub struct Workers {
    is_stopping: Arc<AtomicBool>,
    /// Closing it wakes the workers that wait.
    alarm: Option<OwnedFd>,
    alarm_heard: Arc<OwnedFd>,
    threads: Vec<JoinHandle<()>>,
    failures: mpsc::UnboundedSender<String>,
}

impl Workers {
    /// No workers yet, and the channel on which a worker reports why it stopped.
    pub fn new() -> io::Result<(Workers, mpsc::UnboundedReceiver<String>)> {
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

    /// Starts a thread.
    pub fn start<C, T, H>(
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
            // A queue that nobody serves would silently swallow its share of the flows.
            let ended = catch_unwind(AssertUnwindSafe(|| worker.run(&is_stopping, &alarm)));
            let error = match ended {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "a worker panicked".to_owned(),
            };
            // The receiver is gone only if the daemon is shutting down.
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
        while !is_stopping.load(Ordering::Acquire) {
            let count = self.capture.capture(&mut frames)?;
            if count == 0 {
                self.wait(alarm)?;
                self.transmit_extra(self.clock.now());
                continue;
            }
            let now = self.clock.now();
            outgoing.clear();
            for (index, frame) in frames[..count].iter_mut().enumerate() {
                if let Some(to) = self.handler.handle(index, frame, now) {
                    outgoing.push(Outgoing { frame: index, to });
                }
            }
            let handler = &mut self.handler;
            self.transmit.transmit(&mut frames, &outgoing, &mut |position, error| {
                handler.on_failure(outgoing[position].frame, &error);
            });
            handler.on_end(count);
            self.transmit_extra(now);
        }
        Ok(())
    }

    /// Sends extra frames one by one: they are rare.
    fn transmit_extra(&mut self, now: Moment) {
        while let Some((frame, to)) = self.handler.poll_extra(now) {
            let mut failure = None;
            let outgoing = [Outgoing { frame: 0, to }];
            self.transmit.transmit(&mut [frame], &outgoing, &mut |_, error| failure = Some(error));
            self.handler.on_extra_end(failure.as_ref());
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
        if is_broken(&fds[0]) {
            return Err(io::Error::other("the device is gone"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::memory::{Sink, Source};

    /// Sends every packet to the address that its first byte names; drops 0.
    #[derive(Default)]
    struct Echo {
        handled: usize,
        failed: Vec<usize>,
        ended: usize,
    }

    impl Handler for Echo {
        fn handle(&mut self, _: usize, frame: &mut Frame, _: Moment) -> Option<IpAddr> {
            self.handled += 1;
            let last = frame.packet()[0];
            (last > 0).then(|| IpAddr::from([10, 0, 0, last]))
        }

        fn on_failure(&mut self, index: usize, _: &io::Error) {
            self.failed.push(index);
        }

        fn on_end(&mut self, count: usize) {
            self.ended += count;
        }
    }

    struct Panics;

    impl Handler for Panics {
        fn handle(&mut self, _: usize, _: &mut Frame, _: Moment) -> Option<IpAddr> {
            panic!("as a test")
        }

        fn on_failure(&mut self, _: usize, _: &io::Error) {}

        fn on_end(&mut self, _: usize) {}
    }

    #[test]
    fn a_worker_that_panics_is_not_missed_in_silence() {
        let (mut workers, mut failures) = Workers::new().unwrap();
        let capture = Source { packets: vec![vec![1]].into() };
        workers.start("panics", Clock::start(), capture, Sink::default(), Panics).unwrap();
        assert_eq!(failures.blocking_recv().as_deref(), Some("a worker panicked"));
    }

    #[test]
    fn every_packet_is_handled_once_and_failures_name_their_frame() {
        let packets = (0..200u32).map(|number| vec![(number % 4) as u8]).collect();
        let sink = Sink { unreachable: vec!["10.0.0.3".parse().unwrap()], ..Sink::default() };
        let (capture, clock) = (Source { packets }, Clock::start());
        let mut worker = Worker { capture, transmit: sink, handler: Echo::default(), clock };
        let (alarm, _wake) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let ended = worker.run(&AtomicBool::new(false), &alarm).unwrap_err();
        assert_eq!(ended.to_string(), "the capture has ended");
        assert_eq!((worker.handler.handled, worker.handler.ended), (200, 200));
        assert_eq!(worker.transmit.packets.len(), 100);
        assert_eq!(worker.handler.failed.len(), 50);
        assert!(worker.handler.failed.iter().all(|index| index % 4 == 3));
    }
}
