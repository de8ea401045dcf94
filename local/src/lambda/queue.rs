//! Asynchronous events: kept from the moment they are accepted until nothing more is to be done for them, so that they
//! outlast the cloud; with retries and destinations.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Lambda;
use super::invoke::{Target, run};
use super::model::now_ms;
use super::name::Name;
use super::pool::Answer;
use crate::error::AwsError;

const KIND: &str = "lambda.event";
/// Events are retried this often, unless the function says otherwise.
const RETRIES: u32 = 2;
const MAX_AGE: Duration = Duration::from_secs(6 * 3600);
/// The waits of events that were throttled double up to this many times the first one: 1 s and 5 min on AWS.
const LONGEST_THROTTLED: u32 = 300;

/// An event that was accepted. One document of the store, by its request id.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Queued {
    /// The function's name, with its qualifier if it was invoked with one.
    function: String,
    payload: String,
    accepted_ms: i64,
    failures: u32,
    /// When its next attempt is due.
    due_ms: i64,
}

impl Queued {
    fn age(&self) -> Duration {
        milliseconds(now_ms() - self.accepted_ms)
    }
}

/// The events that are being worked off.
#[derive(Default)]
pub(super) struct Queue {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Queue {
    /// Leaves what is not done yet to the next cloud: it is in the store.
    pub(super) async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
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
        let now_ms = now_ms();
        let payload = payload.to_owned();
        let event = Queued { function, payload, accepted_ms: now_ms, failures: 0, due_ms: now_ms };
        self.host.cx.store.put(KIND, &request_id, &event)?;
        self.queue.tasks.spawn(Arc::clone(self).work_off(request_id, event));
        Ok(())
    }

    /// The events that an earlier cloud had accepted.
    pub(crate) fn accepted(&self) -> Result<Vec<(String, Queued)>, AwsError> {
        self.host.cx.store.list(KIND)
    }

    /// Goes on with them. What was begun and not ended is begun again: an event comes at least once.
    pub(crate) fn resume(self: &Arc<Self>, accepted: Vec<(String, Queued)>) {
        for (request_id, event) in accepted {
            self.queue.tasks.spawn(Arc::clone(self).work_off(request_id, event));
        }
    }

    async fn work_off(self: Arc<Self>, request_id: String, event: Queued) {
        tokio::select! {
            // What has ended counts as done, even if the cloud is ending too.
            biased;
            () = self.invoke_until_done(&request_id, event) => {
                // If that fails, the event comes once more after the next start, which is allowed.
                let _ = self.host.cx.store.delete(KIND, &request_id);
            }
            () = self.queue.stop.cancelled() => {}
        }
    }

    /// Tries until it succeeds, its retries are used up, or it is too old. Resolves anew each time: the retry of an
    /// event may run newer code.
    async fn invoke_until_done(&self, request_id: &str, mut event: Queued) {
        let base = self.host.cx.settings.lambda.async_retry;
        let payload = Bytes::from(event.payload.clone());
        let Ok(name) = Name::parse(&event.function, None) else { return };
        let mut throttled = 0;
        loop {
            tokio::time::sleep(milliseconds(event.due_ms - now_ms())).await;
            let target = match self.target(&event.function, &name) {
                Ok(target) => target,
                Err(error) if error.code == "ResourceNotFoundException" => return,
                // The code cannot be unpacked, for example. That may pass.
                Err(_) if event.age() > MAX_AGE => return,
                Err(_) => {
                    event.due_ms = now_ms() + as_ms(back_off(base, &mut throttled));
                    continue;
                }
            };
            let config = &target.event_invoke;
            let max_age = config.max_age_s.map_or(MAX_AGE, Duration::from_secs);
            let (version, pool) = target.choose();
            let record = |failures, answer| Record {
                target: &target,
                version,
                failures,
                request_id,
                payload: &payload,
                answer,
            };
            let failed = async |failures, answer, condition| {
                self.deliver(config.on_failure.as_deref(), record(failures, answer).write(condition)).await;
            };
            if target.limit == 0 {
                return failed(event.failures, None, "ZeroReservedConcurrency").await;
            }
            if event.age() > max_age {
                return failed(event.failures, None, "EventAgeExceeded").await;
            }
            let outcome = run(&target, pool, request_id.to_owned(), payload.clone(), None).await;
            let wait = match &outcome {
                Ok(answer) if answer.error.is_none() => {
                    let record = record(event.failures, Some(answer)).write("Success");
                    return self.deliver(config.on_success.as_deref(), record).await;
                }
                Ok(answer) => {
                    event.failures += 1;
                    if event.failures > config.max_retries.unwrap_or(RETRIES) {
                        return failed(event.failures, Some(answer), "RetriesExhausted").await;
                    }
                    base * event.failures
                }
                // Throttled, or the machine failed: not the function's fault, so not one of its retries.
                Err(_) => back_off(base, &mut throttled),
            };
            if event.age() + wait > max_age {
                return failed(event.failures, outcome.as_ref().ok(), "EventAgeExceeded").await;
            }
            event.due_ms = now_ms() + as_ms(wait);
            // What is not written down here is tried too early after a restart, or once too often.
            let _ = self.host.cx.store.put(KIND, request_id, &event);
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

/// The next wait of an event that was throttled: a sixtieth of the wait after a failure, doubled each time.
fn back_off(base: Duration, throttled: &mut u32) -> Duration {
    let times = 2_u32.saturating_pow(*throttled).min(LONGEST_THROTTLED);
    *throttled += 1;
    base / 60 * times
}

fn milliseconds(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}

fn as_ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 2)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::back_off;

    #[test]
    fn throttled_events_wait_from_a_second_on_up_to_five_minutes() {
        let (mut throttled, base) = (0, Duration::from_secs(60));
        let waits: Vec<u64> = (0..40).map(|_| back_off(base, &mut throttled).as_secs()).collect();
        assert_eq!(waits[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(waits.last(), Some(&300));
    }
}
