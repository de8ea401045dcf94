//! A statement of a function's resource policy: lets exactly one route or authorizer of exactly this API invoke the
//! alias.

use std::time::Duration;

use async_trait::async_trait;
use chat_functions::contract::Handler;
use serde_json::{Value, json};

use super::{alias, api, authorizer};
use crate::address::{Address, Kind};
use crate::aws::Identity;
use crate::call::{Cx, OrAbsent};
use crate::error::Error;
use crate::names::Scope;
use crate::observe::Found;
use crate::resource::{Desired, Live, Outputs, Properties, Resource, Values};

/// Before a permission that was in the way is looked at again; grows with each time.
const AGAIN: Duration = Duration::from_millis(500);

/// What statement ids of ours begin with.
const PREFIX: &str = "chatctl-";

#[derive(Clone, Debug)]
pub(crate) struct Permission {
    pub(crate) scope: Scope,
    pub(crate) identity: Identity,
    pub(crate) handler: Handler,
    pub(crate) source: Source,
}

/// Who may invoke.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Route(&'static str),
    Authorizer(&'static str),
}

impl Source {
    /// A statement id may have no `$`: the route keys that have one are reserved names, so nothing is lost without it.
    fn name(&self) -> String {
        match self {
            Self::Route(key) => format!("route-{}", key.trim_start_matches('$')),
            Self::Authorizer(name) => format!("authorizer-{name}"),
        }
    }
}

impl Permission {
    pub(crate) fn source_arn(&self, outputs: &Outputs) -> Option<String> {
        let api = api::execution_arn(&self.identity, outputs.get(&api::address(&self.scope), "id")?);
        Some(match &self.source {
            Source::Route(key) => format!("{api}/{}/{key}", self.scope.stage),
            Source::Authorizer(name) => {
                format!("{api}/authorizers/{}", outputs.get(&authorizer::address(name), "id")?)
            }
        })
    }
}

fn address(part: &str, name: &str) -> Address {
    Address::new(Kind::Permission, format!("{part}/{name}"))
}

#[async_trait]
impl Resource for Permission {
    fn address(&self) -> Address {
        address(self.handler.name(), &self.source.name())
    }

    fn needs(&self) -> Vec<Address> {
        let source = match &self.source {
            Source::Route(_) => api::address(&self.scope),
            Source::Authorizer(name) => authorizer::address(name),
        };
        vec![alias::address(self.handler.name()), source]
    }

    fn desired(&self, outputs: &Outputs) -> Desired {
        Desired::new()
            .with("principal", "apigateway.amazonaws.com")
            .with("action", "lambda:InvokeFunction")
            .with_later("source_arn", self.source_arn(outputs))
    }

    async fn converge(&self, cx: &Cx<'_>, live: Option<&Live>) -> Result<Values, Error> {
        let address = self.address();
        let mut live = live.cloned();
        for round in 0..5 {
            if cx.drifted(self, live.as_ref())?.is_empty() {
                return Ok(Values::new());
            }
            // One at a time for each function: of parallel writes all but one are lost. terraform-provider-aws#789.
            // Other runs are kept away by the stage's lock.
            let held = cx.locks.hold(&self.scope.function(self.handler)).await;
            if let Some(live) = &live {
                delete(cx, live).await?;
            }
            if self.add(cx).await? {
                return Ok(Values::new());
            }
            drop(held);
            // What was removed a moment ago may still be there for the next call.
            if round > 0 && !cx.pause(AGAIN * round).await {
                return Err(Error::Stopped {
                    resource: address,
                    what: "waiting for a removal to be seen".to_owned(),
                });
            }
            live = observe(cx, self.handler.name())
                .await?
                .into_iter()
                .find(|(at, _)| *at == address)
                .map(|(_, live)| live);
        }
        Err(Error::Unhealthy { resource: address, what: "somebody keeps changing the permission".to_owned() })
    }
}

impl Permission {
    /// Whether it was added; otherwise there is one of this id, which may be another.
    async fn add(&self, cx: &Cx<'_>) -> Result<bool, Error> {
        let source_arn = self.source_arn(&cx.outputs);
        let added = cx
            .call(|| {
                cx.aws
                    .lambda
                    .add_permission()
                    .function_name(self.scope.function(self.handler))
                    .qualifier(alias::NAME)
                    .statement_id(format!("{PREFIX}{}", self.source.name()))
                    .action("lambda:InvokeFunction")
                    .principal("apigateway.amazonaws.com")
                    .set_source_arn(source_arn.clone())
                    .send()
            })
            .await;
        match added {
            Ok(_) => Ok(true),
            Err(failure) if failure.is("ResourceConflictException") => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }
}

pub(super) async fn observe(cx: &Cx<'_>, part: &str) -> Result<Found, Error> {
    let function = cx.scope.named(part);
    let answer = cx
        .call(|| cx.aws.lambda.get_policy().function_name(&function).qualifier(alias::NAME).send())
        .await
        .or_absent("ResourceNotFoundException")?;
    let document: Value = answer
        .and_then(|answer| answer.policy)
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let statements = document["Statement"].as_array().into_iter().flatten();
    Ok(statements
        .filter_map(|statement| {
            let sid = statement["Sid"].as_str()?;
            // Others may let others in; that is not ours to judge.
            let name = sid.strip_prefix(PREFIX)?;
            let principal = &statement["Principal"];
            let condition = &statement["Condition"]["ArnLike"];
            let source_arn = condition.get("AWS:SourceArn").or_else(|| condition.get("aws:SourceArn"));
            let properties = Properties::from([
                ("principal", principal.get("Service").unwrap_or(principal).clone()),
                ("action", statement["Action"].clone()),
                ("source_arn", json!(source_arn)),
            ]);
            let outputs = Values::from([("function", function.clone()), ("statement", sid.to_owned())]);
            Some((address(part, name), Live { id: sid.to_owned(), properties, outputs, owned: true }))
        })
        .collect())
}

pub(super) async fn delete(cx: &Cx<'_>, live: &Live) -> Result<(), Error> {
    let of = |name: &str| live.outputs.get(name).cloned().unwrap_or_default();
    let (function, statement) = (of("function"), of("statement"));
    cx.call(|| {
        cx.aws
            .lambda
            .remove_permission()
            .function_name(&function)
            .qualifier(alias::NAME)
            .statement_id(&statement)
            .send()
    })
    .await
    .or_absent("ResourceNotFoundException")?;
    Ok(())
}
