//! Handlers packed before. Unoptimised ones are large, and packing them again would be most of the time that `dev`
//! takes to start. A zip is kept under the hash of the binary it was made of, so it cannot be another's.

use std::fs;
use std::io;
use std::path::Path;

use chat_stacks::{Artifact, Effort, Error, Handler};
use ring::digest::{SHA256, digest};

/// Packs a handler, or takes what was packed of the same bytes.
pub(crate) fn pack(cache: &Path, handler: Handler, binary: &Path, effort: Effort) -> Result<Artifact, Error> {
    let Ok(bytes) = fs::read(binary) else {
        // It says what is missing.
        return Artifact::read(binary, effort);
    };
    let hash: String = digest(&SHA256, &bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let kind = format!("{handler}-{}", effort.name());
    // The version is part of the name, since another one may pack differently.
    let name = format!("{kind}-{}-{hash}.zip", env!("CARGO_PKG_VERSION"));
    let path = cache.join(&name);
    if let Ok(zip) = fs::read(&path) {
        return Ok(Artifact::packed(zip));
    }
    let artifact = Artifact::pack(&bytes, effort)?;
    // Without the cache the next start is slower, and nothing else.
    let _ = keep(cache, &kind, &name, artifact.zip());
    Ok(artifact)
}

/// Keeps one zip a handler and effort.
fn keep(cache: &Path, kind: &str, name: &str, zip: &[u8]) -> io::Result<()> {
    fs::create_dir_all(cache)?;
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|old| old.starts_with(&format!("{kind}-"))) {
            fs::remove_file(entry.path())?;
        }
    }
    // Written aside and renamed: a run that is killed here leaves no half of a zip under that name.
    let fresh = cache.join(format!("{kind}-{}.new", std::process::id()));
    fs::write(&fresh, zip)?;
    fs::rename(fresh, cache.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_taken_again_and_replaced_when_the_binary_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, binary) = (dir.path().join("cache"), dir.path().join("connect"));
        fs::write(&binary, b"one").unwrap();
        let first = pack(&cache, Handler::Connect, &binary, Effort::Quick).unwrap();
        let kept = || fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
        assert_eq!(first.zip(), Artifact::pack(b"one", Effort::Quick).unwrap().zip());
        assert_eq!(kept().len(), 1);

        // Taken, not packed again: the mark would be gone.
        let mark = Artifact::pack(b"mark", Effort::Quick).unwrap();
        fs::write(&kept()[0], mark.zip()).unwrap();
        assert_eq!(pack(&cache, Handler::Connect, &binary, Effort::Quick).unwrap().sha256(), mark.sha256());

        fs::write(&binary, b"two").unwrap();
        let second = pack(&cache, Handler::Connect, &binary, Effort::Quick).unwrap();
        assert_eq!(second.zip(), Artifact::pack(b"two", Effort::Quick).unwrap().zip());
        assert_eq!(kept().len(), 1);
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let binary = dir.path().join("connect");
        fs::write(&binary, b"one").unwrap();
        // A file where the directory should be.
        assert!(pack(&binary, Handler::Connect, &binary, Effort::Quick).is_ok());
    }
}
