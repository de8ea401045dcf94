//! `AWS::IAM::Role` and `AWS::IAM::RolePolicy`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::caller::Caller;
use super::{Existing, Made, part, tags, text};
use crate::cloudformation::model::Properties;
use crate::error::AwsError;

pub(super) async fn create(caller: &Caller, kind: &str, properties: &Properties) -> Result<Made, AwsError> {
    let role = text(properties, "RoleName");
    if kind == "AWS::IAM::RolePolicy" {
        put_policy(caller, properties).await?;
        return Ok(Made::new(policy_id(text(properties, "PolicyName"), role), []));
    }
    let trust = document(properties, "AssumeRolePolicyDocument");
    let path = properties.get("Path").and_then(Value::as_str).unwrap_or("/");
    let tags = tag_fields(properties);
    let mut fields = vec![
        ("RoleName", role),
        ("Path", path),
        ("Description", text(properties, "Description")),
        ("AssumeRolePolicyDocument", &trust),
    ];
    fields.extend(tags.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    Ok(made(role, &caller.iam("CreateRole", &fields).await?))
}

pub(super) async fn update(
    caller: &Caller,
    kind: &str,
    existing: &Existing<'_>,
    properties: &Properties,
) -> Result<(), AwsError> {
    if kind == "AWS::IAM::RolePolicy" {
        return put_policy(caller, properties).await;
    }
    let role = existing.physical_id;
    let differs = |name: &str| existing.properties.get(name) != properties.get(name);
    if differs("AssumeRolePolicyDocument") {
        let trust = document(properties, "AssumeRolePolicyDocument");
        caller.iam("UpdateAssumeRolePolicy", &[("RoleName", role), ("PolicyDocument", &trust)]).await?;
    }
    if differs("Description") {
        let description = text(properties, "Description");
        caller.iam("UpdateRole", &[("RoleName", role), ("Description", description)]).await?;
    }
    if differs("Tags") {
        let tags = tag_fields(properties);
        let mut fields = vec![("RoleName", role)];
        fields.extend(tags.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        caller.iam("TagRole", &fields).await?;
    }
    Ok(())
}

pub(super) async fn delete(caller: &Caller, kind: &str, existing: &Existing<'_>) -> Result<(), AwsError> {
    if kind == "AWS::IAM::RolePolicy" {
        let fields = [
            ("RoleName", text(existing.properties, "RoleName")),
            ("PolicyName", text(existing.properties, "PolicyName")),
        ];
        return caller.iam("DeleteRolePolicy", &fields).await.map(drop);
    }
    caller.iam("DeleteRole", &[("RoleName", existing.physical_id)]).await.map(drop)
}

pub(super) async fn read(
    caller: &Caller,
    kind: &str,
    identifier: &BTreeMap<String, String>,
) -> Result<Made, AwsError> {
    let role = part(identifier, "RoleName");
    if kind == "AWS::IAM::RolePolicy" {
        let policy = part(identifier, "PolicyName");
        caller.iam("GetRolePolicy", &[("RoleName", role), ("PolicyName", policy)]).await?;
        return Ok(Made::new(policy_id(policy, role), []));
    }
    Ok(made(role, &caller.iam("GetRole", &[("RoleName", role)]).await?))
}

/// A role, as IAM described it.
fn made(role: &str, described: &str) -> Made {
    let element = |name: &str| {
        let (_, rest) = described.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0.to_owned())
    };
    Made::new(role, ["Arn", "RoleId"].map(|name| (name, element(name).unwrap_or_default())))
}

async fn put_policy(caller: &Caller, properties: &Properties) -> Result<(), AwsError> {
    let document = document(properties, "PolicyDocument");
    let fields = [
        ("RoleName", text(properties, "RoleName")),
        ("PolicyName", text(properties, "PolicyName")),
        ("PolicyDocument", document.as_str()),
    ];
    caller.iam("PutRolePolicy", &fields).await.map(drop)
}

fn policy_id(policy: &str, role: &str) -> String {
    format!("{policy}|{role}")
}

fn document(properties: &Properties, name: &str) -> String {
    match properties.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

fn tag_fields(properties: &Properties) -> Vec<(String, String)> {
    let tags = tags(properties).into_iter().enumerate();
    tags.flat_map(|(at, (key, value))| {
        let member = |name: &str| format!("Tags.member.{}.{name}", at + 1);
        [(member("Key"), key), (member("Value"), value.as_str().unwrap_or_default().to_owned())]
    })
    .collect()
}
