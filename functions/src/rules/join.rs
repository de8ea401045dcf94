//! `join`: puts this connection into a room.

use crate::chat::{Answer, Caller, Chat, Failure};
use crate::ids::{DeviceId, FrameId, Room, RoomName};
use crate::ports::{Gateway, Noted, Store};
use crate::protocol::{Code, Presence, Refusal, ServerFrame};

impl<S: Store, G: Gateway> Chat<S, G> {
    pub(crate) async fn join(&self, caller: &Caller<'_>, id: &FrameId, room: &Room) -> Answer {
        match room {
            // The two are always in it: a client may treat all its rooms alike.
            Room::Direct(pair) => super::one_of(pair, caller)?,
            Room::Named(name) => {
                self.admit(caller, name).await?;
                self.note(caller, std::slice::from_ref(name), None).await?;
                self.store.subscribe(name, &caller.as_recipient()).await?;
                if self.limits.presence_max > 0 {
                    self.announce(caller, room.clone(), Presence::Online).await?;
                }
            }
        }
        Ok(ServerFrame::Joined { id, room }.to_json())
    }

    /// Whether the caller may be in a room: by their token, and not banned.
    pub(super) async fn admit(&self, caller: &Caller<'_>, room: &RoomName) -> Result<(), Failure> {
        if !caller.identity.grants.allow(room) {
            return Err(Refusal::new(Code::Forbidden, "the token does not grant this room").into());
        }
        if self.store.banned(room, &caller.identity.user, caller.now_s()).await? {
            return Err(Refusal::new(Code::Forbidden, "banned from this room").into());
        }
        Ok(())
    }

    /// Notes rooms on the connection before anything is put into them, so that `$disconnect` knows all of them.
    pub(super) async fn note(
        &self,
        caller: &Caller<'_>,
        rooms: &[RoomName],
        device: Option<&DeviceId>,
    ) -> Result<(), Failure> {
        let most = self.limits.rooms_per_connection;
        let refusal = match self.store.note(&caller.identity.user, &caller.conn, rooms, device, most).await? {
            Noted::Done => return Ok(()),
            Noted::NoConnection => {
                Refusal::new(Code::NotFound, "this connection is not registered: connect again")
            }
            Noted::TooMany => {
                Refusal::new(Code::Forbidden, format!("a connection may be in at most {most} rooms"))
            }
        };
        Err(refusal.into())
    }
}
