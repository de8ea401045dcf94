//! `hello`: the first frame of a connection. Puts it back into its rooms and brings what was missed there.

use super::history::Batch;
use super::{each, one_of};
use crate::chat::{Answer, Caller, Chat, Failure};
use crate::ids::{DeviceId, FrameId, Room, RoomName};
use crate::ports::{Gateway, Page, Read, Store, TAIL};
use crate::protocol::{
    BATCH_MAX, Code, DIRECT_MAX, FRAME_MAX_BYTES, HEARTBEAT_S, Head, History, Presence, Refused, Resume,
    ServerFrame, VERSION,
};

impl<S: Store, G: Gateway> Chat<S, G> {
    pub(crate) async fn hello(
        &self,
        caller: &Caller<'_>,
        id: &FrameId,
        device: Option<&DeviceId>,
        resume: Vec<Resume>,
    ) -> Answer {
        let (admitted, mut refused) = self.admitted(caller, resume).await?;
        let (resumed, over_limit) = self.enter(caller, device, admitted).await?;
        refused.extend(over_limit);

        // Subscribed first, read second: what is said meanwhile comes one way or the other.
        let rooms = each(resumed, |wanted| self.catch_up(caller, wanted)).await?;
        let direct = self.store.direct_rooms(&caller.identity.user, DIRECT_MAX).await?;
        let welcome = ServerFrame::Welcome {
            id,
            v: VERSION,
            user: &caller.identity.user,
            name: &caller.identity.name,
            conn: &caller.conn,
            heartbeat: HEARTBEAT_S,
            expires: caller.ends_at_s(),
            max_bytes: FRAME_MAX_BYTES,
            rooms,
            refused,
            direct: direct.into_iter().map(Room::Direct).collect(),
        };
        Ok(welcome.to_json())
    }

    /// Parts the rooms that the caller may be in from the others.
    async fn admitted(
        &self,
        caller: &Caller<'_>,
        resume: Vec<Resume>,
    ) -> Result<(Vec<Resume>, Vec<Refused>), Failure> {
        let outcomes = each(resume, async |wanted: Resume| {
            let outcome = match &wanted.room {
                Room::Direct(pair) => one_of(pair, caller).map_err(Failure::from),
                Room::Named(name) => self.admit(caller, name).await,
            };
            match outcome {
                Ok(()) => Ok(Ok(wanted)),
                Err(Failure::Refused(refusal)) => Ok(Err(Refused { room: wanted.room, code: refusal.code })),
                Err(other) => Err(other),
            }
        })
        .await?;
        let (mut admitted, mut refused) = (Vec::new(), Vec::new());
        for outcome in outcomes {
            match outcome {
                Ok(wanted) => admitted.push(wanted),
                Err(no) => refused.push(no),
            }
        }
        Ok((admitted, refused))
    }

    /// Joins the named ones of the rooms, all of them or, past the stage's limit, none.
    async fn enter(
        &self,
        caller: &Caller<'_>,
        device: Option<&DeviceId>,
        wanted: Vec<Resume>,
    ) -> Result<(Vec<Resume>, Vec<Refused>), Failure> {
        let named: Vec<RoomName> = wanted
            .iter()
            .filter_map(|wanted| match &wanted.room {
                Room::Named(name) => Some(name.clone()),
                Room::Direct(_) => None,
            })
            .collect();
        if named.is_empty() && device.is_none() {
            return Ok((wanted, Vec::new()));
        }
        match self.note(caller, &named, device).await {
            Ok(()) => {}
            Err(Failure::Refused(refusal)) if refusal.code == Code::Forbidden => {
                let (direct, over): (Vec<_>, Vec<_>) =
                    wanted.into_iter().partition(|wanted| matches!(wanted.room, Room::Direct(_)));
                let over = over.into_iter().map(|wanted| Refused { room: wanted.room, code: refusal.code });
                return Ok((direct, over.collect()));
            }
            Err(other) => return Err(other),
        }
        let recipient = caller.as_recipient();
        each(named, async |name| {
            self.store.subscribe(&name, &recipient).await?;
            if self.limits.presence_max > 0 {
                self.announce(caller, Room::Named(name), Presence::Online).await?;
            }
            Ok(())
        })
        .await?;
        Ok((wanted, Vec::new()))
    }

    /// Posts what was missed in one room. One read is enough unless more than the tail was missed.
    async fn catch_up(&self, caller: &Caller<'_>, wanted: Resume) -> Result<Head, Failure> {
        let Resume { room, seq } = wanted;
        let mut tail = self.store.tail(&room, TAIL, Read::Strong).await?;
        let head = tail.first().map_or(0, |newest| newest.seq.get());
        if head > seq {
            let range = History { after: Some(seq), before: None, limit: BATCH_MAX };
            let whole = tail.len() < TAIL || tail.last().is_some_and(|oldest| oldest.seq.get() <= seq + 1);
            let page = if whole {
                tail.retain(|message| message.seq.get() > seq);
                tail.reverse();
                Page { messages: tail, more: false }
            } else {
                self.store.messages(&room, range).await?
            };
            let frame = Batch::of(page, range, caller.now_s()).bytes(&room);
            let own = [caller.as_recipient()];
            self.deliver(caller.invocation, &own, None, frame).await;
        }
        Ok(Head { room, head })
    }
}
