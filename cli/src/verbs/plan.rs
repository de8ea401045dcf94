//! `plan`: shows what a deploy would change, and changes nothing.

use std::fmt;

use chat_stacks::{Plan, PlanOptions};
use serde::Serialize;

use crate::args::{self, Engine};
use crate::context::Context;
use crate::error::Result;
use crate::exit_codes::ExitCode;
use crate::output::markdown::Markdown;
use crate::output::plan::PlanView;
use crate::stage::Stage;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether a deploy would change anything.
    pub(super) changes: bool,
    pub(super) plan: Plan,
    #[serde(skip)]
    pub(super) verbose: bool,
    #[serde(skip)]
    pub(super) markdown: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.markdown {
            return Markdown { plan: &self.plan }.fmt(f);
        }
        PlanView { plan: &self.plan, verbose: self.verbose }.fmt(f)
    }
}

pub(crate) async fn run(context: &Context, args: &args::Plan) -> Result<ExitCode> {
    if args.engine == Engine::Cloudformation {
        return super::stack::plan(context, args).await;
    }
    let stage = Stage::open(context, args.cloud.port).await?;
    let options = PlanOptions { adopt: args.adopt, ..PlanOptions::of(&stage.settings) };
    let plan = stage.plan(context, &options).await?;
    let verbose = context.output.verbosity > 0;
    let changes = !plan.is_empty();
    context.output.result(&Report { changes, plan, verbose, markdown: args.markdown });
    Ok(if changes && args.detailed_exitcode { ExitCode::Changes } else { ExitCode::Ok })
}
