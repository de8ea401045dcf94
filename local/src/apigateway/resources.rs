//! Creating, reading, changing and deleting an API and what is below it.

use std::collections::BTreeMap;

use http::StatusCode;
use rand::RngExt;
use serde_json::{Value, json};

use super::checks::{self, bad_request, conflict, members, not_found, required};
use super::model::{self, Api, Deployment, Document, Integration, Route, Stage, text};
use super::{ApiGateway, KIND};
use crate::call::{Call, Reply};
use crate::context::Context;
use crate::error::AwsError;
use crate::rest::{self, Params, Query};

impl ApiGateway {
    pub(super) fn create_api(&self, call: &Call) -> Result<Reply, AwsError> {
        let mut document = members(body(call)?, model::API)?;
        checks::api(&document)?;
        let tags = take_tags(&mut document)?;
        let id = new_id(10);
        document.insert("apiId".into(), json!(id));
        document.insert("apiEndpoint".into(), endpoint(&self.cx, &id));
        document.insert("createdDate".into(), json!(now()));
        defaults(&mut document, &[("apiKeySelectionExpression", json!("$request.header.x-api-key"))]);
        let api = Api {
            document,
            tags,
            authorizers: BTreeMap::new(),
            integrations: BTreeMap::new(),
            routes: BTreeMap::new(),
            deployments: BTreeMap::new(),
            stages: BTreeMap::new(),
        };
        let mut apis = self.lock();
        self.keep(&id, &api)?;
        let reply = Reply::json(StatusCode::CREATED, &shown_api(&api));
        apis.insert(id, api);
        reply
    }

    pub(super) fn list_apis(&self, call: &Call) -> Result<Reply, AwsError> {
        let apis = self.lock();
        list(call, "apiId", apis.values().map(shown_api))
    }

    pub(super) fn delete_api(&self, id: &str) -> Result<Reply, AwsError> {
        let mut apis = self.lock();
        if !apis.contains_key(id) {
            return Err(not_found("API", id));
        }
        self.cx.store.delete(KIND, id)?;
        self.serve(id, None);
        apis.remove(id);
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }
}

pub(super) fn read(api: &Api, operation: &str, call: &Call, params: &Params) -> Result<Reply, AwsError> {
    let id = params.get("Id");
    let sub = params.get("Sub");
    let one = |found: Option<Document>, what: &str, id: &str| {
        Reply::json(StatusCode::OK, &found.ok_or_else(|| not_found(what, id))?)
    };
    let integration = || api.integrations.get(id).ok_or_else(|| not_found("Integration", id));
    let route = || api.routes.get(id).ok_or_else(|| not_found("Route", id));
    match operation {
        "GetApi" => Reply::json(StatusCode::OK, &shown_api(api)),
        "GetAuthorizers" => list(call, "authorizerId", api.authorizers.values().cloned()),
        "GetAuthorizer" => one(api.authorizers.get(id).cloned(), "Authorizer", id),
        "GetIntegrations" => {
            list(call, "integrationId", api.integrations.values().map(|i| i.document.clone()))
        }
        "GetIntegration" => one(Some(integration()?.document.clone()), "Integration", id),
        "GetIntegrationResponses" => {
            list(call, "integrationResponseId", integration()?.responses.values().cloned())
        }
        "GetIntegrationResponse" => {
            one(integration()?.responses.get(sub).cloned(), "IntegrationResponse", sub)
        }
        "GetRoutes" => list(call, "routeId", api.routes.values().map(|route| route.document.clone())),
        "GetRoute" => one(Some(route()?.document.clone()), "Route", id),
        "GetRouteResponses" => list(call, "routeResponseId", route()?.responses.values().cloned()),
        "GetRouteResponse" => one(route()?.responses.get(sub).cloned(), "RouteResponse", sub),
        "GetDeployments" => list(call, "deploymentId", api.deployments.values().map(|d| d.document.clone())),
        "GetDeployment" => one(api.deployments.get(id).map(|d| d.document.clone()), "Deployment", id),
        "GetStages" => list(call, "stageName", api.stages.values().map(shown_stage)),
        "GetStage" => one(api.stages.get(id).map(shown_stage), "Stage", id),
        other => Err(bad_request(format!("Unknown operation {other}"))),
    }
}

pub(super) fn change(
    api: &mut Api,
    operation: &str,
    call: &Call,
    params: &Params,
) -> Result<Reply, AwsError> {
    let id = params.get("Id");
    match operation {
        "UpdateApi" => {
            let mut document = api.document.clone();
            document.extend(members(body(call)?, model::API)?);
            checks::api(&document)?;
            api.document = document;
            Reply::json(StatusCode::OK, &shown_api(api))
        }
        "CreateAuthorizer" | "UpdateAuthorizer" => {
            let given = members(body(call)?, model::AUTHORIZER)?;
            let (id, document) = merged(api.authorizers.get(id), id, "authorizerId", given, "Authorizer")?;
            checks::authorizer(api, &id, &document)?;
            api.authorizers.insert(id, document.clone());
            created_or_updated(operation, &document)
        }
        "DeleteAuthorizer" => {
            let used = api.routes.values().any(|route| text(&route.document, "authorizerId") == Some(id));
            if used {
                return Err(conflict(format!("Authorizer {id} is in use by a route")));
            }
            removed(api.authorizers.remove(id), "Authorizer", id)
        }
        "CreateIntegration" | "UpdateIntegration" => {
            let given = members(body(call)?, model::INTEGRATION)?;
            let old = api.integrations.get(id);
            let (id, mut document) =
                merged(old.map(|i| &i.document), id, "integrationId", given, "Integration")?;
            checks::integration(&document)?;
            // An unset method reads back as POST: aws-facts, API Gateway 5.
            defaults(
                &mut document,
                &[
                    ("integrationMethod", json!("POST")),
                    ("connectionType", json!("INTERNET")),
                    ("payloadFormatVersion", json!("1.0")),
                    ("passthroughBehavior", json!("WHEN_NO_MATCH")),
                    ("timeoutInMillis", json!(29_000)),
                ],
            );
            api.integrations.entry(id).or_default().document = document.clone();
            created_or_updated(operation, &document)
        }
        "DeleteIntegration" => {
            let target = format!("integrations/{id}");
            let user = api.routes.values().find(|route| text(&route.document, "target") == Some(&target));
            if let Some(route) = user {
                let key = text(&route.document, "routeKey").unwrap_or_default();
                return Err(conflict(format!(
                    "Cannot delete Integration '{id}'. It is referenced by the route {key}."
                )));
            }
            removed(api.integrations.remove(id), "Integration", id)
        }
        "CreateRoute" | "UpdateRoute" => {
            let given = members(body(call)?, model::ROUTE)?;
            let old = api.routes.get(id);
            let (new, mut document) = merged(old.map(|r| &r.document), id, "routeId", given, "Route")?;
            checks::route(api, Some(id), &document)?;
            defaults(
                &mut document,
                &[("apiKeyRequired", json!(false)), ("authorizationType", json!("NONE"))],
            );
            api.routes.entry(new).or_default().document = document.clone();
            created_or_updated(operation, &document)
        }
        "DeleteRoute" => removed(api.routes.remove(id), "Route", id),
        "CreateDeployment" | "UpdateDeployment" | "DeleteDeployment" => deployment(api, operation, call, id),
        _ if operation.contains("Stage") || operation.ends_with("Settings") => {
            stage(api, operation, call, params)
        }
        _ => response(api, operation, call, params),
    }
}

/// Route responses and integration responses.
fn response(api: &mut Api, operation: &str, call: &Call, params: &Params) -> Result<Reply, AwsError> {
    let (id, sub) = (params.get("Id"), params.get("Sub"));
    let of_route = operation.contains("RouteResponse");
    let (responses, known, id_member, key_member, what) = if of_route {
        let Route { responses, .. } = api.routes.get_mut(id).ok_or_else(|| not_found("Route", id))?;
        (responses, model::ROUTE_RESPONSE, "routeResponseId", "routeResponseKey", "RouteResponse")
    } else {
        let Integration { responses, .. } =
            api.integrations.get_mut(id).ok_or_else(|| not_found("Integration", id))?;
        let what = "IntegrationResponse";
        (responses, model::INTEGRATION_RESPONSE, "integrationResponseId", "integrationResponseKey", what)
    };
    if operation.starts_with("Delete") {
        return removed(responses.remove(sub), what, sub);
    }
    let given = members(body(call)?, known)?;
    let (new, document) = merged(responses.get(sub), sub, id_member, given, what)?;
    let key = required(&document, key_member)?;
    if of_route && key != "$default" {
        return Err(bad_request("Only the $default route response is supported for WEBSOCKET APIs"));
    }
    if responses.iter().any(|(other, it)| *other != new && text(it, key_member) == Some(key)) {
        return Err(conflict(format!("{what} with key {key} already exists")));
    }
    checks::templates(&document, "responseTemplates")?;
    responses.insert(new, document.clone());
    created_or_updated(operation, &document)
}

fn deployment(api: &mut Api, operation: &str, call: &Call, id: &str) -> Result<Reply, AwsError> {
    if operation == "DeleteDeployment" {
        if api.stages.values().any(|stage| text(&stage.document, "deploymentId") == Some(id)) {
            return Err(bad_request("Active stages pointing to this deployment must be moved or deleted"));
        }
        return removed(api.deployments.remove(id), "Deployment", id);
    }
    let mut given = members(body(call)?, model::DEPLOYMENT)?;
    if operation == "UpdateDeployment" {
        let deployment = api.deployments.get_mut(id).ok_or_else(|| not_found("Deployment", id))?;
        deployment.document.extend(given);
        return Reply::json(StatusCode::OK, &deployment.document);
    }
    if api.routes.is_empty() {
        return Err(bad_request("At least one route is required before deploying the API."));
    }
    let unanswered = api.routes.values().find(|route| text(&route.document, "target").is_none());
    if let Some(route) = unanswered {
        let key = text(&route.document, "routeKey").unwrap_or_default();
        return Err(bad_request(format!("Route {key} has no integration")));
    }
    let stage = given.remove("stageName").and_then(|name| name.as_str().map(str::to_owned));
    if let Some(stage) = stage.as_deref().filter(|stage| !api.stages.contains_key(*stage)) {
        return Err(not_found("Stage", stage));
    }
    let id = new_id(6);
    given.extend([
        ("deploymentId".to_owned(), json!(id)),
        ("deploymentStatus".to_owned(), json!("DEPLOYED")),
        ("createdDate".to_owned(), json!(now())),
        ("autoDeployed".to_owned(), json!(false)),
    ]);
    let deployment = Deployment {
        document: given.clone(),
        selection: text(&api.document, "routeSelectionExpression").unwrap_or_default().to_owned(),
        authorizers: api.authorizers.clone(),
        integrations: api.integrations.clone(),
        routes: api.routes.clone(),
    };
    api.deployments.insert(id.clone(), deployment);
    if let Some(stage) = stage.and_then(|stage| api.stages.get_mut(&stage)) {
        stage.document.insert("deploymentId".into(), json!(id));
    }
    Reply::json(StatusCode::CREATED, &given)
}

fn stage(api: &mut Api, operation: &str, call: &Call, params: &Params) -> Result<Reply, AwsError> {
    let name = params.get("Id");
    if operation == "CreateStage" {
        let mut document = members(body(call)?, model::STAGE)?;
        let tags = take_tags(&mut document)?;
        let name = required(&document, "stageName")?.to_owned();
        if api.stages.contains_key(&name) {
            return Err(conflict("Stage already exists"));
        }
        checks::stage(api, &document)?;
        defaults(
            &mut document,
            &[
                ("autoDeploy", json!(false)),
                ("routeSettings", json!({})),
                ("stageVariables", json!({})),
                (
                    "defaultRouteSettings",
                    json!({ "dataTraceEnabled": false, "detailedMetricsEnabled": false }),
                ),
            ],
        );
        document.insert("createdDate".into(), json!(now()));
        document.insert("lastUpdatedDate".into(), json!(now()));
        let stage = Stage { document, tags };
        let reply = Reply::json(StatusCode::CREATED, &shown_stage(&stage));
        api.stages.insert(name, stage);
        return reply;
    }
    let mut stage = api.stages.get(name).cloned().ok_or_else(|| not_found("Stage", name))?;
    match operation {
        "DeleteStage" => return removed(api.stages.remove(name), "Stage", name),
        "DeleteRouteSettings" => {
            if let Some(Value::Object(settings)) = stage.document.get_mut("routeSettings") {
                settings.remove(params.get("Sub"));
            }
        }
        "DeleteAccessLogSettings" => drop(stage.document.remove("accessLogSettings")),
        _ => {
            // Members of the objects are merged, and a variable is removed by an empty value: aws-facts, API
            // Gateway 6.
            for (member, value) in members(body(call)?, model::STAGE)? {
                match (stage.document.get_mut(&member), value) {
                    (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
                    (_, value) => drop(stage.document.insert(member, value)),
                }
            }
            if let Some(Value::Object(variables)) = stage.document.get_mut("stageVariables") {
                variables.retain(|_, value| value != "");
            }
            checks::stage(api, &stage.document)?;
        }
    }
    stage.document.insert("lastUpdatedDate".into(), json!(now()));
    let updated = operation == "UpdateStage";
    let shown = shown_stage(&stage);
    api.stages.insert(name.to_owned(), stage);
    if updated { Reply::json(StatusCode::OK, &shown) } else { Ok(Reply::empty(StatusCode::NO_CONTENT)) }
}

/// Where clients reach an API, without its stage.
pub(super) fn endpoint(cx: &Context, id: &str) -> Value {
    json!(format!("{}/{id}", cx.endpoint.replacen("http", "ws", 1)))
}

/// The document after a create (no id yet) or an update.
fn merged(
    old: Option<&Document>,
    id: &str,
    id_member: &str,
    given: Document,
    what: &str,
) -> Result<(String, Document), AwsError> {
    let (id, mut document) = match old {
        _ if id.is_empty() => (new_id(7), Document::new()),
        Some(old) => (id.to_owned(), old.clone()),
        None => return Err(not_found(what, id)),
    };
    document.extend(given);
    document.insert(id_member.to_owned(), json!(id));
    Ok((id, document))
}

fn created_or_updated(operation: &str, document: &Document) -> Result<Reply, AwsError> {
    let status = if operation.starts_with("Create") { StatusCode::CREATED } else { StatusCode::OK };
    Reply::json(status, document)
}

fn removed<T>(found: Option<T>, what: &str, id: &str) -> Result<Reply, AwsError> {
    found.map(|_| Reply::empty(StatusCode::NO_CONTENT)).ok_or_else(|| not_found(what, id))
}

fn list(call: &Call, id: &str, items: impl Iterator<Item = Document>) -> Result<Reply, AwsError> {
    let query = Query::of(&call.query);
    let limit = query.get("maxResults").and_then(|limit| limit.parse().ok()).unwrap_or(500);
    let key = |item: &Document| text(item, id).unwrap_or_default().to_owned();
    let (items, next) = rest::page(items, key, query.get("nextToken"), limit);
    let mut answer = Document::new();
    answer.insert("items".into(), json!(items));
    answer.extend(next.map(|token| ("nextToken".to_owned(), json!(token))));
    Reply::json(StatusCode::OK, &answer)
}

fn shown_api(api: &Api) -> Document {
    with_tags(&api.document, &api.tags)
}

fn shown_stage(stage: &Stage) -> Document {
    with_tags(&stage.document, &stage.tags)
}

fn with_tags(document: &Document, tags: &BTreeMap<String, String>) -> Document {
    let mut shown = document.clone();
    shown.insert("tags".into(), json!(tags));
    shown
}

fn take_tags(document: &mut Document) -> Result<BTreeMap<String, String>, AwsError> {
    let tags = document.remove("tags").unwrap_or_else(|| json!({}));
    serde_json::from_value(tags).map_err(|_| bad_request("Tags must be text"))
}

fn body(call: &Call) -> Result<Document, AwsError> {
    rest::body(call, "BadRequestException")
}

fn defaults(document: &mut Document, values: &[(&str, Value)]) {
    for (member, value) in values {
        document.entry(*member).or_insert_with(|| value.clone());
    }
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Lower-case letters and digits, as API Gateway makes ids.
fn new_id(length: usize) -> String {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = rand::rng();
    (0..length).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
}
