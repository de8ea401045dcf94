//! `AWS::Lambda::*`: functions, versions, aliases, permissions.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};

use super::caller::Caller;
use super::{Existing, Made, last_of, part, tags, text};
use crate::cloudformation::model::Properties;
use crate::cloudformation::template::invalid;
use crate::error::AwsError;
use crate::front::Service;

/// What `UpdateFunctionCode` takes; everything else is configuration.
const OF_CODE: [&str; 2] = ["Architectures", "Code"];
const APART: [&str; 3] = ["FunctionName", "Tags", "Code"];

pub(super) async fn create(
    caller: &Caller,
    kind: &str,
    logical_id: &str,
    properties: &Properties,
) -> Result<Made, AwsError> {
    let function = name(text(properties, "FunctionName"));
    let below = |part: &str| format!("/2015-03-31/functions/{function}/{part}");
    match kind {
        "AWS::Lambda::Function" => {
            let mut body = properties.clone();
            body.insert("Tags".to_owned(), caller.with_system_tags(logical_id, tags(properties)).into());
            let path = "/2015-03-31/functions";
            let answer = caller.rest(Service::Lambda, Method::POST, path, Some(&body.into())).await?;
            Ok(Made::new(function, [("Arn", text_of(&answer, "FunctionArn")?)]))
        }
        "AWS::Lambda::Version" => {
            let before = caller.rest(Service::Lambda, Method::GET, &below("versions"), None).await?;
            let body = json!({
                "CodeSha256": properties.get("CodeSha256"),
                "Description": properties.get("Description"),
            });
            let answer = caller.rest(Service::Lambda, Method::POST, &below("versions"), Some(&body)).await?;
            let version = text_of(&answer, "Version")?;
            let listed = before["Versions"].as_array().into_iter().flatten();
            if listed.into_iter().any(|it| it["Version"] == version.as_str()) {
                // Publishing what is published gives the old version, which is another resource's.
                return Err(invalid(format!(
                    "A version for this Lambda function exists ( {version} ). Modify the function to create a new \
                     version."
                )));
            }
            Ok(version_made(caller, &function, &version))
        }
        "AWS::Lambda::Alias" => {
            let body = json!({
                "Name": properties.get("Name"),
                "FunctionVersion": properties.get("FunctionVersion"),
            });
            let answer = caller.rest(Service::Lambda, Method::POST, &below("aliases"), Some(&body)).await?;
            Ok(Made::new(text_of(&answer, "AliasArn")?, []))
        }
        _ => {
            let id = format!(
                "{}-{logical_id}-{}",
                caller.stack_name,
                &uuid::Uuid::new_v4().simple().to_string()[..12]
            );
            let mut body = json!({ "StatementId": id });
            for member in ["Action", "Principal", "SourceArn"] {
                body[member] = properties.get(member).cloned().unwrap_or(Value::Null);
            }
            let path = policy(text(properties, "FunctionName"), "policy");
            caller.rest(Service::Lambda, Method::POST, &path, Some(&body)).await?;
            Ok(Made::new(id.clone(), [("Id", id)]))
        }
    }
}

pub(super) async fn update(
    caller: &Caller,
    kind: &str,
    existing: &Existing<'_>,
    properties: &Properties,
) -> Result<(), AwsError> {
    let function = name(text(properties, "FunctionName"));
    let path = format!("/2015-03-31/functions/{function}");
    match kind {
        "AWS::Lambda::Function" => {
            let differs = |name: &str| existing.properties.get(name) != properties.get(name);
            let configured =
                |name: &&String| !APART.contains(&name.as_str()) && !OF_CODE.contains(&name.as_str());
            let names: Vec<&String> = properties.keys().chain(existing.properties.keys()).collect();
            if names.iter().any(|name| configured(name) && differs(name)) {
                let body: Properties = properties
                    .iter()
                    .filter(|(name, _)| configured(name))
                    .map(|(n, v)| (n.clone(), v.clone()))
                    .collect();
                let path = format!("{path}/configuration");
                caller.rest(Service::Lambda, Method::PUT, &path, Some(&body.into())).await?;
            }
            if OF_CODE.iter().any(|name| differs(name)) {
                let mut body = properties.get("Code").cloned().unwrap_or_else(|| json!({}));
                body["Architectures"] =
                    properties.get("Architectures").cloned().unwrap_or_else(|| json!(["x86_64"]));
                caller.rest(Service::Lambda, Method::PUT, &format!("{path}/code"), Some(&body)).await?;
            }
            let wanted = tags(properties);
            if tags(existing.properties) != wanted {
                let arn = caller.arn("lambda", &format!("function:{function}"));
                let path = format!("/2017-03-31/tags/{}", arn.replace('/', "%2F"));
                caller.rest(Service::Lambda, Method::POST, &path, Some(&json!({ "Tags": wanted }))).await?;
            }
            Ok(())
        }
        "AWS::Lambda::Alias" => {
            let body = json!({ "FunctionVersion": properties.get("FunctionVersion") });
            let path = format!("{path}/aliases/{}", text(properties, "Name"));
            caller.rest(Service::Lambda, Method::PUT, &path, Some(&body)).await.map(drop)
        }
        other => Err(invalid(format!("{other} cannot be changed in place"))),
    }
}

pub(super) async fn delete(caller: &Caller, kind: &str, existing: &Existing<'_>) -> Result<(), AwsError> {
    let id = existing.physical_id;
    let function = name(text(existing.properties, "FunctionName"));
    let path = match kind {
        "AWS::Lambda::Function" => format!("/2015-03-31/functions/{id}"),
        "AWS::Lambda::Version" => {
            format!("/2015-03-31/functions/{function}?Qualifier={}", last_of(id, ':'))
        }
        "AWS::Lambda::Alias" => format!("/2015-03-31/functions/{function}/aliases/{}", last_of(id, ':')),
        _ => policy(text(existing.properties, "FunctionName"), &format!("policy/{id}")),
    };
    caller.rest(Service::Lambda, Method::DELETE, &path, None).await.map(drop)
}

pub(super) async fn read(
    caller: &Caller,
    kind: &str,
    identifier: &BTreeMap<String, String>,
) -> Result<Made, AwsError> {
    match kind {
        "AWS::Lambda::Function" => {
            let function = part(identifier, "FunctionName");
            let path = format!("/2015-03-31/functions/{function}");
            let answer = caller.rest(Service::Lambda, Method::GET, &path, None).await?;
            Ok(Made::new(function, [("Arn", text_of(&answer["Configuration"], "FunctionArn")?)]))
        }
        "AWS::Lambda::Version" => {
            let arn = part(identifier, "FunctionArn");
            let version = last_of(arn, ':');
            let path = format!("/2015-03-31/functions/{}?Qualifier={version}", name(arn));
            caller.rest(Service::Lambda, Method::GET, &path, None).await?;
            Ok(version_made(caller, &name(arn), version))
        }
        "AWS::Lambda::Alias" => {
            let arn = part(identifier, "AliasArn");
            let path = format!("/2015-03-31/functions/{}/aliases/{}", name(arn), last_of(arn, ':'));
            caller.rest(Service::Lambda, Method::GET, &path, None).await?;
            Ok(Made::new(arn, []))
        }
        _ => {
            let id = part(identifier, "Id");
            let path = policy(part(identifier, "FunctionName"), "policy");
            let answer = caller.rest(Service::Lambda, Method::GET, &path, None).await?;
            let document: Value = serde_json::from_str(&text_of(&answer, "Policy")?).unwrap_or_default();
            let mut statements = document["Statement"].as_array().into_iter().flatten();
            if !statements.any(|statement| statement["Sid"] == id) {
                return Err(invalid(format!("There is no statement {id} in the policy of the function.")));
            }
            Ok(Made::new(id, [("Id", id.to_owned())]))
        }
    }
}

fn version_made(caller: &Caller, function: &str, version: &str) -> Made {
    let arn = caller.arn("lambda", &format!("function:{function}:{version}"));
    Made::new(arn.clone(), [("Version", version.to_owned()), ("FunctionArn", arn)])
}

/// The bare name of a function that may be given by ARN, with or without a qualifier.
fn name(function: &str) -> String {
    match function.split(':').collect::<Vec<_>>().as_slice() {
        ["arn", _, _, _, _, "function", name, ..] => (*name).to_owned(),
        [name, ..] => (*name).to_owned(),
        [] => String::new(),
    }
}

/// A path below a function that may be qualified.
fn policy(function: &str, below: &str) -> String {
    let parts: Vec<&str> = function.split(':').collect();
    let path = format!("/2015-03-31/functions/{}/{below}", name(function));
    match parts.as_slice() {
        ["arn", _, _, _, _, "function", _, qualifier] | [_, qualifier] => {
            format!("{path}?Qualifier={qualifier}")
        }
        _ => path,
    }
}

fn text_of(answer: &Value, member: &str) -> Result<String, AwsError> {
    let text = answer.get(member).and_then(Value::as_str);
    text.map(str::to_owned).ok_or_else(|| invalid(format!("Lambda told no {member}")))
}
