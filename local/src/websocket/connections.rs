//! `@connections`: posting to a connection, looking at it, and closing it.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use http::{Method, StatusCode};
use serde_json::json;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::handshake::MAX_MESSAGE_BYTES;
use super::session::{Session, Unsent};
use super::{ID_BYTES, WebSockets};
use crate::call::{Call, Reply, Route};
use crate::error::AwsError;
use crate::rest::{self, Endpoint};

const ENDPOINTS: &[Endpoint] = &[
    Endpoint { method: "POST", template: "/{Api}/{Stage}/@connections/{Id}", operation: "PostToConnection" },
    Endpoint { method: "GET", template: "/{Api}/{Stage}/@connections/{Id}", operation: "GetConnection" },
    Endpoint {
        method: "DELETE",
        template: "/{Api}/{Stage}/@connections/{Id}",
        operation: "DeleteConnection",
    },
];

impl WebSockets {
    pub(crate) fn route(&self, method: &Method, path: &str) -> Option<Route> {
        // Clients differ in whether they escape the `@`.
        let path = path.replacen("%40connections", "@connections", 1);
        let (endpoint, params) = rest::find(ENDPOINTS, method, &path)?;
        let (region, account) = (&self.cx.region, &self.cx.account);
        let (api, stage, id) = (params.get("Api"), params.get("Stage"), params.get("Id"));
        let method = endpoint.method;
        Some(Route {
            operation: endpoint.operation,
            action: "execute-api:ManageConnections",
            resource: format!(
                "arn:aws:execute-api:{region}:{account}:{api}/{stage}/{method}/@connections/{id}"
            ),
        })
    }

    pub(crate) async fn call(&self, route: Route, call: Call) -> Result<Reply, AwsError> {
        let path = call.path.replacen("%40connections", "@connections", 1);
        let (_, params) = rest::find(ENDPOINTS, &call.method, &path).ok_or_else(forbidden)?;
        let (api, stage, id) = (params.get("Api"), params.get("Stage"), params.get("Id"));
        if self.apigateway.serving(api, stage).is_none() {
            return Err(forbidden());
        }
        if !is_well_formed(id) {
            let message = format!("Invalid connectionId: {id}");
            return Err(AwsError::bad_request("BadRequestException", message));
        }
        let found = self.find(id).filter(|session| session.api == api && session.stage == stage);
        let session = found.ok_or_else(gone)?;
        match route.operation {
            "PostToConnection" => self.post(&session, &call),
            "GetConnection" => look(&session),
            _ => {
                session.close().map_err(|_| gone())?;
                Ok(Reply::empty(StatusCode::NO_CONTENT))
            }
        }
    }

    fn post(&self, session: &Arc<Session>, call: &Call) -> Result<Reply, AwsError> {
        if call.body.len() > MAX_MESSAGE_BYTES {
            let code = "PayloadTooLargeException";
            return Err(AwsError::new(StatusCode::PAYLOAD_TOO_LARGE, code, "Message too long"));
        }
        let text = Utf8Bytes::try_from(call.body.clone())
            .map_err(|_| AwsError::bad_request("BadRequestException", "The message is not UTF-8"))?;
        if self.cx.faults.stalls(&session.id) {
            return Err(full());
        }
        match session.send(text) {
            Ok(()) => Ok(Reply::empty(StatusCode::OK)),
            Err(Unsent::Full) => Err(full()),
            Err(Unsent::Gone) => Err(gone()),
        }
    }
}

fn look(session: &Session) -> Result<Reply, AwsError> {
    let time = |ms: i64| jiff::Timestamp::from_millisecond(ms).map(|at| at.to_string()).unwrap_or_default();
    let seen = json!({
        "connectedAt": time(session.connected_at_ms),
        "lastActiveAt": time(session.last_active_ms()),
        "identity": {
            "sourceIp": "127.0.0.1",
            "userAgent": session.user_agent.as_deref().unwrap_or_default(),
        },
    });
    Reply::json(StatusCode::OK, &seen)
}

/// Whether it could be an id of API Gateway. Those that could and are not known are gone; others are malformed.
fn is_well_formed(id: &str) -> bool {
    let decoded = URL_SAFE.decode(id).or_else(|_| STANDARD.decode(id));
    decoded.is_ok_and(|bytes| bytes.len() == ID_BYTES)
}

fn gone() -> AwsError {
    AwsError::new(StatusCode::GONE, "GoneException", "Gone")
}

fn forbidden() -> AwsError {
    AwsError::new(StatusCode::FORBIDDEN, "ForbiddenException", "Forbidden")
}

fn full() -> AwsError {
    AwsError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "LimitExceededException",
        "The client does not read fast enough",
    )
}

#[cfg(test)]
mod tests {
    use super::is_well_formed;
    use crate::websocket::new_id;

    #[test]
    fn only_what_could_be_an_id_is_one() {
        assert!(is_well_formed(&new_id()));
        assert!(is_well_formed("L0SM9cOFvHcCIhw="));
        for id in ["", "abc", "../../etc", "L0SM9cOFvHcCIhw", "L0SM9cOFvHcCIhwAAAA="] {
            assert!(!is_well_formed(id), "{id}");
        }
    }
}
