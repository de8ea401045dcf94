//! Asynchronous invocations: accepted at once, kept until they are done, repeated when they fail, and told of in the end.

use std::path::Path;
use std::time::Duration;

use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{DestinationConfig, InvocationType, OnFailure};
use chat_local::{Cloud, CloudConfig, Settings};
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::deployed::{FUNCTION, create_another, create_function, seen_by};
use crate::patience::{found, until};

/// The function that is told of failures.
const TOLD: &str = "told";
const LONG_MS: u64 = 3_000;

async fn accept(owner: &Caller, event: &Value) {
    let invoke = owner.lambda().invoke().function_name(FUNCTION).invocation_type(InvocationType::Event);
    let accepted = invoke.payload(Blob::new(event.to_string())).send().await.unwrap();
    assert_eq!(accepted.status_code, 202);
}

async fn until_seen_by(owner: &Caller, function: &str, count: usize) -> Vec<Value> {
    let what = format!("{count} events in the log of {function}");
    found(&what, async || Some(seen_by(owner, function).await).filter(|seen| seen.len() >= count)).await
}

/// Waits until the function is free, so that what it did is done.
async fn until_free(owner: &Caller) {
    until("an answer of the function", async || {
        owner.lambda().invoke().function_name(FUNCTION).send().await.is_ok()
    })
    .await;
}

async fn reserve(owner: &Caller, concurrency: i32) {
    let reserve = owner.lambda().put_function_concurrency().function_name(FUNCTION);
    reserve.reserved_concurrent_executions(concurrency).send().await.unwrap();
}

/// The function with retries of its own and somebody who is told of failures.
async fn configure(owner: &Caller, retries: i32) {
    create_another(owner, TOLD, 10).await;
    let arn = format!("arn:aws:lambda:us-east-1:000000000000:function:{TOLD}");
    let failed = DestinationConfig::builder().on_failure(OnFailure::builder().destination(arn).build());
    let put = owner.lambda().put_function_event_invoke_config().function_name(FUNCTION);
    let put = put.maximum_retry_attempts(retries).destination_config(failed.build());
    put.send().await.unwrap();
}

async fn start(data: Option<&Path>) -> (Cloud, Caller) {
    let mut settings = Settings::default();
    settings.lambda.async_retry = Duration::from_millis(60);
    let data = data.map(Path::to_owned);
    let cloud = Cloud::start(CloudConfig { data, settings, ..CloudConfig::in_memory() }).await.unwrap();
    let owner = Caller::owner(&cloud);
    (cloud, owner)
}

#[tokio::test]
async fn an_event_that_fails_is_repeated_twice_and_then_its_destination_learns_of_it() {
    let (cloud, owner) = start(None).await;
    create_function(&owner, 10).await;
    configure(&owner, 2).await;
    let event = json!({"do": "fail"});
    accept(&owner, &event).await;
    let told = until_seen_by(&owner, TOLD, 1).await;
    assert_eq!(until_seen_by(&owner, FUNCTION, 3).await, [event.clone(), event.clone(), event.clone()]);
    assert_eq!(told[0]["requestPayload"], event);
    assert_eq!(told[0]["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(told[0]["requestContext"]["approximateInvokeCount"], 3);
    assert_eq!(told[0]["responseContext"]["functionError"], "Unhandled");
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_function_without_any_concurrency_has_its_events_refused_at_once() {
    let (cloud, owner) = start(None).await;
    create_function(&owner, 10).await;
    configure(&owner, 2).await;
    reserve(&owner, 0).await;
    accept(&owner, &json!({"n": 1})).await;
    let told = until_seen_by(&owner, TOLD, 1).await;
    assert_eq!(told[0]["requestContext"]["condition"], "ZeroReservedConcurrency");
    assert_eq!(told[0]["requestPayload"], json!({"n": 1}));
    assert_eq!(seen_by(&owner, FUNCTION).await, Vec::<Value>::new());
    cloud.shutdown().await;
}

#[tokio::test]
async fn accepted_events_outlast_the_cloud_and_come_no_more_once_they_are_done() {
    let directory = tempfile::tempdir().unwrap();
    let data = Some(directory.path());
    let (cloud, owner) = start(data).await;
    create_function(&owner, 10).await;
    // An interruption is no failure: the one that runs would not be repeated otherwise.
    configure(&owner, 0).await;
    reserve(&owner, 1).await;
    let (running, waiting) = (json!({"n": 1, "pause_ms": LONG_MS}), json!({"n": 2}));
    accept(&owner, &running).await;
    until_seen_by(&owner, FUNCTION, 1).await;
    accept(&owner, &waiting).await;
    cloud.shutdown().await;

    let (cloud, owner) = start(data).await;
    let mut all = until_seen_by(&owner, FUNCTION, 3).await;
    all.sort_by_key(|event| event["n"].as_u64());
    assert_eq!(all, [running.clone(), running, waiting]);
    until_free(&owner).await;
    cloud.shutdown().await;

    let (cloud, owner) = start(data).await;
    let before = seen_by(&owner, FUNCTION).await.len();
    let last = json!({"n": 3});
    accept(&owner, &last).await;
    let all = until_seen_by(&owner, FUNCTION, before + 1).await;
    assert_eq!((all.len(), all.last()), (before + 1, Some(&last)));
    assert_eq!(seen_by(&owner, TOLD).await, Vec::<Value>::new());
    cloud.shutdown().await;
}
