//! Why a frame was not done, in the words of the protocol.

use serde::Serialize;

/// The error codes of `chat.v1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    BadJson,
    BadRequest,
    UnknownAction,
    TooLarge,
    Unauthenticated,
    TokenExpired,
    Forbidden,
    NotInRoom,
    NotFound,
    RateLimited,
    Conflict,
    UnsupportedVersion,
    Unavailable,
    Internal,
}

impl Code {
    /// Whether the same frame may succeed later. What is unexpected is not expected to go away.
    pub const fn retry(self) -> bool {
        matches!(self, Self::RateLimited | Self::Conflict | Self::Unavailable)
    }
}

/// An answer instead of the wanted one. Never carries what only the operator should see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code:?}: {message}")]
pub struct Refusal {
    pub code: Code,
    pub message: String,
    /// How long to wait before the frame has a chance.
    pub retry_ms: Option<u64>,
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_ms: None }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    pub fn retry_in(mut self, ms: u64) -> Self {
        self.retry_ms = Some(ms);
        self
    }
}
