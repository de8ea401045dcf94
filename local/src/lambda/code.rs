//! The code of functions: zips kept in the store, unpacked once by content into a directory that handlers run from.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Cursor, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::context::Context;
use crate::error::AwsError;

const KIND: &str = "lambda.code";
/// Largest sum of the unpacked files: Lambda's quota.
const MAX_UNZIPPED: u64 = 262_144_000;
/// Largest zip in a request: Lambda's quota.
const MAX_ZIPPED: usize = 52_428_800;

/// What identifies a zip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// `CodeSha256` as Lambda shows it.
    pub(super) sha256_base64: String,
    /// The same as a name of files.
    pub(super) sha256_hex: String,
    pub(super) size: u64,
}

/// Takes the zip of a request: checks that it is one and that every entry stays inside the directory.
pub(super) fn accept(zip: &[u8]) -> Result<Fingerprint, AwsError> {
    if zip.len() > MAX_ZIPPED {
        return Err(AwsError::new(
            http::StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLargeException",
            format!("Request must be smaller than {MAX_ZIPPED} bytes for the CreateFunction operation"),
        ));
    }
    let refused = |detail: &str| {
        AwsError::bad_request(
            "InvalidParameterValueException",
            format!(
                "Could not unzip uploaded file. Please check your file, then try to upload again.{}{detail}",
                if detail.is_empty() { "" } else { " " }
            ),
        )
    };
    let mut archive = ZipArchive::new(Cursor::new(zip)).map_err(|_| refused(""))?;
    let mut unpacked = 0;
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(|_| refused(""))?;
        if entry.enclosed_name().is_none() {
            return Err(refused(&format!("{:?} leaves the directory of the function.", entry.name())));
        }
        if entry.is_symlink() {
            return Err(refused(&format!(
                "{:?} is a symbolic link, which the local cloud refuses.",
                entry.name()
            )));
        }
        unpacked += entry.size();
    }
    if archive.is_empty() {
        return Err(AwsError::bad_request(
            "InvalidParameterValueException",
            "Uploaded file must be a non-empty zip",
        ));
    }
    if unpacked > MAX_UNZIPPED {
        return Err(too_large());
    }
    let digest = Sha256::digest(zip);
    Ok(Fingerprint {
        sha256_base64: STANDARD.encode(digest),
        sha256_hex: hex::encode(digest),
        size: zip.len() as u64,
    })
}

/// Where zips are unpacked.
pub(super) struct CodeDirectory {
    root: PathBuf,
    /// The state is in memory: the directory goes with the cloud.
    temporary: bool,
    /// Those in use, each under a lock of its own: to unpack one takes a while, and nobody else has to wait for it.
    unpacked: Mutex<HashMap<String, Entry>>,
}

type Entry = Arc<Mutex<Weak<Unpacked>>>;

/// Unpacked code. Its directory stays as long as something may start from it.
pub(super) struct Unpacked {
    pub(super) path: PathBuf,
    /// No version uses it any more.
    forgotten: AtomicBool,
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        if self.forgotten.load(Ordering::Acquire) {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl CodeDirectory {
    pub(super) fn open(cx: &Context) -> Result<Self, AwsError> {
        let (root, temporary) = match &cx.data {
            Some(data) => (data.join("functions"), false),
            None => {
                (std::env::temp_dir().join(format!("chat-local-{}", uuid::Uuid::new_v4().simple())), true)
            }
        };
        // A handler's working directory must not depend on where the cloud was started.
        let root = std::path::absolute(&root).unwrap_or(root);
        fs::create_dir_all(&root).map_err(|error| failed("create", &root, &error))?;
        Ok(Self { root, temporary, unpacked: Mutex::default() })
    }

    /// Keeps a zip.
    pub(super) fn keep(&self, cx: &Context, code: &Fingerprint, zip: &[u8]) -> Result<(), AwsError> {
        cx.store.put_blob(KIND, &code.sha256_hex, zip)
    }

    /// Forgets a zip that no version uses any more, and what was unpacked of it as soon as nothing runs from there.
    pub(super) fn forget(&self, cx: &Context, sha256_hex: &str) -> Result<(), AwsError> {
        let entry = self.entry(sha256_hex);
        let used = super::lock(&entry);
        match used.upgrade() {
            Some(used) => used.forgotten.store(true, Ordering::Release),
            None => {
                let _ = fs::remove_dir_all(self.root.join(sha256_hex));
            }
        }
        cx.store.delete_blob(KIND, sha256_hex)
    }

    fn entry(&self, sha256_hex: &str) -> Entry {
        let mut unpacked = super::lock(&self.unpacked);
        // Whoever holds one is about to use it.
        unpacked.retain(|_, entry| Arc::strong_count(entry) > 1 || super::lock(entry).strong_count() > 0);
        Arc::clone(unpacked.entry(sha256_hex.to_owned()).or_default())
    }

    /// The zip itself, for `GetFunction`.
    pub(super) fn zip(&self, cx: &Context, sha256_hex: &str) -> Result<bytes::Bytes, AwsError> {
        cx.store
            .get_blob(KIND, sha256_hex)?
            .ok_or_else(|| AwsError::internal(format!("the code {sha256_hex} is missing in the local state")))
    }

    /// Where the unpacked code is, or will be in a moment.
    pub(super) fn location(&self, sha256_hex: &str) -> String {
        format!("file://{}", self.root.join(sha256_hex).display())
    }

    /// The unpacked code. Unpacks it unless that was done before.
    pub(super) fn unpacked(&self, cx: &Context, sha256_hex: &str) -> Result<Arc<Unpacked>, AwsError> {
        let entry = self.entry(sha256_hex);
        let mut unpacked = super::lock(&entry);
        if let Some(used) = unpacked.upgrade() {
            return Ok(used);
        }
        let path = self.unpack_once(cx, sha256_hex)?;
        let used = Arc::new(Unpacked { path, forgotten: AtomicBool::new(false) });
        *unpacked = Arc::downgrade(&used);
        Ok(used)
    }

    fn unpack_once(&self, cx: &Context, sha256_hex: &str) -> Result<PathBuf, AwsError> {
        let target = self.root.join(sha256_hex);
        if target.is_dir() {
            return Ok(target);
        }
        let zip = self.zip(cx, sha256_hex)?;
        // Renamed when complete, so that a killed cloud leaves no half of a function behind.
        let partial = self.root.join(format!("{sha256_hex}.{}", uuid::Uuid::new_v4().simple()));
        let unpacked = unpack(&zip, &partial).and_then(|()| match fs::rename(&partial, &target) {
            Err(_) if target.is_dir() => Ok(()),
            renamed => renamed,
        });
        let _ = fs::remove_dir_all(&partial);
        unpacked.map_err(|error| failed("unpack the code into", &target, &error))?;
        Ok(target)
    }
}

impl Drop for CodeDirectory {
    fn drop(&mut self) {
        if self.temporary {
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}

fn unpack(zip: &[u8], into: &Path) -> io::Result<()> {
    let mut archive = ZipArchive::new(Cursor::new(zip))?;
    let mut left = MAX_UNZIPPED;
    fs::create_dir_all(into)?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let name = entry.enclosed_name().ok_or(io::ErrorKind::InvalidInput)?;
        let path = into.join(name);
        if entry.is_dir() {
            fs::create_dir_all(&path)?;
            continue;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mode = entry.unix_mode().unwrap_or(0o644) & 0o777;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
        // Sizes in headers may lie.
        let written = io::copy(&mut (&mut entry).take(left + 1), &mut file)?;
        left = left.checked_sub(written).ok_or_else(|| io::Error::other("larger than its headers say"))?;
    }
    Ok(())
}

fn too_large() -> AwsError {
    AwsError::bad_request(
        "InvalidParameterValueException",
        format!("Unzipped size must be smaller than {MAX_UNZIPPED} bytes"),
    )
}

fn failed(verb: &str, path: &Path, error: &io::Error) -> AwsError {
    AwsError::internal(format!("failed to {verb} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};
    use std::os::unix::fs::PermissionsExt;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::{CodeDirectory, accept};
    use crate::config::Settings;
    use crate::context::Context;

    fn zip(entries: &[(&str, u32)]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, mode) in entries {
            writer.start_file(*name, SimpleFileOptions::default().unix_permissions(*mode)).unwrap();
            writer.write_all(b"#!/bin/sh\n").unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn code_is_unpacked_with_its_modes_and_gone_when_forgotten() {
        let cx = Context::for_tests(Settings::default());
        let directory = CodeDirectory::open(&cx).unwrap();
        let zip = zip(&[("bootstrap", 0o755), ("data/x.txt", 0o644)]);
        let code = accept(&zip).unwrap();
        directory.keep(&cx, &code, &zip).unwrap();
        let used = directory.unpacked(&cx, &code.sha256_hex).unwrap();
        let path = used.path.clone();
        let mode = |name: &str| path.join(name).metadata().unwrap().permissions().mode() & 0o111;
        assert_eq!((mode("bootstrap"), mode("data/x.txt")), (0o111, 0));
        directory.forget(&cx, &code.sha256_hex).unwrap();
        assert!(path.exists(), "something may still start from it");
        drop(used);
        assert!(!path.exists());
        assert!(directory.unpacked(&cx, &code.sha256_hex).is_err());
    }

    #[test]
    fn code_that_nothing_runs_from_is_gone_when_forgotten_however_many_unpack_it() {
        let cx = Context::for_tests(Settings::default());
        let directory = CodeDirectory::open(&cx).unwrap();
        let zip = zip(&[("bootstrap", 0o755)]);
        let code = accept(&zip).unwrap();
        directory.keep(&cx, &code, &zip).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| directory.unpacked(&cx, &code.sha256_hex).unwrap().path.clone());
            }
        });
        assert!(directory.root.join(&code.sha256_hex).join("bootstrap").exists());
        std::thread::scope(|scope| {
            scope.spawn(|| directory.forget(&cx, &code.sha256_hex).unwrap());
            // Sees it or not, but brings nothing back.
            scope.spawn(|| drop(directory.unpacked(&cx, &code.sha256_hex)));
        });
        assert_eq!(std::fs::read_dir(&directory.root).unwrap().count(), 0);
    }

    #[test]
    fn entries_that_leave_the_directory_are_refused() {
        for name in ["../bootstrap", "a/../../x"] {
            let error = accept(&zip(&[(name, 0o755)])).unwrap_err();
            assert_eq!(error.code, "InvalidParameterValueException", "{name}");
            assert!(error.message.contains("leaves the directory"), "{}", error.message);
        }
    }

    #[test]
    fn what_is_no_zip_is_refused() {
        assert_eq!(accept(b"no zip").unwrap_err().code, "InvalidParameterValueException");
    }
}
