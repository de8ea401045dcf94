//! `destroy`: deletes everything of a stage, which is deploying the empty stack.

use std::fmt;
use std::time::Duration;

use chat_stacks::{Address, Kind, PlanOptions, Stack, plan, verify_gone};
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;
use crate::output::progress::seconds;
use crate::stage::Stage;
use crate::verbs::deploy::{ask, carry_out, show_plan};

#[derive(Debug, Serialize)]
struct Report {
    deleted: Vec<Address>,
    elapsed_ms: u64,
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
    let work = async {
        let stage = Stage::open(context, args.cloud.port).await?;
        let stack = Stack::empty(stage.settings.scope());
        let options = PlanOptions {
            drop_deletion_protection: args.drop_deletion_protection,
            ..PlanOptions::of(&stage.settings)
        };
        let plan = plan(&stack, &stage.observe().await?, &options)?;
        if !plan.is_empty() {
            show_plan(context, &plan);
            let data = plan.steps.iter().any(|step| step.resource.kind == Kind::Table);
            let what = if data { ", with every message in it" } else { "" };
            ask(context, &format!("Delete all of this{what}?")).await?;
        }
        Ok::<_, CliError>((stage, stack, plan))
    };
    let (stage, stack, plan) = tokio::select! {
        planned = work => planned?,
        () = context.stop.cancelled() => return Err(CliError::interrupted()),
    };
    let (deleted, elapsed_ms) = carry_out(context, &stage, &stack, &plan).await?;
    if !plan.is_empty() {
        verify_gone(&stage.aws, stack.scope()).await?;
    }
    context.output.result(&Report { deleted, elapsed_ms });
    Ok(ExitCode::Ok)
}
