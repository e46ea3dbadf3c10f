//! Where a director listens: metrics, the control socket, and what can be read of the API, if asked for.

use std::path::Path;

use axum::Router;
use tokio::net::{TcpListener, UnixListener};

use super::api::{self, Api};
use super::http;
use crate::config::plan::{CONTROL_DEFAULT, DirectorPlan};
use crate::failure::Failure;

/// Taken before anything on the host is changed. The control socket is last: only about it is something said.
pub struct Listeners {
    metrics: TcpListener,
    api: Option<TcpListener>,
    control: Option<(UnixListener, http::SocketPath)>,
}

impl Listeners {
    pub async fn open(plan: &DirectorPlan) -> Result<Listeners, Failure> {
        let metrics = http::listen(plan.metrics, "metrics", http::METRICS_REMEDY).await?;
        let api = match plan.api {
            Some(address) => Some(http::listen(address, "the API", "free it, or set another one").await?),
            None => None,
        };
        let group = plan.control_group.as_deref();
        let control = match &plan.control {
            Some(path) => Some(http::listen_unix(path, group)?),
            None => match http::listen_unix(Path::new(CONTROL_DEFAULT), group) {
                Ok(control) => Some(control),
                Err(error @ Failure::Refused(_)) => return Err(error),
                // Nobody asked for it: a second director, or one without the right to make it, does without.
                Err(error) => {
                    tracing::warn!("director: no commands can reach this director: {error}");
                    None
                }
            },
        };
        Ok(Listeners { metrics, api, control })
    }

    /// Answers from here on; the control socket's path lasts as long as the value.
    pub fn serve(self, monitoring: Router, api: Api) -> Option<http::SocketPath> {
        if let Some(listener) = self.api {
            tokio::spawn(http::serve(
                listener,
                monitoring.clone().merge(api::reading(Api::new(
                    api.shared.clone(),
                    api.requests.clone(),
                    false,
                ))),
            ));
        }
        tokio::spawn(http::serve(self.metrics, monitoring.clone()));
        let (listener, path) = self.control?;
        tokio::spawn(http::serve(listener, monitoring.merge(api::everything(api))));
        Some(path)
    }
}
