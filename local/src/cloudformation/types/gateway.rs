//! `AWS::ApiGatewayV2::*`: the members are those of the calls, with another first letter.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Map, Value, json};

use super::caller::Caller;
use super::{Existing, Made, part, tags, text};
use crate::cloudformation::model::Properties;
use crate::cloudformation::template::invalid;
use crate::error::AwsError;
use crate::front::Service;

/// Members that are in the path and not in the body.
const IN_PATH: [&str; 3] = ["ApiId", "IntegrationId", "RouteId"];

/// Where resources of a type are, and the member of an answer that says which one it is.
fn place(kind: &str, holder: impl Fn(&str) -> String) -> (String, &'static str) {
    let api = || format!("/v2/apis/{}", holder("ApiId"));
    match kind.trim_start_matches("AWS::ApiGatewayV2::") {
        "Authorizer" => (format!("{}/authorizers", api()), "authorizerId"),
        "Deployment" => (format!("{}/deployments", api()), "deploymentId"),
        "Integration" => (format!("{}/integrations", api()), "integrationId"),
        "IntegrationResponse" => (
            format!("{}/integrations/{}/integrationresponses", api(), holder("IntegrationId")),
            "integrationResponseId",
        ),
        "Route" => (format!("{}/routes", api()), "routeId"),
        "RouteResponse" => {
            (format!("{}/routes/{}/routeresponses", api(), holder("RouteId")), "routeResponseId")
        }
        "Stage" => (format!("{}/stages", api()), "stageName"),
        _ => ("/v2/apis".to_owned(), "apiId"),
    }
}

pub(super) async fn create(
    caller: &Caller,
    kind: &str,
    logical_id: &str,
    properties: &Properties,
) -> Result<Made, AwsError> {
    let (path, id) = place(kind, |name| text(properties, name).to_owned());
    let mut body = body(kind, properties);
    if properties.contains_key("Tags") {
        body.insert("tags".to_owned(), caller.with_system_tags(logical_id, tags(properties)).into());
    }
    let answer = caller.rest(Service::ApiGateway, Method::POST, &path, Some(&body.into())).await?;
    made(&answer, id)
}

pub(super) async fn update(
    caller: &Caller,
    kind: &str,
    existing: &Existing<'_>,
    properties: &Properties,
) -> Result<(), AwsError> {
    let path = path_of(kind, existing);
    let (old, new) = (body(kind, existing.properties), body(kind, properties));
    if old != new {
        caller.rest(Service::ApiGateway, Method::PATCH, &path, Some(&new.into())).await?;
    }
    let wanted = tags(properties);
    if tags(existing.properties) != wanted {
        let below = path.trim_start_matches("/v2");
        let arn = format!("arn:aws:apigateway:{}::{below}", caller.front.cx.region);
        let tags = format!("/v2/tags/{}", arn.replace('/', "%2F"));
        caller.rest(Service::ApiGateway, Method::POST, &tags, Some(&json!({ "tags": wanted }))).await?;
    }
    Ok(())
}

pub(super) async fn delete(caller: &Caller, kind: &str, existing: &Existing<'_>) -> Result<(), AwsError> {
    let path = path_of(kind, existing);
    caller.rest(Service::ApiGateway, Method::DELETE, &path, None).await.map(drop)
}

pub(super) async fn read(
    caller: &Caller,
    kind: &str,
    identifier: &BTreeMap<String, String>,
) -> Result<Made, AwsError> {
    let (path, id) = place(kind, |name| part(identifier, name).to_owned());
    let mut own = id.to_owned();
    if let Some(first) = own.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let path = format!("{path}/{}", part(identifier, &own));
    let answer = caller.rest(Service::ApiGateway, Method::GET, &path, None).await?;
    made(&answer, id)
}

fn path_of(kind: &str, existing: &Existing<'_>) -> String {
    let (path, _) = place(kind, |name| text(existing.properties, name).to_owned());
    format!("{path}/{}", existing.physical_id)
}

fn made(answer: &Value, id: &str) -> Result<Made, AwsError> {
    let member = |name: &str| answer.get(name).and_then(Value::as_str);
    let own = member(id).ok_or_else(|| invalid(format!("API Gateway told no {id}")))?;
    let mut made = Made::new(own, []);
    for name in [id, "apiEndpoint"] {
        if let Some(value) = member(name) {
            let mut attribute = name.to_owned();
            if let Some(first) = attribute.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            made.attributes.insert(attribute, value.to_owned());
        }
    }
    Ok(made)
}

/// Properties as members of a body. A stage does not name itself where it is changed.
fn body(kind: &str, properties: &Properties) -> Map<String, Value> {
    properties
        .iter()
        .filter(|(name, _)| *name != "Tags")
        .filter(|(name, _)| !(IN_PATH.contains(&name.as_str())))
        .map(|(name, value)| {
            (lower(name), if name == "DefaultRouteSettings" { lowered(value) } else { value.clone() })
        })
        .filter(|(name, _)| !(kind.ends_with("::Api") && name == "apiId"))
        .collect()
}

fn lowered(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            members.iter().map(|(name, value)| (lower(name), value.clone())).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

fn lower(name: &str) -> String {
    let mut name = name.to_owned();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    name
}
