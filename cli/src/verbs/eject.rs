//! `eject`: writes what hands a stage over to CloudFormation, and with `--execute` does it. Nothing is made anew, so open
//! connections stay open.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chat_stacks::cloudformation::eject::{execute, imports, prepare};
use chat_stacks::ledger::{Changes, Pointers, Record};
use chat_stacks::{Action, Events, PlanOptions, Step, under_lock};
use serde::Serialize;

use super::deploy::ask;
use super::stack::template;
use crate::args;
use crate::change::{Seen, again_if_overtaken};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;
use crate::output::progress::seconds;
use crate::stage::Stage;
use crate::who;

#[derive(Debug, Serialize)]
struct Report {
    template: PathBuf,
    /// For `--resources-to-import`.
    resources: PathBuf,
    imported: usize,
    executed: bool,
    elapsed_ms: u64,
    stack: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { template, resources, imported, executed, elapsed_ms, stack } = self;
        if *executed {
            let took = seconds(Duration::from_millis(*elapsed_ms));
            return write!(
                f,
                "{imported} resources belong to the stack {stack} now ({took}); from here on: chatctl deploy --engine \
                 cloudformation"
            );
        }
        write!(
            f,
            "{}\n{}\n{imported} resources to import; `chatctl eject --execute` does it",
            template.display(),
            resources.display()
        )
    }
}

pub(crate) async fn run(context: &Context, args: &args::Eject) -> Result<ExitCode> {
    let wait = Duration::from_secs(args.lock.lock_timeout);
    let report = again_if_overtaken(context, wait, async |wait| eject(context, args, wait).await).await?;
    context.output.result(&report);
    Ok(ExitCode::Ok)
}

async fn eject(context: &Context, args: &args::Eject, wait: Duration) -> Result<Report> {
    let stage = context.unless_stopped(Stage::open(context, args.cloud.port)).await?;
    let scope = stage.settings.scope();
    let name = scope.prefix();
    let files =
        [args.out.join(format!("{name}.template.yaml")), args.out.join(format!("{name}.import.json"))];
    let write_files = async {
        let template = template(context, &stage);
        // Only what changes something needs the lock. A stage that is marked already is one whose hand-over was killed.
        let ((template, artifacts), seen, observed) = if args.execute {
            let (template, seen) = stage.look_anyway(context, wait, template).await?;
            let observed = seen.observed.clone();
            (template, Some(seen), observed)
        } else {
            (template.await?, None, stage.observe().await?)
        };
        let identity = stage.aws.identity().await?;
        // What differs from the template would be CloudFormation's to find out, much later.
        let stack = chat_stacks::chat::stack(&stage.settings, identity, &artifacts)?;
        let plan = chat_stacks::plan(&stack, &observed, &PlanOptions::of(&stage.settings))?;
        if observed.is_empty() || plan.steps.iter().any(differs) {
            return Err(not_as_declared(scope.stage.as_str()));
        }
        let imports = imports(&template, &observed, identity)?;
        write(&files[0], template.body())?;
        write(&files[1], &format!("{:#}\n", imports.to_json()))?;
        if seen.is_some() {
            let question =
                format!("Hand {} resources of stage {} over to CloudFormation?", imports.len(), scope.stage);
            ask(context, &question).await?;
        }
        Ok((template, artifacts, seen, observed, imports))
    };
    let (template, artifacts, seen, observed, imports) = context.unless_stopped(write_files).await?;
    let mut elapsed_ms = 0;
    if let Some(Seen { ledger, ticket, .. }) = &seen {
        let before = Pointers::of(&observed, &scope);
        let record = Record { before, ..who::record(&stage, "eject").await? };
        // Nothing is created, so there is nothing to show step by step.
        let bar = context.output.spinner("handing the stage over");
        let events = Events::none();
        let work = async |record: &mut Record, cancel| {
            let prepared = prepare(&stage.aws, &template, &artifacts, &imports).await?;
            record.changes = Changes::of(&prepared.plan);
            Box::pin(execute(&stage.aws, &prepared, &observed, &events, &cancel)).await
        };
        let done = Box::pin(under_lock(ledger, ticket, record, false, &events, &context.stop, work)).await;
        context.output.remove(&bar);
        elapsed_ms = done?.0.elapsed_ms;
    }
    let [template, resources] = files;
    Ok(Report {
        template,
        resources,
        imported: imports.len(),
        executed: args.execute,
        elapsed_ms,
        stack: name,
    })
}

/// Whether a step of a direct deploy stands between the stage and its template. The mark of a hand-over does not.
fn differs(step: &Step) -> bool {
    step.action == Action::Delete || step.changes.iter().any(|change| change.property != "tags")
}

fn not_as_declared(stage: &str) -> CliError {
    CliError::refused("not_as_declared", format!("stage {stage} is not deployed as it is declared"))
        .help(format!("`chatctl deploy --stage {stage}` first; only what is as declared can be handed over"))
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).map_err(|e| {
        CliError::failed("not_writable", format!("failed to write {}", file.display()))
            .because(&e)
            .help("choose a directory that exists and can be written, with --out DIR")
    })
}
