//! An error as AWS sends it, before a wire protocol gives it its form.

use std::borrow::Cow;

use http::StatusCode;
use serde_json::{Map, Value};

/// What a service answers when it refuses. Each protocol renders it: JSON with `__type`, REST JSON with
/// `x-amzn-ErrorType`, Query as XML.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub(crate) struct AwsError {
    pub(crate) status: StatusCode,
    /// As in the service's model, for instance `ResourceNotFoundException`.
    pub(crate) code: Cow<'static, str>,
    pub(crate) message: String,
    /// Further members of the error's shape, for instance `CancellationReasons`.
    pub(crate) members: Option<Box<Map<String, Value>>>,
}

impl AwsError {
    pub(crate) fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self { status, code: code.into(), message: message.into(), members: None }
    }

    /// 400 with the given code.
    pub(crate) fn bad_request(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 500: the cloud itself failed, for instance its disk.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure", message)
    }

    pub(crate) fn with_members(mut self, members: Map<String, Value>) -> Self {
        self.members = Some(Box::new(members));
        self
    }
}

impl From<rusqlite::Error> for AwsError {
    fn from(error: rusqlite::Error) -> Self {
        Self::internal(format!("failed to use the local state: {error}"))
    }
}
