//! `leave`: takes this connection out of a room. Leaving a room one is not in is no mistake.

use crate::chat::{Answer, Caller, Chat};
use crate::ids::{FrameId, Room};
use crate::ports::{Gateway, Store};
use crate::protocol::{Presence, ServerFrame};

impl<S: Store, G: Gateway> Chat<S, G> {
    pub(crate) async fn leave(&self, caller: &Caller<'_>, id: &FrameId, room: &Room) -> Answer {
        match room {
            Room::Direct(pair) => super::one_of(pair, caller)?,
            Room::Named(name) => {
                // The subscription first: should this end half-way, `$disconnect` still knows of the room.
                let was_in = self.store.unsubscribe(name, &caller.conn).await?;
                self.store.unnote(&caller.identity.user, &caller.conn, name).await?;
                if was_in && self.limits.presence_max > 0 {
                    self.announce(caller, room.clone(), Presence::Offline).await?;
                }
            }
        }
        Ok(ServerFrame::Joined { id, room }.to_json())
    }
}
