//! What a daemon changes on its host and undoes again: addresses, routes, rules, proxy neighbours,
//! sysctls, gratuitous ARP.
//!
//! A role states what it needs as a list of [`Change`]s; the ledger [`Changes`] makes what is missing,
//! undoes what is needed no longer, finds what somebody else took away, and undoes everything at the end
//! in reverse. [`DirectorHost`] and [`RealServerHost`] are the two roles. Nothing here starts an external
//! program, and nothing is changed without a log line.
//!
//! Whatever can live on the TUN device lives there, so that it dies with a killed daemon. What cannot
//! (rules, copied routes, proxy neighbours) carries [`PROTOCOL`], so that the next start finds it and
//! adopts or removes it.
//! Sysctls a killed daemon leaves behind keep their values.

pub mod announce;
pub mod changes;
pub mod director;
pub mod error;
pub mod follow;
pub mod mirror;
pub mod mss;
pub mod netlink;
pub mod realserver;
pub mod refusal;
pub mod rule;
pub mod sysctl;

pub use changes::{Change, Changes, Device, HostChanges};
pub use director::{Announce, CaptureMode, DirectorHost, DirectorHostOptions};
pub use error::HostError;
pub use follow::Notice;
pub use mss::Mss;
pub use netlink::Netlink;
pub use realserver::{RealServerHost, RealServerHostOptions};
pub use refusal::OuterSource;

/// The routing protocol number on every route, rule and proxy neighbour made here (`ip route show proto 76`):
/// `L`, outside the numbers that /etc/iproute2/rt_protos assigns.
pub const PROTOCOL: u8 = 76;

/// The routing table of the VIPs captured by rule. Unassigned in /etc/iproute2/rt_tables, and beyond the 8 bits
/// that other programs hand out first.
pub const CAPTURE_TABLE: u32 = 7690;
