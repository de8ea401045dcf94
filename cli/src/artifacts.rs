//! Handlers packed before. Unoptimised ones are large, and packing them again would be most of the time that `dev`
//! takes to start. A zip is kept under the hash of the binary it was made of, so it cannot be another's.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use chat_stacks::{Artifact, Effort, Error, Handler};
use ring::digest::{SHA256, digest};

/// A packed handler that is not in the cache yet, or is.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    artifact: Artifact,
    /// Handler and effort: one zip of a kind is kept.
    kind: String,
    /// Of its file in the cache, with the hash of the binary.
    name: String,
    kept: bool,
}

/// Packs a handler, or takes what was packed of the same bytes: `ahead`, or what the cache has.
pub(crate) fn pack(
    cache: &Path,
    handler: Handler,
    binary: &Path,
    effort: Effort,
    ahead: Option<&Packed>,
) -> Result<Packed, Error> {
    let kind = format!("{handler}-{}", effort.name());
    let Ok(bytes) = fs::read(binary) else {
        // It says what is missing.
        let artifact = Artifact::read(binary, effort)?;
        return Ok(Packed { artifact, kind, name: String::new(), kept: true });
    };
    let name = file_name(&kind, &bytes);
    if let Some(packed) = ahead.filter(|packed| packed.name == name) {
        return Ok(packed.clone());
    }
    let (artifact, kept) = match fs::read(cache.join(&name)) {
        Ok(zip) => (Artifact::packed(zip), true),
        Err(_) => (Artifact::pack(&bytes, effort)?, false),
    };
    Ok(Packed { artifact, kind, name, kept })
}

fn file_name(kind: &str, binary: &[u8]) -> String {
    let hash: String = digest(&SHA256, binary).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    // The version is part of the name, since another one may pack differently.
    format!("{kind}-{}-{hash}.zip", env!("CARGO_PKG_VERSION"))
}

impl Packed {
    /// Keeps it in the cache, in the place of what was packed before.
    pub(crate) fn keep(self, cache: &Path) -> Artifact {
        if !self.kept {
            // Without the cache the next start is slower, and nothing else.
            let _ = self.write(cache);
        }
        self.artifact
    }

    fn write(&self, cache: &Path) -> io::Result<()> {
        /// Runs that were abandoned may still write.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(cache)?;
        for entry in fs::read_dir(cache)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|old| old.starts_with(&format!("{}-", self.kind))) {
                fs::remove_file(entry.path())?;
            }
        }
        // Written aside and renamed: a run that is killed here leaves no half of a zip under that name.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let fresh = cache.join(format!("{}-{}-{number}.new", self.kind, std::process::id()));
        fs::write(&fresh, self.artifact.zip())?;
        fs::rename(fresh, cache.join(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(cache: &Path, binary: &Path) -> Artifact {
        pack(cache, Handler::Connect, binary, Effort::Quick, None).unwrap().keep(cache)
    }

    fn kept(cache: &Path) -> Vec<std::path::PathBuf> {
        fs::read_dir(cache).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn what_was_packed_is_taken_again_and_replaced_when_the_binary_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, binary) = (dir.path().join("cache"), dir.path().join("connect"));
        fs::write(&binary, b"one").unwrap();
        let first = packed(&cache, &binary);
        assert_eq!(first.zip(), Artifact::pack(b"one", Effort::Quick).unwrap().zip());
        assert_eq!(kept(&cache).len(), 1);

        // Taken, not packed again: the mark would be gone.
        let mark = Artifact::pack(b"mark", Effort::Quick).unwrap();
        fs::write(&kept(&cache)[0], mark.zip()).unwrap();
        assert_eq!(packed(&cache, &binary).sha256(), mark.sha256());

        fs::write(&binary, b"two").unwrap();
        let second = packed(&cache, &binary);
        assert_eq!(second.zip(), Artifact::pack(b"two", Effort::Quick).unwrap().zip());
        assert_eq!(kept(&cache).len(), 1);
    }

    #[test]
    fn what_was_packed_ahead_is_taken_if_it_is_of_these_bytes_and_leaves_the_cache_alone_if_not() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, binary) = (dir.path().join("cache"), dir.path().join("connect"));
        let ahead = || pack(&cache, Handler::Connect, &binary, Effort::Quick, None).unwrap();
        let with =
            |ahead: &Packed| pack(&cache, Handler::Connect, &binary, Effort::Quick, Some(ahead)).unwrap();
        fs::write(&binary, b"two").unwrap();
        let two = packed(&cache, &binary);
        fs::write(&binary, b"one").unwrap();
        let one = ahead();
        let name = |binary| file_name(&one.kind, binary);
        let (name_of_one, name_of_two) = (name(b"one"), name(b"two"));
        assert!(kept(&cache)[0].ends_with(name_of_two), "a guess replaces nothing");

        fs::write(&binary, b"two").unwrap();
        assert_eq!(with(&one).keep(&cache).sha256(), two.sha256(), "a wrong guess is not taken");

        fs::write(&binary, b"one").unwrap();
        let marked = Packed { artifact: Artifact::pack(b"mark", Effort::Quick).unwrap(), ..one };
        assert_eq!(with(&marked).keep(&cache).sha256(), marked.artifact.sha256(), "a right one is");
        assert!(kept(&cache)[0].ends_with(name_of_one), "and kept");
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let binary = dir.path().join("connect");
        fs::write(&binary, b"one").unwrap();
        // A file where the directory should be.
        assert!(!packed(&binary, &binary).zip().is_empty());
    }
}
