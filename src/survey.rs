//! Looks at the whole host for [`crate::doctor`], and changes nothing. It sends ARP requests and pings, and ends within
//! seconds.

mod arp;
mod director;
mod echo;
mod firewall;
mod heard;
mod kernel;
mod metrics;
mod realserver;
mod sockets;
mod via;

pub use director::{Question, director};
pub use realserver::realserver;
