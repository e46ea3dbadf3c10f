//! Why a request is rejected: a stable code for programs, one sentence for people.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Stable: programs depend on it, so a new meaning gets a new code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request is malformed: invalid JSON, an unknown field, a wrong type.
    BadRequest,
    /// No such path.
    NotFound,
    /// The path exists, but not with this method.
    MethodNotAllowed,
    /// The request's body is longer than the director accepts.
    TooLarge,
    /// The director is at its limit of requests; try again.
    Busy,
    /// A virtual service with this name or matcher exists.
    ServiceExists,
    /// No such virtual service.
    NoSuchService,
    /// A real server with this RIP or name exists in the virtual service.
    RealServerExists,
    /// No such real server.
    NoSuchRealServer,
    /// No such scheduler.
    NoSuchScheduler,
    /// IPv6, which is not forwarded yet.
    UnsupportedAddressFamily,
    /// The real server is not draining.
    NotDraining,
    /// A value out of range, or parts of the configuration that conflict.
    Invalid,
    /// The configuration has changed since the generation given with the change.
    GenerationConflict,
    /// The configuration's text is wrong; the message names line and key.
    BadConfiguration,
    /// A key that cannot change without a restart.
    NeedsRestart,
    /// The director was started without a file, so there is nothing to reload.
    NoFile,
    /// The host refused a change it had to make; nothing was changed.
    HostRefused,
    /// An internal error of the director.
    Internal,
}

/// A rejected request; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ControlError {
    /// The kind of error, for programs.
    pub code: Code,
    /// One sentence: what, where, what to do.
    pub message: String,
    /// The index of the operation that failed, in a change of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<usize>,
}

impl ControlError {
    /// An error that does not belong to one of several operations.
    pub fn new(code: Code, message: impl Into<String>) -> ControlError {
        ControlError { code, message: message.into(), operation: None }
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ControlError {}
