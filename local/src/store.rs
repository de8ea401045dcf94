//! Durable state of the control plane: JSON documents and blobs by kind and key, in one SQLite file or in memory.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::AwsError;

/// Written through: what `put` returned from is on disk, as far as the operating system is concerned, and survives
/// `kill -9`. Services keep what they read often in memory and use this to load at start.
#[derive(Clone)]
pub(crate) struct Store {
    connection: Arc<Mutex<Connection>>,
}

impl Store {
    /// `path` is the file; `None` keeps everything in memory.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, rusqlite::Error> {
        let connection = open_connection(path)?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS document (kind TEXT, key TEXT, value TEXT NOT NULL, PRIMARY KEY (kind, key))
                 WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS blob (kind TEXT, key TEXT, value BLOB NOT NULL, PRIMARY KEY (kind, key));",
        )?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    pub(crate) fn put<T: Serialize>(&self, kind: &'static str, key: &str, value: &T) -> Result<(), AwsError> {
        let value = serde_json::to_string(value).map_err(|error| failed("write", kind, &error))?;
        self.run("write", kind, |connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO document (kind, key, value) VALUES (?1, ?2, ?3)")?
                .execute(params![kind, key, value])
        })?;
        Ok(())
    }

    pub(crate) fn get<T: DeserializeOwned>(
        &self,
        kind: &'static str,
        key: &str,
    ) -> Result<Option<T>, AwsError> {
        let text: Option<String> = self.run("read", kind, |connection| {
            connection
                .prepare_cached("SELECT value FROM document WHERE kind = ?1 AND key = ?2")?
                .query_row(params![kind, key], |row| row.get(0))
                .optional()
        })?;
        text.map(|text| serde_json::from_str(&text)).transpose().map_err(|error| failed("read", kind, &error))
    }

    /// Every document of a kind, in the order of the keys.
    pub(crate) fn list<T: DeserializeOwned>(&self, kind: &'static str) -> Result<Vec<(String, T)>, AwsError> {
        let rows: Vec<(String, String)> = self.run("read", kind, |connection| {
            connection
                .prepare_cached("SELECT key, value FROM document WHERE kind = ?1 ORDER BY key")?
                .query_map([kind], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })?;
        rows.into_iter()
            .map(|(key, text)| {
                serde_json::from_str(&text)
                    .map(|value| (key, value))
                    .map_err(|error| failed("read", kind, &error))
            })
            .collect()
    }

    pub(crate) fn delete(&self, kind: &'static str, key: &str) -> Result<(), AwsError> {
        self.run("delete", kind, |connection| {
            connection
                .prepare_cached("DELETE FROM document WHERE kind = ?1 AND key = ?2")?
                .execute(params![kind, key])
        })?;
        Ok(())
    }

    pub(crate) fn put_blob(&self, kind: &'static str, key: &str, bytes: &[u8]) -> Result<(), AwsError> {
        self.run("write", kind, |connection| {
            connection.execute(
                "INSERT OR REPLACE INTO blob (kind, key, value) VALUES (?1, ?2, ?3)",
                params![kind, key, bytes],
            )
        })?;
        Ok(())
    }

    pub(crate) fn get_blob(&self, kind: &'static str, key: &str) -> Result<Option<Bytes>, AwsError> {
        let bytes: Option<Vec<u8>> = self.run("read", kind, |connection| {
            connection
                .query_row("SELECT value FROM blob WHERE kind = ?1 AND key = ?2", params![kind, key], |row| {
                    row.get(0)
                })
                .optional()
        })?;
        Ok(bytes.map(Bytes::from))
    }

    pub(crate) fn delete_blob(&self, kind: &'static str, key: &str) -> Result<(), AwsError> {
        self.run("delete", kind, |connection| {
            connection.execute("DELETE FROM blob WHERE kind = ?1 AND key = ?2", params![kind, key])
        })?;
        Ok(())
    }

    fn run<T>(
        &self,
        verb: &str,
        kind: &str,
        work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, AwsError> {
        work(&self.lock()).map_err(|error| failed(verb, kind, &error))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A statement either happened or not: a panic elsewhere cannot leave half of one.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection with the pragmas that every file of the cloud uses.
pub(crate) fn open_connection(path: Option<&Path>) -> Result<Connection, rusqlite::Error> {
    let connection = match path {
        Some(path) => Connection::open(path)?,
        None => Connection::open_in_memory()?,
    };
    // WAL without fsync per commit: a killed process loses nothing, a power cut may lose the last commits but never
    // the consistency of the file.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -1024; PRAGMA temp_store = MEMORY;",
    )?;
    Ok(connection)
}

fn failed(verb: &str, kind: &str, error: &dyn std::error::Error) -> AwsError {
    AwsError::internal(format!("failed to {verb} the local state of {kind}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::Store;

    #[test]
    fn what_was_written_is_there_after_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cloud.sqlite");
        let store = Store::open(Some(&path)).unwrap();
        store.put("thing", "b", &vec![1, 2]).unwrap();
        store.put("thing", "a", &vec![3]).unwrap();
        store.put("other", "a", &vec![4]).unwrap();
        store.put_blob("code", "f", b"\0zip").unwrap();
        // Not closed: as after a kill, the second connection has only what reached the files.
        let again = Store::open(Some(&path)).unwrap();
        let things = again.list::<Vec<u8>>("thing").unwrap();
        assert_eq!(things, vec![("a".to_owned(), vec![3]), ("b".to_owned(), vec![1, 2])]);
        assert_eq!(again.get_blob("code", "f").unwrap().unwrap(), &b"\0zip"[..]);
        again.delete("thing", "a").unwrap();
        again.delete_blob("code", "f").unwrap();
        assert_eq!(store.get::<Vec<u8>>("thing", "a").unwrap(), None);
        assert_eq!(store.get_blob("code", "f").unwrap(), None);
        drop(store);
    }
}
