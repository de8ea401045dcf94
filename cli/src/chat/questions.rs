//! What a client has asked, and asks again until it is answered: under the same id, which the server takes for the same
//! question, over as many connections as it takes. Messages wait their turn here, too.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::delivery::{messages, show};
use super::session::{BATCH_MAX, Event, PING_EVERY, Presence, Session, Step, Task, text_of};

/// How long an answer may take before the question is asked again, under the same id.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Before a question is asked again after a retryable refusal; doubles with each.
const BACK_OFF: Duration = Duration::from_millis(250);
const BACK_OFF_MAX: Duration = Duration::from_secs(8);
/// How often a question is asked again, on connections that live, before it is given up.
const ATTEMPTS: u32 = 10;
/// How often a greeting is repeated on one connection. The next one may meet another process.
const GREETINGS: u32 = 2;
/// Messages and questions that may wait.
pub(super) const OUTBOX: usize = 64;
const NO_ANSWER: &str = "the server does not answer";
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
    Wish(Wish),
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
            | Self::Wish(Wish { room, .. }) => Some(room),
        }
    }

    /// Whether it follows what is said in its room, and so ends with one's being there.
    pub(super) const fn follows(&self) -> bool {
        matches!(self, Self::Begin(_) | Self::Fill(_) | Self::Mark(_) | Self::Anew(_))
    }
}

/// What the user wants in a room. One at a time, in order: the server handles the frames of a connection at the same time,
/// and whoever asks for the history after having said something wants to see that, too.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) room: String,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Say(String),
    /// So many messages again, the newest or those before a number.
    Look {
        before: Option<u64>,
        limit: u64,
    },
    Who,
}

impl Wish {
    const fn is_message(&self) -> bool {
        matches!(self.what, What::Say(_))
    }

    fn frame(&self) -> Value {
        let Self { room, what } = self;
        match what {
            What::Say(text) => json!({ "action": "send", "room": room, "body": { "text": text } }),
            What::Look { before: None, limit } => {
                json!({ "action": "history", "room": room, "limit": limit })
            }
            What::Look { before: Some(before), limit } => {
                json!({ "action": "history", "room": room, "before": before, "limit": limit })
            }
            What::Who => json!({ "action": "who", "room": room }),
        }
    }
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
    /// The server wants it to be asked again.
    pub(super) put_off: bool,
    /// How often it was asked again on a connection that had said something since.
    pub(super) attempts: u32,
}

impl Session {
    /// What the user wants and has not got yet, in order: first what is under way.
    fn wishes(&self) -> impl Iterator<Item = &Wish> {
        let under_way = self.pending.values().filter_map(|asked| match &asked.purpose {
            Purpose::Wish(wish) => Some(wish),
            _ => None,
        });
        under_way.chain(&self.outbox)
    }

    /// How many messages wait, the one under way included.
    pub(crate) fn waiting(&self) -> usize {
        self.wishes().filter(|wish| wish.is_message()).count()
    }

    /// Whether no more is taken for now.
    pub(crate) fn is_full(&self) -> bool {
        self.wishes().count() >= OUTBOX
    }

    pub(super) fn wants_something_in(&self, room: &str) -> bool {
        self.wishes().any(|wish| wish.room == room)
    }

    /// What to say of messages that will not be sent any more.
    pub(crate) fn unsaid(&self, why: &str) -> Vec<Event> {
        let unsaid = self.wishes().filter_map(|wish| match &wish.what {
            What::Say(text) => Some(Event::NotSent {
                room: wish.room.clone(),
                text: text.clone(),
                code: "NOT_CONNECTED".to_owned(),
                message: why.to_owned(),
            }),
            What::Look { .. } | What::Who => None,
        });
        unsaid.collect()
    }

    /// Whether one has been let in, everything was answered, and nothing that has come waits for what is missing before it.
    pub(crate) fn is_idle(&self) -> bool {
        self.welcomed_before
            && self.outbox.is_empty()
            && self.parting.is_empty()
            && !self.rooms.values().any(|room| room.filling && room.missing())
            && self.pending.values().all(|asked| matches!(asked.purpose, Purpose::Ping | Purpose::Mark(_)))
    }

    pub(super) fn answered(&mut self, purpose: Purpose, frame: &Value, now: Instant, steps: &mut Vec<Step>) {
        match purpose {
            Purpose::Hello => self.welcomed(frame, now, steps),
            Purpose::Join(room) => {
                for asked in self.pending.values_mut() {
                    // It could not be asked before.
                    if matches!(&asked.purpose, Purpose::Wish(wish) if wish.room == room) {
                        asked.due = now;
                    }
                }
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
            Purpose::Mark(name) => {
                let watched_from = self.begin_with(&name, Vec::new(), frame, now, steps);
                if let Some(room) = self.rooms.get_mut(&name) {
                    room.watched_from = watched_from;
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
            Purpose::Wish(Wish { room, what }) => match what {
                What::Say(_) => self.sent += 1,
                What::Look { .. } => {
                    steps.extend(messages(frame).into_iter().map(|item| show(&room, item, true)));
                }
                What::Who => {
                    let users = frame["users"].as_array().into_iter().flatten();
                    let users = users.filter_map(Value::as_str).map(str::to_owned).collect();
                    steps.push(Step::Show(Event::Who { room, users, more: frame["more"] == true }));
                }
            },
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
            self.pending.insert(id, Pending { due: now + wait, put_off: true, attempts, ..asked });
            return;
        }
        // A new connection mends these, and asks again.
        let reason = match code.as_str() {
            "TOKEN_EXPIRED" => Some("the token of this connection has expired"),
            "NOT_FOUND" => Some("the server does not know this connection any more"),
            _ => None,
        };
        if let Some(reason) = reason.filter(|_| attempts < ATTEMPTS) {
            self.pending.insert(id, Pending { attempts: attempts + 1, ..asked });
            steps.push(Step::Redial(reason.to_owned()));
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
            Purpose::Wish(Wish { room, what }) => {
                self.not_sent += 1;
                match what {
                    What::Say(text) => {
                        steps.push(Step::Show(Event::NotSent { room, text, code, message }));
                        return;
                    }
                    What::Look { .. } => ("history", Some(room)),
                    What::Who => ("who", Some(room)),
                }
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
            // A fault of the server passes, and whoever was welcome before will be again.
            Purpose::Hello if self.welcomed_before || code == "INTERNAL" => {
                steps.push(Step::Redial(format!("the server does not greet: {message} ({code})")));
                return;
            }
            Purpose::Hello => ("hello", None),
            Purpose::Ping => {
                steps.push(Step::Redial(NO_ANSWER.to_owned()));
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
            if !matches!(asked.purpose, Purpose::Wish(_)) {
                steps.push(Step::Send(asked.frame.clone()));
            }
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
        // What is to be said before one leaves has to be said inside.
        let parting: Vec<String> =
            self.parting.iter().filter(|name| self.wants_something_in(name)).cloned().collect();
        for name in parting {
            self.join(&name, now, steps);
        }
        let again = self.pending.values().filter_map(|asked| match &asked.purpose {
            Purpose::Wish(wish) if !self.is_entering(&wish.room) => Some(asked.frame.clone()),
            _ => None,
        });
        steps.extend(again.collect::<Vec<_>>().into_iter().map(Step::Send));
    }

    /// Goes into a named room, unless that is under way already.
    pub(super) fn join(&mut self, name: &str, now: Instant, steps: &mut Vec<Step>) {
        // The server handles the frames of a connection at the same time, so no two of these may be under way.
        if !self.is_entering(name) {
            let frame = json!({ "action": "join", "room": name });
            self.ask(Purpose::Join(name.to_owned()), frame, now, steps);
        }
    }

    /// Whether one is on the way into a named room, or out of it.
    fn is_entering(&self, name: &str) -> bool {
        self.asks(name, |purpose| matches!(purpose, Purpose::Join(_) | Purpose::Leave(_)))
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
        } else if self.is_full() {
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
        self.wish(room, What::Say(text.to_owned()), now, &mut steps);
        steps
    }

    pub(crate) fn who(&mut self, room: &str, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        self.wish(room, What::Who, now, &mut steps);
        steps
    }

    /// Shows the newest messages again.
    pub(crate) fn look(&mut self, room: &str, limit: u64, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        let what = What::Look { before: None, limit: limit.clamp(1, BATCH_MAX) };
        self.wish(room, what, now, &mut steps);
        steps
    }

    pub(super) fn wish(&mut self, room: &str, what: What, now: Instant, steps: &mut Vec<Step>) {
        self.outbox.push_back(Wish { room: room.to_owned(), what });
        self.proceed(now, steps);
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
            let put_off = std::mem::take(&mut asked.put_off);
            if matches!(asked.purpose, Purpose::Hello) && put_off && asked.attempts < GREETINGS {
                steps.push(Step::Send(asked.frame.clone()));
                let attempts = asked.attempts + 1;
                self.pending.insert(id, Pending { attempts, due: now + ANSWER_WITHIN, ..asked });
                continue;
            }
            if matches!(asked.purpose, Purpose::Hello | Purpose::Ping) {
                // A connection that does not answer to these is none.
                let reason = if put_off { "the server does not greet" } else { NO_ANSWER };
                steps.push(Step::Redial(reason.to_owned()));
                continue;
            }
            let is_early = matches!(&asked.purpose, Purpose::Wish(wish) if self.is_entering(&wish.room));
            if !self.online || is_early {
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
        let asked = Pending { frame: frame.clone(), purpose, heard: false, due, put_off: false, attempts: 0 };
        self.pending.insert(id, asked);
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
        self.grant_next(now, steps);
        self.leave_next(now, steps);
    }

    /// Goes out of rooms once everything that was said and asked there is answered.
    fn leave_next(&mut self, now: Instant, steps: &mut Vec<Step>) {
        let done = |room: &String| !self.asks(room, |_| true) && !self.wants_something_in(room);
        let left: Vec<String> = self.parting.iter().filter(|room| done(room)).cloned().collect();
        for room in left {
            self.parting.remove(&room);
            let frame = json!({ "action": "leave", "room": room });
            self.ask(Purpose::Leave(room), frame, now, steps);
        }
    }

    fn grant_next(&mut self, now: Instant, steps: &mut Vec<Step>) {
        if !self.online || self.pending.values().any(|asked| matches!(asked.purpose, Purpose::Wish(_))) {
            return;
        }
        // Who wants something in a room has to be in it.
        let entered = |name: &str| {
            self.rooms.get(name).is_none_or(|room| room.seq.is_some()) && !self.is_entering(name)
        };
        if !self.outbox.front().is_some_and(|next| entered(&next.room)) {
            return;
        }
        if let Some(next) = self.outbox.pop_front() {
            let frame = next.frame();
            self.ask(Purpose::Wish(next), frame, now, steps);
        }
    }
}

pub(super) fn back_off(attempts: u32) -> Duration {
    BACK_OFF.saturating_mul(2_u32.saturating_pow(attempts.min(8))).min(BACK_OFF_MAX)
}
