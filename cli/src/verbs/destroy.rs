//! `destroy`: deletes everything of a stage, which is deploying the empty stack.

use std::fmt;
use std::time::Duration;

use chat_stacks::{Address, Kind, Observed, Plan, PlanOptions, Stack, plan};
use serde::Serialize;

use crate::args::{self, Engine};
use crate::change::again_if_overtaken;
use crate::context::Context;
use crate::error::Result;
use crate::exit_codes::ExitCode;
use crate::output::progress::seconds;
use crate::preflight::Preflight;
use crate::stage::Stage;
use crate::verbs::deploy::{ask, require_ledger, show_plan};

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) deleted: Vec<Address>,
    pub(super) elapsed_ms: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.deleted.is_empty() {
            return f.write_str("nothing to do: nothing of this stage exists");
        }
        let took = seconds(Duration::from_millis(self.elapsed_ms));
        write!(f, "destroyed in {took}: {} resources are gone, none is left", self.deleted.len())
    }
}

pub(crate) async fn run(context: &Context, args: &args::Destroy) -> Result<ExitCode> {
    if args.engine == Engine::Cloudformation {
        return super::stack::destroy(context, args).await;
    }
    require_ledger(args.no_ledger)?;
    let wait = Duration::from_secs(args.lock.lock_timeout);
    let report = again_if_overtaken(context, wait, async |wait| destroy(context, args, wait).await).await?;
    context.output.result(&report);
    Ok(ExitCode::Ok)
}

async fn destroy(context: &Context, args: &args::Destroy, wait: Duration) -> Result<Report> {
    let stage = context.unless_stopped(Stage::open(context, args.cloud.port)).await?;
    let scope = stage.settings.scope();
    let options = PlanOptions {
        drop_deletion_protection: args.drop_deletion_protection,
        ..PlanOptions::of(&stage.settings)
    };
    let preflight = Preflight::start(&stage, args.no_preflight);
    let plan_of = async |observed: &Observed| {
        observed.require_direct(&scope)?;
        let plan = plan(&Stack::empty(scope.clone()), observed, &options)?;
        if !plan.is_empty() {
            show_plan(context, &plan);
            preflight.check(context, &plan).await?;
        }
        Ok(plan)
    };
    let confirm = async |plan: &Plan| {
        let data = plan.steps.iter().any(|step| step.resource.kind == Kind::Table);
        let what = if data { ", with every message in it" } else { "" };
        ask(context, &format!("Delete all of this{what}?")).await
    };
    let outcome = stage.delete(context, wait, plan_of, confirm).await?;
    Ok(Report { deleted: outcome.done, elapsed_ms: outcome.elapsed_ms })
}
