//! The director's receiver of ICMP errors about its own outer packets: a worker like the others that captures
//! from a raw ICMP socket.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::health::Ask;
use super::worker::{Fate, Handler};
use crate::datapath::Exit;
use crate::director::cluster::Cluster;
use crate::director::path_errors::{Event, Handled, Kind, Outcome, PathErrors};
use crate::health::judge::Signal;
use crate::metrics::counters::PathCounters;
use crate::packet::Frame;
use crate::time::Moment;

pub(super) struct PathErrorsHandler {
    pub errors: PathErrors,
    pub counters: Arc<PathCounters>,
    /// Rarely used: only for changes.
    pub events: mpsc::UnboundedSender<Event>,
    pub cluster: Arc<ArcSwap<Cluster>>,
    /// To the checks.
    pub asks: mpsc::Sender<Ask>,
}

impl PathErrorsHandler {
    /// What the error shows about its real server is a reason for a probe.
    fn suspect(&self, handled: &Handled) {
        let Some(signal) = signal(handled) else { return };
        let cluster = self.cluster.load();
        if let Some(server) = handled.real_server.and_then(|slot| cluster.real_server(slot)) {
            // A full queue contains the same already.
            let _ = self.asks.try_send(Ask::Suspect(server.rip.into(), signal));
        }
    }
}

/// Only of an error about a packet of the director's own.
fn signal(handled: &Handled) -> Option<Signal> {
    let is_believed = matches!(handled.outcome, Outcome::Noted | Outcome::Relayed | Outcome::Ignored);
    match handled.kind {
        Kind::ProtocolUnreachable if is_believed => Some(Signal::ProtocolUnreachable),
        Kind::Unreachable | Kind::TimeExceeded if is_believed => Some(Signal::HostUnreachable),
        _ => None,
    }
}

/// What is sent, an answer or a probe, belongs to no packet of a client: nothing is counted but what was received.
impl Handler for PathErrorsHandler {
    type Verdict = ();

    const SEND_ERROR: () = ();

    fn handle(&mut self, frame: &mut Frame, now: Moment) -> ((), Option<Exit>) {
        let handled = self.errors.handle_packet(frame.packet(), now);
        self.counters.count(&handled);
        self.suspect(&handled);
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
