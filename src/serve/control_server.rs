//! The server of a control socket for connections that exist already: the other end of a socket pair uses the API as a
//! command does.

use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::api::{self, Api};
use super::http;
use super::interface::{Request, RunningDirector};
use super::readiness::Health;
use crate::metrics::exposition::Exposition;

/// Serves the API, metrics and probes of one director.
pub struct ControlServer(http::Server);

impl ControlServer {
    /// `requests` receives the changes; `render` returns the metrics at the time of a scrape; `health` is what the probes
    /// report.
    pub fn new(
        director: Arc<dyn RunningDirector>,
        requests: mpsc::Sender<Request>,
        render: impl Fn() -> Exposition + Send + Sync + 'static,
        health: Arc<Health>,
    ) -> ControlServer {
        let monitoring = http::monitoring(Arc::new(render), health);
        let router = monitoring.merge(api::everything(Api::new(director, requests, true)));
        ControlServer(http::Server::new(router))
    }

    /// Serves one connection to its end, in a task of the current runtime.
    pub fn open(&self, stream: UnixStream) {
        self.0.open(stream);
    }
}
