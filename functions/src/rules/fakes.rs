//! A table and a gateway in memory that count what is asked of them, and fail where a test wants it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::time::Instant;

use crate::auth::{Grants, Identity};
use crate::chat::{Caller, Chat, Invocation};
use crate::ids::{ConnectionId, DeviceId, Pair, Room, RoomName, UserId};
use crate::ports::{
    Appended, Connection, Deliveries, Gateway, Noted, Page, Read, Recent, Recipient, Removal, Store,
    StoreError, StoreResult, Stored, TAIL,
};
use crate::protocol::History;
use crate::settings::Limits;

pub(super) const NOW_MS: u64 = 1_800_000_000_000;
pub(super) const NOW_S: u64 = NOW_MS / 1000;
/// As it is invoked.
pub(super) const FUNCTION: &str = "arn:aws:lambda:us-east-1:1:function:chat-test-on_message:live";

/// A connection and the rooms noted on it.
type Registered = (Connection, BTreeSet<RoomName>);

#[derive(Default)]
pub(super) struct Memory {
    pub(super) connections: RefCell<BTreeMap<(UserId, ConnectionId), Registered>>,
    pub(super) subscriptions: RefCell<BTreeMap<(RoomName, ConnectionId), Recipient>>,
    pub(super) messages: RefCell<BTreeMap<(Room, u64), Stored>>,
    pub(super) bans: RefCell<BTreeSet<(RoomName, UserId)>>,
    pub(super) direct: RefCell<BTreeSet<(UserId, Pair)>>,
    pub(super) calls: RefCell<Vec<String>>,
    /// Fails the call of this name.
    pub(super) failing: RefCell<Option<(&'static str, StoreError)>>,
    /// Eventually consistent reads see nothing of the last so many messages, and no subscriptions at all if any.
    pub(super) lag: Cell<usize>,
    /// Messages that others store just before ours, one an attempt.
    pub(super) rivals: RefCell<Vec<Stored>>,
    /// The next append is done but answered as the SDK answers after it tried twice.
    pub(super) lost_answer: Cell<bool>,
}

impl Memory {
    fn call(&self, name: &'static str) -> StoreResult<()> {
        self.calls.borrow_mut().push(name.to_owned());
        match &*self.failing.borrow() {
            Some((failing, why)) if *failing == name => Err(why.clone()),
            _ => Ok(()),
        }
    }

    fn of_room(&self, room: &Room) -> Vec<Stored> {
        let messages = self.messages.borrow();
        messages.iter().filter(|((of, _), _)| of == room).map(|(_, message)| message.clone()).collect()
    }
}

impl Store for Memory {
    async fn register(&self, connection: &Connection) -> StoreResult<()> {
        self.call("PutItem C#")?;
        let key = (connection.user.clone(), connection.conn.clone());
        self.connections.borrow_mut().insert(key, (connection.clone(), BTreeSet::new()));
        Ok(())
    }

    async fn forget(&self, user: &UserId, conn: &ConnectionId) -> StoreResult<Vec<RoomName>> {
        self.call("DeleteItem C#")?;
        let old = self.connections.borrow_mut().remove(&(user.clone(), conn.clone()));
        Ok(old.map(|(_, rooms)| rooms.into_iter().collect()).unwrap_or_default())
    }

    async fn note(
        &self,
        user: &UserId,
        conn: &ConnectionId,
        rooms: &[RoomName],
        device: Option<&DeviceId>,
        most: usize,
    ) -> StoreResult<Noted> {
        self.call("UpdateItem C#")?;
        let mut connections = self.connections.borrow_mut();
        let Some((connection, noted)) = connections.get_mut(&(user.clone(), conn.clone())) else {
            return Ok(Noted::NoConnection);
        };
        let mut wanted = noted.clone();
        wanted.extend(rooms.iter().cloned());
        if wanted.len() > most {
            return Ok(Noted::TooMany);
        }
        *noted = wanted;
        connection.device = device.cloned().or(connection.device.take());
        Ok(Noted::Done)
    }

    async fn unnote(&self, user: &UserId, conn: &ConnectionId, room: &RoomName) -> StoreResult<()> {
        self.call("UpdateItem C#")?;
        if let Some((_, rooms)) = self.connections.borrow_mut().get_mut(&(user.clone(), conn.clone())) {
            rooms.remove(room);
        }
        Ok(())
    }

    async fn banned(&self, room: &RoomName, user: &UserId, _now_s: u64) -> StoreResult<bool> {
        self.call("GetItem A#")?;
        Ok(self.bans.borrow().contains(&(room.clone(), user.clone())))
    }

    async fn subscribe(&self, room: &RoomName, who: &Recipient) -> StoreResult<()> {
        self.call("PutItem S#")?;
        self.subscriptions.borrow_mut().insert((room.clone(), who.conn.clone()), who.clone());
        Ok(())
    }

    async fn unsubscribe(&self, room: &RoomName, conn: &ConnectionId) -> StoreResult<bool> {
        self.call("DeleteItem S#")?;
        Ok(self.subscriptions.borrow_mut().remove(&(room.clone(), conn.clone())).is_some())
    }

    async fn subscription(&self, room: &RoomName, conn: &ConnectionId) -> StoreResult<Option<Recipient>> {
        self.call("GetItem S#")?;
        Ok(self.subscriptions.borrow().get(&(room.clone(), conn.clone())).cloned())
    }

    async fn subscribers(
        &self,
        room: &RoomName,
        read: Read,
        most: Option<usize>,
    ) -> StoreResult<Vec<Recipient>> {
        self.call("Query S#")?;
        if read == Read::Eventual && self.lag.get() > 0 {
            return Ok(Vec::new());
        }
        let subscriptions = self.subscriptions.borrow();
        let of_room = subscriptions.iter().filter(|((of, _), _)| of == room).map(|(_, who)| who.clone());
        Ok(of_room.take(most.unwrap_or(usize::MAX)).collect())
    }

    async fn connections(&self, user: &UserId) -> StoreResult<Vec<Recipient>> {
        self.call("Query C#")?;
        let connections = self.connections.borrow();
        let of_user = connections.iter().filter(|((of, _), _)| of == user).map(|((user, conn), (c, _))| {
            Recipient { user: user.clone(), conn: conn.clone(), expires_s: c.expires_s, at_s: Some(c.at_s) }
        });
        Ok(of_user.collect())
    }

    async fn tail(&self, room: &Room, most: usize, read: Read) -> StoreResult<Vec<Stored>> {
        self.call("Query M#")?;
        let mut messages = self.of_room(room);
        if read == Read::Eventual {
            messages.truncate(messages.len().saturating_sub(self.lag.get()));
        }
        messages.reverse();
        messages.truncate(most);
        Ok(messages)
    }

    async fn recent(&self, room: &Room, read: Read) -> StoreResult<Vec<Recent>> {
        Ok(self.tail(room, TAIL, read).await?.iter().map(Recent::from).collect())
    }

    async fn room(&self, room: &RoomName) -> StoreResult<(Vec<Recipient>, Vec<Recent>)> {
        let named = Room::Named(room.clone());
        let subscribers = self.subscribers(room, Read::Eventual, None).await?;
        Ok((subscribers, self.recent(&named, Read::Eventual).await?))
    }

    async fn messages(&self, room: &Room, range: History) -> StoreResult<Page> {
        self.call("Query M#")?;
        let (from, to) = (range.after.map_or(0, |n| n), range.before.map_or(u64::MAX, |seq| seq.get()));
        let mut messages = self.of_room(room);
        messages.retain(|message| message.seq.get() > from && message.seq.get() < to);
        if range.after.is_none() {
            messages.reverse();
        }
        let more = messages.len() > range.limit;
        messages.truncate(range.limit);
        Ok(Page { messages, more })
    }

    async fn append(&self, room: &Room, message: &Stored) -> StoreResult<Appended> {
        self.call("PutItem M#")?;
        let mut messages = self.messages.borrow_mut();
        if let Some(rival) = self.rivals.borrow_mut().pop() {
            messages.insert((room.clone(), rival.seq.get()), rival);
        }
        let key = (room.clone(), message.seq.get());
        if messages.contains_key(&key) {
            return Ok(Appended::Taken);
        }
        messages.insert(key, message.clone());
        Ok(if self.lost_answer.take() { Appended::Taken } else { Appended::Stored })
    }

    async fn remove(&self, items: &[Removal]) -> StoreResult<()> {
        for _ in items.chunks(25) {
            self.call("BatchWriteItem")?;
        }
        for item in items {
            match item {
                Removal::Connection { user, conn } => {
                    self.connections.borrow_mut().remove(&(user.clone(), conn.clone()));
                }
                Removal::Subscription { room, conn } => {
                    self.subscriptions.borrow_mut().remove(&(room.clone(), conn.clone()));
                }
            }
        }
        Ok(())
    }

    async fn introduce(&self, pair: &Pair) -> StoreResult<()> {
        self.call("BatchWriteItem")?;
        for user in pair.both() {
            self.direct.borrow_mut().insert((user.clone(), pair.clone()));
        }
        Ok(())
    }

    async fn direct_rooms(&self, user: &UserId, most: usize) -> StoreResult<Vec<Pair>> {
        self.call("Query M#@")?;
        let direct = self.direct.borrow();
        Ok(direct.iter().filter(|(of, _)| of == user).map(|(_, pair)| pair.clone()).take(most).collect())
    }
}

#[derive(Default)]
pub(super) struct Posts {
    /// What was posted, by connection.
    pub(super) sent: RefCell<Vec<(String, Value)>>,
    pub(super) gone: RefCell<BTreeSet<ConnectionId>>,
    pub(super) failing: RefCell<BTreeSet<ConnectionId>>,
    /// What was handed over, to which function.
    pub(super) handed: RefCell<Vec<(String, Bytes)>>,
    /// Hand-overs that are taken on; those that come then are refused.
    pub(super) refusing_after: Cell<Option<usize>>,
}

impl Gateway for Posts {
    async fn post(&self, to: &[&ConnectionId], frame: Bytes, _until: Instant) -> Deliveries {
        let frame: Value = serde_json::from_slice(&frame).unwrap();
        let mut deliveries = Deliveries::default();
        for (position, conn) in to.iter().enumerate() {
            if self.gone.borrow().contains(*conn) {
                deliveries.gone.push(position);
            } else if self.failing.borrow().contains(*conn) {
                deliveries.failed.push(position);
            } else {
                self.sent.borrow_mut().push((conn.to_string(), frame.clone()));
            }
        }
        deliveries
    }

    async fn hand_over(&self, function: &str, event: Bytes, _until: Instant) -> Result<(), String> {
        let mut handed = self.handed.borrow_mut();
        if self.refusing_after.get().is_some_and(|most| handed.len() >= most) {
            return Err("status 403".to_owned());
        }
        handed.push((function.to_owned(), event));
        Ok(())
    }
}

pub(super) type TestChat = Chat<Memory, Posts>;

/// Without presence and rate limit, and five rooms a connection.
pub(super) fn chat() -> TestChat {
    let limits = Limits { message_days: 30, presence_max: 0, sends_per_10s: 0, rooms_per_connection: 5 };
    Chat { store: Memory::default(), gateway: Posts::default(), limits }
}

pub(super) fn conn(text: &str) -> ConnectionId {
    ConnectionId::parse(text).unwrap()
}

pub(super) fn name(text: &str) -> RoomName {
    RoomName::parse(text).unwrap()
}

/// Somebody over a connection of a minute ago; the user is what comes before the first digit of its name.
pub(super) fn caller(connection: &str) -> Caller<'static> {
    let user = connection.trim_end_matches(|c: char| c.is_ascii_digit());
    Caller {
        identity: Identity {
            user: UserId::parse(user).unwrap(),
            name: user.to_owned(),
            expires: None,
            grants: Grants::All,
        },
        conn: conn(connection),
        connected_at_s: NOW_S - 60,
        invocation: Invocation {
            request_id: "request-1",
            now_ms: NOW_MS,
            posts_until: Instant::now() + Duration::from_secs(9),
            relay: Some(FUNCTION),
        },
    }
}

impl TestChat {
    /// Registers a connection and puts it into rooms, uncounted.
    pub(super) async fn here(&self, connection: &str, rooms: &[&str]) -> Caller<'static> {
        let caller = caller(connection);
        let registration = Connection {
            user: caller.identity.user.clone(),
            conn: caller.conn.clone(),
            device: None,
            at_s: caller.connected_at_s,
            expires_s: caller.forget_at_s(),
        };
        self.store.register(&registration).await.unwrap();
        for room in rooms {
            let answer = self.say(&caller, &format!(r#"{{"action":"join","id":"j","room":"{room}"}}"#)).await;
            assert_eq!(answer["type"], "ack", "{answer}");
        }
        self.reset();
        caller
    }

    pub(super) async fn say(&self, caller: &Caller<'_>, frame: &str) -> Value {
        serde_json::from_str(&self.received(Some(caller), frame).await).unwrap()
    }

    pub(super) async fn text(&self, caller: &Caller<'_>, id: &str, room: &str) -> Value {
        let frame = format!(r#"{{"action":"send","id":"{id}","room":"{room}","body":{{"text":"hi {id}"}}}}"#);
        self.say(caller, &frame).await
    }

    pub(super) fn reset(&self) {
        self.store.calls.borrow_mut().clear();
        self.gateway.sent.borrow_mut().clear();
    }

    /// The calls since the last look, in order.
    pub(super) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.store.calls.borrow_mut())
    }

    /// Who was posted a frame of this type since the last look, sorted.
    pub(super) fn told(&self, kind: &str) -> Vec<String> {
        let sent = std::mem::take(&mut *self.gateway.sent.borrow_mut());
        let mut told: Vec<String> =
            sent.into_iter().filter(|(_, frame)| frame["type"] == kind).map(|(conn, _)| conn).collect();
        told.sort();
        told
    }
}
