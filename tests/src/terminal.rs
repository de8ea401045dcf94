//! `chatctl` at a terminal, and what somebody would see there.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::{Chatctl, PATIENCE};

/// Wide enough for every line.
const SIZE: Winsize = Winsize { ws_row: 50, ws_col: 500, ws_xpixel: 0, ws_ypixel: 0 };

/// A process whose input and output are a terminal. Dropped before it has ended, it is killed.
pub struct Terminal {
    process: Child,
    keys: File,
    printed: Receiver<String>,
    /// What was printed since something was found there.
    seen: String,
}

impl Terminal {
    pub fn open(chatctl: &Chatctl, args: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("a terminal of one's own");
        let name = ptsname(&master, Vec::new()).expect("a terminal with a name");
        let keys = File::from(master);
        let side = OpenOptions::new().read(true).write(true).open(OsStr::from_bytes(name.to_bytes()));
        let side = side.expect("a terminal has another side");
        tcsetwinsize(&side, SIZE).expect("a terminal has a size");
        let again = || side.try_clone().expect("one more descriptor");
        let mut command = chatctl.command(args);
        command.env("TERM", "xterm").stdin(again()).stdout(again()).stderr(again());
        let process = command.spawn().unwrap_or_else(|why| panic!("chatctl: {why}"));
        let mut screen = keys.try_clone().expect("one more descriptor");
        let (print, printed) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // When nobody is left on the other side, reading fails.
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                let text = bytes.get(..read).unwrap_or_default();
                if print.send(String::from_utf8_lossy(text).into_owned()).is_err() {
                    return;
                }
            }
        });
        Self { process, keys, printed, seen: String::new() }
    }

    /// Presses these keys.
    pub fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap_or_else(|why| panic!("{keys:?}: {why}; {}", self.seen));
    }

    /// Waits until this is printed, after what was waited for last.
    pub fn shows(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            match self.printed.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(more) => self.seen.push_str(&more),
                Err(RecvTimeoutError::Timeout) => panic!("{text:?} did not come: {:?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended before {text:?}: {:?}", self.seen),
            }
        }
    }

    /// Waits for its end, which comes within this time.
    pub fn ends_within(mut self, time: Duration) -> ExitStatus {
        let deadline = Instant::now() + time;
        loop {
            if let Some(ended) = self.process.try_wait().expect("chatctl is ours") {
                return ended;
            }
            assert!(Instant::now() < deadline, "it goes on: {:?}", self.seen);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
