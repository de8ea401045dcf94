//! Asynchronous events: kept from the moment they are accepted until nothing more is to be done for them, so that they
//! outlast the cloud; with retries and destinations.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Lambda;
use super::invoke::{Target, run};
use super::name::Name;
use super::pool::Answer;
use crate::error::AwsError;

const KIND: &str = "lambda.event";
/// Events are retried this often, unless the function says otherwise.
const RETRIES: u32 = 2;
const MAX_AGE: Duration = Duration::from_secs(6 * 3600);

/// An event that was accepted. One document of the store, by its request id.
#[derive(Debug, Serialize, Deserialize)]
struct Queued {
    /// The function's name, with its qualifier if it was invoked with one.
    function: String,
    payload: String,
    accepted_ms: i64,
    failures: u32,
}

impl Queued {
    fn age(&self) -> Duration {
        let age_ms = jiff::Timestamp::now().as_millisecond() - self.accepted_ms;
        Duration::from_millis(u64::try_from(age_ms).unwrap_or_default())
    }
}

impl Lambda {
    /// Accepts an event.
    pub(super) fn enqueue(
        self: &Arc<Self>,
        function: String,
        request_id: String,
        payload: &Bytes,
    ) -> Result<(), AwsError> {
        let payload = std::str::from_utf8(payload).map_err(|error| {
            AwsError::bad_request(
                "InvalidRequestContentException",
                format!("Could not parse request body into json: {error}"),
            )
        })?;
        let accepted_ms = jiff::Timestamp::now().as_millisecond();
        let event = Queued { function, payload: payload.to_owned(), accepted_ms, failures: 0 };
        self.host.cx.store.put(KIND, &request_id, &event)?;
        tokio::spawn(Arc::clone(self).work_off(request_id, event));
        Ok(())
    }

    /// Goes on with the events that an earlier cloud had accepted. What it had begun is begun again: an event comes at
    /// least once.
    pub(crate) fn resume(self: &Arc<Self>) -> Result<(), AwsError> {
        for (request_id, event) in self.host.cx.store.list(KIND)? {
            tokio::spawn(Arc::clone(self).work_off(request_id, event));
        }
        Ok(())
    }

    async fn work_off(self: Arc<Self>, request_id: String, event: Queued) {
        self.invoke_until_done(&request_id, event).await;
        // If that fails, the event comes once more after the next start, which is allowed.
        let _ = self.host.cx.store.delete(KIND, &request_id);
    }

    /// Tries until it succeeds, its retries are used up, or it is too old. Resolves anew each time: the retry of an
    /// event may run newer code.
    async fn invoke_until_done(&self, request_id: &str, mut event: Queued) {
        let base = self.host.cx.settings.lambda.async_retry;
        let payload = Bytes::from(event.payload.clone());
        let Ok(name) = Name::parse(&event.function, None) else { return };
        loop {
            let Ok(target) = self.target(&event.function, &name) else { return };
            let config = &target.event_invoke;
            let max_age = config.max_age_s.map_or(MAX_AGE, Duration::from_secs);
            let (version, pool) = target.choose();
            let outcome = run(&target, pool, request_id.to_owned(), payload.clone(), None).await;
            let record = |failures, answer| Record {
                target: &target,
                version,
                failures,
                request_id,
                payload: &payload,
                answer,
            };
            let wait = match &outcome {
                Ok(answer) if answer.error.is_none() => {
                    let record = record(event.failures, Some(answer)).write("Success");
                    return self.deliver(config.on_success.as_deref(), record).await;
                }
                Ok(answer) => {
                    event.failures += 1;
                    if event.failures > config.max_retries.unwrap_or(RETRIES) {
                        let record = record(event.failures, Some(answer)).write("RetriesExhausted");
                        return self.deliver(config.on_failure.as_deref(), record).await;
                    }
                    // An event that is not written down is tried once more than it should be.
                    let _ = self.host.cx.store.put(KIND, request_id, &event);
                    base * event.failures
                }
                // Throttled, or the machine failed: not the function's fault, so not one of its retries.
                Err(_) => base / 60,
            };
            if event.age() + wait > max_age {
                let record = record(event.failures, outcome.as_ref().ok()).write("EventAgeExceeded");
                return self.deliver(config.on_failure.as_deref(), record).await;
            }
            drop(target);
            tokio::time::sleep(wait).await;
        }
    }

    /// Hands the record of an invocation to its destination, which is a function, once and for all.
    async fn deliver(&self, destination: Option<&str>, record: Result<Bytes, serde_json::Error>) {
        let (Some(arn), Ok(record)) = (destination, record) else { return };
        let Ok(target) = Name::parse(arn, None).and_then(|name| self.target(arn, &name)) else { return };
        let request_id = uuid::Uuid::new_v4().to_string();
        let _ = run(&target, target.choose().1, request_id, record, None).await;
    }
}

/// What a destination is told.
struct Record<'a> {
    target: &'a Target,
    version: &'a str,
    failures: u32,
    request_id: &'a str,
    payload: &'a Bytes,
    answer: Option<&'a Answer>,
}

impl Record<'_> {
    fn write(&self, condition: &str) -> Result<Bytes, serde_json::Error> {
        let raw = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or(Value::Null);
        let mut record = json!({
            "version": "1.0",
            "timestamp": jiff::Timestamp::now().to_string(),
            "requestContext": {
                "requestId": self.request_id,
                "functionArn": &*self.target.arn,
                "condition": condition,
                "approximateInvokeCount": self.failures + u32::from(condition == "Success"),
            },
            "requestPayload": raw(self.payload),
        });
        if let Some(answer) = self.answer {
            record["responseContext"] = json!({ "statusCode": 200, "executedVersion": self.version });
            if let Some(error) = answer.error {
                record["responseContext"]["functionError"] = json!(error);
            }
            record["responsePayload"] = raw(&answer.payload);
        }
        serde_json::to_vec(&record).map(Bytes::from)
    }
}
