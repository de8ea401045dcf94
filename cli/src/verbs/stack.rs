//! `deploy`, `plan` and `destroy` by CloudFormation: the same questions and the same pictures, carried out by a stack.

use chat_stacks::cloudformation::{self, Preparation, Prepared, Template};
use chat_stacks::{Artifacts, Kind, PlanOptions, Stack, Verification, verify_gone, verify_stack};

use super::deploy::{ask, confirm, show_plan, status_of};
use super::outputs::Listing;
use super::{deploy, destroy, plan};
use crate::args;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;
use crate::output::progress::show;
use crate::stage::Stage;

pub(crate) async fn deploy(context: &Context, args: &args::Deploy) -> Result<ExitCode> {
    if args.adopt {
        return Err(CliError::usage("adopt_not_possible", "CloudFormation takes nothing over in a deploy")
            .help("`chatctl eject` hands over what was deployed without it"));
    }
    if args.only_code {
        return Err(CliError::usage("only_code_not_possible", "a stack is changed as a whole")
            .help("leave --only-code out: a change set holds what differs and nothing else"));
    }
    let work = async {
        let stage = Stage::open(context, args.cloud.port).await?;
        let prepared = prepare(context, &stage).await?;
        if !prepared.plan.is_empty() {
            show_plan(context, &prepared.plan);
            if let Err(declined) = confirm(context, &stage, &prepared.plan).await {
                cloudformation::discard(&stage.aws, &prepared).await?;
                return Err(declined);
            }
        }
        Ok((stage, prepared))
    };
    let (stage, prepared) = context.unless_stopped(work).await?;
    let plan = &prepared.plan;
    let outcome = if plan.is_empty() {
        Default::default()
    } else {
        show(&context.output, plan.steps.len(), async |events| {
            cloudformation::execute(&stage.aws, &prepared, &events, &context.stop).await
        })
        .await?
    };
    let status = status_of(&stage).await?;
    let verification = stage.verification(args.verify)?.filter(|_| !plan.is_empty());
    let verified = match (verification, &status.websocket_url) {
        (Some(Verification { check, .. }), Some(url)) => {
            let verify = async |events| {
                let scope = stage.settings.scope();
                verify_stack(&stage.aws, &scope, url, &check, &events, &context.stop).await
            };
            Some(show(&context.output, 0, verify).await?)
        }
        _ => None,
    };
    context.output.result(&deploy::Report {
        changed: !plan.is_empty(),
        applied: outcome.done,
        unchanged: plan.unchanged.len(),
        elapsed_ms: outcome.elapsed_ms,
        verified,
        outputs: Listing::of(&status, &stage),
    });
    Ok(ExitCode::Ok)
}

pub(crate) async fn plan(context: &Context, args: &args::Plan) -> Result<ExitCode> {
    let stage = Stage::open(context, args.cloud.port).await?;
    let prepared = prepare(context, &stage).await?;
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

async fn prepare(context: &Context, stage: &Stage) -> Result<Prepared> {
    let (template, artifacts) = template(context, stage).await?;
    loop {
        match cloudformation::prepare(&stage.aws, &template, &artifacts).await? {
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
    let work = async {
        let stage = Stage::open(context, args.cloud.port).await?;
        let stack = Stack::empty(stage.settings.scope());
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
        Ok((stage, stack, plan))
    };
    let (stage, stack, plan) = context.unless_stopped(work).await?;
    let known: Vec<_> = plan.steps.iter().map(|step| step.resource.clone()).collect();
    let outcome = show(&context.output, known.len(), async |events| {
        cloudformation::delete(&stage.aws, stack.scope(), &known, &events, &context.stop).await
    })
    .await?;
    verify_gone(&stage.aws, stack.scope()).await?;
    if !outcome.done.is_empty() {
        let bucket = cloudformation::bucket_of(&stage.aws, stack.scope()).await?;
        let text = format!("the bucket {bucket} stays: all stages of the app have their code in it");
        context.output.note("bucket_stays", &text);
    }
    context.output.result(&destroy::Report { deleted: outcome.done, elapsed_ms: outcome.elapsed_ms });
    Ok(ExitCode::Ok)
}
