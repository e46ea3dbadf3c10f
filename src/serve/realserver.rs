//! The sockets on which a real server listens: metrics, and the control socket, which answers its status.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use tokio::net::{TcpListener, UnixListener};

use super::api::{Refusal, json};
use super::http;
use crate::config::plan::{CONTROL_REALSERVER, RealserverPlan};
use crate::control::model::RealserverStatus;
use crate::control::{Code, ControlError};
use crate::failure::Failure;

/// Makes the answer to a request for the status. It may read files.
pub(crate) type Report = Arc<dyn Fn() -> RealserverStatus + Send + Sync>;

/// Bound before anything on the host is changed.
pub(crate) struct RealserverListeners {
    metrics: TcpListener,
    control: Option<(UnixListener, http::SocketPath)>,
}

impl RealserverListeners {
    /// Fails if the address or a configured socket cannot be bound; the default control socket is optional.
    pub(crate) async fn open(plan: &RealserverPlan) -> Result<RealserverListeners, Failure> {
        let metrics = http::listen(plan.metrics, "metrics", http::METRICS_REMEDY).await?;
        let group = plan.control_group.as_deref();
        let control = match &plan.control {
            Some(path) => Some(http::listen_unix(path, group)?),
            None => http::listen_unix_if_possible(Path::new(CONTROL_REALSERVER), group, "realserver")?,
        };
        Ok(RealserverListeners { metrics, control })
    }

    /// Serves from now on; the control socket's path lasts as long as the returned value.
    pub(crate) fn serve(
        self,
        monitoring: Router,
        report: Report,
        http_names: &[String],
    ) -> Option<http::SocketPath> {
        let names = http::HttpNames::new(http_names);
        tokio::spawn(http::serve(self.metrics, http::with_names(monitoring.clone(), names)));
        let (listener, path) = self.control?;
        tokio::spawn(http::serve(listener, monitoring.merge(status(report))));
        Some(path)
    }
}

fn status(report: Report) -> Router {
    let answer = move || {
        let report = report.clone();
        async move {
            let answered = tokio::task::spawn_blocking(move || json(&report())).await;
            answered.map_err(|error| Refusal(ControlError::new(Code::Internal, error.to_string())))
        }
    };
    let nothing = || async {
        let message = "a real server answers /api/v1/status, /metrics, /healthz and /readyz only; changes are made on the director";
        Refusal(ControlError::new(Code::NotFound, message))
    };
    Router::new().route("/api/v1/status", get(answer)).fallback(nothing)
}
