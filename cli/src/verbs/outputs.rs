//! `outputs`: a stage's addresses and names, for people and for scripts.

use std::collections::BTreeMap;
use std::fmt;

use chat_stacks::Error;
use chat_stacks::status::Status;
use console::style;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;
use crate::stage::Stage;
use crate::verbs::deploy::status_of;

/// Names and values. The order is that of the names.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Listing(BTreeMap<String, String>);

impl Listing {
    pub(crate) fn of(status: &Status, stage: &Stage) -> Self {
        let mut all = BTreeMap::new();
        let mut put = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                all.insert(name.to_owned(), value);
            }
        };
        put("api_id", status.api_id.clone());
        put("endpoint", stage.cloud.as_ref().map(crate::cloud::Record::endpoint));
        put("region", Some(stage.settings.region.as_str().to_owned()));
        put("table", status.table.clone());
        put("websocket_url", status.websocket_url.clone());
        for function in &status.functions {
            put(&format!("function_{}", function.handler), Some(function.name.clone()));
            put(&format!("log_group_{}", function.handler), function.log_group.clone());
        }
        Self(all)
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.keys().map(String::len).max().unwrap_or_default();
        for (at, (name, value)) in self.0.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            let value = if name == "websocket_url" { style(value).cyan() } else { style(value) };
            write!(f, "{name:width$}  {value}")?;
        }
        Ok(())
    }
}

/// One output, printed alone.
#[derive(Debug, Serialize)]
struct Single {
    name: String,
    value: String,
}

impl fmt::Display for Single {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.value)
    }
}

pub(crate) async fn run(context: &Context, args: &args::Outputs) -> Result<ExitCode> {
    let stage = Stage::open(context, args.cloud.port).await?;
    let status = status_of(&stage).await?;
    if !status.deployed {
        let scope = &status.scope;
        return Err(Error::NotDeployed { app: scope.app.to_string(), stage: scope.stage.to_string() }.into());
    }
    let listing = Listing::of(&status, &stage);
    let Some(name) = &args.name else {
        context.output.result(&listing);
        return Ok(ExitCode::Ok);
    };
    let Some(value) = listing.0.get(name) else {
        let known: Vec<&str> = listing.0.keys().map(String::as_str).collect();
        return Err(CliError::usage("unknown_output", format!("there is no output {name:?}"))
            .help(format!("the outputs are {}", known.join(", "))));
    };
    context.output.result(&Single { name: name.clone(), value: value.clone() });
    Ok(ExitCode::Ok)
}
