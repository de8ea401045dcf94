//! Reading events: filtered over a group, or as they are in a stream.

use std::collections::HashMap;
use std::sync::PoisonError;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{check_limit, group_name, invalid, no_stream, required, with_token};
use super::pattern::Pattern;
use super::storage::{Found, Position, Range};
use super::{Group, Logs};
use crate::error::AwsError;

const MAX_EVENTS: usize = 10_000;
/// A page holds about this much.
const MAX_PAGE_BYTES: usize = 1 << 20;
/// A page looks at no more events than this; on AWS too a page may be empty and still have a next one.
const MAX_SCANNED: usize = 100_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Filter {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_names: Option<Vec<String>>,
    log_stream_name_prefix: Option<String>,
    start_time: Option<i64>,
    end_time: Option<i64>,
    filter_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Get {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
    log_stream_name: String,
    start_time: Option<i64>,
    end_time: Option<i64>,
    next_token: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    start_from_head: bool,
}

impl Logs {
    pub(super) fn filter_log_events(&self, input: &Filter) -> Result<Value, AwsError> {
        let limit = check_limit(input.limit, MAX_EVENTS)?;
        let pattern = Pattern::parse(input.filter_pattern.as_deref().unwrap_or_default())?;
        let group =
            self.identified(input.log_group_name.as_deref(), input.log_group_identifier.as_deref())?;
        let streams = wanted_streams(&group, input)?;
        // The end of this range is inclusive, unlike that of GetLogEvents.
        let mut range =
            time_range(&group, input.start_time, input.end_time.map(|time| time.saturating_add(1)));
        if let [only] = streams.keys().copied().collect::<Vec<_>>()[..] {
            range.stream_id = Some(only);
        }
        if let Some(token) = &input.next_token {
            range.after = parse_token(token)?;
        }

        let mut events = Vec::new();
        let (mut bytes, mut scanned) = (0, 0);
        let mut next = None;
        let mut last = range.after;
        self.inner.flushed()?.visit(&range, |event| {
            if events.len() >= limit || bytes >= MAX_PAGE_BYTES || scanned >= MAX_SCANNED {
                next = Some(last);
                return false;
            }
            scanned += 1;
            last = event.position;
            if let Some(stream) = streams.get(&event.stream_id).filter(|_| pattern.matches(&event.message)) {
                bytes += event.message.len();
                events.push(json!({
                    "eventId": event.position.event_id(),
                    "ingestionTime": event.ingested_ms,
                    "logStreamName": stream,
                    "message": event.message,
                    "timestamp": event.position.time_ms,
                }));
            }
            true
        })?;
        Ok(with_token(json!({ "events": events, "searchedLogStreams": [] }), next.map(token)))
    }

    pub(super) fn get_log_events(&self, input: &Get) -> Result<Value, AwsError> {
        let limit = check_limit(input.limit, MAX_EVENTS)?;
        let group =
            self.identified(input.log_group_name.as_deref(), input.log_group_identifier.as_deref())?;
        let mut range = time_range(&group, input.start_time, input.end_time);
        range.stream_id = Some(group.stream(&input.log_stream_name).ok_or_else(no_stream)?);
        // Tokens say where to go on and in which direction.
        let mut from = None;
        match input.next_token.as_deref().map(|token| token.split_at_checked(2)) {
            None => range.backwards = !input.start_from_head,
            Some(Some(("f/", token))) => {
                range.after = parse_token(token)?.max(range.after);
                from = Some(range.after);
            }
            Some(Some(("b/", token))) => {
                range.before = parse_token(token)?.min(range.before);
                range.backwards = true;
                from = Some(range.before);
            }
            Some(_) => return Err(bad_token()),
        }
        let mut found: Vec<Found> = Vec::new();
        let mut bytes = 0;
        self.inner.flushed()?.visit(&range, |event| {
            let fits = found.len() < limit && bytes < MAX_PAGE_BYTES;
            if fits {
                bytes += event.message.len();
                found.push(event);
            }
            fits
        })?;
        if range.backwards {
            found.reverse();
        }
        // At an end the token stays the same, which tells callers that there is no more for now.
        let stay = from.unwrap_or(range.after);
        let forward = found.last().map_or(stay, |event| event.position);
        let backward = found.first().map_or(stay, |event| event.position);
        let events: Vec<Value> = found
            .iter()
            .map(|event| {
                json!({
                    "timestamp": event.position.time_ms,
                    "message": event.message,
                    "ingestionTime": event.ingested_ms,
                })
            })
            .collect();
        Ok(json!({
            "events": events,
            "nextForwardToken": format!("f/{}", token(forward)),
            "nextBackwardToken": format!("b/{}", token(backward)),
        }))
    }

    fn identified(
        &self,
        name: Option<&str>,
        identifier: Option<&str>,
    ) -> Result<std::sync::Arc<Group>, AwsError> {
        match (name, identifier) {
            (Some(_), Some(_)) => Err(invalid("LogGroupName and LogGroupIdentifier cannot both be given.")),
            (name, identifier) => self.group(group_name(required(name.or(identifier), "logGroupName")?)),
        }
    }
}

/// Id and name of each stream that is searched.
fn wanted_streams(group: &Group, input: &Filter) -> Result<HashMap<i64, String>, AwsError> {
    let streams = group.streams.read().unwrap_or_else(PoisonError::into_inner);
    match (&input.log_stream_names, &input.log_stream_name_prefix) {
        (Some(_), Some(_)) => Err(invalid("LogStreamNames and LogStreamNamePrefix cannot both be given.")),
        (Some(names), None) => names
            .iter()
            .map(|name| streams.get(name).map(|&id| (id, name.clone())).ok_or_else(no_stream))
            .collect(),
        (None, prefix) => {
            let prefix = prefix.as_deref().unwrap_or_default();
            let wanted = streams.iter().filter(|(name, _)| name.starts_with(prefix));
            Ok(wanted.map(|(name, &id)| (id, name.clone())).collect())
        }
    }
}

/// From `start_ms` on, before `end_ms`.
fn time_range(group: &Group, start_ms: Option<i64>, end_ms: Option<i64>) -> Range {
    Range {
        group_id: group.id,
        stream_id: None,
        after: start_ms.map_or(Position::FIRST, |time_ms| Position { time_ms, id: 0 }),
        before: end_ms.map_or(Position::LAST, |time_ms| Position { time_ms, id: 0 }),
        backwards: false,
    }
}

fn token(position: Position) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}.{}", position.time_ms, position.id))
}

fn parse_token(token: &str) -> Result<Position, AwsError> {
    let parse = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (time_ms, id) = text.split_once('.')?;
        Some(Position { time_ms: time_ms.parse().ok()?, id: id.parse().ok()? })
    };
    parse().ok_or_else(bad_token)
}

fn bad_token() -> AwsError {
    invalid("The specified nextToken is invalid.")
}
