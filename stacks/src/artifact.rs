//! What is uploaded: a zip with one file, `bootstrap`, byte for byte the same for the same binary, so that its hash
//! alone says whether a function's code changed.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chat_functions::contract::Handler;
use sha2::{Digest, Sha256};
use zip::write::{SimpleFileOptions, ZipWriter};
use zip::{CompressionMethod, DateTime};

use crate::error::Error;

/// One zip for each handler.
pub type Artifacts = BTreeMap<Handler, Artifact>;

/// Lambda refuses larger uploads by API: aws-facts, quotas.
const MAX_ZIP_BYTES: usize = 50 * 1024 * 1024;

/// How much work a zip is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// The smallest: it is sent over a network, and its size counts in every cold start.
    Small,
    /// The quickest: whoever takes it is on this machine, and somebody waits.
    Quick,
}

impl Effort {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Quick => "quick",
        }
    }

    /// Of Deflate.
    const fn level(self) -> i64 {
        match self {
            Self::Small => 9,
            Self::Quick => 1,
        }
    }
}

/// A packed handler. Clones share the zip.
#[derive(Clone)]
pub struct Artifact {
    zip: Arc<[u8]>,
    sha256: String,
}

impl std::fmt::Debug for Artifact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Artifact({} bytes, {})", self.zip.len(), self.sha256)
    }
}

impl Artifact {
    /// Packs a binary. The result depends on its bytes and the effort only: not on its path, owner, time or mode.
    pub fn pack(binary: &[u8], effort: Effort) -> Result<Self, Error> {
        let zip = archive(binary, effort)
            .map_err(|error| Error::Artifact { what: format!("failed to pack the handler: {error}") })?;
        if zip.len() > MAX_ZIP_BYTES {
            let what = format!(
                "the zip has {} bytes, but Lambda takes {MAX_ZIP_BYTES}: build with the profile `lambda`",
                zip.len()
            );
            return Err(Error::Artifact { what });
        }
        Ok(Self::packed(zip))
    }

    /// Packs the binary at `path`.
    pub fn read(path: &Path, effort: Effort) -> Result<Self, Error> {
        let binary = std::fs::read(path).map_err(|error| Error::Artifact {
            what: format!("failed to read the handler {}: {error}; build it first", path.display()),
        })?;
        Self::pack(&binary, effort)
    }

    /// A zip that an earlier [`pack`](Self::pack) made.
    pub fn packed(zip: Vec<u8>) -> Self {
        let sha256 = STANDARD.encode(Sha256::digest(&zip));
        Self { zip: zip.into(), sha256 }
    }

    pub fn zip(&self) -> &[u8] {
        &self.zip
    }

    /// What Lambda calls `CodeSha256`: of the zip, in base64.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// What it is called in a bucket: by its content, so that what is there once is never uploaded again and no version
    /// reads what another one has written.
    pub fn key(&self) -> String {
        let digest = Sha256::digest(&self.zip);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("functions/{hex}.zip")
    }
}

fn archive(binary: &[u8], effort: Effort) -> zip::result::ZipResult<Vec<u8>> {
    // The zip format's own beginning of time; 0755, since Lambda executes it as another user.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(effort.level()))
        .last_modified_time(DateTime::default())
        .unix_permissions(0o755);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("bootstrap", options)?;
    writer.write_all(binary)?;
    Ok(writer.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_zip_has_one_executable_bootstrap_and_gives_the_binary_back() {
        let binary = b"\x7fELF and then some".repeat(1000);
        let artifact = Artifact::pack(&binary, Effort::Small).unwrap();
        let mut archive = zip::ZipArchive::new(Cursor::new(artifact.zip())).unwrap();
        assert_eq!(archive.len(), 1);
        let mut file = archive.by_name("bootstrap").unwrap();
        assert_eq!(file.unix_mode().map(|mode| mode & 0o777), Some(0o755));
        let mut unpacked = Vec::new();
        file.read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, binary);
        assert!(artifact.zip().len() < binary.len() / 10, "it is compressed");
    }

    #[test]
    fn the_zip_and_its_hash_are_pinned() {
        // A change here means that every function is uploaded anew by the next deploy.
        let artifact = Artifact::pack(b"bootstrap", Effort::Small).unwrap();
        insta::assert_snapshot!(artifact.sha256());
        assert_eq!(artifact.sha256().len(), 44);
    }

    #[test]
    fn neither_path_nor_time_of_the_file_matters() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        std::fs::write(&one, b"same").unwrap();
        std::fs::write(&other, b"same").unwrap();
        let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        std::fs::File::options().write(true).open(&other).unwrap().set_modified(past).unwrap();
        assert_eq!(
            Artifact::read(&one, Effort::Small).unwrap().zip(),
            Artifact::read(&other, Effort::Small).unwrap().zip()
        );
    }

    #[test]
    fn one_changed_byte_changes_the_hash() {
        assert_ne!(
            Artifact::pack(b"a", Effort::Small).unwrap().sha256(),
            Artifact::pack(b"b", Effort::Small).unwrap().sha256()
        );
    }

    #[test]
    fn a_missing_handler_is_named() {
        let error = Artifact::read(Path::new("/nonexistent/connect"), Effort::Small).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/connect") && error.contains("build it first"), "{error}");
    }
}
