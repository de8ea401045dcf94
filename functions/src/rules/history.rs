//! `history`: messages of a room for those who are in it.

use bytes::Bytes;
use futures_util::try_join;

use super::{not_in_room, one_of};
use crate::chat::{Answer, Caller, Chat, Failure};
use crate::ids::{FrameId, Room};
use crate::ports::{Gateway, Page, Store, Stored};
use crate::protocol::{ChatMessage, History, ITEMS_MAX_BYTES, ServerFrame};

impl<S: Store, G: Gateway> Chat<S, G> {
    pub(crate) async fn history(
        &self,
        caller: &Caller<'_>,
        id: &FrameId,
        room: &Room,
        range: History,
    ) -> Answer {
        let messages = async { Ok::<_, Failure>(self.store.messages(room, range).await?) };
        let page = match room {
            Room::Direct(pair) => {
                one_of(pair, caller)?;
                messages.await?
            }
            Room::Named(name) => {
                let permission = async {
                    let found = self.store.subscription(name, &caller.conn).await?;
                    let present = found.is_some_and(|subscription| subscription.expires_s > caller.now_s());
                    if present { Ok(()) } else { Err(Failure::from(not_in_room())) }
                };
                try_join!(permission, messages)?.1
            }
        };
        Ok(Batch::of(page, range, caller.now_s()).frame(Some(id), room).to_json())
    }
}

/// Messages as one frame carries them: ascending, unexpired, and not too many bytes.
#[derive(Debug)]
pub(super) struct Batch {
    messages: Vec<Stored>,
    upto: u64,
    more: bool,
}

impl Batch {
    /// `page` in the order that `range` asks for.
    pub(super) fn of(page: Page, range: History, now_s: u64) -> Self {
        let Page { mut messages, mut more } = page;
        let read = messages.len();
        let last_read = messages.last().map(|message| message.seq.get());
        let mut bytes = 0;
        let fitting = messages.iter().take_while(|message| {
            bytes += json_bytes_at_most(message);
            bytes <= ITEMS_MAX_BYTES
        });
        messages.truncate(fitting.count());
        let cut = messages.len() < read;
        let kept_last = messages.last().map(|message| message.seq.get());
        let unexpired = |message: &Stored| message.expires_s.is_none_or(|end| end > now_s);
        match range.after {
            Some(after) => {
                more |= cut;
                // Up to here nothing is missing, even where what there was had expired.
                let upto = if cut { kept_last } else { last_read }.unwrap_or(after);
                messages.retain(unexpired);
                Self { messages, upto, more }
            }
            None => {
                // Newest first: before something that has expired there is nothing that has not.
                let some_expired = !messages.iter().all(unexpired);
                messages.retain(unexpired);
                messages.reverse();
                let upto = messages.last().map_or(0, |message| message.seq.get());
                Self { messages, upto, more: (more || cut) && !some_expired }
            }
        }
    }

    pub(super) fn frame<'a>(&'a self, id: Option<&'a FrameId>, room: &'a Room) -> ServerFrame<'a> {
        let items = self.messages.iter().map(|message| message.to_chat(room)).collect();
        ServerFrame::Batch { id, room, items, upto: self.upto, more: self.more }
    }

    pub(super) fn bytes(&self, room: &Room) -> Bytes {
        self.frame(None, room).to_bytes()
    }
}

impl Stored {
    pub(super) fn to_chat<'a>(&'a self, room: &'a Room) -> ChatMessage<'a> {
        ChatMessage { room, seq: self.seq, from: &self.user, mid: &self.mid, ts: self.ts, text: &self.text }
    }
}

/// How much of a frame one item takes at most: its text, with what JSON escapes, and names and ids around it.
fn json_bytes_at_most(message: &Stored) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    message.text.bytes().map(escaped).sum::<usize>() + 384
}
