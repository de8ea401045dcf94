//! How what is said in a room comes to be shown: in order, once, and without a gap that could have been filled.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::questions::Purpose;
use super::room::Message;
use super::session::{BATCH_MAX, Event, Presence, Session, Step, Task, text_of};

/// The server handles the messages of a room at the same time: most gaps close by themselves within moments.
const GAP_PATIENCE: Duration = Duration::from_millis(250);
/// Looks into the history before a gap is final: the newest messages may not be readable at once.
const GAP_LOOKS: u32 = 4;
/// More than this is not caught up with, but passed over.
const CATCH_UP_MAX: u64 = 500;

impl Session {
    /// Begins with a room: joins it if that is needed, and asks for its newest messages.
    pub(super) fn begin(&mut self, name: &str, now: Instant, steps: &mut Vec<Step>) {
        self.rooms.entry(name.to_owned()).or_default();
        self.parting.remove(name);
        if name.starts_with('@') {
            self.met.insert(name.to_owned());
            self.ask_for_beginning(name, now, steps);
        } else {
            self.join(name, now, steps);
        }
    }

    /// Out of a room, unless one wanted to go into it again meanwhile, be it only to say something.
    pub(super) fn has_left(&mut self, name: &str, now: Instant, steps: &mut Vec<Step>) {
        if self.rooms.contains_key(name) {
            self.begin(name, now, steps);
        } else if self.parting.contains(name) && self.wants_something_in(name) {
            self.join(name, now, steps);
        }
    }

    /// Asks for a room's newest messages, or for what is missing if it has begun before.
    pub(super) fn ask_for_beginning(&mut self, name: &str, now: Instant, steps: &mut Vec<Step>) {
        if self.rooms.get(name).is_some_and(|room| room.seq.is_some()) {
            self.ask_to_fill(name, now, steps);
            return;
        }
        // One at least says where the room ends.
        let frame = json!({ "action": "history", "room": name, "limit": self.backlog.max(1) });
        self.ask(Purpose::Begin(name.to_owned()), frame, now, steps);
    }

    /// Shows a room from these messages of `batch` on, or from its end if there are none. Tells after which number.
    pub(super) fn begin_with(
        &mut self,
        name: &str,
        items: Vec<Message>,
        batch: &Value,
        now: Instant,
        steps: &mut Vec<Step>,
    ) -> Option<u64> {
        let room = self.rooms.get_mut(name)?;
        let upto = batch["upto"].as_u64().unwrap_or(0);
        let before = items.first().map_or(upto, |item| item.seq.saturating_sub(1));
        // What has come already was said after one came in, whether the history has it or not.
        let before_new = room.first_held().map_or(u64::MAX, |seq| seq.saturating_sub(1));
        let begun = *room.seq.get_or_insert(before.min(before_new));
        room.old_until = items.last().map_or(0, |item| item.seq).min(before_new);
        self.take(name, items, now, steps);
        Some(begun)
    }

    pub(super) fn drop_room(&mut self, name: &str) {
        self.rooms.remove(name);
        self.pending.retain(|_, asked| !(asked.purpose.follows() && asked.purpose.room() == Some(name)));
        self.leaving.retain(|(room, _)| room != name);
        self.later.retain(|(_, task)| match task {
            Task::Fill(room) | Task::Anew(room) | Task::Gone { room, .. } => room != name,
        });
        if self.current.as_deref() == Some(name) {
            self.current = None;
        }
    }

    /// Takes what a frame brings, as far as it has no gaps.
    pub(super) fn accept(&mut self, name: &str, items: &[Value], now: Instant, steps: &mut Vec<Step>) {
        let items = items.iter().filter_map(Message::read).collect();
        self.take(name, items, now, steps);
    }

    pub(super) fn take(&mut self, name: &str, items: Vec<Message>, now: Instant, steps: &mut Vec<Step>) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        let old_until = room.old_until;
        for item in room.take(items) {
            self.received += 1;
            let old = item.seq <= old_until;
            steps.push(show(name, item, old));
        }
        if room.missing() && !std::mem::replace(&mut room.filling, true) {
            room.looks = 0;
            self.later.push((now + GAP_PATIENCE, Task::Fill(name.to_owned())));
        }
    }

    /// Takes a page of what is missing, and goes on until nothing is.
    pub(super) fn fill_with(&mut self, name: &str, batch: &Value, now: Instant, steps: &mut Vec<Step>) {
        let before = self.rooms.get(name).and_then(|room| room.seq);
        self.take(name, messages(batch), now, steps);
        let Some(room) = self.rooms.get_mut(name) else { return };
        let moved = room.seq != before;
        let empty = batch["items"].as_array().is_none_or(Vec::is_empty);
        // What was posted without a question is looked after when its time comes.
        if batch.get("id").is_none() && batch["more"] != true {
            return;
        }
        if batch["more"] == true && !empty {
            self.ask_to_fill(name, now, steps);
        } else if !room.missing() {
            room.filling = false;
        } else if moved {
            room.looks = 0;
            self.ask_to_fill(name, now, steps);
        } else if room.looks + 1 < GAP_LOOKS {
            room.looks += 1;
            self.later.push((now + GAP_PATIENCE * 2_u32.pow(room.looks), Task::Fill(name.to_owned())));
        } else {
            let end = room.gap_end();
            self.pass_over(name, end, now, steps);
        }
    }

    pub(super) fn ask_to_fill(&mut self, name: &str, now: Instant, steps: &mut Vec<Step>) {
        if self.asks(name, |purpose| matches!(purpose, Purpose::Fill(_))) {
            return;
        }
        let Some(room) = self.rooms.get_mut(name) else { return };
        let Some(seq) = room.seq else { return };
        room.filling = true;
        if room.known().saturating_sub(seq) > CATCH_UP_MAX {
            let end = room.known() - BATCH_MAX;
            self.pass_over(name, end, now, steps);
        }
        let Some(seq) = self.rooms.get(name).and_then(|room| room.seq) else { return };
        let frame = json!({ "action": "history", "room": name, "after": seq, "limit": BATCH_MAX });
        self.ask(Purpose::Fill(name.to_owned()), frame, now, steps);
    }

    /// Gives up on what will not come, up to `end`, and shows what follows.
    pub(super) fn pass_over(&mut self, name: &str, end: u64, now: Instant, steps: &mut Vec<Step>) {
        let Some(room) = self.rooms.get_mut(name) else { return };
        let from = room.seq.unwrap_or(0) + 1;
        room.seq = Some(end);
        room.filling = false;
        steps.push(Step::Show(Event::Gap { room: name.to_owned(), from, to: end }));
        self.take(name, Vec::new(), now, steps);
    }

    pub(super) fn presence(&mut self, room: &str, frame: &Value, now: Instant, steps: &mut Vec<Step>) {
        let user = text_of(frame, "user");
        if user == self.user || !self.rooms.contains_key(room) {
            return;
        }
        let who = (room.to_owned(), user.clone());
        if frame["state"] == "offline" {
            let grace = Duration::from_millis(frame["grace_ms"].as_u64().unwrap_or(0));
            if self.leaving.insert(who) {
                self.later.push((now + grace, Task::Gone { room: room.to_owned(), user }));
            }
        } else if self.leaving.remove(&who) {
            // Came back within the grace: nothing has happened.
            let gone = Task::Gone { room: room.to_owned(), user };
            self.later.retain(|(_, task)| *task != gone);
        } else {
            steps.push(Step::Show(Event::Presence { room: room.to_owned(), user, state: Presence::Online }));
        }
    }
}

pub(super) fn messages(batch: &Value) -> Vec<Message> {
    batch["items"].as_array().into_iter().flatten().filter_map(Message::read).collect()
}

pub(super) fn show(room: &str, item: Message, old: bool) -> Step {
    let Message { seq, from, ts, text } = item;
    Step::Show(Event::Message { room: room.to_owned(), seq, from, ts, text, old })
}
