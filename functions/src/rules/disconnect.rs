//! `$disconnect`: forgets this connection, and no other of the same user, however late the event comes.

use super::each;
use crate::chat::{Caller, Chat, Failure};
use crate::ids::Room;
use crate::ports::{Gateway, Removal, Store};
use crate::protocol::Presence;

impl<S: Store, G: Gateway> Chat<S, G> {
    /// Deletes the connection and its subscriptions, then tells the small rooms it was in.
    pub async fn disconnect(&self, caller: &Caller<'_>) -> Result<(), Failure> {
        let rooms = self.store.forget(&caller.identity.user, &caller.conn).await?;
        if rooms.is_empty() {
            return Ok(());
        }
        let removals: Vec<Removal> = rooms
            .iter()
            .map(|room| Removal::Subscription { room: room.clone(), conn: caller.conn.clone() })
            .collect();
        self.store.remove(&removals).await?;
        if self.limits.presence_max > 0 {
            each(rooms, |room| self.announce(caller, Room::Named(room), Presence::Offline)).await?;
        }
        Ok(())
    }
}
