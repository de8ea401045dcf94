//! `deploy`: creates a stage or brings it up to date: plan, question, apply.

use std::fmt;
use std::time::{Duration, Instant};

use chat_stacks::settings::Endpoint;
use chat_stacks::status::{self, Status};
use chat_stacks::{Action, Address, Plan, PlanOptions};
use serde::Serialize;

use crate::args::{self, Engine};
use crate::building::Build;
use crate::change::again_if_overtaken;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;
use crate::output::plan::PlanView;
use crate::output::progress::seconds;
use crate::preflight::Preflight;
use crate::stage::Stage;
use crate::verbs::outputs::Listing;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether anything had to be changed.
    pub(super) changed: bool,
    pub(super) applied: Vec<Address>,
    pub(super) unchanged: usize,
    pub(super) elapsed_ms: u64,
    /// What a client has seen of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) verified: Option<String>,
    pub(super) outputs: Listing,
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

/// What the short path did.
#[derive(Debug, Serialize)]
struct CodeReport {
    changed: bool,
    functions: Vec<String>,
    elapsed_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    websocket_url: Option<String>,
}

impl fmt::Display for CodeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.changed {
            return f.write_str("nothing to do: the code is what serves already");
        }
        let took = seconds(Duration::from_millis(self.elapsed_ms));
        write!(f, "{} cut over in {took}; connections stayed open", self.functions.join(", "))
    }
}

pub(crate) async fn run(context: &Context, args: &args::Deploy) -> Result<ExitCode> {
    if args.engine == Engine::Cloudformation {
        return super::stack::deploy(context, args).await;
    }
    require_ledger(args.no_ledger)?;
    let wait = Duration::from_secs(args.lock.lock_timeout);
    if args.only_code {
        let report =
            again_if_overtaken(context, wait, async |wait| only_code(context, args, wait).await).await?;
        context.output.result(&report);
        return Ok(ExitCode::Ok);
    }
    let report = again_if_overtaken(context, wait, async |wait| deploy(context, args, wait).await).await?;
    context.output.result(&report);
    Ok(ExitCode::Ok)
}

/// Calls that are made from here are kept apart by the lock alone; a stack locks itself.
pub(super) fn require_ledger(no_ledger: bool) -> Result<()> {
    if no_ledger {
        return Err(CliError::usage("ledger_needed", "only a stack can be changed without the stage's lock")
            .help("leave --no-ledger out, or add --engine cloudformation"));
    }
    Ok(())
}

/// The short path.
async fn only_code(context: &Context, args: &args::Deploy, wait: Duration) -> Result<CodeReport> {
    let open = async {
        let stage = Stage::open(context, args.cloud.port).await?;
        let artifacts = stage.artifacts(context).await?;
        if stage.settings.endpoint != Endpoint::Local || !context.output.can_ask() {
            ask(context, &format!("Cut stage {} over to changed code?", stage.settings.stage)).await?;
        }
        Ok((stage, artifacts))
    };
    let (stage, artifacts) = context.unless_stopped(open).await?;
    let started = Instant::now();
    let done = stage.cut_over(context, "deploy", wait, &artifacts, args.verify, true).await?;
    Ok(CodeReport {
        changed: !done.functions.is_empty(),
        functions: done.functions,
        elapsed_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        verified: done.verified,
        websocket_url: done.url,
    })
}

async fn deploy(context: &Context, args: &args::Deploy, wait: Duration) -> Result<Report> {
    let open = async { Stage::open(context, args.cloud.port).await };
    // Up to the lock nothing is changed, so there is nothing to finish either.
    let stage = context.unless_stopped(open).await?;
    let plan = async {
        let options = PlanOptions { adopt: args.adopt, ..PlanOptions::of(&stage.settings) };
        let preflight = Preflight::start(&stage, args.no_preflight);
        let mut build = Build::begin(stage.artifacts(context));
        let ((), seen) = build.beside(stage.look(context, wait, async { Ok(()) })).await?;
        build.for_plan_of(&seen.observed).await?;
        let (stack, plan) =
            stage.compare(build.building(), &seen.observed, seen.ticket.applied(), &options).await?;
        if !plan.is_empty() {
            show_plan(context, &plan);
            let agree = async {
                preflight.check(context, &plan).await?;
                confirm(context, &stage, &plan).await
            };
            build.beside(agree).await?;
        }
        Ok((build, stack, plan, seen))
    };
    let (build, stack, plan, seen) = context.unless_stopped(plan).await?;
    let verification = stage.verification(args.verify)?;
    let done = build.through(stage.carry_out(context, "deploy", seen, &stack, &plan, verification)).await?;
    Ok(Report {
        changed: !plan.is_empty(),
        applied: done.outcome.done,
        unchanged: plan.unchanged.len(),
        elapsed_ms: done.outcome.elapsed_ms,
        verified: done.verified,
        outputs: Listing::of(&status::of(&done.observed, stack.scope()), &stage),
    })
}

/// The plan on the way to its execution: text for people, an event for programs.
pub(crate) fn show_plan(context: &Context, plan: &Plan) {
    let view = PlanView { plan, verbose: context.output.verbosity > 0 };
    context.output.event("plan", serde_json::json!({ "plan": plan }), format!("{view}\n"));
}

/// Asks whether to go on. Additions and changes on the local cloud cost nothing and are not asked about.
pub(super) async fn confirm(context: &Context, stage: &Stage, plan: &Plan) -> Result<()> {
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

/// What the stage looks like now.
pub(crate) async fn status_of(stage: &Stage) -> Result<Status> {
    Ok(status::of(&stage.observe().await?, &stage.settings.scope()))
}
