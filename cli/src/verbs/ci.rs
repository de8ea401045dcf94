//! `ci`: lets the jobs of one repository deploy without keys, and takes that back.

use std::fmt;

use chat_stacks::ci::{self, Change, CiRole, Jobs, Repository, SetUp};
use chat_stacks::settings::Endpoint;
use chat_stacks::{Aws, Identity, StageSettings};
use serde::Serialize;
use serde_json::Value;

use crate::args::{Ci, CiSetup};
use crate::cloud::Record;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;
use crate::stage;
use crate::verbs::deploy::ask;

#[derive(Debug, Serialize)]
struct Done {
    #[serde(flatten)]
    set_up: SetUp,
    /// The repository's variable that the workflows read.
    variable: &'static str,
    #[serde(skip)]
    repository: String,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SetUp { provider, role, role_arn } = &self.set_up;
        writeln!(f, "identity provider {}, role {}: {role_arn}", word(*provider), word(*role))?;
        // Without the ids, which only tokens have.
        let repository: Vec<&str> =
            self.repository.split('/').map(|part| part.split('@').next().unwrap_or(part)).collect();
        write!(f, "next: gh variable set {} --repo {} --body {role_arn}", self.variable, repository.join("/"))
    }
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Unchanged => "unchanged",
        Change::Created => "created",
        Change::Updated => "updated",
    }
}

/// What would be made, for those who make it by other means.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Printed(Value);

impl fmt::Display for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

#[derive(Debug, Serialize)]
struct Removed {
    removed: bool,
    role: String,
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.removed {
            write!(f, "the role {} is gone; the identity provider stays, since others may use it", self.role)
        } else {
            write!(f, "nothing to do: there is no role {}", self.role)
        }
    }
}

pub(crate) async fn run(context: &Context, verb: &Ci) -> Result<ExitCode> {
    match verb {
        Ci::Setup(args) => set_up(context, args).await,
        Ci::Remove => remove(context).await,
    }
}

async fn set_up(context: &Context, args: &CiSetup) -> Result<ExitCode> {
    let stage = &context.global.stage;
    let settings = stage::read_names(context, &context.project()?)?;
    let repository = Repository::parse(&args.repo)
        .map_err(|why| CliError::usage("invalid_repository", why).help(REPOSITORY))?;
    let jobs = match (&args.branch, &args.environment, args.pull_requests || stage.ends_with('*')) {
        (None, None, true) => Jobs::PullRequests,
        (_, Some(environment), _) => Jobs::Environment(environment.clone()),
        (branch, None, _) => Jobs::Branch(branch.clone().unwrap_or_else(|| "main".to_owned())),
    };
    let variable = if jobs == Jobs::PullRequests { "AWS_PREVIEW_ROLE" } else { "AWS_DEPLOY_ROLE" };
    let role = CiRole { app: settings.app.clone(), stage: stage.clone(), repository, jobs };
    if args.print {
        let identity = match &args.account {
            Some(account) => Identity::of_account(account, settings.region.as_str()),
            None => connect(context, &settings).await?.identity().await?.clone(),
        };
        context.output.result(&Printed(role.description(&identity)));
        return Ok(ExitCode::Ok);
    }
    let aws = connect(context, &settings).await?;
    let account = &aws.identity().await?.account;
    let whom = format!("{} of {}", role.jobs, role.repository.as_str());
    ask(context, &format!("Let the jobs for {whom} deploy stage {stage} in account {account}?")).await?;
    let set_up = ci::set_up(&aws, &role).await?;
    context.output.result(&Done { set_up, variable, repository: role.repository.as_str().to_owned() });
    Ok(ExitCode::Ok)
}

/// How to find out which form a repository's tokens have.
const REPOSITORY: &str = "gh api repos/OWNER/NAME/actions/oidc/customization/sub --jq .sub_claim_prefix prints it \
                          behind `repo:`; repositories of before 15 July 2026 have no ids";

async fn remove(context: &Context) -> Result<ExitCode> {
    let stage = &context.global.stage;
    let settings = stage::read_names(context, &context.project()?)?;
    let aws = connect(context, &settings).await?;
    let role = ci::role_name(&settings.app, stage);
    ask(context, &format!("Delete the role {role}? Jobs can then no longer deploy stage {stage}.")).await?;
    let removed = ci::remove(&aws, &settings.app, stage).await?;
    context.output.result(&Removed { removed, role });
    Ok(ExitCode::Ok)
}

async fn connect(context: &Context, settings: &StageSettings) -> Result<Aws> {
    let local = match settings.endpoint {
        Endpoint::Local => {
            let project = context.project()?;
            let (record, _) = crate::cloud::ensure(&project, chat_local::DEFAULT_PORT).await?;
            Some(Record::endpoint(&record))
        }
        Endpoint::Aws | Endpoint::Url(_) => None,
    };
    stage::connect(settings, local).await
}
