//! `policy`: prints what the principal that deploys a stage must be allowed, ready to be attached to it.

use std::fmt;

use chat_stacks::settings::Endpoint;
use chat_stacks::{Identity, permissions};
use serde::Serialize;
use serde_json::Value;

use crate::args;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;
use crate::stage::{self, Stage};

#[derive(Debug, Serialize)]
struct Report {
    account: String,
    region: String,
    policy: Value,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Alone and as it is: `chatctl policy > policy.json`.
        write!(f, "{:#}", self.policy)
    }
}

pub(crate) async fn run(context: &Context, args: &args::Policy) -> Result<ExitCode> {
    let stage = &context.global.stage;
    let settings = stage::read_names(context, &context.project()?)?;
    let identity = match &args.account {
        Some(account) => Identity::of_account(account, settings.region.as_str()),
        None if settings.endpoint == Endpoint::Local => {
            Stage::open(context, args.cloud.port).await?.aws.identity().await?.clone()
        }
        None => stage::connect(&settings, None)
            .await?
            .identity()
            .await
            .map_err(|error| {
                let help = "with `--account ID` nobody is asked whose the credentials are";
                CliError::from(error).help(help)
            })?
            .clone(),
    };
    let grants = permissions::deployer(&settings.app, stage, &identity);
    context.output.result(&Report {
        account: identity.account,
        region: identity.region,
        policy: permissions::document(&grants),
    });
    Ok(ExitCode::Ok)
}
