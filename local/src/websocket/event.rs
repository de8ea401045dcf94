//! The events that functions get, with every field that API Gateway gives them.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::new_id;
use super::session::Session;
use crate::apigateway::Serving;
use crate::context::Context;
use crate::rest::Query;

/// What the client asked for when it connected.
pub(super) struct Asked {
    pub(super) headers: HeaderMap,
    pub(super) query: String,
}

/// The authorizer's event.
pub(super) fn authorizer(
    cx: &Context,
    serving: &Serving,
    session: &Session,
    asked: &Asked,
    method_arn: &str,
) -> Bytes {
    let mut event = connecting(serving, asked);
    event.insert("type".into(), json!("REQUEST"));
    event.insert("methodArn".into(), json!(method_arn));
    finish(event, context(cx, session, "$connect", "CONNECT"))
}

/// The event of `$connect`.
pub(super) fn connect(cx: &Context, serving: &Serving, session: &Session, asked: &Asked) -> Bytes {
    let mut event = connecting(serving, asked);
    event.insert("isBase64Encoded".into(), json!(false));
    finish(event, context(cx, session, "$connect", "CONNECT"))
}

/// The event of a frame. Returns it with the request id, which an error frame names.
pub(super) fn message(
    cx: &Context,
    serving: &Serving,
    session: &Session,
    route_key: &str,
    body: &str,
) -> (Bytes, String) {
    let mut context = context(cx, session, route_key, "MESSAGE");
    context.insert("messageId".into(), json!(new_id()));
    let request_id = context.get("requestId").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut event = with_variables(serving);
    event.insert("body".into(), json!(body));
    event.insert("isBase64Encoded".into(), json!(false));
    (finish(event, context), request_id)
}

/// The event of `$disconnect`.
pub(super) fn disconnect(
    cx: &Context,
    serving: &Serving,
    session: &Session,
    code: u16,
    reason: &str,
) -> Bytes {
    let mut context = context(cx, session, "$disconnect", "DISCONNECT");
    context.insert("disconnectStatusCode".into(), json!(code));
    context.insert("disconnectReason".into(), json!(reason));
    let mut event = with_variables(serving);
    let headers = json!({ "Host": session.host, "x-api-key": "", "X-Forwarded-For": "", "x-restapi": "" });
    let multiple =
        json!({ "Host": [session.host], "x-api-key": [""], "X-Forwarded-For": [""], "x-restapi": [""] });
    event.insert("headers".into(), headers);
    event.insert("multiValueHeaders".into(), multiple);
    event.insert("isBase64Encoded".into(), json!(false));
    finish(event, context)
}

fn finish(mut event: Map<String, Value>, context: Map<String, Value>) -> Bytes {
    event.insert("requestContext".into(), Value::Object(context));
    Bytes::from(Value::Object(event).to_string())
}

fn with_variables(serving: &Serving) -> Map<String, Value> {
    let mut event = Map::new();
    if !serving.variables.is_empty() {
        event.insert("stageVariables".into(), json!(serving.variables));
    }
    event
}

fn connecting(serving: &Serving, asked: &Asked) -> Map<String, Value> {
    let mut single = Map::new();
    let mut multiple: Map<String, Value> = Map::new();
    for name in asked.headers.keys() {
        let values: Vec<String> = asked
            .headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        let name = as_sent(name.as_str());
        single.insert(name.clone(), json!(values.last()));
        multiple.insert(name, json!(values));
    }
    let mut event = with_variables(serving);
    event.insert("headers".into(), Value::Object(single));
    event.insert("multiValueHeaders".into(), Value::Object(multiple));
    let query = Query::of(&asked.query);
    let grouped = query.grouped();
    if !grouped.is_empty() {
        let last: Map<String, Value> =
            grouped.iter().map(|(name, values)| ((*name).to_owned(), json!(values.last()))).collect();
        event.insert("queryStringParameters".into(), Value::Object(last));
        event.insert("multiValueQueryStringParameters".into(), json!(grouped));
    }
    event
}

/// Header names as clients commonly write them: HTTP/1.1 parsing has lost their case.
fn as_sent(name: &str) -> String {
    name.split('-')
        .map(|part| match part {
            "websocket" => "WebSocket".to_owned(),
            _ => {
                let mut letters = part.chars();
                letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
            }
        })
        .collect::<Vec<String>>()
        .join("-")
}

fn context(cx: &Context, session: &Session, route_key: &str, event_type: &str) -> Map<String, Value> {
    let now = jiff::Timestamp::now();
    let request_id = new_id();
    let mut context = Map::new();
    let authority = cx.endpoint.trim_start_matches("http://");
    for (name, value) in [
        ("routeKey", json!(route_key)),
        ("eventType", json!(event_type)),
        ("extendedRequestId", json!(request_id)),
        ("requestTime", json!(now.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string())),
        ("messageDirection", json!("IN")),
        ("stage", json!(session.stage)),
        ("connectedAt", json!(session.connected_at_ms)),
        ("requestTimeEpoch", json!(now.as_millisecond())),
        ("identity", json!({ "sourceIp": "127.0.0.1", "userAgent": session.user_agent })),
        ("requestId", json!(request_id)),
        ("domainName", json!(format!("{authority}/{}", session.api))),
        ("connectionId", json!(session.id)),
        ("apiId", json!(session.api)),
    ] {
        context.insert(name.to_owned(), value);
    }
    if let Some(authorizer) = &session.authorizer {
        context.insert("authorizer".into(), Value::Object(authorizer.clone()));
    }
    context
}

#[cfg(test)]
mod tests {
    use super::as_sent;

    #[test]
    fn header_names_regain_their_case() {
        assert_eq!(as_sent("sec-websocket-protocol"), "Sec-WebSocket-Protocol");
        assert_eq!(as_sent("host"), "Host");
    }
}
