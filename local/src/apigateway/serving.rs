//! What a stage serves: the snapshot of its deployment, read once into what the WebSocket plane needs per frame.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::Value;

use super::model::{Api, Deployment, Document, Integration, text};

/// A stage and the deployment it points at.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) api_id: String,
    pub(crate) stage: String,
    pub(crate) variables: BTreeMap<String, String>,
    /// Of all routes without limits of their own together, which AWS does not say; per route it would be laxer.
    pub(crate) throttle: Option<Throttle>,
    /// Names below `$request.body`, outermost first.
    pub(crate) selection: Vec<String>,
    pub(crate) routes: HashMap<String, ServedRoute>,
}

/// Requests per second, and how many may come at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Throttle {
    pub(crate) rate: f64,
    pub(crate) burst: u32,
}

#[derive(Debug)]
pub(crate) struct ServedRoute {
    pub(crate) key: String,
    pub(crate) throttle: Option<Throttle>,
    pub(crate) authorizer: Option<ServedAuthorizer>,
    pub(crate) target: Option<Target>,
    /// Whether what the integration answers goes back to the sender.
    pub(crate) responds: bool,
}

#[derive(Debug)]
pub(crate) struct ServedAuthorizer {
    pub(crate) id: String,
    pub(crate) function_arn: String,
    pub(crate) identity_sources: Vec<IdentitySource>,
}

/// Where an authorizer finds what identifies the caller. Without every one of them it is not even asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum IdentitySource {
    Header(String),
    Query(String),
    /// `context` and `stageVariables` are always there.
    Present,
}

#[derive(Debug)]
pub(crate) enum Target {
    Lambda {
        function_arn: String,
        timeout: Duration,
    },
    /// The `$default` template of each integration response, by its key.
    Mock {
        responses: Vec<(String, Option<String>)>,
    },
}

impl Serving {
    pub(super) fn of(api_id: &str, api: &Api, stage: &str) -> Option<Self> {
        let settings = &api.stages.get(stage)?.document;
        let deployment = api.deployments.get(text(settings, "deploymentId")?)?;
        let variables = settings
            .get("stageVariables")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect();
        let own_settings = settings.get("routeSettings");
        let defaults = settings.get("defaultRouteSettings").and_then(Value::as_object);
        let routes = deployment
            .routes
            .values()
            .filter_map(|route| {
                let key = text(&route.document, "routeKey")?.to_owned();
                let served = ServedRoute {
                    key: key.clone(),
                    throttle: own_settings
                        .and_then(|all| all.get(&key)?.as_object())
                        .and_then(|own| throttle_of_route(own, defaults)),
                    authorizer: authorizer(deployment, &route.document),
                    target: target(deployment, &route.document),
                    responds: !route.responses.is_empty()
                        && text(&route.document, "routeResponseSelectionExpression").is_some(),
                };
                Some((key, served))
            })
            .collect();
        Some(Self {
            api_id: api_id.to_owned(),
            stage: stage.to_owned(),
            variables,
            throttle: defaults.and_then(throttle),
            selection: deployment
                .selection
                .trim_start_matches("${")
                .trim_end_matches('}')
                .trim_start_matches('$')
                .trim_start_matches("request.body.")
                .split('.')
                .map(str::to_owned)
                .collect(),
            routes,
        })
    }
}

fn throttle(settings: &Document) -> Option<Throttle> {
    let rate = settings.get("throttlingRateLimit").and_then(Value::as_f64)?;
    let burst = settings.get("throttlingBurstLimit").and_then(Value::as_u64).unwrap_or(rate.ceil() as u64);
    Some(Throttle { rate, burst: u32::try_from(burst).unwrap_or(u32::MAX) })
}

/// The limits of a route that has one of its own; the other may be that of its stage.
fn throttle_of_route(own: &Document, defaults: Option<&Document>) -> Option<Throttle> {
    if !["throttlingRateLimit", "throttlingBurstLimit"].iter().any(|name| own.contains_key(*name)) {
        return None;
    }
    let mut settings = defaults.cloned().unwrap_or_default();
    settings.extend(own.clone());
    throttle(&settings)
}

fn authorizer(deployment: &Deployment, route: &Document) -> Option<ServedAuthorizer> {
    let id = text(route, "authorizerId").filter(|_| text(route, "authorizationType") == Some("CUSTOM"))?;
    let document = deployment.authorizers.get(id)?;
    let sources = document.get("identitySource").and_then(Value::as_array);
    Some(ServedAuthorizer {
        id: id.to_owned(),
        function_arn: function_arn(text(document, "authorizerUri")?)?.to_owned(),
        identity_sources: sources
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(|source| {
                if let Some(name) = source.strip_prefix("route.request.header.") {
                    IdentitySource::Header(name.to_ascii_lowercase())
                } else if let Some(name) = source.strip_prefix("route.request.querystring.") {
                    IdentitySource::Query(name.to_owned())
                } else {
                    IdentitySource::Present
                }
            })
            .collect(),
    })
}

fn target(deployment: &Deployment, route: &Document) -> Option<Target> {
    let id = text(route, "target")?.strip_prefix("integrations/")?;
    let Integration { document, responses } = deployment.integrations.get(id)?;
    if text(document, "integrationType") == Some("MOCK") {
        let responses = responses
            .values()
            .filter_map(|response| {
                let key = text(response, "integrationResponseKey")?.to_owned();
                let template = response.get("responseTemplates").and_then(|all| all.get("$default"));
                Some((key, template.and_then(Value::as_str).map(str::to_owned)))
            })
            .collect();
        return Some(Target::Mock { responses });
    }
    let timeout = document.get("timeoutInMillis").and_then(Value::as_u64).unwrap_or(29_000);
    Some(Target::Lambda {
        function_arn: function_arn(text(document, "integrationUri")?)?.to_owned(),
        timeout: Duration::from_millis(timeout),
    })
}

/// The function in `arn:aws:apigateway:{region}:lambda:path/2015-03-31/functions/{arn}/invocations`.
pub(super) fn function_arn(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once(":lambda:path/2015-03-31/functions/")?;
    rest.strip_suffix("/invocations")
}
