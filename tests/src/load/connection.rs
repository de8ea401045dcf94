//! One client of a load run: a socket whose deliveries go into the run's ledger and whose answers go to the caller.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, http::Uri};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::LoadError;
use super::ledger::{Ledger, ReceiverId};

/// Nothing in a run may take longer than this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The server under load: its WebSocket URL without a user.
#[derive(Clone, Debug)]
pub struct Target {
    pub url: String,
}

impl Target {
    fn request(&self, user: &str) -> Result<ClientRequestBuilder, LoadError> {
        let separator = if self.url.contains('?') { '&' } else { '?' };
        let uri: Uri = format!("{}{separator}user={user}", self.url)
            .parse()
            .map_err(|e| LoadError::new(format!("{} is no address: {e}", self.url)))?;
        Ok(ClientRequestBuilder::new(uri).with_sub_protocol("chat.v1"))
    }
}

/// What all connections of a phase share.
#[derive(Debug, Default)]
pub struct Shared {
    pub(super) ledger: RefCell<Ledger>,
    /// Woken at every delivery.
    pub(super) delivered: Notify,
}

/// What arrives at a connection: answers to its own frames, and messages.
#[derive(Debug)]
pub(crate) enum Event {
    Ack { room: String, seq: u64, id: String },
    Delivery { mid: String, at: Instant },
    Other { kind: String, text: String },
}

/// An open connection.
pub struct Connection {
    pub user: String,
    id: ReceiverId,
    sink: SplitSink<Socket, Message>,
    stream: Option<SplitStream<Socket>>,
    events: Option<mpsc::UnboundedReceiver<Event>>,
    reader: Option<tokio::task::JoinHandle<()>>,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    id: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    room: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    from: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    mid: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    seq: u64,
}

impl Connection {
    /// Opens a socket: when it is open, the server has authorised and stored the connection.
    pub async fn open(target: &Target, user: &str, id: ReceiverId) -> Result<Self, LoadError> {
        let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
        let opening = connect_async_with_config(target.request(user)?, Some(config), true);
        let (socket, _) = timeout(PATIENCE, opening)
            .await
            .map_err(|_| LoadError::new(format!("{user} was not let in within {PATIENCE:?}")))?
            .map_err(|e| LoadError::new(format!("{user} was not let in: {e}")))?;
        let (sink, stream) = socket.split();
        Ok(Self { user: user.to_owned(), id, sink, stream: Some(stream), events: None, reader: None })
    }

    /// Starts to read: `hello`, then `join`, each answered before the next.
    pub async fn enter(&mut self, shared: &Rc<Shared>, room: &str) -> Result<(), LoadError> {
        self.listen(shared);
        shared.ledger.borrow_mut().expect(self.id, room);
        self.send_text(r#"{"action":"hello","id":"hello","device":"load"}"#.to_owned()).await?;
        self.answer("welcome").await?;
        self.send_text(format!(r#"{{"action":"join","id":"join","room":"{room}"}}"#)).await?;
        self.answer("join").await
    }

    fn listen(&mut self, shared: &Rc<Shared>) {
        let Some(mut stream) = self.stream.take() else { return };
        let (answers, events) = mpsc::unbounded_channel();
        let (id, shared) = (self.id, Rc::clone(shared));
        self.events = Some(events);
        self.reader = Some(tokio::task::spawn_local(async move {
            while let Some(Ok(message)) = stream.next().await {
                let Message::Text(text) = message else { continue };
                let Some(event) = read(&text, id, &shared) else { continue };
                if answers.send(event).is_err() {
                    return;
                }
            }
        }));
    }

    /// Sends a message of this connection's user; `number` counts the user's messages in the room.
    pub(crate) async fn say(&mut self, room: &str, number: u64) -> Result<String, LoadError> {
        let mid = format!("{}-{number}", self.user);
        let frame = format!(
            r#"{{"action":"send","id":"{mid}","room":"{room}","body":{{"text":"The quick brown fox jumps over the lazy dog, {number} times."}}}}"#
        );
        self.send_text(frame).await?;
        Ok(mid)
    }

    async fn send_text(&mut self, text: String) -> Result<(), LoadError> {
        self.sink
            .send(Message::text(text))
            .await
            .map_err(|e| LoadError::new(format!("{} could not send: {e}", self.user)))
    }

    /// The next event; an error frame or a closed connection ends the run.
    pub(crate) async fn event(&mut self) -> Result<Event, LoadError> {
        let Some(events) = &mut self.events else {
            return Err(LoadError::new(format!("{} does not listen", self.user)));
        };
        match timeout(PATIENCE, events.recv()).await {
            Ok(Some(Event::Other { kind, text })) if kind != "welcome" => {
                Err(LoadError::new(format!("{} was refused: {text}", self.user)))
            }
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(LoadError::new(format!("the connection of {} was closed", self.user))),
            Err(_) => Err(LoadError::new(format!("{} heard nothing for {PATIENCE:?}", self.user))),
        }
    }

    /// Waits for a frame of this type, or for the ack of this id.
    async fn answer(&mut self, wanted: &str) -> Result<(), LoadError> {
        loop {
            match self.event().await? {
                Event::Other { kind, .. } if kind == wanted => return Ok(()),
                Event::Ack { id, .. } if id == wanted => return Ok(()),
                _ => {}
            }
        }
    }

    /// Waits until the message is acknowledged and came back. Returns when the later of both did, and notes the ack.
    pub(crate) async fn settled(&mut self, shared: &Shared, mid: &str) -> Result<Instant, LoadError> {
        let (mut acked, mut delivered) = (None, None);
        loop {
            match self.event().await? {
                Event::Ack { room, seq, id } if id == mid => {
                    shared.ledger.borrow_mut().acknowledge(&room, seq);
                    acked = Some(Instant::now());
                }
                Event::Delivery { mid: came, at, .. } if came == mid => delivered = Some(at),
                _ => {}
            }
            if let (Some(acked), Some(delivered)) = (acked, delivered) {
                return Ok(acked.max(delivered));
            }
        }
    }

    /// Sends one message and waits until it is acknowledged and came back.
    pub async fn round_trip(&mut self, shared: &Shared, room: &str, number: u64) -> Result<(), LoadError> {
        let mid = self.say(room, number).await?;
        self.settled(shared, &mid).await.map(drop)
    }

    /// Closes politely and waits until the server has closed too.
    pub async fn leave(mut self) {
        // A server that is gone already has closed as well.
        let _ = self.sink.send(Message::Close(None)).await;
        if let Some(reader) = self.reader.take() {
            let _ = timeout(PATIENCE, reader).await;
        } else if let Some(mut stream) = self.stream.take() {
            let _ = timeout(PATIENCE, async { while let Some(Ok(_)) = stream.next().await {} }).await;
        }
    }
}

/// Notes a delivery in the ledger; what the connection itself waits for becomes an event.
fn read(text: &str, id: ReceiverId, shared: &Shared) -> Option<Event> {
    let Ok(frame) = serde_json::from_str::<Frame<'_>>(text) else {
        return Some(Event::Other { kind: String::new(), text: text.to_owned() });
    };
    let room = frame.room.unwrap_or_default();
    match frame.kind.as_deref() {
        Some("message") => {
            let (from, mid) = (frame.from.unwrap_or_default(), frame.mid.unwrap_or_default());
            shared.ledger.borrow_mut().deliver(id, &room, &from, &mid, frame.seq);
            shared.delivered.notify_waiters();
            Some(Event::Delivery { mid: mid.into_owned(), at: Instant::now() })
        }
        Some("ack") => Some(Event::Ack {
            room: room.into_owned(),
            seq: frame.seq,
            id: frame.id.unwrap_or_default().into_owned(),
        }),
        Some("presence") => None,
        kind => Some(Event::Other { kind: kind.unwrap_or_default().to_owned(), text: text.to_owned() }),
    }
}
