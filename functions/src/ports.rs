//! What the rules need from outside: a store and a way to reach connections. The adapters are `dynamodb` and `post`.

use std::future::Future;

use bytes::Bytes;
use tokio::time::Instant;

use crate::ids::{ConnectionId, DeviceId, FrameId, Pair, Room, RoomName, Seq, UserId};
use crate::protocol::History;

/// Why the store did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Throttled, out of reach, or failing on its side: the same call may succeed later.
    #[error("the table is unavailable: {0}")]
    Unavailable(String),
    /// Anything else, such as a missing permission. The detail is for the log only.
    #[error("{0}")]
    Unexpected(String),
}

pub type StoreResult<T> = Result<T, StoreError>;

/// Whether a read must see every write that was answered before it, at twice the price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    Eventual,
    Strong,
}

/// A connection as it is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    pub user: UserId,
    pub conn: ConnectionId,
    pub device: Option<DeviceId>,
    /// Seconds since 1970.
    pub at_s: u64,
    /// Past this second it counts as gone.
    pub expires_s: u64,
}

/// A connection in a room, or a connection of somebody a direct message goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    pub user: UserId,
    pub conn: ConnectionId,
    /// Past this second it counts as gone. DynamoDB deletes what has expired days later.
    pub expires_s: u64,
    /// When it connected, where that is known.
    pub at_s: Option<u64>,
}

/// A message as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub seq: Seq,
    pub user: UserId,
    pub mid: FrameId,
    /// Milliseconds since 1970.
    pub ts: u64,
    pub text: String,
    /// Past this second it counts as gone.
    pub expires_s: Option<u64>,
    /// The invocation that stored it: tells one's own write, whose answer was lost, from somebody else's.
    pub request: String,
}

/// Messages that are read before one is written: they give its number, tell repetitions, and limit the rate.
pub const TAIL: usize = 20;

/// A message without its words: what the next one has to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recent {
    pub seq: Seq,
    pub user: UserId,
    pub mid: FrameId,
    pub ts: u64,
    pub request: String,
}

impl From<&Stored> for Recent {
    fn from(message: &Stored) -> Self {
        Self {
            seq: message.seq,
            user: message.user.clone(),
            mid: message.mid.clone(),
            ts: message.ts,
            request: message.request.clone(),
        }
    }
}

/// Messages of a room in the order they were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub messages: Vec<Stored>,
    pub more: bool,
}

/// What became of noting rooms on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    Done,
    /// There is no such connection (any more).
    NoConnection,
    /// It would be in too many rooms.
    TooMany,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    Stored,
    /// Its number is taken.
    Taken,
}

/// An item to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    Connection { user: UserId, conn: ConnectionId },
    Subscription { room: RoomName, conn: ConnectionId },
}

/// The table. Each method is one AWS call, followed pages and retries aside, where it does not say otherwise.
pub trait Store {
    /// PutItem of the connection.
    fn register(&self, connection: &Connection) -> impl Future<Output = StoreResult<()>>;

    /// DeleteItem of the connection; gives the rooms it was in.
    fn forget(&self, user: &UserId, conn: &ConnectionId) -> impl Future<Output = StoreResult<Vec<RoomName>>>;

    /// UpdateItem of the connection, if it exists and stays within `most` rooms.
    fn note(
        &self,
        user: &UserId,
        conn: &ConnectionId,
        rooms: &[RoomName],
        device: Option<&DeviceId>,
        most: usize,
    ) -> impl Future<Output = StoreResult<Noted>>;

    /// UpdateItem of the connection, if it exists.
    fn unnote(
        &self,
        user: &UserId,
        conn: &ConnectionId,
        room: &RoomName,
    ) -> impl Future<Output = StoreResult<()>>;

    /// GetItem of the grant or ban.
    fn banned(&self, room: &RoomName, user: &UserId, now_s: u64) -> impl Future<Output = StoreResult<bool>>;

    /// PutItem of the subscription.
    fn subscribe(&self, room: &RoomName, who: &Recipient) -> impl Future<Output = StoreResult<()>>;

    /// DeleteItem of the subscription; whether there was one.
    fn unsubscribe(&self, room: &RoomName, conn: &ConnectionId) -> impl Future<Output = StoreResult<bool>>;

    /// GetItem of the subscription, read strongly.
    fn subscription(
        &self,
        room: &RoomName,
        conn: &ConnectionId,
    ) -> impl Future<Output = StoreResult<Option<Recipient>>>;

    /// Query of the subscriptions, all pages, or no more than `most` of them.
    fn subscribers(
        &self,
        room: &RoomName,
        read: Read,
        most: Option<usize>,
    ) -> impl Future<Output = StoreResult<Vec<Recipient>>>;

    /// Query of somebody's connections.
    fn connections(&self, user: &UserId) -> impl Future<Output = StoreResult<Vec<Recipient>>>;

    /// Query of the newest messages, newest first.
    fn tail(&self, room: &Room, most: usize, read: Read) -> impl Future<Output = StoreResult<Vec<Stored>>>;

    /// The newest [`TAIL`] of them, without what was said, which may be most of what there is to read. Of what was read
    /// before, only the newest is read again.
    fn recent(&self, room: &Room, read: Read) -> impl Future<Output = StoreResult<Vec<Recent>>>;

    /// The subscriptions, and what `recent` gives: one Query if the room was read before; two at once if not, or if too
    /// much has happened in it since.
    fn room(&self, room: &RoomName) -> impl Future<Output = StoreResult<(Vec<Recipient>, Vec<Recent>)>>;

    /// Query of messages: oldest first if `range.after` is given, else newest first.
    fn messages(&self, room: &Room, range: History) -> impl Future<Output = StoreResult<Page>>;

    /// PutItem of a message, if its number is free.
    fn append(&self, room: &Room, message: &Stored) -> impl Future<Output = StoreResult<Appended>>;

    /// BatchWriteItem of deletions, 25 a call.
    fn remove(&self, items: &[Removal]) -> impl Future<Output = StoreResult<()>>;

    /// BatchWriteItem of the two memberships that let both find their room.
    fn introduce(&self, pair: &Pair) -> impl Future<Output = StoreResult<()>>;

    /// Query of somebody's rooms of two, by name.
    fn direct_rooms(&self, user: &UserId, most: usize) -> impl Future<Output = StoreResult<Vec<Pair>>>;
}

/// What became of the posts of one frame, by position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// Connections that no longer exist.
    pub gone: Vec<usize>,
    /// Connections that did not take it for another reason, and one such reason.
    pub failed: Vec<usize>,
    pub why: Option<String>,
}

/// The way to connected clients.
pub trait Gateway {
    /// Posts one frame to each of the connections. Does not fail: what could not be delivered is listed, with what
    /// there was no time for.
    fn post(&self, to: &[&ConnectionId], frame: Bytes, until: Instant) -> impl Future<Output = Deliveries>;

    /// Invoke of a function, asynchronously: it will get `event`, soon and perhaps more than once. If not, says why.
    fn hand_over(
        &self,
        function: &str,
        event: Bytes,
        until: Instant,
    ) -> impl Future<Output = Result<(), String>>;
}
