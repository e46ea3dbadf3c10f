//! The lab: a small network of namespaces on this machine, for `lvs-tund demo`, `tests/` and `bench/`.
//!
//! Clients, a director, real servers, a switch or a router: each is a network namespace held by a thread of
//! this process. Nothing is mounted and nothing is named on the machine, so the kernel removes the whole
//! network with this process, in whatever way it ends. No external program is needed.
//!
//! ```text
//! same subnet                                  routed
//!
//!  client  director  server2  server3           client      director       server2        server3
//!    .10      .1        .2       .3           172.25.1.10  172.25.3.1    172.25.12.2    172.25.13.2
//!     └────────┴────┬────┴────────┘                └────────────┴──────┬───────┴──────────────┘
//!           172.25.3.0/24 (switch)                              router (.254 in each subnet)
//! ```
//!
//! The lab does not know what a director does: it starts programs and observes packets.

mod capture;
mod cluster;
mod enter;
mod host;
pub mod http;
mod interrupt;
mod link;
mod namespace;
mod process;
mod scrape;
mod temporary;
mod topology;
pub mod udp;

pub use capture::{Capture, CapturedPacket, Direction, Filter};
pub use cluster::{Cluster, director_configuration, start_director, start_real_server};
pub use enter::{Privilege, enter, require_tun};
pub use host::{Host, HostRole};
pub use interrupt::Interrupt;
pub use link::Counters;
pub use namespace::Namespace;
pub use process::Daemon;
pub use scrape::{Sample, Scrape};
pub use temporary::TemporaryDirectory;
pub use topology::{CLIENTS_MAX, Lab, REAL_SERVERS_MAX, Topology, TopologyKind};

use std::io;

/// Why the lab failed; one sentence each, except for the daemon's log lines.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The kernel does not allow this user to create network namespaces.
    #[error("{0}")]
    Forbidden(String),
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// A netlink request failed.
    #[error("{what}: {reason}")]
    Netlink {
        /// What was attempted.
        what: String,
        /// The kernel's error.
        reason: String,
    },
    /// A daemon ended or did not become ready.
    #[error("{what}")]
    Daemon {
        /// Which daemon, and what it did.
        what: String,
        /// The end of its log.
        log: String,
    },
    /// The requested topology is not possible.
    #[error("{0}")]
    Topology(String),
}

impl LabError {
    /// The last lines of the daemon's log, if a daemon is the cause.
    pub fn log(&self) -> Option<&str> {
        match self {
            LabError::Daemon { log, .. } => Some(log),
            _ => None,
        }
    }
}

/// Adds what was attempted to the error of a system call.
trait Attempt<T> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, LabError>;
}

impl<T, E: Into<io::Error>> Attempt<T> for Result<T, E> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, LabError> {
        self.map_err(|source| LabError::System { what: what(), source: source.into() })
    }
}
