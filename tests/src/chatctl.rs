//! The real command line as a process, with a project and a state directory of its own.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

use chat_local::Rule;
use chat_stacks::Handler;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::PATIENCE;
use crate::process;

/// A project in a directory of its own, whose handlers are those of this working tree.
pub struct Chatctl {
    folder: TempDir,
    running: Vec<Child>,
}

impl Default for Chatctl {
    fn default() -> Self {
        Self::new("")
    }
}

impl Chatctl {
    /// One whose handlers are built and whose cloud runs: with the cloud's endpoint, for [`faults`](Self::faults).
    pub fn with_cloud() -> (Self, String) {
        let chatctl = Self::default();
        chatctl.build(crate::handlers::binaries());
        let endpoint = chatctl.cloud();
        (chatctl, endpoint)
    }

    /// `more` is further settings of stage `local`, as YAML of that depth.
    pub fn new(more: &str) -> Self {
        let folder = TempDir::new().expect("no temporary directory");
        let chatctl = Self { folder, running: Vec::new() };
        chatctl.settings(more);
        chatctl
    }

    /// From now on these are the further settings of stage `local`.
    pub fn settings(&self, more: &str) {
        let settings = format!(
            "app: chat\nstages:\n  local:\n    endpoint: local\n    auth: {{ mode: open }}\n    lambda: {{ architecture: \
             native }}\n    limits: {{ sends_per_10s: 0 }}\n    control_plane: {{ rate: 0 }}\n    build: {{ profile: dev \
             }}\n{more}"
        );
        std::fs::write(self.folder.path().join("chat.yaml"), settings).expect("no settings");
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The command, to be completed.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(args)
            .current_dir(crate::root())
            .env("CHATCTL_SETTINGS", self.folder.path().join("chat.yaml"))
            .env("CHATCTL_STATE_DIR", self.state())
            .stdin(Stdio::null());
        let cargo = self.folder.path().join("cargo");
        if cargo.exists() {
            command.env("CARGO", cargo);
        }
        command
    }

    /// From now on these are the handlers, as if cargo had just built them.
    pub fn build(&self, binaries: &BTreeMap<Handler, PathBuf>) {
        let messages = binaries.iter().map(|(handler, path)| {
            let target = json!({"name": handler.name(), "kind": ["bin"]});
            json!({"reason": "compiler-artifact", "target": target, "executable": path, "fresh": true})
                .to_string()
        });
        self.cargo(&messages.collect::<Vec<_>>(), 0);
    }

    /// From now on the handlers do not compile, for this reason.
    pub fn fail_to_build(&self, why: &str) {
        let message = json!({"level": "error", "rendered": why, "code": {}, "spans": [{}]});
        self.cargo(&[json!({"reason": "compiler-message", "message": message}).to_string()], 101);
    }

    /// A cargo that says this and ends so. It is swapped in one piece: one that runs already stays as it is.
    fn cargo(&self, messages: &[String], code: u8) {
        let (cargo, next) = (self.folder.path().join("cargo"), self.folder.path().join("cargo.next"));
        let text = messages.join("\n");
        std::fs::write(&next, format!("#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n"))
            .expect("no room for a script");
        std::fs::set_permissions(&next, Permissions::from_mode(0o755)).expect("a file of ours");
        std::fs::rename(&next, &cargo).expect("a file of ours");
    }

    /// A place for files that go with the project.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a cloud in the background whose faults can be set, and returns its endpoint.
    pub fn cloud(&self) -> String {
        let settings = self.folder.path().join("cloud.json");
        std::fs::write(&settings, r#"{"allow_fault_requests": true}"#).expect("no room for settings");
        let settings = settings.display().to_string();
        let data = self.data(&["local", "up", "--detach", "--port", "0", "--cloud-settings", &settings]);
        data["endpoint"].as_str().map(str::to_owned).unwrap_or_else(|| panic!("no endpoint in {data}"))
    }

    /// Sets the faults of the cloud that [`cloud`](Self::cloud) started.
    pub fn faults(&self, endpoint: &str, rules: &[Rule]) {
        let address = endpoint.trim_start_matches("http://");
        let body = json!(rules).to_string();
        let mut stream = TcpStream::connect(address).unwrap_or_else(|why| panic!("{address}: {why}"));
        let request = format!(
            "PUT /_local/faults HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap_or_else(|why| panic!("{why}"));
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap_or_else(|why| panic!("{why}"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Runs a verb with `--json`, and returns its exit code and every line.
    pub fn lines(&self, args: &[&str]) -> (i32, Vec<Value>) {
        let mut command = self.command(&[args, &["--json"]].concat());
        lines_of(command.output().unwrap_or_else(|why| panic!("chatctl {args:?}: {why}")))
    }

    /// Runs a verb to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap_or_else(|why| panic!("chatctl {args:?}: {why}"))
    }

    /// Runs a verb with `--json` that must succeed, and returns its result's data.
    pub fn data(&self, args: &[&str]) -> Value {
        let done = self.run(&[args, &["--json"]].concat());
        let text = String::from_utf8_lossy(&done.stdout);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "chatctl {args:?} ended with {}:\n{text}\n{said}", done.status);
        let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let result = lines.rfind(|line| line.get("data").is_some());
        result.unwrap_or_else(|| panic!("chatctl {args:?} gave no result:\n{text}"))["data"].clone()
    }

    /// Starts `local up` on a port, and returns its process once it answers.
    pub fn up(&mut self, port: u16) -> u32 {
        let mut command = self.command(&["local", "up", "--port", &port.to_string()]);
        command.process_group(0).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|why| panic!("local up: {why}"));
        let pid = child.id();
        let stderr = child.stderr.take().expect("stderr is a pipe");
        let (lines, heard) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        self.running.push(child);
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let alive = process::is_alive(pid);
            let said: Vec<String> = heard.try_iter().collect();
            assert!(alive && std::time::Instant::now() < deadline, "local up did not come up: {said:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        pid
    }

    /// Ends a process without a chance to say goodbye, and waits until it and all it had started are gone.
    pub fn kill(&mut self, pid: u32) {
        let family = process::tree(pid);
        process::signal(pid, Signal::KILL);
        for child in self.running.iter_mut().filter(|child| child.id() == pid) {
            let _ = child.wait();
        }
        process::until_gone(&family);
    }
}

impl Drop for Chatctl {
    fn drop(&mut self) {
        let _ = self.command(&["local", "down"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Exit code and lines of a run with `--json`.
pub fn lines_of(output: Output) -> (i32, Vec<Value>) {
    let text = String::from_utf8_lossy(&output.stdout);
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
    let lines = text.lines().map(parse).collect();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "", "standard error is empty with --json");
    (output.status.code().unwrap_or(-1), lines)
}

/// Builds `chatctl` as it is in this working tree. Within `cargo test --workspace` it is built already.
fn binary() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| crate::handlers::executable("chatctl", "chatctl"))
}
