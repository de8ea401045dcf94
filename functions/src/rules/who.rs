//! `who`: the users that are connected to a room.

use std::collections::BTreeSet;

use super::{not_in_room, one_of, present};
use crate::chat::{Answer, Caller, Chat};
use crate::ids::{FrameId, Room, UserId};
use crate::ports::{Gateway, Read, Store};
use crate::protocol::{ServerFrame, WHO_MAX};

impl<S: Store, G: Gateway> Chat<S, G> {
    pub(crate) async fn who(&self, caller: &Caller<'_>, id: &FrameId, room: &Room) -> Answer {
        let online: BTreeSet<UserId> = match room {
            Room::Direct(pair) => {
                one_of(pair, caller)?;
                let me = &caller.identity.user;
                let theirs = present(self.store.connections(pair.other(me)).await?, caller.now_s());
                theirs.into_iter().map(|connection| connection.user).chain([me.clone()]).collect()
            }
            Room::Named(name) => {
                let found =
                    present(self.store.subscribers(name, Read::Eventual, None).await?, caller.now_s());
                let found = self.with_caller(caller, name, found).await?.ok_or_else(not_in_room)?;
                found.into_iter().map(|subscriber| subscriber.user).collect()
            }
        };
        let more = online.len() > WHO_MAX;
        let users = online.into_iter().take(WHO_MAX).collect();
        Ok(ServerFrame::Who { id, room, users, more }.to_json())
    }
}
