//! Changing a running director: its reports, its requests, and their effect on its configuration. The daemon
//! holds the running configuration and serves this over HTTP.
//!
//! [`model`] is the JSON both ways, [`operation`] applies what was told, [`state`] keeps what drains do apart from what
//! is configured, [`change_summary`] reports a change, [`client`] asks a running director, [`ipvsadm`] is the command
//! line of that name.
//! Nothing here touches packets.

pub mod change_summary;
pub mod client;
pub mod error;
pub mod ipvsadm;
pub mod model;
pub mod operation;
mod spec;
pub mod state;

pub use client::{Client, ClientError};
pub use error::{Code, ControlError};
