//! A room's newest messages, and its subscriptions with them, by one Query.
//!
//! They lie in one partition, the subscriptions behind the messages. So one range begins with the newest message that this
//! process knows, goes on with those that have come since, and ends with all subscriptions.

use aws_sdk_dynamodb::operation::query::QueryOutput;

use super::{Table, failure, items};
use crate::ids::{Room, RoomName, Seq};
use crate::ports::{Read, Recent, Recipient, StoreResult, TAIL};

/// The newest known message, and those that may have come since. Where more was said, the last [`TAIL`] messages are read
/// instead, which is about as much; next to fewer subscriptions than there may be, more messages have room.
const NEWS: usize = 1 + TAIL;
/// Subscriptions up to which one Query reads both. Of many more it would need several pages, one after the other.
const SUBSCRIPTIONS: usize = 1_000;

/// Why a room has to be read whole, as the way to do it.
type Whole = Read;

/// How many subscriptions there may be meanwhile in a room that had `size`. Where there are not so many, more messages
/// have room; where there are more, all that was read is read again.
fn grown(size: usize) -> usize {
    size + size / 4 + 8
}

impl Table {
    /// The subscriptions and the newest messages of a room that is known: what has come since is read. Otherwise, how the
    /// room has to be read.
    pub(super) async fn news(
        &self,
        name: &RoomName,
        newest: Option<Seq>,
        size: usize,
    ) -> StoreResult<Result<(Vec<Recipient>, Vec<Recent>), Whole>> {
        let room = Room::Named(name.clone());
        let limit = NEWS + grown(size);
        let page = self.since(&room, newest, items::PAST_SUBSCRIPTIONS, limit, Read::Eventual).await?;
        if !is_all(&page) {
            return Ok(Err(Read::Eventual));
        }
        let (mut subscribers, mut news) = (Vec::with_capacity(size), Vec::new());
        for item in page.items() {
            if items::is_subscription(item) {
                subscribers.push(items::subscriber(item)?);
            } else {
                news.push(items::recent(item)?);
            }
        }
        Ok(self.known.extend(&room, news).map(|tail| (subscribers, tail)).ok_or(Read::Strong))
    }

    /// The newest messages, newest first: if the room is known, only what has come since is read.
    pub(super) async fn tail_of(&self, room: &Room, read: Read) -> StoreResult<Vec<Recent>> {
        let Some((newest, _)) = self.known.of(room) else { return self.whole_tail(room, read).await };
        let page = self.since(room, newest, items::PAST_MESSAGES, NEWS, read).await?;
        if !is_all(&page) {
            return self.whole_tail(room, read).await;
        }
        let news = page.items().iter().map(items::recent).collect::<StoreResult<_>>()?;
        match self.known.extend(room, news) {
            Some(tail) => Ok(tail),
            None => self.whole_tail(room, Read::Strong).await,
        }
    }

    /// The same of a room that is not known.
    pub(super) async fn whole_tail(&self, room: &Room, read: Read) -> StoreResult<Vec<Recent>> {
        let query = self.query(items::room_partition(room), items::MESSAGE).scan_index_forward(false);
        let query = query.consistent_read(read == Read::Strong).projection_expression(items::RECENT);
        let tail = self.all(query, Some(TAIL), items::recent).await?;
        self.known.learn(room, &tail);
        Ok(tail)
    }

    /// What sorts from a message on, itself included, and before `to`.
    async fn since(
        &self,
        room: &Room,
        newest: Option<Seq>,
        to: &str,
        limit: usize,
        read: Read,
    ) -> StoreResult<QueryOutput> {
        let from = items::message_sort(newest.map_or(0, Seq::get));
        let query = self.query_between(items::room_partition(room), from, to.to_owned());
        let query = query.consistent_read(read == Read::Strong);
        let query = query.projection_expression(items::SUBSCRIBER_AND_RECENT);
        let query = query.limit(i32::try_from(limit).unwrap_or(i32::MAX));
        query.send().await.map_err(|why| failure("Query", &why))
    }
}

/// Whether one Query may be enough for a room that had so many subscriptions.
pub(super) fn fits(size: usize) -> bool {
    size <= SUBSCRIPTIONS
}

fn is_all(page: &QueryOutput) -> bool {
    page.last_evaluated_key().is_none_or(std::collections::HashMap::is_empty)
}
