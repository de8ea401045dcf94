//! Deploys as the running chat feels them: a second one does nothing, new code takes over under open connections, and
//! a destroy leaves nothing.

use std::collections::BTreeSet;

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
