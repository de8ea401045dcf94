//! The account of what every receiver must get: each message of a room once, each sender's messages in order.

use std::collections::{BTreeSet, HashMap, HashSet};

/// Number of a receiver, counted over all connections of a run.
pub(crate) type ReceiverId = usize;

/// What went wrong. A server whose numbers count has zeroes here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
}

impl Losses {
    pub fn none(self) -> bool {
        self == Self::default()
    }

    pub fn plus(self, other: Self) -> Self {
        Self {
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
        }
    }
}

/// Deliveries of one phase in rooms that nobody used before.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    members: HashMap<String, Vec<ReceiverId>>,
    /// The `seq` that each acknowledged send was given.
    acknowledged: HashMap<String, BTreeSet<u64>>,
    accounts: HashMap<(ReceiverId, String), Account>,
    delivered: u64,
    duplicated: u64,
    reordered: u64,
}

#[derive(Debug, Default)]
struct Account {
    seen: HashSet<u64>,
    /// Per sender, the number of the message that came last. Numbers are part of the message ids.
    last: HashMap<String, u64>,
}

impl Ledger {
    /// The receiver is in the room from its first message on.
    pub(crate) fn expect(&mut self, receiver: ReceiverId, room: &str) {
        self.members.entry(room.to_owned()).or_default().push(receiver);
    }

    /// A send was answered with its place in the room.
    pub(crate) fn acknowledge(&mut self, room: &str, seq: u64) {
        if !self.acknowledged.entry(room.to_owned()).or_default().insert(seq) {
            // Two messages in one place: one of them is lost to whoever reads the history.
            self.duplicated += 1;
        }
    }

    /// A delivery arrived. Message ids are `<anything>-<number of this sender in this room>`.
    pub(crate) fn deliver(&mut self, receiver: ReceiverId, room: &str, from: &str, mid: &str, seq: u64) {
        let account = self.accounts.entry((receiver, room.to_owned())).or_default();
        if !account.seen.insert(seq) {
            self.duplicated += 1;
            return;
        }
        self.delivered += 1;
        let number = mid.rsplit_once('-').and_then(|(_, number)| number.parse::<u64>().ok()).unwrap_or(0);
        match account.last.get_mut(from) {
            Some(last) if *last >= number => self.reordered += 1,
            Some(last) => *last = number,
            None => {
                account.last.insert(from.to_owned(), number);
            }
        }
    }

    /// Deliveries so far, repeated ones not counted.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Deliveries that the acknowledged sends owe to the members of their rooms.
    pub(crate) fn owed(&self) -> u64 {
        let members = |room: &String| self.members.get(room).map_or(0, Vec::len);
        self.acknowledged.iter().map(|(room, acked)| (acked.len() * members(room)) as u64).sum()
    }

    /// The account at the end of a phase, when nothing is under way any more. Numbers are gap-free, so a room whose
    /// highest is n owes each member exactly 1..=n.
    pub(crate) fn close(&self) -> Losses {
        let mut lost = 0;
        for (room, acked) in &self.acknowledged {
            let last = acked.last().copied().unwrap_or_default();
            for &receiver in self.members.get(room).into_iter().flatten() {
                let seen = self
                    .accounts
                    .get(&(receiver, room.clone()))
                    .map_or(0, |account| account.seen.iter().filter(|seq| (1..=last).contains(*seq)).count());
                lost += last - seen as u64;
            }
        }
        Losses { lost, duplicated: self.duplicated, reordered: self.reordered }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.expect(0, "r");
        ledger.expect(1, "r");
        for seq in 1..=2 {
            ledger.acknowledge("r", seq);
        }
        ledger
    }

    #[test]
    fn a_perfect_run_owes_nothing() {
        let mut ledger = ledger();
        for receiver in 0..2 {
            ledger.deliver(receiver, "r", "a", "a-1", 1);
            ledger.deliver(receiver, "r", "a", "a-2", 2);
        }
        assert_eq!(ledger.close(), Losses::default());
        assert_eq!((ledger.delivered(), ledger.owed()), (4, 4));
    }

    #[test]
    fn a_gap_in_the_numbers_is_a_loss_and_a_number_given_twice_a_repetition() {
        let mut ledger = Ledger::default();
        ledger.expect(0, "r");
        for seq in [1, 3, 3] {
            ledger.acknowledge("r", seq);
        }
        for seq in [1, 3] {
            ledger.deliver(0, "r", "a", &format!("a-{seq}"), seq);
        }
        assert_eq!(ledger.close(), Losses { lost: 1, duplicated: 1, reordered: 0 });
    }

    #[test]
    fn lost_repeated_and_reordered_deliveries_are_seen() {
        let mut ledger = ledger();
        ledger.deliver(0, "r", "a", "a-2", 2);
        ledger.deliver(0, "r", "a", "a-1", 1);
        ledger.deliver(1, "r", "a", "a-1", 1);
        ledger.deliver(1, "r", "a", "a-1", 1);
        assert_eq!(ledger.close(), Losses { lost: 1, duplicated: 1, reordered: 1 });
    }
}
