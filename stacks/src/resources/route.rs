//! A route: which frames, or which of `$connect` and `$disconnect`, go somewhere. Where to is its
//! [target](super::route_target).

use async_trait::async_trait;
use aws_sdk_apigatewayv2::types::{AuthorizationType, Route as Described};
use futures_util::future::try_join_all;
use serde_json::json;

use super::undeclared::{UNDECLARED, Undeclared, some_text};
use super::{api, authorizer, integration, next_page, route_response, route_target};
use crate::address::{Address, Kind};
use crate::call::{Cx, OrAbsent};
use crate::error::Error;
use crate::names::Scope;
use crate::observe::{Detail, Found};
use crate::resource::{Desired, Live, Outputs, Properties, Resource, Values};

#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) scope: Scope,
    pub(crate) key: &'static str,
    /// Where it leads. A template says so in the route; otherwise its target does.
    pub(crate) integration: &'static str,
    /// Only `$connect` can have one: aws-facts, behaviour.
    pub(crate) authorizer: Option<&'static str>,
    /// Whether what the integration answers goes back to the sender.
    pub(crate) two_way: bool,
}

/// The only key that a route response can have, and so the only value of the expression that selects one.
/// Source: <https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-selection-expressions.html>
pub(crate) const RESPONSE_KEY: &str = "$default";

/// The output that tells the target which a route was made with, for whoever would set it otherwise.
pub(super) const MADE_WITH: &str = "made_with";

pub(crate) fn address(key: &str) -> Address {
    Address::new(Kind::Route, key)
}

impl Route {
    pub(crate) fn authorizer_id<'a>(&self, outputs: &'a Outputs) -> Option<&'a str> {
        outputs.get(&authorizer::address(self.authorizer?), "id")
    }

    pub(crate) fn authorization(&self) -> AuthorizationType {
        if self.authorizer.is_some() { AuthorizationType::Custom } else { AuthorizationType::None }
    }

    pub(crate) fn response_selection(&self) -> Option<&'static str> {
        self.two_way.then_some(RESPONSE_KEY)
    }
}

#[async_trait]
impl Resource for Route {
    fn address(&self) -> Address {
        address(self.key)
    }

    fn needs(&self) -> Vec<Address> {
        let mut needs = vec![api::address(&self.scope)];
        if let Some(authorizer) = self.authorizer {
            // They are made at the same time, so a route that has to wait for the one gets the other with it.
            needs.extend([authorizer::address(authorizer), integration::address(self.integration)]);
        }
        needs
    }

    fn desired(&self, outputs: &Outputs) -> Desired {
        let desired = Desired::new()
            .with("authorization", self.authorization().as_str())
            .with("response_selection", json!(self.response_selection()))
            .with(UNDECLARED, Undeclared::none());
        match self.authorizer {
            Some(_) => desired.with_later("authorizer", self.authorizer_id(outputs)),
            None => desired,
        }
    }

    async fn converge(&self, cx: &Cx<'_>, live: Option<&Live>) -> Result<Values, Error> {
        let api = cx.output(&api::address(&self.scope), "id")?;
        let authorizer = self.authorizer_id(&cx.outputs);
        let target = authorizer.and_then(|_| route_target::known(self.integration, &cx.outputs));
        let mut live = live.cloned();
        if live.is_none() {
            let created = cx
                .gateway(|| {
                    cx.aws
                        .apigateway
                        .create_route()
                        .api_id(api)
                        .route_key(self.key)
                        .set_target(target.clone())
                        .authorization_type(self.authorization())
                        .set_authorizer_id(authorizer.map(str::to_owned))
                        .set_route_response_selection_expression(self.response_selection().map(str::to_owned))
                        .send()
                })
                .await;
            match created {
                Ok(answer) => {
                    let mut outputs = outputs(api, answer.route_id);
                    outputs.extend(target.map(|target| (MADE_WITH, target)));
                    return Ok(outputs);
                }
                // Keys are unique in an API: the answer of an earlier attempt was lost. aws-facts, API Gateway 9.
                Err(failure) if failure.is("ConflictException") => {
                    let found =
                        list(cx, api).await?.into_iter().find(|route| route.route_key() == Some(self.key));
                    live = Some(observed(api, found.ok_or(failure)?));
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        let Some(live) = live else { return Err(Error::bug("no route to update")) };
        let drift = cx.drifted(self, Some(&live))?;
        if !drift.is_empty() {
            // An empty one takes it away.
            let model = drift.contains(&UNDECLARED).then(String::new);
            cx.gateway(|| {
                cx.aws
                    .apigateway
                    .update_route()
                    .api_id(api)
                    .route_id(&live.id)
                    .authorization_type(self.authorization())
                    .set_authorizer_id(authorizer.map(str::to_owned))
                    // An empty one takes it away.
                    .route_response_selection_expression(self.response_selection().unwrap_or_default())
                    .api_key_required(false)
                    .set_model_selection_expression(model.clone())
                    .send()
            })
            .await?;
        }
        Ok(live.outputs)
    }
}

fn outputs(api: &str, id: Option<String>) -> Values {
    Values::from([("api", api.to_owned()), ("id", id.unwrap_or_default())])
}

async fn list(cx: &Cx<'_>, api: &str) -> Result<Vec<Described>, Error> {
    let mut items = Vec::new();
    let mut token = None;
    loop {
        let page = cx
            .gateway(|| cx.aws.apigateway.get_routes().api_id(api).set_next_token(token.clone()).send())
            .await
            .or_absent("NotFoundException")?;
        let Some(page) = page else { return Ok(items) };
        items.extend(page.items.unwrap_or_default());
        token = next_page(page.next_token);
        if token.is_none() {
            return Ok(items);
        }
    }
}

fn observed(api: &str, route: Described) -> Live {
    let undeclared = Undeclared::default()
        .with("api_key_required", route.api_key_required.filter(|required| *required))
        .with("model_selection", some_text(route.model_selection_expression()));
    let selection = route.route_response_selection_expression.filter(|selection| !selection.is_empty());
    let authorization = route.authorization_type.unwrap_or(AuthorizationType::None);
    let mut properties = Properties::from([
        (UNDECLARED, undeclared.property()),
        ("authorization", json!(authorization.as_str())),
        ("response_selection", json!(selection)),
    ]);
    if let Some(authorizer) = route.authorizer_id {
        properties.insert("authorizer", json!(authorizer));
    }
    let id = route.route_id.clone().unwrap_or_default();
    Live { id, properties, outputs: outputs(api, route.route_id), owned: true }
}

/// The routes with their targets, and with their responses, unless an outline is enough.
pub(super) async fn observe(cx: &Cx<'_>, api: &str, detail: Detail) -> Result<Found, Error> {
    let listed = list(cx, api).await?;
    let targets: Found = listed.iter().filter_map(|route| route_target::observed(api, route)).collect();
    let routes: Found = listed
        .into_iter()
        .map(|route| (address(route.route_key().unwrap_or_default()), observed(api, route)))
        .collect();
    if detail == Detail::Outline {
        return Ok([routes, targets].concat());
    }
    let responses = routes.iter().map(|(at, live)| route_response::observe(cx, api, at, &live.id));
    let responses = try_join_all(responses).await?.concat();
    Ok([routes, targets, responses].concat())
}

/// Takes its responses along.
pub(super) async fn delete(cx: &Cx<'_>, live: &Live) -> Result<(), Error> {
    let api = api::id_of(live);
    cx.gateway(|| cx.aws.apigateway.delete_route().api_id(api).route_id(&live.id).send())
        .await
        .or_absent("NotFoundException")?;
    Ok(())
}
