//! The short path for code that changed and nothing else: publish, wait, move the alias. Three calls for a changed
//! function, one for an unchanged one; connections stay open.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_lambda::types::Architecture;
use chat_functions::contract::Handler;
use futures_util::future::try_join_all;

use crate::address::{Address, Kind};
use crate::artifact::Artifacts;
use crate::aws::Aws;
use crate::call::{Cx, OrAbsent, alone};
use crate::error::Error;
use crate::ledger::Applied;
use crate::names::Scope;
use crate::pointers::Serving;
use crate::resource::{Outputs, Resource, Stack};
use crate::resources::{alias, api, function};

/// A function whose code differs from its artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    pub handler: Handler,
    architecture: String,
}

/// Finds the functions whose code differs from their artifacts, all at the same time.
///
/// # Errors
/// [`Error::NotDeployed`] if a function is missing.
pub async fn changed(aws: &Aws, scope: &Scope, artifacts: &Artifacts) -> Result<Vec<Changed>, Error> {
    let looks = artifacts.iter().map(|(handler, artifact)| {
        with_cx(aws, scope, *handler, async move |cx| {
            let name = scope.function(*handler);
            let serving = cx
                .call(|| {
                    aws.lambda.get_function_configuration().function_name(&name).qualifier(alias::NAME).send()
                })
                .await
                .or_absent("ResourceNotFoundException")?;
            let Some(serving) = serving else {
                return Err(Error::NotDeployed {
                    app: scope.app.to_string(),
                    stage: scope.stage.to_string(),
                });
            };
            let architecture = serving.architectures().first().map_or("x86_64", Architecture::as_str);
            let is_same = serving.code_sha256.as_deref() == Some(artifact.sha256());
            Ok((!is_same).then(|| Changed { handler: *handler, architecture: architecture.to_owned() }))
        })
    });
    Ok(try_join_all(looks).await?.into_iter().flatten().collect())
}

/// What is declared otherwise than the last run left it, code aside: what the short path would leave undone. Pure.
pub fn others(stack: &Stack, applied: &Applied, serving: &Serving) -> Vec<String> {
    let mut known = Outputs::default();
    known.insert(api::address(stack.scope()), serving.api.clone());
    let differs = |resource: &Arc<dyn Resource>| {
        let address = resource.address();
        let Some(left) = applied.get(&address) else { return true };
        let desired = resource.desired(&known);
        // What is not known without the account follows from what is.
        let mut known = desired.iter().filter_map(|(name, value)| Some((name, value?)));
        known.any(|(name, value)| name != function::CODE && left.get(name) != Some(value))
    };
    let changed = stack.resources().iter().filter(|resource| differs(resource));
    let mut others: Vec<String> = changed.map(|resource| resource.address().to_string()).collect();
    let declared: Vec<String> = stack.resources().iter().map(|r| r.address().to_string()).collect();
    others.extend(applied.addresses().filter(|left| !declared.iter().any(|d| d == left)).map(str::to_owned));
    others
}

/// Cuts functions over to their artifacts, all at the same time. Returns the versions that serve now. A function that
/// fails goes on serving its old version.
pub async fn cut_over(
    aws: &Aws,
    scope: &Scope,
    changed: &[Changed],
    artifacts: &Artifacts,
) -> Result<BTreeMap<String, String>, Error> {
    let moves = changed.iter().map(|Changed { handler, architecture }| {
        with_cx(aws, scope, *handler, async move |cx| {
            let name = scope.function(*handler);
            let artifact = artifacts.get(handler);
            let artifact =
                artifact.ok_or_else(|| Error::bug(format!("the handler {handler} is not built")))?;
            let version = function::upload(cx, &name, artifact, architecture).await?;
            function::wait_until_ready(cx, &name, Some(&version)).await?;
            alias::move_to(cx, &name, &version).await?;
            Ok((handler.name().to_owned(), version))
        })
    });
    Ok(try_join_all(moves).await?.into_iter().collect())
}

async fn with_cx<T>(
    aws: &Aws,
    scope: &Scope,
    handler: Handler,
    work: impl AsyncFnOnce(&Cx<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let address = Address::new(Kind::Function, handler.name());
    alone(aws, scope, Some(address.clone()), work).await.map_err(|error| error.at(&address))
}
