//! The sockets on which a director listens: metrics, the control socket, and the read-only API, if
//! configured.

use std::path::Path;

use axum::Router;
use tokio::net::{TcpListener, UnixListener};

use super::api::{self, Api};
use super::http;
use crate::config::plan::{CONTROL_DEFAULT, DirectorPlan};
use crate::failure::Failure;

/// Bound before anything on the host is changed. The control socket comes last, because only its failure is
/// logged and tolerated.
pub struct Listeners {
    metrics: TcpListener,
    api: Option<TcpListener>,
    control: Option<(UnixListener, http::SocketPath)>,
}

impl Listeners {
    /// Fails if an address or a configured socket cannot be bound; the default control socket is optional.
    pub async fn open(plan: &DirectorPlan) -> Result<Listeners, Failure> {
        let metrics = http::listen(plan.metrics, "metrics", http::METRICS_REMEDY).await?;
        let api = match plan.api {
            Some(address) => Some(http::listen(address, "the API", http::API_REMEDY).await?),
            None => None,
        };
        let group = plan.control_group.as_deref();
        let control = match &plan.control {
            Some(path) => Some(http::listen_unix(path, group)?),
            None => http::listen_unix_if_possible(Path::new(CONTROL_DEFAULT), group, "director")?,
        };
        Ok(Listeners { metrics, api, control })
    }

    /// Serves from now on; the control socket's path lasts as long as the returned value.
    pub fn serve(self, monitoring: Router, api: Api, http_names: &[String]) -> Option<http::SocketPath> {
        let names = http::HttpNames::new(http_names);
        if let Some(listener) = self.api {
            let reading = api::reading(Api::new(api.director.clone(), api.requests.clone(), false));
            let router = http::with_names(monitoring.clone().merge(reading), names.clone());
            tokio::spawn(http::serve(listener, router));
        }
        tokio::spawn(http::serve(self.metrics, http::with_names(monitoring.clone(), names)));
        let (listener, path) = self.control?;
        tokio::spawn(http::serve(listener, monitoring.merge(api::everything(api))));
        Some(path)
    }
}
