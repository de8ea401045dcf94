//! `eject`: writes what hands a stage over to CloudFormation, and with `--execute` does it. Nothing is made anew, so open
//! connections stay open.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chat_stacks::cloudformation::eject;
use chat_stacks::{Action, Events, PlanOptions};
use serde::Serialize;

use super::deploy::ask;
use super::stack::template;
use crate::args;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;
use crate::output::progress::seconds;
use crate::stage::Stage;

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
    let work = async {
        let stage = Stage::open(context, args.cloud.port).await?;
        let (template, artifacts) = template(context, &stage).await?;
        let identity = stage.aws.identity().await?;
        let observed = stage.observe().await?;
        // What differs from the template would be CloudFormation's to find out, much later.
        let stack = chat_stacks::chat::stack(&stage.settings, identity, &artifacts)?;
        let plan = chat_stacks::plan(&stack, &observed, &PlanOptions::of(&stage.settings))?;
        let differs = plan.steps.iter().any(|step| {
            step.action == Action::Delete || step.changes.iter().any(|change| change.property != "tags")
        });
        if observed.is_empty() || differs {
            let name = &stage.settings.stage;
            return Err(CliError::refused(
                "not_as_declared",
                format!("stage {name} is not deployed as it is declared"),
            )
            .help(format!(
                "`chatctl deploy --stage {name}` first; only what is as declared can be handed over"
            )));
        }
        let imports = eject::imports(&template, &observed, identity)?;
        let name = stage.settings.scope().prefix();
        let files =
            [args.out.join(format!("{name}.template.yaml")), args.out.join(format!("{name}.import.json"))];
        write(&files[0], template.body())?;
        write(&files[1], &format!("{:#}\n", imports.to_json()))?;
        if args.execute {
            ask(
                context,
                &format!(
                    "Hand {} resources of stage {} over to CloudFormation?",
                    imports.len(),
                    stage.settings.stage
                ),
            )
            .await?;
        }
        Ok::<_, CliError>((stage, template, artifacts, observed, imports, files))
    };
    let (stage, template, artifacts, observed, imports, [template_file, resources]) = tokio::select! {
        ready = work => ready?,
        () = context.stop.cancelled() => return Err(CliError::interrupted()),
    };
    let mut elapsed_ms = 0;
    if args.execute {
        let prepared = eject::prepare(&stage.aws, &template, &artifacts, &imports).await?;
        // Nothing is created, so there is nothing to show step by step.
        let bar = context.output.spinner("handing the stage over");
        let events = Events::none();
        let outcome = eject::execute(&stage.aws, &prepared, &observed, &events, &context.stop).await;
        context.output.remove(&bar);
        let outcome = outcome?;
        elapsed_ms = outcome.elapsed_ms;
    }
    context.output.result(&Report {
        template: template_file,
        resources,
        imported: imports.len(),
        executed: args.execute,
        elapsed_ms,
        stack: stage.settings.scope().prefix(),
    });
    Ok(ExitCode::Ok)
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).map_err(|e| {
        CliError::failed("not_writable", format!("failed to write {}", file.display()))
            .because(&e)
            .help("choose a directory that exists and can be written, with --out DIR")
    })
}
