//! The changes that a daemon makes on its host and undoes again: addresses, routes, rules, proxy neighbours,
//! sysctls, gratuitous ARP.
//!
//! A role states its needs as a list of [`Change`]s, one file per kind ([`mod@change`]); the ledger
//! [`Changes`] makes the missing ones, undoes those that are not needed any more, repairs those that others
//! have undone, and undoes everything at the end in reverse order. [`DirectorHost`] and [`RealServerHost`]
//! are the two roles. Nothing here starts an external program, and every change is logged.
//!
//! Whatever can be attached to the TUN device is, so that it disappears with a killed daemon. The rest
//! (rules, copied routes, proxy neighbours) carries [`PROTOCOL`], so that the next start finds it and adopts
//! or removes it. Sysctls keep their values when a daemon is killed; the journal (`host/journal.rs`) keeps the values
//! that they had before.
//!
//! Another program's later change to the same setting wins: an undo looks at what is there now, and the end restores
//! the value that the last repair found.

mod addresses;
pub mod ahead;
mod announce;
pub(crate) mod arp;
pub mod change;
mod changes;
mod claims;
pub mod director_changes;
mod error;
pub mod follow;
mod journal;
pub mod mirror;
pub mod mss;
mod needed;
pub mod netlink;
mod nftables;
pub mod notrack;
pub mod preflight;
pub mod probe_packets;
mod reach;
pub mod realserver_changes;
mod refusal;
mod strays;
mod tap;
mod tunnel_handler;
mod vips_elsewhere;

pub use addresses::{broadcast_addresses, own_addresses};
pub use change::{Change, Device};
pub use changes::{Changes, HostChanges};
pub use claims::{Claim, Mac};
pub use director_changes::{Announce, CaptureMode, DirectorHost, DirectorHostOptions, Probed};
pub use error::HostError;
pub use follow::Notice;
pub use journal::JournalPlace;
pub use mss::Mss;
pub use netlink::Netlink;
pub use notrack::{Notrack, UntrackedPorts};
pub use realserver_changes::{RealServerHost, RealServerHostOptions};
pub use refusal::{OuterSource, Reach};
pub use strays::Stray;
pub use tunnel_handler::TunnelHandler;
pub use vips_elsewhere::{Elsewhere, vips_elsewhere};

/// The routing protocol number on every route, rule and proxy neighbour made here (`ip route show proto 76`):
/// `L`, outside the numbers that /etc/iproute2/rt_protos assigns.
pub const PROTOCOL: u8 = 76;

/// The routing table of the VIPs captured by rule. Unassigned in /etc/iproute2/rt_tables, and above the 8-bit
/// numbers that other programs use first.
pub const CAPTURE_TABLE: u32 = 7690;

/// The routing table that leads the packets of checks into the TUN device. See [`CAPTURE_TABLE`].
pub const PROBE_TABLE: u32 = 7688;

/// The routing table by which the host takes a VIP for one behind its interfaces when it validates the source of an
/// answer to a check.
pub const ANSWER_TABLE: u32 = 7689;

/// The mark (SO_MARK) of the sockets of checks, the same number as [`PROTOCOL`]. It stays below the bits that other
/// programs use for marks of their own, such as 0x4000 and 0x8000.
pub const PROBE_MARK: u32 = 76;
