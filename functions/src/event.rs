//! The three event shapes of API Gateway that the handlers meet, read no further than they are used, the answers to
//! them, and the one shape that is our own: a batch of posts.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ids::{ConnectionId, RoomName, UserId};
use crate::ports::Recipient;

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
#[derive(Debug)]
pub struct Received {
    pub request_context: RequestContext,
    pub body: Option<String>,
    pub is_base64_encoded: bool,
}

/// What `on_message` is invoked with. API Gateway writes all the keys of its events itself, `requestContext` among them,
/// and a client's words are text below `body`; a batch comes from who may invoke the function directly, without that key.
/// So neither passes for the other, and what looks like both is refused.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Either")]
pub enum Event {
    Received(Received),
    Handed(Batch),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Either {
    request_context: Option<RequestContext>,
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
    deliver: Option<Batch>,
}

impl TryFrom<Either> for Event {
    type Error = &'static str;

    fn try_from(event: Either) -> Result<Self, Self::Error> {
        let Either { request_context, body, is_base64_encoded, deliver } = event;
        match (request_context, deliver) {
            (Some(request_context), None) => {
                Ok(Self::Received(Received { request_context, body, is_base64_encoded }))
            }
            (None, Some(batch)) => Ok(Self::Handed(batch)),
            _ => Err("this is neither a frame from API Gateway nor a batch"),
        }
    }
}

impl Event {
    /// The event that has `frame` posted to everybody in `to` by another invocation.
    pub fn handed_over(now_ms: u64, room: Option<&RoomName>, frame: &[u8], to: &[Recipient]) -> Bytes {
        let batch = Batch {
            at: now_ms,
            room: room.cloned(),
            frame: String::from_utf8_lossy(frame).into_owned(),
            to: to.iter().map(Addressee::from).collect(),
        };
        #[expect(clippy::expect_used, reason = "maps with string keys and no floats: nothing can fail")]
        let event = serde_json::to_vec(&Deliver { deliver: batch }).expect("a batch has a JSON form");
        Bytes::from(event)
    }
}

#[derive(Serialize)]
struct Deliver {
    deliver: Batch,
}

/// Posts that one invocation hands over to another. The code that reads it may be newer than the code that wrote it: what
/// is here stays, and what is added is optional.
#[derive(Debug, Deserialize, Serialize)]
pub struct Batch {
    /// When it was handed over, in milliseconds since 1970.
    pub at: u64,
    /// Where the subscriptions of connections that turn out to be gone are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomName>,
    /// As it is posted.
    pub frame: String,
    pub to: Vec<Addressee>,
}

/// What a post to somebody, and its cleaning up, needs to know. The names are short: there are hundreds.
#[derive(Debug, Deserialize, Serialize)]
pub struct Addressee {
    #[serde(rename = "c")]
    conn: ConnectionId,
    #[serde(rename = "u")]
    user: UserId,
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    at_s: Option<u64>,
}

impl From<&Recipient> for Addressee {
    fn from(recipient: &Recipient) -> Self {
        Self { conn: recipient.conn.clone(), user: recipient.user.clone(), at_s: recipient.at_s }
    }
}

impl From<Addressee> for Recipient {
    fn from(Addressee { conn, user, at_s }: Addressee) -> Self {
        // Whoever had expired was left out before.
        Self { user, conn, expires_s: u64::MAX, at_s }
    }
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

    /// What a client may write, API Gateway puts below `body`, whatever it looks like.
    #[test]
    fn no_frame_of_a_client_is_a_batch() {
        let batch = r#"{"deliver":{"at":1,"frame":"{}","to":[{"c":"c","u":"eve"}]}}"#;
        let context = serde_json::json!({"connectionId": "c=", "authorizer": {"principalId": "eve"}});
        for body in [batch.to_owned(), format!(r#"","deliver":{batch},"x":""#), format!("\"}},{batch}")] {
            let event = serde_json::json!({"requestContext": context, "body": body}).to_string();
            match serde_json::from_str(&event).unwrap() {
                Event::Received(received) => assert_eq!(received.body, Some(body)),
                Event::Handed(batch) => panic!("{batch:?}"),
            }
        }
        assert!(matches!(serde_json::from_str(batch), Ok(Event::Handed(_))));
        let both = serde_json::json!({
            "requestContext": context, "body": "{}",
            "deliver": {"at": 1, "frame": "{}", "to": []},
        });
        for neither in [both, serde_json::json!({}), serde_json::json!({"body": batch})] {
            assert!(serde_json::from_value::<Event>(neither.clone()).is_err(), "{neither} was taken");
        }
    }

    #[test]
    fn names_in_a_batch_are_parsed_like_all_others() {
        for (conn, user, room, taken) in [
            ("c=", "alice", "r", true),
            ("c#", "alice", "r", false),
            ("c=", "a#b", "r", false),
            ("c=", "alice", "@a,b", false),
        ] {
            let batch = serde_json::json!({
                "deliver": {"at": 1, "room": room, "frame": "{}", "to": [{"c": conn, "u": user}], "new": 1},
            });
            assert_eq!(serde_json::from_value::<Event>(batch).is_ok(), taken, "{conn} {user} {room}");
        }
    }
}
