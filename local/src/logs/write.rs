//! `PutLogEvents`: events from outside, with the limits that AWS puts on them.

use serde::Deserialize;
use serde_json::json;

use super::api::{Outcome, invalid, no_stream, sequence_token};
use super::{Logs, now_ms};

const DAY_MS: i64 = 86_400_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PutEvents {
    log_group_name: String,
    log_stream_name: String,
    log_events: Vec<InputEvent>,
}

#[derive(Deserialize)]
struct InputEvent {
    timestamp: i64,
    message: String,
}

impl Logs {
    pub(super) fn put_log_events(&self, input: PutEvents) -> Outcome {
        let group = self.group(&input.log_group_name)?;
        let stream_id = group.stream(&input.log_stream_name).ok_or_else(no_stream)?;
        let events = input.log_events;
        let size: usize = events.iter().map(|event| event.message.len() + 26).sum();
        if events.is_empty() || events.len() > 10_000 || size > 1_048_576 {
            return Err(invalid("A batch has 1 to 10,000 log events and at most 1,048,576 bytes."));
        }
        if events.iter().any(|event| event.message.is_empty()) {
            return Err(invalid(
                "1 validation error detected: Value at 'logEvents' failed to satisfy constraint: Member must have length greater than or equal to 1",
            ));
        }
        if !events.is_sorted_by_key(|event| event.timestamp) {
            return Err(invalid(
                "Log events in a single PutLogEvents request must be in chronological order.",
            ));
        }
        let now = now_ms();
        let oldest = now - group.settings().retention_days.unwrap_or(14).min(14) * DAY_MS;
        let newest = now + 7_200_000;
        let too_old = events.partition_point(|event| event.timestamp < oldest);
        let too_new = events.partition_point(|event| event.timestamp <= newest);
        let mut rejected = serde_json::Map::new();
        if too_old > 0 {
            rejected.insert("tooOldLogEventEndIndex".to_owned(), too_old.into());
        }
        if too_new < events.len() {
            rejected.insert("tooNewLogEventStartIndex".to_owned(), too_new.into());
        }
        let taken = events.into_iter().take(too_new).skip(too_old);
        let taken = taken.map(|event| (event.timestamp, event.message)).collect();
        self.add(&input.log_group_name, &group, (&input.log_stream_name, stream_id), taken)?;
        // Whoever asked by name may rely on it from here on.
        self.inner.flush()?;
        let mut answer = json!({ "nextSequenceToken": sequence_token(stream_id) });
        if !rejected.is_empty() {
            answer["rejectedLogEventsInfo"] = rejected.into();
        }
        Ok(answer)
    }
}
