//! `drift`: what somebody else changed in the account since the last run. It needs no handlers and changes nothing.

use std::fmt;

use chat_stacks::drift::{Drift, drift};
use chat_stacks::ledger::{Outcome, Record};
use console::style;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;
use crate::output::changes;
use crate::stage::Stage;

#[derive(Debug, Serialize)]
struct Report {
    drift: Vec<Drift>,
    /// The newest run did not succeed, so differences may be its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    unfinished_run: Option<u64>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(run) = self.unfinished_run {
            writeln!(
                f,
                "{}",
                style(format!("run {run} did not succeed: some of this may be its work")).yellow()
            )?;
        }
        if self.drift.is_empty() {
            return f.write_str("no drift: everything is as the last run left it");
        }
        for drift in &self.drift {
            writeln!(f, "  {} {}", style(drift.kind).cyan(), style(&drift.resource).bold())?;
            for change in &drift.changes {
                for part in changes::between(&change.property, change.left.as_ref(), change.found.as_ref()) {
                    let (left, found) = (changes::text(part.old), changes::text(part.new));
                    writeln!(f, "      {}: {left} → {found}", part.path)?;
                }
            }
        }
        write!(
            f,
            "\n{}",
            style("the next deploy repairs what is declared otherwise; `chatctl plan` shows it").dim()
        )
    }
}

pub(crate) async fn run(context: &Context, args: &args::Drift) -> Result<ExitCode> {
    let stage = Stage::open(context, args.cloud.port).await?;
    let ledger = stage.ledger();
    let left = async { Ok::<_, CliError>(ledger.left().await?) };
    let (observed, (applied, newest)) = tokio::try_join!(stage.observe(), left)?;
    observed.require_direct(&stage.settings.scope())?;
    let Some(applied) = applied else {
        let scope = stage.settings.scope();
        if observed.is_empty() {
            let (app, stage) = (scope.app.to_string(), scope.stage.to_string());
            return Err(chat_stacks::Error::NotDeployed { app, stage }.into());
        }
        return Err(CliError::failed(
            "nothing_recorded",
            format!("no run has written down how it left stage {}", scope.stage),
        )
        .help("`chatctl plan` compares it with what is declared; the next deploy writes it down"));
    };
    let is_unfinished = |run: &Record| run.outcome != Outcome::Succeeded;
    let report = Report {
        drift: drift(&applied, &observed),
        unfinished_run: newest.filter(is_unfinished).map(|run| run.number),
    };
    let code = match args.detailed_exitcode && !report.drift.is_empty() {
        true => ExitCode::Changes,
        false => ExitCode::Ok,
    };
    context.output.result(&report);
    Ok(code)
}
