//! What a run reads of a stage's lock before it changes the stage: who holds it and for how long, and that nobody does.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use tokio::time::Instant;

use super::clock::UNCERTAINTY_MS;
use super::record::{Holder, Outcome, Record};
use super::table::{Item, number, read_number, read_text, text};
use super::{Applied, Look};

/// Attributes of the lock.
pub(super) const FENCE: &str = "fence";
/// Random, and other for every holder. Absent while nobody holds the lock.
pub(super) const TOKEN: &str = "token_of_holder";
pub(super) const BEAT: &str = "beat";
pub(super) const LEASE_MS: &str = "lease_ms";
pub(super) const RENEWED_MS: &str = "renewed_ms";
pub(super) const RELEASED_MS: &str = "released_ms";
pub(super) const HOLDER: &str = "holder";
pub(super) const UNLOCKED_BY: &str = "unlocked_by";

/// The lock as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LockItem {
    pub(super) fence: u64,
    pub(super) held: Option<Held>,
    /// By DynamoDB's clock.
    released_ms: Option<i64>,
    /// Who took it away from its last holder, and why.
    pub(super) unlocked_by: Option<String>,
}

/// Somebody holds it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Held {
    pub(super) token: String,
    pub(super) beat: u64,
    pub(super) lease: Duration,
    /// By DynamoDB's clock.
    renewed_ms: i64,
    pub(super) holder: Holder,
}

impl LockItem {
    pub(super) fn read(item: &Item) -> Self {
        Self {
            fence: read_number(item, FENCE).unwrap_or_default(),
            held: Held::read(item),
            released_ms: read_number(item, RELEASED_MS),
            unlocked_by: read_text(item, UNLOCKED_BY),
        }
    }
}

impl Held {
    fn read(item: &Item) -> Option<Self> {
        let token = read_text(item, TOKEN)?;
        // Of a later version of this tool, perhaps; that it is held is certain.
        let unknown = || Holder {
            principal: "somebody".to_owned(),
            host: "an unknown host".to_owned(),
            pid: 0,
            verb: "an unknown verb".to_owned(),
            since_ms: 0,
            run: None,
        };
        let holder = read_text(item, HOLDER).and_then(|holder| serde_json::from_str(&holder).ok());
        Some(Self {
            token,
            beat: read_number(item, BEAT).unwrap_or_default(),
            lease: Duration::from_millis(read_number(item, LEASE_MS).unwrap_or_default()),
            renewed_ms: read_number(item, RENEWED_MS).unwrap_or_default(),
            holder: holder.unwrap_or_else(unknown),
        })
    }

    /// Whether neither the holder nor its last sign of life is another.
    pub(super) fn is_same_beat(&self, other: &Self) -> bool {
        self.token == other.token && self.beat == other.beat
    }

    /// How long the lease still lasts at most. A renewal that seems to come from the future counts as one of now.
    pub(super) fn remaining(&self, now_ms: i64) -> Duration {
        let age =
            Duration::from_millis(u64::try_from(now_ms - self.renewed_ms - UNCERTAINTY_MS).unwrap_or(0));
        self.lease.saturating_sub(age)
    }
}

/// That nobody else changed the stage when it was looked at: what a lock is taken with.
#[derive(Debug)]
pub struct Ticket {
    pub(super) look: Look,
    /// The holder that died, and how that showed.
    died: Option<&'static str>,
    /// Somebody else held the lock when this run came.
    waited: bool,
    /// How long before the look the last holder had let go.
    released_ago: Option<Duration>,
    looked: Instant,
}

impl Ticket {
    pub(super) fn of(look: Look, died: Option<&'static str>, waited: bool, now_ms: i64) -> Self {
        let released = look.lock.as_ref().and_then(|lock| lock.released_ms);
        let released_ago = released.map(|released| {
            Duration::from_millis(u64::try_from(now_ms - released - UNCERTAINTY_MS).unwrap_or(0))
        });
        Self { look, died, waited, released_ago, looked: Instant::now() }
    }

    /// Whether somebody may still have been changing the stage after `started`, so that what was observed from then on
    /// may be neither the old nor the new.
    pub fn is_stale_for(&self, started: Instant) -> bool {
        let observed_for = self.looked.saturating_duration_since(started);
        self.waited || self.died.is_some() || self.released_ago.is_some_and(|ago| ago <= observed_for)
    }

    /// The run that died while it changed the stage, and how that showed.
    pub fn died(&self) -> Option<(&Holder, &'static str)> {
        Some((&self.look.held()?.holder, self.died?))
    }

    /// The stage as the last run that succeeded left it.
    pub fn applied(&self) -> Option<&Applied> {
        self.look.applied.as_ref()
    }

    /// Whether there is a lock of the stage, held or not.
    pub fn has_lock(&self) -> bool {
        self.look.lock.is_some()
    }

    /// That the lock is as it was seen, for `#fence`, `#token` and `#beat`.
    pub(super) fn condition(&self) -> (&'static str, Vec<(&'static str, AttributeValue)>) {
        let Some(seen) = &self.look.lock else { return ("attribute_not_exists(#fence)", Vec::new()) };
        let fence = (":seen", number(seen.fence));
        match &seen.held {
            None => ("#fence = :seen AND attribute_not_exists(#token)", vec![fence]),
            // Whoever was taken for dead and is not has renewed it meanwhile.
            Some(dead) => (
                "#fence = :seen AND #token = :dead AND #beat = :beat",
                vec![fence, (":dead", text(&dead.token)), (":beat", number(dead.beat))],
            ),
        }
    }

    /// The record of the run that died, closed.
    pub(super) fn closed(&self, by: &Holder, now_ms: i64) -> Option<Record> {
        let (_, how) = self.died()?;
        let record = self.look.newest.as_ref().filter(|record| record.outcome == Outcome::Running)?;
        Some(Record {
            outcome: Outcome::Interrupted,
            ended_ms: Some(now_ms),
            note: Some(format!("taken over by {by}: {how}")),
            ..record.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(renewed_ms: i64) -> Held {
        Held {
            token: "t".into(),
            beat: 3,
            lease: Duration::from_secs(60),
            renewed_ms,
            holder: Holder {
                principal: "arn".into(),
                host: "h".into(),
                pid: 1,
                verb: "deploy".into(),
                since_ms: 0,
                run: None,
            },
        }
    }

    fn look(lock: Option<LockItem>) -> Look {
        Look { lock, newest_number: 7, table: true, ..Look::default() }
    }

    #[test]
    fn a_lease_lasts_its_time_and_a_little_more() {
        let renewed = held(1_000_000);
        let after = |seconds: i64| renewed.remaining(1_000_000 + seconds * 1000).as_secs();
        assert_eq!((after(0), after(3), after(33), after(62), after(63)), (60, 60, 30, 1, 0));
        assert_eq!(after(-500), 60, "a clock that was set back does not make a lease longer");
    }

    #[test]
    fn any_sign_of_life_is_another_beat() {
        let one = held(0);
        assert!(one.is_same_beat(&held(5)));
        assert!(!one.is_same_beat(&Held { beat: 4, ..held(0) }));
        assert!(!one.is_same_beat(&Held { token: "u".into(), ..held(0) }));
    }

    #[test]
    fn numbers_go_on_after_the_lock_went_with_its_stage() {
        assert_eq!(look(None).last_number(), 7);
        assert_eq!(look(Some(LockItem { fence: 9, ..LockItem::default() })).last_number(), 9);
    }

    #[test]
    fn what_was_observed_while_somebody_let_go_is_observed_again() {
        let released = |at: i64| Some(LockItem { fence: 9, released_ms: Some(at), ..LockItem::default() });
        let began = Instant::now();
        let now_ms = 1_000_000;
        let stale = |look, died, waited| Ticket::of(look, died, waited, now_ms).is_stale_for(began);
        assert!(stale(look(released(now_ms - 1_000)), None, false));
        assert!(!stale(look(released(now_ms - 60_000)), None, false));
        assert!(!stale(look(None), None, false));
        assert!(stale(look(None), None, true));
        assert!(stale(look(None), Some("it is gone"), false));
    }

    #[test]
    fn a_lock_that_cannot_be_understood_is_held_all_the_same() {
        let item = Item::from([
            (FENCE.to_owned(), number(4)),
            (TOKEN.to_owned(), text("t")),
            (HOLDER.to_owned(), text("of another version")),
        ]);
        let lock = LockItem::read(&item);
        assert_eq!((lock.fence, lock.held.is_some()), (4, true));
    }
}
