//! The director's ear for ICMP about its own outer packets: a worker like the others, with a raw ICMP socket for its
//! capture.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::worker::Handler;
use crate::director::path::errors::{Event, PathErrors};
use crate::metrics::counters::PathCounters;
use crate::packet::Frame;
use crate::time::Moment;

pub struct PathErrorsHandler {
    pub errors: PathErrors,
    pub counters: Arc<PathCounters>,
    /// Few: only what is news.
    pub events: mpsc::UnboundedSender<Event>,
}

impl Handler for PathErrorsHandler {
    fn handle(&mut self, _: usize, frame: &mut Frame, now: Moment) -> Option<IpAddr> {
        let heard = self.errors.handle_packet(frame.packet(), now);
        self.counters.count(&heard);
        if let Some(event) = heard.event {
            // The receiver is gone only if the daemon is ending anyway.
            let _ = self.events.send(event);
        }
        let (answer, to) = heard.answer?;
        frame.replace(&answer);
        Some(to.into())
    }

    fn on_failure(&mut self, _: usize, error: &io::Error) {
        self.counters.errors.add(error);
    }

    fn on_end(&mut self, _: usize) {}
}

/// One line for the operator.
pub fn log(event: Event) {
    match event {
        Event::MtuLowered { rip, mtu } => {
            tracing::info!(
                "director: routers say that the path to {rip} takes {mtu} bytes; so be it for 10 minutes"
            );
        }
        Event::Suspect { rip } => tracing::warn!(
            "director: {rip} answers \"protocol unreachable\"; is lvs-tund realserver running there?"
        ),
    }
}
