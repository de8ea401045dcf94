//! A request to one of the services after its signature was verified, and the answer to it.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

/// Who signed a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// The owner of the account: everything is allowed.
    Owner,
    /// A session of a role, as a function has it. Allowed is what the role's policies allow.
    Role { role_name: String, session: String },
}

/// An authenticated request.
#[derive(Debug)]
pub struct Call {
    pub principal: Principal,
    /// UUID that the answer carries and that log lines name.
    pub request_id: String,
    pub method: Method,
    /// Raw path, not decoded: some services escape `/` in it.
    pub path: String,
    /// Raw query, without `?`.
    pub query: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What a service answers.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Which operation a path of a REST service means, and what IAM decides it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// As in the service's model, for instance `CreateFunction`.
    pub operation: &'static str,
    /// `lambda:CreateFunction`, `apigateway:POST`, …
    pub action: &'static str,
    /// ARN of what the action is asked on.
    pub resource: String,
}
