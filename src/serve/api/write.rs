//! Requests that change the director: each is one turn of the control task.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::body::{Parsed, read};
use super::refusals::Writing;
use super::{Api, Refusal, json};
use crate::control::model::{Change, Changed, CheckNow, Configuration, Reload};
use crate::control::{Code, ControlError};
use crate::serve::http::Peer;
use crate::serve::interface::{Demand, Request};

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
    demand(&api, peer, body, Demand::Change).await
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
    demand(&api, peer, body, Demand::Configure).await
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
    demand(&api, peer, body, Demand::Reload).await
}

/// Checks real servers at once instead of when their next probe is due. The answer does not wait for the probes.
#[utoipa::path(
    post,
    path = "/api/v1/check_now",
    request_body = CheckNow,
    responses((status = 200, description = "The probes are requested; nothing has changed.", body = Changed), Writing)
)]
pub(super) async fn check_now(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    body: Body,
) -> Result<Response, Refusal> {
    demand(&api, peer, body, Demand::CheckNow).await
}

async fn demand<T: DeserializeOwned>(
    api: &Api,
    peer: Peer,
    body: Body,
    demand: fn(T) -> Demand,
) -> Result<Response, Refusal> {
    let Parsed { value, place } = read(body, &api.long_bodies).await?;
    let (answer, answered) = oneshot::channel();
    let ending = || ControlError::new(Code::Busy, "the director is shutting down");
    let request = Request { demand: demand(value), by: peer.0, answer };
    api.requests.send(request).await.map_err(|_| ending())?;
    let changed: Changed = answered.await.map_err(|_| ending())??;
    // The request is as large as its body.
    drop(place);
    Ok(json(&changed))
}
