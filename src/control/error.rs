//! Why a request is refused: a stable code for programs, one sentence for people.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Stable: programs decide by it, and a new meaning gets a new word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request cannot be read: malformed JSON, an unknown field, a wrong type.
    BadRequest,
    /// No such path.
    NotFound,
    MethodNotAllowed,
    /// The request's body is longer than the director reads.
    TooLarge,
    /// The director is at its limit of requests; try again.
    Busy,
    ServiceExists,
    NoSuchService,
    RealServerExists,
    NoSuchRealServer,
    NoSuchScheduler,
    /// IPv6, which is not forwarded.
    UnsupportedAddressFamily,
    /// The real server is not draining.
    NotDraining,
    /// A value out of range, or things that cannot stand side by side.
    Invalid,
    /// The configuration has moved on since the generation given with the change.
    GenerationConflict,
    /// The configuration's text is wrong; the sentence names line and key.
    BadConfiguration,
    /// A key that only a restart changes.
    NeedsRestart,
    /// The director was started without a file, so that there is nothing to reload.
    NoFile,
    /// The host refused what the change needs; nothing was changed.
    HostRefused,
    /// A fault of the director itself.
    Internal,
}

/// A refusal; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ControlError {
    pub code: Code,
    /// One sentence: what, where, what to do.
    pub message: String,
    /// Index of the operation it is about, in a change of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<usize>,
}

impl ControlError {
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
