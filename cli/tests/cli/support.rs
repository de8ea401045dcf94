//! A throwaway project, and the real binary run in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Settings that suffice to find and read a project; nothing in them costs anything.
pub(crate) const SETTINGS: &str = "\
app: chat
stages:
  local:
    endpoint: local
    auth: { mode: open }
    build: { profile: dev }
";

/// A project in a temporary directory. Its cloud, if one was started, ends with it.
pub(crate) struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    pub(crate) fn new() -> Self {
        Self::with_settings(SETTINGS)
    }

    pub(crate) fn with_settings(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("stacks")).unwrap();
        std::fs::write(dir.path().join("stacks/chat.yaml"), text).unwrap();
        Self { dir }
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.dir.path().join(".chatctl").join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        chatctl(self.root(), args)
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran(self.command(args).output().unwrap())
    }

    /// Process id of the running cloud.
    pub(crate) fn cloud_pid(&self) -> u32 {
        let record: Value =
            serde_json::from_slice(&std::fs::read(self.state("local.json")).unwrap()).unwrap();
        record["pid"].as_u64().unwrap().try_into().unwrap()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if self.state("local.json").exists() {
            let _ = self.command(&["local", "down"]).output();
        }
    }
}

/// The binary under test, free of what the caller's environment would change.
pub(crate) fn chatctl(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chatctl"));
    command.args(args).current_dir(dir).stdin(Stdio::null());
    for name in [
        "CHATCTL_STAGE",
        "CHATCTL_SETTINGS",
        "CHATCTL_PORT",
        "CHATCTL_STATE_DIR",
        "NO_COLOR",
        "CLICOLOR_FORCE",
    ] {
        command.env_remove(name);
    }
    command
}

/// What a run left.
pub(crate) struct Ran(pub(crate) Output);

impl Ran {
    pub(crate) fn code(&self) -> i32 {
        self.0.status.code().expect("ended by a signal")
    }

    pub(crate) fn stdout(&self) -> &str {
        std::str::from_utf8(&self.0.stdout).unwrap()
    }

    pub(crate) fn stderr(&self) -> &str {
        std::str::from_utf8(&self.0.stderr).unwrap()
    }

    /// Checks the shape that docs/cli.md promises for `--json`: lines of JSON, each an event except the last, which
    /// is the only result and agrees with the exit code. Returns the result.
    pub(crate) fn json(&self) -> Value {
        let lines: Vec<Value> = self
            .stdout()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect();
        assert_eq!(self.stderr(), "", "nothing but JSON may be printed");
        let (result, events) = lines.split_last().expect("no result");
        for event in events {
            assert_eq!(event["type"], "event", "{event}");
            assert!(event["event"].is_string(), "{event}");
        }
        assert_eq!(result["type"], "result", "{result}");
        assert_eq!(result["ok"], self.code() == 0, "{result}");
        if self.code() == 0 {
            assert!(result["error"].is_null() && !result["data"].is_null(), "{result}");
        } else {
            assert!(
                result["error"]["code"].is_string() && result["error"]["message"].is_string(),
                "{result}"
            );
        }
        result.clone()
    }
}
