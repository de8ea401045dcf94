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
/// How often a question is asked again, lost connections not counted, before it is given up.
const ATTEMPTS: u32 = 10;
const TEXT_MAX_CHARS: usize = 4_000;
const FRAME_MAX_BYTES: usize = 16 * 1024;

/// Why a question was asked.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    Hello,
    Join(String),
    Leave,
    /// The newest messages of a room, to begin with.
    Begin(String),
    /// What is missing.
    Fill(String),
    /// Where a room ends, in order to notice what comes.
    Mark(String),
    /// Whether a room really began anew.
    Anew(String),
    Look(String),
    Who(String),
    Say(Outgoing),
    Ping,
}

impl Purpose {
    /// The room whose messages are being looked for.
    pub(super) fn is_fill_of(&self, name: &str) -> bool {
        matches!(self, Self::Fill(room) if room == name)
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
    /// When it is asked again.
    pub(super) due: Instant,
    /// How often it was asked again on a connection that was there.
    pub(super) attempts: u32,
}

impl Session {
    /// How many messages wait, the one under way included.
    pub(crate) fn waiting(&self) -> usize {
        let under_way =
            self.pending.values().filter(|asked| matches!(asked.purpose, Purpose::Say(_))).count();
        self.outbox.len() + under_way
    }

    /// Whether everything was answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.outbox.is_empty()
            && self.pending.values().all(|asked| matches!(asked.purpose, Purpose::Ping | Purpose::Mark(_)))
    }

    pub(super) fn answered(&mut self, purpose: Purpose, frame: &Value, now: Instant, steps: &mut Vec<Step>) {
        match purpose {
            Purpose::Hello => self.welcomed(frame, now, steps),
            Purpose::Join(room) => self.ask_for_beginning(&room, now, steps),
            Purpose::Leave | Purpose::Ping => {}
            Purpose::Begin(name) => {
                if let Some(room) = self.rooms.get_mut(&name) {
                    let items = messages(frame);
                    let first =
                        items.first().map_or(frame["upto"].as_u64().unwrap_or(0) + 1, |item| item.seq);
                    room.seq.get_or_insert(first.saturating_sub(1));
                    room.old_until = items.last().map_or(0, |item| item.seq);
                    self.take(&name, items, now, steps);
                }
            }
            Purpose::Fill(name) => self.fill_with(&name, frame, now, steps),
            Purpose::Mark(name) => {
                if let Some(room) = self.rooms.get_mut(&name) {
                    room.seq.get_or_insert(frame["upto"].as_u64().unwrap_or(0));
                    self.take(&name, Vec::new(), now, steps);
                }
            }
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
        self.give_up(asked, code, message, steps);
    }

    fn give_up(&mut self, asked: Pending, code: String, message: String, steps: &mut Vec<Step>) {
        let (action, room) = match asked.purpose {
            Purpose::Say(Outgoing { room, text }) => {
                self.not_sent += 1;
                steps.push(Step::Show(Event::NotSent { room, text, code, message }));
                return;
            }
            Purpose::Join(room) | Purpose::Begin(room) => {
                self.drop_room(&room);
                ("join", Some(room))
            }
            // Nobody is in a room that one could not leave.
            Purpose::Leave | Purpose::Mark(_) | Purpose::Anew(_) => return,
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
        for asked in self.pending.values_mut().filter(|asked| !matches!(asked.purpose, Purpose::Hello)) {
            asked.due = now + ANSWER_WITHIN;
            steps.push(Step::Send(asked.frame.clone()));
        }
        let begun = |purpose: &Purpose, name: &str| matches!(purpose, Purpose::Join(room) | Purpose::Begin(room) if room == name);
        let waiting: Vec<String> = self
            .rooms
            .iter()
            .filter(|(_, room)| room.seq.is_none())
            .map(|(name, _)| name.clone())
            .filter(|name| !self.pending.values().any(|asked| begun(&asked.purpose, name)))
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
            Some(format!("it has {chars} characters, and at most {TEXT_MAX_CHARS} are taken"))
        } else if longest.to_string().len() > FRAME_MAX_BYTES {
            Some(format!("its frame would have more than {FRAME_MAX_BYTES} bytes"))
        } else {
            None
        };
        if let Some(message) = problem {
            self.not_sent += 1;
            let (room, text) = (room.to_owned(), text.to_owned());
            steps.push(Step::Show(Event::NotSent { room, text, code: "TOO_LARGE".to_owned(), message }));
            return steps;
        }
        self.outbox.push_back(Outgoing { room: room.to_owned(), text: text.to_owned() });
        self.say_next(now, &mut steps);
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
            asked.attempts += 1;
            if asked.attempts > ATTEMPTS {
                let message = format!("it was not answered {ATTEMPTS} times");
                self.give_up(asked, "TIMEOUT".to_owned(), message, &mut steps);
                continue;
            }
            steps.push(Step::Send(asked.frame.clone()));
            self.pending.insert(id, Pending { due: now + ANSWER_WITHIN, ..asked });
        }
        if self.ping_at.is_some_and(|at| at <= now) {
            self.ping_at = Some(now + PING_EVERY);
            self.ask(Purpose::Ping, json!({ "action": "ping" }), now, &mut steps);
        }
        self.say_next(now, &mut steps);
        steps
    }

    // Questions

    pub(super) fn register(&mut self, purpose: Purpose, mut frame: Value, now: Instant) -> Value {
        self.ids += 1;
        let id = format!("{}-{}", self.prefix, self.ids);
        frame["id"] = Value::from(id.clone());
        let due = now + ANSWER_WITHIN;
        self.pending.insert(id, Pending { frame: frame.clone(), purpose, due, attempts: 0 });
        frame
    }

    /// Asks now, or with the next connection.
    pub(super) fn ask(&mut self, purpose: Purpose, frame: Value, now: Instant, steps: &mut Vec<Step>) {
        let frame = self.register(purpose, frame, now);
        if self.online {
            steps.push(Step::Send(frame));
        }
    }

    /// One at a time, since messages of one connection are handled at the same time: that keeps them in order.
    pub(super) fn say_next(&mut self, now: Instant, steps: &mut Vec<Step>) {
        if !self.online || self.pending.values().any(|asked| matches!(asked.purpose, Purpose::Say(_))) {
            return;
        }
        // Who speaks in a room has to be in it.
        let entered = |room: &str| self.rooms.get(room).is_none_or(|room| room.seq.is_some());
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
