//! CloudWatch Logs: groups, streams and events, searched with filter patterns and followed live.

mod api;
mod json_pattern;
mod live_tail;
mod pattern;
mod read;
mod storage;
mod tags;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

pub(crate) use self::api::OPERATIONS;
use self::storage::{Row, Storage};
use crate::error::AwsError;

/// How long events may wait to be written together. Readers do not wait: they write what is pending first.
const WRITE_EVERY: Duration = Duration::from_millis(25);
/// With more than this pending the next append writes them.
const MAX_PENDING: usize = 4096;

pub(crate) struct Logs {
    inner: Arc<Inner>,
    account: String,
    region: String,
    /// Every batch of events, for those who follow.
    tail: broadcast::Sender<Arc<Batch>>,
    stopped: CancellationToken,
}

struct Inner {
    storage: Mutex<Storage>,
    pending: Mutex<Vec<Row>>,
    /// Wakes the writer.
    arrived: Condvar,
    groups: RwLock<BTreeMap<String, Arc<Group>>>,
}

/// A log group with its streams.
struct Group {
    id: i64,
    created_ms: i64,
    /// May be held while the storage is asked for; never the other way round, or two would wait for each other.
    settings: Mutex<GroupSettings>,
    streams: RwLock<HashMap<String, i64>>,
}

#[derive(Clone, Default)]
struct GroupSettings {
    retention_days: Option<i64>,
    tags: BTreeMap<String, String>,
}

/// Events that arrived together.
struct Batch {
    group: String,
    stream: String,
    ingested_ms: i64,
    /// Milliseconds since the epoch, message.
    events: Vec<(i64, String)>,
}

impl Logs {
    /// `path` is the file; `None` keeps the events in a file that nobody sees and that goes with the process.
    pub(crate) fn open(path: Option<&Path>, account: &str, region: &str) -> Result<Self, AwsError> {
        let storage = Storage::open(path)?;
        let inner = Arc::new(Inner {
            groups: RwLock::new(storage.load()?),
            storage: Mutex::new(storage),
            pending: Mutex::default(),
            arrived: Condvar::new(),
        });
        let weak = Arc::downgrade(&inner);
        std::thread::Builder::new().name("logs".to_owned()).spawn(move || write_pending(&weak)).map_err(
            |error| AwsError::internal(format!("failed to start the writer of the logs: {error}")),
        )?;
        Ok(Self {
            inner,
            account: account.to_owned(),
            region: region.to_owned(),
            tail: broadcast::channel(1024).0,
            stopped: CancellationToken::new(),
        })
    }

    /// Events are (milliseconds since the epoch, message). The stream is created if need be, the group is not.
    pub(crate) fn append(
        &self,
        group: &str,
        stream: &str,
        events: Vec<(i64, String)>,
    ) -> Result<(), AwsError> {
        let found = self.group(group)?;
        let stream_id = match found.stream(stream) {
            Some(id) => id,
            None => self.create_stream(&found, stream)?,
        };
        self.add(group, &found, (stream, stream_id), events)
    }

    /// Expired events go.
    pub(crate) fn sweep(&self) {
        let now_ms = now_ms();
        let groups: Vec<Arc<Group>> = self.inner.groups().values().cloned().collect();
        for group in groups {
            if let Some(days) = group.settings().retention_days {
                // Nobody asked for this, so nobody can be told; the next sweep tries again.
                let _ = self.inner.storage().delete_events_before(group.id, now_ms - days * 86_400_000);
            }
        }
    }

    /// Ends live tails and writes what is pending.
    pub(crate) fn shutdown(&self) {
        self.stopped.cancel();
        let _ = self.inner.flush();
    }

    fn add(
        &self,
        group_name: &str,
        group: &Group,
        (stream_name, stream_id): (&str, i64),
        events: Vec<(i64, String)>,
    ) -> Result<(), AwsError> {
        let ingested_ms = now_ms();
        if self.tail.receiver_count() > 0 {
            let (group, stream) = (group_name.to_owned(), stream_name.to_owned());
            // An error says that the last follower just left.
            let _ = self.tail.send(Arc::new(Batch { group, stream, ingested_ms, events: events.clone() }));
        }
        let pending = {
            let mut pending = self.inner.pending();
            pending.extend(events.into_iter().map(|(time_ms, message)| Row {
                group_id: group.id,
                stream_id,
                time_ms,
                ingested_ms,
                message,
            }));
            pending.len()
        };
        if pending > MAX_PENDING {
            return self.inner.flush();
        }
        self.inner.arrived.notify_one();
        Ok(())
    }

    fn group(&self, name: &str) -> Result<Arc<Group>, AwsError> {
        self.inner.groups().get(name).cloned().ok_or_else(|| {
            AwsError::bad_request("ResourceNotFoundException", "The specified log group does not exist.")
        })
    }

    fn create_stream(&self, group: &Group, name: &str) -> Result<i64, AwsError> {
        let mut streams = group.streams.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&id) = streams.get(name) {
            return Ok(id);
        }
        let id = self.inner.storage().create_stream(group.id, name, now_ms())?;
        streams.insert(name.to_owned(), id);
        Ok(id)
    }

    fn group_arn(&self, name: &str) -> String {
        format!("arn:aws:logs:{}:{}:log-group:{name}", self.region, self.account)
    }
}

impl Inner {
    /// Writes what is pending. Whoever holds the storage afterwards sees all that was appended before.
    fn flush(&self) -> Result<(), AwsError> {
        self.flushed().map(drop)
    }

    /// The storage with everything in it.
    fn flushed(&self) -> Result<MutexGuard<'_, Storage>, AwsError> {
        let mut storage = self.storage();
        let rows = std::mem::take(&mut *self.pending());
        storage.insert(&rows)?;
        Ok(storage)
    }

    fn storage(&self) -> MutexGuard<'_, Storage> {
        self.storage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, Vec<Row>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn groups(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<Group>>> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    fn stream(&self, name: &str) -> Option<i64> {
        self.streams.read().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    fn settings(&self) -> MutexGuard<'_, GroupSettings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Runs on a thread of its own for as long as there is something to write for.
fn write_pending(inner: &Weak<Inner>) {
    while let Some(inner) = inner.upgrade() {
        let pending = inner.pending();
        let waited =
            inner.arrived.wait_timeout_while(pending, Duration::from_secs(1), |pending| pending.is_empty());
        let nothing = waited.unwrap_or_else(PoisonError::into_inner).0.is_empty();
        if !nothing {
            std::thread::sleep(WRITE_EVERY);
            // Whoever writes or reads next gets the error.
            let _ = inner.flush();
        }
    }
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests;
