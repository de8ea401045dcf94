//! `chatctl dev` as a process that goes on, and what it says meanwhile.

use std::io::{BufRead, BufReader};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::process;
use crate::{Chatctl, PATIENCE};

/// One that runs. Dropped before it has ended, it is killed.
pub struct Dev {
    process: Child,
    said: Receiver<Value>,
    heard: Vec<Value>,
}

impl Dev {
    /// Starts it on free ports.
    pub fn start(chatctl: &Chatctl, args: &[&str]) -> Self {
        let all = [&["dev", "--json", "--no-open", "--port", "0", "--web-port", "0"], args].concat();
        let mut command = chatctl.command(&all);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap_or_else(|why| panic!("dev: {why}"));
        let stdout = process.stdout.take().expect("stdout is a pipe");
        let (lines, said) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line}"));
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        Self { process, said, heard: Vec::new() }
    }

    /// Waits for the next event of this name.
    pub fn event(&mut self, name: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.said.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line["event"] == name => return line,
                Ok(line) => self.heard.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("{name} did not come: {:#?}", self.heard),
                Err(RecvTimeoutError::Disconnected) => panic!("dev ended before {name}: {:#?}", self.heard),
            }
        }
    }

    /// Ctrl-C. Everything that it had started has to end with it.
    pub fn interrupt(mut self) -> ExitStatus {
        let family = process::tree(self.process.id());
        process::signal(self.process.id(), Signal::INT);
        process::until_gone(&family);
        self.process.wait().expect("dev is ours")
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
