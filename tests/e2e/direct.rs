//! Direct messages: a room of two that nobody else can name, on all devices of both.

use chat_tests::Chat;
use serde_json::json;

#[tokio::test]
async fn a_direct_message_reaches_all_devices_of_both_and_nobody_else() {
    let chat = Chat::shared().await;
    let [mut phone, mut laptop, mut alice, mut eve] =
        chat.clients(["dm.bob", "dm.bob", "dm.alice", "dm.eve"]).await;

    let sent = alice.send_to("dm.bob", "psst").await;

    assert_eq!((sent.room.as_str(), sent.seq), ("@dm.alice,dm.bob", 1));
    for client in [&mut phone, &mut laptop, &mut alice] {
        let message = client.expect_message("@dm.alice,dm.bob", "psst").await;
        assert_eq!(message["from"], "dm.alice");
    }
    // The answer goes into the same room, named from the other side.
    let answer = phone.send_to("dm.alice", "what?").await;
    assert_eq!((answer.room.as_str(), answer.seq), ("@dm.alice,dm.bob", 2));
    let third = laptop.send("@dm.alice,dm.bob", "who?").await;
    assert_eq!(third.seq, 3);
    alice.expect_message("@dm.alice,dm.bob", "who?").await;
    eve.fence().await;
    assert!(eve.unread("message").is_empty());
}

#[tokio::test]
async fn a_third_person_can_neither_read_nor_write_a_room_of_two() {
    let chat = Chat::shared().await;
    let [mut alice, mut bob, mut eve] = chat.clients(["third.alice", "third.bob", "third.eve"]).await;
    alice.send_to("third.bob", "the secret").await;
    bob.expect_message("@third.alice,third.bob", "the secret").await;

    for action in [
        json!({"action": "join", "room": "@third.alice,third.bob"}),
        json!({"action": "leave", "room": "@third.alice,third.bob"}),
        json!({"action": "who", "room": "@third.alice,third.bob"}),
        json!({"action": "history", "room": "@third.alice,third.bob"}),
        json!({"action": "send", "room": "@third.alice,third.bob", "body": {"text": "me too"}}),
    ] {
        assert_eq!(eve.refusal(action.clone()).await, "FORBIDDEN", "{action}");
    }
    let welcome = eve.hello(&[("@third.alice,third.bob", 0)]).await;
    assert_eq!(welcome["refused"], json!([{"room": "@third.alice,third.bob", "code": "FORBIDDEN"}]));
    assert_eq!(welcome["rooms"], json!([]));
    eve.fence().await;
    assert!(!eve.received().iter().any(|frame| frame.to_string().contains("the secret")));
    bob.fence().await;
    assert!(bob.unread("message").is_empty());
}

#[tokio::test]
async fn no_other_pair_and_no_named_room_shares_the_key_of_two() {
    let chat = Chat::shared().await;
    let mut mallory = chat.client("key.a").await;
    // Ids that would meet in a careless join of two names: `a` with `b:c` and `a:b` with `c`, and the like.
    let others = ["key.b:c", "key.b", "key.a:key.b", "key.b-c", "key.b.c"];
    for (number, other) in others.iter().enumerate() {
        let sent = mallory.send_to(other, &format!("to number {number}")).await;
        assert_eq!(sent.seq, 1, "the room with {other} is the room with somebody else");
    }
    let mut joined = chat.client("key.a:key.b").await;
    assert_eq!(joined.send_to("c", "x").await.seq, 1);
    for room in [
        "@key.a,key.b",
        "R#@key.a,key.b",
        "@key.b,key.a",
        "@key.a,key.b,c",
        "@key.a",
        "@,",
        "key.a,key.b",
        "@@key.a,key.b",
    ] {
        let mut stranger = chat.client("key.stranger").await;
        let refused = stranger.refusal(json!({"action": "history", "room": room})).await;
        assert!(matches!(refused.as_str(), "FORBIDDEN" | "BAD_REQUEST"), "{room}: {refused}");
    }
}

#[tokio::test]
async fn a_message_to_oneself_is_refused_and_one_to_nobody_is_kept() {
    let chat = Chat::shared().await;
    let mut alice = chat.client("alone.alice").await;
    let refused = alice.refusal(json!({"action": "send", "to": "alone.alice", "body": {"text": "me"}})).await;
    assert_eq!(refused, "BAD_REQUEST");

    alice.send_to("alone.bob", "for later").await;

    // Bob comes for the first time and finds it without having known of the room.
    let mut bob = chat.connect(&chat_tests::Hail::user("alone.bob")).await.expect("bob is let in");
    let welcome = bob.hello(&[]).await;
    assert_eq!(welcome["direct"], json!(["@alone.alice,alone.bob"]));
    let batch = bob.history("@alone.alice,alone.bob", json!({})).await;
    assert_eq!(batch["items"][0]["body"]["text"], "for later");
}
