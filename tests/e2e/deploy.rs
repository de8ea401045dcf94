//! Deploys as the running chat feels them: a second one does nothing, new code takes over under open connections, and
//! a destroy leaves nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_dynamodb::types::TimeToLiveSpecification;
use chat_local::{Fault, Rule};
use chat_tests::{Chat, Sender, handlers};
use serde_json::{Value, json};

#[tokio::test]
async fn the_second_deploy_finds_nothing_to_do() {
    let chat = Chat::builder().start().await;
    chat.cloud().calls().reset();

    let plan = chat.plan(handlers::artifacts()).await;

    assert!(plan.is_empty(), "{plan:?}");
    let writes = ["Create", "Update", "Put", "Delete", "Add", "Remove", "Publish", "Tag", "Untag", "Attach"];
    let written = chat.cloud().calls().all().into_iter();
    let written: Vec<_> =
        written.filter(|call| writes.iter().any(|verb| call.operation.starts_with(verb))).collect();
    assert!(written.is_empty(), "{written:?}");
    chat.stop().await;
}

#[tokio::test]
async fn a_first_deploy_waits_for_what_a_region_has_not_spread_yet() {
    let chat = Chat::builder().start_empty().await;
    chat.cloud().faults().set([
        Rule::every("*", Fault::RoleSpreading { ms: 500 }),
        Rule::every("*", Fault::TableCreating { ms: 1_500 }),
        Rule::every("*", Fault::FunctionUnseen { ms: 700 }),
        Rule::nth(
            "lambda:CreateFunction",
            2,
            Fault::fail(
                400,
                "InvalidParameterValueException",
                "Lambda was unable to configure access to your environment variables because the KMS key is invalid for \
                 CreateGrant. Please check your KMS key settings.",
            ),
        ),
    ]);
    // Given up while the table is being created, which then tells nobody its tags.
    let begun = tokio::time::timeout(Duration::from_millis(300), chat.deploy(handlers::artifacts())).await;
    assert!(begun.is_err(), "it was done before anything had spread");
    chat.deploy(handlers::artifacts()).await;

    let chat = chat.located().await;
    chat.cloud().faults().clear();
    assert!(chat.plan(handlers::artifacts()).await.is_empty());
    let mut alice = chat.client("alice").await;
    alice.join("r").await;
    assert_eq!(alice.send("r", "hi").await.seq, 1);
    chat.stop().await;
}

#[tokio::test]
async fn ttl_that_somebody_moved_comes_back_without_holding_up_the_rest() {
    let chat = Chat::builder().start().await;
    let config = chat_tests::config(&chat.cloud().endpoint());
    let (dynamodb, logs) =
        (aws_sdk_dynamodb::Client::new(&config), aws_sdk_cloudwatchlogs::Client::new(&config));
    let ttl = |enabled: bool, attribute: &str| {
        let specification = TimeToLiveSpecification::builder().enabled(enabled).attribute_name(attribute);
        dynamodb
            .update_time_to_live()
            .table_name(chat.table())
            .time_to_live_specification(specification.build().expect("a specification"))
            .send()
    };
    ttl(false, "x").await.expect("by hand");
    ttl(true, "other").await.expect("by hand");
    let retention = logs.delete_retention_policy().log_group_name("/aws/lambda/chat-local-connect");
    retention.send().await.expect("by hand");

    chat.deploy(handlers::artifacts()).await;
    let left = chat.plan(handlers::artifacts()).await;
    let steps: Vec<String> = left.steps.iter().map(|step| step.resource.to_string()).collect();
    assert_eq!(steps, ["table/chat"], "everything else is as declared");

    // Within the hour, and after it.
    let too_soon = "Time to live has been modified multiple times within a fixed interval";
    let refuse = Fault::fail(400, "ValidationException", too_soon);
    chat.cloud().faults().set([Rule::every("dynamodb:UpdateTimeToLive", refuse)]);
    chat.deploy(handlers::artifacts()).await;
    assert!(!chat.plan(handlers::artifacts()).await.is_empty());
    chat.cloud().faults().clear();
    chat.deploy(handlers::artifacts()).await;
    assert!(chat.plan(handlers::artifacts()).await.is_empty());
    chat.stop().await;
}

#[tokio::test]
async fn a_role_that_was_made_anew_may_read_its_functions_settings() {
    let chat = Chat::builder().start().await;
    let iam = aws_sdk_iam::Client::new(&chat_tests::config(&chat.cloud().endpoint()));
    for name in ["chat-local-connect", "chat-local-on_message"] {
        let policy = iam.delete_role_policy().role_name(name).policy_name("chatctl");
        policy.send().await.expect("by hand");
        iam.delete_role().role_name(name).send().await.expect("by hand");
    }
    let plan = chat.plan(handlers::artifacts()).await;
    let steps: Vec<String> =
        plan.steps.iter().map(|step| format!("{} {}", step.action.name(), step.resource)).collect();
    for step in ["create role/connect", "update function/connect", "update alias/connect"] {
        assert!(steps.iter().any(|planned| planned == step), "no {step} in {steps:?}");
    }
    assert!(!steps.iter().any(|step| step.ends_with("/disconnect")), "{steps:?}");

    chat.deploy(handlers::artifacts()).await;

    let mut alice = chat.client("alice").await;
    alice.join("r").await;
    assert_eq!(alice.send("r", "hi").await.seq, 1);
    let plan = chat.plan(handlers::artifacts()).await;
    assert!(plan.is_empty(), "{plan:?}");
    chat.stop().await;
}

#[tokio::test]
async fn new_code_takes_over_without_dropping_a_connection() {
    let chat = Chat::builder().start().await;
    let [mut alice, mut bob] = chat.clients(["alice", "bob"]).await;
    alice.join("r").await;
    bob.join("r").await;
    alice.send("r", "before").await;
    let versions = async |chat: &Chat| -> BTreeSet<String> {
        let status: Value = chat.status().await;
        let functions = status["functions"].as_array().cloned().unwrap_or_default();
        functions.iter().map(|function| function["version"].to_string()).collect()
    };
    let old = versions(&chat).await;

    // Alice goes on talking while the code changes.
    let (plan, spoken) = {
        let changed = handlers::changed_artifacts();
        let deploying = chat.deploy(&changed);
        tokio::pin!(deploying);
        let mut spoken = 0;
        loop {
            tokio::select! {
                plan = &mut deploying => break (plan, spoken),
                sent = alice.send("r", "during") => {
                    spoken += 1;
                    assert_eq!(sent.seq, spoken + 1);
                }
            }
        }
    };

    assert!(!plan.is_empty());
    assert!(old.is_disjoint(&versions(&chat).await), "the alias still points to the old versions");
    // The send that the end of the deploy cut off may have been stored all the same: only the client gave up on it.
    let sent = alice.send("r", "after").await;
    assert!(sent.seq >= spoken + 2);
    for text in ["before", "after"] {
        bob.expect_message("r", text).await;
    }
    bob.fence().await;
    let heard = bob.received().into_iter().filter(|frame| frame["type"] == "message");
    let seqs: BTreeSet<u64> = heard.filter_map(|frame| frame["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=sent.seq).collect(), "messages that bob heard");
    assert_eq!(bob.send("r", "me too").await.seq, sent.seq + 1);
    assert!(chat.plan(&handlers::changed_artifacts()).await.is_empty());
    chat.stop().await;
}

#[tokio::test]
async fn a_destroy_leaves_nothing() {
    let chat = Chat::builder().start().await;
    let mut alice = chat.client("alice").await;
    alice.join("r").await;
    alice.send("r", "hi").await;
    let before = chat.account.everything().await;
    assert!(before.len() >= 10, "{before:?}");

    let plan = chat.destroy().await;

    assert!(!plan.is_empty());
    // The end of a connection that outlived its API must not bring a log group back.
    alice.close().await;
    assert_eq!(chat.account.everything().await, Vec::<String>::new());
    assert_eq!(chat.status().await["deployed"], false);
    assert!(chat.destroy().await.is_empty(), "there was something left for a second destroy");
    // And it can come again.
    chat.deploy(handlers::artifacts()).await;
    assert_eq!(chat.status().await["deployed"], true);
    chat.stop().await;
}

#[tokio::test]
async fn every_message_of_the_document_really_crosses_the_wire() {
    let chat = Chat::builder().start().await;
    let [mut alice, mut bob] = chat.clients(["alice", "bob"]).await;
    alice.join("r").await;
    bob.join("r").await;
    alice.send("r", "hi").await;
    alice.history("r", json!({})).await;
    alice.who("r").await;
    alice.leave("r").await;
    bob.expect("presence", |frame| frame["type"] == "presence").await;
    bob.expect_message("r", "hi").await;
    alice.refusal(json!({"action": "dance"})).await;
    assert!(chat.judge().name(Sender::Client, &json!({"action": "ping"})).is_ok());
    alice.say(r#"{"action":"ping"}"#).await;
    alice.expect("a pong", |frame| frame["type"] == "pong").await;
    // A function that cannot run any more: the gateway answers for it.
    chat.account.delete_function(&chat.function("on_message")).await;
    alice.say(r#"{"action":"who","id":"1","room":"r"}"#).await;
    let answer = alice.expect("the gateway's own frame", |frame| frame.get("type").is_none()).await;
    assert_eq!(answer["message"], "Internal server error");
    assert_eq!(answer.as_object().map(serde_json::Map::len), Some(3), "{answer}");

    for sender in [Sender::Client, Sender::Server] {
        let (documented, seen) = chat.judge().coverage(sender);
        let unseen: Vec<&str> = documented.into_iter().filter(|name| !seen.contains(*name)).collect();
        assert_eq!(unseen, Vec::<&str>::new(), "{sender:?}");
    }
    chat.stop().await;
}
