//! Every error code of the protocol, each met for real, with the id it answers and whether to try again.

use aws_sdk_dynamodb::types::AttributeValue;
use chat_local::{Fault, Rule};
use chat_tests::tokens::claims;
use chat_tests::{Chat, Hail, now_ms};
use serde_json::{Value, json};

/// Code and `retry` of an answer.
fn refused(answer: &Value) -> (&str, bool) {
    assert_eq!(answer["type"], "error", "{answer}");
    (answer["code"].as_str().unwrap_or_default(), answer["retry"] == true)
}

#[tokio::test]
async fn what_cannot_be_read_is_refused() {
    let chat = Chat::shared().await;
    let mut alice = chat.client("unreadable").await;
    for text in ["", "{", "hello", "[]", "null", "42", "\"text\"", "{\"action\":\"join\"", "\u{feff}{}"] {
        alice.say(text).await;
        let answer = alice.expect_error().await;
        assert_eq!(refused(&answer), ("BAD_JSON", false), "{text}");
        assert_eq!(answer.get("id"), None);
    }
    for (frame, code) in [
        (json!({"id": "1"}), "BAD_REQUEST"),
        (json!({"id": "1", "action": 7}), "BAD_REQUEST"),
        (json!({"id": "1", "action": "join"}), "BAD_REQUEST"),
        (json!({"id": "1", "action": "join", "room": "a b"}), "BAD_REQUEST"),
        (json!({"id": "1", "action": "send", "room": "r", "body": {"text": ""}}), "BAD_REQUEST"),
        (json!({"id": "1", "action": "send", "room": "r", "to": "b", "body": {"text": "x"}}), "BAD_REQUEST"),
        (json!({"id": "1", "action": "history", "room": "r", "limit": 101}), "BAD_REQUEST"),
        (json!({"id": "1", "action": "hello", "resume": [{"room": "r"}]}), "BAD_REQUEST"),
        (json!({"id": "1", "action": "hello", "v": 2}), "UNSUPPORTED_VERSION"),
        (json!({"id": "1", "action": "dance"}), "UNKNOWN_ACTION"),
        (json!({"id": "1", "action": "typing", "room": "r"}), "UNKNOWN_ACTION"),
        (json!({"id": "1", "action": "$connect"}), "UNKNOWN_ACTION"),
        (json!({"id": "1", "action": "$disconnect"}), "UNKNOWN_ACTION"),
    ] {
        let answer = alice.ask_anyway(&frame).await;
        assert_eq!(refused(&answer), (code, false), "{frame}");
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_at_its_limit() {
    let chat = Chat::shared().await;
    let mut alice = chat.client("large").await;
    alice.join("large").await;
    let text =
        |length: usize| json!({"action": "send", "room": "large", "body": {"text": "x".repeat(length)}});
    alice.ask(text(4_000)).await;
    assert_eq!(alice.refusal(text(4_001)).await, "TOO_LARGE");
    let frame = |bytes: usize| {
        let frame = r#"{"action":"who","id":"padded","room":"large"}"#;
        format!("{frame}{}", " ".repeat(bytes - frame.len()))
    };
    alice.say(&frame(16 * 1024)).await;
    alice.expect("an answer to the largest frame", |answer| answer["type"] == "who").await;
    alice.say(&frame(16 * 1024 + 1)).await;
    let answer = alice.expect_error().await;
    assert_eq!((refused(&answer), &answer["id"]), (("TOO_LARGE", false), &json!("padded")));
}

#[tokio::test]
async fn what_one_may_not_do_is_refused() {
    let chat = Chat::builder().with_tokens().setting("limits", "{ rooms_per_connection: 2 }").start().await;
    let mut of_token = claims("alice", 60);
    of_token["rooms"] = json!(["team", "public.*"]);
    let hail = Hail::token(&chat.signer.sign(&of_token));
    let mut alice = chat.connect(&hail).await.expect("alice has a token");
    alice.hello(&[]).await;

    assert_eq!(alice.refusal(json!({"action": "join", "room": "secret"})).await, "FORBIDDEN");
    alice.join("team").await;
    alice.join("public.one").await;
    // One more than the stage allows.
    assert_eq!(alice.refusal(json!({"action": "join", "room": "public.two"})).await, "FORBIDDEN");
    alice.leave("public.one").await;
    alice.join("public.two").await;
    // Banned by whoever may write the table.
    let ban = [("role", AttributeValue::S("banned".to_owned()))];
    chat.account.put_item(&chat.table(), "R#public.three", "A#alice", &ban).await;
    alice.leave("public.two").await;
    assert_eq!(alice.refusal(json!({"action": "join", "room": "public.three"})).await, "FORBIDDEN");
    for frame in [
        json!({"action": "send", "room": "public.one", "body": {"text": "x"}}),
        json!({"action": "history", "room": "public.one"}),
        json!({"action": "who", "room": "public.one"}),
    ] {
        assert_eq!(alice.refusal(frame.clone()).await, "NOT_IN_ROOM", "{frame}");
    }
    chat.stop().await;
}

#[tokio::test]
async fn a_token_that_runs_out_ends_every_verb_on_an_open_connection() {
    let chat = Chat::builder().with_tokens().start().await;
    let hail = Hail::token(&chat.signer.sign(&claims("alice", 3)));
    let mut alice = chat.connect(&hail).await.expect("the token is still good");
    let welcome = alice.hello(&[]).await;
    alice.join("r").await;
    let ends_ms = welcome["expires"].as_u64().unwrap_or_default() * 1_000;
    assert!(ends_ms <= now_ms() + 3_000, "{welcome}");

    // Until then it works, and from then on it does not.
    loop {
        let before = now_ms();
        let answer = alice.ask(json!({"action": "send", "room": "r", "body": {"text": "x"}})).await;
        if answer["type"] == "error" {
            assert_eq!(refused(&answer), ("TOKEN_EXPIRED", false));
            assert!(now_ms() >= ends_ms, "too early");
            break;
        }
        assert!(before < ends_ms + 1_000, "too late: {answer}");
    }
    for frame in [
        json!({"action": "hello"}),
        json!({"action": "join", "room": "r"}),
        json!({"action": "leave", "room": "r"}),
        json!({"action": "history", "room": "r"}),
        json!({"action": "who", "room": "r"}),
    ] {
        assert_eq!(alice.refusal(frame.clone()).await, "TOKEN_EXPIRED", "{frame}");
    }
    chat.stop().await;
}

#[tokio::test]
async fn who_speaks_too_fast_is_told_how_long_to_wait() {
    let chat = Chat::builder().setting("limits", "{ sends_per_10s: 3 }").start().await;
    let [mut alice, mut bob] = chat.clients(["alice", "bob"]).await;
    alice.join("r").await;
    bob.join("r").await;
    for n in 0..3 {
        alice.send("r", &n.to_string()).await;
    }

    let answer = alice.ask(json!({"action": "send", "room": "r", "body": {"text": "too fast"}})).await;

    assert_eq!(refused(&answer), ("RATE_LIMITED", true));
    assert!((1..=10_000).contains(&answer["retry_ms"].as_u64().unwrap_or_default()), "{answer}");
    // The limit is hers, and the room's.
    assert_eq!(bob.send("r", "mine").await.seq, 4);
    alice.join("other").await;
    alice.send("other", "here I may").await;
    chat.stop().await;
}

#[tokio::test]
async fn a_connection_that_the_table_does_not_know_cannot_join() {
    let chat = Chat::builder().start().await;
    let mut alice = chat.client("alice").await;
    for sort in chat.account.keys(&chat.table(), "U#alice", "C#").await {
        chat.account.delete_item(&chat.table(), "U#alice", &sort).await;
    }
    assert_eq!(alice.refusal(json!({"action": "join", "room": "r"})).await, "NOT_FOUND");
    chat.stop().await;
}

#[tokio::test]
async fn trouble_behind_the_handler_is_told_without_its_details() {
    let chat = Chat::builder().start().await;
    let mut alice = chat.client("alice").await;
    alice.join("r").await;
    let faults = chat.cloud().faults();
    let send = json!({"action": "send", "room": "r", "body": {"text": "x"}});

    // Throttled for longer than the SDK tries.
    let throttled = "ProvisionedThroughputExceededException";
    faults.set([Rule::every("dynamodb:Query", Fault::fail(400, throttled, "secret detail 1"))]);
    let answer = alice.ask(send.clone()).await;
    assert_eq!(refused(&answer), ("UNAVAILABLE", true));
    assert!(answer["retry_ms"].as_u64().is_some(), "{answer}");

    // Somebody else always has the number already.
    let taken = "ConditionalCheckFailedException";
    faults.set([Rule::every("dynamodb:PutItem", Fault::fail(400, taken, "secret detail 2"))]);
    let answer = alice.ask(send.clone()).await;
    assert_eq!(refused(&answer), ("CONFLICT", true));

    // A mistake of ours.
    faults.set([Rule::every("dynamodb:PutItem", Fault::fail(400, "ValidationException", "secret detail 3"))]);
    let answer = alice.ask(send.clone()).await;
    assert_eq!(refused(&answer), ("INTERNAL", false));

    // And when it is over, it is over.
    faults.clear();
    assert_eq!(alice.ask(send).await["seq"], 1);
    let leaked = alice.received().into_iter().any(|frame| frame.to_string().contains("secret detail"));
    assert!(!leaked, "an error of DynamoDB reached a client");
    chat.stop().await;
}

#[tokio::test]
async fn a_lost_answer_of_the_table_does_not_show_a_message_twice() {
    let chat = Chat::builder().without_presence().start().await;
    let [mut alice, mut bob] = chat.clients(["alice", "bob"]).await;
    alice.join("r").await;
    bob.join("r").await;
    // The message is stored, the handler never learns it, and the SDK writes again.
    chat.cloud().faults().set([Rule::nth("dynamodb:PutItem", 1, Fault::LoseAnswer)]);

    let sent = alice.send("r", "once").await;

    assert_eq!((sent.seq, sent.dup), (1, false));
    bob.expect_message("r", "once").await;
    bob.fence().await;
    assert!(bob.unread("message").is_empty());
    assert_eq!(alice.send("r", "next").await.seq, 2);
    chat.stop().await;
}

#[tokio::test]
async fn without_an_authorizer_nobody_is_anybody() {
    let chat = Chat::shared().await;
    let event = json!({
        "requestContext": {
            "connectionId": "L0SM9cOFvHcCIhw=", "routeKey": "$default", "eventType": "MESSAGE",
            "connectedAt": now_ms(), "stage": "local", "apiId": "a", "requestId": "r"
        },
        "body": r#"{"action":"who","id":"1","room":"r","user":"alice","principalId":"alice"}"#,
        "isBase64Encoded": false
    });
    let answer = chat.account.invoke(&chat.function("on_message"), &event).await;
    let body: Value = serde_json::from_str(answer["body"].as_str().unwrap_or_default()).unwrap_or_default();
    assert_eq!(refused(&body), ("UNAUTHENTICATED", false), "{answer}");
}
