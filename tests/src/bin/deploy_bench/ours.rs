//! `chatctl` in release against the cloud on this machine, behind the proxy.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chat_local::{Cloud, CloudConfig};
use chat_tests::process::usage_of_tree;

use crate::proxy::Proxy;
use crate::{Act, Result, Sample};

const HANDLERS: [&str; 3] = ["connect", "disconnect", "on_message"];
/// Between two acts.
const SETTLE: Duration = Duration::from_secs(4);
/// Between two looks at what the process has used.
const LOOK: Duration = Duration::from_millis(5);

/// Builds everything that takes part, so that no compiler runs while something is measured.
pub(crate) fn build(root: &Path) -> Result<()> {
    eprintln!("deploy_bench: building chatctl (release) and the handlers (lambda)");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    for args in [
        ["--release", "--package", "chatctl", "--quiet", "--bins"].as_slice(),
        &["--profile", "lambda", "--package", "chat-functions", "--quiet", "--bins"],
    ] {
        let status = Command::new(&cargo).arg("build").args(args).current_dir(root).status();
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(format!("cargo ended with {status}")),
            Err(e) => return Err(format!("failed to run cargo: {e}")),
        }
    }
    Ok(())
}

/// Every act once, on a cloud and a project of their own.
pub(crate) async fn run(root: &Path, latency: Duration, trace: bool) -> Result<Vec<Sample>> {
    let place = tempfile::tempdir().map_err(|e| format!("no temporary directory: {e}"))?;
    let cloud = Cloud::start(CloudConfig::in_memory()).await.map_err(|e| format!("no cloud: {e}"))?;
    let proxy = Proxy::start(cloud.addr().to_string(), trace).await.map_err(|e| format!("no proxy: {e}"))?;
    proxy.delay(latency);
    let project = Project { root, place: place.path() };
    project.prepare(&proxy.endpoint()).map_err(|e| format!("failed to prepare the project: {e}"))?;
    let mut samples = Vec::new();
    for act in Act::ALL {
        if act == Act::OneFunction {
            project.change("on_message").map_err(|e| format!("failed to change a handler: {e}"))?;
        }
        let verb: &[&str] = match act {
            Act::Destroy => &["destroy"],
            Act::OneFunction => &["deploy", "--only-code"],
            Act::First | Act::NoOp => &["deploy"],
        };
        if trace {
            eprintln!("{}:", act.name());
        }
        // Whoever comes within seconds of another run observes twice, in case that was still at work.
        tokio::time::sleep(SETTLE).await;
        proxy.measure();
        let (wall, cpu) = project.chatctl(verb).await?;
        samples.push(Sample { wall, cpu, counted: proxy.measure() });
    }
    cloud.shutdown().await;
    Ok(samples)
}

struct Project<'a> {
    root: &'a Path,
    place: &'a Path,
}

impl Project<'_> {
    fn prepare(&self, endpoint: &str) -> std::io::Result<()> {
        let settings = format!(
            "app: chat\nstages:\n  bench:\n    endpoint: {endpoint}\n    auth: {{ mode: open }}\n    \
             lambda: {{ architecture: native }}\n    control_plane: {{ rate: 0 }}\n    \
             table: {{ deletion_protection: false }}\n"
        );
        fs::write(self.place.join("chat.yaml"), settings)?;
        fs::create_dir(self.place.join("handlers"))?;
        for handler in HANDLERS {
            fs::copy(
                self.root.join("target/lambda").join(handler),
                self.place.join("handlers").join(handler),
            )?;
        }
        Ok(())
    }

    /// Makes other code of a handler: what comes after an executable's sections is not loaded.
    fn change(&self, handler: &str) -> std::io::Result<()> {
        use std::io::Write as _;
        fs::OpenOptions::new()
            .append(true)
            .open(self.place.join("handlers").join(handler))?
            .write_all(b"changed")
    }

    /// Runs a verb as a whole process, and says how long it took and what it used.
    async fn chatctl(&self, verb: &[&str]) -> Result<(Duration, Duration)> {
        let mut command = Command::new(self.root.join("target/release/chatctl"));
        command
            .args(verb)
            .args(["--stage", "bench", "--yes", "--json", "--handlers"])
            .arg(self.place.join("handlers"))
            .current_dir(self.root)
            .env("CHATCTL_SETTINGS", self.place.join("chat.yaml"))
            .env("CHATCTL_STATE_DIR", self.place.join("state"))
            .env("AWS_ACCESS_KEY_ID", "chatctl")
            .env("AWS_SECRET_ACCESS_KEY", "chatctl")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let measured = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let mut child = command.spawn().map_err(|e| format!("failed to start chatctl: {e}"))?;
            let mut cpu = Duration::ZERO;
            // The pipe takes what a verb prints; one that prints more than fits would wait for a reader.
            loop {
                cpu = cpu.max(usage_of_tree(child.id()).cpu);
                match child.try_wait() {
                    Ok(Some(_)) => break,
                    Ok(None) => std::thread::sleep(LOOK),
                    Err(e) => return Err(format!("lost chatctl: {e}")),
                }
            }
            let wall = begun.elapsed();
            let output = child.wait_with_output().map_err(|e| format!("lost chatctl: {e}"))?;
            if output.status.success() {
                return Ok((wall, cpu));
            }
            let text = String::from_utf8_lossy(&output.stdout);
            Err(format!("chatctl ended with {}: {}", output.status, text.lines().last().unwrap_or_default()))
        });
        measured.await.map_err(|e| format!("the measurement broke off: {e}"))?
    }
}
