//! A server under test: a process group that ends with the benchmark, and whether it answers yet.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::rc::Rc;
use std::time::{Duration, Instant};

use chat_tests::load::{Connection, LoadError, Shared, Target};
use rustix::process::{Pid, Signal, kill_process_group};

use super::Result;

/// Nobody starts slower than this.
const START: Duration = Duration::from_secs(60);
/// Between two attempts to reach a server that starts.
const KNOCK: Duration = Duration::from_millis(5);

/// A running server.
pub(crate) struct Server {
    pub(crate) target: Target,
    process: Child,
}

impl Server {
    /// Starts a command in a process group of its own.
    pub(crate) fn spawn(command: &mut Command, target: Target) -> Result<Self> {
        let process = command
            .process_group(0)
            .spawn()
            .map_err(|e| LoadError(format!("failed to start {command:?}: {e}")))?;
        Ok(Self { target, process })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn process(&mut self) -> &mut Child {
        &mut self.process
    }

    /// Waits until a message is stored, acknowledged and delivered.
    pub(crate) async fn first_message(&self) -> Result<()> {
        let deadline = Instant::now() + START;
        let mut last = LoadError("nothing tried".to_owned());
        while Instant::now() < deadline {
            match first_message(&self.target).await {
                Ok(()) => return Ok(()),
                Err(why) => last = why,
            }
            tokio::time::sleep(KNOCK).await;
        }
        Err(LoadError(format!("the server did not come up within {START:?}: {last}")))
    }

    pub(crate) fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            // Gone already is as good.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.process.wait();
    }
}

async fn first_message(target: &Target) -> Result<()> {
    let shared = Rc::new(Shared::default());
    let mut first = Connection::open(target, "first", 0).await?;
    let room = "first";
    first.enter(&shared, room).await?;
    first.round_trip(&shared, room, 1).await?;
    first.leave().await;
    Ok(())
}

/// Ports that were free just now, all different.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let listeners: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect::<std::io::Result<_>>()
        .map_err(|e| LoadError(format!("found no free port: {e}")))?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr().map_err(|e| LoadError(format!("a listener has no port: {e}")))?.port();
    }
    Ok(ports)
}

/// Runs a command to its end.
pub(crate) fn call(command: &mut Command) -> Result<()> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(LoadError(format!("{command:?} ended with {status}"))),
        Err(e) => Err(LoadError(format!("failed to run {command:?}: {e}"))),
    }
}
