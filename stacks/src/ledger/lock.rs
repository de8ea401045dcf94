//! The lock of a stage: a lease that its holder renews, and a fencing number that grows with every holder.
//!
//! A holder whose lease was taken over finds its own token replaced when it next renews, at the latest a twelfth of a
//! lease later, and begins nothing new from then on. It also stops by itself when no renewal gets through for most of a
//! lease. AWS's own resources know nothing of fencing numbers, so a step that is in flight at that moment ends as it
//! ends; the next run observes what became of it.

use std::time::Duration;

use aws_sdk_dynamodb::types::{Delete, Put, TransactWriteItem, Update};
use rand::RngExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::record::{Holder, Outcome, Record};
use super::table::{self, NAME, number, text};
use super::ticket::{
    BEAT, FENCE, HOLDER, LEASE_MS, LockItem, RELEASED_MS, RENEWED_MS, TOKEN, Ticket, UNLOCKED_BY,
};
use super::{LEFT, LOCK, Ledger, at_table, write_applied, write_record, written};
use crate::error::{AwsFailure, Error};

/// Renewals in one lease. Many, since a renewal is also how a holder learns that it is not the holder any more.
const BEATS: u32 = 12;

/// The lock, held. It has to be [held](Self::hold) while work is done, and [given back](Self::finish).
#[derive(Debug)]
pub struct Lock {
    ledger: Ledger,
    pub number: u64,
    token: String,
    began: Instant,
}

/// The lock is somebody else's now.
#[derive(Clone, Debug, PartialEq)]
pub struct Lost {
    /// Who has it or had it after us, or why we gave it up.
    pub to: String,
}

/// How a transaction ended.
enum Written {
    Done,
    /// A condition did not hold, or the answer was lost.
    Unclear(AwsFailure),
}

impl Ledger {
    /// Takes the lock, and writes down that `record` has begun, in one transaction. Numbers and dates the record.
    ///
    /// # Errors
    /// [`Error::Locked`] if somebody else was faster; [`Error::Overtaken`] if somebody else changed the stage since the
    /// ticket was drawn.
    pub async fn take(&self, ticket: &Ticket, record: &mut Record) -> Result<Lock, Error> {
        let fence = ticket.look.last_number() + 1;
        let lock = Lock { ledger: self.clone(), number: fence, token: new_token(), began: Instant::now() };
        record.number = fence;
        record.by.since_ms = self.clock.now_ms();
        for _ in 0..5 {
            let mut items = vec![self.taking(ticket, &lock, &record.by)?, put(self, record, true)?];
            if let Some(closed) = ticket.closed(&record.by, self.clock.now_ms()) {
                items.push(put(self, &closed, false)?);
            }
            let failure = match self.write(items).await? {
                Written::Done => return Ok(lock),
                Written::Unclear(failure) if failure.is("ResourceNotFoundException") => {
                    self.with_cx(async |cx| {
                        table::create(cx).await?;
                        table::wait_until_active(cx).await
                    })
                    .await?;
                    continue;
                }
                Written::Unclear(failure) => failure,
            };
            let look = self.look().await?;
            match look.held() {
                Some(held) if held.token == lock.token => return Ok(lock),
                Some(held) if ticket.look.held().is_none_or(|before| !before.is_same_beat(held)) => {
                    return Err(self.locked(held));
                }
                _ if look.last_number() >= fence => {
                    let by = look.newest.filter(|newest| newest.number >= fence).map(|newest| newest.by);
                    return Err(Error::Overtaken {
                        stage: self.scope.stage.to_string(),
                        by: by.map_or_else(|| "somebody else".to_owned(), |by| by.to_string()),
                    });
                }
                // Two transactions met, or the answer to one that did not happen was lost.
                _ if failure.is("TransactionCanceledException") || failure.ambiguous => {
                    tokio::time::sleep(Duration::from_millis(rand::rng().random_range(20..200))).await;
                }
                _ => return Err(at_table(failure)),
            }
        }
        Err(Error::Unhealthy {
            resource: table::address(),
            what: "the lock cannot be taken: its transactions are cancelled again and again".to_owned(),
        })
    }

    fn taking(&self, ticket: &Ticket, lock: &Lock, holder: &Holder) -> Result<TransactWriteItem, Error> {
        let holder = serde_json::to_string(holder).map_err(|error| Error::bug(error.to_string()))?;
        let mut update = Update::builder()
            .table_name(NAME)
            .set_key(Some(self.key(LOCK)))
            .update_expression(
                "SET #fence = :new, #token = :token, #beat = :zero, #lease = :lease, #renewed = :now, \
                 #holder = :holder REMOVE #unlocked",
            )
            .expression_attribute_names("#fence", FENCE)
            .expression_attribute_names("#token", TOKEN)
            .expression_attribute_names("#beat", BEAT)
            .expression_attribute_names("#lease", LEASE_MS)
            .expression_attribute_names("#renewed", RENEWED_MS)
            .expression_attribute_names("#holder", HOLDER)
            .expression_attribute_names("#unlocked", UNLOCKED_BY)
            .expression_attribute_values(":new", number(lock.number))
            .expression_attribute_values(":token", text(&lock.token))
            .expression_attribute_values(":zero", number(0))
            .expression_attribute_values(":lease", number(self.lease.as_millis()))
            .expression_attribute_values(":now", number(self.clock.now_ms()))
            .expression_attribute_values(":holder", text(holder));
        let (condition, values) = ticket.condition();
        update = update.condition_expression(condition);
        for (name, value) in values {
            update = update.expression_attribute_values(name, value);
        }
        let update = update.build().map_err(|error| Error::bug(error.to_string()))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    async fn write(&self, items: Vec<TransactWriteItem>) -> Result<Written, Error> {
        let written = self
            .call(|_| {
                self.aws
                    .dynamodb
                    .transact_write_items()
                    .set_transact_items(Some(items.clone()))
                    .customize()
                    .interceptor(self.clock.clone())
                    .send()
            })
            .await;
        match written {
            Ok(_) => Ok(Written::Done),
            Err(failure)
                if failure.ambiguous
                    || failure.is("TransactionCanceledException")
                    || failure.is("ResourceNotFoundException") =>
            {
                Ok(Written::Unclear(failure))
            }
            Err(failure) => Err(at_table(failure)),
        }
    }

    /// Takes the lock away from whoever holds it, which ends its run. Says who it was; nobody, if nobody held it.
    pub async fn unlock(&self, by: &Holder, reason: &str) -> Result<Option<Holder>, Error> {
        let look = self.look().await?;
        let Some(held) = look.held().cloned() else { return Ok(None) };
        let how = format!("unlocked by {}: {reason}", by.principal);
        let mut items = vec![self.freeing(&held.token, Some(&how))?];
        if let Some(record) = look.newest.filter(|record| record.outcome == Outcome::Running) {
            let closed = Record {
                outcome: Outcome::Interrupted,
                ended_ms: Some(self.clock.now_ms()),
                note: Some(how),
                ..record
            };
            items.push(put(self, &closed, false)?);
        }
        match self.write(items).await? {
            Written::Done => Ok(Some(held.holder)),
            Written::Unclear(failure) => match self.look().await?.held() {
                None => Ok(Some(held.holder)),
                Some(now) if now.token != held.token => Err(self.locked(now)),
                Some(_) => Err(at_table(failure)),
            },
        }
    }

    /// Writes a record down anew that turned out to be wrong after it was closed. It stays the run's own: no other has
    /// its number.
    pub(crate) async fn correct(&self, record: &Record) -> Result<(), Error> {
        self.write(vec![put(self, record, false)?]).await.map(|_| ())
    }

    /// Removes the lock of a stage that is gone, which only a destroy that died can have left.
    pub async fn forget(&self, ticket: &Ticket, by: &Holder) -> Result<(), Error> {
        let (condition, values) = ticket.condition();
        let mut delete = Delete::builder()
            .table_name(NAME)
            .set_key(Some(self.key(LOCK)))
            .condition_expression(condition)
            .expression_attribute_names("#fence", FENCE)
            .expression_attribute_names("#token", TOKEN);
        if ticket.look.held().is_some() {
            delete = delete.expression_attribute_names("#beat", BEAT);
        }
        for (name, value) in values {
            delete = delete.expression_attribute_values(name, value);
        }
        let delete = delete.build().map_err(|error| Error::bug(error.to_string()))?;
        let mut items = vec![TransactWriteItem::builder().delete(delete).build()];
        let now_ms = self.clock.now_ms();
        if let Some(closed) = ticket.closed(&Holder { since_ms: now_ms, ..by.clone() }, now_ms) {
            items.push(put(self, &closed, false)?);
        }
        // If the condition does not hold, somebody else has the stage in hand now, lock included.
        self.write(items).await.map(|_| ())
    }

    /// Who holds the lock, and how long its lease still lasts without a sign of life.
    pub async fn holder(&self) -> Result<Option<(Holder, Duration)>, Error> {
        let look = self.look().await?;
        Ok(look.held().map(|held| (held.holder.clone(), held.remaining(self.clock.now_ms()))))
    }

    /// Leaves the lock to whoever comes next, if it is still the token's.
    fn freeing(&self, token: &str, unlocked_by: Option<&str>) -> Result<TransactWriteItem, Error> {
        let set = match unlocked_by {
            Some(_) => "SET #released = :now, #unlocked = :by",
            None => "SET #released = :now",
        };
        let mut update = Update::builder()
            .table_name(NAME)
            .set_key(Some(self.key(LOCK)))
            .update_expression(format!("{set} REMOVE #token, #beat, #renewed, #holder"))
            .condition_expression("#token = :token")
            .expression_attribute_names("#token", TOKEN)
            .expression_attribute_names("#beat", BEAT)
            .expression_attribute_names("#renewed", RENEWED_MS)
            .expression_attribute_names("#holder", HOLDER)
            .expression_attribute_names("#released", RELEASED_MS)
            .expression_attribute_values(":token", text(token))
            .expression_attribute_values(":now", number(self.clock.now_ms()));
        if let Some(by) = unlocked_by {
            update = update
                .expression_attribute_names("#unlocked", UNLOCKED_BY)
                .expression_attribute_values(":by", text(by));
        }
        let update = update.build().map_err(|error| Error::bug(error.to_string()))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }
}

impl Lock {
    /// Runs `work` and renews the lease meanwhile. When the lock is lost, the token that `work` was given is cancelled,
    /// and so it is when `cancel` is.
    pub async fn hold<T>(
        &self,
        cancel: &CancellationToken,
        work: impl AsyncFnOnce(CancellationToken) -> T,
    ) -> (T, Option<Lost>) {
        let inner = cancel.child_token();
        let work = work(inner.clone());
        let beats = self.beat();
        tokio::pin!(work, beats);
        tokio::select! {
            done = &mut work => (done, None),
            lost = &mut beats => {
                inner.cancel();
                (work.await, Some(lost))
            }
        }
    }

    /// Renews the lease until that does not work any more.
    async fn beat(&self) -> Lost {
        let lease = self.ledger.lease;
        let pause = lease / BEATS;
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(pause).await;
            let sent = Instant::now();
            // After a machine was asleep it is not only late: somebody may have the lock since.
            match tokio::time::timeout((lease / 4).max(pause), self.renew()).await {
                Ok(Ok(())) => renewed = sent,
                Ok(Err(failure)) if failure.is("ConditionalCheckFailedException") => {
                    return self.lost().await;
                }
                // Well before anybody else may take it.
                _ if renewed.elapsed() > lease * 3 / 4 => {
                    let seconds = renewed.elapsed().as_secs();
                    return Lost { to: format!("nobody yet, but no renewal got through for {seconds} s") };
                }
                _ => {}
            }
        }
    }

    async fn renew(&self) -> Result<(), AwsFailure> {
        let ledger = &self.ledger;
        let renewed = ledger
            .call(|_| {
                ledger
                    .aws
                    .dynamodb
                    .update_item()
                    .table_name(NAME)
                    .set_key(Some(ledger.key(LOCK)))
                    .update_expression("SET #beat = #beat + :one, #renewed = :now")
                    .condition_expression("#token = :token AND #fence = :fence")
                    .expression_attribute_names("#beat", BEAT)
                    .expression_attribute_names("#renewed", RENEWED_MS)
                    .expression_attribute_names("#token", TOKEN)
                    .expression_attribute_names("#fence", FENCE)
                    .expression_attribute_values(":one", number(1))
                    .expression_attribute_values(":now", number(ledger.clock.now_ms()))
                    .expression_attribute_values(":token", text(&self.token))
                    .expression_attribute_values(":fence", number(self.number))
                    .customize()
                    .interceptor(ledger.clock.clone())
                    .send()
            })
            .await;
        renewed.map(|_| ())
    }

    /// Finds out who has it now.
    async fn lost(&self) -> Lost {
        let to = match self.ledger.look().await {
            Ok(look) => match (look.held(), &look.lock, &look.newest) {
                (Some(held), _, _) => format!("taken over by {}", held.holder),
                (None, Some(LockItem { unlocked_by: Some(by), .. }), _) => by.clone(),
                (None, _, Some(newest)) if newest.number > self.number => {
                    format!("taken over by {}", newest.by)
                }
                _ => "taken away".to_owned(),
            },
            Err(error) => format!("taken away; who has it is unknown ({error})"),
        };
        Lost { to }
    }

    /// Gives the lock back and writes down how the run ended, in one transaction. `gone` removes the lock along with
    /// its stage.
    ///
    /// # Errors
    /// [`Error::LockLost`] if it was somebody else's by then; the record is theirs, too.
    pub async fn finish(self, record: &mut Record, gone: bool) -> Result<(), Error> {
        // DynamoDB tells the time in whole seconds: good enough for when, and not for how long.
        let took_ms = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        record.ended_ms = Some(record.by.since_ms.saturating_add(took_ms));
        let lock = if gone { self.removing()? } else { self.ledger.freeing(&self.token, None)? };
        let mut items = vec![lock, put(&self.ledger, record, false)?];
        if gone {
            items.push(self.removing_left()?);
        } else if let (Outcome::Succeeded, Some(applied)) = (record.outcome, &record.leaves) {
            let put = Put::builder().table_name(NAME).set_item(Some(write_applied(&self.ledger, applied)?));
            let put = put.build().map_err(|error| Error::bug(error.to_string()))?;
            items.push(TransactWriteItem::builder().put(put).build());
        }
        for _ in 0..5 {
            let failure = match self.ledger.write(items.clone()).await? {
                Written::Done => return Ok(()),
                Written::Unclear(failure) => failure,
            };
            let look = self.ledger.look().await?;
            if look.newest.as_ref().is_some_and(|newest| newest.is_same_as(record)) {
                return Ok(());
            }
            if look.held().is_none_or(|held| held.token != self.token) {
                return Err(Error::LockLost { to: self.lost().await.to, skipped: Vec::new() });
            }
            if !failure.ambiguous && !failure.is("TransactionCanceledException") {
                return Err(at_table(failure));
            }
            tokio::time::sleep(Duration::from_millis(rand::rng().random_range(20..200))).await;
        }
        let until =
            written(self.ledger.clock.now_ms() + i64::try_from(self.ledger.lease.as_millis()).unwrap_or(0));
        Err(Error::Unhealthy {
            resource: table::address(),
            what: format!("the lock cannot be given back; it expires by itself at {until}"),
        })
    }

    fn removing(&self) -> Result<TransactWriteItem, Error> {
        let delete = Delete::builder()
            .table_name(NAME)
            .set_key(Some(self.ledger.key(LOCK)))
            .condition_expression("#token = :token")
            .expression_attribute_names("#token", TOKEN)
            .expression_attribute_values(":token", text(&self.token))
            .build()
            .map_err(|error| Error::bug(error.to_string()))?;
        Ok(TransactWriteItem::builder().delete(delete).build())
    }
}

impl Lock {
    fn removing_left(&self) -> Result<TransactWriteItem, Error> {
        let delete = Delete::builder().table_name(NAME).set_key(Some(self.ledger.key(LEFT)));
        let delete = delete.build().map_err(|error| Error::bug(error.to_string()))?;
        Ok(TransactWriteItem::builder().delete(delete).build())
    }
}

fn put(ledger: &Ledger, record: &Record, new: bool) -> Result<TransactWriteItem, Error> {
    let mut put = Put::builder().table_name(NAME).set_item(Some(write_record(ledger, record)?));
    if new {
        put = put
            .condition_expression("attribute_not_exists(#key)")
            .expression_attribute_names("#key", table::SORT_KEY);
    }
    let put = put.build().map_err(|error| Error::bug(error.to_string()))?;
    Ok(TransactWriteItem::builder().put(put).build())
}

fn new_token() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}
