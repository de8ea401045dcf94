//! `chatctl` as a process that goes on, and what it says meanwhile.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::process;
use crate::{Chatctl, PATIENCE};

/// One that runs. Dropped before it has ended, it is killed.
pub struct Running {
    process: Child,
    stdin: Option<ChildStdin>,
    said: Receiver<Value>,
    /// What came while something else was waited for.
    heard: Vec<Value>,
}

impl Running {
    /// Starts `dev` on free ports.
    pub fn dev(chatctl: &Chatctl, args: &[&str]) -> Self {
        let all = [&["dev", "--json", "--no-open", "--port", "0", "--web-port", "0"], args].concat();
        Self::start(chatctl.command(&all))
    }

    /// Starts `chat`, which waits for what is to be said.
    pub fn chat(chatctl: &Chatctl, args: &[&str]) -> Self {
        let mut command = chatctl.command(&[&["chat", "--json"], args].concat());
        command.stdin(Stdio::piped());
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let mut process =
            command.stdout(Stdio::piped()).spawn().unwrap_or_else(|why| panic!("chatctl: {why}"));
        let stdin = process.stdin.take();
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
        Self { process, stdin, said, heard: Vec::new() }
    }

    /// Gives it a line to read.
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it reads");
        writeln!(stdin, "{line}").unwrap_or_else(|why| panic!("{line}: {why}; {:#?}", self.heard));
    }

    /// Waits for the next event of this name.
    pub fn event(&mut self, name: &str) -> Value {
        self.line(name, |line| line["event"] == name)
    }

    /// Gives it nothing more to read, and waits for its end and its result.
    pub fn finish(mut self) -> (i32, Value) {
        self.stdin = None;
        let result = self.line("its result", |line| line["type"] == "result");
        let ended = self.process.wait().expect("chatctl is ours");
        (ended.code().unwrap_or(-1), result)
    }

    /// Waits for a line, takes it, and leaves the others for later.
    fn line(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.heard.iter().position(&wanted) {
            return self.heard.remove(at);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.said.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if wanted(&line) => return line,
                Ok(line) => self.heard.push(line),
                Err(RecvTimeoutError::Timeout) => panic!("{what} did not come: {:#?}", self.heard),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended before {what}: {:#?}", self.heard),
            }
        }
    }

    /// Ctrl-C. Everything that it had started has to end with it.
    pub fn interrupt(mut self) -> ExitStatus {
        let family = process::tree(self.process.id());
        process::signal(self.process.id(), Signal::INT);
        process::until_gone(&family);
        self.process.wait().expect("chatctl is ours")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
