//! The real handler binaries, built once and packed as a deploy packs them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use chat_stacks::{Artifact, Artifacts, Effort, Handler};
use serde_json::Value;

/// What cargo leaves in the environment of a test. A nested cargo that sees it builds some crates again.
const LEFTOVERS: [&str; 6] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "OUT_DIR"];

/// The handlers as they are in this working tree.
pub fn artifacts() -> &'static Artifacts {
    static PACKED: OnceLock<Artifacts> = OnceLock::new();
    PACKED.get_or_init(|| {
        binaries()
            .iter()
            .map(|(handler, path)| {
                let artifact = Artifact::read(path, Effort::Quick).unwrap_or_else(|why| panic!("{why}"));
                (*handler, artifact)
            })
            .collect()
    })
}

/// The handlers, with a program instead of one of them that ends as soon as it is started.
pub fn broken(broken: Handler) -> BTreeMap<Handler, PathBuf> {
    let mut binaries = binaries().clone();
    binaries.insert(broken, PathBuf::from("/bin/false"));
    binaries
}

/// The same handlers with other bytes: what a change of their sources makes of them.
pub fn changed_artifacts() -> Artifacts {
    let pack = |binary: Vec<u8>| Artifact::pack(&binary, Effort::Quick).unwrap_or_else(|why| panic!("{why}"));
    Handler::ALL.into_iter().map(|handler| (handler, pack(changed_binary(handler)))).collect()
}

/// The same as programs in `folder`.
pub fn changed(folder: &Path) -> BTreeMap<Handler, PathBuf> {
    let write = |handler: Handler| {
        let path = folder.join(handler.name());
        std::fs::write(&path, changed_binary(handler))
            .unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        (handler, path)
    };
    Handler::ALL.into_iter().map(write).collect()
}

/// ELF loaders ignore what follows the sections.
fn changed_binary(handler: Handler) -> Vec<u8> {
    let path = &binaries()[&handler];
    let mut binary = std::fs::read(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    binary.extend_from_slice(b"changed");
    binary
}

/// Builds the handlers as `chatctl` does, and says where they are.
pub fn binaries() -> &'static BTreeMap<Handler, PathBuf> {
    static BUILT: OnceLock<BTreeMap<Handler, PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build)
}

fn build() -> BTreeMap<Handler, PathBuf> {
    let executables = executables("chat-functions");
    let find = |handler: Handler| Some((handler, executables.get(handler.name())?.clone()));
    let built: BTreeMap<Handler, PathBuf> = Handler::ALL.into_iter().filter_map(find).collect();
    assert_eq!(built.len(), Handler::ALL.len(), "cargo named only {built:?}");
    built
}

/// Builds a binary of this workspace, and says where it is.
pub(crate) fn executable(package: &str, name: &str) -> PathBuf {
    executables(package).remove(name).unwrap_or_else(|| panic!("cargo built no {name}"))
}

/// Keeps from a nested cargo what the one that runs this program has set.
pub fn without_leftovers(cargo: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| LEFTOVERS.iter().any(|left| name.starts_with(left))) {
            cargo.env_remove(name);
        }
    }
    cargo
}

fn executables(package: &str) -> BTreeMap<String, PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--package", package, "--bins", "--message-format", "json"])
        .current_dir(crate::root())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let done =
        without_leftovers(&mut cargo).output().unwrap_or_else(|why| panic!("failed to run cargo: {why}"));
    assert!(done.status.success(), "{package} does not build");
    let messages = String::from_utf8_lossy(&done.stdout).into_owned();
    let executables = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let path = PathBuf::from(message["executable"].as_str()?);
        Some((message["target"]["name"].as_str()?.to_owned(), path))
    });
    executables.collect()
}
