//! The alias `live` of a function: what the API invokes. Moving it is the cut-over, and moving it back the rollback.

use async_trait::async_trait;
use aws_sdk_lambda::types::FunctionConfiguration;
use chat_functions::contract::Handler;
use futures_util::future::{try_join, try_join_all};
use serde_json::json;

use super::{function, log_group, next_page, policy};
use crate::address::{Address, Kind};
use crate::aws::Identity;
use crate::call::{Cx, OrAbsent};
use crate::error::Error;
use crate::names::Scope;
use crate::policy::Statement;
use crate::resource::{Desired, Live, Outputs, Properties, Resource, Values};

pub(crate) const NAME: &str = "live";

/// Versions that stay behind the one that serves, to go back to.
pub(super) const KEPT_VERSIONS: usize = 4;

#[derive(Clone, Debug)]
pub(crate) struct Alias {
    pub(crate) scope: Scope,
    pub(crate) handler: Handler,
}

impl Alias {
    /// Lets the handler's function invoke itself by this alias, if its code does so. An ARN with a qualifier allows
    /// invocations by that one alone, so neither an older version nor other functions.
    pub(crate) fn grant(&self, identity: &Identity) -> Option<Statement> {
        self.handler.hands_over().then(|| Statement {
            sid: "HandOver",
            actions: vec!["lambda:InvokeFunction".to_owned()],
            resources: Some(vec![arn(identity, &self.scope, self.handler)]),
        })
    }
}

pub(crate) fn address(part: &str) -> Address {
    Address::new(Kind::Alias, part)
}

/// The alias's ARN, which is known before it exists.
pub(crate) fn arn(identity: &Identity, scope: &Scope, handler: Handler) -> String {
    format!("{}:{NAME}", function::arn(identity, &scope.function(handler)))
}

/// What API Gateway wants for an AWS_PROXY integration or an authorizer: aws-facts, API Gateway 5.
pub(crate) fn invocation_uri(identity: &Identity, scope: &Scope, handler: Handler) -> String {
    let Identity { partition, region, .. } = identity;
    let alias = arn(identity, scope, handler);
    format!("arn:{partition}:apigateway:{region}:lambda:path/2015-03-31/functions/{alias}/invocations")
}

#[async_trait]
impl Resource for Alias {
    fn address(&self) -> Address {
        address(self.handler.name())
    }

    fn needs(&self) -> Vec<Address> {
        let part = self.handler.name();
        // Nothing is invoked but through an alias. By the first invocation the policy must be there, or what it needs
        // would be refused, and the log group, or it would be made by whoever may, without tags and for ever.
        vec![function::address(part), policy::address_of(self.handler), log_group::address(part)]
    }

    fn desired(&self, outputs: &Outputs) -> Desired {
        let version = outputs.get(&function::address(self.handler.name()), "version");
        Desired::new().with_later("version", version).with("weights", json!({}))
    }

    async fn converge(&self, cx: &Cx<'_>, live: Option<&Live>) -> Result<Values, Error> {
        let name = self.scope.function(self.handler);
        let version = cx.output(&function::address(self.handler.name()), "version")?;
        let ready = function::wait_until_ready(cx, &name, Some(version));
        if live.is_none() {
            // Nothing serves yet, so the alias need not wait for the version: only who uses it must.
            let (created, ()) = try_join(create(cx, &name, version), ready).await?;
            if created {
                return Ok(Values::new());
            }
        } else if cx.drifted(self, live)?.is_empty() {
            return Ok(Values::new());
        } else {
            ready.await?;
        }
        move_to(cx, &name, version).await?;
        Ok(Values::new())
    }
}

/// Whether this call made the alias; otherwise there is one already.
async fn create(cx: &Cx<'_>, function: &str, version: &str) -> Result<bool, Error> {
    let created = cx
        .call(|| {
            cx.aws.lambda.create_alias().function_name(function).name(NAME).function_version(version).send()
        })
        .await;
    match created {
        Ok(_) => Ok(true),
        Err(failure) if failure.is("ResourceConflictException") => Ok(false),
        Err(failure) => Err(failure.into()),
    }
}

/// Cuts over to a version, and lets old ones go meanwhile: what serves still is among those that are kept, or in use,
/// so that it cannot be deleted.
pub(crate) async fn move_to(cx: &Cx<'_>, function: &str, version: &str) -> Result<(), Error> {
    try_join(point_to(cx, function, version), prune(cx, function, version)).await?;
    Ok(())
}

/// Cuts over to a version, and nothing else.
pub(crate) async fn point_to(cx: &Cx<'_>, function: &str, version: &str) -> Result<(), Error> {
    cx.call(|| {
        cx.aws
            .lambda
            .update_alias()
            .function_name(function)
            .name(NAME)
            .function_version(version)
            // An empty routing configuration takes back whatever weights others have set.
            .routing_config(
                aws_sdk_lambda::types::AliasRoutingConfiguration::builder()
                    .set_additional_version_weights(Some(Default::default()))
                    .build(),
            )
            .send()
    })
    .await?;
    Ok(())
}

/// Deletes versions beyond the last few. One that cannot be deleted is in use elsewhere and stays.
async fn prune(cx: &Cx<'_>, function: &str, serving: &str) -> Result<(), Error> {
    let mut numbers: Vec<u64> = versions(cx, function)
        .await?
        .into_iter()
        .filter_map(|version| version.version.filter(|version| version != serving)?.parse().ok())
        .collect();
    numbers.sort_unstable_by(|one, other| other.cmp(one));
    let deletions = numbers.into_iter().skip(KEPT_VERSIONS).map(|number| async move {
        let deleted = cx
            .call(|| {
                cx.aws.lambda.delete_function().function_name(function).qualifier(number.to_string()).send()
            })
            .await
            .or_absent("ResourceNotFoundException");
        match deleted {
            Err(failure) if failure.is("ResourceConflictException") => Ok(()),
            other => other.map(|_| ()),
        }
    });
    try_join_all(deletions).await?;
    Ok(())
}

async fn versions(cx: &Cx<'_>, function: &str) -> Result<Vec<FunctionConfiguration>, Error> {
    let mut versions = Vec::new();
    let mut marker = None;
    loop {
        let page = cx
            .call(|| {
                cx.aws
                    .lambda
                    .list_versions_by_function()
                    .function_name(function)
                    .set_marker(marker.clone())
                    .send()
            })
            .await?;
        versions.extend(page.versions.unwrap_or_default());
        marker = next_page(page.next_marker);
        if marker.is_none() {
            return Ok(versions);
        }
    }
}

pub(crate) async fn observe(cx: &Cx<'_>, part: &str) -> Result<Option<(Address, Live)>, Error> {
    let name = cx.scope.named(part);
    let answer = cx
        .call(|| cx.aws.lambda.get_alias().function_name(&name).name(NAME).send())
        .await
        .or_absent("ResourceNotFoundException")?;
    Ok(answer.map(|alias| {
        let weights =
            alias.routing_config.and_then(|routing| routing.additional_version_weights).unwrap_or_default();
        let properties =
            Properties::from([("version", json!(alias.function_version)), ("weights", json!(weights))]);
        let outputs = Values::from([("function", name.clone())]);
        (address(part), Live { id: format!("{name}:{NAME}"), properties, outputs, owned: true })
    }))
}
