//! The tools that people deploy such a stack with: installed from their registries into `target/bench/deploy`, by the
//! pinned lists in `tests/bench/deploy`, and run against moto behind the same proxy.

mod install;
mod tool;

use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

pub(crate) use self::install::Installed;
pub(crate) use self::tool::Tool;
use crate::moto::Moto;
use crate::proxy::{Behind, Proxy};
use crate::{Act, HANDLERS, Result, Sample, measure};

/// Named in the output, since somebody will look for it.
pub(crate) const ABSENT: &str =
    "`@go-to-k/cdkd` does not run here: the npm registry has no package of this name";

/// Every act once, against an empty moto and in a project of its own.
pub(crate) async fn run(
    root: &Path,
    installed: &Installed,
    moto: &Moto,
    tool: Tool,
    latency: Duration,
) -> Result<Vec<(Act, Sample)>> {
    moto.reset().await?;
    let proxy = Proxy::start(moto.authority().to_owned(), Behind::Moto)
        .await
        .map_err(|e| format!("no proxy: {e}"))?;
    let project = Project::lay_out(root, installed, tool)
        .map_err(|e| format!("failed to prepare the project of {}: {e}", tool.name()))?;
    // What an account has before the first deploy with this tool is not part of it.
    if let Some(bucket) = tool.bucket() {
        moto.create_bucket(bucket).await?;
    }
    if let Some(args) = tool.bootstrap() {
        measure::run(project.command(&proxy, args), &project.log()).await?;
    }
    proxy.delay(latency);
    let mut samples = Vec::new();
    for act in Act::ALL.into_iter().filter(|act| *act != Act::FirstOfAccount) {
        if act == Act::OneFunction {
            crate::change(&project.place.path().join("handlers/on_message/bootstrap"))?;
        }
        proxy.measure();
        let cost = measure::run(project.command(&proxy, tool.args(act)), &project.log()).await?;
        samples.push((act, Sample { cost, counted: proxy.measure() }));
    }
    Ok(samples)
}

/// A copy of the tool's project, with the handlers beside it as the tool wants them.
struct Project<'a> {
    place: TempDir,
    installed: &'a Installed,
    tool: Tool,
}

impl<'a> Project<'a> {
    fn lay_out(root: &Path, installed: &'a Installed, tool: Tool) -> std::io::Result<Self> {
        let place = tempfile::tempdir()?;
        for entry in fs::read_dir(root.join("tests/bench/deploy").join(tool.folder()))? {
            let entry = entry?;
            fs::copy(entry.path(), place.path().join(entry.file_name()))?;
        }
        std::os::unix::fs::symlink(installed.node_modules(), place.path().join("node_modules"))?;
        fs::create_dir(place.path().join("home"))?;
        for handler in HANDLERS {
            let folder = place.path().join("handlers").join(handler);
            fs::create_dir_all(&folder)?;
            fs::copy(root.join("target/lambda").join(handler), folder.join("bootstrap"))?;
        }
        Ok(Self { place, installed, tool })
    }

    fn command(&self, proxy: &Proxy, args: &[&str]) -> std::process::Command {
        let mut command = self.tool.program(self.installed);
        command.args(args).current_dir(self.place.path());
        tool::environment(&mut command, &proxy.endpoint(), &self.place.path().join("home"));
        command
    }

    fn log(&self) -> std::path::PathBuf {
        self.place.path().join("log")
    }
}
