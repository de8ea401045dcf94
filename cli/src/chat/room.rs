//! How far a client has seen one room.

use std::collections::BTreeMap;

use serde_json::Value;

/// What somebody said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) seq: u64,
    pub(crate) from: String,
    /// Milliseconds since 1970.
    pub(crate) ts: u64,
    pub(crate) text: String,
}

impl Message {
    /// `None` if it is none.
    pub(crate) fn read(item: &Value) -> Option<Self> {
        Some(Self {
            seq: item["seq"].as_u64().filter(|seq| *seq > 0)?,
            from: item["from"].as_str()?.to_owned(),
            ts: item["ts"].as_u64()?,
            text: item["body"]["text"].as_str().unwrap_or_default().to_owned(),
        })
    }
}

/// A room as the client knows it.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Everything up to here was shown. `None` until there is a point to begin at.
    pub(crate) seq: Option<u64>,
    /// The newest number that the server has named.
    pub(crate) head: u64,
    /// Up to here it was said before one came in.
    pub(crate) old_until: u64,
    /// The number after which it was only watched, since nobody has gone into it.
    pub(crate) watched_from: Option<u64>,
    /// Whether what is missing is being looked for.
    pub(crate) filling: bool,
    /// How often it was looked for in vain.
    pub(crate) looks: u32,
    /// What came before its turn.
    held: BTreeMap<u64, Message>,
}

impl Room {
    /// One of which everything up to `seq` was shown.
    pub(crate) fn shown_to(seq: u64) -> Self {
        Self { seq: Some(seq), ..Self::default() }
    }

    /// Takes messages in any order, any number of times, and returns those whose turn it is.
    pub(crate) fn take(&mut self, items: Vec<Message>) -> Vec<Message> {
        for item in items {
            if Some(item.seq) > self.seq {
                self.held.entry(item.seq).or_insert(item);
            }
        }
        let mut ready = Vec::new();
        let Some(mut seq) = self.seq else { return ready };
        self.held.retain(|held, _| *held > seq);
        while let Some(next) = self.held.remove(&(seq + 1)) {
            seq = next.seq;
            ready.push(next);
        }
        self.seq = Some(seq);
        ready
    }

    /// Everything has expired, and the numbers count from 1 again.
    pub(crate) fn begin_anew(&mut self) {
        *self = Self::shown_to(0);
    }

    /// The first of what came before its turn.
    pub(crate) fn first_held(&self) -> Option<u64> {
        self.held.keys().next().copied()
    }

    /// The newest number that must exist.
    pub(crate) fn known(&self) -> u64 {
        self.held.keys().next_back().copied().unwrap_or(0).max(self.head)
    }

    /// Whether something must exist that has not come.
    pub(crate) fn missing(&self) -> bool {
        self.seq.is_some_and(|seq| seq < self.known())
    }

    /// The last of those that are missing in one piece.
    pub(crate) fn gap_end(&self) -> u64 {
        self.first_held().map_or(self.head, |first| first - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(seq: u64) -> Message {
        Message { seq, from: "bob".into(), ts: seq, text: format!("number {seq}") }
    }

    proptest! {
        #[test]
        fn each_message_comes_once_and_in_order_however_it_arrives(
            arrivals in prop::collection::vec(prop::collection::vec(1_u64..40, 0..6), 0..60),
            begin in 0_u64..10,
        ) {
            let mut room = Room { seq: Some(begin), ..Room::default() };
            let mut shown = Vec::new();
            for arrival in &arrivals {
                shown.extend(room.take(arrival.iter().copied().map(message).collect()));
            }
            let numbers: Vec<u64> = shown.iter().map(|message| message.seq).collect();
            let expected: Vec<u64> = (begin + 1..=room.seq.unwrap()).collect();
            prop_assert_eq!(numbers, expected);
            let next = room.seq.unwrap() + 1;
            prop_assert!(!arrivals.iter().flatten().any(|seq| *seq == next), "{next} came and is not shown");
        }
    }

    #[test]
    fn what_comes_before_there_is_a_beginning_waits_for_it() {
        let mut room = Room::default();
        assert!(room.take(vec![message(5), message(3)]).is_empty() && !room.missing());
        room.seq = Some(3);
        assert!(room.take(Vec::new()).is_empty());
        assert!(room.missing());
        assert_eq!((room.known(), room.gap_end()), (5, 4));
        assert_eq!(room.take(vec![message(4)]), [message(4), message(5)]);
    }

    #[test]
    fn what_is_no_message_is_none() {
        for item in [r#"{}"#, r#"{"seq":0,"from":"a","ts":1}"#, r#"{"seq":"1","from":"a","ts":1}"#, "[]", "7"]
        {
            assert_eq!(Message::read(&serde_json::from_str(item).unwrap()), None, "{item}");
        }
    }
}
