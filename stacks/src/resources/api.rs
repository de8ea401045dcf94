//! The WebSocket API. Its name is not unique in an account, so it is found by tag; its parts are found below it.

use async_trait::async_trait;
use aws_sdk_apigatewayv2::types::{Api as Described, ProtocolType};
use futures_util::future::{try_join_all, try_join5};
use serde_json::json;

use super::undeclared::{UNDECLARED, Undeclared};
use super::{
    authorizer, deployment, integration, next_page, ownership, route, stage, tag_map, tags_property,
};
use crate::address::{Address, Kind};
use crate::aws::{Identity, sent_once};
use crate::call::{Cx, OrAbsent};
use crate::error::Error;
use crate::names::Scope;
use crate::observe::{Detail, Found};
use crate::resource::{Desired, Live, Outputs, Properties, Resource, Values};

#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) scope: Scope,
    /// How a frame finds its route: `$request.body.action`.
    pub(crate) route_selection: &'static str,
}

pub(crate) fn address(scope: &Scope) -> Address {
    Address::new(Kind::Api, scope.app.as_str())
}

/// The API in policies: `…/{stage}/{route key}` behind it is what may be done.
pub(crate) fn execution_arn(identity: &Identity, id: &str) -> String {
    let Identity { partition, region, account, .. } = identity;
    format!("arn:{partition}:execute-api:{region}:{account}:{id}")
}

/// The API as its own control plane names it in tag calls: without account. aws-facts, API Gateway 7.
fn tag_arn(identity: &Identity, id: &str) -> String {
    let Identity { partition, region, .. } = identity;
    format!("arn:{partition}:apigateway:{region}::/apis/{id}")
}

#[async_trait]
impl Resource for Api {
    fn address(&self) -> Address {
        address(&self.scope)
    }

    fn needs(&self) -> Vec<Address> {
        Vec::new()
    }

    fn desired(&self, _: &Outputs) -> Desired {
        Desired::new()
            .with("name", self.scope.prefix())
            .with("route_selection", self.route_selection)
            .with(UNDECLARED, Undeclared::none())
            .with("tags", tags_property(&self.scope))
    }

    async fn converge(&self, cx: &Cx<'_>, live: Option<&Live>) -> Result<Values, Error> {
        let Some(live) = live else { return self.create(cx).await };
        let drift = cx.drifted(self, Some(live))?;
        let reset = drift.contains(&UNDECLARED);
        if drift.iter().any(|property| *property != "tags") {
            cx.gateway(|| {
                cx.aws
                    .apigateway
                    .update_api()
                    .api_id(&live.id)
                    .name(self.scope.prefix())
                    .route_selection_expression(self.route_selection)
                    .set_disable_execute_api_endpoint(reset.then_some(false))
                    .set_disable_schema_validation(reset.then_some(false))
                    .send()
            })
            .await?;
        }
        if drift.contains(&"tags") {
            let arn = tag_arn(cx.aws.identity().await?, &live.id);
            cx.gateway(|| {
                cx.aws
                    .apigateway
                    .tag_resource()
                    .resource_arn(&arn)
                    .set_tags(Some(tag_map(&self.scope)))
                    .send()
            })
            .await?;
        }
        Ok(live.outputs.clone())
    }
}

impl Api {
    /// Makes it once, even if answers are lost: a second one of the same tags would be in the way for ever.
    async fn create(&self, cx: &Cx<'_>) -> Result<Values, Error> {
        for _ in 0..3 {
            let created = cx
                .gateway(|| {
                    cx.aws
                        .apigateway
                        .create_api()
                        .name(self.scope.prefix())
                        .protocol_type(ProtocolType::Websocket)
                        .route_selection_expression(self.route_selection)
                        .set_tags(Some(tag_map(&self.scope)))
                        .customize()
                        .config_override(sent_once())
                        .send()
                })
                .await;
            match created {
                Ok(answer) => return Ok(outputs(answer.api_id, answer.api_endpoint)),
                Err(failure) if failure.ambiguous => {
                    if let Some(live) = list(cx).await?.into_iter().find(|live| live.owned) {
                        return Ok(live.outputs);
                    }
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(Error::Unhealthy { resource: self.address(), what: "CreateApi gives no answer".to_owned() })
    }
}

fn outputs(id: Option<String>, endpoint: Option<String>) -> Values {
    Values::from([("id", id.unwrap_or_default()), ("endpoint", endpoint.unwrap_or_default())])
}

/// The API of the stage with all its parts, and others of the same tags, which only a run that was killed can leave.
pub(super) async fn observe(cx: &Cx<'_>, detail: Detail) -> Result<Found, Error> {
    let (mut apis, others): (Vec<Live>, Vec<Live>) = list(cx).await?.into_iter().partition(|live| live.owned);
    if apis.is_empty() {
        return observe_untagged(cx, others, detail).await;
    }
    let mut parts = try_join_all(apis.iter().map(|api| observe_parts(cx, &api.id, detail))).await?;
    // Should there be several, the one with the most parts is the one that serves.
    let serving = (0..apis.len()).max_by_key(|at| parts[*at].len());
    let Some(serving) = serving else { return Ok(Found::new()) };
    let mut found = parts.swap_remove(serving);
    found.push((address(cx.scope), apis.remove(serving)));
    found.extend(apis.into_iter().map(|api| (duplicate(address(cx.scope), &api.id), api)));
    Ok(found)
}

/// The API of our name without our tags. It may be ours all the same, and somebody has taken its tags away: making
/// another one beside it would leave clients on the old one. So it is refused like anything that only has our name.
async fn observe_untagged(cx: &Cx<'_>, apis: Vec<Live>, detail: Detail) -> Result<Found, Error> {
    let name = json!(cx.scope.prefix());
    let Some(api) = apis.into_iter().find(|api| api.properties.get("name") == Some(&name)) else {
        return Ok(Found::new());
    };
    let mut found = observe_parts(cx, &api.id, detail).await?;
    found.push((address(cx.scope), api));
    found.iter_mut().for_each(|(_, live)| live.owned = false);
    Ok(found)
}

/// The address of a second one where there should be one.
pub(super) fn duplicate(address: Address, id: &str) -> Address {
    Address { name: format!("{}#{id}", address.name), ..address }
}

async fn observe_parts(cx: &Cx<'_>, api: &str, detail: Detail) -> Result<Found, Error> {
    let (routes, integrations, authorizers, stages, deployments) = try_join5(
        route::observe(cx, api, detail),
        integration::observe(cx, api, detail),
        authorizer::observe(cx, api),
        stage::observe(cx, api),
        deployment::list(cx, api),
    )
    .await?;
    let deployments = deployment::observed(cx.scope, api, deployments, &stages);
    Ok([routes, integrations, authorizers, stages, deployments].concat())
}

/// The id of the API that serves, without a look at its parts.
pub(crate) async fn find(cx: &Cx<'_>) -> Result<Option<Live>, Error> {
    Ok(list(cx).await?.into_iter().find(|live| live.owned))
}

/// All APIs that carry this scope's tags, oldest first.
async fn list(cx: &Cx<'_>) -> Result<Vec<Live>, Error> {
    let mut apis: Vec<Described> = Vec::new();
    let mut token = None;
    loop {
        let page = cx.gateway(|| cx.aws.apigateway.get_apis().set_next_token(token.clone()).send()).await?;
        apis.extend(page.items.unwrap_or_default());
        token = next_page(page.next_token);
        if token.is_none() {
            break;
        }
    }
    apis.sort_by_key(|api| api.created_date.map(|date| date.secs()));
    let apis = apis.into_iter().filter(|api| api.protocol_type == Some(ProtocolType::Websocket));
    Ok(apis.map(|api| live(cx.scope, api)).collect())
}

fn live(scope: &Scope, api: Described) -> Live {
    let tags = api.tags.unwrap_or_default();
    let (tags, owned) = ownership(scope, tags.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let undeclared = Undeclared::default()
        .with("disable_execute_api_endpoint", api.disable_execute_api_endpoint.filter(|disabled| *disabled))
        .with("disable_schema_validation", api.disable_schema_validation.filter(|disabled| *disabled));
    let properties = Properties::from([
        ("name", json!(api.name)),
        ("route_selection", json!(api.route_selection_expression)),
        (UNDECLARED, undeclared.property()),
        ("tags", tags),
    ]);
    let id = api.api_id.clone().unwrap_or_default();
    Live { id, properties, outputs: outputs(api.api_id, api.api_endpoint), owned }
}

/// Takes everything below it along.
pub(super) async fn delete(cx: &Cx<'_>, live: &Live) -> Result<(), Error> {
    cx.gateway(|| cx.aws.apigateway.delete_api().api_id(&live.id).send())
        .await
        .or_absent("NotFoundException")?;
    Ok(())
}

/// The id of the API that a part belongs to, as observed.
pub(super) fn id_of(live: &Live) -> &str {
    live.outputs.get("api").map_or("", String::as_str)
}
