//! What a client of `chat.v1` keeps in mind, without any input or output: the rooms it is in, how far it has seen them,
//! what it has asked and what it has still to say. Everything that happens comes in, with the time; what is to be sent and
//! shown goes out. The protocol is `docs/protocol.md`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::questions::{Pending, Purpose, What, Wish, back_off};
use super::room::Room;

/// A message that was stored while this connection resumed may have come neither way; a second look finds it.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// How often a connection shows that it lives. The gateway ends one that was silent for ten minutes.
pub(super) const PING_EVERY: Duration = Duration::from_secs(120);
/// Limits of the protocol.
const RESUME_MAX: usize = 25;
pub(super) const BATCH_MAX: u64 = 100;

/// What the driver has to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    Send(Value),
    Show(Event),
    /// The connection is of no use any more, for this reason.
    Redial(String),
}

/// What the user is told. With `--json` each is a line.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// Let in, and welcomed.
    Connected {
        user: String,
    },
    /// Not connected (any more); the next attempt is so far away.
    Disconnected {
        reason: String,
        retry_ms: u64,
    },
    /// Somebody said something. `old`: it was said before one came in.
    Message {
        room: String,
        seq: u64,
        from: String,
        ts: u64,
        text: String,
        old: bool,
    },
    /// What is said from now on goes here.
    Entered {
        room: String,
    },
    Left {
        room: String,
    },
    Presence {
        room: String,
        user: String,
        state: Presence,
    },
    Who {
        room: String,
        users: Vec<String>,
        more: bool,
    },
    /// Rooms of two in which there is something.
    Direct {
        rooms: Vec<String>,
    },
    /// Messages that cannot be had, or are too many to be shown.
    Gap {
        room: String,
        from: u64,
        to: u64,
    },
    /// Everything in the room has expired; it counts from 1 again.
    BeganAnew {
        room: String,
    },
    NotSent {
        room: String,
        text: String,
        code: String,
        message: String,
    },
    Refused {
        action: String,
        room: Option<String>,
        code: String,
        message: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Presence {
    Online,
    Offline,
}

/// Something to do later.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Task {
    Fill(String),
    Anew(String),
    Gone { room: String, user: String },
}

/// The state of one user's client, over all its connections.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) user: String,
    /// How many of a room's newest messages are shown when one comes in.
    pub(super) backlog: u64,
    /// Makes ids that no other run has made.
    pub(super) prefix: String,
    pub(super) ids: u64,
    pub(super) online: bool,
    pub(super) welcomed_before: bool,
    pub(super) current: Option<String>,
    pub(super) rooms: BTreeMap<String, Room>,
    /// Rooms of two that one knows of, whether they are watched or not.
    pub(super) met: BTreeSet<String>,
    /// Rooms that are to be left when what was said there is out.
    pub(super) parting: BTreeSet<String>,
    /// Who has left a room a moment ago and may come back.
    pub(super) leaving: BTreeSet<(String, String)>,
    pub(super) outbox: VecDeque<Wish>,
    pub(super) pending: BTreeMap<String, Pending>,
    pub(super) later: Vec<(Instant, Task)>,
    pub(super) ping_at: Option<Instant>,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) not_sent: u64,
}

impl Session {
    /// `prefix` must be one that nobody has used before.
    pub(crate) fn new(user: &str, backlog: u64, prefix: &str) -> Self {
        Self {
            user: user.to_owned(),
            backlog: backlog.min(BATCH_MAX),
            prefix: prefix.to_owned(),
            ids: 0,
            online: false,
            welcomed_before: false,
            current: None,
            rooms: BTreeMap::new(),
            met: BTreeSet::new(),
            parting: BTreeSet::new(),
            leaving: BTreeSet::new(),
            outbox: VecDeque::new(),
            pending: BTreeMap::new(),
            later: Vec::new(),
            ping_at: None,
            sent: 0,
            received: 0,
            not_sent: 0,
        }
    }

    /// Where what is said goes.
    pub(crate) fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }

    pub(crate) fn rooms(&self) -> impl Iterator<Item = &str> {
        self.rooms.keys().map(String::as_str)
    }

    pub(crate) const fn is_online(&self) -> bool {
        self.online
    }

    /// Whether the server has ever let one in and greeted.
    pub(crate) const fn was_welcomed(&self) -> bool {
        self.welcomed_before
    }

    // Connections

    /// A connection was opened: what to say first.
    pub(crate) fn opened(&mut self, now: Instant) -> Vec<Step> {
        let resumable: Vec<Value> = self
            .rooms
            .iter()
            .filter_map(|(name, room)| Some(json!({ "room": name, "seq": room.seq? })))
            .collect();
        // A hello has room for so many.
        let mut hellos: Vec<Vec<Value>> = resumable.chunks(RESUME_MAX).map(<[Value]>::to_vec).collect();
        if hellos.is_empty() {
            hellos.push(Vec::new());
        }
        let hellos: Vec<Value> =
            hellos.into_iter().map(|resume| json!({ "action": "hello", "v": 1, "resume": resume })).collect();
        // Nothing else may be asked before the welcome.
        hellos.into_iter().map(|hello| Step::Send(self.register(Purpose::Hello, hello, now))).collect()
    }

    /// The connection is gone. What was not answered is asked again on the next one.
    pub(crate) fn closed(&mut self) {
        self.online = false;
        self.ping_at = None;
        // The next one is in no room that it does not enter itself.
        let parting = std::mem::take(&mut self.parting);
        self.parting = parting.into_iter().filter(|room| self.wants_something_in(room)).collect();
        let (rooms, parting) = (&self.rooms, &self.parting);
        self.pending.retain(|_, asked| match &asked.purpose {
            Purpose::Hello | Purpose::Ping | Purpose::Leave(_) => false,
            Purpose::Join(room) => rooms.contains_key(room) || parting.contains(room),
            _ => true,
        });
    }

    /// What the server said.
    pub(crate) fn received(&mut self, text: &str, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        for asked in self.pending.values_mut() {
            asked.heard = true;
        }
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return steps };
        let Some(kind) = frame["type"].as_str() else {
            // The gateway's own: some handler failed or was throttled, and it does not say which question it was.
            for asked in self.pending.values_mut().filter(|asked| !matches!(asked.purpose, Purpose::Ping)) {
                asked.due = asked.due.min(now + back_off(asked.attempts));
                asked.put_off = true;
            }
            return steps;
        };
        self.ping_at = Some(now + PING_EVERY);
        if kind == "pong" {
            self.pending.retain(|_, asked| !matches!(asked.purpose, Purpose::Ping));
            return steps;
        }
        match frame["id"].as_str().map(str::to_owned) {
            Some(id) => {
                if let Some(asked) = self.pending.remove(&id) {
                    if kind == "error" {
                        self.refused(id, asked, &frame, now, &mut steps);
                    } else {
                        self.answered(asked.purpose, &frame, now, &mut steps);
                    }
                }
            }
            None => self.posted(kind, &frame, now, &mut steps),
        }
        self.proceed(now, &mut steps);
        steps
    }

    fn posted(&mut self, kind: &str, frame: &Value, now: Instant, steps: &mut Vec<Step>) {
        let Some(room) = frame["room"].as_str() else {
            if kind == "error" {
                steps.push(Step::Show(Event::Refused {
                    action: "frame".to_owned(),
                    room: None,
                    code: text_of(frame, "code"),
                    message: text_of(frame, "message"),
                }));
            }
            return;
        };
        match kind {
            "message" => {
                // Somebody speaks first; named rooms only speak to those who joined.
                if !self.rooms.contains_key(room) && is_direct_of(room, &self.user) {
                    self.begin(room, now, steps);
                }
                self.accept(room, std::slice::from_ref(frame), now, steps);
            }
            "batch" => self.fill_with(room, frame, now, steps),
            "presence" => self.presence(room, frame, now, steps),
            _ => {}
        }
    }

    pub(super) fn welcomed(&mut self, welcome: &Value, now: Instant, steps: &mut Vec<Step>) {
        if let Some(user) = welcome["user"].as_str() {
            user.clone_into(&mut self.user);
        }
        // A connection that resumes many rooms says hello more than once, and is in all of them after the last welcome.
        let last = !self.pending.values().any(|asked| matches!(asked.purpose, Purpose::Hello));
        if last {
            steps.push(Step::Show(Event::Connected { user: self.user.clone() }));
        }
        for entry in welcome["rooms"].as_array().into_iter().flatten() {
            let (Some(name), Some(head)) = (entry["room"].as_str(), entry["head"].as_u64()) else { continue };
            let Some(room) = self.rooms.get_mut(name) else {
                // It was left after the greeting that resumed it.
                if !name.starts_with('@') {
                    self.parting.insert(name.to_owned());
                }
                continue;
            };
            // Left and entered again since then, it has a beginning to come.
            if room.seq.is_none() {
                continue;
            }
            if Some(head) < room.seq {
                self.later.push((now + SECOND_LOOK, Task::Anew(name.to_owned())));
                continue;
            }
            room.head = room.head.max(head);
            // What was missed is on its way; the look afterwards is for what came neither way.
            room.filling = true;
            self.later.push((now + SECOND_LOOK, Task::Fill(name.to_owned())));
        }
        let mut again = Vec::new();
        for entry in welcome["refused"].as_array().into_iter().flatten() {
            let room = text_of(entry, "room");
            let code = text_of(entry, "code");
            if matches!(code.as_str(), "UNAVAILABLE" | "INTERNAL") {
                again.push(room);
                continue;
            }
            self.drop_room(&room);
            let (action, message) = ("join".to_owned(), "it could not be joined again".to_owned());
            steps.push(Step::Show(Event::Refused { action, room: Some(room), code, message }));
        }
        // Asked with all else after the last welcome, so that nothing is said in them before.
        for room in again {
            if self.rooms.contains_key(&room) {
                self.begin(&room, now, steps);
            }
        }
        if last {
            self.online = true;
            self.resume_questions(now, steps);
            self.meet(welcome, now, steps);
            self.welcomed_before = true;
        }
    }

    /// Rooms of two that have something in them.
    fn meet(&mut self, welcome: &Value, now: Instant, steps: &mut Vec<Step>) {
        let direct = welcome["direct"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let unknown: Vec<String> =
            direct.filter(|name| self.met.insert((*name).to_owned())).map(str::to_owned).collect();
        if self.welcomed_before {
            // They have come to be while one was away, so all that is in them is new.
            for name in unknown {
                self.rooms.insert(name.clone(), Room::shown_to(0));
                self.ask_to_fill(&name, now, steps);
            }
            return;
        }
        if !unknown.is_empty() {
            steps.push(Step::Show(Event::Direct { rooms: unknown.clone() }));
        }
        for name in unknown.into_iter().take(RESUME_MAX) {
            self.rooms.insert(name.clone(), Room::default());
            let frame = json!({ "action": "history", "room": name, "limit": 1 });
            self.ask(Purpose::Mark(name), frame, now, steps);
        }
    }

    // Wishes

    /// Goes into a room, or only turns to it if one is in it.
    pub(crate) fn enter(&mut self, name: &str, now: Instant) -> Vec<Step> {
        let mut steps = vec![Step::Show(Event::Entered { room: name.to_owned() })];
        self.current = Some(name.to_owned());
        let watched_from = match self.rooms.get_mut(name) {
            None => {
                self.begin(name, now, &mut steps);
                return steps;
            }
            Some(room) => room.watched_from.take(),
        };
        let marks = |asked: &Pending| matches!(&asked.purpose, Purpose::Mark(room) if room == name);
        if self.pending.values().any(marks) {
            // Now it is to be begun with, and not only to be noticed.
            self.pending.retain(|_, asked| !marks(asked));
            self.begin(name, now, &mut steps);
        } else if let Some(seq) = watched_from.filter(|seq| *seq > 0 && self.backlog > 0) {
            let what = What::Look { before: Some(seq + 1), limit: self.backlog };
            self.wish(name, what, now, &mut steps);
        }
        steps
    }

    pub(crate) fn leave(&mut self, name: &str, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        if !self.rooms.contains_key(name) {
            return steps;
        }
        steps.push(Step::Show(Event::Left { room: name.to_owned() }));
        if self.current.as_deref() == Some(name) {
            self.current = None;
        }
        // Whoever is one of two stays it, and hears what the other one says.
        if name.starts_with('@') {
            return steps;
        }
        self.drop_room(name);
        if self.online || self.wants_something_in(name) {
            self.parting.insert(name.to_owned());
            self.proceed(now, &mut steps);
        } else {
            // Whoever is not connected is in no room.
            self.pending.retain(|_, asked| !matches!(&asked.purpose, Purpose::Join(room) if room == name));
        }
        steps
    }
}

/// The name of the room of two.
pub(crate) fn direct_room(one: &str, other: &str) -> String {
    if one < other { format!("@{one},{other}") } else { format!("@{other},{one}") }
}

/// Whom `me` talks to in a room of two.
pub(crate) fn peer<'a>(room: &'a str, me: &str) -> Option<&'a str> {
    let (one, other) = room.strip_prefix('@')?.split_once(',')?;
    match (one == me, other == me) {
        (true, false) => Some(other),
        (false, true) => Some(one),
        _ => None,
    }
}

fn is_direct_of(room: &str, me: &str) -> bool {
    peer(room, me).is_some()
}

pub(super) fn text_of(frame: &Value, field: &str) -> String {
    frame[field].as_str().unwrap_or_default().to_owned()
}
