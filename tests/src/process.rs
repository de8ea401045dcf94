//! Processes and all their descendants: what they cost, read from `/proc` as resident memory and processor time, and how
//! they end.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::PATIENCE;

/// Clock ticks per second in `/proc/<pid>/stat`: fixed by Linux's ABI for user space.
const TICKS_PER_SECOND: u64 = 100;

/// Sums over a process tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub processes: usize,
    pub resident_bytes: u64,
    /// Resident memory with shared pages divided among those who share them.
    pub proportional_bytes: u64,
    /// User and system time, that of children who have ended included.
    pub cpu: Duration,
}

/// Usage of the process and its descendants; nothing for a process that has ended.
pub fn usage_of_tree(root: u32) -> Usage {
    tree(root).into_iter().fold(Usage::default(), |sum, pid| {
        let Some(stat) = Stat::read(pid) else { return sum };
        let (resident, proportional) = memory(pid);
        Usage {
            processes: sum.processes + 1,
            resident_bytes: sum.resident_bytes + resident,
            proportional_bytes: sum.proportional_bytes + proportional,
            cpu: sum.cpu + stat.cpu,
        }
    })
}

/// The process and its descendants.
pub fn tree(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        if let Some(stat) = Stat::read(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    found
}

/// Whether the process runs. A zombie has ended, whoever forgot to ask for its exit status.
pub fn is_alive(pid: u32) -> bool {
    Stat::read(pid).is_some_and(|stat| stat.state != 'Z')
}

/// Sends a signal to a process that runs.
pub fn signal(pid: u32, signal: Signal) {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let raw = raw.unwrap_or_else(|| panic!("{pid} is no process id"));
    kill_process(raw, signal).unwrap_or_else(|why| panic!("{signal:?} to {pid}: {why}"));
}

/// Waits until none of them runs any more.
pub fn until_gone(family: &[u32]) {
    let deadline = Instant::now() + PATIENCE;
    while let Some(left) = family.iter().find(|pid| is_alive(**pid)) {
        assert!(Instant::now() < deadline, "process {left} outlived what had started it");
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Stat {
    state: char,
    parent: u32,
    cpu: Duration,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command's name stands in parentheses and may itself hold blanks and parentheses.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND),
        })
    }
}

/// Resident and proportional bytes. The kernel does not show the second for processes of others.
fn memory(pid: u32) -> (u64, u64) {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kilobytes = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
            .unwrap_or_default()
    };
    (kilobytes("Rss:") * 1024, kilobytes("Pss:") * 1024)
}

/// A port that nobody listens on at this moment.
pub fn free_port() -> u16 {
    let listener =
        std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap_or_else(|why| panic!("no free port: {why}"));
    listener.local_addr().unwrap_or_else(|why| panic!("no address: {why}")).port()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_holds_its_children_and_forgets_them_when_they_end() {
        let mut child =
            std::process::Command::new("sleep").arg("60").spawn().expect("failed to start a child");
        assert!(tree(std::process::id()).contains(&child.id()));
        assert!(is_alive(child.id()));
        let usage = usage_of_tree(std::process::id());
        assert!(usage.processes >= 2 && usage.resident_bytes > 1 << 20, "{usage:?}");
        child.kill().expect("failed to end the child");
        child.wait().expect("failed to wait for the child");
        assert!(!is_alive(child.id()));
        assert_eq!(usage_of_tree(child.id()), Usage::default());
    }
}
