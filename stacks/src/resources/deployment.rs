//! A deployment: the snapshot of the API that a stage serves. It is keyed by a hash of everything that goes into it,
//! with every id resolved, so that no change of the API stays unserved (terraform-provider-aws#12961,
//! serverless#8434) and nothing else causes a new one.
//!
//! The last few stay, for a rollback to go back to. They cost nothing, and a plan does not speak of them.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_apigatewayv2::types::Deployment as Described;
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{alias, api, next_page};
use crate::address::{Address, Kind};
use crate::aws::sent_once;
use crate::call::{Cx, OrAbsent};
use crate::error::Error;
use crate::names::Scope;
use crate::observe::Found;
use crate::resource::{Desired, Live, Outputs, Properties, Resource, Values};

/// What the description of ours begins with; the hash follows.
const PREFIX: &str = "chatctl ";

/// Deployments that stay behind the one that is served, to go back to: as many as versions of a function.
const KEPT: usize = alias::KEPT_VERSIONS;

#[derive(Clone, Debug)]
pub(crate) struct Deployment {
    pub(crate) scope: Scope,
    /// Everything that is part of the snapshot.
    pub(crate) parts: Vec<Arc<dyn Resource>>,
}

pub(crate) fn address(scope: &Scope) -> Address {
    Address::new(Kind::Deployment, scope.stage.as_str())
}

impl Deployment {
    /// Unknown as long as a part refers to something that is not there yet.
    fn hash(&self, outputs: &Outputs) -> Option<String> {
        let mut parts: Vec<(String, Value)> = self
            .parts
            .iter()
            .map(|part| Some((part.address().to_string(), part.desired(outputs).resolved()?)))
            .collect::<Option<_>>()?;
        parts.sort_by(|one, other| one.0.cmp(&other.0));
        // The ids of routes and responses are not in any property, but a new one of the same key must be deployed.
        let ids: Vec<&str> =
            parts_with_ids(&self.parts).map(|at| outputs.get(&at, "id")).collect::<Option<_>>()?;
        let digest = Sha256::digest(json!([parts, ids]).to_string());
        Some(digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
    }
}

fn parts_with_ids(parts: &[Arc<dyn Resource>]) -> impl Iterator<Item = Address> {
    parts.iter().map(|part| part.address()).filter(|at| matches!(at.kind, Kind::Route | Kind::Integration))
}

#[async_trait]
impl Resource for Deployment {
    fn address(&self) -> Address {
        address(&self.scope)
    }

    fn needs(&self) -> Vec<Address> {
        // Routes above all: without one there is nothing to deploy. aws-facts, API Gateway 2.
        self.parts.iter().map(|part| part.address()).collect()
    }

    fn desired(&self, outputs: &Outputs) -> Desired {
        Desired::new().with_later("hash", self.hash(outputs))
    }

    fn fixed(&self) -> &'static [&'static str] {
        &["hash"]
    }

    async fn converge(&self, cx: &Cx<'_>, live: Option<&Live>) -> Result<Values, Error> {
        let api = cx.output(&api::address(&self.scope), "id")?;
        let hash = self.hash(&cx.outputs).ok_or_else(|| Error::bug("a deployment with unresolved parts"))?;
        let description = format!("{PREFIX}{hash}");
        if let Some(live) = live {
            if live.properties.get("hash") == Some(&json!(hash)) {
                return Ok(live.outputs.clone());
            }
            // One that was kept may be just this: after a rollback, or made by a run that was killed then.
            let kept = list(cx, api).await?.into_iter().find(|item| item.description() == Some(&description));
            if let Some(kept) = kept {
                return Ok(outputs(api, kept.deployment_id));
            }
        }
        for _ in 0..3 {
            let created = cx
                .gateway(|| {
                    cx.aws
                        .apigateway
                        .create_deployment()
                        .api_id(api)
                        .description(&description)
                        .customize()
                        .config_override(sent_once())
                        .send()
                })
                .await;
            match created {
                Ok(answer) => return Ok(outputs(api, answer.deployment_id)),
                Err(failure) if failure.ambiguous => {
                    let mut items = list(cx, api).await?.into_iter();
                    if let Some(item) = items.find(|item| item.description() == Some(description.as_str())) {
                        return Ok(outputs(api, item.deployment_id));
                    }
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(Error::Unhealthy {
            resource: self.address(),
            what: "CreateDeployment gives no answer".to_owned(),
        })
    }
}

fn outputs(api: &str, id: Option<String>) -> Values {
    Values::from([("api", api.to_owned()), ("id", id.unwrap_or_default())])
}

pub(super) async fn list(cx: &Cx<'_>, api: &str) -> Result<Vec<Described>, Error> {
    let mut items: Vec<Described> = Vec::new();
    let mut token = None;
    loop {
        let page = cx
            .gateway(|| cx.aws.apigateway.get_deployments().api_id(api).set_next_token(token.clone()).send())
            .await
            .or_absent("NotFoundException")?;
        let Some(page) = page else { return Ok(items) };
        items.extend(page.items.unwrap_or_default());
        token = next_page(page.next_token);
        if token.is_none() {
            // Newest first.
            items.sort_by_key(|item| {
                std::cmp::Reverse(item.created_date.map(|date| (date.secs(), date.subsec_nanos())))
            });
            return Ok(items);
        }
    }
}

/// The deployment is the one that the stage serves, or the newest while there is no stage. Of the others the newest are
/// kept, and what is older is left over.
pub(super) fn observed(scope: &Scope, api: &str, items: Vec<Described>, stages: &[(Address, Live)]) -> Found {
    let stage = super::stage::address(scope);
    let served = stages
        .iter()
        .find(|(at, _)| *at == stage)
        .and_then(|(_, live)| live.properties.get("deployment"))
        .and_then(Value::as_str);
    let current = items
        .iter()
        .position(|item| served.is_some() && item.deployment_id() == served)
        .or((!items.is_empty() && served.is_none()).then_some(0));
    // Newest first, so the place among the others is the age.
    let is_old = |at: usize| at - usize::from(current.is_some_and(|current| current < at)) >= KEPT;
    let items = items.into_iter().enumerate();
    let live = items.filter(|(at, _)| Some(*at) == current || is_old(*at)).map(|(at, item)| {
        let hash = item.description.as_deref().and_then(|description| description.strip_prefix(PREFIX));
        let properties = Properties::from([("hash", json!(hash))]);
        let id = item.deployment_id.clone().unwrap_or_default();
        let address = if Some(at) == current { address(scope) } else { api::duplicate(address(scope), &id) };
        (address, Live { id, properties, outputs: outputs(api, item.deployment_id), owned: true })
    });
    live.collect()
}

/// Takes leave of a deployment that is not served any more: it is kept, and those go that were kept for too long.
pub(super) async fn retire(cx: &Cx<'_>, replaced: &Live) -> Result<(), Error> {
    let api = api::id_of(replaced);
    let served = cx.output(&address(cx.scope), "id")?;
    let others = list(cx, api).await?.into_iter().filter_map(|item| item.deployment_id);
    let old = others.filter(|id| id != served).skip(KEPT).map(|id| async move {
        let live = Live { id, ..replaced.clone() };
        delete(cx, &live).await
    });
    try_join_all(old).await?;
    Ok(())
}

pub(super) async fn delete(cx: &Cx<'_>, live: &Live) -> Result<(), Error> {
    let api = api::id_of(live);
    cx.gateway(|| cx.aws.apigateway.delete_deployment().api_id(api).deployment_id(&live.id).send())
        .await
        .or_absent("NotFoundException")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{AppName, StageName};

    fn found(count: usize, served: Option<usize>) -> Vec<String> {
        let scope = Scope { app: AppName::parse("chat").unwrap(), stage: StageName::parse("dev").unwrap() };
        let items = (0..count).map(|n| Described::builder().deployment_id(format!("d{n}")).build()).collect();
        let stage = served.map(|n| {
            let properties = Properties::from([("deployment", json!(format!("d{n}")))]);
            let live = Live { id: "dev".into(), properties, outputs: Values::new(), owned: true };
            (super::super::stage::address(&scope), live)
        });
        let found = observed(&scope, "api", items, stage.as_slice());
        found.into_iter().map(|(at, live)| format!("{}={}", at.name, live.id)).collect()
    }

    #[test]
    fn the_last_five_are_kept_and_older_ones_are_left_over() {
        assert_eq!(found(5, Some(0)), ["dev=d0"]);
        assert_eq!(found(7, Some(0)), ["dev=d0", "dev#d5=d5", "dev#d6=d6"]);
    }

    #[test]
    fn after_a_rollback_newer_ones_are_kept_as_well() {
        assert_eq!(found(5, Some(3)), ["dev=d3"]);
        assert_eq!(found(6, Some(5)), ["dev#d4=d4", "dev=d5"]);
    }

    #[test]
    fn without_a_stage_the_newest_is_the_one() {
        assert_eq!(found(2, None), ["dev=d0"]);
        assert!(found(0, None).is_empty());
    }
}
