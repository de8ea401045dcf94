//! Asynchronous invocations: accepted at once, kept until they are done, repeated when they fail, and told of in the end.

use std::time::Duration;

use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{DestinationConfig, InvocationType, OnFailure};
use chat_local::{Cloud, CloudConfig, Settings};
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::deployed::{ARN, FUNCTION, create_function};

async fn accept(owner: &Caller, event: &Value) {
    let invoke = owner.lambda().invoke().function_name(FUNCTION).invocation_type(InvocationType::Event);
    let accepted = invoke.payload(Blob::new(event.to_string())).send().await.unwrap();
    assert_eq!(accepted.status_code, 202);
}

/// The events that the function got so far.
async fn got(owner: &Caller) -> Vec<Value> {
    let logs = owner.logs();
    let found = logs.filter_log_events().log_group_name("/aws/lambda/echo").filter_pattern("EVENT");
    let lines = found.send().await.unwrap().events.unwrap_or_default();
    let event = |line: &str| serde_json::from_str(line.strip_prefix("EVENT ").unwrap().trim()).unwrap();
    lines.iter().map(|line| event(line.message.as_deref().unwrap())).collect()
}

async fn until_got(owner: &Caller, count: usize) -> Vec<Value> {
    let look = async {
        loop {
            let got = got(owner).await;
            if got.len() >= count {
                return got;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), look).await.expect("the function got too few events")
}

fn quick() -> Settings {
    let mut settings = Settings::default();
    settings.lambda.async_retry = Duration::from_millis(60);
    settings
}

#[tokio::test]
async fn an_event_that_fails_is_repeated_twice_and_then_its_destination_learns_of_it() {
    let cloud = Cloud::start(CloudConfig { settings: quick(), ..CloudConfig::in_memory() }).await.unwrap();
    let owner = Caller::owner(&cloud);
    create_function(&owner, 10).await;
    let failed = OnFailure::builder().destination(ARN).build();
    owner
        .lambda()
        .put_function_event_invoke_config()
        .function_name(FUNCTION)
        .destination_config(DestinationConfig::builder().on_failure(failed).build())
        .send()
        .await
        .unwrap();
    let event = json!({"do": "fail"});
    accept(&owner, &event).await;
    let got = until_got(&owner, 4).await;
    assert_eq!(got[..3], [event.clone(), event.clone(), event.clone()]);
    let record = &got[3];
    assert_eq!(record["requestPayload"], event);
    assert_eq!(record["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 3);
    assert_eq!(record["responseContext"]["functionError"], "Unhandled");
    cloud.shutdown().await;
}

#[tokio::test]
async fn an_accepted_event_outlasts_the_cloud_and_comes_no_more_once_it_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let config = || CloudConfig {
        data: Some(directory.path().to_owned()),
        settings: quick(),
        ..CloudConfig::in_memory()
    };
    let cloud = Cloud::start(config()).await.unwrap();
    let owner = Caller::owner(&cloud);
    create_function(&owner, 10).await;
    let reserve = owner.lambda().put_function_concurrency().function_name(FUNCTION);
    reserve.reserved_concurrent_executions(0).send().await.unwrap();
    let event = json!({"n": 1});
    accept(&owner, &event).await;
    cloud.shutdown().await;

    let cloud = Cloud::start(config()).await.unwrap();
    let owner = Caller::owner(&cloud);
    assert_eq!(got(&owner).await, Vec::<Value>::new(), "nothing of the function may run yet");
    owner.lambda().delete_function_concurrency().function_name(FUNCTION).send().await.unwrap();
    assert_eq!(until_got(&owner, 1).await, std::slice::from_ref(&event));
    cloud.shutdown().await;

    let cloud = Cloud::start(config()).await.unwrap();
    let owner = Caller::owner(&cloud);
    let next = json!({"n": 2});
    accept(&owner, &next).await;
    assert_eq!(until_got(&owner, 2).await, [event, next]);
    cloud.shutdown().await;
}
