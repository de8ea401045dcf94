//! Comings and goings, in rooms small enough that they are news.

use super::present;
use crate::chat::{Caller, Chat, Failure};
use crate::ids::Room;
use crate::ports::{Gateway, Read, Recipient, Store};
use crate::protocol::{OFFLINE_GRACE_MS, Presence, ServerFrame};

impl<S: Store, G: Gateway> Chat<S, G> {
    /// Tells the others in a room that the caller came or went, unless they are there by another connection too.
    ///
    /// The read is strong: a stale one would say "offline" of somebody who has just moved to a new connection.
    pub(super) async fn announce(
        &self,
        caller: &Caller<'_>,
        room: Room,
        state: Presence,
    ) -> Result<(), Failure> {
        let Room::Named(name) = &room else { return Ok(()) };
        let most = self.limits.presence_max;
        // One more than allowed is enough to know that the room is too large.
        let found = self.store.subscribers(name, Read::Strong, Some(most + 1)).await?;
        if found.len() > most {
            return Ok(());
        }
        let others: Vec<Recipient> =
            present(found, caller.now_s()).into_iter().filter(|other| other.conn != caller.conn).collect();
        let user = &caller.identity.user;
        if others.iter().any(|other| other.user == *user) {
            return Ok(());
        }
        let grace_ms = (state == Presence::Offline).then_some(OFFLINE_GRACE_MS);
        let frame = ServerFrame::Presence { room: &room, user, state, grace_ms }.to_bytes();
        self.deliver(caller.invocation, &others, Some(name), frame).await;
        Ok(())
    }
}
