//! How a running director is queried and changed. The daemon holds the running configuration and serves the API.
//!
//! [`model`] is the JSON of requests and answers, [`operation`] applies requests to a configuration, [`state`] keeps
//! the effect of drains apart from it, [`standing`] puts configuration, states and health together, [`change_summary`] reports a change, [`client`] queries a running director, and
//! [`ipvsadm`] is the command line of that name. Nothing here touches packets.

pub mod change_summary;
pub mod client;
pub mod error;
pub mod ipvsadm;
pub mod model;
pub mod operation;
mod spec;
pub mod standing;
pub mod state;
pub mod troubles;

pub use client::{Client, ClientError};
pub use error::{Code, ControlError};
