//! Who runs this and from which sources: what the lock and the history tell others.

use std::process::Stdio;
use std::time::Duration;

use chat_stacks::ledger::{Commit, Holder, Record};
use tokio::process::Command;

use crate::env;
use crate::error::Result;
use crate::project::Project;
use crate::stage::Stage;

/// Git answers at once or is not worth waiting for.
const GIT_TIMEOUT: Duration = Duration::from_secs(2);

/// This process, as others see it when they meet its lock.
pub(crate) async fn holder(stage: &Stage, verb: &str) -> Result<Holder> {
    Ok(Holder {
        principal: stage.aws.identity().await?.arn.clone(),
        host: host(),
        pid: std::process::id(),
        verb: verb.to_owned(),
        // By the clock of the ledger, once the lock is taken.
        since_ms: 0,
        run: ci_run(&env::read),
    })
}

/// A run that begins now.
pub(crate) async fn record(stage: &Stage, verb: &str) -> Result<Record> {
    let (holder, commit) = tokio::join!(holder(stage, verb), commit(&stage.project));
    Ok(Record::begin(holder?, commit, env!("CARGO_PKG_VERSION")))
}

pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Whether a holder was a process of this host that is no more. A process that got its number since then only makes
/// this run wait for the lease.
pub(crate) fn is_gone(holder: &Holder) -> bool {
    let pid = i32::try_from(holder.pid).ok().and_then(rustix::process::Pid::from_raw);
    holder.host == host()
        && pid.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

/// Where the CI system that runs this shows it.
fn ci_run(read: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    if let (Some(server), Some(repository), Some(id)) =
        (read(env::GITHUB_SERVER), read(env::GITHUB_REPOSITORY), read(env::GITHUB_RUN))
    {
        return Some(format!("{server}/{repository}/actions/runs/{id}"));
    }
    env::CI_RUNS.iter().find_map(|name| read(name))
}

/// The commit of the sources, if they are in a git repository.
async fn commit(project: &Project) -> Option<Commit> {
    let sources = project.sources().ok()?;
    let git = async |args: &[&str]| -> Option<String> {
        let mut command = Command::new("git");
        command
            .arg("-C")
            .arg(sources)
            .args(args)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(GIT_TIMEOUT, command.output()).await.ok()?.ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let head = ["rev-parse", "HEAD"];
    // Without refreshing the index, which would write to the repository.
    let status = ["--no-optional-locks", "status", "--porcelain", "--untracked-files=no"];
    let (id, changed) = tokio::join!(git(&head), git(&status));
    Some(Commit { id: id?, dirty: changed.is_none_or(|changed| !changed.is_empty()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ci_run_is_named_by_its_address() {
        let read = |set: &'static [(&str, &str)]| {
            ci_run(&move |name| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(
            read(&[
                ("GITHUB_SERVER_URL", "https://github.com"),
                ("GITHUB_REPOSITORY", "a/b"),
                ("GITHUB_RUN_ID", "7"),
            ]),
            Some("https://github.com/a/b/actions/runs/7".to_owned())
        );
        assert_eq!(read(&[("CI_JOB_URL", "https://ci/1")]), Some("https://ci/1".to_owned()));
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn only_a_process_of_this_host_can_be_seen_to_be_gone() {
        let holder = |host: String, pid: u32| Holder {
            principal: "arn".into(),
            host,
            pid,
            verb: "deploy".into(),
            since_ms: 0,
            run: None,
        };
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(is_gone(&holder(host(), pid)));
        assert!(!is_gone(&holder(host(), std::process::id())));
        assert!(!is_gone(&holder("elsewhere".into(), pid)));
        assert!(!is_gone(&holder(host(), 0)));
    }
}
