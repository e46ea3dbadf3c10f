//! Connections: a flow remembered with the real server it was given to.
//!
//! [`tcp_state`] says what a TCP packet does to an entry, [`timeouts`] how long each state lasts, and
//! [`table`] keeps the entries and lets no guard escape.

pub mod entry;
mod key;
mod listing;
mod shares;
pub mod table;
pub mod tcp_state;
pub mod timeouts;

pub use super::real_server::Activity;
pub use entry::{Answer, Change, Claim, Connection, Found, Inserted, NewConnection, TemplatePrefix};
pub use table::Table;
pub use tcp_state::{Event, State};
pub use timeouts::Timeouts;
