//! What every verb gets: the global options, the way out, and the wish to stop.

use tokio_util::sync::CancellationToken;

use crate::args::Global;
use crate::error::{CliError, Result};
use crate::output::Output;
use crate::project::Project;

/// Made once by `main`.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) output: Output,
    /// Cancelled by the first Ctrl-C or SIGTERM; the second ends the process.
    pub(crate) stop: CancellationToken,
}

impl Context {
    /// Does something that leaves nothing to finish when the user wants to stop.
    pub(crate) async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            result = work => result,
            () = self.stop.cancelled() => Err(CliError::interrupted()),
        }
    }

    pub(crate) fn project(&self) -> Result<Project> {
        Project::find(self.global.settings.as_deref())
    }
}
