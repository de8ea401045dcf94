//! `deploy`: creates a stage or brings it up to date: plan, question, apply.

use std::fmt;
use std::time::Duration;

use chat_stacks::settings::Endpoint;
use chat_stacks::status::{self, Status};
use chat_stacks::{Action, Address, Plan, PlanOptions, Stack, apply};
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;
use crate::output::plan::PlanView;
use crate::output::progress::{seconds, show};
use crate::stage::Stage;
use crate::verbs::outputs::Listing;

#[derive(Debug, Serialize)]
struct Report {
    /// Whether anything had to be changed.
    changed: bool,
    applied: Vec<Address>,
    unchanged: usize,
    elapsed_ms: u64,
    outputs: Listing,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changed {
            writeln!(f, "deployed in {}", seconds(Duration::from_millis(self.elapsed_ms)))?;
        } else {
            writeln!(f, "nothing to do: all {} resources are as declared", self.unchanged)?;
        }
        writeln!(f)?;
        self.outputs.fmt(f)
    }
}

pub(crate) async fn run(context: &Context, args: &args::Deploy) -> Result<ExitCode> {
    let work = async {
        let stage = Stage::open(context, args.cloud.port).await?;
        let options = PlanOptions { adopt: args.adopt, ..PlanOptions::of(&stage.settings) };
        let (stack, plan) = stage.plan(context, &options).await?;
        if !plan.is_empty() {
            show_plan(context, &plan);
            confirm(context, &stage, &plan).await?;
        }
        Ok::<_, CliError>((stage, stack, plan))
    };
    // Up to here nothing was changed, so there is nothing to finish either.
    let (stage, stack, plan) = tokio::select! {
        planned = work => planned?,
        () = context.stop.cancelled() => return Err(CliError::interrupted()),
    };
    let (applied, elapsed_ms) = carry_out(context, &stage, &stack, &plan).await?;
    let status = status_of(&stage).await?;
    context.output.result(&Report {
        changed: !plan.is_empty(),
        applied,
        unchanged: plan.unchanged.len(),
        elapsed_ms,
        outputs: Listing::of(&status, &stage),
    });
    Ok(ExitCode::Ok)
}

/// The plan on the way to its execution: text for people, an event for programs.
pub(crate) fn show_plan(context: &Context, plan: &Plan) {
    let view = PlanView { plan, verbose: context.output.verbosity > 0 };
    context.output.event("plan", serde_json::json!({ "plan": plan }), format!("{view}\n"));
}

/// Asks whether to go on. Additions and changes on the local cloud cost nothing and are not asked about.
async fn confirm(context: &Context, stage: &Stage, plan: &Plan) -> Result<()> {
    let harmless = stage.settings.endpoint == Endpoint::Local && plan.count(Action::Delete) == 0;
    if harmless && context.output.can_ask() {
        return Ok(());
    }
    ask(context, &format!("Deploy this to stage {}?", stage.settings.stage)).await
}

/// Asks, unless `--yes` was the answer beforehand. Without somebody to ask it refuses.
pub(crate) async fn ask(context: &Context, question: &str) -> Result<()> {
    if context.global.yes {
        return Ok(());
    }
    if !context.output.can_ask() {
        return Err(CliError::refused(
            "confirmation_needed",
            "this changes the stage, and there is no terminal to ask at",
        )
        .help("look at the plan, then add --yes"));
    }
    match context.output.ask(question, &context.stop).await {
        Some(true) => Ok(()),
        Some(false) => Err(CliError::refused("declined", "nothing was changed")),
        None => Err(CliError::interrupted()),
    }
}

/// Applies a plan under a live rendering. Stops in an orderly way when the user wants to.
pub(crate) async fn carry_out(
    context: &Context,
    stage: &Stage,
    stack: &Stack,
    plan: &Plan,
) -> Result<(Vec<Address>, u64)> {
    if plan.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let outcome = show(&context.output, plan.steps.len(), async |events| {
        apply(&stage.aws, stack, plan, &events, &context.stop).await
    })
    .await?;
    Ok((outcome.done, outcome.elapsed_ms))
}

/// What the stage looks like now.
pub(crate) async fn status_of(stage: &Stage) -> Result<Status> {
    Ok(status::of(&stage.observe().await?, &stage.settings.scope()))
}
