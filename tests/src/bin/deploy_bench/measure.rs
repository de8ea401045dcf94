//! What a command costs as a whole process: from its start to its end, with all its children.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chat_tests::process::usage_of_tree;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::Result;

/// No tool takes longer for anything here, polling every few seconds included.
const DEADLINE: Duration = Duration::from_secs(240);
/// Between two looks at whether it has ended.
const LOOK: Duration = Duration::from_millis(2);
/// How much of a failed command's output is shown.
const SHOWN_LINES: usize = 12;

/// Time by the clock and by the processors.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

/// Runs a command to its end, in a process group of its own. What it prints goes to `log`.
pub(crate) async fn run(mut command: Command, log: &Path) -> Result<Cost> {
    let open = |e| format!("failed to write {}: {e}", log.display());
    let file = File::create(log).map_err(open)?;
    command.stdin(Stdio::null()).stdout(file.try_clone().map_err(open)?).stderr(file).process_group(0);
    let log = log.to_owned();
    let name = command.get_program().to_string_lossy().into_owned();
    let measured = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        let mut child = command.spawn().map_err(|e| format!("failed to start {name}: {e}"))?;
        let ended = end(&child, begun);
        let wall = begun.elapsed();
        if ended.is_err() {
            stop(&child);
        }
        // It has ended and nobody has taken its status yet: its times are still there, those of its children included.
        let cpu = usage_of_tree(child.id()).cpu;
        let status = child.wait().map_err(|e| format!("lost {name}: {e}"))?;
        ended?;
        if status.success() {
            return Ok(Cost { wall, cpu });
        }
        Err(format!("{name} ended with {status}:\n{}", last_lines(&log)))
    });
    measured.await.map_err(|e| format!("the measurement broke off: {e}"))?
}

/// Waits for the end and leaves the process as it is then.
fn end(child: &Child, begun: Instant) -> Result<()> {
    let pid = pid(child)?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while begun.elapsed() < DEADLINE {
        match waitid(WaitId::Pid(pid), options) {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => std::thread::sleep(LOOK),
            Err(e) => return Err(format!("lost a process: {e}")),
        }
    }
    Err(format!("it did not end within {} s", DEADLINE.as_secs()))
}

/// Ends the process group of a child.
pub(crate) fn stop(child: &Child) {
    if let Ok(group) = pid(child) {
        // Gone already is as good.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn pid(child: &Child) -> Result<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| "a process without an id".to_owned())
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}
