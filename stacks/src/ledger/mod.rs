//! The ledger: who changes a stage now ([`lock`]), and who did ([`record`]), in a table of the account ([`table`]).
//!
//! A run looks at the ledger while it observes the stage ([`Ledger::open`]), and is refused there if somebody else
//! changes the stage. Before its first change it takes the lock ([`Ledger::take`]), which succeeds only if nothing was
//! changed since it looked. So a run that finds nothing to do costs one read beside the others, and nobody is kept
//! waiting by a question that stands on somebody's terminal.

mod applied;
mod clock;
mod lock;
mod record;
mod table;
mod ticket;

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use tokio::time::Instant;

use crate::aws::Aws;
use crate::call::{Cx, alone};
use crate::error::{AwsFailure, Error};
use crate::event::{Event, Events};
use crate::names::Scope;
use crate::permissions::Permitted;
use clock::Clock;
use table::{Item, PARTITION_KEY, SORT_KEY, number, read_text, text};
use ticket::{Held, LockItem};

pub use applied::Applied;
pub(crate) use clock::written;
pub use lock::{Lock, Lost};
pub use record::{Changes, Commit, Holder, Outcome, Pointers, Record};
pub use table::NAME;
pub use ticket::Ticket;

/// Without a sign of life for this long, a run is taken for dead.
pub const LEASE: Duration = Duration::from_secs(60);

/// Between two looks at a lock that somebody holds.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// These sort after every record, so that a read from the end brings them first and the newest record third.
const LOCK: &str = "lock";
const LEFT: &str = "left";
const RECORDS: &str = "deploy#";

/// What to do about a lock that somebody else holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    /// How long to wait for it; zero refuses at once.
    pub wait: Duration,
    /// Whether a holder certainly is no more. On one machine that shows without waiting for the lease to expire.
    pub is_gone: Option<fn(&Holder) -> bool>,
    /// Whether to ask for the table already now if there is none, so that it is made while other things are done.
    pub make_table: bool,
}

/// The ledger of one stage.
#[derive(Clone, Debug)]
pub struct Ledger {
    aws: Arc<Aws>,
    scope: Scope,
    clock: Clock,
    lease: Duration,
}

/// What was read.
#[derive(Debug, Default)]
struct Look {
    lock: Option<LockItem>,
    newest: Option<Record>,
    /// Of the newest record, whether it can be read or not.
    newest_number: u64,
    /// The stage as the last run that succeeded left it.
    applied: Option<Applied>,
    /// Whether there is a table at all.
    table: bool,
}

impl Look {
    fn held(&self) -> Option<&Held> {
        self.lock.as_ref()?.held.as_ref()
    }

    /// The last number that was given to a run. The lock goes with its stage, and the records stay.
    fn last_number(&self) -> u64 {
        self.newest_number.max(self.lock.as_ref().map_or(0, |lock| lock.fence))
    }
}

impl Ledger {
    pub fn new(aws: Arc<Aws>, scope: Scope) -> Self {
        Self { aws, scope, clock: Clock::default(), lease: LEASE }
    }

    /// The same with another lease, for tests.
    #[must_use]
    pub fn with_lease(self, lease: Duration) -> Self {
        Self { lease, ..self }
    }

    pub(crate) fn aws(&self) -> &Aws {
        &self.aws
    }

    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Milliseconds since 1970 by the clock that the ledger's own times are of.
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    fn partition(&self) -> AttributeValue {
        text(partition(self.scope.app.as_str(), self.scope.stage.as_str()))
    }

    fn key(&self, sort: impl Into<String>) -> Item {
        Item::from([(PARTITION_KEY.to_owned(), self.partition()), (SORT_KEY.to_owned(), text(sort))])
    }

    /// Reads the lock, what was left, and the newest record in one call.
    async fn look(&self) -> Result<Look, Error> {
        let Some(items) = self.newest_first(None, 3).await? else { return Ok(Look::default()) };
        let mut look = Look { table: true, ..Look::default() };
        for item in &items {
            let sort = read_text(item, SORT_KEY).unwrap_or_default();
            if sort == LOCK {
                look.lock = Some(LockItem::read(item));
            } else if sort == LEFT {
                look.applied = read_document(item);
            } else if let (0, Some(digits)) = (look.newest_number, sort.strip_prefix(RECORDS)) {
                look.newest_number = digits.parse().unwrap_or_default();
                look.newest = read_record(item);
            }
        }
        Ok(look)
    }

    /// The stage as the last run that succeeded left it, and the newest run.
    pub async fn left(&self) -> Result<(Option<Applied>, Option<Record>), Error> {
        let look = self.look().await?;
        Ok((look.applied, look.newest))
    }

    /// The newest runs, newest first.
    pub async fn history(&self, limit: usize) -> Result<Vec<Record>, Error> {
        let items = self.newest_first(Some(RECORDS), limit).await?.unwrap_or_default();
        Ok(items.iter().filter_map(read_record).collect())
    }

    /// Items of the stage from the end; `None` if there is no table.
    async fn newest_first(&self, prefix: Option<&str>, limit: usize) -> Result<Option<Vec<Item>>, Error> {
        let mut items: Vec<Item> = Vec::new();
        let mut start: Option<Item> = None;
        loop {
            let left = i32::try_from(limit - items.len()).unwrap_or(i32::MAX);
            let page = self
                .call(|_| {
                    let mut request = self
                        .aws
                        .dynamodb
                        .query()
                        .table_name(NAME)
                        .consistent_read(true)
                        .scan_index_forward(false)
                        .limit(left)
                        .set_exclusive_start_key(start.clone())
                        .expression_attribute_names("#p", PARTITION_KEY)
                        .expression_attribute_values(":p", self.partition());
                    request = match prefix {
                        Some(prefix) => request
                            .key_condition_expression("#p = :p AND begins_with(#s, :s)")
                            .expression_attribute_names("#s", SORT_KEY)
                            .expression_attribute_values(":s", text(prefix)),
                        None => request.key_condition_expression("#p = :p"),
                    };
                    request.customize().interceptor(self.clock.clone()).send()
                })
                .await;
            let page = match page {
                Ok(page) => page,
                // None yet, or not ready yet.
                Err(failure) if failure.is("ResourceNotFoundException") => return Ok(None),
                Err(failure) if is_foreign(&failure) => return Err(table::foreign()),
                Err(failure) => return Err(at_table(failure)),
            };
            items.extend(page.items.unwrap_or_default());
            start = page.last_evaluated_key;
            if start.is_none() || items.len() >= limit {
                return Ok(Some(items));
            }
        }
    }

    /// Looks whether the stage may be changed. Waits for whoever does, as long as `patience` allows; takes note of a
    /// holder that died.
    ///
    /// # Errors
    /// [`Error::Locked`] names the holder.
    pub async fn open(&self, patience: &Patience, events: &Events) -> Result<Ticket, Error> {
        let started = Instant::now();
        // What was seen of a holder, and since when it shows no other sign of life.
        let mut watched: Option<(Held, Instant)> = None;
        loop {
            let look = self.look().await?;
            if !look.table && patience.make_table {
                self.with_cx(async |cx| table::create(cx).await).await?;
            }
            let Some(held) = look.held() else { return Ok(self.ticket(look, None, watched.is_some())) };
            let since = match &watched {
                Some((seen, since)) if seen.is_same_beat(held) => *since,
                seen => {
                    if seen.as_ref().is_none_or(|(seen, _)| seen.token != held.token)
                        && !patience.wait.is_zero()
                    {
                        let remaining_s = held.remaining(self.clock.now_ms()).as_secs();
                        events.send(Event::LockWaiting { holder: held.holder.clone(), remaining_s });
                    }
                    Instant::now()
                }
            };
            let remaining = held.remaining(self.clock.now_ms());
            let died = if patience.is_gone.is_some_and(|is_gone| is_gone(&held.holder)) {
                Some("its process on this host is gone")
            } else if remaining.is_zero() {
                Some("its lease has expired")
            } else if since.elapsed() >= held.lease {
                Some("it showed no sign of life for as long as its lease lasts")
            } else {
                None
            };
            if died.is_some() {
                return Ok(self.ticket(look, died, watched.is_some()));
            }
            let left = patience.wait.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(self.locked(held));
            }
            watched = Some((held.clone(), since));
            tokio::time::sleep(LOOK_AGAIN.min(left).min(remaining)).await;
        }
    }

    fn ticket(&self, look: Look, died: Option<&'static str>, waited: bool) -> Ticket {
        Ticket::of(look, died, waited, self.clock.now_ms())
    }

    fn locked(&self, held: &Held) -> Error {
        let remaining = held.remaining(self.clock.now_ms());
        Error::Locked {
            stage: self.scope.stage.to_string(),
            holder: Box::new(held.holder.clone()),
            // A part of a second left is a second to wait.
            remaining_s: remaining.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX),
        }
    }

    async fn with_cx<T>(&self, work: impl AsyncFnOnce(&Cx<'_>) -> T) -> T {
        alone(&self.aws, &self.scope, Some(table::address()), work).await
    }

    /// A call by the retry rules that all calls have.
    async fn call<T, E, Fut>(&self, send: impl Fn(&Self) -> Fut) -> Result<T, AwsFailure>
    where
        Fut: Future<
            Output = Result<
                T,
                aws_smithy_runtime_api::client::result::SdkError<
                    E,
                    aws_smithy_runtime_api::client::orchestrator::HttpResponse,
                >,
            >,
        >,
        E: aws_smithy_types::error::metadata::ProvideErrorMetadata
            + aws_types::request_id::RequestId
            + Permitted
            + std::error::Error
            + 'static,
    {
        self.with_cx(async |cx| cx.call(|| send(self)).await).await
    }
}

/// The partition of a stage.
pub(crate) fn partition(app: &str, stage: &str) -> String {
    format!("{app}/{stage}")
}

fn at_table(failure: AwsFailure) -> Error {
    Error::from(failure).at(&table::address())
}

/// A table with other keys refuses ours.
fn is_foreign(failure: &AwsFailure) -> bool {
    failure.is("ValidationException") && failure.message.contains("key")
}

const DOCUMENT: &str = "record";

fn record_sort_key(number: u64) -> String {
    format!("{RECORDS}{number:012}")
}

/// A record of a later version of this tool may not be readable; it is left out.
fn read_record(item: &Item) -> Option<Record> {
    read_document(item)
}

fn read_document<T: serde::de::DeserializeOwned>(item: &Item) -> Option<T> {
    serde_json::from_str(&read_text(item, DOCUMENT)?).ok()
}

fn write_applied(ledger: &Ledger, applied: &Applied) -> Result<Item, Error> {
    let document = serde_json::to_string(applied).map_err(|error| Error::bug(error.to_string()))?;
    let mut item = ledger.key(LEFT);
    item.insert(DOCUMENT.to_owned(), text(document));
    Ok(item)
}

fn write_record(ledger: &Ledger, record: &Record) -> Result<Item, Error> {
    let document = serde_json::to_string(record).map_err(|error| Error::bug(error.to_string()))?;
    let mut item = ledger.key(record_sort_key(record.number));
    item.insert(DOCUMENT.to_owned(), text(document));
    // For people who look into the table.
    item.insert("number".to_owned(), number(record.number));
    item.insert("outcome".to_owned(), text(record.outcome.name()));
    Ok(item)
}
