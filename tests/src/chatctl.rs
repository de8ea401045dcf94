//! The real command line as a process, with a project and a state directory of its own.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
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
    /// `more` is further settings of stage `local`, as YAML of that depth.
    pub fn new(more: &str) -> Self {
        let folder = TempDir::new().expect("no temporary directory");
        let settings = format!(
            "app: chat\nstages:\n  local:\n    endpoint: local\n    auth: {{ mode: open }}\n    lambda: {{ architecture: \
             native }}\n    limits: {{ sends_per_10s: 0 }}\n    control_plane: {{ rate: 0 }}\n    build: {{ profile: dev \
             }}\n{more}"
        );
        std::fs::write(folder.path().join("chat.yaml"), settings).expect("no settings");
        Self { folder, running: Vec::new() }
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
        command
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
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::KILL).unwrap_or_else(|why| panic!("kill {pid:?}: {why}"));
        }
        for child in self.running.iter_mut().filter(|child| child.id() == pid) {
            let _ = child.wait();
        }
        let deadline = std::time::Instant::now() + PATIENCE;
        while let Some(left) = family.iter().find(|pid| process::is_alive(**pid)) {
            assert!(
                std::time::Instant::now() < deadline,
                "process {left} outlived the cloud that had started it"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
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

/// Builds `chatctl` as it is in this working tree. Within `cargo test --workspace` it is built already.
fn binary() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| crate::handlers::executable("chatctl", "chatctl"))
}
