//! One connection: what it receives, what is sent to it, and how it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::WebSockets;
use super::event;
use super::handshake::SERVICE;
use crate::apigateway::{ServedRoute, Serving, Target};

/// How much may wait for a client that does not read. Beyond it posts are refused, as API Gateway does when its
/// buffer for the client is full.
const BACKLOG_BYTES: usize = 256 * 1024;
/// How long a close is waited for to be confirmed.
const CLOSING: Duration = Duration::from_secs(1);
/// The code of a connection that ended without a close frame: RFC 6455, 7.1.5.
pub(super) const ABNORMAL: u16 = 1006;
/// The code of a close frame without a code.
const NO_STATUS: u16 = 1005;
const NO_STATUS_REASON: &str = "Client-side close frame status not set";
const GOING_AWAY: &str = "Going away";
const DELETED: &str = "Connection closed by the API";

pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What is known of a connection, for as long as it lives.
pub(super) struct Session {
    pub(super) id: String,
    pub(super) api: String,
    pub(super) stage: String,
    pub(super) host: String,
    pub(super) user_agent: Option<String>,
    pub(super) connected_at_ms: i64,
    pub(super) authorizer: Option<Map<String, Value>>,
    last_active_ms: AtomicI64,
    outgoing: UnboundedSender<Outgoing>,
    waiting_bytes: AtomicUsize,
    closing: Notify,
}

/// What waits to be sent.
pub(super) enum Outgoing {
    Text(Utf8Bytes),
    Close,
}

impl Session {
    pub(super) fn new(
        id: String,
        serving: &Serving,
        host: String,
        user_agent: Option<String>,
    ) -> (Self, UnboundedReceiver<Outgoing>) {
        let (outgoing, receiver) = mpsc::unbounded_channel();
        let now = now_ms();
        let session = Self {
            id,
            api: serving.api_id.clone(),
            stage: serving.stage.clone(),
            host,
            user_agent,
            connected_at_ms: now,
            authorizer: None,
            last_active_ms: AtomicI64::new(now),
            outgoing,
            waiting_bytes: AtomicUsize::new(0),
            closing: Notify::new(),
        };
        (session, receiver)
    }

    /// Queues a message. The bytes that wait are bounded, not the senders: whoever posts never waits for a slow client.
    pub(super) fn send(&self, text: Utf8Bytes) -> Result<(), Unsent> {
        let size = text.len();
        let before = self.waiting_bytes.fetch_add(size, Ordering::AcqRel);
        if before > 0 && before + size > BACKLOG_BYTES {
            self.waiting_bytes.fetch_sub(size, Ordering::AcqRel);
            return Err(Unsent::Full);
        }
        self.outgoing.send(Outgoing::Text(text)).map_err(|_| Unsent::Gone)
    }

    pub(super) fn close(&self) -> Result<(), Unsent> {
        self.outgoing.send(Outgoing::Close).map_err(|_| Unsent::Gone)?;
        self.closing.notify_one();
        Ok(())
    }

    /// Returns a while after a close was asked for. What was posted before it has had its time by then: a client that
    /// reads nothing must not keep its connection.
    async fn overdue(&self) {
        self.closing.notified().await;
        tokio::time::sleep(CLOSING).await;
    }

    pub(super) fn last_active_ms(&self) -> i64 {
        self.last_active_ms.load(Ordering::Relaxed)
    }

    fn touch(&self) {
        self.last_active_ms.store(now_ms(), Ordering::Relaxed);
    }
}

/// Why something was not queued.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    Full,
    Gone,
}

/// How a connection ended, as `$disconnect` is told.
struct End {
    code: u16,
    reason: String,
    /// The frame that the client still has to get.
    farewell: Option<CloseCode>,
}

impl End {
    fn ours(code: CloseCode, reason: &str) -> Self {
        Self { code: code.into(), reason: reason.to_owned(), farewell: Some(code) }
    }

    fn lost() -> Self {
        Self { code: ABNORMAL, reason: "Connection closed abnormally".to_owned(), farewell: None }
    }
}

pub(super) async fn run(
    sockets: Arc<WebSockets>,
    session: Arc<Session>,
    mut socket: Socket,
    mut outgoing: UnboundedReceiver<Outgoing>,
) {
    let end = converse(&sockets, &session, &mut socket, &mut outgoing).await;
    sockets.forget(&session);
    if let Some(code) = end.farewell {
        say_goodbye(&mut socket, code, &end.reason).await;
    }
    drop(socket);
    self::end(&sockets, &session, end.code, &end.reason).await;
}

async fn converse(
    sockets: &Arc<WebSockets>,
    session: &Arc<Session>,
    socket: &mut Socket,
    outgoing: &mut UnboundedReceiver<Outgoing>,
) -> End {
    let settings = &sockets.cx.settings;
    let last = Instant::now() + settings.max_connection;
    let mut idle = Instant::now() + settings.idle_timeout;
    loop {
        tokio::select! {
            frame = socket.next() => match frame {
                Some(Ok(Message::Text(text))) => {
                    session.touch();
                    idle = Instant::now() + settings.idle_timeout;
                    // One task a message: those of one connection run at the same time, as on AWS.
                    let (sockets_, session) = (Arc::clone(sockets), Arc::clone(session));
                    sockets.tasks.spawn(async move { receive(&sockets_, &session, &text).await });
                }
                Some(Ok(Message::Binary(_))) => return End::ours(CloseCode::Unsupported, "Binary is not supported"),
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) = frame
                        .map_or((NO_STATUS, NO_STATUS_REASON.to_owned()), |frame| (frame.code.into(), frame.reason.to_string()));
                    // The confirmation was queued by the library; flushing sends it.
                    drop(tokio::time::timeout(CLOSING, socket.flush()).await);
                    return End { code, reason, farewell: None };
                }
                // Protocol pings are answered by the library and do not count as activity.
                Some(Ok(_)) => drop(socket.flush().await),
                Some(Err(WsError::Capacity(_))) => return End::ours(CloseCode::Size, "Message too long"),
                Some(Err(WsError::Utf8(_))) => return End::ours(CloseCode::Invalid, "Invalid UTF-8"),
                // What the library calls a client that is gone without a close frame.
                Some(Err(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => return End::lost(),
                Some(Err(WsError::Protocol(_))) => return End::ours(CloseCode::Protocol, "Protocol error"),
                Some(Err(_)) | None => return End::lost(),
            },
            next = outgoing.recv() => {
                let Some(next) = next else { return End::lost() };
                let sent = tokio::select! {
                    sent = send(session, socket, next, outgoing) => sent,
                    () = sockets.stop.cancelled() => return End::ours(CloseCode::Away, GOING_AWAY),
                    () = tokio::time::sleep_until(last) => return End::ours(CloseCode::Away, GOING_AWAY),
                    () = session.overdue() => return End::ours(CloseCode::Normal, DELETED),
                };
                match sent {
                    Ok(true) => {
                        session.touch();
                        idle = Instant::now() + settings.idle_timeout;
                    }
                    Ok(false) => return End::ours(CloseCode::Normal, DELETED),
                    Err(_) => return End::lost(),
                }
            }
            () = tokio::time::sleep_until(idle.min(last)) => return End::ours(CloseCode::Away, GOING_AWAY),
            () = sockets.stop.cancelled() => return End::ours(CloseCode::Away, GOING_AWAY),
        }
    }
}

/// Sends what waits, in as few writes as it takes. Returns whether the connection stays open.
async fn send(
    session: &Session,
    socket: &mut Socket,
    first: Outgoing,
    outgoing: &mut UnboundedReceiver<Outgoing>,
) -> Result<bool, WsError> {
    let mut next = Some(first);
    while let Some(item) = next {
        match item {
            Outgoing::Text(text) => {
                let size = text.len();
                socket.feed(Message::Text(text)).await?;
                session.waiting_bytes.fetch_sub(size, Ordering::AcqRel);
            }
            Outgoing::Close => {
                socket.flush().await?;
                return Ok(false);
            }
        }
        next = outgoing.try_recv().ok();
    }
    socket.flush().await?;
    Ok(true)
}

async fn say_goodbye(socket: &mut Socket, code: CloseCode, reason: &str) {
    let frame = CloseFrame { code, reason: reason.to_owned().into() };
    let goodbye = async {
        if socket.close(Some(frame)).await.is_err() {
            return;
        }
        // What the client still sends is read and dropped: with unread bytes the system would reset the connection,
        // and the close frame might be lost.
        let mut rest = [0; 4096];
        let io = socket.get_mut();
        while io.read(&mut rest).await.is_ok_and(|read| read > 0) {}
    };
    drop(tokio::time::timeout(CLOSING, goodbye).await);
}

/// Tells `$disconnect`, once, and as best effort as on AWS: nobody hears of a failure.
pub(super) async fn end(sockets: &WebSockets, session: &Session, code: u16, reason: &str) {
    sockets.forget(session);
    if sockets.cx.faults.drops_disconnect(&session.id) {
        return;
    }
    let Some(serving) = sockets.apigateway.serving(&session.api, &session.stage) else { return };
    let Some(route) = serving.routes.get("$disconnect") else { return };
    let Some(Target::Lambda { function_arn, .. }) = &route.target else { return };
    let event = event::disconnect(&sockets.cx, &serving, session, code, reason);
    let source = sockets.source_arn(&serving, "$disconnect");
    drop(sockets.lambda.invoke_from_service(function_arn, SERVICE, &source, event).await);
}

/// One frame from the client: to the route that it selects, and back what the route answers.
async fn receive(sockets: &WebSockets, session: &Session, text: &str) {
    let Some(serving) = sockets.apigateway.serving(&session.api, &session.stage) else {
        return fail(session, "Forbidden", &super::new_id());
    };
    let route = select(&serving, text);
    if !sockets.admits(&serving, route) {
        return fail(session, "Too Many Requests", &super::new_id());
    }
    let Some(route) = route else {
        return fail(session, "Forbidden", &super::new_id());
    };
    let answer = match &route.target {
        Some(Target::Lambda { function_arn, timeout }) => {
            let (event, request_id) = event::message(&sockets.cx, &serving, session, &route.key, text);
            let source = sockets.source_arn(&serving, &route.key);
            let invoked = sockets.lambda.invoke_from_service(function_arn, SERVICE, &source, event);
            match tokio::time::timeout(*timeout, invoked).await {
                Ok(Ok(invoked)) if invoked.function_error.is_none() => match body(&invoked.payload) {
                    Some(body) => body,
                    None => return fail(session, "Internal server error", &request_id),
                },
                Ok(Err(error)) if error.0.status == StatusCode::TOO_MANY_REQUESTS => {
                    return fail(session, "Too Many Requests", &request_id);
                }
                Err(_) => return fail(session, "Endpoint request timed out", &request_id),
                _ => return fail(session, "Internal server error", &request_id),
            }
        }
        Some(Target::Mock { responses }) => {
            let chosen = responses.iter().find(|(key, _)| key == "/200/");
            let chosen = chosen.or_else(|| responses.iter().find(|(key, _)| key == "$default"));
            match chosen {
                Some((_, template)) => template.clone().unwrap_or_default(),
                None => return fail(session, "Internal server error", &super::new_id()),
            }
        }
        None => return fail(session, "Internal server error", &super::new_id()),
    };
    if route.responds && !answer.is_empty() {
        // A client whose buffer is full loses its answer, as it would lose a post.
        drop(session.send(answer.into()));
    }
}

fn select<'a>(serving: &'a Serving, text: &str) -> Option<&'a ServedRoute> {
    let body: Option<Value> = serde_json::from_str(text).ok();
    let selected = body
        .as_ref()
        .and_then(|body| serving.selection.iter().try_fold(body, |value, name| value.get(name)))
        .and_then(Value::as_str)
        // The routes of the connection itself are not for frames to select.
        .filter(|key| !key.starts_with('$'));
    selected.and_then(|key| serving.routes.get(key)).or_else(|| serving.routes.get("$default"))
}

/// The body of a proxy integration's answer. An answer that is no such object fails the integration.
fn body(payload: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Answer {
        #[serde(rename = "statusCode")]
        _status: serde::de::IgnoredAny,
        #[serde(default)]
        body: Option<String>,
    }
    serde_json::from_slice::<Answer>(payload).ok().map(|answer| answer.body.unwrap_or_default())
}

/// What the gateway itself says when a route could not answer. Nothing of the cause is told.
fn fail(session: &Session, message: &str, request_id: &str) {
    let frame = json!({ "message": message, "connectionId": session.id, "requestId": request_id });
    drop(session.send(frame.to_string().into()));
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
