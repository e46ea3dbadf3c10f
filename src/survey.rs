//! Looks at the whole host for [`crate::doctor`], and changes nothing. It sends ARP requests and pings, and ends within
//! seconds.

mod arp;
mod director_facts;
mod echo;
mod firewall;
mod kernel;
mod metrics;
mod realserver_facts;
mod sockets;
mod sources;
mod via;

pub(crate) use director_facts::{Question, director};
pub(crate) use realserver_facts::realserver;
pub(crate) use sockets::waiting;
