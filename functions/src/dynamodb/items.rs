//! How things are written as items, and read back: the one-table layout of `docs/protocol.md`.

use std::collections::HashMap;
use std::fmt::Display;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::contract::table::{PARTITION_KEY, SORT_KEY, TTL};
use crate::ids::{ConnectionId, FrameId, Pair, Room, RoomName, Seq, UserId};
use crate::ports::{Connection, Recent, Recipient, StoreError, StoreResult, Stored};

pub(super) type Item = HashMap<String, AttributeValue>;

/// Beginnings of sort keys.
pub(super) const CONNECTION: &str = "C#";
pub(super) const SUBSCRIPTION: &str = "S#";
pub(super) const MESSAGE: &str = "M#";
/// Behind every message, and behind every subscription, and before whatever comes next.
pub(super) const PAST_MESSAGES: &str = "M$";
pub(super) const PAST_SUBSCRIPTIONS: &str = "S$";
/// Under a user, `M#` is a membership; that of a room of two goes on with `@`, which begins no other room.
pub(super) const DIRECT_MEMBERSHIP: &str = "M#@";
const GRANT: &str = "A#";

/// An item's primary key. Every part comes from a type that cannot hold `#`.
pub(super) struct Key {
    partition: String,
    sort: String,
}

impl Key {
    pub(super) fn connection(user: &UserId, conn: &ConnectionId) -> Self {
        Self { partition: user_partition(user), sort: format!("{CONNECTION}{conn}") }
    }

    pub(super) fn subscription(room: &RoomName, conn: &ConnectionId) -> Self {
        Self { partition: room_partition(room), sort: format!("{SUBSCRIPTION}{conn}") }
    }

    pub(super) fn grant(room: &RoomName, user: &UserId) -> Self {
        Self { partition: room_partition(room), sort: format!("{GRANT}{user}") }
    }

    fn message(room: &Room, seq: Seq) -> Self {
        Self { partition: room_partition(room), sort: message_sort(seq.get()) }
    }

    fn membership(user: &UserId, pair: &Pair) -> Self {
        Self { partition: user_partition(user), sort: format!("{MESSAGE}{pair}") }
    }
}

impl From<Key> for Item {
    fn from(key: Key) -> Self {
        HashMap::from([
            (PARTITION_KEY.to_owned(), AttributeValue::S(key.partition)),
            (SORT_KEY.to_owned(), AttributeValue::S(key.sort)),
        ])
    }
}

pub(super) fn user_partition(user: &UserId) -> String {
    format!("U#{user}")
}

/// Of a room by its name, or of a [`Room`] of either kind.
pub(super) fn room_partition(room: &impl Display) -> String {
    format!("R#{room}")
}

/// Twelve digits, so that the order of the text is the order of the numbers.
pub(super) fn message_sort(seq: u64) -> String {
    format!("{MESSAGE}{seq:012}")
}

pub(super) fn string(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

pub(super) fn strings<'a>(texts: impl IntoIterator<Item = &'a str>) -> AttributeValue {
    AttributeValue::Ss(texts.into_iter().map(str::to_owned).collect())
}

pub(super) fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

fn with<const N: usize>(key: Key, attributes: [(&str, AttributeValue); N]) -> Item {
    let mut item = Item::from(key);
    item.extend(attributes.map(|(name, value)| (name.to_owned(), value)));
    item
}

pub(super) fn connection(connection: &Connection) -> Item {
    let key = Key::connection(&connection.user, &connection.conn);
    let mut item = with(key, [("at", number(connection.at_s)), (TTL, number(connection.expires_s))]);
    if let Some(device) = &connection.device {
        item.insert("device".to_owned(), string(device.as_str()));
    }
    item
}

pub(super) fn subscription(room: &RoomName, who: &Recipient) -> Item {
    let key = Key::subscription(room, &who.conn);
    with(key, [("u", string(who.user.as_str())), (TTL, number(who.expires_s))])
}

pub(super) fn message(room: &Room, message: &Stored) -> Item {
    let body = HashMap::from([("text".to_owned(), string(&message.text))]);
    let mut item = with(
        Key::message(room, message.seq),
        [
            ("u", string(message.user.as_str())),
            ("mid", string(message.mid.as_str())),
            ("t", number(message.ts)),
            ("r", string(&message.request)),
            ("body", AttributeValue::M(body)),
        ],
    );
    if let Some(end) = message.expires_s {
        item.insert(TTL.to_owned(), number(end));
    }
    item
}

pub(super) fn membership(user: &UserId, pair: &Pair) -> Item {
    Key::membership(user, pair).into()
}

pub(super) fn subscriber(item: &Item) -> StoreResult<Recipient> {
    let read = || {
        Some(Recipient {
            user: UserId::parse(text(item, "u")?)?,
            conn: ConnectionId::parse(text(item, SORT_KEY)?.strip_prefix(SUBSCRIPTION)?)?,
            expires_s: natural(item, TTL)?,
            at_s: None,
        })
    };
    read().ok_or_else(|| unreadable(item))
}

pub(super) fn is_subscription(item: &Item) -> bool {
    text(item, SORT_KEY).is_some_and(|sort| sort.starts_with(SUBSCRIPTION))
}

pub(super) fn connected(user: &UserId, item: &Item) -> StoreResult<Recipient> {
    let read = || {
        Some(Recipient {
            user: user.clone(),
            conn: ConnectionId::parse(text(item, SORT_KEY)?.strip_prefix(CONNECTION)?)?,
            expires_s: natural(item, TTL)?,
            at_s: natural(item, "at"),
        })
    };
    read().ok_or_else(|| unreadable(item))
}

pub(super) fn stored(item: &Item) -> StoreResult<Stored> {
    let Recent { seq, user, mid, ts, request } = recent(item)?;
    let words = match item.get("body") {
        Some(AttributeValue::M(body)) => text(body, "text"),
        _ => None,
    };
    let text = words.ok_or_else(|| unreadable(item))?.to_owned();
    Ok(Stored { seq, user, mid, ts, text, expires_s: natural(item, TTL), request })
}

/// What [`recent`] reads of a message.
pub(super) const RECENT: &str = "SK, u, mid, t, r";
/// What [`subscriber`] and [`recent`] read.
pub(super) const SUBSCRIBER_AND_RECENT: &str = "SK, u, x, mid, t, r";

pub(super) fn recent(item: &Item) -> StoreResult<Recent> {
    let read = || {
        let seq = text(item, SORT_KEY)?.strip_prefix(MESSAGE)?.parse().ok()?;
        Some(Recent {
            seq: Seq::new(seq)?,
            user: UserId::parse(text(item, "u")?)?,
            mid: FrameId::parse(text(item, "mid")?)?,
            ts: natural(item, "t")?,
            request: text(item, "r")?.to_owned(),
        })
    };
    read().ok_or_else(|| unreadable(item))
}

pub(super) fn rooms_of(item: &Item) -> Vec<RoomName> {
    match item.get("rooms") {
        Some(AttributeValue::Ss(rooms)) => rooms.iter().filter_map(|room| RoomName::parse(room)).collect(),
        _ => Vec::new(),
    }
}

/// A ban has the role `banned` and, unless it is for ever, `until`, in seconds since 1970.
pub(super) fn is_ban(item: &Item, now_s: u64) -> bool {
    text(item, "role") == Some("banned") && natural(item, "until").is_none_or(|until| until > now_s)
}

pub(super) fn direct_of(item: &Item) -> Option<Pair> {
    match Room::parse(text(item, SORT_KEY)?.strip_prefix(MESSAGE)?) {
        Some(Room::Direct(pair)) => Some(pair),
        _ => None,
    }
}

fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    match item.get(name)? {
        AttributeValue::S(text) => Some(text),
        _ => None,
    }
}

fn natural(item: &Item, name: &str) -> Option<u64> {
    match item.get(name)? {
        AttributeValue::N(number) => number.parse().ok(),
        _ => None,
    }
}

/// Somebody else wrote to the table. Its key is enough to find it; its content stays out of the log.
fn unreadable(item: &Item) -> StoreError {
    let key = |name| text(item, name).unwrap_or("?");
    StoreError::Unexpected(format!("the item {}/{} is not readable", key(PARTITION_KEY), key(SORT_KEY)))
}

pub(super) fn unbuilt(why: aws_sdk_dynamodb::error::BuildError) -> StoreError {
    StoreError::Unexpected(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> UserId {
        UserId::parse(text).unwrap()
    }

    fn key_of(item: &Item) -> (&str, &str) {
        (text(item, PARTITION_KEY).unwrap(), text(item, SORT_KEY).unwrap())
    }

    #[test]
    fn items_read_back_as_they_were_written() {
        let conn = ConnectionId::parse("L0SM9cOFvHcCIhw=").unwrap();
        let room = RoomName::parse("r1").unwrap();
        let who = Recipient { user: user("alice"), conn: conn.clone(), expires_s: 9, at_s: None };
        let mut item = subscription(&room, &who);
        assert_eq!(key_of(&item), ("R#r1", "S#L0SM9cOFvHcCIhw="));
        item.retain(|name, _| SUBSCRIBER_AND_RECENT.split(", ").any(|asked| asked == name));
        assert_eq!(subscriber(&item).unwrap(), who);

        let item = connection(&Connection { user: user("alice"), conn, device: None, at_s: 1, expires_s: 9 });
        assert_eq!(key_of(&item), ("U#alice", "C#L0SM9cOFvHcCIhw="));
        assert_eq!(connected(&user("alice"), &item).unwrap(), Recipient { at_s: Some(1), ..who });

        let said = Stored {
            seq: Seq::new(42).unwrap(),
            user: user("alice"),
            mid: FrameId::parse("01J").unwrap(),
            ts: 7,
            text: "hi".into(),
            expires_s: None,
            request: "req".into(),
        };
        let direct = Pair::of(user("bob"), user("alice")).unwrap();
        let mut item = message(&Room::Direct(direct.clone()), &said);
        assert_eq!(key_of(&item), ("R#@alice,bob", "M#000000000042"));
        assert_eq!(stored(&item).unwrap(), said);
        for asked in [SUBSCRIBER_AND_RECENT, RECENT] {
            let asked: Vec<&str> = asked.split(", ").collect();
            item.retain(|name, _| asked.contains(&name.as_str()));
            assert!(!item.contains_key("body"));
            assert_eq!(recent(&item).unwrap().mid, said.mid);
        }

        let item = membership(&user("bob"), &direct);
        assert_eq!(key_of(&item), ("U#bob", "M#@alice,bob"));
        assert_eq!(direct_of(&item), Some(direct));
    }

    #[test]
    fn foreign_items_are_errors_that_show_only_their_key() {
        let mut item: Item = Key::message(&Room::parse("r1").unwrap(), Seq::FIRST).into();
        item.insert("body".to_owned(), string("secret"));
        let why = stored(&item).unwrap_err().to_string();
        assert!(why.contains("R#r1/M#000000000001") && !why.contains("secret"), "{why}");
    }

    #[test]
    fn bans_end_when_they_say() {
        let key = Key::grant(&RoomName::parse("r1").unwrap(), &user("eve"));
        assert_eq!((key.partition.as_str(), key.sort.as_str()), ("R#r1", "A#eve"));
        let mut item = with(key, [("role", string("banned"))]);
        assert!(is_ban(&item, 100));
        item.insert("until".to_owned(), number(100));
        assert!(is_ban(&item, 99) && !is_ban(&item, 100));
        item.insert("role".to_owned(), string("moderator"));
        assert!(!is_ban(&item, 99));
    }
}
