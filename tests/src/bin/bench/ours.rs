//! This project: `chatctl` in release with handlers in the profile that is uploaded.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chat_tests::handlers::without_leftovers;
use chat_tests::load::{LoadError, Target};
use serde_json::Value;

use super::Result;
use super::server::{Server, call, free_ports};

/// As the peer has it: no limit on sends, no presence. Everything else is what stage `local` has.
const SETTINGS: &str = "\
app: chat
stages:
  local:
    endpoint: local
    auth: { mode: open }
    lambda: { architecture: native }
    limits: { sends_per_10s: 0 }
    presence: { max_members: 0 }
    throttling: { rate: 10000, burst: 5000 }
    control_plane: { rate: 0 }
    build: { profile: lambda }
";

/// Builds everything that takes part, so that no compiler runs while something is measured.
pub(crate) fn build(root: &Path) -> Result<()> {
    let cargo = || {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(root).arg("build");
        // Else `chatctl dev`, which does the same, would build the handlers once more.
        without_leftovers(&mut command);
        command
    };
    eprintln!("bench: building chatctl (release) and the handlers (lambda)");
    call(cargo().args(["--quiet", "--release", "--package", "chatctl"]))?;
    call(cargo().args(["--quiet", "--profile", "lambda", "--package", "chat-functions", "--bins"]))
}

/// Measures `chatctl dev` from its start to the first message, then starts the cloud that is put under load.
pub(crate) async fn start(root: &Path) -> Result<(Server, Duration)> {
    let begun = Instant::now();
    let dev = run(root, &["dev", "--no-open", "--web-port", "0", "--json"])?;
    dev.first_message().await?;
    let ready = begun.elapsed();
    dev.stop();
    let server = run(root, &["local", "up"])?;
    Ok((server, ready))
}

/// Starts a verb that runs a cloud, on a fresh state, and finds out where the chat is.
fn run(root: &Path, verb: &[&str]) -> Result<Server> {
    let state = fresh_state(root)?;
    let [port] = free_ports()?;
    let mut command = chatctl(root, &state);
    command.args(verb).args(["--port", &port.to_string()]).stdin(Stdio::null()).stderr(Stdio::null());
    let is_dev = verb.first() == Some(&"dev");
    command.stdout(if is_dev { Stdio::piped() } else { Stdio::null() });
    let mut server = Server::spawn(&mut command, Target { url: String::new() })?;
    let url = if is_dev {
        let stdout = server.process().stdout.take().ok_or_else(|| LoadError("dev has no output".into()))?;
        let mut lines = BufReader::new(stdout).lines();
        let found = lines.by_ref().map_while(std::io::Result::ok).find_map(|line| address_in(&line));
        // Whoever reads no further blocks the writer once the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        found.ok_or_else(|| LoadError("`chatctl dev` named no WebSocket address".into()))?
    } else {
        deploy(root, &state, port)?
    };
    server.target = Target { url };
    Ok(server)
}

fn deploy(root: &Path, state: &Path, port: u16) -> Result<String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > deadline {
            return Err(LoadError("`chatctl local up` does not listen".into()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    call(
        chatctl(root, state).args(["deploy", "--yes", "--json"]).stdin(Stdio::null()).stdout(Stdio::null()),
    )?;
    let output = chatctl(root, state)
        .args(["outputs", "--json"])
        .output()
        .map_err(|e| LoadError(format!("failed to ask for the outputs: {e}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find_map(address_in)
        .ok_or_else(|| LoadError(format!("no WebSocket address in the outputs: {text}")))
}

fn chatctl(root: &Path, state: &Path) -> Command {
    let mut command = Command::new(root.join("target/release/chatctl"));
    command
        .current_dir(root)
        .env("CHATCTL_STATE_DIR", state)
        .env("CHATCTL_SETTINGS", state.join("chat.yaml"));
    command
}

fn fresh_state(root: &Path) -> Result<PathBuf> {
    let state = root.join("target/bench/ours");
    // Nothing to remove is as good.
    let _ = fs::remove_dir_all(&state);
    fs::create_dir_all(&state)
        .and_then(|()| fs::write(state.join("chat.yaml"), SETTINGS))
        .map_err(|e| LoadError(format!("failed to prepare {}: {e}", state.display())))?;
    Ok(state)
}

/// The first WebSocket address anywhere in a line of JSON.
fn address_in(line: &str) -> Option<String> {
    fn search(value: &Value) -> Option<&str> {
        match value {
            Value::String(text) if text.starts_with("ws://") => Some(text),
            Value::Array(items) => items.iter().find_map(search),
            Value::Object(fields) => fields.values().find_map(search),
            _ => None,
        }
    }
    search(&serde_json::from_str(line).ok()?).map(str::to_owned)
}
