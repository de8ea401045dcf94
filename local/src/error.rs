//! An error as AWS sends it, before a wire protocol gives it its form.

use http::StatusCode;

/// What a service answers when it refuses. Each protocol renders it: JSON with `__type`, REST JSON with
/// `x-amzn-ErrorType`, Query as XML.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct AwsError {
    pub status: StatusCode,
    /// As in the service's model, for instance `ResourceNotFoundException`.
    pub code: &'static str,
    pub message: String,
}

impl AwsError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// 400 with the given code.
    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }
}
