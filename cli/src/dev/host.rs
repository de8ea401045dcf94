//! The local cloud of a `dev` run: its own, in this process, or one that ran already and goes on running.

use chat_local::Cloud;

use crate::cloud::{self, Lease, Presence, Record};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::project::Project;

pub(crate) enum Host {
    Own { cloud: Cloud, lease: Lease, record: Record },
    Other { record: Record },
}

impl Host {
    /// Starts a cloud in this process unless the project's cloud runs already. `fresh` forgets its data first.
    pub(crate) async fn start(context: &Context, project: &Project, port: u16, fresh: bool) -> Result<Self> {
        let Some(lease) = Lease::take(project).await? else {
            return Self::join(context, project, port, fresh).await;
        };
        if fresh {
            forget(project)?;
        }
        let cloud = cloud::start_here(project, port, chat_local::Settings::default()).await?;
        let record = lease.publish(project, cloud.addr().port())?;
        Ok(Self::Own { cloud, lease, record })
    }

    async fn join(context: &Context, project: &Project, port: u16, fresh: bool) -> Result<Self> {
        if fresh {
            return Err(CliError::refused(
                "already_running",
                "the local cloud runs, so its data cannot be forgotten",
            )
            .help("stop it first: chatctl local down"));
        }
        // It may have been on its way down, and then another takes its place.
        let (record, _) = cloud::ensure(project, port).await?;
        let text = format!("the local cloud runs already at {} and goes on after this", record.endpoint());
        context.output.note("cloud_was_running", &text);
        Ok(Self::Other { record })
    }

    pub(crate) fn record(&self) -> &Record {
        match self {
            Self::Own { record, .. } | Self::Other { record } => record,
        }
    }

    /// Waits until a cloud of another process is gone; one of our own does not go before us.
    pub(crate) async fn lost(&self, project: &Project) {
        loop {
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            if matches!(self, Self::Other { .. })
                && matches!(cloud::find(project).await, Ok(Presence::Absent { .. }))
            {
                return;
            }
        }
    }

    /// Ends what is ours: no process of a function is left when this returns.
    pub(crate) async fn stop(self) {
        match self {
            Self::Own { cloud, lease, .. } => {
                cloud.shutdown().await;
                drop(lease);
            }
            Self::Other { .. } => {}
        }
    }
}

fn forget(project: &Project) -> Result<()> {
    match std::fs::remove_dir_all(project.state("data")) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(project.unwritable(&e)),
    }
}
