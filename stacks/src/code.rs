//! The short path for code that changed and nothing else: publish, wait, move the alias. Three calls for a changed
//! function, one for an unchanged one; connections stay open.

use aws_sdk_lambda::types::Architecture;
use chat_functions::contract::Handler;
use futures_util::future::try_join_all;

use crate::address::{Address, Kind};
use crate::artifact::{Artifact, Artifacts};
use crate::aws::Aws;
use crate::call::{Cx, Locks, OrAbsent};
use crate::error::Error;
use crate::event::Events;
use crate::names::Scope;
use crate::resource::Outputs;
use crate::resources::{alias, function};

/// Cuts every function over whose code differs from its artifact, all at the same time, and names them.
///
/// # Errors
/// [`Error::NotDeployed`] if a function is missing. A function that fails goes on serving its old version.
pub async fn cut_over(aws: &Aws, scope: &Scope, artifacts: &Artifacts) -> Result<Vec<Handler>, Error> {
    let locks = Locks::default();
    let moves = artifacts.iter().map(|(handler, artifact)| one(aws, scope, &locks, *handler, artifact));
    Ok(try_join_all(moves).await?.into_iter().flatten().collect())
}

async fn one(
    aws: &Aws,
    scope: &Scope,
    locks: &Locks,
    handler: Handler,
    artifact: &Artifact,
) -> Result<Option<Handler>, Error> {
    let events = Events::none();
    let address = Address::new(Kind::Function, handler.name());
    let cx = Cx {
        aws,
        scope,
        address: Some(address.clone()),
        outputs: Outputs::default(),
        events: &events,
        locks,
    };
    let name = scope.function(handler);
    let change = async {
        let serving = cx
            .call("GetFunctionConfiguration", || {
                aws.lambda.get_function_configuration().function_name(&name).qualifier(alias::NAME).send()
            })
            .await
            .or_absent("ResourceNotFoundException")?;
        let Some(serving) = serving else {
            return Err(Error::NotDeployed { app: scope.app.to_string(), stage: scope.stage.to_string() });
        };
        if serving.code_sha256.as_deref() == Some(artifact.sha256()) {
            return Ok(None);
        }
        let architecture = serving.architectures().first().map_or("x86_64", Architecture::as_str);
        let version = function::upload(&cx, &name, artifact, architecture).await?;
        alias::move_to(&cx, &name, &version).await?;
        Ok(Some(handler))
    };
    change.await.map_err(|error| error.at(&address))
}
