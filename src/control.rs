//! Changing a running director: its reports, its requests, and their effect on its configuration. The daemon
//! holds the running configuration and serves this over HTTP.
//!
//! [`model`] is the JSON in both directions, [`operation`] applies requests, [`client`] queries a running
//! director, [`ipvsadm`] is the command line of that name. Nothing here handles packets.

pub mod client;
pub mod error;
pub mod ipvsadm;
pub mod model;
pub mod operation;
mod spec;

pub use client::{Client, ClientError};
pub use error::{Code, ControlError};
