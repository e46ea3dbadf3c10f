//! The read-only requests with a single answer.

use std::io::{self, Write};
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;

use super::refusals::{Reading, Searching};
use super::{Api, CHUNK, Refusal, json, json_text, listing};
use crate::config::plan::DirectorPlan;
use crate::config::write as config_text;
use crate::control::model::{AllStatistics, Configuration, Status, VirtualService, VirtualServices};
use crate::control::{Code, ControlError};
use crate::serve::interface::{Published, RunningDirector};

/// The director as a whole.
#[utoipa::path(get, path = "/api/v1/status", responses((status = 200, description = "The director.", body = Status), Reading))]
pub(super) async fn status(State(api): State<Api>) -> Response {
    json(&listing::status(&api.director.published(), &*api.director))
}

/// All virtual services with their real servers, at one generation.
#[utoipa::path(get, path = "/api/v1/virtual_services", responses((status = 200, description = "The virtual services.", body = VirtualServices), Reading))]
pub(super) async fn virtual_services(State(api): State<Api>) -> Response {
    let known = listing::Known::of(&*api.director);
    let listing = Listing { published: api.director.published(), director: api.director, known, next: 0 };
    json_text(Body::from_stream(futures_util::stream::unfold(Some(listing), Listing::chunk)))
}

/// [`VirtualServices`], written while the client reads, so that thousands of services take no memory.
struct Listing {
    published: Arc<Published>,
    director: Arc<dyn RunningDirector>,
    known: listing::Known,
    /// Index of the next service.
    next: usize,
}

impl Listing {
    async fn chunk(listing: Option<Listing>) -> Option<(io::Result<Bytes>, Option<Listing>)> {
        let mut listing = listing?;
        // Lets other tasks of this thread run.
        tokio::task::yield_now().await;
        match listing.write() {
            Ok((text, true)) => Some((Ok(text), Some(listing))),
            Ok((text, false)) => Some((Ok(text), None)),
            Err(error) => Some((Err(error), None)),
        }
    }

    /// The next piece of text, and whether more follows.
    fn write(&mut self) -> io::Result<(Bytes, bool)> {
        let services = self.published.cluster.in_order();
        let mut text = Vec::with_capacity(CHUNK + CHUNK / 4);
        if self.next == 0 {
            write!(text, "{{\"generation\":{},\"virtual_services\":[", self.published.generation)?;
        }
        while text.len() < CHUNK && self.next < services.len() {
            if self.next > 0 {
                text.push(b',');
            }
            let (director, known) = (&*self.director, &self.known);
            let service = listing::virtual_service(&services[self.next], &self.published, director, known);
            serde_json::to_writer(&mut text, &service)?;
            self.next += 1;
        }
        let is_more = self.next < services.len();
        if !is_more {
            text.extend_from_slice(b"]}\n");
        }
        Ok((text.into(), is_more))
    }
}

/// One virtual service.
#[utoipa::path(
    get,
    path = "/api/v1/virtual_services/{name}",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "The virtual service.", body = VirtualService), Searching)
)]
pub(super) async fn virtual_service(
    State(api): State<Api>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let Path(name) = name.map_err(|error| ControlError::new(Code::BadRequest, error.body_text()))?;
    let published = api.director.published();
    let found = published.cluster.virtual_services().find(|service| service.config.name == name);
    let service = found.ok_or_else(|| {
        ControlError::new(Code::NoSuchService, format!("there is no virtual service {name:?}"))
    })?;
    let known = listing::Known::of(&*api.director);
    Ok(json(&listing::virtual_service(service, &published, &*api.director, &known)))
}

/// Counters and rates of all virtual services and real servers, without the rest.
#[utoipa::path(get, path = "/api/v1/statistics", responses((status = 200, description = "The numbers.", body = AllStatistics), Reading))]
pub(super) async fn statistics(State(api): State<Api>) -> Response {
    blocking(move || json(&listing::all_statistics(&api.director.published(), &*api.director))).await
}

/// The running configuration as a file, with configured weights and without the real servers that drains have removed; the
/// same path accepts it as a request.
#[utoipa::path(get, path = "/api/v1/config", responses((status = 200, description = "The configuration.", body = Configuration), Reading))]
pub(super) async fn configuration(State(api): State<Api>) -> Response {
    blocking(move || {
        let published = api.director.published();
        let toml = config_text::director(&configured(&published, &api));
        json(&Configuration { toml, if_generation: Some(published.generation), dry_run: false })
    })
    .await
}

/// What is configured, as a plan.
fn configured(published: &Published, api: &Api) -> DirectorPlan {
    DirectorPlan {
        cluster: published.states.without_removed(published.cluster.config()),
        defaults: published.defaults.clone(),
        hash_key: published.hash_key.filter(|_| api.has_secrets),
        ..api.director.plan().clone()
    }
}

async fn blocking(answer: impl FnOnce() -> Response + Send + 'static) -> Response {
    use axum::response::IntoResponse;
    let answered = tokio::task::spawn_blocking(answer).await;
    let failed = |error: tokio::task::JoinError| ControlError::new(Code::Internal, error.to_string());
    answered.unwrap_or_else(|error| Refusal(failed(error)).into_response())
}
