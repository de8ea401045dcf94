//! The peer: installed from npm into `target/bench/peer`, from the pinned list in `tests/bench/peer`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chat_tests::load::{LoadError, Target};

use super::Result;
use super::server::{Server, call, free_ports};

const FILES: [&str; 8] = [
    "package.json",
    "package-lock.json",
    "serverless.yml",
    "start.js",
    "src/aws.js",
    "src/connect.js",
    "src/disconnect.js",
    "src/on_message.js",
];

fn folder(root: &Path) -> PathBuf {
    root.join("target/bench/peer")
}

/// Copies the sources and installs their packages, unless they are there.
pub(crate) fn install(root: &Path) -> Result<()> {
    let (from, to) = (root.join("tests/bench/peer"), folder(root));
    let failed = |what: &str, e: std::io::Error| LoadError(format!("failed to {what}: {e}"));
    fs::create_dir_all(to.join("src")).map_err(|e| failed("make the peer's folder", e))?;
    let lock = |folder: &Path| fs::read(folder.join("package-lock.json")).ok();
    let installed = to.join("node_modules/.package-lock.json").exists() && lock(&from) == lock(&to);
    for file in FILES {
        fs::copy(from.join(file), to.join(file)).map_err(|e| failed(&format!("copy {file}"), e))?;
    }
    if installed {
        return Ok(());
    }
    eprintln!("bench: installing the peer's npm packages in target/bench/peer");
    call(
        Command::new("npm")
            .args(["ci", "--no-fund", "--no-audit", "--ignore-scripts", "--loglevel=error"])
            .current_dir(&to),
    )
}

/// Starts it, and says how long it took until the first message.
pub(crate) async fn start(root: &Path) -> Result<(Server, Duration)> {
    let ports = free_ports::<4>()?;
    let target = Target { url: format!("ws://127.0.0.1:{}/", ports[3]) };
    let mut command = Command::new("node");
    command
        .arg("start.js")
        .args(ports.map(|port| port.to_string()))
        .current_dir(folder(root))
        // Its line a request goes nowhere: that is its best case too.
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let begun = Instant::now();
    let server = Server::spawn(&mut command, target)?;
    server.first_message().await?;
    Ok((server, begun.elapsed()))
}
