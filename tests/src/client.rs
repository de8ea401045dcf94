//! A client as a story tells it: `alice.join("r1").await`, `bob.expect_message("r1", "hi").await`. Every frame goes
//! past the judge; waiting has a deadline and says what came instead.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::judge::{Judge, Sender};

/// For whatever a test waits: long, since only a failing test waits so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How to connect: everything that a client may say before it is let in.
#[derive(Clone, Debug, Default)]
pub struct Hail {
    pub user: Option<String>,
    pub protocols: Vec<String>,
    pub origin: Option<String>,
    pub headers: Vec<(String, String)>,
}

impl Hail {
    pub fn user(user: &str) -> Self {
        Self { user: Some(user.to_owned()), protocols: vec!["chat.v1".to_owned()], ..Self::default() }
    }

    pub fn token(token: &str) -> Self {
        Self { protocols: vec!["chat.v1".to_owned(), format!("bearer.{token}")], ..Self::default() }
    }

    pub fn origin(mut self, origin: &str) -> Self {
        self.origin = Some(origin.to_owned());
        self
    }
}

/// The upgrade was refused with this status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub u16);

/// What a send was answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub id: String,
    pub room: String,
    pub seq: u64,
    pub dup: bool,
}

/// A connected client.
pub struct Client {
    pub user: String,
    /// The subprotocol that the server chose.
    pub protocol: Option<String>,
    sink: SplitSink<Socket, Message>,
    inbox: Arc<Inbox>,
    reader: JoinHandle<()>,
    judge: Arc<Judge>,
}

/// Numbers of frames over all clients: two devices of a user must not repeat each other's ids.
static FRAMES: AtomicU64 = AtomicU64::new(1);

/// What has arrived and nobody has asked for yet.
#[derive(Default)]
struct Inbox {
    state: Mutex<Arrived>,
    changed: Notify,
}

#[derive(Default)]
struct Arrived {
    frames: VecDeque<Value>,
    /// All of them, in the order of their arrival.
    all: Vec<Value>,
    closed: Option<Option<CloseFrame>>,
    /// What the judge objected to.
    wrong: Option<String>,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Connects, and is let in or not.
    ///
    /// # Errors
    /// The status of the refusal.
    pub async fn connect(url: &str, judge: Arc<Judge>, hail: &Hail) -> Result<Self, Refused> {
        let url = match &hail.user {
            Some(user) => format!("{url}?user={user}"),
            None => url.to_owned(),
        };
        let mut request = url.as_str().into_client_request().unwrap_or_else(|why| panic!("{url}: {why}"));
        let headers = request.headers_mut();
        let value = |text: &str| HeaderValue::from_str(text).expect("a test's header is a header");
        if !hail.protocols.is_empty() {
            headers.insert("sec-websocket-protocol", value(&hail.protocols.join(", ")));
        }
        if let Some(origin) = &hail.origin {
            headers.insert("origin", value(origin));
        }
        for (name, text) in &hail.headers {
            headers.append(HeaderName::try_from(name).expect("a test's header has a name"), value(text));
        }
        let connecting = timeout(PATIENCE, connect_async(request));
        let (socket, response) = match connecting.await.expect("the upgrade was not answered") {
            Ok(open) => open,
            Err(Error::Http(response)) => return Err(Refused(response.status().as_u16())),
            Err(why) => panic!("failed to connect to {url}: {why}"),
        };
        let protocol = response.headers().get("sec-websocket-protocol");
        let protocol = protocol.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let inbox = Arc::new(Inbox::default());
        let (sink, stream) = socket.split();
        let reader = tokio::spawn(read(stream, Arc::clone(&inbox), Arc::clone(&judge)));
        let user = hail.user.clone().unwrap_or_default();
        Ok(Self { user, protocol, sink, inbox, reader, judge })
    }

    /// Greets, and returns the welcome. `resume` names rooms and the last `seq` that this client has of each.
    pub async fn hello(&mut self, resume: &[(&str, u64)]) -> Value {
        let rooms: Vec<Value> = resume.iter().map(|(room, seq)| json!({"room": room, "seq": seq})).collect();
        let welcome = self.ask(json!({"action": "hello", "resume": rooms})).await;
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        if let Some(user) = welcome["user"].as_str() {
            user.clone_into(&mut self.user);
        }
        welcome
    }

    pub async fn join(&mut self, room: &str) {
        let ack = self.ask(json!({"action": "join", "room": room})).await;
        assert_eq!((&ack["type"], &ack["room"]), (&json!("ack"), &json!(room)), "{ack}");
    }

    pub async fn leave(&mut self, room: &str) {
        let ack = self.ask(json!({"action": "leave", "room": room})).await;
        assert_eq!((&ack["type"], &ack["room"]), (&json!("ack"), &json!(room)), "{ack}");
    }

    /// Says something in a room.
    pub async fn send(&mut self, room: &str, text: &str) -> Sent {
        let id = self.next_id();
        self.send_as(&id, room, text).await
    }

    /// Says something under an id of the caller's choice.
    pub async fn send_as(&mut self, id: &str, room: &str, text: &str) -> Sent {
        let frame = json!({"action": "send", "id": id, "room": room, "body": {"text": text}});
        sent(&self.ask(frame).await)
    }

    /// Says something to somebody.
    pub async fn send_to(&mut self, user: &str, text: &str) -> Sent {
        sent(&self.ask(json!({"action": "send", "to": user, "body": {"text": text}})).await)
    }

    /// Asks for messages; `range` has `before`, `after` and `limit`.
    pub async fn history(&mut self, room: &str, range: Value) -> Value {
        let mut frame = json!({"action": "history", "room": room});
        for (key, value) in range.as_object().into_iter().flatten() {
            frame[key] = value.clone();
        }
        let batch = self.ask(frame).await;
        assert_eq!(batch["type"], "batch", "{batch}");
        batch
    }

    /// Who is in a room.
    pub async fn who(&mut self, room: &str) -> Vec<String> {
        let answer = self.ask(json!({"action": "who", "room": room})).await;
        assert_eq!(answer["type"], "who", "{answer}");
        answer["users"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    }

    /// Sends a frame as the document describes it, and waits for the answer to its id.
    pub async fn ask(&mut self, mut frame: Value) -> Value {
        if frame.get("id").is_none() {
            frame["id"] = json!(self.next_id());
        }
        if let Err(why) = self.judge.name(Sender::Client, &frame) {
            panic!("the test itself sends {why}");
        }
        self.ask_anyway(&frame).await
    }

    /// Sends a frame that may be wrong on purpose, and waits for the answer to its id.
    pub async fn ask_anyway(&mut self, frame: &Value) -> Value {
        let id = frame["id"].clone();
        self.say(&frame.to_string()).await;
        self.expect(&format!("the answer to {frame}"), |answer| answer.get("id") == Some(&id)).await
    }

    /// The code that a frame is refused with.
    pub async fn refusal(&mut self, frame: Value) -> String {
        let mut frame = frame;
        if frame.get("id").is_none() {
            frame["id"] = json!(self.next_id());
        }
        let answer = self.ask_anyway(&frame).await;
        assert_eq!(answer["type"], "error", "{frame} was answered with {answer}");
        answer["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Sends any text.
    pub async fn say(&mut self, text: &str) {
        self.sink.send(Message::text(text)).await.unwrap_or_else(|why| panic!("{}: {why}", self.user));
    }

    /// Sends any frame. The server may have closed already.
    pub async fn say_message(&mut self, message: Message) {
        let _ = self.sink.send(message).await;
    }

    /// The next error frame, whatever it answers.
    pub async fn expect_error(&mut self) -> Value {
        self.expect("an error", |frame| frame["type"] == "error").await
    }

    /// The next message with this text in this room.
    pub async fn expect_message(&mut self, room: &str, text: &str) -> Value {
        let wanted = |frame: &Value| {
            frame["type"] == "message" && frame["room"] == room && frame["body"]["text"] == text
        };
        self.expect(&format!("{text:?} in {room}"), wanted).await
    }

    /// Waits for a frame, takes it, and leaves the others for later.
    pub async fn expect(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let find = async {
            loop {
                let changed = self.inbox.changed.notified();
                {
                    let mut arrived = self.inbox.lock();
                    if let Some(wrong) = &arrived.wrong {
                        panic!("{} received {wrong}", self.user);
                    }
                    if let Some(at) = arrived.frames.iter().position(&wanted) {
                        return arrived.frames.remove(at).unwrap_or_default();
                    }
                    if let Some(close) = &arrived.closed {
                        panic!("{} waits for {what}, but was closed with {close:?}", self.user);
                    }
                }
                changed.await;
            }
        };
        timeout(PATIENCE, find).await.unwrap_or_else(|_| {
            panic!("{} waited {PATIENCE:?} for {what}; unread: {:?}", self.user, self.inbox.lock().frames)
        })
    }

    /// A round trip: what the server had posted before is in the inbox afterwards.
    pub async fn fence(&mut self) {
        let code = self.refusal(json!({"action": "who", "room": "fence.nobody.is.here"})).await;
        assert_eq!(code, "NOT_IN_ROOM");
    }

    /// Frames that have arrived and that nobody asked for, of one type.
    pub fn unread(&self, kind: &str) -> Vec<Value> {
        self.inbox.lock().frames.iter().filter(|frame| frame["type"] == kind).cloned().collect()
    }

    /// Everything that has arrived since the connection was opened.
    pub fn received(&self) -> Vec<Value> {
        self.inbox.lock().all.clone()
    }

    /// Waits until the server closes, and says how. `None` is an end without a close frame.
    pub async fn closed(&mut self) -> Option<u16> {
        let end = async {
            loop {
                let changed = self.inbox.changed.notified();
                if let Some(close) = &self.inbox.lock().closed {
                    return close.as_ref().map(|frame| u16::from(frame.code));
                }
                changed.await;
            }
        };
        timeout(PATIENCE, end).await.unwrap_or_else(|_| panic!("{} was not closed", self.user))
    }

    /// The answer to an id, or nothing if the connection ends first.
    pub async fn answer_or_end(&mut self, id: &str) -> Option<Value> {
        let wait = async {
            loop {
                let changed = self.inbox.changed.notified();
                {
                    let mut arrived = self.inbox.lock();
                    if let Some(at) = arrived.frames.iter().position(|frame| frame["id"] == id) {
                        return arrived.frames.remove(at);
                    }
                    if arrived.closed.is_some() {
                        return None;
                    }
                }
                changed.await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{} waited in vain for {id}", self.user))
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        let _ = self.sink.close().await;
        let _ = timeout(PATIENCE, &mut self.reader).await;
    }

    /// Is gone from one moment to the next, like a phone in a tunnel.
    pub fn vanish(self) {}

    fn next_id(&self) -> String {
        format!("{}-{}", self.user, FRAMES.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Both halves must go for the socket to close.
        self.reader.abort();
        if std::thread::panicking() {
            let arrived = self.inbox.lock();
            eprintln!("--- the last frames that {} received:", self.user);
            for frame in arrived.all.iter().rev().take(20).rev() {
                eprintln!("{frame}");
            }
        }
    }
}

async fn read(mut stream: futures_util::stream::SplitStream<Socket>, inbox: Arc<Inbox>, judge: Arc<Judge>) {
    let mut close = None;
    while let Some(Ok(message)) = stream.next().await {
        match message {
            Message::Text(text) => {
                let mut arrived = inbox.lock();
                match serde_json::from_str::<Value>(&text) {
                    Ok(frame) => {
                        if let Err(why) = judge.name(Sender::Server, &frame) {
                            arrived.wrong.get_or_insert(why);
                        }
                        arrived.all.push(frame.clone());
                        arrived.frames.push_back(frame);
                    }
                    Err(why) => {
                        arrived.wrong.get_or_insert(format!("no JSON ({why}): {text}"));
                    }
                }
            }
            Message::Close(frame) => close = frame,
            _ => {}
        }
        inbox.changed.notify_waiters();
    }
    inbox.lock().closed = Some(close);
    inbox.changed.notify_waiters();
}

fn sent(ack: &Value) -> Sent {
    assert_eq!(ack["type"], "ack", "{ack}");
    let text = |key: &str| ack[key].as_str().unwrap_or_default().to_owned();
    let seq = ack["seq"].as_u64().unwrap_or_else(|| panic!("no seq in {ack}"));
    Sent { id: text("id"), room: text("room"), seq, dup: ack["dup"] == true }
}
