//! Lambda's environments: real processes, one event in each at a time, and none that outlives the cloud.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::LogType;
use chat_local::{Cloud, CloudConfig, Settings};
use serde_json::{Value, json};

use crate::caller::{Caller, cloud, refusal};
use crate::deployed::{FUNCTION, create_function, example};
use crate::patience::{found, until};

/// The payload, and the kind of its error.
async fn invoke(owner: &Caller, order: Value) -> (Value, Option<String>) {
    let invoked = owner
        .lambda()
        .invoke()
        .function_name(FUNCTION)
        .payload(Blob::new(order.to_string()))
        .send()
        .await
        .unwrap();
    let payload = serde_json::from_slice(invoked.payload.unwrap().as_ref()).unwrap();
    (payload, invoked.function_error)
}

async fn pid(owner: &Caller) -> u64 {
    invoke(owner, json!({})).await.0["pid"].as_u64().unwrap()
}

async fn until_gone(pid: u64) {
    // A zombie whose parent has not looked yet is gone as well.
    until("the end of the process", async || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    })
    .await;
}

#[tokio::test]
async fn a_process_takes_one_event_after_the_other_and_more_of_them_those_that_come_together() {
    let cloud = cloud().await;
    let owner = Caller::owner(&cloud);
    create_function(&owner, 10).await;
    let first = pid(&owner).await;
    assert_eq!(pid(&owner).await, first, "a warm environment is used again");
    let slow = || async { invoke(&owner, json!({"pause_ms": 500})).await.0["pid"].as_u64().unwrap() };
    let (one, other) = tokio::join!(slow(), slow());
    assert_ne!(one, other);
    cloud.shutdown().await;
    until_gone(one).await;
    until_gone(other).await;
}

#[tokio::test]
async fn code_is_unpacked_when_it_comes_and_not_by_the_first_event() {
    let cloud = cloud().await;
    let owner = Caller::owner(&cloud);
    create_function(&owner, 10).await;
    let function = owner.lambda().get_function().function_name(FUNCTION).send().await.unwrap();
    let location = function.code.unwrap().location.unwrap();
    let program = Path::new(location.strip_prefix("file://").unwrap()).join("bootstrap");
    until("the unpacked program", async || program.exists()).await;
    cloud.shutdown().await;
    until("the end of what a cloud in memory unpacked", async || !program.exists()).await;
}

#[tokio::test]
async fn a_timeout_a_crash_and_an_error_are_told_apart_and_followed_by_a_fresh_process() {
    let cloud = cloud().await;
    let owner = Caller::owner(&cloud);
    create_function(&owner, 1).await;
    let first = pid(&owner).await;

    let (failed, kind) = invoke(&owner, json!({"do": "fail"})).await;
    assert_eq!(
        (failed["errorMessage"].as_str(), kind.as_deref()),
        (Some("a secret detail"), Some("Unhandled"))
    );
    assert_eq!(pid(&owner).await, first, "an error ends no process");

    let (crashed, kind) = invoke(&owner, json!({"do": "crash"})).await;
    assert_eq!(kind.as_deref(), Some("Unhandled"));
    assert!(crashed["errorMessage"].as_str().unwrap().contains("exit"), "{crashed}");
    let second = pid(&owner).await;
    assert_ne!(second, first);

    let (late, kind) = invoke(&owner, json!({"pause_ms": 60_000})).await;
    assert_eq!(kind.as_deref(), Some("Unhandled"));
    assert!(late["errorMessage"].as_str().unwrap().contains("Task timed out after 1.00 seconds"), "{late}");
    until_gone(second).await;
    assert_ne!(pid(&owner).await, second);
    cloud.shutdown().await;
}

#[tokio::test]
async fn beyond_the_concurrency_callers_are_throttled() {
    let cloud = cloud().await;
    let owner = Caller::owner(&cloud);
    create_function(&owner, 10).await;
    let lambda = owner.lambda();
    let reserve = lambda.put_function_concurrency().function_name(FUNCTION).reserved_concurrent_executions(1);
    reserve.send().await.unwrap();
    let invoke = || lambda.invoke().function_name(FUNCTION).payload(Blob::new(r#"{"pause_ms":1000}"#)).send();
    let (one, other) = tokio::join!(invoke(), invoke());
    let (fine, refused) = if one.is_ok() { (one, other) } else { (other, one) };
    fine.unwrap();
    assert_eq!(refusal(refused).0, "TooManyRequestsException");
    cloud.shutdown().await;
}

#[tokio::test]
async fn beyond_the_concurrency_of_the_account_callers_are_throttled_too() {
    let mut settings = Settings::default();
    settings.lambda.concurrency = 1;
    let cloud = Cloud::start(CloudConfig { settings, ..CloudConfig::in_memory() }).await.unwrap();
    let owner = Caller::owner(&cloud);
    create_function(&owner, 10).await;
    let lambda = owner.lambda();
    let invoke = || lambda.invoke().function_name(FUNCTION).payload(Blob::new(r#"{"pause_ms":1000}"#)).send();
    let (one, other) = tokio::join!(invoke(), invoke());
    let (fine, refused) = if one.is_ok() { (one, other) } else { (other, one) };
    fine.unwrap();
    assert_eq!(refusal(refused).0, "TooManyRequestsException");
    invoke().await.expect("it is free again");
    cloud.shutdown().await;
}

#[tokio::test]
async fn what_a_function_prints_is_in_its_log_between_start_and_report() {
    let cloud = cloud().await;
    let owner = Caller::owner(&cloud);
    create_function(&owner, 10).await;
    let invoke = owner.lambda().invoke().function_name(FUNCTION).payload(Blob::new(r#"{"word":"xyzzy"}"#));
    let invoked = invoke.log_type(LogType::Tail).send().await.unwrap();
    assert!(invoked.log_result.is_some_and(|tail| !tail.is_empty()));
    let lines: Vec<String> = found("the report of the invocation", async || {
        let logs = owner.logs().filter_log_events().log_group_name("/aws/lambda/echo").send().await.unwrap();
        let lines: Vec<String> =
            logs.events.unwrap_or_default().into_iter().filter_map(|e| e.message).collect();
        lines.iter().any(|line| line.starts_with("REPORT RequestId:")).then_some(lines)
    })
    .await;
    let at = |start: &str| {
        lines.iter().position(|line| line.contains(start)).unwrap_or_else(|| panic!("{start}: {lines:?}"))
    };
    assert!(at("START RequestId:") < at("xyzzy"));
    assert!(at("xyzzy") < at("END RequestId:"));
    cloud.shutdown().await;
}

#[tokio::test]
async fn environments_without_work_are_reaped() {
    let mut settings = Settings::default();
    settings.lambda.idle_reap = Duration::from_millis(200);
    let cloud = Cloud::start(CloudConfig { settings, ..CloudConfig::in_memory() }).await.unwrap();
    let owner = Caller::owner(&cloud);
    create_function(&owner, 10).await;
    let first = pid(&owner).await;
    until_gone(first).await;
    assert_ne!(pid(&owner).await, first);
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_program_that_somebody_still_writes_to_is_waited_for() {
    let cloud = cloud().await;
    let owner = Caller::owner(&cloud);
    create_function(&owner, 10).await;
    let first = pid(&owner).await;
    invoke(&owner, json!({"do": "crash"})).await;
    until_gone(first).await;
    let function = owner.lambda().get_function().function_name(FUNCTION).send().await.unwrap();
    let location = function.code.and_then(|code| code.location).unwrap();
    let bootstrap = Path::new(location.strip_prefix("file://").unwrap()).join("bootstrap");
    let writer = std::fs::OpenOptions::new().append(true).open(&bootstrap).unwrap();
    let busy = Command::new(&bootstrap).spawn().map(drop).unwrap_err();
    assert_eq!(busy.kind(), std::io::ErrorKind::ExecutableFileBusy);

    // An invocation tries to start it at once.
    let (second, ()) = tokio::join!(pid(&owner), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(writer);
    });

    assert_ne!(second, first);
    cloud.shutdown().await;
}

#[tokio::test]
async fn no_process_outlives_a_cloud_that_was_killed() {
    let mut child = Command::new(example("cloud")).arg("0").stdout(Stdio::piped()).spawn().unwrap();
    let mut endpoint = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut endpoint).unwrap();
    let owner = Caller::at(endpoint.trim());
    create_function(&owner, 60).await;
    let idle = pid(&owner).await;
    let busy = tokio::spawn({
        let owner = owner.clone();
        async move {
            drop(
                owner
                    .lambda()
                    .invoke()
                    .function_name(FUNCTION)
                    .payload(Blob::new(r#"{"pause_ms":50000}"#))
                    .send()
                    .await,
            )
        }
    });
    assert!(Path::new(&format!("/proc/{idle}")).exists());
    child.kill().unwrap();
    child.wait().unwrap();
    until_gone(idle).await;
    busy.abort();
}
