//! Hands a stage that was deployed directly over to CloudFormation. Nothing is made anew: an import change set names each
//! resource as it is in the account, and from then on it belongs to the stack.

use std::collections::BTreeMap;

use aws_sdk_cloudformation::types::{ChangeSetType, ResourceToImport};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::engine;
use super::stack::{self, Next};
use super::template::{Entry, Template};
use super::{Prepared, bucket, mark};
use crate::address::{Address, Kind};
use crate::apply::Outcome;
use crate::artifact::Artifacts;
use crate::aws::{Aws, Identity};
use crate::call::alone;
use crate::error::{Error, StackProblem};
use crate::event::Events;
use crate::names::Scope;
use crate::observe::Observed;
use crate::resource::Live;
use crate::resources::alias;

/// What is imported, by logical id.
#[derive(Clone, Debug)]
pub struct Imports(Vec<(String, &'static str, BTreeMap<&'static str, String>)>);

impl Imports {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As `aws cloudformation create-change-set --resources-to-import file://…` reads it.
    pub fn to_json(&self) -> Value {
        self.0
            .iter()
            .map(|(id, kind, identifier)| {
                json!({ "ResourceType": kind, "LogicalResourceId": id, "ResourceIdentifier": identifier })
            })
            .collect()
    }

    fn to_sdk(&self) -> Vec<ResourceToImport> {
        let resource = |(id, kind, identifier): &(String, &'static str, BTreeMap<&'static str, String>)| {
            let identifier =
                identifier.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            ResourceToImport::builder()
                .logical_resource_id(id)
                .resource_type(*kind)
                .set_resource_identifier(Some(identifier))
                .build()
        };
        self.0.iter().map(resource).collect()
    }
}

/// Finds every entry of the template in the account.
///
/// # Errors
/// [`Error::Stack`] names what is missing: only a stage that is as declared can be handed over.
pub fn imports(template: &Template, observed: &Observed, identity: &Identity) -> Result<Imports, Error> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    let mut entries: Vec<(&String, &Entry)> = template.entries().iter().collect();
    entries.sort_by_key(|(_, entry)| entry.at);
    for (id, entry) in entries {
        // A version is told by its function.
        let holder = match entry.address.name.strip_suffix(VERSION) {
            Some(function) => Address::new(Kind::Function, function),
            None => entry.address.clone(),
        };
        let identifier = observed
            .get(&holder)
            .filter(|live| live.owned)
            .and_then(|live| identifier(&template.scope, entry, live, identity));
        match identifier {
            Some(identifier) => found.push((id.clone(), entry.kind, identifier)),
            None => missing.push(entry.address.to_string()),
        }
    }
    if missing.is_empty() {
        return Ok(Imports(found));
    }
    Err(Error::Stack {
        problem: StackProblem::Stuck,
        what: format!("not everything that is declared is there: {} is missing", missing.join(", ")),
        help: format!("`chatctl deploy --stage {}` makes it, then eject again", template.scope.stage),
    })
}

/// What follows a function's name in the address of its version.
const VERSION: &str = "/version";

/// The `primaryIdentifier` of the type's schema, with values from the account.
/// Source: the schemas that `aws cloudformation describe-type` returns, as cfn-lint carries them.
fn identifier(
    scope: &Scope,
    entry: &Entry,
    live: &Live,
    identity: &Identity,
) -> Option<BTreeMap<&'static str, String>> {
    let output = |name: &str| live.outputs.get(name).filter(|value| !value.is_empty()).cloned();
    let own = live.id.clone();
    let api = || Some(("ApiId", output("api")?));
    let alias = |part: &str| {
        format!("{}:{}", crate::resources::function::arn(identity, &scope.named(part)), alias::NAME)
    };
    let part = entry.address.owner();
    let pairs = match entry.kind {
        "AWS::DynamoDB::Table" => vec![("TableName", own)],
        "AWS::Logs::LogGroup" => vec![("LogGroupName", own)],
        "AWS::IAM::Role" => vec![("RoleName", own)],
        "AWS::IAM::RolePolicy" => vec![("PolicyName", output("policy")?), ("RoleName", output("role")?)],
        "AWS::Lambda::Function" => vec![("FunctionName", own)],
        "AWS::Lambda::Version" => vec![("FunctionArn", format!("{}:{}", output("arn")?, output("version")?))],
        "AWS::Lambda::Alias" => vec![("AliasArn", alias(part))],
        "AWS::Lambda::Permission" => vec![("FunctionName", alias(part)), ("Id", own)],
        "AWS::ApiGatewayV2::Api" => vec![("ApiId", own)],
        "AWS::ApiGatewayV2::Authorizer" => vec![api()?, ("AuthorizerId", own)],
        "AWS::ApiGatewayV2::Deployment" => vec![api()?, ("DeploymentId", own)],
        "AWS::ApiGatewayV2::Integration" => vec![api()?, ("IntegrationId", own)],
        "AWS::ApiGatewayV2::IntegrationResponse" => {
            vec![api()?, ("IntegrationId", output("integration")?), ("IntegrationResponseId", own)]
        }
        "AWS::ApiGatewayV2::Route" => vec![api()?, ("RouteId", own)],
        "AWS::ApiGatewayV2::RouteResponse" => {
            vec![api()?, ("RouteId", output("route")?), ("RouteResponseId", own)]
        }
        "AWS::ApiGatewayV2::Stage" => vec![api()?, ("StageName", own)],
        _ => return None,
    };
    Some(pairs.into_iter().collect())
}

/// Makes the import change set. Nothing of the stage is changed yet.
///
/// # Errors
/// [`Error::Stack`] if the stage has a stack already.
pub async fn prepare(
    aws: &Aws,
    template: &Template,
    artifacts: &Artifacts,
    imports: &Imports,
) -> Result<Prepared, Error> {
    alone(aws, &template.scope, None, async |cx| {
        if let Some(found) = stack::find(cx).await?
            && found.next(cx.scope)? != Next::Create
        {
            return Err(Error::Stack {
                problem: StackProblem::OtherEngine,
                what: format!(
                    "there is a stack {} already, in the state {}",
                    stack::name(cx.scope),
                    found.status
                ),
                help: format!(
                    "`chatctl deploy --engine cloudformation --stage {}` updates it",
                    cx.scope.stage
                ),
            });
        }
        // The template names the code, so it has to be there for whatever comes next.
        bucket::fill(cx, aws.identity().await?, artifacts).await?;
        engine::change_set(cx, template, ChangeSetType::Import, imports.to_sdk()).await
    })
    .await
}

/// Marks the resources as CloudFormation's, and lets it take them. In this order: should the run be killed in between,
/// neither engine changes anything until `eject` was run again.
///
/// # Errors
/// [`Error::Stack`] if CloudFormation let go of them again; then they are no longer marked either.
pub async fn execute(
    aws: &Aws,
    prepared: &Prepared,
    observed: &Observed,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Outcome, Error> {
    let scope = prepared.scope();
    alone(aws, scope, None, async |cx| mark::set(cx, observed, true).await).await?;
    match engine::execute(aws, prepared, events, cancel).await {
        Err(Error::Stack { problem: StackProblem::Failed, what, help }) => {
            alone(aws, scope, None, async |cx| mark::set(cx, observed, false).await).await?;
            Err(Error::Stack { problem: StackProblem::Failed, what, help })
        }
        other => other,
    }
}
