//! `rollback`: what served after an earlier run serves again. Aliases and the API's stage are moved, and nothing else.

use std::fmt;
use std::time::{Duration, Instant};

use chat_stacks::ledger::{Changes, Record};
use chat_stacks::pointers::{self, Move};
use chat_stacks::rollback::{Target, target};
use chat_stacks::{Error, WayBack, status, under_lock, verify_change};
use console::style;
use serde::Serialize;

use crate::args;
use crate::change::again_if_overtaken;
use crate::context::Context;
use crate::error::Result;
use crate::exit_codes::ExitCode;
use crate::output::progress::{seconds, show};
use crate::stage::Stage;
use crate::verbs::deploy::ask;
use crate::who;

/// More runs than anybody goes back over.
const RUNS: usize = 1_000;

#[derive(Debug, Serialize)]
struct Report {
    /// The run that serves again.
    to: u64,
    moved: Vec<Move>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<String>,
    elapsed_ms: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.moved.is_empty() {
            return write!(f, "nothing to do: what served after run {} serves now", self.to);
        }
        let took = seconds(Duration::from_millis(self.elapsed_ms));
        write!(f, "rolled back to run {} in {took}; connections stayed open", self.to)?;
        write!(f, "\n{}", style("the sources are as they were: the next deploy brings them back").dim())
    }
}

pub(crate) async fn run(context: &Context, args: &args::Rollback) -> Result<ExitCode> {
    let wait = Duration::from_secs(args.lock.lock_timeout);
    let report = again_if_overtaken(context, wait, async |wait| rollback(context, args, wait).await).await?;
    context.output.result(&report);
    Ok(ExitCode::Ok)
}

async fn rollback(context: &Context, args: &args::Rollback, wait: Duration) -> Result<Report> {
    let stage = context.unless_stopped(Stage::open(context, args.cloud.port)).await?;
    let scope = stage.settings.scope();
    let look = async {
        let ledger = stage.ledger();
        let history = async { Ok(ledger.history(RUNS).await?) };
        let (history, seen) = stage.look(context, wait, history).await?;
        let now = chat_stacks::ledger::Pointers::of(&seen.observed, &scope);
        let Some(api) = now.api.clone() else {
            let (app, stage) = (scope.app.to_string(), scope.stage.to_string());
            return Err(Error::NotDeployed { app, stage }.into());
        };
        let target = target(&history, &now, args.to)?;
        let missing = pointers::missing(&stage.aws, &scope, &api, &target.moves).await?;
        if !missing.is_empty() {
            let why = format!(
                "of run {} these are gone, since only the last 5 are kept: {}",
                target.number,
                missing.join(", ")
            );
            return Err(Error::CannotRollBack { why }.into());
        }
        if !target.moves.is_empty() {
            show_moves(context, &target);
            ask(
                context,
                &format!("Let stage {} serve what it served after run {}?", scope.stage, target.number),
            )
            .await?;
        }
        Ok((seen, now, api, target))
    };
    let (seen, now, api, Target { number, moves }) = context.unless_stopped(look).await?;
    if moves.is_empty() {
        return Ok(Report { to: number, moved: moves, verified: None, elapsed_ms: 0 });
    }
    let record = Record {
        changes: Changes {
            update: moves.len(),
            steps: moves.iter().map(ToString::to_string).collect(),
            ..Changes::default()
        },
        before: now,
        restores: Some(number),
        ..who::record(&stage, "rollback").await?
    };
    let url = status::of(&seen.observed, &scope).websocket_url;
    let verification = stage.verification(args.verify)?;
    let started = Instant::now();
    let change = show(&context.output, 0, async |events| {
        let work = async |record: &mut Record, cancel| {
            pointers::point(&stage.aws, &scope, &api, &moves).await?;
            let mut after = record.before.clone();
            for one in &moves {
                match one {
                    Move::Version { function, to, .. } => {
                        after.versions.insert(function.clone(), to.clone());
                    }
                    Move::Deployment { to, .. } => after.deployment = Some(to.clone()),
                }
            }
            record.leaves = seen.ticket.applied().cloned().map(|mut applied| {
                applied.point(&scope, &after);
                applied
            });
            record.after = Some(after);
            match (&verification, &url) {
                (Some(verification), Some(url)) => {
                    verify_change(
                        &seen.ledger,
                        url,
                        verification,
                        WayBack::Pointers,
                        record,
                        &events,
                        &cancel,
                    )
                    .await
                }
                _ => Ok(()),
            }
        };
        Box::pin(under_lock(&seen.ledger, &seen.ticket, record, false, &events, &context.stop, work)).await
    });
    let ((), record) = change.await?;
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Report { to: number, moved: moves, verified: record.verified, elapsed_ms })
}

fn show_moves(context: &Context, target: &Target) {
    let lines: Vec<String> =
        target.moves.iter().map(|one| format!("  {} {one}", style("~").for_stderr().yellow())).collect();
    let data = serde_json::json!({ "to": target.number, "moves": target.moves });
    context.output.event("moves", data, lines.join("\n"));
}
