//! Who is there: asked with `who`, told by `presence` in rooms that are small enough.

use chat_tests::{Chat, until};
use serde_json::json;

#[tokio::test]
async fn coming_and_going_is_told_to_the_others_in_the_room() {
    let chat = Chat::shared().await;
    let [mut alice, mut bob] = chat.clients(["here.alice", "here.bob"]).await;
    alice.join("here").await;
    assert_eq!(alice.who("here").await, ["here.alice"]);

    bob.join("here").await;

    let came = alice.expect("presence of bob", |frame| frame["type"] == "presence").await;
    assert_eq!(came, json!({"type": "presence", "room": "here", "user": "here.bob", "state": "online"}));
    assert_eq!(alice.who("here").await, ["here.alice", "here.bob"]);
    assert_eq!(bob.who("here").await, ["here.alice", "here.bob"]);

    bob.leave("here").await;
    let left = alice.expect("absence of bob", |frame| frame["type"] == "presence").await;
    assert_eq!((&left["user"], &left["state"]), (&json!("here.bob"), &json!("offline")));
    assert!((20_000..=30_000).contains(&left["grace_ms"].as_u64().unwrap_or(0)), "{left}");

    bob.join("here").await;
    alice.expect("bob again", |frame| frame["state"] == "online").await;
    bob.vanish();
    let gone = alice.expect("bob gone", |frame| frame["state"] == "offline").await;
    assert_eq!(gone["user"], "here.bob");
    assert_eq!(alice.who("here").await, ["here.alice"]);
    alice.fence().await;
    assert!(alice.unread("presence").is_empty(), "one news too many");
}

#[tokio::test]
async fn a_second_device_is_no_news_until_the_last_is_gone() {
    let chat = Chat::shared().await;
    let [mut alice, mut phone, mut laptop] = chat.clients(["second.alice", "second.bob", "second.bob"]).await;
    alice.join("second").await;
    phone.join("second").await;
    alice.expect("bob", |frame| frame["state"] == "online").await;

    laptop.join("second").await;
    laptop.leave("second").await;
    alice.fence().await;
    assert!(alice.unread("presence").is_empty());

    phone.leave("second").await;
    alice.expect("bob gone", |frame| frame["state"] == "offline").await;
}

#[tokio::test]
async fn large_rooms_are_quiet() {
    let chat = Chat::builder().setting("presence", "{ max_members: 2 }").start().await;
    let [mut alice, mut bob, mut carol] = chat.clients(["alice", "bob", "carol"]).await;
    alice.join("r").await;
    bob.join("r").await;
    alice.expect("bob", |frame| frame["user"] == "bob").await;

    carol.join("r").await;

    for client in [&mut alice, &mut bob] {
        client.fence().await;
        assert!(client.unread("presence").is_empty());
    }
    assert_eq!(alice.who("r").await, ["alice", "bob", "carol"]);
    chat.stop().await;
}

#[tokio::test]
async fn who_in_a_room_of_two_sees_whether_the_other_is_connected() {
    let chat = Chat::shared().await;
    let mut alice = chat.client("pair.alice").await;
    let room = "@pair.alice,pair.bob";
    assert_eq!(alice.who(room).await, ["pair.alice"]);
    let bob = chat.client("pair.bob").await;
    assert_eq!(alice.who(room).await, ["pair.alice", "pair.bob"]);
    bob.close().await;
    until("bob is gone", async || alice.who(room).await == ["pair.alice"]).await;
}
