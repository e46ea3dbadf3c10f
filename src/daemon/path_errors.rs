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

/// The answer that is sent belongs to no packet of a client: nothing is counted but what was received.
impl Handler for PathErrorsHandler {
    type Verdict = ();

    const SEND_ERROR: () = ();

    fn handle(&mut self, frame: &mut Frame, now: Moment) -> ((), Option<Exit>) {
        let heard = self.errors.handle_packet(frame.packet(), now);
        self.counters.count(&heard);
        if let Some(event) = heard.event {
            // The receiver has been dropped only if the daemon is shutting down.
            let _ = self.events.send(event);
        }
        let Some((answer, to)) = heard.answer else { return ((), None) };
        frame.replace(&answer);
        ((), Some(Exit::Network(to)))
    }

    fn count(&mut self, _: &Fate<()>) {}

    fn on_failure(&mut self, error: &io::Error) {
        self.counters.errors.add(error);
    }
}

/// One log line for the operator.
pub(super) fn log(event: Event) {
    match event {
        Event::MtuLowered { rip, mtu } => {
            tracing::info!(
                "director: path MTU to {rip} lowered to {mtu} bytes for 10 minutes (reported by a router)"
            );
        }
        Event::Suspect { rip } => tracing::warn!(
            "director: real server {rip} answers \"protocol unreachable\"; is lvs-tund realserver running there?"
        ),
    }
}
