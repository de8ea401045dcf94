//! `send`: gives a message its number, stores it, and posts it to everybody in the room.
//!
//! The number is one more than the newest message's, and the write succeeds only if it is free. So however stale the
//! first read was, two messages never share a number, none is left out, and whoever loses a race finds out.

use futures_util::try_join;

use super::{not_in_room, one_of, present};
use crate::chat::{Answer, Caller, Chat, Failure};
use crate::ids::{FrameId, Pair, Room, RoomName, Seq, UserId};
use crate::ports::{Appended, Gateway, Read, Recent, Recipient, Store, StoreResult, Stored};
use crate::protocol::{Code, Refusal, ServerFrame, Target};

/// Lost races after which the sender is asked to come back. Each race has a winner, so this many others got through.
const RACES: u32 = 40;
/// Longest pause between races, in milliseconds.
const PAUSE_MAX_MS: u64 = 32;
/// The window of the rate limit, in milliseconds.
const WINDOW_MS: u64 = 10_000;

impl<S: Store, G: Gateway> Chat<S, G> {
    pub(crate) async fn send(
        &self,
        caller: &Caller<'_>,
        id: FrameId,
        target: Target,
        text: String,
    ) -> Answer {
        let me = &caller.identity.user;
        let room = match target {
            Target::Room(room) => room,
            Target::User(user) => match Pair::of(me.clone(), user) {
                Some(pair) => Room::Direct(pair),
                None => return Err(Refusal::bad_request("a direct message needs somebody else").into()),
            },
        };
        let (audience, tail) = self.audience(caller, &room).await?;

        let days = self.limits.message_days;
        let mut message = Stored {
            seq: Seq::FIRST,
            user: me.clone(),
            mid: id,
            ts: caller.invocation.now_ms,
            text,
            expires_s: (days > 0).then(|| caller.now_s() + days * 24 * 60 * 60),
            request: caller.invocation.request_id.to_owned(),
        };
        let dup = match self.store_once(&room, &mut message, tail).await? {
            Kept::Now => false,
            Kept::Before => true,
        };
        if !dup {
            let name = match &room {
                Room::Named(name) => Some(name),
                Room::Direct(_) => None,
            };
            let frame = ServerFrame::Message(message.to_chat(&room)).to_bytes();
            self.deliver(caller.invocation, &audience, name, frame).await;
        }
        let (id, seq, ts) = (&message.mid, message.seq, message.ts);
        Ok(ServerFrame::Sent { id, room: &room, seq, ts, dup }.to_json())
    }

    /// Everybody who gets what is said in a room, if the caller may say something there, and what was said last.
    async fn audience(
        &self,
        caller: &Caller<'_>,
        room: &Room,
    ) -> Result<(Vec<Recipient>, Vec<Recent>), Failure> {
        let (mut audience, tail) = match room {
            Room::Named(name) => {
                let (found, tail) = self.store.room(name).await?;
                let found = self.with_caller(caller, name, present(found, caller.now_s())).await?;
                (found.ok_or_else(not_in_room)?, tail)
            }
            Room::Direct(pair) => {
                one_of(pair, caller)?;
                let [low, high] = pair.both();
                let tail = self.store.recent(room, Read::Eventual);
                let (mut low, high, tail) =
                    try_join!(self.store.connections(low), self.store.connections(high), tail)?;
                low.extend(high);
                (present(low, caller.now_s()), tail)
            }
        };
        // The sender sees it first; of all waits this is the one that somebody is looking at.
        if let Some(own) = audience.iter().position(|recipient| recipient.conn == caller.conn) {
            audience.swap(0, own);
        }
        Ok((audience, tail))
    }

    /// The subscribers if the caller is one of them. Somebody who has just joined may be missing from an eventually
    /// consistent read, so a strong one decides before anybody is turned away.
    pub(super) async fn with_caller(
        &self,
        caller: &Caller<'_>,
        room: &RoomName,
        mut found: Vec<Recipient>,
    ) -> StoreResult<Option<Vec<Recipient>>> {
        if found.iter().any(|recipient| recipient.conn == caller.conn) {
            return Ok(Some(found));
        }
        match self.store.subscription(room, &caller.conn).await? {
            Some(own) if own.expires_s > caller.now_s() => {
                found.push(own);
                Ok(Some(found))
            }
            _ => Ok(None),
        }
    }

    /// Stores the message under the next free number, or finds that it is stored already. Sets `message.seq` and, of a
    /// message stored before, `message.ts`.
    async fn store_once(
        &self,
        room: &Room,
        message: &mut Stored,
        mut tail: Vec<Recent>,
    ) -> Result<Kept, Failure> {
        for race in 0..RACES {
            if let Some(stored) = tail.iter().find(|s| s.user == message.user && s.mid == message.mid) {
                // Ours if the write succeeded but its answer was lost and the SDK wrote again: then nobody has been
                // told yet. Otherwise an earlier invocation stored it, and telling again would show it twice.
                let ours = stored.request == message.request;
                (message.seq, message.ts) = (stored.seq, stored.ts);
                return Ok(if ours { Kept::Now } else { Kept::Before });
            }
            self.keep_pace(&message.user, message.ts, &tail)?;
            let head = tail.first().map(|newest| newest.seq);
            message.seq =
                Seq::after(head).ok_or_else(|| Refusal::new(Code::Forbidden, "the room is full"))?;
            if let (Room::Direct(pair), None) = (room, head) {
                // Before the message, so that it cannot be there without being found.
                self.store.introduce(pair).await?;
            }
            match self.store.append(room, message).await? {
                Appended::Stored => return Ok(Kept::Now),
                Appended::Taken => {
                    tokio::time::sleep(std::time::Duration::from_millis(pause_ms(race))).await;
                    tail = self.store.recent(room, Read::Strong).await?;
                }
            }
        }
        Err(Refusal::new(Code::Conflict, "too many are speaking at once").retry_in(200).into())
    }

    /// The rate limit, from what was read anyway. Where so much is said that the tail spans less than the window, it
    /// limits less than it says.
    fn keep_pace(&self, user: &UserId, now_ms: u64, tail: &[Recent]) -> Result<(), Refusal> {
        let most = self.limits.sends_per_10s;
        if most == 0 {
            return Ok(());
        }
        let own = tail.iter().filter(|stored| stored.user == *user);
        // The message that must have left the window before there is room for one more.
        let Some(oldest) = own.take(most).nth(most - 1) else { return Ok(()) };
        match (oldest.ts + WINDOW_MS).checked_sub(now_ms) {
            Some(wait @ 1..) => {
                let why = format!("at most {most} messages in ten seconds");
                Err(Refusal::new(Code::RateLimited, why).retry_in(wait))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a message was stored by this invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Now,
    Before,
}

/// A random pause, so that those who lost a race do not meet again at once. Even 0 would end: each race has a winner.
fn pause_ms(race: u32) -> u64 {
    let most = PAUSE_MAX_MS.min(1 << race.min(63));
    let mut byte = [0_u8; 1];
    match ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut byte) {
        Ok(()) => u64::from(byte[0]) % (most + 1),
        Err(_) => most,
    }
}
