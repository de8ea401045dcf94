//! Whether a deployed chat answers: a client like any other connects, says hello, waits for its welcome and leaves. It
//! joins no room, so nobody is told and nothing of it stays. Without a token it has to be refused, and the log of
//! `connect` has to show by whom.

use std::time::Duration;

use chat_functions::contract::{Handler, REFUSED};
use futures_util::{SinkExt, StreamExt};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::aws::Aws;
use crate::error::Error;
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

/// Connects to `url` and greets, again for a while if that fails, or if a client without a token was refused and
/// `was_asked` finds no sign that it was the function that did so. Says what was seen. The time for which faults are tried
/// again begins with the first of them in a row: what was spent on reading logs before is not theirs.
///
/// # Errors
/// What was seen last.
pub async fn verify(
    url: &str,
    caller: &Caller,
    age: Age,
    was_asked: impl AsyncFn() -> Result<bool, Error>,
) -> Result<String, Fault> {
    let started = Instant::now();
    let mut faulty_since = None;
    let mut pause = PAUSE;
    loop {
        let begun = Instant::now();
        let (outcome, since) = match attempt(url, caller).await {
            Ok(Seen::Welcome(seen)) => return Ok(seen),
            Ok(Seen::Refusal(seen)) => {
                faulty_since = None;
                match was_asked().await {
                    Ok(true) => {
                        return Ok(format!(
                            "{seen}; it was the function connect that was asked, so API, stage, authorizer and function \
                             work"
                        ));
                    }
                    Ok(false) => (
                        Ok(format!("{seen}; the log of connect does not show yet that it was asked")),
                        started,
                    ),
                    // To try again would not make it readable.
                    Err(why) => {
                        return Ok(format!(
                            "{seen}; whether connect was asked is not known, since its log cannot be read: {why}"
                        ));
                    }
                }
            }
            Err(fault) => (Err(fault), *faulty_since.get_or_insert(begun)),
        };
        let patience = match (&outcome, age) {
            (Err(Fault { unreachable: true, .. }), _) => UNREACHABLE_FOR,
            (_, Age::New) => WRONG_FOR_IF_NEW,
            (_, Age::Served) => WRONG_FOR,
        };
        if since.elapsed() + pause > patience {
            return outcome;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// What is as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Welcome(String),
    /// Somebody refused a client without a token, perhaps the gateway by itself.
    Refusal(String),
}

async fn attempt(url: &str, caller: &Caller) -> Result<Seen, Fault> {
    let started = Instant::now();
    let dialled = within("the connection", async { Ok(dial(url, caller).await) }).await?;
    let mut socket = match (dialled, &caller.pass) {
        (Ok(socket), _) => socket,
        // 401 where the function says so, 403 where its policy denies.
        (Err(NoSocket::Refused { status: status @ (401 | 403), .. }), Pass::Nothing) => {
            return Ok(Seen::Refusal(format!(
                "a client without a token was refused ({status}); a welcome was not tried, since the stage's signing \
                 key is not here"
            )));
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
    let waited = started.elapsed().as_millis();
    Ok(Seen::Welcome(format!("connected, said hello and was welcomed as {user} after {waited} ms")))
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

/// Whether `version` of the function that lets clients in says that it refused one since `since_ms`: a gateway may
/// refuse without asking, and the version before may still be asked by others.
pub(crate) async fn was_asked(aws: &Aws, scope: &Scope, version: &str, since_ms: i64) -> Result<bool, Error> {
    let pattern = Some(REFUSED.to_owned());
    let query = LogQuery { functions: vec![Handler::Connect], since_ms, pattern, limit: None };
    let started = Instant::now();
    loop {
        let lines = logs::query(aws, scope, &query).await?;
        if lines.iter().any(|line| is_refusal_by(line, version)) {
            return Ok(true);
        }
        if started.elapsed() > LOGS_WITHIN {
            return Ok(false);
        }
        sleep(PAUSE * 2).await;
    }
}

fn is_refusal_by(line: &LogLine, version: &str) -> bool {
    let said: Value = serde_json::from_str(&line.message).unwrap_or_default();
    line.version() == Some(version) && said["message"] == REFUSED
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
        let seen = verify(&url, &named(), Age::Served, async || Ok(false)).await.unwrap();
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

    /// A server that answers each connection with the next of these statuses, and with the last for ever.
    async fn refusing(statuses: &'static [&'static str]) -> (String, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/dev", listener.local_addr().unwrap());
        let refusing = tokio::spawn(async move {
            for n in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await;
                let status = statuses[n.min(statuses.len() - 1)];
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (url, refusing)
    }

    fn nobody() -> Caller {
        Caller { pass: Pass::Nothing, ..named() }
    }

    #[tokio::test]
    async fn a_refusal_is_tried_again_until_the_function_is_seen_to_have_refused() {
        let (url, refusing) = refusing(&["403 Forbidden"]).await;
        let looks = AtomicUsize::new(0);
        let asked_at_last = async || Ok(looks.fetch_add(1, Ordering::Relaxed) == 1);

        let seen = verify(&url, &nobody(), Age::Served, asked_at_last).await.unwrap();

        assert!(seen.contains("refused (403)") && seen.contains("connect that was asked"), "{seen}");
        assert_eq!(looks.load(Ordering::Relaxed), 2);
        refusing.abort();
    }

    #[tokio::test]
    async fn a_fault_is_tried_again_however_long_a_log_was_read_before() {
        let (url, refusing) = refusing(&["403 Forbidden", "503 Service Unavailable", "403 Forbidden"]).await;
        let looks = AtomicUsize::new(0);
        let slow = async || {
            let again = looks.fetch_add(1, Ordering::Relaxed) > 0;
            // A refusal is tried again after that; a fault would not be, if this counted for it.
            if !again {
                sleep(WRONG_FOR - PAUSE * 2).await;
            }
            Ok(again)
        };

        let seen = verify(&url, &nobody(), Age::Served, slow).await.unwrap();

        assert!(seen.contains("connect that was asked"), "{seen}");
        refusing.abort();
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_read_is_said_and_not_waited_for() {
        let (url, refusing) = refusing(&["403 Forbidden"]).await;
        let looks = AtomicUsize::new(0);
        let denied = async || {
            looks.fetch_add(1, Ordering::Relaxed);
            Err(Error::bug("not authorized"))
        };
        let seen = verify(&url, &nobody(), Age::Served, denied).await.unwrap();
        assert!(seen.contains("cannot be read") && seen.contains("not authorized"), "{seen}");
        assert_eq!(looks.load(Ordering::Relaxed), 1);
        refusing.abort();
    }

    #[test]
    fn only_a_refusal_by_the_version_itself_shows_that_it_was_asked() {
        let line = |stream: &str, message: &str| LogLine {
            ts_ms: 0,
            function: "connect",
            stream: stream.to_owned(),
            message: message.to_owned(),
            event_id: String::new(),
        };
        let refused = r#"{"level":"WARN","requestId":"r","message":"refused","why":"no token"}"#;
        assert!(is_refusal_by(&line("2026/01/31/[7]0af1", refused), "7"));
        for (stream, message) in [
            ("2026/01/31/[6]0af1", refused),
            ("2026/01/31/[17]0af1", refused),
            ("2026/01/31/[$LATEST]0af1", refused),
            ("2026/01/31/[7]0af1", "START RequestId: r Version: 7"),
            ("2026/01/31/[7]0af1", r#"{"message":"connected","user":"refused"}"#),
            (
                "2026/01/31/[7]0af1",
                r#"{"level":"ERROR","message":"the handler cannot run","why":"it refused"}"#,
            ),
        ] {
            assert!(!is_refusal_by(&line(stream, message), "7"), "{stream} {message}");
        }
    }
}
