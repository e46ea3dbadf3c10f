//! Requests that change the director: each is one turn of the control task.

use std::time::Duration;

use axum::Extension;
use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::State;
use axum::response::Response;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::refusals::Writing;
use super::{Api, Refusal, json};
use crate::control::model::{Change, Changed, Configuration, Reload};
use crate::control::{Code, ControlError};
use crate::serve::http::Peer;
use crate::serve::interface::{Demand, Request};

/// Enough for 32,000 services with four real servers each, as operations.
const BODY_MAX: usize = 32 << 20;

/// Until a body has arrived, counted from its header.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// Applies operations, together or not at all.
#[utoipa::path(
    post,
    path = "/api/v1/changes",
    request_body = Change,
    responses((status = 200, description = "What has changed, or would change.", body = Changed), Writing)
)]
pub(super) async fn change(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Result<Response, Refusal> {
    demand(&api, peer, Demand::Change(read(body).await?)).await
}

/// Replaces the whole configuration.
#[utoipa::path(
    post,
    path = "/api/v1/config",
    request_body = Configuration,
    responses((status = 200, description = "What has changed, or would change.", body = Changed), Writing)
)]
pub(super) async fn configure(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Result<Response, Refusal> {
    demand(&api, peer, Demand::Configure(read(body).await?)).await
}

/// Reads the configuration file again and applies what changed in it.
#[utoipa::path(
    post,
    path = "/api/v1/reload",
    request_body = Reload,
    responses((status = 200, description = "What has changed, or would change.", body = Changed), Writing)
)]
pub(super) async fn reload(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Result<Response, Refusal> {
    demand(&api, peer, Demand::Reload(read(body).await?)).await
}

async fn demand(api: &Api, peer: Peer, demand: Demand) -> Result<Response, Refusal> {
    let (answer, answered) = oneshot::channel();
    let ending = || ControlError::new(Code::Busy, "the director is shutting down");
    api.requests.send(Request { demand, by: peer.0, answer }).await.map_err(|_| ending())?;
    let changed: Changed = answered.await.map_err(|_| ending())??;
    Ok(json(&changed))
}

/// Parses a body; an empty one counts as `{}`.
async fn read<T: DeserializeOwned>(body: Body) -> Result<T, ControlError> {
    let bad = |message: String| ControlError::new(Code::BadRequest, message);
    let too_large =
        |what| ControlError::new(Code::TooLarge, format!("{what}: expected at most {BODY_MAX} bytes"));
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Err(too_large("the body is too long".to_owned()));
    }
    let bytes = tokio::time::timeout(BODY_DEADLINE, to_bytes(body, BODY_MAX)).await;
    let bytes =
        bytes.map_err(|_| bad(format!("the body did not arrive within {} s", BODY_DEADLINE.as_secs())))?;
    let bytes = bytes.map_err(|error| {
        // axum reports an exceeded limit and a broken connection alike; after the latter no client reads the
        // answer.
        ControlError::new(
            Code::TooLarge,
            format!("cannot read the body: {error}; expected at most {BODY_MAX} bytes"),
        )
    })?;
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    if text.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(bad("the body is not valid for this path: expected a JSON object".to_owned()));
    }
    serde_json::from_slice(text).map_err(|error| bad(format!("the body is not valid for this path: {error}")))
}
