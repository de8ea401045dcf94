//! `deploy`, `plan` and `destroy` by CloudFormation: the same questions and the same pictures, carried out by a stack.

use std::time::{Duration, Instant};

use chat_stacks::cloudformation::{self, Preparation, Prepared, Template};
use chat_stacks::ledger::{Changes, Ledger, NAME, Pointers, Record, Ticket};
use chat_stacks::{
    Artifacts, Error, Events, Kind, PlanOptions, Stack, StackProblem, WayBack, observe, status, under_lock,
    verify_change, verify_gone,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::deploy::{ask, confirm, show_plan};
use super::outputs::Listing;
use super::{deploy, destroy, plan};
use crate::args;
use crate::change::again_if_overtaken;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;
use crate::output::progress::show;
use crate::stage::Stage;
use crate::who;

/// Between two looks at a stack that CloudFormation is at work on.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

pub(crate) async fn deploy(context: &Context, args: &args::Deploy) -> Result<ExitCode> {
    if args.adopt {
        return Err(CliError::usage("adopt_not_possible", "CloudFormation takes nothing over in a deploy")
            .help("`chatctl eject` hands over what was deployed without it"));
    }
    if args.only_code {
        return Err(CliError::usage("only_code_not_possible", "a stack is changed as a whole")
            .help("leave --only-code out: a change set holds what differs and nothing else"));
    }
    let wait = Duration::from_secs(args.lock.lock_timeout);
    let report =
        again_if_overtaken(context, wait, async |wait| deploy_once(context, args, wait).await).await?;
    context.output.result(&report);
    Ok(ExitCode::Ok)
}

async fn deploy_once(context: &Context, args: &args::Deploy, wait: Duration) -> Result<deploy::Report> {
    let look = async {
        let stage = Stage::open(context, args.cloud.port).await?;
        // Before the stack is looked at: of one that somebody works on no change set can be made.
        let run = Run::open(context, &stage, args.no_ledger, wait).await?;
        let prepared = prepare(context, &stage, wait).await?;
        // Not before: somebody may have worked on it until now.
        let observed = stage.observe().await?;
        if !prepared.plan.is_empty() {
            show_plan(context, &prepared.plan);
            if let Err(declined) = confirm(context, &stage, &prepared.plan).await {
                cloudformation::discard(&stage.aws, &prepared).await?;
                return Err(declined);
            }
        }
        Ok((stage, run, prepared, observed))
    };
    let (stage, run, prepared, observed) = context.unless_stopped(look).await?;
    let scope = stage.settings.scope();
    let plan = &prepared.plan;
    let unchanged = plan.unchanged.len();
    if plan.is_empty() {
        let outputs = Listing::of(&status::of(&observed, &scope), &stage);
        return Ok(deploy::Report {
            changed: false,
            applied: Vec::new(),
            unchanged,
            elapsed_ms: 0,
            verified: None,
            outputs,
        });
    }
    let verification = stage.verification(args.verify)?;
    let record = Record {
        changes: Changes::of(plan),
        before: Pointers::of(&observed, &scope),
        ..who::record(&stage, "deploy").await?
    };
    let ((outcome, status), record) = show(&context.output, plan.steps.len(), async |events| {
        let work = async |record: &mut Record, cancel: CancellationToken| {
            let outcome = cloudformation::execute(&stage.aws, &prepared, &events, &cancel).await?;
            let observed = observe(&stage.aws, &scope).await?;
            record.after = Some(Pointers::of(&observed, &scope));
            let status = status::of(&observed, &scope);
            if let (Some(verification), Some(url)) = (&verification, &status.websocket_url) {
                let back = WayBack::Stack(&prepared);
                verify_change(&run.ledger, url, verification, back, record, &events, &cancel).await?;
            }
            Ok((outcome, status))
        };
        run.carry_out(context, &stage, record, false, &events, work).await
    })
    .await?;
    Ok(deploy::Report {
        changed: true,
        applied: outcome.done,
        unchanged,
        elapsed_ms: outcome.elapsed_ms,
        verified: record.verified,
        outputs: Listing::of(&status, &stage),
    })
}

pub(crate) async fn plan(context: &Context, args: &args::Plan) -> Result<ExitCode> {
    let stage = Stage::open(context, args.cloud.port).await?;
    let prepared = prepare(context, &stage, Duration::ZERO).await?;
    if !prepared.plan.is_empty() {
        cloudformation::discard(&stage.aws, &prepared).await?;
    }
    let verbose = context.output.verbosity > 0;
    let changes = !prepared.plan.is_empty();
    context.output.result(&plan::Report { changes, plan: prepared.plan, verbose, markdown: args.markdown });
    Ok(if changes && args.detailed_exitcode { ExitCode::Changes } else { ExitCode::Ok })
}

/// The template of the stage, and its code.
pub(crate) async fn template(context: &Context, stage: &Stage) -> Result<(Template, Artifacts)> {
    let artifacts = stage.artifacts(context).await?;
    Ok((cloudformation::synth(&stage.settings, &artifacts)?, artifacts))
}

/// Makes a change set. If CloudFormation is at work on the stack it waits for the end of that, as long as `wait`.
async fn prepare(context: &Context, stage: &Stage, wait: Duration) -> Result<Prepared> {
    let (template, artifacts) = template(context, stage).await?;
    let started = Instant::now();
    let mut told = false;
    loop {
        let preparation = match cloudformation::prepare(&stage.aws, &template, &artifacts).await {
            Err(Error::Stack { problem: StackProblem::Busy, what, .. }) if started.elapsed() < wait => {
                if !std::mem::replace(&mut told, true) {
                    context.output.note("stack_busy", &format!("{what}; waiting"));
                }
                sleep(LOOK_AGAIN.min(wait.saturating_sub(started.elapsed()))).await;
                continue;
            }
            preparation => preparation?,
        };
        match preparation {
            Preparation::Ready(prepared) => return Ok(*prepared),
            Preparation::DeleteFirst => {
                let text = "the stack's creation failed before and was rolled back: it can only be deleted";
                context.output.note("stack_rolled_back", text);
                ask(context, "Delete what is left of it?").await?;
                let scope = stage.settings.scope();
                show(&context.output, 0, async |events| {
                    cloudformation::delete(&stage.aws, &scope, &[], &events, &context.stop).await
                })
                .await?;
            }
        }
    }
}

pub(crate) async fn destroy(context: &Context, args: &args::Destroy) -> Result<ExitCode> {
    if args.drop_deletion_protection {
        return Err(CliError::usage(
            "protection_stays",
            "the template protects the table, and CloudFormation does what the template says",
        )
        .help(
            "set `table: { deletion_protection: false }`, deploy with --engine cloudformation, then destroy",
        ));
    }
    let wait = Duration::from_secs(args.lock.lock_timeout);
    let report =
        again_if_overtaken(context, wait, async |wait| destroy_once(context, args, wait).await).await?;
    context.output.result(&report);
    Ok(ExitCode::Ok)
}

async fn destroy_once(context: &Context, args: &args::Destroy, wait: Duration) -> Result<destroy::Report> {
    let look = async {
        let stage = Stage::open(context, args.cloud.port).await?;
        let stack = Stack::empty(stage.settings.scope());
        let run = Run::open(context, &stage, args.no_ledger, wait).await?;
        let (observed, has_stack) = tokio::try_join!(stage.observe(), async {
            Ok(cloudformation::is_deployed(&stage.aws, stack.scope()).await?)
        })?;
        if !has_stack && !observed.is_empty() {
            let name = &stage.settings.stage;
            return Err(CliError::refused(
                "other_engine",
                format!("stage {name} is deployed without CloudFormation"),
            )
            .help("destroy it without --engine"));
        }
        let plan = chat_stacks::plan(&stack, &observed, &PlanOptions::of(&stage.settings))?;
        if has_stack {
            show_plan(context, &plan);
            let data = plan.steps.iter().any(|step| step.resource.kind == Kind::Table);
            let what = if data { ", with every message in it" } else { "" };
            ask(context, &format!("Delete the stack with all of this{what}?")).await?;
        }
        Ok((stage, run, plan, observed, has_stack))
    };
    let (stage, run, plan, observed, has_stack) = context.unless_stopped(look).await?;
    let scope = stage.settings.scope();
    let known: Vec<_> = plan.steps.iter().map(|step| step.resource.clone()).collect();
    let record = Record {
        changes: Changes::of(&plan),
        before: Pointers::of(&observed, &scope),
        ..who::record(&stage, "destroy").await?
    };
    let outcome = show(&context.output, known.len(), async |events| {
        let work = async |_: &mut Record, cancel: CancellationToken| {
            cloudformation::delete(&stage.aws, &scope, &known, &events, &cancel).await
        };
        if !has_stack {
            // At most the shell of a stack that nothing was made of.
            let outcome = work(&mut record.clone(), context.stop.clone()).await?;
            run.forget(&record).await?;
            return Ok(outcome);
        }
        let (outcome, _) = run.carry_out(context, &stage, record, true, &events, work).await?;
        Ok::<_, CliError>(outcome)
    })
    .await?;
    if !outcome.done.is_empty() {
        let bucket = cloudformation::bucket_of(&stage.aws, &scope).await?;
        let text = format!("the bucket {bucket} stays: all stages of the app have their code in it");
        context.output.note("bucket_stays", &text);
    }
    Ok(destroy::Report { deleted: outcome.done, elapsed_ms: outcome.elapsed_ms })
}

/// A run that is locked and written down like any other, unless nobody wants that: a stack locks itself.
struct Run {
    ledger: Ledger,
    ticket: Option<Ticket>,
}

impl Run {
    async fn open(context: &Context, stage: &Stage, no_ledger: bool, wait: Duration) -> Result<Self> {
        let ledger = stage.ledger();
        let ticket = if no_ledger {
            None
        } else {
            Some(stage.open_ledger(context, &ledger, wait).await.map_err(or_without)?)
        };
        Ok(Self { ledger, ticket })
    }

    async fn carry_out<T>(
        &self,
        context: &Context,
        stage: &Stage,
        mut record: Record,
        last: bool,
        events: &Events,
        work: impl AsyncFnOnce(&mut Record, CancellationToken) -> Result<T, Error>,
    ) -> Result<(T, Record)> {
        if let Some(ticket) = &self.ticket {
            let done = under_lock(&self.ledger, ticket, record, last, events, &context.stop, work);
            return Box::pin(done).await.map_err(|error| or_without(error.into()));
        }
        let done = Box::pin(work(&mut record, context.stop.clone())).await?;
        if last {
            verify_gone(&stage.aws, &stage.settings.scope()).await?;
        }
        Ok((done, record))
    }

    /// Removes the lock of a stage that is gone already.
    async fn forget(&self, record: &Record) -> Result<()> {
        match self.ticket.as_ref().filter(|ticket| ticket.has_lock()) {
            Some(ticket) => Ok(self.ledger.forget(ticket, &record.by).await?),
            None => Ok(()),
        }
    }
}

/// Who may use CloudFormation alone is told how to go on.
fn or_without(error: CliError) -> CliError {
    if error.is_denied() {
        return error.help(format!(
            "lock and history are in the table `{NAME}`, which a principal needs access to; `--no-ledger` goes without \
             both"
        ));
    }
    error
}
