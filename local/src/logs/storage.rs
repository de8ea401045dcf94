//! Log events in SQLite.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use rusqlite::{Connection, params};

use super::{Group, GroupSettings};
use crate::error::AwsError;
use crate::store::open_connection;

/// An event on its way in.
pub(super) struct Row {
    pub(super) group_id: i64,
    pub(super) stream_id: i64,
    pub(super) time_ms: i64,
    pub(super) ingested_ms: i64,
    pub(super) message: String,
}

/// Where an event stands: by time, then by arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) time_ms: i64,
    pub(super) id: i64,
}

impl Position {
    pub(super) const FIRST: Self = Self { time_ms: i64::MIN, id: 0 };
    pub(super) const LAST: Self = Self { time_ms: i64::MAX, id: i64::MAX };

    /// 56 digits, as AWS has, which sort as the events do.
    pub(super) fn event_id(self) -> String {
        format!("{:020}{:036}", self.time_ms.max(0), self.id)
    }
}

/// An event as it was found.
pub(super) struct Found {
    pub(super) position: Position,
    pub(super) stream_id: i64,
    pub(super) ingested_ms: i64,
    pub(super) message: String,
}

/// What is known about a stream.
pub(super) struct StreamRow {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) created_ms: i64,
    pub(super) first_ms: Option<i64>,
    pub(super) last_ms: Option<i64>,
    pub(super) ingested_ms: Option<i64>,
}

/// Part of a group between two positions, both exclusive.
pub(super) struct Range {
    pub(super) group_id: i64,
    /// Only this stream.
    pub(super) stream_id: Option<i64>,
    pub(super) after: Position,
    pub(super) before: Position,
    /// The latest events first.
    pub(super) backwards: bool,
}

pub(super) struct Storage {
    connection: Connection,
}

impl Storage {
    pub(super) fn open(path: Option<&Path>) -> Result<Self, AwsError> {
        // Without a name SQLite keeps a file of its own and spills to it: events may be many.
        let connection = open_connection(Some(path.unwrap_or(Path::new(""))))?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS log_group (
                 id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_ms INTEGER NOT NULL,
                 retention_days INTEGER, tags TEXT NOT NULL);
             CREATE TABLE IF NOT EXISTS log_stream (
                 id INTEGER PRIMARY KEY, group_id INTEGER NOT NULL, name TEXT NOT NULL,
                 created_ms INTEGER NOT NULL, UNIQUE (group_id, name));
             CREATE TABLE IF NOT EXISTS log_event (
                 id INTEGER PRIMARY KEY AUTOINCREMENT, group_id INTEGER NOT NULL, stream_id INTEGER NOT NULL,
                 time_ms INTEGER NOT NULL, ingested_ms INTEGER NOT NULL, message TEXT NOT NULL);
             CREATE INDEX IF NOT EXISTS log_event_by_time ON log_event (group_id, time_ms, id);",
        )?;
        Ok(Self { connection })
    }

    pub(super) fn load(&self) -> Result<BTreeMap<String, Arc<Group>>, AwsError> {
        let mut streams: HashMap<i64, HashMap<String, i64>> = HashMap::new();
        let mut statement = self.connection.prepare("SELECT group_id, name, id FROM log_stream")?;
        for row in statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))? {
            let (group_id, name, id): (i64, String, i64) = row?;
            streams.entry(group_id).or_default().insert(name, id);
        }
        let mut statement =
            self.connection.prepare("SELECT id, name, created_ms, retention_days, tags FROM log_group")?;
        let groups = statement
            .query_map([], |row| {
                let id = row.get(0)?;
                let tags: String = row.get(4)?;
                let settings = GroupSettings {
                    retention_days: row.get(3)?,
                    tags: serde_json::from_str(&tags).unwrap_or_default(),
                };
                let group = Group {
                    id,
                    created_ms: row.get(2)?,
                    settings: Mutex::new(settings),
                    streams: RwLock::new(streams.remove(&id).unwrap_or_default()),
                };
                Ok((row.get(1)?, Arc::new(group)))
            })?
            .collect::<Result<_, _>>()?;
        Ok(groups)
    }

    pub(super) fn create_group(
        &self,
        name: &str,
        created_ms: i64,
        settings: &GroupSettings,
    ) -> Result<Group, AwsError> {
        self.connection.execute(
            "INSERT INTO log_group (name, created_ms, retention_days, tags) VALUES (?1, ?2, ?3, ?4)",
            params![name, created_ms, settings.retention_days, tags_text(settings)],
        )?;
        Ok(Group {
            id: self.connection.last_insert_rowid(),
            created_ms,
            settings: Mutex::new(settings.clone()),
            streams: RwLock::default(),
        })
    }

    pub(super) fn update_group(&self, id: i64, settings: &GroupSettings) -> Result<(), AwsError> {
        self.connection.execute(
            "UPDATE log_group SET retention_days = ?2, tags = ?3 WHERE id = ?1",
            params![id, settings.retention_days, tags_text(settings)],
        )?;
        Ok(())
    }

    pub(super) fn delete_group(&mut self, id: i64) -> Result<(), AwsError> {
        let transaction = self.connection.transaction()?;
        for table in ["log_event", "log_stream"] {
            transaction.execute(&format!("DELETE FROM {table} WHERE group_id = ?1"), [id])?;
        }
        transaction.execute("DELETE FROM log_group WHERE id = ?1", [id])?;
        Ok(transaction.commit()?)
    }

    pub(super) fn create_stream(&self, group_id: i64, name: &str, created_ms: i64) -> Result<i64, AwsError> {
        self.connection.execute(
            "INSERT INTO log_stream (group_id, name, created_ms) VALUES (?1, ?2, ?3)",
            params![group_id, name, created_ms],
        )?;
        Ok(self.connection.last_insert_rowid())
    }

    pub(super) fn delete_stream(&mut self, group_id: i64, id: i64) -> Result<(), AwsError> {
        let transaction = self.connection.transaction()?;
        transaction
            .execute("DELETE FROM log_event WHERE group_id = ?1 AND stream_id = ?2", [group_id, id])?;
        transaction.execute("DELETE FROM log_stream WHERE id = ?1", [id])?;
        Ok(transaction.commit()?)
    }

    /// All or nothing.
    pub(super) fn insert(&mut self, rows: &[Row]) -> Result<(), AwsError> {
        if rows.is_empty() {
            return Ok(());
        }
        let transaction = self.connection.transaction()?;
        {
            let mut statement = transaction.prepare_cached(
                "INSERT INTO log_event (group_id, stream_id, time_ms, ingested_ms, message)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for row in rows {
                statement.execute(params![
                    row.group_id,
                    row.stream_id,
                    row.time_ms,
                    row.ingested_ms,
                    row.message
                ])?;
            }
        }
        Ok(transaction.commit()?)
    }

    pub(super) fn delete_events_before(&self, group_id: i64, time_ms: i64) -> Result<(), AwsError> {
        self.connection
            .execute("DELETE FROM log_event WHERE group_id = ?1 AND time_ms < ?2", [group_id, time_ms])?;
        Ok(())
    }

    pub(super) fn stored_bytes(&self, group_id: i64) -> Result<i64, AwsError> {
        let bytes = self.connection.query_row(
            // 26 bytes of overhead are counted for each event.
            "SELECT COALESCE(SUM(LENGTH(CAST(message AS BLOB)) + 26), 0) FROM log_event WHERE group_id = ?1",
            [group_id],
            |row| row.get(0),
        )?;
        Ok(bytes)
    }

    pub(super) fn streams(&self, group_id: i64) -> Result<Vec<StreamRow>, AwsError> {
        let streams = self
            .connection
            .prepare_cached(
                "SELECT s.id, s.name, s.created_ms, e.first_ms, e.last_ms, e.ingested_ms
                 FROM log_stream s LEFT JOIN (
                     SELECT stream_id, MIN(time_ms) first_ms, MAX(time_ms) last_ms, MAX(ingested_ms) ingested_ms
                     FROM log_event WHERE group_id = ?1 GROUP BY stream_id) e ON e.stream_id = s.id
                 WHERE s.group_id = ?1 ORDER BY s.name",
            )?
            .query_map([group_id], |row| {
                Ok(StreamRow {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    created_ms: row.get(2)?,
                    first_ms: row.get(3)?,
                    last_ms: row.get(4)?,
                    ingested_ms: row.get(5)?,
                })
            })?
            .collect::<Result<_, _>>()?;
        Ok(streams)
    }

    /// Visits events in order until `visit` says that it has enough.
    pub(super) fn visit(&self, range: &Range, mut visit: impl FnMut(Found) -> bool) -> Result<(), AwsError> {
        let order = if range.backwards { "DESC" } else { "ASC" };
        let sql = format!(
            "SELECT id, stream_id, time_ms, ingested_ms, message FROM log_event
             WHERE group_id = ?1 AND (?2 IS NULL OR stream_id = ?2)
                 AND time_ms >= ?3 AND (time_ms, id) > (?3, ?4) AND time_ms <= ?5 AND (time_ms, id) < (?5, ?6)
             ORDER BY time_ms {order}, id {order}"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let (after, before) = (range.after, range.before);
        let mut rows = statement.query(params![
            range.group_id,
            range.stream_id,
            after.time_ms,
            after.id,
            before.time_ms,
            before.id
        ])?;
        while let Some(row) = rows.next()? {
            let found = Found {
                position: Position { time_ms: row.get(2)?, id: row.get(0)? },
                stream_id: row.get(1)?,
                ingested_ms: row.get(3)?,
                message: row.get(4)?,
            };
            if !visit(found) {
                break;
            }
        }
        Ok(())
    }
}

fn tags_text(settings: &GroupSettings) -> String {
    serde_json::to_string(&settings.tags).unwrap_or_else(|_| "{}".to_owned())
}
