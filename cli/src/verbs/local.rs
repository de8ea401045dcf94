//! `local up`, `local down`, `local status`: the cloud on this machine by hand.

use std::fmt;
use std::path::Path;

use console::style;
use serde::Serialize;

use crate::args::{Local, LocalUp};
use crate::cloud::{self, Lease, Presence, Record, Stopped};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;

pub(crate) async fn run(context: &Context, verb: &Local) -> Result<ExitCode> {
    match verb {
        Local::Up(args) if args.detach && !args.background => up_detached(context, args).await,
        Local::Up(args) => up(context, args).await,
        Local::Down => down(context).await,
        Local::Status => status(context).await,
    }
}

/// What each of the verbs answers.
#[derive(Debug, Serialize)]
struct Report {
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<jiff::Timestamp>,
    /// In a word: `started`, `was_running`, `stopped`, `was_not_running`, …
    state: &'static str,
    #[serde(skip)]
    text: String,
}

impl Report {
    fn running(record: &Record, state: &'static str, text: String) -> Self {
        Self {
            running: true,
            endpoint: Some(record.endpoint()),
            pid: Some(record.pid),
            started: Some(record.started),
            state,
            text,
        }
    }

    fn gone(state: &'static str, text: impl Into<String>) -> Self {
        Self { running: false, endpoint: None, pid: None, started: None, state, text: text.into() }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a terminal sees of a running cloud.
fn describe(record: &Record, head: &str) -> String {
    format!(
        "{head} at {} (process {})\n{}",
        style(record.endpoint()).cyan(),
        record.pid,
        style("credentials for other clients: AWS_ACCESS_KEY_ID=chatctl AWS_SECRET_ACCESS_KEY=chatctl").dim()
    )
}

async fn up_detached(context: &Context, args: &LocalUp) -> Result<ExitCode> {
    let project = context.project()?;
    let (record, started) = match cloud::find(&project).await? {
        Presence::Running(record) => (record, false),
        _ if args.cloud_settings.is_some() => {
            let settings = args.cloud_settings.as_deref();
            (cloud::start_in_background(&project, args.cloud.port, settings).await?, true)
        }
        _ => cloud::ensure(&project, args.cloud.port).await?,
    };
    let report = if started {
        Report::running(&record, "started", describe(&record, "the local cloud runs in the background"))
    } else {
        Report::running(&record, "was_running", describe(&record, "the local cloud runs already"))
    };
    context.output.result(&report);
    Ok(ExitCode::Ok)
}

/// Runs the cloud in this process until it is told to stop.
async fn up(context: &Context, args: &LocalUp) -> Result<ExitCode> {
    let project = context.project()?;
    let settings = read_settings(args.cloud_settings.as_deref())?;
    let Some(lease) = Lease::take(&project).await? else {
        let record = match cloud::find(&project).await? {
            Presence::Running(record) => describe(&record, "it runs"),
            _ => "it does not answer yet".to_owned(),
        };
        return Err(CliError::refused("already_running", "another process runs this project's local cloud")
            .help(format!("use it as it is, or end it with `chatctl local down`; {record}")));
    };
    let cloud = cloud::start_here(&project, args.cloud.port, settings).await?;
    let record = lease.publish(&project, cloud.addr().port())?;
    context.output.event("ready", &record, describe(&record, "the local cloud runs"));
    if !args.background {
        context.output.note("how_to_stop", "Ctrl-C stops it");
    }

    context.stop.cancelled().await;
    cloud.shutdown().await;
    drop(lease);
    context.output.result(&Report::gone("stopped", "the local cloud stopped; its data stays"));
    Ok(ExitCode::Ok)
}

fn read_settings(path: Option<&Path>) -> Result<chat_local::Settings> {
    let Some(path) = path else { return Ok(chat_local::Settings::default()) };
    let fail = |error: &(dyn std::error::Error + 'static)| {
        CliError::new(
            ExitCode::Settings,
            "cloud_settings_invalid",
            format!("failed to read the cloud's settings from {}", path.display()),
        )
        .because(error)
    };
    let text = std::fs::read_to_string(path).map_err(|e| fail(&e))?;
    serde_json::from_str(&text).map_err(|e| fail(&e))
}

async fn down(context: &Context) -> Result<ExitCode> {
    let project = context.project()?;
    let report = match cloud::stop(&project).await? {
        Stopped::WasNotRunning { killed: None } => {
            Report::gone("was_not_running", "the local cloud was not running")
        }
        Stopped::WasNotRunning { killed: Some(record) } => Report::gone(
            "was_killed",
            format!("the local cloud (process {}) had been killed; its data is intact", record.pid),
        ),
        Stopped::Stopped { record, by_force: false } => Report::gone(
            "stopped",
            format!("stopped the local cloud (process {}); its data stays", record.pid),
        ),
        Stopped::Stopped { record, by_force: true } => Report::gone(
            "stopped_by_force",
            format!(
                "the local cloud (process {}) did not stop and was killed; its data is intact",
                record.pid
            ),
        ),
    };
    context.output.result(&report);
    Ok(ExitCode::Ok)
}

async fn status(context: &Context) -> Result<ExitCode> {
    let project = context.project()?;
    let report = match cloud::find(&project).await? {
        Presence::Running(record) => {
            Report::running(&record, "running", describe(&record, "the local cloud runs"))
        }
        Presence::Silent(record) => {
            let who = record.map_or_else(String::new, |r| format!(" (process {}, port {})", r.pid, r.port));
            Report::gone(
                "silent",
                format!("the local cloud{who} is starting, stopping or stuck: it does not answer"),
            )
        }
        Presence::Absent { killed: Some(record) } => Report::gone(
            "was_killed",
            format!("the local cloud does not run: process {} was killed; its data is intact", record.pid),
        ),
        Presence::Absent { killed: None } => {
            Report::gone("not_running", "the local cloud does not run; the next verb that needs it starts it")
        }
    };
    context.output.result(&report);
    Ok(ExitCode::Ok)
}
