//! The way out of a packet, as a value: where it goes and everything that is done to its bytes.
//!
//! ```text
//!             decide, which is pure                    apply, which writes bytes
//! packet ─▶ Route { where to, outer header, fit } ─▶ frame ─▶ raw socket
//!              └─ refused: too big for its path        └─ pieces, if it was cut
//! ```
//! A real server that is the director's own host gets the packet as it was captured: [`Way::Local`].
//! A route names no state and holds no reference to any, so it can be compared, copied and applied again. The
//! only thing that [`apply::apply`] draws from outside is the identification of each outer packet that may be
//! fragmented.

pub mod apply;
mod cut;
pub mod decide;
mod segments;
pub mod size;
mod wrap;

use std::net::{IpAddr, Ipv4Addr};

use super::real_server::Slot;
use crate::encapsulation::{Row, Ttl};

use size::Limits;

pub use size::Fit;

/// The complete transform of one packet on its way to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Slot of the virtual service in the cluster.
    pub virtual_service: u16,
    /// Slot of the real server in the cluster.
    pub real_server: Slot,
    /// Metrics count packets without an entry by it.
    pub tracking: Tracking,
    /// Shown by `explain`.
    pub found_by: FoundBy,
    /// The real server's address.
    pub rip: Ipv4Addr,
    /// How the packet gets there.
    pub way: Way,
}

/// How a packet gets to its real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the stack of the director's own host, unchanged: its destination, the VIP, is an address of this host.
    Local,
    /// To another host, encapsulated.
    Wrapped(Wrapping),
}

/// Everything that is done to the bytes of a packet on its way to another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrapping {
    /// The real server's format.
    pub encapsulation: &'static Row,
    /// Source of the outer packet (DIP); with `0.0.0.0` the kernel chooses it.
    pub source: Ipv4Addr,
    /// Destination of the outer packet.
    pub rip: Ipv4Addr,
    /// TTL of the outer header.
    pub ttl: Ttl,
    /// Whether the director counts as a hop of the inner packet.
    pub decrements_ttl: bool,
    /// Clears DF in the outer header. Otherwise it is copied from the inner one. The identification is 0 where
    /// DF is set (RFC 6864 §4.1), and the next one of the path where it is not.
    pub ignores_df: bool,
    /// The largest outer packet, in bytes, that fits the path without fragmentation.
    pub path_mtu: u16,
    /// How the packet fits the path.
    pub fit: Fit,
}

/// Whether the connection table has an entry for a forwarded packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// It had one before this packet.
    Known,
    /// This packet added it.
    New,
    /// There is none, and none is needed.
    None,
    /// There is none because of too many new connections at once.
    Flood,
}

/// What named the real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundBy {
    /// The connection's entry.
    Entry,
    /// The first fragment of the packet.
    FirstFragment,
    /// The record of a flow that began during a flood.
    FloodRecord,
    /// The client's persistence template.
    Template,
    /// The virtual service's scheduler, because nothing else named one.
    Scheduler,
    /// The check that sends it, which tests this real server.
    Probe,
}

impl Route {
    /// The real server's address.
    pub fn to(&self) -> IpAddr {
        self.rip.into()
    }

    /// A route on the default encapsulation and path.
    #[cfg(test)]
    pub(crate) fn of(virtual_service: u16, real_server: Slot, rip: Ipv4Addr) -> Route {
        Route {
            virtual_service,
            real_server,
            tracking: Tracking::New,
            found_by: FoundBy::Scheduler,
            rip,
            way: Way::Wrapped(Wrapping {
                encapsulation: crate::encapsulation::DEFAULT,
                source: Ipv4Addr::new(172, 25, 3, 1),
                rip,
                ttl: Ttl::default(),
                decrements_ttl: false,
                ignores_df: false,
                path_mtu: crate::packet::MTU_DEFAULT,
                fit: Fit::Whole,
            }),
        }
    }
}

impl Wrapping {
    /// What the path takes.
    pub fn limits(&self) -> Limits {
        let overhead = self.encapsulation.overhead;
        Limits { path_mtu: self.path_mtu, overhead, ignores_df: self.ignores_df }
    }
}
