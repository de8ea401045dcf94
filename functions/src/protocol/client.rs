//! What clients may say. Parsing is total: any bytes give a frame or a refusal, and the refusal carries the frame's
//! `id` wherever one could be read.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    BATCH_MAX, Code, FRAME_MAX_BYTES, HISTORY_DEFAULT, RESUME_MAX, Refusal, TEXT_MAX_CHARS, VERSION,
};
use crate::ids::{DeviceId, FrameId, Room, SEQ_MAX, Seq, UserId};

/// One request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientFrame {
    Hello { id: FrameId, device: Option<DeviceId>, resume: Vec<Resume> },
    Join { id: FrameId, room: Room },
    Leave { id: FrameId, room: Room },
    Send { id: FrameId, to: Target, text: String },
    History { id: FrameId, room: Room, range: History },
    Who { id: FrameId, room: Room },
    Ping { id: Option<FrameId> },
}

/// A room to be in again, and what the client has of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    pub room: Room,
    /// The last `seq` that arrived; 0 for none.
    pub seq: u64,
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Room(Room),
    User(UserId),
}

/// Which messages are wanted: `after < seq < before`, the oldest of them if `after` is given, else the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    pub after: Option<u64>,
    pub before: Option<Seq>,
    pub limit: usize,
}

impl ClientFrame {
    pub fn id(&self) -> Option<&FrameId> {
        match self {
            Self::Hello { id, .. }
            | Self::Join { id, .. }
            | Self::Leave { id, .. }
            | Self::Send { id, .. }
            | Self::History { id, .. }
            | Self::Who { id, .. } => Some(id),
            Self::Ping { id } => id.as_ref(),
        }
    }
}

/// Reads one text frame.
///
/// # Errors
/// The refusal to answer with, and the id to answer to.
pub fn parse(text: &str) -> Result<ClientFrame, (Option<FrameId>, Refusal)> {
    if text.len() > FRAME_MAX_BYTES {
        let refusal =
            Refusal::new(Code::TooLarge, format!("a frame may have at most {FRAME_MAX_BYTES} bytes"));
        return Err((id_of_anything(text), refusal));
    }
    // serde_json stops at a depth of 128, so that nesting cannot exhaust the stack.
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(why) => {
            return Err((None, Refusal::new(Code::BadJson, format!("not a JSON text: {why}"))));
        }
    };
    let Value::Object(fields) = value else {
        return Err((None, Refusal::new(Code::BadJson, "a frame is one JSON object")));
    };
    let id = fields.get("id").and_then(Value::as_str).and_then(FrameId::parse);
    Fields(&fields).frame(id.clone()).map_err(|refusal| (id, refusal))
}

/// Only the id of a frame that is too large to be read: no allocation for the rest of it.
fn id_of_anything(text: &str) -> Option<FrameId> {
    #[derive(Deserialize)]
    struct OnlyId<'a> {
        #[serde(borrow)]
        id: Option<Cow<'a, str>>,
    }
    let only: OnlyId<'_> = serde_json::from_str(text).ok()?;
    FrameId::parse(&only.id?)
}

/// The fields of one frame, each read as what it must be. Fields nobody asks for are ignored.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn frame(&self, id: Option<FrameId>) -> Result<ClientFrame, Refusal> {
        let action = match self.0.get("action") {
            Some(Value::String(action)) => action.as_str(),
            Some(_) => return Err(Refusal::bad_request("`action` must be a string")),
            None => return Err(Refusal::bad_request("`action` is missing")),
        };
        if action == "ping" {
            return Ok(ClientFrame::Ping { id });
        }
        if !matches!(action, "hello" | "join" | "leave" | "send" | "history" | "who") {
            let known = "hello, join, leave, send, history, who, ping";
            return Err(Refusal::new(Code::UnknownAction, format!("the actions are {known}")));
        }
        let id = id.ok_or_else(|| malformed("id", ID_SHAPE))?;
        match action {
            "hello" => self.hello(id),
            "join" => Ok(ClientFrame::Join { id, room: self.room()? }),
            "leave" => Ok(ClientFrame::Leave { id, room: self.room()? }),
            "send" => Ok(ClientFrame::Send { id, to: self.target()?, text: self.text()? }),
            "history" => Ok(ClientFrame::History { id, room: self.room()?, range: self.range()? }),
            _ => Ok(ClientFrame::Who { id, room: self.room()? }),
        }
    }

    fn hello(&self, id: FrameId) -> Result<ClientFrame, Refusal> {
        if self.number("v", 0, u64::MAX)?.is_some_and(|v| v != VERSION) {
            return Err(Refusal::new(
                Code::UnsupportedVersion,
                format!("this server speaks version {VERSION}"),
            ));
        }
        let device = match self.string("device")? {
            Some(text) => Some(DeviceId::parse(text).ok_or_else(|| malformed("device", ID_SHAPE))?),
            None => None,
        };
        let mut resume: Vec<Resume> = Vec::new();
        match self.0.get("resume") {
            None | Some(Value::Null) => {}
            Some(Value::Array(items)) if items.len() <= RESUME_MAX => {
                for item in items {
                    let Value::Object(fields) = item else {
                        return Err(malformed("resume", "a list of objects with `room` and `seq`"));
                    };
                    let fields = Fields(fields);
                    let (room, seq) = (fields.room()?, fields.number("seq", 0, SEQ_MAX)?);
                    let seq = seq.ok_or_else(|| malformed("seq", "a number from 0"))?;
                    // Named twice, a room is one room of which the client has as much as the smaller number says.
                    match resume.iter_mut().find(|seen| seen.room == room) {
                        Some(seen) => seen.seq = seen.seq.min(seq),
                        None => resume.push(Resume { room, seq }),
                    }
                }
            }
            Some(Value::Array(_)) => {
                return Err(Refusal::bad_request(format!("`resume` may name at most {RESUME_MAX} rooms")));
            }
            Some(_) => return Err(malformed("resume", "a list of objects with `room` and `seq`")),
        }
        Ok(ClientFrame::Hello { id, device, resume })
    }

    fn target(&self) -> Result<Target, Refusal> {
        match (self.string("room")?, self.string("to")?) {
            (Some(_), None) => Ok(Target::Room(self.room()?)),
            (None, Some(user)) => {
                Ok(Target::User(UserId::parse(user).ok_or_else(|| malformed("to", ID_SHAPE))?))
            }
            _ => Err(Refusal::bad_request("a message needs one of `room` and `to`")),
        }
    }

    fn text(&self) -> Result<String, Refusal> {
        let Some(Value::Object(body)) = self.0.get("body") else {
            return Err(malformed("body", "an object with `text`"));
        };
        let body = Fields(body);
        let text = body.string("text")?.ok_or_else(|| malformed("body.text", "a string"))?;
        if text.is_empty() {
            return Err(Refusal::bad_request("`body.text` is empty"));
        }
        if text.len() > TEXT_MAX_CHARS && text.chars().count() > TEXT_MAX_CHARS {
            return Err(Refusal::new(
                Code::TooLarge,
                format!("a text may have at most {TEXT_MAX_CHARS} characters"),
            ));
        }
        Ok(text.to_owned())
    }

    fn range(&self) -> Result<History, Refusal> {
        let after = self.number("after", 0, SEQ_MAX)?;
        let before = self.number("before", 1, SEQ_MAX)?.and_then(Seq::new);
        let limit = self.number("limit", 1, BATCH_MAX as u64)?;
        Ok(History { after, before, limit: limit.map_or(HISTORY_DEFAULT, |n| n as usize) })
    }

    fn room(&self) -> Result<Room, Refusal> {
        self.string("room")?.and_then(Room::parse).ok_or_else(|| malformed("room", ROOM_SHAPE))
    }

    /// A field that may be absent or null, but not of another type.
    fn string(&self, field: &str) -> Result<Option<&str>, Refusal> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(malformed(field, "a string")),
        }
    }

    fn number(&self, field: &str, min: u64, max: u64) -> Result<Option<u64>, Refusal> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64() {
                Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
                _ => Err(malformed(field, &format!("a whole number from {min} to {max}"))),
            },
        }
    }
}

const ID_SHAPE: &str = "a string of 1 to 64 of A-Z a-z 0-9 _ . : -";
const ROOM_SHAPE: &str = "a string of 1 to 64 of A-Z a-z 0-9 _ . : -, or for two people `@` and both ids, the smaller first, with a comma";

fn malformed(field: &str, shape: &str) -> Refusal {
    Refusal::bad_request(format!("`{field}` must be {shape}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(text: &str) -> (Option<String>, Code) {
        let (id, refusal) = parse(text).expect_err(text);
        (id.map(|id| id.to_string()), refusal.code)
    }

    #[test]
    fn every_action_is_read() {
        for (text, action) in [
            (r#"{"action":"hello","id":"1"}"#, "Hello"),
            (
                r#"{"action":"hello","id":"1","v":1,"device":"d","resume":[{"room":"r","seq":0},{"room":"@a,b","seq":7}]}"#,
                "Hello",
            ),
            (r#"{"action":"join","id":"1","room":"r"}"#, "Join"),
            (r#"{"action":"leave","id":"1","room":"r"}"#, "Leave"),
            (
                r#"{"action":"send","id":"1","room":"@a,b","body":{"text":"hi","later":[1]},"to":null}"#,
                "Send",
            ),
            (r#"{"action":"send","id":"1","to":"bob","body":{"text":"hi"}}"#, "Send"),
            (r#"{"action":"history","id":"1","room":"r","before":9,"after":0,"limit":100}"#, "History"),
            (r#"{"action":"who","id":"1","room":"r","unknown":{"deep":[[[]]]}}"#, "Who"),
            (r#"{"action":"ping"}"#, "Ping"),
        ] {
            let frame = parse(text).unwrap();
            assert!(format!("{frame:?}").starts_with(action), "{text} became {frame:?}");
        }
    }

    #[test]
    fn refusals_carry_the_id_they_answer() {
        let one = || Some("1".to_owned());
        for (text, id, code) in [
            ("", None, Code::BadJson),
            ("{", None, Code::BadJson),
            ("[]", None, Code::BadJson),
            ("\"hello\"", None, Code::BadJson),
            (r#"{"id":"1"}"#, one(), Code::BadRequest),
            (r#"{"id":"1","action":7}"#, one(), Code::BadRequest),
            (r#"{"id":"1","action":"typing","room":"r"}"#, one(), Code::UnknownAction),
            (r#"{"id":"1","action":"Join","room":"r"}"#, one(), Code::UnknownAction),
            (r#"{"action":"join","room":"r"}"#, None, Code::BadRequest),
            (r#"{"id":1,"action":"join","room":"r"}"#, None, Code::BadRequest),
            (r#"{"id":"a b","action":"join","room":"r"}"#, None, Code::BadRequest),
            (r#"{"id":"1","action":"join"}"#, one(), Code::BadRequest),
            (r#"{"id":"1","action":"join","room":["r"]}"#, one(), Code::BadRequest),
            (r#"{"id":"1","action":"join","room":"r#M#1"}"#, one(), Code::BadRequest),
            (r#"{"id":"1","action":"join","room":"../r"}"#, one(), Code::BadRequest),
            (r#"{"id":"1","action":"hello","v":2}"#, one(), Code::UnsupportedVersion),
            (r#"{"id":"1","action":"hello","resume":{}}"#, one(), Code::BadRequest),
            (r#"{"id":"1","action":"hello","resume":[{"room":"r"}]}"#, one(), Code::BadRequest),
            (r#"{"id":"1","action":"hello","resume":[{"room":"r","seq":-1}]}"#, one(), Code::BadRequest),
            (r#"{"id":"1","action":"send","room":"r"}"#, one(), Code::BadRequest),
            (r#"{"id":"1","action":"send","room":"r","body":{"text":""}}"#, one(), Code::BadRequest),
            (r#"{"id":"1","action":"send","room":"r","body":{"text":1}}"#, one(), Code::BadRequest),
            (
                r#"{"id":"1","action":"send","room":"r","to":"b","body":{"text":"x"}}"#,
                one(),
                Code::BadRequest,
            ),
            (r#"{"id":"1","action":"send","body":{"text":"x"}}"#, one(), Code::BadRequest),
            (r#"{"id":"1","action":"send","to":"a,b","body":{"text":"x"}}"#, one(), Code::BadRequest),
            (r#"{"id":"1","action":"history","room":"r","limit":101}"#, one(), Code::BadRequest),
            (r#"{"id":"1","action":"history","room":"r","limit":0}"#, one(), Code::BadRequest),
            (r#"{"id":"1","action":"history","room":"r","before":0}"#, one(), Code::BadRequest),
            (r#"{"id":"1","action":"history","room":"r","before":1.5}"#, one(), Code::BadRequest),
            (r#"{"id":"1","action":"history","room":"r","after":1e30}"#, one(), Code::BadRequest),
        ] {
            assert_eq!(refused(text), (id, code), "{text}");
        }
    }

    #[test]
    fn limits_are_exact() {
        let send =
            |text: &str| format!(r#"{{"action":"send","id":"1","room":"r","body":{{"text":"{text}"}}}}"#);
        assert!(parse(&send(&"ä".repeat(4_000))).is_ok());
        assert_eq!(refused(&send(&"ä".repeat(4_001))), (Some("1".into()), Code::TooLarge));
        let padded = |bytes: usize| {
            let frame = r#"{"action":"ping","id":"1"}"#;
            frame.to_owned() + &" ".repeat(bytes - frame.len())
        };
        assert!(parse(&padded(FRAME_MAX_BYTES)).is_ok());
        assert_eq!(refused(&padded(FRAME_MAX_BYTES + 1)), (Some("1".into()), Code::TooLarge));
        assert_eq!(refused(&"x".repeat(FRAME_MAX_BYTES + 1)), (None, Code::TooLarge));
    }

    #[test]
    fn depth_bombs_are_refused_not_followed() {
        for opening in ["[", r#"{"a":"#] {
            assert_eq!(refused(&opening.repeat(FRAME_MAX_BYTES / opening.len())), (None, Code::BadJson));
            assert_eq!(refused(&opening.repeat(100_000)), (None, Code::TooLarge));
        }
        let nested =
            format!(r#"{{"action":"ping","id":"1","x":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
        assert_eq!(refused(&nested), (None, Code::BadJson));
    }

    #[test]
    fn a_room_resumed_twice_is_resumed_once() {
        let text = r#"{"action":"hello","id":"1","resume":[{"room":"r","seq":9},{"room":"r","seq":3}]}"#;
        let Ok(ClientFrame::Hello { resume, .. }) = parse(text) else { panic!("not a hello") };
        assert_eq!(resume, [Resume { room: Room::parse("r").unwrap(), seq: 3 }]);
        let rooms: Vec<String> = (0..26).map(|n| format!(r#"{{"room":"r{n}","seq":0}}"#)).collect();
        let text = format!(r#"{{"action":"hello","id":"1","resume":[{}]}}"#, rooms.join(","));
        assert_eq!(refused(&text), (Some("1".into()), Code::BadRequest));
    }

    /// JSON that looks like frames often enough to get past the first checks.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
            "[A-Za-z0-9_.:@,#-]{0,66}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map("room|seq|text|[a-z]{1,4}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn frame() -> impl Strategy<Value = String> {
        let field = "action|id|room|to|body|resume|device|v|after|before|limit|x";
        let action = "hello|join|leave|send|history|who|ping|ban";
        let fields = prop::collection::hash_map(field, json(), 0..8);
        (fields, prop::option::of(action)).prop_map(|(fields, action)| {
            let mut map: Map<String, Value> = fields.into_iter().collect();
            if let Some(action) = action {
                map.insert("action".into(), action.into());
            }
            Value::Object(map).to_string()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn random_frames_never_panic(text in prop_oneof![frame(), "\\PC{0,200}", "[\\[\\]{}\":,a-z0-9]{0,200}"]) {
            let id = serde_json::from_str::<Value>(&text)
                .ok()
                .and_then(|value| value.get("id").and_then(Value::as_str).and_then(FrameId::parse));
            match parse(&text) {
                Ok(frame) => prop_assert_eq!(frame.id(), id.as_ref()),
                Err((answered, _)) => prop_assert_eq!(answered, id),
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&String::from_utf8_lossy(&bytes));
        }
    }
}
