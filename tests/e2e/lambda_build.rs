//! Handlers for Lambda: built by zig they ask for no newer C library than Lambda has; built otherwise they are read
//! before they could be uploaded, and refused.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use chat_tests::Chatctl;
use serde_json::Value;
use tempfile::TempDir;

/// Where `cargo xtask test` has its Python tools, cargo-zigbuild and zig among them.
const TOOLS: &str = "CHATCTL_TEST_TOOLS";

const ASKS_FOR_MUCH: &str = "unsafe extern \"C\" { fn arc4random() -> u32; }\nfn main() { println!(\"{}\", unsafe { arc4random() }); }\n";

/// A project with three handlers of a line each, so that building them takes no time.
fn project(main: &str) -> TempDir {
    let folder = TempDir::new().expect("no temporary directory");
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    write("Cargo.toml", "[workspace]\nmembers = [\"functions\"]\nresolver = \"3\"\n");
    let mut manifest =
        "[package]\nname = \"chat-functions\"\nversion = \"0.1.0\"\nedition = \"2024\"\n".to_owned();
    for handler in ["connect", "disconnect", "on_message"] {
        write(&format!("functions/src/bin/{handler}.rs"), main);
        manifest.push_str(&format!("[[bin]]\nname = \"{handler}\"\npath = \"src/bin/{handler}.rs\"\n"));
    }
    write("functions/Cargo.toml", &manifest);
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
    let settings = format!(
        "app: chat\nstages:\n  dev:\n    lambda: {{ architecture: {architecture} }}\n    build: {{ profile: dev }}\n"
    );
    write("stacks/chat.yaml", &settings);
    folder
}

fn build(folder: &Path, path: OsString) -> (Option<i32>, Value) {
    let mut command = Chatctl::default().command(&["build", "--stage", "dev", "--json"]);
    let command = command
        .current_dir(folder)
        .env("CHATCTL_SETTINGS", folder.join("stacks/chat.yaml"))
        .env("CHATCTL_STATE_DIR", folder.join("state"))
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .env("PATH", path);
    let done = command.output().unwrap_or_else(|why| panic!("chatctl build: {why}"));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let result = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    (done.status.code(), result.unwrap_or_else(|| panic!("no result in {text}")))
}

fn search_path() -> Vec<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect()
}

fn joined(folders: Vec<PathBuf>) -> OsString {
    std::env::join_paths(folders).unwrap_or_else(|why| panic!("{why}"))
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "handlers for this machine are none for Lambda")]
fn a_handler_that_would_not_start_on_lambda_is_refused_by_its_symbol() {
    let library = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let library = library.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default();
    let minor: u32 =
        library.trim().rsplit('.').next().and_then(|minor| minor.parse().ok()).unwrap_or_default();
    if minor < 36 {
        println!("skipped: this machine's C library, {library:?}, is not newer than Lambda's");
        return;
    }
    let folder = project(ASKS_FOR_MUCH);
    // As on a machine without zig.
    let without = search_path().into_iter().filter(|folder| !folder.join("cargo-zigbuild").exists());

    let (code, result) = build(folder.path(), joined(without.collect()));

    assert_eq!(code, Some(1), "{result}");
    let error = &result["error"];
    assert_eq!(error["code"], "handler_unfit", "{result}");
    assert!(
        error["causes"][0].as_str().is_some_and(|why| why.contains("`arc4random`") && why.contains("2.36")),
        "{error}"
    );
    assert!(error["help"].as_str().is_some_and(|help| help.contains("cargo-zigbuild")), "{error}");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "the target of this machine is the one that is installed")]
fn zig_builds_handlers_that_start_on_lambda() {
    let mut folders = search_path();
    if let Some(tools) = std::env::var_os(TOOLS) {
        folders.insert(0, tools.into());
    }
    if !folders.iter().any(|folder| folder.join("cargo-zigbuild").exists()) {
        println!("skipped: there is no cargo-zigbuild; `cargo xtask test` installs it");
        return;
    }
    let folder = project("fn main() { println!(\"{:?}\", std::env::args()); }\n");

    let (code, result) = build(folder.path(), joined(folders));

    assert_eq!(code, Some(0), "{result}");
    assert_eq!(result["data"]["built_by"], "cargo-zigbuild", "{result}");
    let handlers = result["data"]["handlers"].as_array().cloned().unwrap_or_default();
    assert_eq!(handlers.len(), 3, "{result}");
    for handler in handlers {
        let needs = handler["glibc"].as_str().and_then(|version| version.strip_prefix("2."));
        let minor: u32 = needs.and_then(|minor| minor.parse().ok()).unwrap_or_else(|| panic!("{handler}"));
        assert!(minor <= 34, "{handler}");
    }
}
