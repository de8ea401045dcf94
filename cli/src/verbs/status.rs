//! `status`: what is deployed, as it is seen in the account.

use std::fmt;

use chat_stacks::status::Status;
use console::style;
use serde::Serialize;

use crate::args;
use crate::cloud::Record;
use crate::context::Context;
use crate::error::Result;
use crate::exit_codes::ExitCode;
use crate::stage::Stage;
use crate::verbs::deploy::status_of;

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    status: Status,
    /// The process that runs the stage's cloud, if that is on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    cloud: Option<Record>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = &self.status;
        let state = match (status.deployed, status.resources) {
            (true, _) => style("deployed").green(),
            (false, 0) => style("not deployed").yellow(),
            (false, _) => style("partly deployed").yellow(),
        };
        write!(f, "{} {}  {state}", style(&status.scope.app).bold(), style(&status.scope.stage).bold())?;
        let mut line = |name: &str, value: &dyn fmt::Display| write!(f, "\n  {name:12}{value}");
        if let Some(url) = &status.websocket_url {
            line("websocket", &style(url).cyan())?;
        }
        if let Some(table) = &status.table {
            line("table", table)?;
        }
        for function in &status.functions {
            let version = function.version.as_deref().unwrap_or("none");
            let code = function.code_sha256.as_deref().unwrap_or_default();
            let code: String = code.chars().take(10).collect();
            line(
                function.handler,
                &format_args!("{}  version {version}  {}", function.name, style(code).dim()),
            )?;
        }
        if status.resources > 0 {
            line("resources", &status.resources)?;
        }
        if let Some(cloud) = &self.cloud {
            line("cloud", &format_args!("{} (process {})", cloud.endpoint(), cloud.pid))?;
        }
        if !status.deployed {
            write!(f, "\n{}", style(format!("chatctl deploy --stage {}", status.scope.stage)).dim())?;
        }
        Ok(())
    }
}

pub(crate) async fn run(context: &Context, args: &args::Status) -> Result<ExitCode> {
    let stage = Stage::open(context, args.cloud.port).await?;
    let status = status_of(&stage).await?;
    context.output.result(&Report { status, cloud: stage.cloud });
    Ok(ExitCode::Ok)
}
