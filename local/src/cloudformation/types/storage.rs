//! `AWS::DynamoDB::Table` and `AWS::Logs::LogGroup`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::caller::Caller;
use super::{Existing, Made, part, tags, text};
use crate::cloudformation::model::Properties;
use crate::cloudformation::template::invalid;
use crate::error::AwsError;
use crate::front::Service;

pub(super) async fn create(
    caller: &Caller,
    kind: &str,
    logical_id: &str,
    properties: &Properties,
) -> Result<Made, AwsError> {
    let tags = caller.with_system_tags(logical_id, tags(properties));
    if kind == "AWS::Logs::LogGroup" {
        let group = text(properties, "LogGroupName");
        logs(caller, "CreateLogGroup", &json!({ "logGroupName": group, "tags": tags })).await?;
        let made = group_made(caller, group);
        if properties.contains_key("RetentionInDays")
            && let Err(error) = set_retention(caller, properties).await
        {
            // What is not recorded would not be rolled back.
            let _ = logs(caller, "DeleteLogGroup", &json!({ "logGroupName": group })).await;
            return Err(error);
        }
        return Ok(made);
    }
    let table = text(properties, "TableName");
    let mut body = members(
        properties,
        &["AttributeDefinitions", "BillingMode", "DeletionProtectionEnabled", "KeySchema"],
    );
    body["TableName"] = json!(table);
    body["Tags"] = tag_list(&tags);
    dynamodb(caller, "CreateTable", &body).await?;
    let nothing = Map::new();
    if let Err(error) = set_extras(caller, table, &nothing, properties).await {
        let _ = dynamodb(caller, "DeleteTable", &json!({ "TableName": table })).await;
        return Err(error);
    }
    Ok(table_made(caller, table))
}

pub(super) async fn update(
    caller: &Caller,
    kind: &str,
    existing: &Existing<'_>,
    properties: &Properties,
) -> Result<(), AwsError> {
    let differs = |name: &str| existing.properties.get(name) != properties.get(name);
    if kind == "AWS::Logs::LogGroup" {
        if differs("RetentionInDays") {
            set_retention(caller, properties).await?;
        }
        if differs("Tags") {
            let arn = caller.arn("logs", &format!("log-group:{}", existing.physical_id));
            logs(caller, "TagResource", &json!({ "resourceArn": arn, "tags": tags(properties) })).await?;
        }
        return Ok(());
    }
    let table = existing.physical_id;
    if differs("BillingMode") || differs("DeletionProtectionEnabled") {
        let mut body = members(properties, &["BillingMode", "DeletionProtectionEnabled"]);
        body["TableName"] = json!(table);
        dynamodb(caller, "UpdateTable", &body).await?;
    }
    if differs("Tags") {
        let body = json!({
            "ResourceArn": caller.arn("dynamodb", &format!("table/{table}")),
            "Tags": tag_list(&tags(properties)),
        });
        dynamodb(caller, "TagResource", &body).await?;
    }
    set_extras(caller, table, existing.properties, properties).await
}

pub(super) async fn delete(caller: &Caller, kind: &str, existing: &Existing<'_>) -> Result<(), AwsError> {
    let id = existing.physical_id;
    if kind == "AWS::Logs::LogGroup" {
        return logs(caller, "DeleteLogGroup", &json!({ "logGroupName": id })).await.map(drop);
    }
    dynamodb(caller, "DeleteTable", &json!({ "TableName": id })).await.map(drop)
}

pub(super) async fn read(
    caller: &Caller,
    kind: &str,
    identifier: &BTreeMap<String, String>,
) -> Result<Made, AwsError> {
    if kind == "AWS::Logs::LogGroup" {
        let group = part(identifier, "LogGroupName");
        let found = logs(caller, "DescribeLogGroups", &json!({ "logGroupNamePrefix": group })).await?;
        let mut groups = found["logGroups"].as_array().into_iter().flatten();
        if !groups.any(|found| found["logGroupName"] == group) {
            return Err(invalid(format!("The log group {group} does not exist.")));
        }
        return Ok(group_made(caller, group));
    }
    let table = part(identifier, "TableName");
    dynamodb(caller, "DescribeTable", &json!({ "TableName": table })).await?;
    Ok(table_made(caller, table))
}

/// TTL and backups, which are calls of their own.
async fn set_extras(
    caller: &Caller,
    table: &str,
    old: &Properties,
    new: &Properties,
) -> Result<(), AwsError> {
    for (property, operation) in [
        ("TimeToLiveSpecification", "UpdateTimeToLive"),
        ("PointInTimeRecoverySpecification", "UpdateContinuousBackups"),
    ] {
        if let Some(specification) = new.get(property).filter(|it| Some(*it) != old.get(property)) {
            let mut body = json!({ "TableName": table });
            body[property] = specification.clone();
            dynamodb(caller, operation, &body).await?;
        }
    }
    Ok(())
}

async fn set_retention(caller: &Caller, properties: &Properties) -> Result<(), AwsError> {
    let group = text(properties, "LogGroupName");
    let body = json!({ "logGroupName": group, "retentionInDays": properties.get("RetentionInDays") });
    logs(caller, "PutRetentionPolicy", &body).await.map(drop)
}

async fn logs(caller: &Caller, operation: &str, body: &Value) -> Result<Value, AwsError> {
    caller.json(Service::Logs, &format!("Logs_20140328.{operation}"), body).await
}

async fn dynamodb(caller: &Caller, operation: &str, body: &Value) -> Result<Value, AwsError> {
    caller.json(Service::DynamoDb, &format!("DynamoDB_20120810.{operation}"), body).await
}

fn members(properties: &Properties, names: &[&str]) -> Value {
    let chosen = properties.iter().filter(|(name, _)| names.contains(&name.as_str()));
    Value::Object(chosen.map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn tag_list(tags: &Map<String, Value>) -> Value {
    tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}

fn table_made(caller: &Caller, table: &str) -> Made {
    Made::new(table, [("Arn", caller.arn("dynamodb", &format!("table/{table}")))])
}

fn group_made(caller: &Caller, group: &str) -> Made {
    Made::new(group, [("Arn", caller.arn("logs", &format!("log-group:{group}:*")))])
}
