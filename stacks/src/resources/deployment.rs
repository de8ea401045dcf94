//! A deployment: the snapshot of the API that a stage serves. It is keyed by a hash of everything that goes into it,
//! with every id resolved, so that no change of the API stays unserved (terraform-provider-aws#12961,
//! serverless#8434) and nothing else causes a new one.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_apigatewayv2::types::Deployment as Described;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{api, next_page};
use crate::address::{Address, Kind};
use crate::aws::sent_once;
use crate::call::{Cx, OrAbsent};
use crate::error::Error;
use crate::names::Scope;
use crate::observe::Found;
use crate::resource::{Desired, Live, Outputs, Properties, Resource, Values};

/// What the description of ours begins with; the hash follows.
const PREFIX: &str = "chatctl ";

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
        if let Some(live) = live {
            return Ok(live.outputs.clone());
        }
        let api = cx.output(&api::address(&self.scope), "id")?;
        let hash = self.hash(&cx.outputs).ok_or_else(|| Error::bug("a deployment with unresolved parts"))?;
        let description = format!("{PREFIX}{hash}");
        for _ in 0..3 {
            let created = cx
                .gateway("CreateDeployment", || {
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
            .gateway("GetDeployments", || {
                cx.aws.apigateway.get_deployments().api_id(api).set_next_token(token.clone()).send()
            })
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

/// The deployment is the one that the stage serves, or the newest while there is no stage; all others are left over.
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
    let live = items.into_iter().enumerate().map(|(at, item)| {
        let hash = item.description.as_deref().and_then(|description| description.strip_prefix(PREFIX));
        let properties = Properties::from([("hash", json!(hash))]);
        let id = item.deployment_id.clone().unwrap_or_default();
        let address = if Some(at) == current { address(scope) } else { api::duplicate(address(scope), &id) };
        (address, Live { id, properties, outputs: outputs(api, item.deployment_id), owned: true })
    });
    live.collect()
}

pub(super) async fn delete(cx: &Cx<'_>, live: &Live) -> Result<(), Error> {
    let api = api::id_of(live);
    cx.gateway("DeleteDeployment", || {
        cx.aws.apigateway.delete_deployment().api_id(api).deployment_id(&live.id).send()
    })
    .await
    .or_absent("NotFoundException")?;
    Ok(())
}
