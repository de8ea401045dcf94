//! What a client has asked, and asks again until it is answered: under the same id, which the server takes for the same
//! question, over as many connections as it takes. Messages wait their turn here, too.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::delivery::{messages, show};
use super::session::{Event, PING_EVERY, Presence, Session, Step, Task, text_of};

/// How long an answer may take before the question is asked again, under the same id.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Before a question is asked again after a retryable refusal; doubles with each.
const BACK_OFF: Duration = Duration::from_millis(250);
const BACK_OFF_MAX: Duration = Duration::from_secs(8);
/// How often a question is asked again, on connections that live, before it is given up.
const ATTEMPTS: u32 = 10;
/// Messages that may wait.
pub(super) const OUTBOX: usize = 64;
const TEXT_MAX_CHARS: usize = 4_000;
const FRAME_MAX_BYTES: usize = 16 * 1024;

/// Why a question was asked.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    Hello,
    Join(String),
    Leave(String),
    /// The newest messages of a room, to begin with.
    Begin(String),
    /// What is missing.
    Fill(String),
    /// Where a room ends that nobody has asked for, in order to notice what comes.
    Mark(String),
    /// Whether a room really began anew.
    Anew(String),
    Look(String),
    Who(String),
    Say(Outgoing),
    Ping,
}

impl Purpose {
    /// What it is about, if that is a room.
    pub(super) fn room(&self) -> Option<&str> {
        match self {
            Self::Hello | Self::Ping => None,
            Self::Join(room)
            | Self::Leave(room)
            | Self::Begin(room)
            | Self::Fill(room)
            | Self::Mark(room)
            | Self::Anew(room)
            | Self::Look(room)
            | Self::Who(room)
            | Self::Say(Outgoing { room, .. }) => Some(room),
        }
    }

    /// Whether it follows what is said in its room, and so ends with one's being there.
    pub(super) const fn follows(&self) -> bool {
        matches!(self, Self::Begin(_) | Self::Fill(_) | Self::Mark(_) | Self::Anew(_))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    room: String,
    text: String,
}

/// A question without an answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) frame: Value,
    pub(super) purpose: Purpose,
    /// Whether the connection has said anything since it was asked.
    pub(super) heard: bool,
    /// When it is asked again.
    pub(super) due: Instant,
    /// How often it was asked again on a connection that had said something since.
    pub(super) attempts: u32,
}

impl Session {
    /// How many messages wait, the one under way included.
    pub(crate) fn waiting(&self) -> usize {
        let under_way =
            self.pending.values().filter(|asked| matches!(asked.purpose, Purpose::Say(_))).count();
        self.outbox.len() + under_way
    }

    /// Whether one has been let in, and everything was answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.welcomed_before
            && self.outbox.is_empty()
            && self.parting.is_empty()
            && self.pending.values().all(|asked| matches!(asked.purpose, Purpose::Ping | Purpose::Mark(_)))
    }

    pub(super) fn answered(&mut self, purpose: Purpose, frame: &Value, now: Instant, steps: &mut Vec<Step>) {
        match purpose {
            Purpose::Hello => self.welcomed(frame, now, steps),
            Purpose::Join(room) => {
                // One may have left it meanwhile.
                if self.rooms.contains_key(&room) {
                    self.ask_for_beginning(&room, now, steps);
                }
            }
            Purpose::Leave(room) => self.has_left(&room, now, steps),
            Purpose::Ping => {}
            Purpose::Begin(name) => {
                let items = if self.backlog == 0 { Vec::new() } else { messages(frame) };
                self.begin_with(&name, items, frame, now, steps);
            }
            Purpose::Fill(name) => self.fill_with(&name, frame, now, steps),
            Purpose::Mark(name) => self.begin_with(&name, Vec::new(), frame, now, steps),
            Purpose::Anew(name) => {
                let upto = frame["upto"].as_u64().unwrap_or(0);
                if let Some(room) = self.rooms.get_mut(&name).filter(|room| room.seq > Some(upto)) {
                    room.begin_anew();
                    steps.push(Step::Show(Event::BeganAnew { room: name.clone() }));
                    self.ask_to_fill(&name, now, steps);
                }
            }
            Purpose::Look(name) => {
                steps.extend(messages(frame).into_iter().map(|item| show(&name, item, true)));
            }
            Purpose::Who(room) => {
                let users = frame["users"].as_array().into_iter().flatten();
                let users = users.filter_map(Value::as_str).map(str::to_owned).collect();
                steps.push(Step::Show(Event::Who { room, users, more: frame["more"] == true }));
            }
            Purpose::Say(_) => self.sent += 1,
        }
    }

    pub(super) fn refused(
        &mut self,
        id: String,
        asked: Pending,
        frame: &Value,
        now: Instant,
        steps: &mut Vec<Step>,
    ) {
        let (code, message) = (text_of(frame, "code"), text_of(frame, "message"));
        // Whoever speaks too fast only has to wait.
        let attempts = if code == "RATE_LIMITED" { 0 } else { asked.attempts };
        if frame["retry"] == true && attempts < ATTEMPTS {
            let wait = frame["retry_ms"].as_u64().map_or_else(|| back_off(attempts), Duration::from_millis);
            self.pending.insert(id, Pending { due: now + wait, attempts, ..asked });
            return;
        }
        if matches!(code.as_str(), "TOKEN_EXPIRED" | "NOT_FOUND") && attempts < ATTEMPTS {
            // A new connection mends both, and asks again.
            self.pending.insert(id, Pending { attempts: attempts + 1, ..asked });
            steps.push(Step::Redial);
            return;
        }
        self.give_up(asked, code, message, now, steps);
    }

    fn give_up(
        &mut self,
        asked: Pending,
        code: String,
        message: String,
        now: Instant,
        steps: &mut Vec<Step>,
    ) {
        let (action, room) = match asked.purpose {
            Purpose::Say(Outgoing { room, text }) => {
                self.not_sent += 1;
                steps.push(Step::Show(Event::NotSent { room, text, code, message }));
                return;
            }
            Purpose::Join(room) | Purpose::Begin(room) => {
                self.parting.remove(&room);
                if !self.rooms.contains_key(&room) {
                    return;
                }
                self.drop_room(&room);
                ("join", Some(room))
            }
            // Nobody is in a room that one could not leave.
            Purpose::Leave(room) => {
                self.has_left(&room, now, steps);
                return;
            }
            Purpose::Anew(_) => return,
            // Whoever speaks in it opens it again.
            Purpose::Mark(room) => {
                self.drop_room(&room);
                ("history", Some(room))
            }
            Purpose::Fill(room) => {
                if let Some(room) = self.rooms.get_mut(&room) {
                    room.filling = false;
                }
                ("history", Some(room))
            }
            Purpose::Look(room) => ("history", Some(room)),
            Purpose::Who(room) => ("who", Some(room)),
            Purpose::Hello => ("hello", None),
            Purpose::Ping => {
                steps.push(Step::Redial);
                return;
            }
        };
        steps.push(Step::Show(Event::Refused { action: action.to_owned(), room, code, message }));
    }

    /// Asks again what the last connection did not answer, and joins what was never entered.
    pub(super) fn resume_questions(&mut self, now: Instant, steps: &mut Vec<Step>) {
        // A named room that has no beginning yet is no part of the hello: it has to be joined first.
        self.pending.retain(|_, asked| match &asked.purpose {
            Purpose::Begin(room) | Purpose::Mark(room) => room.starts_with('@'),
            _ => true,
        });
        for asked in self.pending.values_mut() {
            asked.heard = false;
            asked.due = now + ANSWER_WITHIN;
            steps.push(Step::Send(asked.frame.clone()));
        }
        let begins =
            |purpose: &Purpose| matches!(purpose, Purpose::Join(_) | Purpose::Begin(_) | Purpose::Mark(_));
        let waiting: Vec<String> = self
            .rooms
            .iter()
            .filter(|(_, room)| room.seq.is_none())
            .map(|(name, _)| name.clone())
            .filter(|name| !self.asks(name, begins))
            .collect();
        for name in waiting {
            self.begin(&name, now, steps);
        }
    }

    /// Says something, once everything before it has been said.
    pub(crate) fn say(&mut self, room: &str, text: &str, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        let longest =
            json!({ "action": "send", "id": "x".repeat(64), "room": room, "body": { "text": text } });
        let chars = text.chars().count();
        let problem = if chars > TEXT_MAX_CHARS {
            Some(("TOO_LARGE", format!("it has {chars} characters, and at most {TEXT_MAX_CHARS} are taken")))
        } else if longest.to_string().len() > FRAME_MAX_BYTES {
            Some(("TOO_LARGE", format!("its frame would have more than {FRAME_MAX_BYTES} bytes")))
        } else if self.waiting() >= OUTBOX {
            Some(("TOO_MANY", format!("{OUTBOX} messages wait already")))
        } else {
            None
        };
        if let Some((code, message)) = problem {
            self.not_sent += 1;
            let (room, text, code) = (room.to_owned(), text.to_owned(), code.to_owned());
            steps.push(Step::Show(Event::NotSent { room, text, code, message }));
            return steps;
        }
        self.outbox.push_back(Outgoing { room: room.to_owned(), text: text.to_owned() });
        self.proceed(now, &mut steps);
        steps
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let asked = self.pending.values().filter(|_| self.online).map(|asked| asked.due);
        let hello = self.pending.values().filter(|asked| matches!(asked.purpose, Purpose::Hello));
        let later = self.later.iter().map(|(at, _)| *at);
        asked.chain(hello.map(|asked| asked.due)).chain(later).chain(self.ping_at).min()
    }

    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        let (due, later) = std::mem::take(&mut self.later).into_iter().partition(|(at, _)| *at <= now);
        self.later = later;
        let due: Vec<(Instant, Task)> = due;
        for (_, task) in due {
            match task {
                Task::Fill(name) => self.ask_to_fill(&name, now, &mut steps),
                Task::Anew(name) => {
                    let frame = json!({ "action": "history", "room": name, "limit": 1 });
                    self.ask(Purpose::Anew(name), frame, now, &mut steps);
                }
                Task::Gone { room, user } => {
                    if self.leaving.remove(&(room.clone(), user.clone())) {
                        steps.push(Step::Show(Event::Presence { room, user, state: Presence::Offline }));
                    }
                }
            }
        }
        let overdue = |asked: &Pending| asked.due <= now;
        let late: Vec<String> =
            self.pending.iter().filter(|(_, asked)| overdue(asked)).map(|(id, _)| id.clone()).collect();
        for id in late {
            let Some(mut asked) = self.pending.remove(&id) else { continue };
            if matches!(asked.purpose, Purpose::Hello | Purpose::Ping) {
                // A connection that does not answer to these is none.
                steps.push(Step::Redial);
                continue;
            }
            if !self.online {
                self.pending.insert(id, Pending { due: now + ANSWER_WITHIN, ..asked });
                continue;
            }
            if asked.heard {
                asked.attempts += 1;
            } else if !self.pending.values().any(|asked| matches!(asked.purpose, Purpose::Ping)) {
                // Nothing at all has come since: it may be the connection, which a ping tells.
                self.ping_at = Some(now);
            }
            if asked.attempts > ATTEMPTS {
                let message = format!("it was not answered {ATTEMPTS} times");
                self.give_up(asked, "TIMEOUT".to_owned(), message, now, &mut steps);
                continue;
            }
            steps.push(Step::Send(asked.frame.clone()));
            self.pending.insert(id, Pending { heard: false, due: now + ANSWER_WITHIN, ..asked });
        }
        if self.ping_at.is_some_and(|at| at <= now) {
            self.ping_at = Some(now + PING_EVERY);
            self.ask(Purpose::Ping, json!({ "action": "ping" }), now, &mut steps);
        }
        self.proceed(now, &mut steps);
        steps
    }

    // Questions

    /// Whether such a question about a room has no answer yet.
    pub(super) fn asks(&self, room: &str, such: impl Fn(&Purpose) -> bool) -> bool {
        self.pending.values().any(|asked| asked.purpose.room() == Some(room) && such(&asked.purpose))
    }

    pub(super) fn register(&mut self, purpose: Purpose, mut frame: Value, now: Instant) -> Value {
        self.ids += 1;
        let id = format!("{}-{}", self.prefix, self.ids);
        frame["id"] = Value::from(id.clone());
        let due = now + ANSWER_WITHIN;
        self.pending.insert(id, Pending { frame: frame.clone(), purpose, heard: false, due, attempts: 0 });
        frame
    }

    /// Asks now, or with the next connection.
    pub(super) fn ask(&mut self, purpose: Purpose, frame: Value, now: Instant, steps: &mut Vec<Step>) {
        let frame = self.register(purpose, frame, now);
        if self.online {
            steps.push(Step::Send(frame));
        }
    }

    /// Goes on with what had to wait for an answer.
    pub(super) fn proceed(&mut self, now: Instant, steps: &mut Vec<Step>) {
        self.say_next(now, steps);
        self.leave_next(now, steps);
    }

    /// Goes out of rooms once everything that was said and asked there is answered.
    fn leave_next(&mut self, now: Instant, steps: &mut Vec<Step>) {
        let done = |room: &String| {
            !self.asks(room, |_| true) && !self.outbox.iter().any(|outgoing| outgoing.room == *room)
        };
        let left: Vec<String> = self.parting.iter().filter(|room| done(room)).cloned().collect();
        for room in left {
            self.parting.remove(&room);
            let frame = json!({ "action": "leave", "room": room });
            self.ask(Purpose::Leave(room), frame, now, steps);
        }
    }

    /// One at a time, since messages of one connection are handled at the same time: that keeps them in order.
    fn say_next(&mut self, now: Instant, steps: &mut Vec<Step>) {
        if !self.online || self.pending.values().any(|asked| matches!(asked.purpose, Purpose::Say(_))) {
            return;
        }
        // Who speaks in a room has to be in it.
        let entered = |name: &str| {
            self.rooms.get(name).is_none_or(|room| room.seq.is_some())
                && !self.asks(name, |purpose| matches!(purpose, Purpose::Join(_) | Purpose::Leave(_)))
        };
        if !self.outbox.front().is_some_and(|next| entered(&next.room)) {
            return;
        }
        if let Some(next) = self.outbox.pop_front() {
            let frame = json!({ "action": "send", "room": next.room, "body": { "text": next.text } });
            self.ask(Purpose::Say(next), frame, now, steps);
        }
    }
}

pub(super) fn back_off(attempts: u32) -> Duration {
    BACK_OFF.saturating_mul(2_u32.saturating_pow(attempts.min(8))).min(BACK_OFF_MAX)
}
