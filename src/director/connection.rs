//! Connections: each records the real server of a flow.
//!
//! [`tcp_state`] defines how a TCP packet changes an entry, [`timeouts`] how long each state lasts, [`table`] keeps
//! the entries and hands out copies, and [`change`] is the stream of its changes.

pub mod change;
pub mod entry;
mod key;
mod listing;
mod room;
mod shares;
pub mod table;
pub mod tcp_state;
pub mod timeouts;

pub use super::real_server::Activity;
pub use change::{Change, Subscriber};
pub use entry::{Connection, Entry, Found, Inserted, NewConnection, TemplatePrefix};
pub use table::Table;
pub use tcp_state::{Event, State};
pub use timeouts::Timeouts;
