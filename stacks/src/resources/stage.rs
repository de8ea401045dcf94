//! The stage: what clients connect to. Pointing it at a deployment is the last step of a deploy, and until then the
//! old chat serves.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_apigatewayv2::types::{LoggingLevel, RouteSettings, Stage as Described};
use serde_json::{Value, json};

use super::undeclared::{UNDECLARED, Undeclared, some_text};
use super::{api, deployment, next_page, ownership, tag_map, tags_property};
use crate::address::{Address, Kind};
use crate::aws::Identity;
use crate::call::{Cx, OrAbsent};
use crate::error::Error;
use crate::names::Scope;
use crate::observe::Found;
use crate::resource::{Desired, Live, Outputs, Properties, Resource, Values};

#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) scope: Scope,
    pub(crate) identity: Identity,
    /// Requests a second, on average and at once.
    pub(crate) throttling_rate: u32,
    pub(crate) throttling_burst: u32,
    /// What must work before clients get to another deployment: permissions, and with them the aliases that they are on.
    pub(crate) behind: Vec<Address>,
}

pub(crate) fn address(scope: &Scope) -> Address {
    Address::new(Kind::Stage, scope.stage.as_str())
}

impl Stage {
    fn route_settings(&self) -> RouteSettings {
        RouteSettings::builder()
            .throttling_rate_limit(f64::from(self.throttling_rate))
            .throttling_burst_limit(i32::try_from(self.throttling_burst).unwrap_or(i32::MAX))
            // Execution logs would need a role of the whole account: aws-facts, API Gateway 10.
            .logging_level(LoggingLevel::Off)
            .data_trace_enabled(false)
            .detailed_metrics_enabled(false)
            .build()
    }
}

#[async_trait]
impl Resource for Stage {
    fn address(&self) -> Address {
        address(&self.scope)
    }

    fn needs(&self) -> Vec<Address> {
        vec![api::address(&self.scope), deployment::address(&self.scope)]
    }

    fn needs_to_serve(&self) -> Vec<Address> {
        self.behind.clone()
    }

    fn desired(&self, outputs: &Outputs) -> Desired {
        Desired::new()
            .with_later("deployment", outputs.get(&deployment::address(&self.scope), "id"))
            .with("throttling_rate", f64::from(self.throttling_rate))
            .with("throttling_burst", self.throttling_burst)
            // It would forbid to name a deployment: aws-facts, API Gateway 4.
            .with("auto_deploy", false)
            .with(UNDECLARED, Undeclared::none())
            .with("tags", tags_property(&self.scope))
    }

    async fn converge(&self, cx: &Cx<'_>, live: Option<&Live>) -> Result<Values, Error> {
        let api = cx.output(&api::address(&self.scope), "id")?;
        let deployment = cx.output(&deployment::address(&self.scope), "id")?;
        let mut live = live.cloned();
        if live.is_none() {
            let created = cx
                .gateway(|| {
                    cx.aws
                        .apigateway
                        .create_stage()
                        .api_id(api)
                        .stage_name(self.scope.stage.as_str())
                        .deployment_id(deployment)
                        .auto_deploy(false)
                        .default_route_settings(self.route_settings())
                        .set_tags(Some(tag_map(&self.scope)))
                        .send()
                })
                .await;
            match created {
                Ok(_) => return Ok(Values::new()),
                // Names are unique in an API: the answer of an earlier attempt was lost.
                Err(failure) if failure.is("ConflictException") => {
                    let found = observe(cx, api).await?.into_iter().find(|(at, _)| *at == self.address());
                    live = Some(found.ok_or(failure)?.1);
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        let drift = cx.drifted(self, live.as_ref())?;
        let undeclared = live.as_ref().filter(|_| drift.contains(&UNDECLARED)).map(Extras::of);
        if let Some(found) = &undeclared {
            self.remove(cx, api, found).await?;
        }
        if drift.iter().any(|property| *property != "tags") {
            cx.gateway(|| {
                cx.aws
                    .apigateway
                    .update_stage()
                    .api_id(api)
                    .stage_name(self.scope.stage.as_str())
                    .deployment_id(deployment)
                    .auto_deploy(false)
                    .default_route_settings(self.route_settings())
                    // Empty values take them away: aws-facts, API Gateway 6.
                    .set_stage_variables(undeclared.as_ref().map(Extras::without_variables))
                    .set_client_certificate_id(undeclared.as_ref().map(|_| String::new()))
                    .send()
            })
            .await?;
        }
        if drift.contains(&"tags") {
            let Identity { partition, region, .. } = &self.identity;
            let arn = format!("arn:{partition}:apigateway:{region}::/apis/{api}/stages/{}", self.scope.stage);
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
        Ok(Values::new())
    }
}

/// Serves another deployment, and changes nothing else.
pub(crate) async fn point_to(cx: &Cx<'_>, api: &str, deployment: &str) -> Result<(), Error> {
    let stage = cx.scope.stage.as_str();
    cx.gateway(|| {
        cx.aws.apigateway.update_stage().api_id(api).stage_name(stage).deployment_id(deployment).send()
    })
    .await?;
    Ok(())
}

/// The undeclared settings that a stage was found to have.
struct Extras<'a>(&'a Live);

impl<'a> Extras<'a> {
    fn of(live: &'a Live) -> Self {
        Self(live)
    }

    fn has(&self, name: &str) -> bool {
        self.0.properties.get(UNDECLARED).is_some_and(|found| found.get(name).is_some())
    }

    fn names_in(&self, name: &str) -> Vec<String> {
        let group = self.0.properties.get(UNDECLARED).and_then(|found| found.get(name)?.as_object());
        group.into_iter().flat_map(|group| group.keys().cloned()).collect()
    }

    fn without_variables(&self) -> HashMap<String, String> {
        self.names_in("variables").into_iter().map(|name| (name, String::new())).collect()
    }
}

impl Stage {
    /// Takes away what UpdateStage cannot: aws-facts, API Gateway 6.
    async fn remove(&self, cx: &Cx<'_>, api: &str, found: &Extras<'_>) -> Result<(), Error> {
        let stage = self.scope.stage.as_str();
        if found.has("access_log") {
            cx.gateway(|| {
                cx.aws.apigateway.delete_access_log_settings().api_id(api).stage_name(stage).send()
            })
            .await
            .or_absent("NotFoundException")?;
        }
        for route in found.names_in("routes") {
            cx.gateway(|| {
                cx.aws
                    .apigateway
                    .delete_route_settings()
                    .api_id(api)
                    .stage_name(stage)
                    .route_key(&route)
                    .send()
            })
            .await
            .or_absent("NotFoundException")?;
        }
        Ok(())
    }
}

pub(crate) async fn observe(cx: &Cx<'_>, api: &str) -> Result<Found, Error> {
    let mut items: Vec<Described> = Vec::new();
    let mut token = None;
    loop {
        let page = cx
            .gateway(|| cx.aws.apigateway.get_stages().api_id(api).set_next_token(token.clone()).send())
            .await
            .or_absent("NotFoundException")?;
        let Some(page) = page else { break };
        items.extend(page.items.unwrap_or_default());
        token = next_page(page.next_token);
        if token.is_none() {
            break;
        }
    }
    Ok(items.into_iter().map(|item| live(cx.scope, api, item)).collect())
}

fn live(scope: &Scope, api: &str, stage: Described) -> (Address, Live) {
    let undeclared = undeclared(&stage);
    let tags = stage.tags.unwrap_or_default();
    // Owned like all of the API: its own tags may drift.
    let (tags, _) = ownership(scope, tags.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let settings = stage.default_route_settings;
    let properties = Properties::from([
        ("deployment", json!(stage.deployment_id)),
        ("throttling_rate", json!(settings.as_ref().and_then(|settings| settings.throttling_rate_limit))),
        ("throttling_burst", json!(settings.as_ref().and_then(|settings| settings.throttling_burst_limit))),
        ("auto_deploy", json!(stage.auto_deploy.unwrap_or(false))),
        (UNDECLARED, undeclared),
        ("tags", tags),
    ]);
    let id = stage.stage_name.unwrap_or_default();
    let outputs = Values::from([("api", api.to_owned())]);
    (Address::new(Kind::Stage, id.clone()), Live { id, properties, outputs, owned: true })
}

fn undeclared(stage: &Described) -> Value {
    let defaults = stage.default_route_settings.as_ref();
    let logging = defaults.and_then(|defaults| defaults.logging_level.as_ref());
    let data_trace = defaults.and_then(|defaults| defaults.data_trace_enabled);
    let metrics = defaults.and_then(|defaults| defaults.detailed_metrics_enabled);
    let access_log = stage.access_log_settings.as_ref().and_then(|log| some_text(log.destination_arn()));
    let variables = stage.stage_variables.as_ref().filter(|variables| !variables.is_empty());
    let routes = stage.route_settings.as_ref().filter(|routes| !routes.is_empty());
    let routes = routes.map(|routes| {
        let limits = routes.iter().map(|(key, settings)| {
            let limits = json!([settings.throttling_rate_limit, settings.throttling_burst_limit]);
            (key.clone(), limits)
        });
        limits.collect::<serde_json::Map<_, _>>()
    });
    Undeclared::default()
        .with("variables", variables.map(|variables| json!(variables)))
        .with("access_log", access_log)
        .with("routes", routes)
        .with("client_certificate", some_text(stage.client_certificate_id()))
        .with("logging", logging.filter(|level| **level != LoggingLevel::Off).map(LoggingLevel::as_str))
        .with("data_trace", data_trace.filter(|on| *on))
        .with("detailed_metrics", metrics.filter(|on| *on))
        .property()
}

pub(super) async fn delete(cx: &Cx<'_>, live: &Live) -> Result<(), Error> {
    let api = api::id_of(live);
    cx.gateway(|| cx.aws.apigateway.delete_stage().api_id(api).stage_name(&live.id).send())
        .await
        .or_absent("NotFoundException")?;
    Ok(())
}
