//! Whether a deployed chat answers: a client like any other connects, says hello, waits for its welcome and leaves. It
//! joins no room, so nobody is told and nothing of it stays.

use std::sync::Arc;
use std::time::Duration;

use chat_functions::contract::Handler;
use futures_util::{SinkExt, StreamExt};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::aws::Aws;
use crate::logs::{self, LogLine, LogQuery};
use crate::names::Scope;

/// Who the verification is: nobody else has such a name.
const USER: &str = "chatctl-verify-";
const SUBPROTOCOL: &str = "chat.v1";

/// For each of connecting, the upgrade and the welcome. A function that starts for the first time takes a second or
/// two, and the gateway itself gives up after 29 s.
const STEP: Duration = Duration::from_secs(12);
/// A name that was made a moment ago is not known everywhere yet.
const UNREACHABLE_FOR: Duration = Duration::from_secs(45);
/// What was changed a moment ago may not be in force everywhere yet. What is broken then is broken.
const WRONG_FOR: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(250);
/// How long to wait for log lines; CloudWatch shows them some seconds late.
const LOGS_WITHIN: Duration = Duration::from_secs(4);
const LOG_LINES: usize = 20;

/// How the verification may say who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Whoever says a name is let in.
    Name,
    /// A token for [`user`](Check::user).
    Token(String),
    /// There are tokens, and nobody here can sign one. Then the authorizer has to refuse, which shows that it runs.
    Nothing,
}

/// One verification.
#[derive(Clone, Debug)]
pub struct Check {
    pub user: String,
    pub pass: Pass,
    /// The page that the client claims to be on, if the stage wants one.
    pub origin: Option<String>,
}

impl Check {
    /// A user that nobody has been before.
    pub fn new_user() -> String {
        format!("{USER}{:08x}", rand::rng().random::<u32>())
    }
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

/// Connects to `url` and greets, again for a while if that fails. Says what was seen.
///
/// # Errors
/// What was seen last.
pub async fn verify(url: &str, check: &Check) -> Result<String, Fault> {
    let started = Instant::now();
    let mut pause = PAUSE;
    loop {
        let fault = match attempt(url, check).await {
            Ok(seen) => return Ok(seen),
            Err(fault) => fault,
        };
        let patience = if fault.unreachable { UNREACHABLE_FOR } else { WRONG_FOR };
        if started.elapsed() + pause > patience {
            return Err(fault);
        }
        sleep(pause).await;
        pause *= 2;
    }
}

async fn attempt(url: &str, check: &Check) -> Result<String, Fault> {
    let started = Instant::now();
    let request = request(url, check)?;
    let stream = within("the connection", connect(&request)).await?;
    let (mut socket, _) = match within("the upgrade", async { Ok(client_async(request, stream).await) })
        .await?
    {
        Ok(open) => open,
        Err(SocketError::Http(response)) => {
            let status = response.status();
            let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            return match (&check.pass, status.as_u16()) {
                // 401 where the function says so, 403 where its policy denies: both are its own word.
                (Pass::Nothing, 401 | 403) => Ok(format!(
                    "the authorizer refused a client without a token ({status}): API, stage, authorizer and the \
                     function connect work; a welcome was not tried, since the stage's signing key is not here"
                )),
                _ => Err(Fault::wrong(format!("the upgrade was answered with {status} {body}"))),
            };
        }
        Err(why) => return Err(Fault::wrong(format!("the upgrade failed: {why}"))),
    };
    if check.pass == Pass::Nothing {
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

fn request(url: &str, check: &Check) -> Result<Request, Fault> {
    let (url, offered) = match &check.pass {
        Pass::Name => (format!("{url}?user={}", check.user), SUBPROTOCOL.to_owned()),
        Pass::Token(token) => (url.to_owned(), format!("{SUBPROTOCOL}, bearer.{token}")),
        // A gateway that finds no subprotocol asks nobody.
        Pass::Nothing => (url.to_owned(), format!("{SUBPROTOCOL}, bearer.none")),
    };
    let malformed =
        |why: &dyn std::fmt::Display| Fault::wrong(format!("{url} cannot be connected to: {why}"));
    let mut request = url.as_str().into_client_request().map_err(|why| malformed(&why))?;
    let value = |text: &str| HeaderValue::from_str(text).map_err(|why| malformed(&why));
    request.headers_mut().insert("sec-websocket-protocol", value(&offered)?);
    if let Some(origin) = &check.origin {
        request.headers_mut().insert("origin", value(origin)?);
    }
    Ok(request)
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

async fn connect(request: &Request) -> Result<Box<dyn Duplex>, Fault> {
    let uri = request.uri();
    let host = uri.host().ok_or_else(|| Fault::wrong(format!("{uri} names no host")))?;
    let encrypted = uri.scheme_str() == Some("wss");
    let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
    let unreachable =
        |why: &dyn std::fmt::Display| Fault::unreachable(format!("{host}:{port} cannot be reached: {why}"));
    let stream = TcpStream::connect((host, port)).await.map_err(|why| unreachable(&why))?;
    // Frames are small, and each waits for an answer.
    let _ = stream.set_nodelay(true);
    if !encrypted {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|why| unreachable(&why))?;
    let config = tls().map_err(Fault::wrong)?;
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|why| unreachable(&why))?;
    Ok(Box::new(stream))
}

/// Trusts whom the system trusts, as the SDK does.
fn tls() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("there is no root certificate on this system".to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|why| why.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Says hello and returns the user that is welcomed.
async fn greet<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> Result<String, Fault> {
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

    use super::*;

    fn named() -> Check {
        Check { user: Check::new_user(), pass: Pass::Name, origin: None }
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

    #[test]
    fn a_client_says_who_it_is_as_the_stage_wants_it() {
        let url = "wss://a.execute-api.us-east-1.amazonaws.com/dev";
        let check = Check { origin: Some("https://chat.example".into()), ..named() };
        let open = request(url, &check).unwrap();
        assert_eq!(open.uri().query(), Some(format!("user={}", check.user).as_str()));
        assert_eq!(open.headers()["origin"], "https://chat.example");
        let token = request(url, &Check { pass: Pass::Token("t.t.t".into()), ..check }).unwrap();
        assert_eq!(token.headers()["sec-websocket-protocol"], "chat.v1, bearer.t.t.t");
        assert_eq!(token.uri().query(), None);
    }

    #[test]
    fn system_roots_make_a_configuration() {
        assert!(tls().is_ok());
    }
}
