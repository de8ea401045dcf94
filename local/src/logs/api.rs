//! The operations on groups and streams, and the list of all operations.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::storage::StreamRow;
use super::{Group, GroupSettings, Logs, now_ms};
use crate::call::{Reply, to_json};
use crate::error::AwsError;
use crate::glob;

/// Every operation that there is here.
pub(crate) const OPERATIONS: [&str; 18] = [
    "CreateLogGroup",
    "CreateLogStream",
    "DeleteLogGroup",
    "DeleteLogStream",
    "DeleteRetentionPolicy",
    "DescribeLogGroups",
    "DescribeLogStreams",
    "FilterLogEvents",
    "GetLogEvents",
    "ListTagsForResource",
    "ListTagsLogGroup",
    "PutLogEvents",
    "PutRetentionPolicy",
    "StartLiveTail",
    "TagLogGroup",
    "TagResource",
    "UntagLogGroup",
    "UntagResource",
];

const RETENTION_DAYS: [i64; 22] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];
pub(super) const MAX_TAGS: usize = 50;

pub(super) type Outcome = Result<Value, AwsError>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateGroup {
    log_group_name: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

/// A group and perhaps a stream in it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    log_group_name: String,
    log_stream_name: Option<String>,
    retention_in_days: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Describe {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_group_name_prefix: Option<String>,
    log_group_name_pattern: Option<String>,
    log_stream_name_prefix: Option<String>,
    order_by: Option<String>,
    #[serde(default)]
    descending: bool,
    limit: Option<usize>,
    next_token: Option<String>,
}

impl Logs {
    pub(crate) fn call(&self, operation: &str, input: &Value) -> Result<Reply, AwsError> {
        let output = match operation {
            "CreateLogGroup" => self.create_log_group(read(input)?),
            "CreateLogStream" => self.create_log_stream(&read(input)?),
            "DeleteLogGroup" => self.delete_log_group(&read(input)?),
            "DeleteLogStream" => self.delete_log_stream(&read(input)?),
            "DeleteRetentionPolicy" => self.set_retention(&read(input)?, None),
            "DescribeLogGroups" => self.describe_log_groups(&read(input)?),
            "DescribeLogStreams" => self.describe_log_streams(&read(input)?),
            "FilterLogEvents" => self.filter_log_events(&read(input)?),
            "GetLogEvents" => self.get_log_events(&read(input)?),
            "ListTagsForResource" | "ListTagsLogGroup" => {
                Ok(json!({ "tags": self.tagged(&read(input)?)?.1.settings().tags }))
            }
            "PutLogEvents" => self.put_log_events(read(input)?),
            "PutRetentionPolicy" => {
                let named: Named = read(input)?;
                let days = named.retention_in_days.filter(|days| RETENTION_DAYS.contains(days));
                let days = days.ok_or_else(|| {
                    invalid("1 validation error detected: Value at 'retentionInDays' failed to satisfy constraint: Member must be one of the allowed retention periods")
                })?;
                self.set_retention(&named, Some(days))
            }
            "TagResource" | "TagLogGroup" => self.tag(&read(input)?),
            "UntagResource" | "UntagLogGroup" => self.untag(&read(input)?),
            other => Err(AwsError::bad_request("UnknownOperationException", other.to_owned())),
        }?;
        // Operations without an output answer with nothing at all.
        let body = if output.is_null() { Vec::new() } else { to_json(&output)? };
        Ok(Reply::new(StatusCode::OK, "application/x-amz-json-1.1", body))
    }

    /// What an operation is authorised on.
    pub(crate) fn resource(&self, operation: &str, input: &Value) -> String {
        let text = |name: &str| input.get(name).and_then(Value::as_str);
        if let Some(arn) = text("resourceArn") {
            return arn.to_owned();
        }
        if operation == "StartLiveTail" {
            let first = input.get("logGroupIdentifiers").and_then(|groups| groups.get(0));
            return self.group_arn(group_name(first.and_then(Value::as_str).unwrap_or_default()));
        }
        let group = match operation {
            "DescribeLogGroups" => "",
            _ => text("logGroupName")
                .or_else(|| text("logGroupIdentifier").map(group_name))
                .unwrap_or_default(),
        };
        let stream = match operation {
            "CreateLogStream" | "DeleteLogStream" | "PutLogEvents" | "GetLogEvents" => text("logStreamName"),
            _ => None,
        };
        // With an empty stream for operations on groups, as on AWS: a policy has to end in `:*` to allow them.
        format!("{}:log-stream:{}", self.group_arn(group), stream.unwrap_or_default())
    }

    fn create_log_group(&self, input: CreateGroup) -> Outcome {
        let name = input.log_group_name;
        check_name(&name, "logGroupName", |byte| byte.is_ascii_alphanumeric() || b".-_/#".contains(&byte))?;
        if input.tags.len() > MAX_TAGS {
            return Err(AwsError::bad_request("TooManyTagsException", "A resource can have up to 50 tags."));
        }
        let mut groups = self.inner.groups.write().unwrap_or_else(PoisonError::into_inner);
        if groups.contains_key(&name) {
            return Err(already_exists("group"));
        }
        let settings = GroupSettings { retention_days: None, tags: input.tags };
        let group = self.inner.storage().create_group(&name, now_ms(), &settings)?;
        groups.insert(name, group.into());
        Ok(Value::Null)
    }

    fn delete_log_group(&self, input: &Named) -> Outcome {
        let group = self.group(&input.log_group_name)?;
        // What is pending for the group goes first, or it would be written after the group is gone.
        self.inner.flushed()?.delete_group(group.id)?;
        self.inner.groups.write().unwrap_or_else(PoisonError::into_inner).remove(&input.log_group_name);
        Ok(Value::Null)
    }

    fn create_log_stream(&self, input: &Named) -> Outcome {
        let name = required(input.log_stream_name.as_deref(), "logStreamName")?;
        check_name(name, "logStreamName", |byte| byte != b':' && byte != b'*')?;
        let group = self.group(&input.log_group_name)?;
        if group.stream(name).is_some() {
            return Err(already_exists("stream"));
        }
        self.create_stream(&group, name)?;
        Ok(Value::Null)
    }

    fn delete_log_stream(&self, input: &Named) -> Outcome {
        let name = required(input.log_stream_name.as_deref(), "logStreamName")?;
        let group = self.group(&input.log_group_name)?;
        let id = group.stream(name).ok_or_else(no_stream)?;
        self.inner.flushed()?.delete_stream(group.id, id)?;
        group.streams.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(Value::Null)
    }

    fn set_retention(&self, input: &Named, days: Option<i64>) -> Outcome {
        let group = self.group(&input.log_group_name)?;
        self.change(&group, |settings| {
            settings.retention_days = days;
            Ok(())
        })
    }

    /// Changes a copy, which counts once it is written.
    pub(super) fn change(
        &self,
        group: &Group,
        change: impl FnOnce(&mut GroupSettings) -> Result<(), AwsError>,
    ) -> Outcome {
        let mut settings = group.settings();
        let mut changed = settings.clone();
        change(&mut changed)?;
        self.inner.storage().update_group(group.id, &changed)?;
        *settings = changed;
        Ok(Value::Null)
    }

    fn describe_log_groups(&self, input: &Describe) -> Outcome {
        let limit = check_limit(input.limit, 50)?;
        let prefix = input.log_group_name_prefix.as_deref().unwrap_or_default();
        let pattern = input.log_group_name_pattern.as_ref().map(|pattern| format!("*{pattern}*"));
        let mut page: Vec<_> = self
            .inner
            .groups()
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .filter(|(name, _)| pattern.as_ref().is_none_or(|pattern| glob::matches(pattern, name)))
            .filter(|(name, _)| input.next_token.as_ref().is_none_or(|token| *name >= token))
            .take(limit + 1)
            .map(|(name, group)| (name.clone(), group.clone()))
            .collect();
        let next = if page.len() > limit { page.pop().map(|(name, _)| name) } else { None };
        let stored = {
            let storage = self.inner.flushed()?;
            page.iter().map(|(_, group)| storage.stored_bytes(group.id)).collect::<Result<Vec<_>, _>>()?
        };
        let groups: Vec<Value> = page
            .iter()
            .zip(stored)
            .map(|((name, group), stored)| {
                let arn = self.group_arn(name);
                let mut value = json!({
                    "logGroupName": name,
                    "creationTime": group.created_ms,
                    "metricFilterCount": 0,
                    "arn": format!("{arn}:*"),
                    "logGroupArn": arn,
                    "logGroupClass": "STANDARD",
                    "storedBytes": stored,
                });
                if let Some(days) = group.settings().retention_days {
                    value["retentionInDays"] = days.into();
                }
                value
            })
            .collect();
        Ok(with_token(json!({ "logGroups": groups }), next))
    }

    fn describe_log_streams(&self, input: &Describe) -> Outcome {
        let limit = check_limit(input.limit, 50)?;
        let name = input.log_group_name.as_deref().or(input.log_group_identifier.as_deref());
        let name = group_name(required(name, "logGroupName")?);
        let group = self.group(name)?;
        let prefix = input.log_stream_name_prefix.as_deref().unwrap_or_default();
        let by_time = input.order_by.as_deref() == Some("LastEventTime");
        if by_time && !prefix.is_empty() {
            return Err(invalid("Cannot order by LastEventTime with a logStreamNamePrefix."));
        }
        let mut streams = self.inner.flushed()?.streams(group.id)?;
        streams.retain(|stream| stream.name.starts_with(prefix));
        if by_time {
            // Sorted by name before: that stays where times are equal.
            streams.sort_by_key(|stream| stream.last_ms);
        }
        if input.descending {
            streams.reverse();
        }
        // The token names the first stream of the next page.
        let start = match &input.next_token {
            Some(token) => streams
                .iter()
                .position(|stream| stream.name == *token)
                .ok_or_else(|| invalid("The specified nextToken is invalid."))?,
            None => 0,
        };
        let end = streams.len().min(start + limit);
        let next = streams.get(end).map(|stream| stream.name.clone());
        let streams: Vec<Value> =
            streams[start..end].iter().map(|stream| self.stream_value(name, stream)).collect();
        Ok(with_token(json!({ "logStreams": streams }), next))
    }

    fn stream_value(&self, group: &str, stream: &StreamRow) -> Value {
        let mut value = json!({
            "logStreamName": stream.name,
            "creationTime": stream.created_ms,
            "uploadSequenceToken": sequence_token(stream.id),
            "arn": format!("{}:log-stream:{}", self.group_arn(group), stream.name),
            "storedBytes": 0,
        });
        for (key, time) in [
            ("firstEventTimestamp", stream.first_ms),
            ("lastEventTimestamp", stream.last_ms),
            ("lastIngestionTime", stream.ingested_ms),
        ] {
            if let Some(time) = time {
                value[key] = time.into();
            }
        }
        value
    }
}

/// The name in an ARN, or the name itself.
pub(super) fn group_name(identifier: &str) -> &str {
    if !identifier.starts_with("arn:") {
        return identifier;
    }
    let name = identifier.splitn(7, ':').nth(6).unwrap_or_default();
    name.strip_suffix(":*").unwrap_or(name)
}

pub(super) fn read<T: DeserializeOwned>(input: &Value) -> Result<T, AwsError> {
    T::deserialize(input).map_err(|error| invalid(&format!("1 validation error detected: {error}")))
}

pub(super) fn required<'a>(value: Option<&'a str>, member: &str) -> Result<&'a str, AwsError> {
    value.ok_or_else(|| {
        invalid(&format!(
            "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null"
        ))
    })
}

pub(super) fn check_limit(limit: Option<usize>, most: usize) -> Result<usize, AwsError> {
    let limit = limit.unwrap_or(most);
    if (1..=most).contains(&limit) {
        return Ok(limit);
    }
    Err(invalid(&format!(
        "1 validation error detected: Value '{limit}' at 'limit' failed to satisfy constraint: Member must have value from 1 to {most}"
    )))
}

pub(super) fn with_token(mut answer: Value, token: Option<String>) -> Value {
    if let Some(token) = token {
        answer["nextToken"] = token.into();
    }
    answer
}

pub(super) fn no_stream() -> AwsError {
    AwsError::bad_request("ResourceNotFoundException", "The specified log stream does not exist.")
}

pub(super) fn invalid(message: &str) -> AwsError {
    AwsError::bad_request("InvalidParameterException", message)
}

fn check_name(name: &str, member: &str, allowed: impl Fn(u8) -> bool) -> Result<(), AwsError> {
    if (1..=512).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(invalid(&format!(
        "1 validation error detected: Value '{name}' at '{member}' failed to satisfy constraint: Member must have 1 to 512 of the allowed characters"
    )))
}

fn already_exists(what: &str) -> AwsError {
    AwsError::bad_request(
        "ResourceAlreadyExistsException",
        format!("The specified log {what} already exists"),
    )
}

/// AWS ignores these and still sends them.
pub(super) fn sequence_token(stream_id: i64) -> String {
    format!("{stream_id:056}")
}
