//! From an upgrade request to an open connection: authorizer, `$connect`, and only then the 101.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_TYPE, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::event::{self, Asked};
use super::session::{self, Outgoing, Session};
use super::{WebSockets, new_id};
use crate::apigateway::{IdentitySource, ServedAuthorizer, Serving, Target};
use crate::glob;
use crate::rest::Query;

/// API Gateway's quotas: <https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html>
const MAX_FRAME_BYTES: usize = 32 * 1024;
pub(super) const MAX_MESSAGE_BYTES: usize = 128 * 1024;
const MAX_URL: usize = 4096;
/// Every connection has one such buffer, so a thousand idle ones cost 4 MiB.
const BUFFER_BYTES: usize = 4 * 1024;

const CONNECT: &str = "$connect";

/// Why a connection is refused: what the client sees as the status of its upgrade.
struct Refused(StatusCode);

impl WebSockets {
    /// Answers an upgrade request, and serves the connection if it was accepted.
    pub(crate) async fn upgrade(self: &Arc<Self>, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
        let Some(key) = valid_key(&request) else {
            return refusal(StatusCode::BAD_REQUEST);
        };
        if request.uri().to_string().len() > MAX_URL {
            return refusal(StatusCode::URI_TOO_LONG);
        }
        let upgrade = hyper::upgrade::on(&mut request);
        let (parts, _) = request.into_parts();
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let Some(serving) =
            address(host, parts.uri.path()).and_then(|(api, stage)| self.apigateway.serving(&api, &stage))
        else {
            return refusal(StatusCode::FORBIDDEN);
        };
        let user_agent = parts.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        let (session, outgoing) =
            Session::new(new_id(), &serving, host.to_owned(), user_agent.map(str::to_owned));
        let asked = Asked { query: parts.uri.query().unwrap_or_default().to_owned(), headers: parts.headers };
        // In a task of its own: this future is dropped when the client leaves, but a `$connect` that has begun runs to
        // its end, and `$disconnect` has to follow it.
        let opening = self.tasks.spawn(Arc::clone(self).open(serving, session, outgoing, asked, upgrade));
        let protocol = match opening.await {
            Ok(Ok(protocol)) => protocol,
            Ok(Err(Refused(status))) => return refusal(status),
            Err(_) => return refusal(StatusCode::INTERNAL_SERVER_ERROR),
        };

        let mut answer = Response::new(Full::default());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        if let Some(protocol) = protocol.and_then(|protocol| HeaderValue::from_str(&protocol).ok()) {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        answer
    }

    /// Asks whether the connection may be, and serves it in the background if so. Returns its subprotocol.
    async fn open(
        self: Arc<Self>,
        serving: Arc<Serving>,
        mut session: Session,
        outgoing: UnboundedReceiver<Outgoing>,
        asked: Asked,
        upgrade: OnUpgrade,
    ) -> Result<Option<String>, Refused> {
        let protocol = self.admit(&serving, &mut session, &asked).await?;
        let session = Arc::new(session);
        self.register(&session);
        let sockets = Arc::clone(&self);
        self.tasks.spawn(async move {
            let Ok(upgraded) = upgrade.await else {
                // The client went away before it had its answer; `$connect` has run, so `$disconnect` must.
                session::end(&sockets, &session, session::ABNORMAL, "").await;
                return;
            };
            let limits = WebSocketConfig::default()
                .read_buffer_size(BUFFER_BYTES)
                .write_buffer_size(BUFFER_BYTES)
                .max_write_buffer_size(4 * MAX_MESSAGE_BYTES)
                .max_frame_size(Some(MAX_FRAME_BYTES))
                .max_message_size(Some(MAX_MESSAGE_BYTES));
            let io = TokioIo::new(upgraded);
            let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(limits)).await;
            session::run(sockets, session, socket, outgoing).await;
        });
        Ok(protocol)
    }

    /// Lets the authorizer and `$connect` decide. Returns the subprotocol that `$connect` chose.
    async fn admit(
        &self,
        serving: &Serving,
        session: &mut Session,
        asked: &Asked,
    ) -> Result<Option<String>, Refused> {
        let route = serving.routes.get(CONNECT);
        if !self.admits(serving, route) {
            return Err(Refused(StatusCode::TOO_MANY_REQUESTS));
        }
        let Some(route) = route else { return Ok(None) };
        if let Some(authorizer) = &route.authorizer {
            session.authorizer = Some(self.authorize(serving, session, asked, authorizer).await?);
        }
        let Some(Target::Lambda { function_arn, timeout }) = &route.target else { return Ok(None) };
        let event = event::connect(&self.cx, serving, session, asked);
        let source = self.source_arn(serving, CONNECT);
        let invoked = self.lambda.invoke_from_service(function_arn, SERVICE, &source, event);
        let answer = match tokio::time::timeout(*timeout, invoked).await {
            Ok(Ok(answer)) if answer.function_error.is_none() => answer,
            Ok(Err(error)) if error.0.status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(Refused(StatusCode::TOO_MANY_REQUESTS));
            }
            Err(_) => return Err(Refused(StatusCode::GATEWAY_TIMEOUT)),
            _ => return Err(Refused(StatusCode::BAD_GATEWAY)),
        };
        let answer: Value =
            serde_json::from_slice(&answer.payload).map_err(|_| Refused(StatusCode::BAD_GATEWAY))?;
        let status = answer
            .get("statusCode")
            .and_then(|code| code.as_u64().or_else(|| code.as_str()?.parse().ok()))
            .and_then(|code| StatusCode::from_u16(u16::try_from(code).ok()?).ok())
            .ok_or(Refused(StatusCode::BAD_GATEWAY))?;
        if !status.is_success() {
            return Err(Refused(status));
        }
        let headers = answer.get("headers").and_then(Value::as_object);
        Ok(headers
            .into_iter()
            .flatten()
            .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"))
            .and_then(|(_, value)| value.as_str().map(str::to_owned)))
    }

    /// What the authorizer says of the caller, which rides on every later event.
    async fn authorize(
        &self,
        serving: &Serving,
        session: &Session,
        asked: &Asked,
        authorizer: &ServedAuthorizer,
    ) -> Result<Map<String, Value>, Refused> {
        let query = Query::of(&asked.query);
        let there = |source: &IdentitySource| match source {
            IdentitySource::Header(name) => asked.headers.get(name).is_some_and(|value| !value.is_empty()),
            IdentitySource::Query(name) => query.get(name).is_some_and(|value| !value.is_empty()),
            IdentitySource::Present => true,
        };
        if !authorizer.identity_sources.iter().all(there) {
            return Err(Refused(StatusCode::UNAUTHORIZED));
        }
        let method_arn = self.source_arn(serving, CONNECT);
        let source = format!(
            "arn:aws:execute-api:{}:{}:{}/authorizers/{}",
            self.cx.region, self.cx.account, serving.api_id, authorizer.id
        );
        let event = event::authorizer(&self.cx, serving, session, asked, &method_arn);
        let failed = Refused(StatusCode::INTERNAL_SERVER_ERROR);
        let invoked =
            self.lambda.invoke_from_service(&authorizer.function_arn, SERVICE, &source, event).await;
        let Ok(answer) = invoked else { return Err(failed) };
        if answer.function_error.is_some() {
            // A function that fails with just this message answers 401 by API Gateway's convention.
            let error: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
            let unauthorized = error.get("errorMessage").and_then(Value::as_str) == Some("Unauthorized");
            return Err(if unauthorized { Refused(StatusCode::UNAUTHORIZED) } else { failed });
        }
        let Ok(Value::Object(answer)) = serde_json::from_slice(&answer.payload) else { return Err(failed) };
        let (Some(principal), Some(policy)) = (answer.get("principalId"), answer.get("policyDocument"))
        else {
            return Err(failed);
        };
        if !allows(policy, &method_arn) {
            return Err(Refused(StatusCode::FORBIDDEN));
        }
        let mut context = Map::new();
        for (name, value) in answer.get("context").and_then(Value::as_object).into_iter().flatten() {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                // Only flat values may ride along.
                _ => return Err(failed),
            };
            context.insert(name.clone(), Value::String(value));
        }
        context.insert("principalId".into(), principal.clone());
        Ok(context)
    }

    pub(super) fn source_arn(&self, serving: &Serving, route_key: &str) -> String {
        let (region, account) = (&self.cx.region, &self.cx.account);
        format!("arn:aws:execute-api:{region}:{account}:{}/{}/{route_key}", serving.api_id, serving.stage)
    }
}

pub(super) const SERVICE: &str = "apigateway.amazonaws.com";

fn valid_key(request: &Request<Incoming>) -> Option<String> {
    let headers = request.headers();
    let version = headers.get(SEC_WEBSOCKET_VERSION)?;
    (request.method() == http::Method::GET && version == "13")
        .then(|| headers.get(SEC_WEBSOCKET_KEY)?.to_str().ok().map(str::to_owned))
        .flatten()
}

/// API and stage, from the path or, as on AWS, from the first label of the host.
fn address(host: &str, path: &str) -> Option<(String, String)> {
    let mut segments = path.trim_matches('/').split('/').filter(|segment| !segment.is_empty());
    let api = match host.split_once(".execute-api.") {
        Some((api, _)) => api.to_owned(),
        None => segments.next()?.to_owned(),
    };
    let stage = segments.next()?.to_owned();
    segments.next().is_none().then_some((api, stage))
}

fn allows(policy: &Value, arn: &str) -> bool {
    let all = |value: Option<&Value>| -> Vec<Value> {
        match value {
            Some(Value::Array(items)) => items.clone(),
            Some(one) => vec![one.clone()],
            None => Vec::new(),
        }
    };
    let matching: Vec<bool> = all(policy.get("Statement"))
        .iter()
        .filter(|statement| {
            let covers = |member: &str, text: &str| {
                all(statement.get(member)).iter().filter_map(Value::as_str).any(|it| glob::matches(it, text))
            };
            covers("Action", "execute-api:Invoke") && covers("Resource", arn)
        })
        .map(|statement| statement.get("Effect").and_then(Value::as_str) == Some("Allow"))
        .collect();
    !matching.is_empty() && matching.into_iter().all(|allow| allow)
}

fn refusal(status: StatusCode) -> Response<Full<Bytes>> {
    let message = match status {
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::TOO_MANY_REQUESTS => "Too Many Requests",
        status if status.is_server_error() => "Internal server error",
        status => status.canonical_reason().unwrap_or("Refused"),
    };
    let body = format!(r#"{{"message":"{message}"}}"#);
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{address, allows};

    #[test]
    fn an_api_is_named_by_the_path_or_by_the_host() {
        let found = Some(("abc".to_owned(), "local".to_owned()));
        assert_eq!(address("127.0.0.1:4620", "/abc/local"), found);
        assert_eq!(address("abc.execute-api.localhost:4620", "/local"), found);
        assert_eq!(address("127.0.0.1:4620", "/abc"), None);
        assert_eq!(address("127.0.0.1:4620", "/abc/local/more"), None);
    }

    #[test]
    fn a_denial_wins_and_silence_is_one() {
        let arn = "arn:aws:execute-api:us-east-1:0:abc/local/$connect";
        let statement = |effect| json!({"Action": "execute-api:Invoke", "Effect": effect, "Resource": "*"});
        assert!(allows(&json!({"Statement": [statement("Allow")]}), arn));
        assert!(!allows(&json!({"Statement": [statement("Allow"), statement("Deny")]}), arn));
        assert!(!allows(&json!({"Statement": []}), arn));
    }
}
