//! One frame to many connections: posted from here, or, where that are too many for one invocation, handed over in
//! batches to asynchronous invocations of this same function.

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use crate::chat::{Chat, Invocation};
use crate::event::{Batch, Event};
use crate::ids::{ConnectionId, RoomName};
use crate::log::{self, Level};
use crate::ports::{Gateway, Recipient, Removal, Store};

/// Connections that are posted to from here. They take two rounds of posts, which a sender can wait for.
pub(super) const INLINE_MAX: usize = 200;
/// Connections in one batch, at most. Four rounds of posts: even if nobody answers any of them within its 2 s, they end
/// before the 10 s that a function has by default. And the event of the longest ids and the longest frame stays below
/// 256 KB, which was Lambda's limit before it was 1 MB (quirks, Lambda).
pub(super) const BATCH_MAX: usize = 500;
/// Batches that are handed over at once.
const HAND_OVERS_AT_ONCE: usize = 8;
/// A batch that is older is dropped: its message is in the history, and whoever missed it has seen the gap. Lambda repeats
/// an invocation that failed a minute later at the earliest, so a batch that was begun once is not begun again; one that
/// was throttled is repeated within seconds, and is not too late.
const BATCH_MAX_AGE_MS: u64 = 60_000;
/// A connection this young may still be inside its `$connect`, during which a post is answered with 410 as if it were
/// gone (aws-facts, behaviour). An integration has 29 s.
const CONNECTING_S: u64 = 30;

/// Parts as few as possible, and as equal as possible: the largest one says when all have it.
fn batches(to: &[Recipient]) -> std::slice::Chunks<'_, Recipient> {
    let parts = to.len().div_ceil(BATCH_MAX).max(1);
    to.chunks(to.len().div_ceil(parts).max(1))
}

impl<S: Store, G: Gateway> Chat<S, G> {
    /// Brings a frame to everybody in `to`. `room` is where their subscriptions are.
    pub async fn deliver(
        &self,
        invocation: Invocation<'_>,
        to: &[Recipient],
        room: Option<&RoomName>,
        frame: Bytes,
    ) {
        match invocation.relay {
            Some(function) if to.len() > INLINE_MAX => {
                self.hand_over(invocation, function, to, room, frame).await;
            }
            _ => self.post(invocation, to, room, frame).await,
        }
    }

    /// A batch that another invocation handed over. It is never handed on, and never fails: failing would have Lambda
    /// repeat the posts that succeeded.
    pub async fn handed(&self, invocation: Invocation<'_>, batch: Batch) {
        let age_ms = invocation.now_ms.saturating_sub(batch.at);
        if age_ms > BATCH_MAX_AGE_MS {
            let fields = [("connections", batch.to.len().into()), ("age_ms", age_ms.into())];
            log::line(Level::Warn, invocation.request_id, "a batch came too late and is dropped", &fields);
            return;
        }
        let Batch { room, frame, to, .. } = batch;
        let to: Vec<Recipient> = to.into_iter().map(Recipient::from).collect();
        self.post(invocation, &to, room.as_ref(), Bytes::from(frame)).await;
        let fields = [("connections", to.len().into()), ("age_ms", age_ms.into())];
        log::line(Level::Info, invocation.request_id, "posted a batch", &fields);
    }

    async fn hand_over(
        &self,
        invocation: Invocation<'_>,
        function: &str,
        to: &[Recipient],
        room: Option<&RoomName>,
        frame: Bytes,
    ) {
        let hand_over = async |part| {
            let event = Event::handed_over(invocation.now_ms, room, &frame, part);
            let why = self.gateway.hand_over(function, event, invocation.posts_until).await.err()?;
            Some((part, why))
        };
        let refused: Vec<(&[Recipient], String)> = stream::iter(batches(to))
            .map(hand_over)
            .buffer_unordered(HAND_OVERS_AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await;
        for (part, why) in refused {
            let fields = [("connections", part.len().into()), ("why", why.into())];
            let what = "a batch could not be handed over and is posted here";
            log::line(Level::Error, invocation.request_id, what, &fields);
            self.post(invocation, part, room, frame.clone()).await;
        }
    }

    /// Posts a frame to everybody in `to` and forgets the connections that turn out to be gone.
    async fn post(
        &self,
        invocation: Invocation<'_>,
        to: &[Recipient],
        room: Option<&RoomName>,
        frame: Bytes,
    ) {
        if to.is_empty() {
            return;
        }
        let connections: Vec<&ConnectionId> = to.iter().map(|recipient| &recipient.conn).collect();
        let outcome = self.gateway.post(&connections, frame, invocation.posts_until).await;
        if !outcome.failed.is_empty() {
            // Not an error of the sender's: who missed it sees a gap in `seq` and asks history.
            log::line(
                Level::Warn,
                invocation.request_id,
                "some posts failed",
                &[
                    ("failed", outcome.failed.len().into()),
                    ("of", to.len().into()),
                    ("why", outcome.why.unwrap_or_default().into()),
                ],
            );
        }
        let mut removals = Vec::new();
        for recipient in outcome.gone.iter().filter_map(|&position| to.get(position)) {
            if recipient.at_s.is_some_and(|at| invocation.now_s() < at + CONNECTING_S) {
                continue;
            }
            let (user, conn) = (recipient.user.clone(), recipient.conn.clone());
            if let Some(room) = room {
                removals.push(Removal::Subscription { room: room.clone(), conn: conn.clone() });
            }
            removals.push(Removal::Connection { user, conn });
        }
        if removals.is_empty() {
            return;
        }
        if let Err(why) = self.store.remove(&removals).await {
            // They expire by themselves, and the next post meets them again.
            let fields = [("items", removals.len().into()), ("why", why.to_string().into())];
            log::line(Level::Error, invocation.request_id, "gone connections could not be removed", &fields);
        }
    }
}

#[cfg(test)]
mod tests;
