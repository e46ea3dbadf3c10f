//! Changes of health: for the log, and for the `on_change` commands.

use std::net::IpAddr;
use std::time::Duration;

use crate::health::hook::Cause;

/// What flaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flapper {
    /// The state of a real server.
    RealServer {
        /// Its name.
        real_server: String,
        /// Its RIP.
        rip: IpAddr,
    },
    /// The quorum of the virtual service.
    Quorum,
    /// Whether the virtual service fails open.
    FailOpen,
}

/// A change of the health of a virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A real server is up.
    Up {
        /// The name of the virtual service.
        service: String,
        /// The name of the real server.
        real_server: String,
        /// Its RIP.
        rip: IpAddr,
        /// Why it is reported now.
        cause: Cause,
    },
    /// A real server is down.
    Down {
        /// The name of the virtual service.
        service: String,
        /// The name of the real server.
        real_server: String,
        /// Its RIP.
        rip: IpAddr,
        /// Why, in one sentence without a full stop.
        why: String,
        /// Why it is reported now.
        cause: Cause,
    },
    /// Enough real servers are up.
    QuorumGained {
        /// The name of the virtual service.
        service: String,
        /// Why it is reported now.
        cause: Cause,
    },
    /// Too few real servers are up.
    QuorumLost {
        /// The name of the virtual service.
        service: String,
        /// Why it is reported now.
        cause: Cause,
    },
    /// Fewer real servers than `min_healthy` are up: all count as up.
    FailOpen {
        /// The name of the virtual service.
        service: String,
    },
    /// At least `min_healthy` real servers are up again.
    FailOpenOver {
        /// The name of the virtual service.
        service: String,
    },
    /// Something changes so often that its recoveries are not reported until it settles, except for one every five minutes. The state
    /// follows nevertheless.
    Flapping {
        /// The name of the virtual service.
        service: String,
        /// What flaps.
        what: Flapper,
        /// Changes so far.
        changes: u32,
        /// In this time.
        within: Duration,
    },
    /// Something has not changed for a while and is reported again. If the last report differs from the state, a report of
    /// the state follows.
    Settled {
        /// The name of the virtual service.
        service: String,
        /// What has flapped.
        what: Flapper,
        /// Changes in all.
        changes: u32,
        /// In this time.
        within: Duration,
    },
}

impl Event {
    /// The name of the virtual service.
    pub fn service(&self) -> &str {
        match self {
            Event::Up { service, .. }
            | Event::Down { service, .. }
            | Event::QuorumGained { service, .. }
            | Event::QuorumLost { service, .. }
            | Event::FailOpen { service }
            | Event::FailOpenOver { service }
            | Event::Flapping { service, .. }
            | Event::Settled { service, .. } => service,
        }
    }
}
