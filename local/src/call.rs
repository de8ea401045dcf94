//! A request to one of the services after its signature was verified, and the answer to it.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::error::AwsError;

/// Who signed a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Principal {
    /// The owner of the account: everything is allowed.
    Owner,
    /// A user with access keys of their own. Allowed is what the user's policies allow.
    User { user_name: String },
    /// A session of a role, as a function has it. Allowed is what the role's policies allow.
    Role { role_name: String, session: String },
}

/// An authenticated request.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) principal: Principal,
    /// UUID that the answer carries and that log lines name.
    pub(crate) request_id: String,
    pub(crate) method: Method,
    /// Raw path, not decoded: some services escape `/` in it.
    pub(crate) path: String,
    /// Raw query, without `?`.
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Which operation of a REST service a method and a path name, and what to authorise for it.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// As in the service's model, for instance `CreateFunction`.
    pub(crate) operation: &'static str,
    /// IAM action, for instance `lambda:CreateFunction`.
    pub(crate) action: &'static str,
    /// ARN that the action is authorised on.
    pub(crate) resource: String,
}

/// What a service answers.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status, headers, body: body.into() }
    }

    /// An answer without a body.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// `application/json` with the given status.
    pub(crate) fn json(status: StatusCode, body: &impl serde::Serialize) -> Result<Self, AwsError> {
        Ok(Self::new(status, "application/json", to_json(body)?))
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

pub(crate) fn to_json(body: &impl serde::Serialize) -> Result<Vec<u8>, AwsError> {
    serde_json::to_vec(body)
        .map_err(|error| AwsError::internal(format!("failed to write an answer: {error}")))
}
