//! What a route calls: a function, or nothing at all (MOCK). Integrations have neither name nor tag, so ours carry
//! their name in the description from the call that makes them.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use aws_sdk_apigatewayv2::types::{Integration as Described, IntegrationType, PassthroughBehavior};
use chat_functions::contract::Handler;
use futures_util::future::try_join_all;
use serde_json::json;

use super::undeclared::{UNDECLARED, Undeclared, some_text};
use super::{alias, api, integration_response, next_page};
use crate::address::{Address, Kind};
use crate::aws::{Identity, sent_once};
use crate::call::{Cx, OrAbsent};
use crate::error::Error;
use crate::names::Scope;
use crate::observe::{Detail, Found};
use crate::resource::{Desired, Live, Outputs, Properties, Resource, Values};

/// What an integration has unless told otherwise, and the most it can have: aws-facts, quotas.
const DEFAULT_TIMEOUT_MS: i32 = 29_000;

#[derive(Clone, Debug)]
pub(crate) struct Integration {
    pub(crate) scope: Scope,
    pub(crate) identity: Identity,
    pub(crate) name: &'static str,
    pub(crate) backend: Backend,
}

#[derive(Clone, Debug)]
pub(crate) enum Backend {
    /// The alias of a handler's function.
    Function(Handler),
    /// API Gateway answers by itself.
    ///
    /// The request template gives the `statusCode`, which selects the integration response. The key `$default` is the
    /// catch-all for templates and responses alike, so no selection expression is needed.
    /// Sources: <https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-selection-expressions.html>,
    /// <https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-integration-responses.html>,
    /// and, tried on AWS, <https://wasabee.dev/2024/07/api-gateway-websocket-with-mock-integration>
    Mock,
}

pub(crate) fn address(name: &str) -> Address {
    Address::new(Kind::Integration, name)
}

/// The parts of a request that depend on the backend.
pub(crate) struct Shape {
    pub(crate) kind: IntegrationType,
    pub(crate) uri: Option<String>,
    pub(crate) method: Option<&'static str>,
    pub(crate) templates: Option<HashMap<String, String>>,
    pub(crate) passthrough: Option<PassthroughBehavior>,
}

impl Integration {
    pub(crate) fn shape(&self) -> Shape {
        match self.backend {
            Backend::Function(handler) => Shape {
                kind: IntegrationType::AwsProxy,
                uri: Some(alias::invocation_uri(&self.identity, &self.scope, handler)),
                method: Some("POST"),
                templates: None,
                passthrough: None,
            },
            Backend::Mock => Shape {
                kind: IntegrationType::Mock,
                uri: None,
                method: None,
                templates: Some(HashMap::from([("$default".to_owned(), r#"{"statusCode":200}"#.to_owned())])),
                passthrough: Some(PassthroughBehavior::WhenNoMatch),
            },
        }
    }
}

#[async_trait]
impl Resource for Integration {
    fn address(&self) -> Address {
        address(self.name)
    }

    fn needs(&self) -> Vec<Address> {
        vec![api::address(&self.scope)]
    }

    fn desired(&self, _: &Outputs) -> Desired {
        let shape = self.shape();
        let desired = Desired::new()
            .with("type", shape.kind.as_str())
            .with("uri", json!(shape.uri))
            .with(UNDECLARED, Undeclared::none());
        match shape.templates {
            // A proxy integration reads back a method and a pass-through that nobody set: aws-facts, API Gateway 5.
            None => desired,
            Some(templates) => desired.with("templates", json!(templates)),
        }
    }

    async fn converge(&self, cx: &Cx<'_>, live: Option<&Live>) -> Result<Values, Error> {
        let api = cx.output(&api::address(&self.scope), "id")?;
        match live {
            None => self.create(cx, api).await,
            Some(live) => {
                let drift = cx.drifted(self, Some(live))?;
                if !drift.is_empty() {
                    self.update(cx, api, &live.id, drift.contains(&UNDECLARED)).await?;
                }
                Ok(live.outputs.clone())
            }
        }
    }
}

impl Integration {
    async fn create(&self, cx: &Cx<'_>, api: &str) -> Result<Values, Error> {
        for _ in 0..3 {
            let created = cx
                .gateway(|| {
                    let shape = self.shape();
                    cx.aws
                        .apigateway
                        .create_integration()
                        .api_id(api)
                        .description(self.name)
                        .integration_type(shape.kind)
                        .set_integration_uri(shape.uri)
                        .set_integration_method(shape.method.map(str::to_owned))
                        .set_request_templates(shape.templates)
                        .set_passthrough_behavior(shape.passthrough)
                        .customize()
                        .config_override(sent_once())
                        .send()
                })
                .await;
            match created {
                Ok(answer) => return Ok(outputs(api, answer.integration_id)),
                Err(failure) if failure.ambiguous => {
                    let found =
                        list(cx, api).await?.into_iter().find(|item| item.description() == Some(self.name));
                    if let Some(item) = found {
                        return Ok(outputs(api, item.integration_id));
                    }
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(Error::Unhealthy {
            resource: self.address(),
            what: "CreateIntegration gives no answer".to_owned(),
        })
    }

    /// `reset`: also what is not declared goes back to its default.
    async fn update(&self, cx: &Cx<'_>, api: &str, id: &str, reset: bool) -> Result<(), Error> {
        cx.gateway(|| {
            let shape = self.shape();
            cx.aws
                .apigateway
                .update_integration()
                .api_id(api)
                .integration_id(id)
                // Must be sent again: aws-facts, API Gateway 5.
                .integration_type(shape.kind)
                .set_integration_uri(shape.uri)
                .set_integration_method(shape.method.map(str::to_owned))
                .set_request_templates(shape.templates)
                .set_passthrough_behavior(shape.passthrough)
                .set_timeout_in_millis(reset.then_some(DEFAULT_TIMEOUT_MS))
                // An empty one takes it away.
                .set_credentials_arn(reset.then(String::new))
                .send()
        })
        .await?;
        Ok(())
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
            .gateway(|| cx.aws.apigateway.get_integrations().api_id(api).set_next_token(token.clone()).send())
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

/// The integrations with their responses, unless an outline is enough. Of several with the same name the first by id
/// has it; the others, and what has no name at all, get an address of their own and are not declared.
pub(super) async fn observe(cx: &Cx<'_>, api: &str, detail: Detail) -> Result<Found, Error> {
    let mut items = list(cx, api).await?;
    items.sort_by(|one, other| one.integration_id.cmp(&other.integration_id));
    let mut found: BTreeMap<Address, Live> = BTreeMap::new();
    for item in items {
        let id = item.integration_id.clone().unwrap_or_default();
        let mut at = address(item.description().unwrap_or_default());
        if at.name.is_empty() || found.contains_key(&at) {
            at = api::duplicate(at, &id);
        }
        let timeout = item.timeout_in_millis.filter(|timeout| *timeout != DEFAULT_TIMEOUT_MS);
        let undeclared = Undeclared::default()
            .with("timeout_ms", timeout)
            .with("credentials", some_text(item.credentials_arn()));
        let properties = Properties::from([
            (UNDECLARED, undeclared.property()),
            ("type", json!(item.integration_type.as_ref().map(IntegrationType::as_str))),
            ("uri", json!(item.integration_uri.filter(|uri| !uri.is_empty()))),
            ("templates", json!(item.request_templates)),
        ]);
        let outputs = outputs(api, item.integration_id);
        found.insert(at, Live { id, properties, outputs, owned: true });
    }
    if detail == Detail::Outline {
        return Ok(found.into_iter().collect());
    }
    // Only what does not proxy has responses.
    let responses = found.iter().filter(|(_, live)| live.properties.get("type") != Some(&json!("AWS_PROXY")));
    let responses = responses.map(|(at, live)| integration_response::observe(cx, api, at, &live.id));
    let responses = try_join_all(responses).await?.concat();
    Ok(found.into_iter().chain(responses).collect())
}

pub(super) async fn delete(cx: &Cx<'_>, live: &Live) -> Result<(), Error> {
    let api = api::id_of(live);
    cx.gateway(|| cx.aws.apigateway.delete_integration().api_id(api).integration_id(&live.id).send())
        .await
        .or_absent("NotFoundException")?;
    Ok(())
}
