//! The director's receiver of ICMP errors about its own outer packets: a worker like the others that captures
//! from a raw ICMP socket.

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::worker::{Fate, Handler};
use crate::datapath::Exit;
use crate::director::path_errors::{Event, PathErrors};
use crate::metrics::counters::PathCounters;
use crate::packet::Frame;
use crate::time::Moment;

pub(super) struct PathErrorsHandler {
    pub errors: PathErrors,
    pub counters: Arc<PathCounters>,
    /// Rarely used: only for changes.
    pub events: mpsc::UnboundedSender<Event>,
}

/// What is sent, an answer or a probe, belongs to no packet of a client: nothing is counted but what was received.
impl Handler for PathErrorsHandler {
    type Verdict = ();

    const SEND_ERROR: () = ();

    fn handle(&mut self, frame: &mut Frame, now: Moment) -> ((), Option<Exit>) {
        let handled = self.errors.handle_packet(frame.packet(), now);
        self.counters.count(&handled);
        if let Some(event) = handled.event {
            // The receiver has been dropped only if the daemon is shutting down.
            let _ = self.events.send(event);
        }
        let Some((packet, to)) = handled.answer.or(handled.probe) else { return ((), None) };
        frame.replace(&packet);
        ((), Some(Exit::Network(to)))
    }

    fn count(&mut self, _: &Fate<()>) {}

    fn on_failure(&mut self, _: Option<&()>, error: &io::Error) {
        self.counters.errors.add(error);
    }
}
