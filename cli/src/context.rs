//! What every verb gets: the global options, the way out, and the wish to stop.

use tokio_util::sync::CancellationToken;

use crate::args::Global;
use crate::error::Result;
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
    pub(crate) fn project(&self) -> Result<Project> {
        Project::find(self.global.settings.as_deref())
    }
}
