//! `chatctl` in release against the cloud on this machine, behind the proxy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use chat_local::{Cloud, CloudConfig, Rule};
use chat_tests::handlers::without_leftovers;
use tempfile::TempDir;

use crate::proxy::{Behind, Proxy};
use crate::{Act, HANDLERS, Result, Sample, measure};

/// Between two acts.
const SETTLE: Duration = Duration::from_secs(4);

/// How long everything takes beside what the program itself does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings {
    /// Added to every call.
    pub(crate) latency: Duration,
    /// Limits and waits of a region.
    pub(crate) region: bool,
    /// The limit that the program sets itself: that of API Gateway, or none.
    pub(crate) own_limit: bool,
}

/// Builds everything that takes part, so that no compiler runs while something is measured.
pub(crate) fn build(root: &Path) -> Result<()> {
    eprintln!("deploy_bench: building chatctl (release) and the handlers (lambda)");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    for args in [
        ["--release", "--package", "chatctl", "--quiet", "--bins"].as_slice(),
        &["--profile", "lambda", "--package", "chat-functions", "--quiet", "--bins"],
    ] {
        let mut build = Command::new(&cargo);
        build.arg("build").args(args).current_dir(root);
        let status = without_leftovers(&mut build).status();
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(format!("cargo ended with {status}")),
            Err(e) => return Err(format!("failed to run cargo: {e}")),
        }
    }
    Ok(())
}

/// Every act once, on a cloud and a project of their own.
pub(crate) async fn run(root: &Path, latency: Duration) -> Result<Vec<(Act, Sample)>> {
    let bench = Bench::start(root, Surroundings { latency, region: false, own_limit: false }).await?;
    let mut samples = Vec::new();
    for act in Act::ALL {
        samples.push((act, bench.act(act).await?));
        if act == Act::FirstOfAccount {
            bench.act(Act::Destroy).await?;
        }
    }
    bench.end().await;
    Ok(samples)
}

/// A cloud with nothing in it, and a project to deploy to it.
pub(crate) struct Bench {
    root: PathBuf,
    place: TempDir,
    cloud: Cloud,
    proxy: Proxy,
}

impl Bench {
    pub(crate) async fn start(root: &Path, around: Surroundings) -> Result<Self> {
        let place = tempfile::tempdir().map_err(|e| format!("no temporary directory: {e}"))?;
        let cloud = Cloud::start(CloudConfig::in_memory()).await.map_err(|e| format!("no cloud: {e}"))?;
        if around.region {
            cloud.faults().set(Rule::pace_of_a_region());
        }
        let proxy = Proxy::start(cloud.addr().to_string(), Behind::Ours)
            .await
            .map_err(|e| format!("no proxy: {e}"))?;
        proxy.delay(around.latency);
        let bench = Self { root: root.to_owned(), place, cloud, proxy };
        bench.prepare(around.own_limit).map_err(|e| format!("failed to prepare the project: {e}"))?;
        Ok(bench)
    }

    fn prepare(&self, own_limit: bool) -> std::io::Result<()> {
        let place = self.place.path();
        let limit = if own_limit { "" } else { "    control_plane: { rate: 0 }\n" };
        let settings = format!(
            "app: chat\nstages:\n  bench:\n    endpoint: {}\n    auth: {{ mode: open }}\n    \
             lambda: {{ architecture: native }}\n{limit}    table: {{ deletion_protection: false }}\n",
            self.proxy.endpoint()
        );
        fs::write(place.join("chat.yaml"), settings)?;
        fs::create_dir(place.join("handlers"))?;
        for handler in HANDLERS {
            fs::copy(self.root.join("target/lambda").join(handler), place.join("handlers").join(handler))?;
        }
        Ok(())
    }

    /// Runs the verb of an act as a whole process.
    pub(crate) async fn act(&self, act: Act) -> Result<Sample> {
        if act == Act::OneFunction {
            crate::change(&self.place.path().join("handlers/on_message"))?;
        }
        let verb: &[&str] = match act {
            Act::Destroy => &["destroy"],
            Act::OneFunction => &["deploy", "--only-code"],
            Act::FirstOfAccount | Act::First | Act::NoOp => &["deploy"],
        };
        // Whoever comes within seconds of another run observes twice, in case that was still at work.
        tokio::time::sleep(SETTLE).await;
        self.proxy.measure();
        let cost = measure::run(self.chatctl(verb), &self.place.path().join("log")).await?;
        Ok(Sample { cost, counted: self.proxy.measure() })
    }

    fn chatctl(&self, verb: &[&str]) -> Command {
        let place = self.place.path();
        let mut command = Command::new(self.root.join("target/release/chatctl"));
        command
            .args(verb)
            .args(["--stage", "bench", "--yes", "--json", "--handlers"])
            .arg(place.join("handlers"))
            .current_dir(&self.root)
            .env("CHATCTL_SETTINGS", place.join("chat.yaml"))
            .env("CHATCTL_STATE_DIR", place.join("state"))
            .env("AWS_ACCESS_KEY_ID", "chatctl")
            .env("AWS_SECRET_ACCESS_KEY", "chatctl")
            .env("AWS_EC2_METADATA_DISABLED", "true");
        command
    }

    pub(crate) async fn end(self) {
        self.cloud.shutdown().await;
    }
}
