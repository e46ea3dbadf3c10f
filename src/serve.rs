//! The HTTP servers: metrics and health for a monitoring system, and a director's API.
//!
//! They see a running director through [`RunningDirector`] and nothing else: readers look at what it has published and
//! never wait for it, and writers queue for its control task.

pub(crate) mod api;
mod control_server;
pub(crate) mod http;
mod interface;
mod listeners;
mod readiness;
mod realserver;

pub use api::document as openapi;
pub use control_server::ControlServer;
pub use interface::{Demand, Published, Request, RunningDirector};
pub use listeners::Listeners;
pub use readiness::Health;
pub(crate) use realserver::RealserverListeners;
