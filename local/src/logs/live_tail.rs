//! `StartLiveTail`: an event stream that brings what arrives, once a second.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::broadcast::{self};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::api::{group_name, invalid, read};
use super::pattern::Pattern;
use super::{Batch, Logs};
use crate::error::AwsError;

const UPDATE_EVERY: Duration = Duration::from_secs(1);
/// Sessions end after this, as on AWS.
const MAX_SESSION: Duration = Duration::from_secs(3 * 3600);
/// More in one update are left out, and the update says so.
const MAX_UPDATE: usize = 500;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    log_group_identifiers: Vec<String>,
    log_stream_names: Option<Vec<String>>,
    log_stream_name_prefixes: Option<Vec<String>>,
    log_event_filter_pattern: Option<String>,
}

struct Session {
    input: Input,
    pattern: Pattern,
    /// Name and ARN of each group that is followed.
    groups: HashMap<String, String>,
    batches: broadcast::Receiver<Arc<Batch>>,
    stopped: CancellationToken,
    step: Step,
}

enum Step {
    InitialResponse,
    Start,
    Update { next: Instant, end: Instant },
}

impl Logs {
    pub(crate) fn start_live_tail(
        &self,
        input: &Value,
    ) -> Result<UnsyncBoxBody<Bytes, Infallible>, AwsError> {
        let input: Input = read(input)?;
        if !(1..=10).contains(&input.log_group_identifiers.len()) {
            return Err(invalid("1 to 10 log groups can be followed."));
        }
        let mut groups = HashMap::new();
        for identifier in &input.log_group_identifiers {
            // Only ARNs, and without the `:*` that other places have.
            if !identifier.starts_with("arn:") || identifier.ends_with(":*") {
                return Err(invalid(&format!(
                    "The log group identifier {identifier} is no ARN of a log group."
                )));
            }
            let name = group_name(identifier);
            self.group(name)?;
            groups.insert(name.to_owned(), self.group_arn(name));
        }
        let session = Session {
            pattern: Pattern::parse(input.log_event_filter_pattern.as_deref().unwrap_or_default())?,
            batches: self.tail.subscribe(),
            stopped: self.stopped.clone(),
            groups,
            input,
            step: Step::InitialResponse,
        };
        let frames = stream::unfold(session, |mut session| async {
            let message = session.next().await?;
            Some((Ok(Frame::data(message)), session))
        });
        Ok(StreamBody::new(frames).boxed_unsync())
    }
}

impl Session {
    async fn next(&mut self) -> Option<Bytes> {
        match self.step {
            Step::InitialResponse => {
                self.step = Step::Start;
                Some(message("initial-response", &json!({})))
            }
            Step::Start => {
                let now = Instant::now();
                self.step = Step::Update { next: now + UPDATE_EVERY, end: now + MAX_SESSION };
                let id = uuid::Uuid::new_v4().to_string();
                Some(message(
                    "sessionStart",
                    &json!({
                        "requestId": id,
                        "sessionId": id,
                        "logGroupIdentifiers": self.input.log_group_identifiers,
                        "logStreamNames": self.input.log_stream_names.clone().unwrap_or_default(),
                        "logStreamNamePrefixes": self.input.log_stream_name_prefixes.clone().unwrap_or_default(),
                        "logEventFilterPattern": self.input.log_event_filter_pattern.clone().unwrap_or_default(),
                    }),
                ))
            }
            Step::Update { next, end } => {
                if next >= end {
                    return None;
                }
                tokio::select! {
                    () = tokio::time::sleep_until(next) => {}
                    () = self.stopped.cancelled() => return None,
                }
                self.step = Step::Update { next: next + UPDATE_EVERY, end };
                Some(self.update())
            }
        }
    }

    fn update(&mut self) -> Bytes {
        let mut results = Vec::new();
        let mut sampled = false;
        loop {
            match self.batches.try_recv() {
                Ok(batch) => self.collect(&batch, &mut results),
                Err(TryRecvError::Lagged(_)) => sampled = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        sampled |= results.len() > MAX_UPDATE;
        results.truncate(MAX_UPDATE);
        let update = json!({ "sessionMetadata": { "sampled": sampled }, "sessionResults": results });
        message("sessionUpdate", &update)
    }

    fn collect(&self, batch: &Batch, results: &mut Vec<Value>) {
        let Some(arn) = self.groups.get(&batch.group) else {
            return;
        };
        let named = self.input.log_stream_names.as_ref().is_none_or(|names| names.contains(&batch.stream));
        let prefixes = self.input.log_stream_name_prefixes.as_ref();
        let prefixed = prefixes.is_none_or(|all| all.iter().any(|prefix| batch.stream.starts_with(prefix)));
        if !named || !prefixed {
            return;
        }
        let matching = batch.events.iter().filter(|(_, message)| self.pattern.matches(message));
        results.extend(matching.map(|(time_ms, message)| {
            json!({
                "logGroupIdentifier": arn,
                "logStreamName": batch.stream,
                "message": message,
                "timestamp": time_ms,
                "ingestionTime": batch.ingested_ms,
            })
        }));
    }
}

/// A message of `application/vnd.amazon.eventstream`: lengths, headers, payload, and two checksums.
fn message(event_type: &str, payload: &Value) -> Bytes {
    let payload = payload.to_string();
    let mut headers = BytesMut::new();
    for (name, value) in
        [(":message-type", "event"), (":event-type", event_type), (":content-type", "application/json")]
    {
        // Names and values here are far below the 255 and 65,535 bytes that fit.
        headers.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        headers.put_slice(name.as_bytes());
        // Type 7 is a string.
        headers.put_u8(7);
        headers.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
        headers.put_slice(value.as_bytes());
    }
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let mut message = BytesMut::with_capacity(16 + headers.len() + payload.len());
    message.put_u32(length(16 + headers.len() + payload.len()));
    message.put_u32(length(headers.len()));
    message.put_u32(crc32fast::hash(&message));
    message.put_slice(&headers);
    message.put_slice(payload.as_bytes());
    message.put_u32(crc32fast::hash(&message));
    message.freeze()
}
