//! The names that cross the wire and become keys. Each is parsed once at the door; past it no string can be a key.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// Longest id of a client's choosing, in bytes.
pub const ID_MAX_BYTES: usize = 64;
/// API Gateway's own connection ids are about 16 characters; anything near this is not one.
const CONNECTION_ID_MAX_BYTES: usize = 128;
/// `M#%012d` sorts as text only up to twelve digits.
pub const SEQ_MAX: u64 = 999_999_999_999;

/// What an id may consist of. `#`, `@` and `,` are missing on purpose: keys are built with them.
fn is_id(text: &str) -> bool {
    (1..=ID_MAX_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'-'))
}

/// Some text is not what it should name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not an id")]
pub struct NoId;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// `None` unless it matches `^[A-Za-z0-9_.:-]{1,64}$`.
            pub fn parse(text: &str) -> Option<Self> {
                is_id(text).then(|| Self(text.to_owned()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NoId;

            fn try_from(text: String) -> Result<Self, NoId> {
                if is_id(&text) { Ok(Self(text)) } else { Err(NoId) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }
    };
}

id! {
    /// Somebody, as the authorizer named them.
    UserId
}
id! {
    /// A room with a name of its own.
    RoomName
}
id! {
    /// The `id` of a frame; for a send also the idempotency key of the message.
    FrameId
}
id! {
    /// What a client calls the device it runs on.
    DeviceId
}

/// One WebSocket, as API Gateway named it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct ConnectionId(String);

impl ConnectionId {
    /// The gateway's ids are Base64, padding included; nothing else is believed to be one.
    pub fn parse(text: &str) -> Option<Self> {
        let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_' | b'=');
        ((1..=CONNECTION_ID_MAX_BYTES).contains(&text.len()) && text.bytes().all(base64))
            .then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ConnectionId {
    type Error = NoId;

    fn try_from(text: String) -> Result<Self, NoId> {
        Self::parse(&text).ok_or(NoId)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ConnectionId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

/// Two people, in one order only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    low: UserId,
    high: UserId,
}

impl Pair {
    /// `None` for somebody and themselves.
    pub fn of(one: UserId, other: UserId) -> Option<Self> {
        match one.cmp(&other) {
            std::cmp::Ordering::Less => Some(Self { low: one, high: other }),
            std::cmp::Ordering::Greater => Some(Self { low: other, high: one }),
            std::cmp::Ordering::Equal => None,
        }
    }

    /// The wire form is `@low,high`; the other order is not a second name of the same room.
    fn parse(text: &str) -> Option<Self> {
        let (low, high) = text.strip_prefix('@')?.split_once(',')?;
        let (low, high) = (UserId::parse(low)?, UserId::parse(high)?);
        (low < high).then_some(Self { low, high })
    }

    pub fn has(&self, user: &UserId) -> bool {
        *user == self.low || *user == self.high
    }

    pub fn both(&self) -> [&UserId; 2] {
        [&self.low, &self.high]
    }

    /// The other one, seen from `user`.
    pub fn other(&self, user: &UserId) -> &UserId {
        if *user == self.low { &self.high } else { &self.low }
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{},{}", self.low, self.high)
    }
}

/// Where messages are. No named room can be written like a pair, nor a pair like another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Room {
    Named(RoomName),
    Direct(Pair),
}

impl Room {
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with('@') {
            Pair::parse(text).map(Self::Direct)
        } else {
            RoomName::parse(text).map(Self::Named)
        }
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => name.fmt(f),
            Self::Direct(pair) => pair.fmt(f),
        }
    }
}

impl Serialize for Room {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Position of a message in its room: 1, 2, 3 …
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Seq(u64);

impl Seq {
    pub const FIRST: Self = Self(1);

    /// `None` for 0 and past [`SEQ_MAX`].
    pub const fn new(number: u64) -> Option<Self> {
        if number >= 1 && number <= SEQ_MAX { Some(Self(number)) } else { None }
    }

    /// The one after `head`, the first of an empty room; `None` in a room that is full.
    pub const fn after(head: Option<Self>) -> Option<Self> {
        match head {
            None => Some(Self::FIRST),
            Some(Self(number)) => Self::new(number + 1),
        }
    }

    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(text: &str) -> UserId {
        UserId::parse(text).unwrap()
    }

    #[test]
    fn characters_that_build_keys_are_in_no_id() {
        for bad in ["", "a#b", "@a", "a,b", "a b", "a/b", "ä", "a\0", "a\n", "C#x", &"a".repeat(65)] {
            assert!(RoomName::parse(bad).is_none(), "{bad:?} was taken");
        }
        assert!(RoomName::parse("Team.one_two:3-4").is_some());
        assert!(RoomName::parse(&"a".repeat(64)).is_some());
    }

    #[test]
    fn a_pair_has_one_name() {
        let pair = Pair::of(user("bob"), user("alice")).unwrap();
        assert_eq!(pair.to_string(), "@alice,bob");
        assert_eq!(Some(pair), Pair::of(user("alice"), user("bob")));
        assert!(Pair::of(user("bob"), user("bob")).is_none());
        for bad in
            ["@bob,alice", "@alice,alice", "@alice", "@alice,", "@,bob", "@alice,bob,eve", "@alice#,bob"]
        {
            assert!(Room::parse(bad).is_none(), "{bad:?} was taken");
        }
        assert!(matches!(Room::parse("@alice,bob"), Some(Room::Direct(_))));
    }

    #[test]
    fn sequence_numbers_stay_sortable() {
        assert_eq!(Seq::after(None), Some(Seq::FIRST));
        assert_eq!(Seq::after(Seq::new(SEQ_MAX)), None);
        assert_eq!(Seq::new(0), None);
        assert_eq!(Seq::new(SEQ_MAX + 1), None);
    }

    proptest! {
        #[test]
        fn rooms_read_back_as_written(text in "[@A-Za-z0-9_.:,#-]{0,70}") {
            if let Some(room) = Room::parse(&text) {
                prop_assert_eq!(room.to_string(), text);
            }
        }

        #[test]
        fn no_two_pairs_share_a_room(a in "[a-c.:]{1,4}", b in "[a-c.:]{1,4}", c in "[a-c.:]{1,4}", d in "[a-c.:]{1,4}") {
            let (one, two) = (Pair::of(user(&a), user(&b)), Pair::of(user(&c), user(&d)));
            if let (Some(one), Some(two)) = (one, two) {
                let same_people = (a == c && b == d) || (a == d && b == c);
                prop_assert_eq!(one.to_string() == two.to_string(), same_people);
                prop_assert!(RoomName::parse(&one.to_string()).is_none());
            }
        }
    }
}
