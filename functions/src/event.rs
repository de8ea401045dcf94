//! The three event shapes of API Gateway that the handlers meet, read no further than they are used, and the answers
//! to them.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The upgrade request: as the REQUEST authorizer sees it, and as `$connect` does.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upgrade {
    /// `REQUEST` in an authorizer's event; `$connect` has none.
    #[serde(rename = "type")]
    kind: Option<String>,
    method_arn: Option<String>,
    headers: Option<HashMap<String, String>>,
    multi_value_headers: Option<HashMap<String, Vec<String>>>,
    query_string_parameters: Option<HashMap<String, String>>,
    pub request_context: RequestContext,
}

impl Upgrade {
    /// The ARN to allow, if this is the authorizer's event.
    pub fn to_authorize(&self) -> Option<&str> {
        match self.kind.as_deref() {
            Some("REQUEST") => self.method_arn.as_deref(),
            _ => None,
        }
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        self.query_string_parameters.as_ref()?.get(name).map(String::as_str)
    }

    /// The values of a header, which may have come several times. Clients write its name as they like.
    pub fn header(&self, name: &str) -> Vec<&str> {
        if let Some(headers) = &self.multi_value_headers {
            let values = headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
            return values.flat_map(|(_, values)| values.iter().map(String::as_str)).collect();
        }
        let headers = self.headers.iter().flatten();
        headers.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }

    /// The subprotocols that the client offers, in its order.
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        let values = self.header("Sec-WebSocket-Protocol").into_iter();
        values.flat_map(|value| value.split(',')).map(str::trim).filter(|offer| !offer.is_empty())
    }
}

/// `$disconnect`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Closed {
    pub request_context: RequestContext,
}

/// `$default`: one frame of a client.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Received {
    pub request_context: RequestContext,
    pub body: Option<String>,
    #[serde(default)]
    pub is_base64_encoded: bool,
}

/// What the gateway says about the connection; nothing in it comes from the client.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestContext {
    pub connection_id: Option<String>,
    /// Milliseconds since 1970.
    #[serde(default)]
    pub connected_at: u64,
    /// `principalId` and the authorizer's own keys.
    pub authorizer: Option<Map<String, Value>>,
    pub disconnect_status_code: Option<i64>,
    pub disconnect_reason: Option<String>,
}

impl RequestContext {
    /// A value of the authorizer. The gateway hands numbers on as text, other clouds as numbers.
    pub fn authorized(&self, key: &str) -> Option<String> {
        match self.authorizer.as_ref()?.get(key)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

/// The answer of a route. Its body reaches the sender if the route has a route response.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    pub status_code: u16,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<&'static str, &'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

impl Response {
    pub fn status(status_code: u16) -> Self {
        Self { status_code, headers: BTreeMap::new(), body: None }
    }

    pub fn body(body: String) -> Self {
        Self { body: Some(body), ..Self::status(200) }
    }
}

/// The answer of an authorizer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    pub principal_id: String,
    pub policy_document: PolicyDocument,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<&'static str, Value>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PolicyDocument {
    version: &'static str,
    statement: [Statement; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    action: &'static str,
    effect: &'static str,
    resource: String,
}

impl PolicyDocument {
    pub fn invoke(allow: bool, method_arn: &str) -> Self {
        let effect = if allow { "Allow" } else { "Deny" };
        let resource = method_arn.to_owned();
        Self {
            version: "2012-10-17",
            statement: [Statement { action: "execute-api:Invoke", effect, resource }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_match_in_any_case_and_every_value_counts() {
        let event: Upgrade = serde_json::from_value(serde_json::json!({
            "type": "REQUEST", "methodArn": "arn:x", "added": {"by": "aws"},
            "headers": {"sec-websocket-protocol": "bearer.t"},
            "multiValueHeaders": {"sec-websocket-protocol": ["chat.v1", "bearer.t"]},
            "queryStringParameters": null,
            "requestContext": {"connectionId": "c=", "connectedAt": 5, "requestTimeEpoch": 6},
        }))
        .unwrap();
        assert_eq!(event.subprotocols().collect::<Vec<_>>(), ["chat.v1", "bearer.t"]);
        assert_eq!(event.to_authorize(), Some("arn:x"));
        assert_eq!(event.query("user"), None);
    }

    #[test]
    fn without_multi_value_headers_the_list_is_split() {
        let event: Upgrade = serde_json::from_value(serde_json::json!({
            "headers": {"Sec-WebSocket-Protocol": "chat.v1,  bearer.t,"},
            "requestContext": {"authorizer": {"principalId": "alice", "exp": 7, "name": "A", "odd": [1]}},
        }))
        .unwrap();
        assert_eq!(event.subprotocols().collect::<Vec<_>>(), ["chat.v1", "bearer.t"]);
        assert_eq!(event.to_authorize(), None);
        assert_eq!(event.request_context.authorized("exp").as_deref(), Some("7"));
        assert_eq!(event.request_context.authorized("odd"), None);
    }
}
