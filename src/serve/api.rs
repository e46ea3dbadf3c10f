//! The API: `/api/v1/…`, JSON over HTTP, on the control socket; read-only over TCP too, if configured.
//!
//! Readers look at what the control task has published and never wait for it; writers queue for the task.

mod body;
mod connections;
mod document;
mod events;
mod listing;
mod read;
mod refusals;
mod write;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};

use super::interface::{Request, RunningDirector};
use crate::control::model::ErrorBody;
use crate::control::{Code, ControlError};

pub use document::document;

/// A long answer is sent in chunks of this many bytes.
const CHUNK: usize = 64 << 10;

/// The state that every handler gets.
#[derive(Clone)]
pub struct Api {
    /// All that the handlers of GET requests use.
    pub director: Arc<dyn RunningDirector>,
    /// To the control task, for writers.
    pub requests: mpsc::Sender<Request>,
    /// Limits the clients that read events.
    pub listeners: Arc<Semaphore>,
    /// One place for a request with a long body.
    pub long_bodies: Arc<Semaphore>,
    /// Whether the client may see the hash key.
    pub has_secrets: bool,
}

impl Api {
    /// Each listening socket of the director has its own limit of event readers.
    pub fn new(
        director: Arc<dyn RunningDirector>,
        requests: mpsc::Sender<Request>,
        has_secrets: bool,
    ) -> Api {
        let listeners = Arc::new(Semaphore::new(events::LISTENERS_MAX));
        Api { director, requests, listeners, long_bodies: Arc::new(Semaphore::new(1)), has_secrets }
    }
}

/// The read-only routes.
pub(crate) fn reading(api: Api) -> Router {
    routes(false).with_state(api)
}

/// All routes.
pub(crate) fn everything(api: Api) -> Router {
    routes(true).with_state(api)
}

fn routes(is_writing: bool) -> Router<Api> {
    let mut configuration = get(read::configuration);
    let mut router = Router::new()
        .route("/api/v1/status", get(read::status))
        .route("/api/v1/virtual_services", get(read::virtual_services))
        .route("/api/v1/virtual_services/{name}", get(read::virtual_service))
        .route("/api/v1/statistics", get(read::statistics))
        .route("/api/v1/connections", get(connections::connections))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/openapi.json", get(|| async { json_text(document()) }));
    if is_writing {
        configuration = configuration.post(write::configure);
        router = router
            .route("/api/v1/changes", post(write::change))
            .route("/api/v1/check_now", post(write::check_now))
            .route("/api/v1/reload", post(write::reload));
    }
    router
        .route("/api/v1/config", configuration)
        .fallback(|| async { Refusal(ControlError::new(Code::NotFound, "there is nothing at this path")) })
        .method_not_allowed_fallback(|| async {
            Refusal(ControlError::new(Code::MethodNotAllowed, "this path does not support this method"))
        })
}

/// An error as a response.
pub(crate) struct Refusal(pub ControlError);

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Refusal {
        Refusal(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self.0.code {
            Code::BadRequest => StatusCode::BAD_REQUEST,
            Code::NotFound | Code::NoSuchService | Code::NoSuchRealServer => StatusCode::NOT_FOUND,
            Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Code::ServiceExists
            | Code::RealServerExists
            | Code::NotDraining
            | Code::GenerationConflict
            | Code::NeedsRestart
            | Code::NoFile
            | Code::HostRefused => StatusCode::CONFLICT,
            Code::NoSuchScheduler
            | Code::UnsupportedAddressFamily
            | Code::Invalid
            | Code::BadConfiguration => StatusCode::UNPROCESSABLE_ENTITY,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut response = json(&ErrorBody { error: self.0 });
        *response.status_mut() = status;
        response
    }
}

/// A value as a response.
pub(crate) fn json<T: Serialize>(value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            json_text(bytes)
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn json_text(text: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text.into()).into_response()
}

/// A response of JSON lines, sent as they are made.
pub(crate) fn json_lines(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}
