//! What a MOCK integration answers. Without one API Gateway has nothing to give back and reports a configuration
//! error.

use std::collections::HashMap;

use async_trait::async_trait;
use serde_json::json;

use super::{api, integration};
use crate::address::{Address, Kind};
use crate::call::{Cx, OrAbsent};
use crate::error::Error;
use crate::names::Scope;
use crate::observe::Found;
use crate::resource::{Desired, Live, Outputs, Properties, Resource, Values};

#[derive(Clone, Debug)]
pub(crate) struct IntegrationResponse {
    pub(crate) scope: Scope,
    /// The integration that it belongs to, and whose name it has.
    pub(crate) integration: &'static str,
    /// The answer, as a template.
    pub(crate) template: &'static str,
}

/// The key of the response that is taken for every status: the only one that we make.
pub(crate) const KEY: &str = "$default";

fn address(integration: &str, key: &str) -> Address {
    let name = if key == KEY { integration.to_owned() } else { format!("{integration}/{key}") };
    Address::new(Kind::IntegrationResponse, name)
}

pub(crate) fn address_of(integration: &str) -> Address {
    address(integration, KEY)
}

impl IntegrationResponse {
    pub(crate) fn templates(&self) -> HashMap<String, String> {
        HashMap::from([("$default".to_owned(), self.template.to_owned())])
    }
}

#[async_trait]
impl Resource for IntegrationResponse {
    fn address(&self) -> Address {
        address_of(self.integration)
    }

    fn needs(&self) -> Vec<Address> {
        vec![integration::address(self.integration)]
    }

    fn desired(&self, _: &Outputs) -> Desired {
        Desired::new().with("templates", json!(self.templates()))
    }

    async fn converge(&self, cx: &Cx<'_>, live: Option<&Live>) -> Result<Values, Error> {
        let api = cx.output(&api::address(&self.scope), "id")?;
        let integration = cx.output(&integration::address(self.integration), "id")?;
        let mut live = live.cloned();
        if live.is_none() {
            let created = cx
                .gateway(|| {
                    cx.aws
                        .apigateway
                        .create_integration_response()
                        .api_id(api)
                        .integration_id(integration)
                        .integration_response_key(KEY)
                        .set_response_templates(Some(self.templates()))
                        .send()
                })
                .await;
            match created {
                Ok(_) => return Ok(Values::new()),
                // Keys are unique: the answer of an earlier attempt was lost.
                Err(failure) if failure.is("ConflictException") => {
                    let at = integration::address(self.integration);
                    let mut found = observe(cx, api, &at, integration).await?.into_iter();
                    live = Some(found.find(|(at, _)| *at == self.address()).ok_or(failure)?.1);
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        let drift = cx.drifted(self, live.as_ref())?;
        if let Some(live) = live.filter(|_| !drift.is_empty()) {
            cx.gateway(|| {
                cx.aws
                    .apigateway
                    .update_integration_response()
                    .api_id(api)
                    .integration_id(integration)
                    .integration_response_id(&live.id)
                    .set_response_templates(Some(self.templates()))
                    .send()
            })
            .await?;
        }
        Ok(Values::new())
    }
}

pub(super) async fn observe(
    cx: &Cx<'_>,
    api: &str,
    owner: &Address,
    integration: &str,
) -> Result<Found, Error> {
    let answer = cx
        .gateway(|| {
            cx.aws.apigateway.get_integration_responses().api_id(api).integration_id(integration).send()
        })
        .await
        .or_absent("NotFoundException")?;
    let items = answer.and_then(|answer| answer.items).unwrap_or_default();
    let live = items.into_iter().map(|item| {
        let properties = Properties::from([("templates", json!(item.response_templates))]);
        let outputs = Values::from([("api", api.to_owned()), ("integration", integration.to_owned())]);
        let id = item.integration_response_id.unwrap_or_default();
        let key = item.integration_response_key.unwrap_or_default();
        (address(&owner.name, &key), Live { id, properties, outputs, owned: true })
    });
    Ok(live.collect())
}

pub(super) async fn delete(cx: &Cx<'_>, live: &Live) -> Result<(), Error> {
    let api = api::id_of(live);
    let integration = live.outputs.get("integration").cloned().unwrap_or_default();
    cx.gateway(|| {
        cx.aws
            .apigateway
            .delete_integration_response()
            .api_id(api)
            .integration_id(&integration)
            .integration_response_id(&live.id)
            .send()
    })
    .await
    .or_absent("NotFoundException")?;
    Ok(())
}
