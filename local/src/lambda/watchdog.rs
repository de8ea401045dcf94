//! Nothing that a function runs outlives the cloud: all handler processes share one process group, whose leader kills
//! the group when the cloud is gone.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Leader of the process group of all handlers. It waits for the end of its standard input, whose other end only this
/// process holds: however the cloud ends, `kill -9` included, the kernel closes it and the group dies.
#[derive(Default)]
pub(super) struct Watchdog {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    leader: Option<Child>,
    /// The cloud is going: nothing may start any more.
    ended: bool,
}

impl Watchdog {
    /// The process group to start handlers in. Starts the leader, or starts it anew if someone ended it.
    pub(super) fn group(&self) -> io::Result<i32> {
        let mut state = self.lock();
        if state.ended {
            return Err(io::Error::other("the cloud is shutting down"));
        }
        let leader = &mut state.leader;
        let alive = match leader.as_mut() {
            Some(child) => child.try_wait()?.is_none(),
            None => false,
        };
        let child = match leader.take() {
            Some(child) if alive => leader.insert(child),
            _ => leader.insert(
                Command::new("/bin/sh")
                    .args(["-c", "read _; kill -KILL 0"])
                    .env_clear()
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .process_group(0)
                    .spawn()?,
            ),
        };
        i32::try_from(child.id()).map_err(io::Error::other)
    }

    /// Ends every process of the group.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        if let Some(mut child) = state.leader.take() {
            drop(child.stdin.take());
            // Reaps it. It only has to read the end of its input.
            let _ = child.wait();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::Command;

    use super::Watchdog;

    #[test]
    fn the_group_dies_when_the_pipe_closes() {
        let watchdog = Watchdog::default();
        let group = watchdog.group().unwrap();
        assert_eq!(watchdog.group().unwrap(), group, "one leader serves all");
        let mut handler = Command::new("/bin/sleep").arg("600").process_group(group).spawn().unwrap();
        watchdog.end();
        assert_eq!(handler.wait().unwrap().signal(), Some(9));
        assert!(watchdog.group().is_err(), "nothing starts after the end");
    }

    #[test]
    fn a_dead_leader_is_replaced() {
        let watchdog = Watchdog::default();
        let first = watchdog.group().unwrap();
        watchdog.lock().leader.as_mut().unwrap().kill().unwrap();
        watchdog.lock().leader.as_mut().unwrap().wait().unwrap();
        assert_ne!(watchdog.group().unwrap(), first);
    }
}
