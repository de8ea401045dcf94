//! What is asked about the cloud itself, outside the protocols of AWS: its health, and its faults.

use http::{Method, StatusCode};
use serde_json::json;

use super::Front;
use crate::call::Reply;
use crate::error::AwsError;
use crate::faults::Rule;

/// Paths that no API and no service has.
pub(super) const PREFIX: &str = "/_local/";

impl Front {
    pub(super) fn administer(&self, method: &Method, path: &str, body: &[u8]) -> Result<Reply, AwsError> {
        match (method, path) {
            (&Method::GET, "/_local/health") => Reply::json(
                StatusCode::OK,
                &json!({
                    "status": "ok",
                    "version": env!("CARGO_PKG_VERSION"),
                    "pid": std::process::id(),
                    "account": self.cx.account,
                    "region": self.cx.region,
                    "endpoint": self.cx.endpoint,
                    "data": self.cx.data,
                }),
            ),
            (&Method::GET | &Method::PUT, "/_local/faults") if self.cx.settings.allow_fault_requests => {
                if method == Method::PUT {
                    let rules: Vec<Rule> = serde_json::from_slice(body)
                        .map_err(|error| AwsError::bad_request("InvalidFaults", error.to_string()))?;
                    self.cx.faults.set(rules);
                }
                Reply::json(StatusCode::OK, &self.cx.faults.rules())
            }
            (_, "/_local/faults") => Err(AwsError::new(
                StatusCode::FORBIDDEN,
                "Forbidden",
                "This cloud was not started with allow_fault_requests.",
            )),
            _ => {
                Err(AwsError::new(StatusCode::NOT_FOUND, "NotFound", format!("There is no {method} {path}.")))
            }
        }
    }
}
