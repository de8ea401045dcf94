//! Whether a deployed chat answers: a client like any other connects, says hello, waits for its welcome and leaves. It
//! joins no room, so nobody is told and nothing of it stays.

use std::time::Duration;

use chat_functions::contract::Handler;
use futures_util::{SinkExt, StreamExt};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::aws::Aws;
use crate::logs::{self, LogLine, LogQuery};
use crate::names::Scope;
use crate::socket::{Caller, NoSocket, Pass, Socket, dial};

/// Who the verification is: nobody else has such a name.
const USER: &str = "chatctl-verify-";

/// For each of connecting and the welcome. A function that starts for the first time takes a second or
/// two, and the gateway itself gives up after 29 s.
const STEP: Duration = Duration::from_secs(12);
/// A name that was made a moment ago is not known everywhere yet.
const UNREACHABLE_FOR: Duration = Duration::from_secs(45);
/// What was changed a moment ago may not be in force everywhere yet. What is broken then is broken.
const WRONG_FOR: Duration = Duration::from_secs(5);
/// Where everything is new, policies are as well, and IAM takes its time to spread them.
const WRONG_FOR_IF_NEW: Duration = Duration::from_secs(24);
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(4);
/// How long to wait for log lines; CloudWatch shows them some seconds late.
const LOGS_WITHIN: Duration = Duration::from_secs(4);
const LOG_LINES: usize = 20;

/// A user that nobody has been before.
pub fn new_user() -> String {
    format!("{USER}{:08x}", rand::rng().random::<u32>())
}

/// What was seen instead of a welcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub saw: String,
    /// Nothing answered at all.
    unreachable: bool,
}

impl Fault {
    fn wrong(saw: impl Into<String>) -> Self {
        Self { saw: saw.into(), unreachable: false }
    }

    fn unreachable(saw: impl Into<String>) -> Self {
        Self { saw: saw.into(), unreachable: true }
    }
}

/// Whether what is verified has served before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    New,
    Served,
}

/// Connects to `url` and greets, again for a while if that fails. Says what was seen.
///
/// # Errors
/// What was seen last.
pub async fn verify(url: &str, caller: &Caller, age: Age) -> Result<String, Fault> {
    let started = Instant::now();
    let mut pause = PAUSE;
    loop {
        let fault = match attempt(url, caller).await {
            Ok(seen) => return Ok(seen),
            Err(fault) => fault,
        };
        let patience = match (fault.unreachable, age) {
            (true, _) => UNREACHABLE_FOR,
            (false, Age::New) => WRONG_FOR_IF_NEW,
            (false, Age::Served) => WRONG_FOR,
        };
        if started.elapsed() + pause > patience {
            return Err(fault);
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn attempt(url: &str, caller: &Caller) -> Result<String, Fault> {
    let started = Instant::now();
    let dialled = within("the connection", async { Ok(dial(url, caller).await) }).await?;
    let mut socket = match (dialled, &caller.pass) {
        (Ok(socket), _) => socket,
        // 401 where the function says so, 403 where its policy denies.
        (Err(NoSocket::Refused { status: status @ (401 | 403), .. }), Pass::Nothing) => {
            return Ok(format!(
                "a client without a token was refused ({status}); a welcome was not tried, since the stage's signing \
                 key is not here"
            ));
        }
        (Err(NoSocket::Unreachable(why)), _) => return Err(Fault::unreachable(why)),
        (Err(why), _) => return Err(Fault::wrong(why.to_string())),
    };
    if caller.pass == Pass::Nothing {
        return Err(Fault::wrong("a client was let in without a token"));
    }
    let welcome = greet(&mut socket).await;
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "verified".into() };
    // It was let in, so it leaves in order; what it has seen stays true if that fails.
    let _ = timeout(Duration::from_secs(2), async {
        socket.close(Some(goodbye)).await?;
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<_, SocketError>(())
    })
    .await;
    let user = welcome?;
    Ok(format!("connected, said hello and was welcomed as {user} after {} ms", started.elapsed().as_millis()))
}

/// Says hello and returns the user that is welcomed.
async fn greet(socket: &mut Socket) -> Result<String, Fault> {
    const ID: &str = "chatctl-verify";
    let hello = json!({ "action": "hello", "id": ID, "resume": [] }).to_string();
    let sent = socket.send(Message::text(hello)).await;
    sent.map_err(|why| {
        Fault::wrong(format!("the connection was opened, but hello could not be sent: {why}"))
    })?;
    within("the welcome", async {
        while let Some(message) = socket.next().await {
            let text = match message {
                Ok(Message::Text(text)) => text,
                Ok(Message::Close(frame)) => {
                    let how = frame.map_or_else(|| "without a reason".to_owned(), |frame| frame.to_string());
                    return Err(Fault::wrong(format!("hello was answered with a close: {how}")));
                }
                Ok(_) => continue,
                Err(why) => return Err(Fault::wrong(format!("the connection ended after hello: {why}"))),
            };
            let frame: Value = serde_json::from_str(&text).unwrap_or_default();
            if frame["id"] == ID && frame["type"] == "welcome" {
                return Ok(frame["user"].as_str().unwrap_or_default().to_owned());
            }
            // An error of the chat has the id, one of the gateway has no type.
            if frame["id"] == ID || frame.get("type").is_none() {
                return Err(Fault::wrong(format!("hello was answered with {text}")));
            }
        }
        Err(Fault::wrong("the connection ended after hello"))
    })
    .await
}

async fn within<T>(what: &str, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let late = |_| Fault::unreachable(format!("{what} took more than {} s", STEP.as_secs()));
    timeout(STEP, work).await.map_err(late)?
}

/// Whether the function that lets clients in was asked since `since_ms`: a gateway may refuse without asking.
pub(crate) async fn was_asked(aws: &Aws, scope: &Scope, since_ms: i64) -> bool {
    let query = LogQuery { functions: vec![Handler::Connect], since_ms, pattern: None, limit: Some(1) };
    let started = Instant::now();
    loop {
        if logs::query(aws, scope, &query).await.is_ok_and(|lines| !lines.is_empty()) {
            return true;
        }
        if started.elapsed() > LOGS_WITHIN {
            return false;
        }
        sleep(PAUSE * 2).await;
    }
}

/// What the functions logged since `since_ms`: the newest lines, oldest first, without those that only say that a function
/// ran. Empty if nothing comes in time.
pub(crate) async fn matching_logs(aws: &Aws, scope: &Scope, since_ms: i64) -> Vec<LogLine> {
    // Lambda's own lines are three of four.
    let limit = Some(LOG_LINES * 4);
    let query = LogQuery { functions: Handler::ALL.to_vec(), since_ms, pattern: None, limit };
    let started = Instant::now();
    loop {
        // What cannot be read is not what went wrong.
        let mut lines = logs::query(aws, scope, &query).await.unwrap_or_default();
        lines.retain(|line| !line.is_platform());
        lines.drain(..lines.len().saturating_sub(LOG_LINES));
        if !lines.is_empty() || started.elapsed() > LOGS_WITHIN {
            return lines;
        }
        sleep(PAUSE * 2).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio_tungstenite::accept_hdr_async;
    use tokio_tungstenite::tungstenite::handshake::server::{Request as Asked, Response};
    use tokio_tungstenite::tungstenite::http::HeaderValue;

    use super::*;
    use crate::socket::SUBPROTOCOL;

    fn named() -> Caller {
        Caller { user: new_user(), pass: Pass::Name, origin: None }
    }

    /// A server that accepts one connection, answers the first frame with `answer`, and notes what it was told.
    async fn server(answer: &'static str) -> (String, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/dev", listener.local_addr().unwrap());
        let told = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            // A client refuses a server that selects none of what it offered.
            #[expect(clippy::result_large_err, reason = "the signature is tungstenite's")]
            let select = |_: &Asked, mut answer: Response| {
                answer.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
                Ok(answer)
            };
            let mut socket = accept_hdr_async(stream, select).await.unwrap();
            let mut told = Vec::new();
            while let Some(Ok(message)) = socket.next().await {
                told.push(message.to_string());
                if told.len() == 1 {
                    socket.send(Message::text(answer)).await.unwrap();
                }
            }
            told
        });
        (url, told)
    }

    #[tokio::test]
    async fn a_welcome_is_what_is_wanted_and_the_client_leaves_in_order() {
        let (url, told) = server(r#"{"type":"welcome","id":"chatctl-verify","user":"x"}"#).await;
        let seen = attempt(&url, &named()).await.unwrap();
        assert!(seen.contains("welcomed as x"), "{seen}");
        let told = told.await.unwrap();
        assert!(told[0].contains(r#""action":"hello""#), "{told:?}");
        assert_eq!(told.len(), 2, "hello and goodbye: {told:?}");
    }

    #[tokio::test]
    async fn the_gateways_own_error_is_shown() {
        let (url, _) =
            server(r#"{"message":"Internal server error","connectionId":"c","requestId":"r"}"#).await;
        let fault = attempt(&url, &named()).await.unwrap_err();
        assert!(fault.saw.contains("Internal server error") && !fault.unreachable, "{fault:?}");
    }

    #[tokio::test]
    async fn nobody_there_is_told_from_somebody_who_answers_wrongly() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/dev", listener.local_addr().unwrap());
        drop(listener);
        let fault = attempt(&url, &named()).await.unwrap_err();
        assert!(fault.unreachable && fault.saw.contains("cannot be reached"), "{fault:?}");
    }
}
