//! The statuses of refused requests, as the document lists them.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::response::Response;
use utoipa::openapi::{Content, Ref, RefOr};

/// The refusals of a request that only reads.
pub(super) struct Reading;

/// The refusals of a request that looks for something.
pub(super) struct Searching;

/// The refusals of a request that changes something.
pub(super) struct Writing;

impl IntoResponses for Reading {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals(&[500, 503])
    }
}

impl IntoResponses for Searching {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals(&[400, 404, 500, 503])
    }
}

impl IntoResponses for Writing {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        refusals(&[400, 404, 409, 413, 422, 500, 503])
    }
}

fn refusals(statuses: &[u16]) -> BTreeMap<String, RefOr<Response>> {
    let refusal = |status: &u16| {
        let why = match *status {
            400 => "The request is malformed.",
            404 => "There is no such virtual service or real server.",
            409 => "The change conflicts with the state of the director or of its host.",
            413 => "The body is too long.",
            422 => "A value is out of range, or values conflict.",
            503 => "The director is at its limit; try again later.",
            _ => "The director failed.",
        };
        let body = Content::new(Some(Ref::from_schema_name("ErrorBody")));
        let response = Response::builder().description(why).content("application/json", body).build();
        (status.to_string(), response.into())
    };
    statuses.iter().map(refusal).collect()
}
