//! CloudWatch Logs as the SDK sees it; the cases of patterns and pages are beside the code.

use std::time::Duration;

use aws_sdk_cloudwatchlogs::types::{InputLogEvent, StartLiveTailResponseStream};

use crate::caller::{Caller, cloud, refusal};

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

#[tokio::test]
async fn a_group_is_made_filled_searched_and_deleted() {
    let cloud = cloud().await;
    let logs = Caller::owner(&cloud).logs();
    logs.create_log_group().log_group_name("/g").tags("app", "chat").send().await.unwrap();
    let again = refusal(logs.create_log_group().log_group_name("/g").send().await);
    assert_eq!(again.0, "ResourceAlreadyExistsException");
    logs.put_retention_policy().log_group_name("/g").retention_in_days(14).send().await.unwrap();
    let groups = logs.describe_log_groups().log_group_name_prefix("/g").send().await.unwrap();
    assert_eq!(groups.log_groups()[0].retention_in_days(), Some(14));
    let arn = groups.log_groups()[0].log_group_arn().unwrap();
    let tags = logs.list_tags_for_resource().resource_arn(arn).send().await.unwrap();
    assert_eq!(tags.tags().unwrap()["app"], "chat");

    logs.create_log_stream().log_group_name("/g").log_stream_name("s").send().await.unwrap();
    let event =
        |message: &str| InputLogEvent::builder().timestamp(now_ms()).message(message).build().unwrap();
    logs.put_log_events()
        .log_group_name("/g")
        .log_stream_name("s")
        .log_events(event(r#"{"level":"ERROR"}"#))
        .log_events(event(r#"{"level":"INFO"}"#))
        .send()
        .await
        .unwrap();
    let found = logs
        .filter_log_events()
        .log_group_name("/g")
        .filter_pattern(r#"{ $.level = "ERROR" }"#)
        .send()
        .await
        .unwrap();
    let messages: Vec<_> = found.events().iter().filter_map(|event| event.message()).collect();
    assert_eq!(messages, [r#"{"level":"ERROR"}"#]);
    logs.delete_log_group().log_group_name("/g").send().await.unwrap();
    assert_eq!(
        refusal(logs.filter_log_events().log_group_name("/g").send().await).0,
        "ResourceNotFoundException"
    );
    cloud.shutdown().await;
}

/// The SDK puts a prefix before the host of this operation, which no local address has.
#[derive(Debug)]
struct NoHostPrefix;

impl aws_sdk_cloudwatchlogs::config::Intercept for NoHostPrefix {
    fn name(&self) -> &'static str {
        "NoHostPrefix"
    }

    fn modify_before_signing(
        &self,
        context: &mut aws_sdk_cloudwatchlogs::config::interceptors::BeforeTransmitInterceptorContextMut<'_>,
        _: &aws_sdk_cloudwatchlogs::config::RuntimeComponents,
        _: &mut aws_sdk_cloudwatchlogs::config::ConfigBag,
    ) -> Result<(), aws_sdk_cloudwatchlogs::error::BoxError> {
        let request = context.request_mut();
        let uri = request.uri().replace("//stream-", "//");
        request.set_uri(uri)?;
        Ok(())
    }
}

#[tokio::test]
async fn a_live_tail_brings_what_arrives_and_matches() {
    let cloud = cloud().await;
    let logs = Caller::owner(&cloud).logs();
    logs.create_log_group().log_group_name("/g").send().await.unwrap();
    logs.create_log_stream().log_group_name("/g").log_stream_name("s").send().await.unwrap();
    let tail = logs
        .start_live_tail()
        .log_group_identifiers("arn:aws:logs:us-east-1:000000000000:log-group:/g")
        .log_event_filter_pattern("wanted")
        .customize()
        .interceptor(NoHostPrefix)
        .send()
        .await
        .unwrap();
    let mut stream = tail.response_stream;
    let first = stream.recv().await.unwrap().unwrap();
    assert!(matches!(first, StartLiveTailResponseStream::SessionStart(_)), "{first:?}");
    for message in ["wanted 1", "other", "wanted 2"] {
        let event = InputLogEvent::builder().timestamp(now_ms()).message(message).build().unwrap();
        logs.put_log_events()
            .log_group_name("/g")
            .log_stream_name("s")
            .log_events(event)
            .send()
            .await
            .unwrap();
    }
    let mut messages = Vec::new();
    while messages.len() < 2 {
        if let Some(StartLiveTailResponseStream::SessionUpdate(update)) = stream.recv().await.unwrap() {
            messages.extend(update.session_results().iter().filter_map(|event| event.message.clone()));
        }
    }
    assert_eq!(messages, ["wanted 1", "wanted 2"]);
    // The open stream must not hold the cloud up.
    cloud.shutdown().await;
    assert!(stream.recv().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn groups_are_described_while_their_retention_changes() {
    let cloud = cloud().await;
    let owner = Caller::owner(&cloud);
    let groups: Vec<String> = (0..50).map(|n| format!("g{n}")).collect();
    for group in &groups {
        owner.logs().create_log_group().log_group_name(group).send().await.unwrap();
    }
    let change = async || {
        let logs = owner.logs();
        for group in groups.iter().cycle().take(500) {
            logs.put_retention_policy().log_group_name(group).retention_in_days(7).send().await.unwrap();
        }
    };
    let describe = async || {
        let logs = owner.logs();
        for _ in 0..200 {
            logs.describe_log_groups().send().await.unwrap();
        }
    };
    let all = async { tokio::join!(change(), describe(), change(), describe()) };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("they wait for each other");
    cloud.shutdown().await;
}
