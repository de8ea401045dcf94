//! A room's subscriptions and its newest messages by one Query.
//!
//! They lie in one partition, the subscriptions behind the messages: read backwards, first come all subscriptions and then
//! the messages, newest first. How many items that are has to be known beforehand, since whatever is read past them is
//! paid for; this process remembers how many subscriptions it found the last time.

use std::cell::RefCell;
use std::collections::HashMap;

use super::{Table, failure, items};
use crate::ids::RoomName;
use crate::ports::{Recent, Recipient, StoreResult};

/// Rooms that are remembered.
const ROOMS: usize = 1_000;
/// Subscriptions up to which it is worth it. Whoever posts to more than this does not wait for a Query.
const SUBSCRIPTIONS: usize = 200;

/// How many subscriptions rooms had when they were last read.
#[derive(Debug, Default)]
pub(super) struct Sizes(RefCell<HashMap<RoomName, usize>>);

impl Sizes {
    fn of(&self, room: &RoomName) -> Option<usize> {
        self.0.borrow().get(room).copied()
    }

    pub(super) fn remember(&self, room: &RoomName, size: usize) {
        let mut sizes = self.0.borrow_mut();
        if let Some(known) = sizes.get_mut(room) {
            *known = size;
            return;
        }
        if sizes.len() >= ROOMS {
            // Which rooms are lively changes anyway, and a room that is forgotten costs one Query more.
            sizes.clear();
        }
        sizes.insert(room.clone(), size);
    }
}

/// Room for those who have come since. If nobody has, so many messages are read in vain.
fn slack(size: usize) -> usize {
    1 + size / 32
}

impl Table {
    /// The subscriptions, and the `most` newest messages: each if one Query brings all of them, as far as is known.
    pub(super) async fn at_once(
        &self,
        room: &RoomName,
        most: usize,
    ) -> StoreResult<(Option<Vec<Recipient>>, Option<Vec<Recent>>)> {
        let Some(size) = self.sizes.of(room).filter(|size| *size <= SUBSCRIPTIONS) else {
            return Ok((None, None));
        };
        let limit = size + slack(size) + most;
        let (from, to) = (items::MESSAGE.to_owned(), items::PAST_SUBSCRIPTIONS.to_owned());
        let query = self
            .query_between(items::room_partition(room), from, to)
            .projection_expression(items::SUBSCRIBER_AND_RECENT)
            .scan_index_forward(false)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX));
        let page = query.send().await.map_err(|why| failure("Query", &why))?;
        let (mut subscribers, mut messages) = (Vec::with_capacity(size), Vec::with_capacity(most));
        for item in page.items() {
            if items::is_subscription(item) {
                subscribers.push(items::subscriber(item)?);
            } else if messages.len() < most {
                messages.push(items::recent(item)?);
            }
        }
        let ended = page.last_evaluated_key.is_none_or(|key| key.is_empty());
        // A message only comes after all subscriptions.
        let all_subscribers = ended || !messages.is_empty();
        let all_messages = ended || messages.len() == most;
        Ok((all_subscribers.then_some(subscribers), all_messages.then_some(messages)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_size_counts_and_memory_is_bounded() {
        let sizes = Sizes::default();
        let room = |n: usize| RoomName::parse(&format!("r{n}")).unwrap();
        assert_eq!(sizes.of(&room(0)), None);
        for n in 0..ROOMS {
            sizes.remember(&room(n), n);
        }
        sizes.remember(&room(0), 7);
        assert_eq!((sizes.of(&room(0)), sizes.of(&room(ROOMS - 1))), (Some(7), Some(ROOMS - 1)));
        sizes.remember(&room(ROOMS), 1);
        assert_eq!((sizes.of(&room(0)), sizes.of(&room(ROOMS))), (None, Some(1)));
    }
}
