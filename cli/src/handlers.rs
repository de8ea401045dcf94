//! Builds the handlers with cargo and says which file belongs to which function. A compile error comes back as rustc
//! drew it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use chat_functions::contract::Handler;
use chat_stacks::settings::Profile;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::env;
use crate::error::{CliError, Result};
use crate::project::Project;
use crate::toolchain::Toolchain;

const PACKAGE: &str = "chat-functions";

/// Which file is which function.
pub(crate) type Binaries = BTreeMap<Handler, PathBuf>;

/// What a build produced.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) binaries: Binaries,
    pub(crate) took: Duration,
    /// Crates that were not up to date.
    pub(crate) compiled: usize,
    /// Warnings as rustc drew them.
    pub(crate) warnings: String,
}

/// How a build goes on, one line of cargo's at a time: `Compiling chat-functions v0.1.0`.
pub(crate) type OnStep<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Runs cargo in the given profile.
pub(crate) async fn build(
    project: &Project,
    toolchain: &Toolchain,
    profile: &str,
    color: bool,
    on_step: OnStep<'_>,
) -> Result<Built> {
    let started = Instant::now();
    let mut child = cargo(project, toolchain, profile, color)?.spawn().map_err(|e| {
        CliError::failed("cargo_not_found", "failed to start cargo, which builds the handlers")
            .because(&e)
            .help("install Rust from https://rustup.rs, or put cargo on the search path")
    })?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(CliError::failed("cargo_failed", "cargo has no output"));
    };
    let mut messages = Messages::default();
    let mut steps = Vec::new();
    let (mut stdout, mut stderr) = (BufReader::new(stdout).lines(), BufReader::new(stderr).lines());
    let mut errors_go_on = true;
    while !messages.finished {
        tokio::select! {
            line = stdout.next_line() => match line {
                Ok(Some(line)) => messages.take(&line),
                Ok(None) | Err(_) => break,
            },
            line = stderr.next_line(), if errors_go_on => match line {
                Ok(Some(line)) => {
                    on_step(line.trim());
                    steps.push(line);
                }
                Ok(None) | Err(_) => errors_go_on = false,
            },
        }
    }
    if messages.finished {
        // All is built, and what cargo still does until its end is for itself: nobody waits for that.
        tokio::spawn(async move {
            let (mut stdout, mut stderr) = (stdout.into_inner(), stderr.into_inner());
            let (mut nowhere, mut nowhere_either) = (tokio::io::sink(), tokio::io::sink());
            let rest = (
                tokio::io::copy_buf(&mut stdout, &mut nowhere),
                tokio::io::copy_buf(&mut stderr, &mut nowhere_either),
            );
            let _ = tokio::join!(rest.0, rest.1, child.wait());
        });
    } else {
        while let Ok(Some(line)) = stderr.next_line().await {
            on_step(line.trim());
            steps.push(line);
        }
        let status = child.wait().await;
        let status =
            status.map_err(|e| CliError::failed("cargo_failed", "failed to wait for cargo").because(&e))?;
        if !status.success() {
            return Err(messages.failure(&steps));
        }
    }
    let missing: Vec<_> =
        Handler::ALL.iter().filter(|h| !messages.binaries.contains_key(h)).map(|h| h.name()).collect();
    if !missing.is_empty() {
        return Err(CliError::failed("handler_missing", format!("cargo built no {}", missing.join(", ")))
            .help(format!("the crate {PACKAGE} must have one binary for each function")));
    }
    let Messages { binaries, compiled, warnings, .. } = messages;
    Ok(Built { binaries, took: started.elapsed(), compiled, warnings })
}

/// Handlers that were built elsewhere: one executable for each function, called as the function.
pub(crate) fn find(directory: &Path) -> Result<Built> {
    let mut binaries = BTreeMap::new();
    for handler in Handler::ALL {
        let path = directory.join(handler.name());
        if !path.is_file() {
            let message = format!("no handler {handler} in {}", directory.display());
            return Err(CliError::failed("handler_missing", message).help(format!(
                "`--handlers` wants the directory that holds {}; without it they are built",
                Handler::ALL.map(Handler::name).join(", ")
            )));
        }
        binaries.insert(handler, path);
    }
    Ok(Built { binaries, took: Duration::ZERO, compiled: 0, warnings: String::new() })
}

/// Where cargo has put the handlers the last time, unless its settings name another place.
pub(crate) fn last(sources: &Path, toolchain: &Toolchain, profile: Profile) -> Binaries {
    let target = env::read(env::CARGO_TARGET_DIR).unwrap_or_else(|| "target".to_owned());
    last_in(sources.join(target), toolchain, profile)
}

fn last_in(mut directory: PathBuf, toolchain: &Toolchain, profile: Profile) -> Binaries {
    if let Toolchain::Zigbuild { target } = toolchain {
        directory.push(target);
    }
    directory.push(profile.directory());
    let binary = |handler: Handler| (handler, directory.join(handler.name()));
    Handler::ALL.into_iter().map(binary).filter(|(_, path)| path.is_file()).collect()
}

fn cargo(project: &Project, toolchain: &Toolchain, profile: &str, color: bool) -> Result<Command> {
    let mut command = Command::new(env::read(env::CARGO).unwrap_or_else(|| "cargo".to_owned()));
    let format = if color { "json-diagnostic-rendered-ansi" } else { "json" };
    command
        // Only this package: a build of the workspace would unify its features with this program's.
        .args(toolchain.args())
        .args(["--package", PACKAGE, "--bins", "--profile", profile, "--message-format", format])
        .args(["--color", "never"])
        .current_dir(project.sources()?)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| env::CARGO_LEFTOVERS.iter().any(|left| name.starts_with(left))) {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// What cargo reported on its standard output.
#[derive(Debug, Default)]
struct Messages {
    binaries: Binaries,
    compiled: usize,
    /// Everything was built.
    finished: bool,
    errors: String,
    error_count: usize,
    warnings: String,
}

/// The parts of cargo's messages that matter here.
#[derive(Deserialize)]
#[serde(tag = "reason")]
enum Message {
    #[serde(rename = "compiler-artifact")]
    Artifact {
        target: Target,
        executable: Option<PathBuf>,
        #[serde(default)]
        fresh: bool,
    },
    #[serde(rename = "compiler-message")]
    Text { message: Diagnostic },
    #[serde(rename = "build-finished")]
    Finished { success: bool },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Diagnostic {
    level: String,
    rendered: Option<String>,
    code: Option<serde::de::IgnoredAny>,
    spans: Vec<serde::de::IgnoredAny>,
}

impl Messages {
    fn take(&mut self, line: &str) {
        match serde_json::from_str(line) {
            Ok(Message::Artifact { target, executable, fresh }) => {
                self.compiled += usize::from(!fresh);
                let handler = Handler::ALL.into_iter().find(|handler| handler.name() == target.name);
                let is_bin = target.kind.iter().any(|kind| kind == "bin");
                if let (Some(handler), Some(path), true) = (handler, executable, is_bin) {
                    self.binaries.insert(handler, path);
                }
            }
            Ok(Message::Finished { success }) => self.finished = success,
            Ok(Message::Text { message }) => {
                // "aborting due to 2 previous errors" and the like point nowhere and say nothing new.
                if message.code.is_none() && message.spans.is_empty() {
                    return;
                }
                let text = message.rendered.unwrap_or_default();
                if message.level.starts_with("error") {
                    self.error_count += 1;
                    self.errors.push_str(&text);
                } else if message.level == "warning" {
                    self.warnings.push_str(&text);
                }
            }
            Ok(_) | Err(_) => {}
        }
    }

    fn failure(self, steps: &[String]) -> CliError {
        if self.error_count == 0 {
            // Not the code but cargo itself: a broken manifest, no network, no space.
            let last: Vec<_> =
                steps.iter().skip(steps.len().saturating_sub(12)).map(String::as_str).collect();
            return CliError::failed("cargo_failed", "cargo failed to build the handlers")
                .details(last.join("\n"));
        }
        let plural = if self.error_count == 1 { "error" } else { "errors" };
        CliError::failed(
            "compile_error",
            format!("the handlers do not compile: {} {plural}", self.error_count),
        )
        .details(self.errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_yield_binaries_and_errors() {
        let mut messages = Messages::default();
        for line in [
            r#"{"reason":"compiler-artifact","target":{"name":"chat_functions","kind":["lib"]},"executable":null,"fresh":true}"#,
            r#"{"reason":"compiler-artifact","target":{"name":"on_message","kind":["bin"]},"executable":"/t/on_message"}"#,
            r#"{"reason":"compiler-message","message":{"level":"error","rendered":"error[E0425]: x\n","code":{},"spans":[{}]}}"#,
            r#"{"reason":"compiler-message","message":{"level":"error","rendered":"aborting\n","code":null,"spans":[]}}"#,
            r#"{"reason":"build-finished","success":false}"#,
            "not json",
        ] {
            messages.take(line);
        }
        assert_eq!(messages.binaries[&Handler::OnMessage], PathBuf::from("/t/on_message"));
        assert_eq!(messages.error_count, 1);
        assert_eq!(messages.compiled, 1, "one of the two was there already");
        assert!(!messages.finished, "it ended, but in vain");
        let error = messages.failure(&[]);
        assert_eq!(error.code, "compile_error");
        assert_eq!(error.details.as_deref(), Some("error[E0425]: x\n"));
    }

    #[test]
    fn handlers_that_were_built_elsewhere_must_all_be_there() {
        let directory = tempfile::tempdir().unwrap();
        for handler in Handler::ALL {
            let error = find(directory.path()).unwrap_err();
            assert_eq!(error.code, "handler_missing");
            std::fs::write(directory.path().join(handler.name()), "ELF").unwrap();
        }
        assert_eq!(find(directory.path()).unwrap().binaries.len(), Handler::ALL.len());
    }

    #[test]
    fn what_cargo_built_last_is_where_it_puts_its_profiles() {
        let sources = tempfile::tempdir().unwrap();
        let last = |toolchain, profile| last_in(sources.path().join("target"), &toolchain, profile);
        assert!(last(Toolchain::Cargo, Profile::Dev).is_empty());
        let debug = sources.path().join("target/debug");
        std::fs::create_dir_all(&debug).unwrap();
        std::fs::write(debug.join("connect"), "ELF").unwrap();
        let found = last(Toolchain::Cargo, Profile::Dev);
        assert_eq!(found, BTreeMap::from([(Handler::Connect, debug.join("connect"))]));
        assert!(last(Toolchain::Cargo, Profile::Lambda).is_empty());
        assert!(last(Toolchain::Zigbuild { target: "t" }, Profile::Dev).is_empty());
    }

    #[test]
    fn a_failure_of_cargo_itself_shows_what_cargo_said() {
        let error = Messages::default().failure(&["error: failed to parse manifest".to_owned()]);
        assert_eq!(error.code, "cargo_failed");
        assert_eq!(error.details.as_deref(), Some("error: failed to parse manifest"));
    }
}
