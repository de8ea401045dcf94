//! What API Gateway refuses before it stores anything.

use serde_json::Value;

use super::model::{Api, Document, Members, text};
use super::serving::function_arn;
use crate::error::AwsError;

pub(super) fn bad_request(message: impl Into<String>) -> AwsError {
    AwsError::bad_request("BadRequestException", message)
}

/// Takes the known members of a request, each of its type. Unknown ones are refused by name: the real service would
/// drop them, and a caller would look for the reason in vain.
pub(super) fn members(body: Document, known: Members) -> Result<Document, AwsError> {
    for (name, value) in &body {
        match known.iter().find(|(member, _)| member == name) {
            None => {
                return Err(bad_request(format!("Unknown member {name}: the local cloud does not have it")));
            }
            Some(_) if value.is_null() => {}
            Some((_, kind)) if kind.takes(value) => {}
            Some((_, kind)) => return Err(bad_request(format!("Member {name} must be {kind:?}"))),
        }
    }
    Ok(body.into_iter().filter(|(_, value)| !value.is_null()).collect())
}

pub(super) fn api(document: &Document) -> Result<(), AwsError> {
    required(document, "name")?;
    match text(document, "protocolType") {
        Some("WEBSOCKET") => {}
        Some(other) => {
            return Err(bad_request(format!("The local cloud runs WEBSOCKET APIs only, not {other}")));
        }
        None => return Err(bad_request("Invalid protocol specified. Must be one of [HTTP, WEBSOCKET]")),
    }
    let selection = required(document, "routeSelectionExpression")?;
    let inner = selection.trim_start_matches("${").trim_end_matches('}').trim_start_matches('$');
    if !inner.starts_with("request.body.") {
        return Err(bad_request(format!(
            "The local cloud selects routes by $request.body only, not {selection}"
        )));
    }
    Ok(())
}

pub(super) fn authorizer(api: &Api, own_id: &str, document: &Document) -> Result<(), AwsError> {
    let name = required(document, "name")?;
    if api.authorizers.iter().any(|(id, other)| id != own_id && text(other, "name") == Some(name)) {
        // In these words: aws-cdk#13711.
        return Err(bad_request(format!(
            "Authorizer name must be unique. Authorizer {name} already exists in this RestApi."
        )));
    }
    if text(document, "authorizerType") != Some("REQUEST") {
        return Err(bad_request("Authorizer type must be REQUEST for WEBSOCKET APIs"));
    }
    let uri = required(document, "authorizerUri")?;
    function_arn(uri).map(drop).ok_or_else(|| bad_request(format!("Invalid authorizer URI: {uri}")))
}

pub(super) fn integration(document: &Document) -> Result<(), AwsError> {
    match required(document, "integrationType")? {
        "MOCK" => {
            // Templates are sent as they are; one that wants evaluation would quietly do something else than on AWS.
            templates(document, "requestTemplates")
        }
        "AWS_PROXY" => {
            let uri = required(document, "integrationUri")?;
            function_arn(uri)
                .ok_or_else(|| bad_request(format!("Invalid integration URI specified: {uri}")))?;
            match document.get("timeoutInMillis").and_then(Value::as_i64) {
                Some(timeout) if !(50..=29_000).contains(&timeout) => {
                    Err(bad_request("Timeout should be between 50 ms and 29000 ms"))
                }
                _ => Ok(()),
            }
        }
        other => {
            Err(bad_request(format!("The local cloud has AWS_PROXY and MOCK integrations, not {other}")))
        }
    }
}

pub(super) fn templates(document: &Document, member: &str) -> Result<(), AwsError> {
    let texts = document.get(member).and_then(Value::as_object).into_iter().flatten();
    for (key, template) in texts {
        let template =
            template.as_str().ok_or_else(|| bad_request(format!("{member}.{key} must be text")))?;
        if template.contains('$') || template.contains('#') {
            return Err(bad_request(format!(
                "The local cloud sends templates as they are and evaluates nothing: {member}.{key}"
            )));
        }
    }
    Ok(())
}

pub(super) fn route(api: &Api, own_id: Option<&str>, document: &Document) -> Result<(), AwsError> {
    let key = required(document, "routeKey")?;
    let taken = api
        .routes
        .iter()
        .any(|(id, route)| Some(id.as_str()) != own_id && text(&route.document, "routeKey") == Some(key));
    if taken {
        let message = format!("Route with key {key} already exists for this API");
        return Err(conflict(message));
    }
    if let Some(target) = text(document, "target") {
        let known = target.strip_prefix("integrations/").is_some_and(|id| api.integrations.contains_key(id));
        if !known {
            return Err(bad_request(format!("Invalid integration target: {target}")));
        }
    }
    match (text(document, "authorizationType").unwrap_or("NONE"), text(document, "authorizerId")) {
        ("NONE", _) => Ok(()),
        // An authorizer may sit on `$connect` only: aws-facts, behaviour.
        ("CUSTOM", _) if key != "$connect" => {
            Err(bad_request("Currently, authorization is only supported on the $connect route"))
        }
        ("CUSTOM", Some(id)) if api.authorizers.contains_key(id) => Ok(()),
        ("CUSTOM", id) => Err(bad_request(format!("Invalid authorizer: {}", id.unwrap_or("none given")))),
        (other, _) => Err(bad_request(format!("The local cloud has no authorization {other}"))),
    }
}

pub(super) fn stage(api: &Api, document: &Document) -> Result<(), AwsError> {
    let auto = document.get("autoDeploy").and_then(Value::as_bool) == Some(true);
    match text(document, "deploymentId") {
        Some(_) if auto => Err(bad_request("Deployment ID cannot be set on a stage with AutoDeploy enabled")),
        Some(id) if !api.deployments.contains_key(id) => {
            Err(bad_request(format!("Invalid deployment identifier specified: {id}")))
        }
        _ if auto => Err(bad_request("The local cloud has no AutoDeploy: create a deployment")),
        _ => Ok(()),
    }
}

pub(super) fn required<'a>(document: &'a Document, member: &str) -> Result<&'a str, AwsError> {
    text(document, member).ok_or_else(|| bad_request(format!("Missing required member {member}")))
}

pub(super) fn conflict(message: impl Into<String>) -> AwsError {
    AwsError::new(http::StatusCode::CONFLICT, "ConflictException", message)
}

pub(super) fn not_found(what: &str, id: &str) -> AwsError {
    AwsError::new(
        http::StatusCode::NOT_FOUND,
        "NotFoundException",
        format!("Invalid {what} identifier specified {id}"),
    )
}
