//! What clients are told.

use bytes::Bytes;
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{Code, Refusal};
use crate::ids::{ConnectionId, FrameId, Room, Seq, UserId};

/// A frame to a client. Serialises to one JSON object with `type`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ServerFrame<'a> {
    /// Answers `hello`.
    Welcome {
        id: &'a FrameId,
        v: u64,
        user: &'a UserId,
        name: &'a str,
        conn: &'a ConnectionId,
        /// Seconds.
        heartbeat: u64,
        /// Seconds since 1970.
        expires: u64,
        max_bytes: usize,
        rooms: Vec<Head>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        refused: Vec<Refused>,
        direct: Vec<Room>,
    },
    /// Answers `join` and `leave`.
    #[serde(rename = "ack")]
    Joined { id: &'a FrameId, room: &'a Room },
    /// Answers `send`.
    #[serde(rename = "ack")]
    Sent { id: &'a FrameId, room: &'a Room, seq: Seq, ts: u64, dup: bool },
    /// Answers `history`, and without `id` brings what was missed.
    Batch {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a FrameId>,
        room: &'a Room,
        items: Vec<ChatMessage<'a>>,
        upto: u64,
        more: bool,
    },
    /// Answers `who`.
    Who { id: &'a FrameId, room: &'a Room, users: Vec<UserId>, more: bool },
    /// Answers `ping`.
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a FrameId>,
    },
    /// Somebody said something.
    Message(ChatMessage<'a>),
    /// Somebody came or went.
    Presence {
        room: &'a Room,
        user: &'a UserId,
        state: Presence,
        #[serde(skip_serializing_if = "Option::is_none")]
        grace_ms: Option<u64>,
    },
    /// Answers what was refused.
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a FrameId>,
        code: Code,
        message: &'a str,
        retry: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_ms: Option<u64>,
    },
}

/// Whether somebody is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    Online,
    Offline,
}

/// The newest `seq` of a resumed room; 0 where there is no message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Head {
    pub room: Room,
    pub head: u64,
}

/// A room that could not be resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    pub room: Room,
    pub code: Code,
}

/// A message as everybody sees it.
#[derive(Clone, Debug, Serialize)]
pub struct ChatMessage<'a> {
    pub room: &'a Room,
    pub seq: Seq,
    pub from: &'a UserId,
    pub mid: &'a FrameId,
    /// Milliseconds since 1970, by the server's clock.
    pub ts: u64,
    #[serde(rename = "body", serialize_with = "body")]
    pub text: &'a str,
}

fn body<S: Serializer>(text: &str, to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(1))?;
    map.serialize_entry("text", text)?;
    map.end()
}

impl<'a> ServerFrame<'a> {
    pub fn refusal(id: Option<&'a FrameId>, refusal: &'a Refusal) -> Self {
        Self::Error {
            id,
            code: refusal.code,
            message: &refusal.message,
            retry: refusal.code.retry(),
            retry_ms: refusal.retry_ms,
        }
    }

    /// The frame as it goes over the wire.
    #[expect(clippy::expect_used, reason = "strings, numbers and lists of them always have a JSON form")]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a frame has a JSON form")
    }

    pub fn to_bytes(&self) -> Bytes {
        Bytes::from(self.to_json())
    }
}
