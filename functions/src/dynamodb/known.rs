//! What this process knows of rooms: how many subscriptions one had, and its newest messages.
//!
//! A message never changes, so of a room that is known only what has come since has to be read. That holds as long as the
//! newest known message is still there: whoever reads begins with it, and forgets the room if it is missing.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

use crate::ids::{Room, Seq};
use crate::ports::{Recent, Stored, TAIL};

/// Rooms that are remembered: about 4 KB each.
const ROOMS: usize = 1_000;

/// The rooms that this process has read.
#[derive(Debug, Default)]
pub(super) struct Known(RefCell<HashMap<Room, Memory>>);

#[derive(Debug)]
struct Memory {
    /// The newest messages, newest first: [`TAIL`] of them, or all there are.
    tail: VecDeque<Recent>,
    subscriptions: Option<usize>,
}

impl Known {
    /// The number of the newest message, or that there was none; and how many subscriptions there were, if those were
    /// ever read. `None` for a room that is not known.
    pub(super) fn of(&self, room: &Room) -> Option<(Option<Seq>, Option<usize>)> {
        let rooms = self.0.borrow();
        let memory = rooms.get(room)?;
        Some((memory.tail.front().map(|newest| newest.seq), memory.subscriptions))
    }

    /// Puts what was read, oldest first and beginning with the newest known message, to what is known, and gives the
    /// whole tail. `None`, and the room is forgotten, if that message is not where it was, or if something is missing: an
    /// eventually consistent read need not show what was stored first.
    pub(super) fn extend(&self, room: &Room, read: Vec<Recent>) -> Option<Vec<Recent>> {
        let mut rooms = self.0.borrow_mut();
        let memory = rooms.get_mut(room)?;
        let newest = memory.tail.front();
        let known = usize::from(newest.is_some());
        let head = newest.map(|newest| newest.seq);
        let (begin, news) = read.split_at(known.min(read.len()));
        let follows = news.iter().try_fold(head, |head, message| {
            (Seq::after(head) == Some(message.seq)).then_some(Some(message.seq))
        });
        if begin.first() != newest || follows.is_none() {
            rooms.remove(room);
            return None;
        }
        read.into_iter().skip(known).for_each(|message| memory.push(message));
        Some(memory.tail.iter().cloned().collect())
    }

    /// Remembers a whole tail, newest first.
    pub(super) fn learn(&self, room: &Room, tail: &[Recent]) {
        let tail = tail.iter().cloned().collect();
        let mut rooms = self.0.borrow_mut();
        if let Some(memory) = rooms.get_mut(room) {
            memory.tail = tail;
            return;
        }
        if rooms.len() >= ROOMS {
            // Which rooms are lively changes anyway, and a room that is forgotten costs one Query more.
            rooms.clear();
        }
        rooms.insert(room.clone(), Memory { tail, subscriptions: None });
    }

    pub(super) fn count(&self, room: &Room, subscriptions: usize) {
        if let Some(memory) = self.0.borrow_mut().get_mut(room) {
            memory.subscriptions = Some(subscriptions);
        }
    }

    /// Notes what this process has just stored, unless others have stored something before it that is not known.
    pub(super) fn append(&self, room: &Room, message: &Stored) {
        if let Some(memory) = self.0.borrow_mut().get_mut(room)
            && Seq::after(memory.tail.front().map(|newest| newest.seq)) == Some(message.seq)
        {
            memory.push(message.into());
        }
    }
}

impl Memory {
    fn push(&mut self, message: Recent) {
        self.tail.truncate(TAIL - 1);
        self.tail.push_front(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{FrameId, RoomName, UserId};

    fn room(n: usize) -> Room {
        Room::Named(RoomName::parse(&format!("r{n}")).unwrap())
    }

    fn message(seq: u64) -> Recent {
        Recent {
            seq: Seq::new(seq).unwrap(),
            user: UserId::parse("alice").unwrap(),
            mid: FrameId::parse(&format!("m{seq}")).unwrap(),
            ts: seq,
            request: "r".into(),
        }
    }

    fn stored(seq: u64) -> Stored {
        let Recent { seq, user, mid, ts, request } = message(seq);
        Stored { seq, user, mid, ts, text: "hi".into(), expires_s: None, request }
    }

    fn numbers(tail: &[Recent]) -> Vec<u64> {
        tail.iter().map(|message| message.seq.get()).collect()
    }

    #[test]
    fn what_has_come_since_is_put_before_what_is_known() {
        let (known, room) = (Known::default(), room(1));
        assert_eq!(known.of(&room), None);
        known.learn(&room, &[]);
        assert_eq!(known.of(&room), Some((None, None)));
        assert_eq!(numbers(&known.extend(&room, vec![message(1), message(2)]).unwrap()), [2, 1]);
        known.count(&room, 7);
        assert_eq!(known.of(&room), Some((Seq::new(2), Some(7))));
        assert_eq!(numbers(&known.extend(&room, vec![message(2)]).unwrap()), [2, 1]);
        let more = (2..=30).map(message).collect();
        let tail = known.extend(&room, more).unwrap();
        assert_eq!(numbers(&tail), (11..=30).rev().collect::<Vec<_>>());
    }

    #[test]
    fn a_room_is_forgotten_if_its_newest_known_message_is_gone_or_another_or_if_one_is_missing_after_it() {
        let (known, room) = (Known::default(), room(1));
        let other = Recent { request: "another".into(), ..message(2) };
        let some = [message(2), message(1)];
        for (tail, read) in [
            (&some[..], vec![]),
            (&some[..], vec![message(3)]),
            (&some[..], vec![other, message(3)]),
            (&some[..], vec![message(2), message(4)]),
            (&some[..], vec![message(2), message(3), message(5)]),
            (&[], vec![message(2)]),
        ] {
            known.learn(&room, tail);
            assert_eq!(known.extend(&room, read), None);
            assert_eq!(known.of(&room), None);
        }
    }

    #[test]
    fn what_the_process_stored_itself_is_known_if_nothing_is_missing_before_it() {
        let (known, room) = (Known::default(), room(1));
        known.append(&room, &stored(1));
        assert_eq!(known.of(&room), None, "of a room that was never read the rest is not known");
        known.learn(&room, &[]);
        known.append(&room, &stored(1));
        known.append(&room, &stored(3));
        assert_eq!(known.of(&room), Some((Seq::new(1), None)));
        known.append(&room, &stored(2));
        assert_eq!(numbers(&known.extend(&room, vec![message(2)]).unwrap()), [2, 1]);
    }

    #[test]
    fn memory_is_bounded() {
        let known = Known::default();
        for n in 0..ROOMS {
            known.learn(&room(n), &[message(1)]);
        }
        known.learn(&room(0), &[message(2)]);
        assert_eq!(known.of(&room(ROOMS - 1)), Some((Seq::new(1), None)));
        known.learn(&room(ROOMS), &[]);
        assert_eq!((known.of(&room(0)), known.of(&room(ROOMS))), (None, Some((None, None))));
    }
}
