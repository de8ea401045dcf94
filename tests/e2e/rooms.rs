//! Rooms: who is in one hears what is said there, once, and nobody else does.

use chat_tests::{Chat, until};

#[tokio::test]
async fn everybody_in_a_room_hears_a_message_once_its_sender_included() {
    let chat = Chat::shared().await;
    let [mut alice, mut bob, mut carol] = chat.clients(["rooms.alice", "rooms.bob", "rooms.carol"]).await;
    alice.join("rooms.one").await;
    bob.join("rooms.one").await;

    let sent = alice.send("rooms.one", "hi").await;

    assert_eq!((sent.seq, sent.dup), (1, false));
    for client in [&mut alice, &mut bob] {
        let message = client.expect_message("rooms.one", "hi").await;
        assert_eq!(message["seq"], 1);
        assert_eq!(message["from"], "rooms.alice");
        assert_eq!(message["mid"], sent.id.as_str());
        client.fence().await;
        assert!(client.unread("message").is_empty(), "it came twice");
    }
    carol.fence().await;
    assert!(carol.unread("message").is_empty(), "who is not in the room heard it");
}

#[tokio::test]
async fn who_left_hears_nothing_more_and_may_not_speak() {
    let chat = Chat::shared().await;
    let [mut alice, mut bob] = chat.clients(["left.alice", "left.bob"]).await;
    alice.join("left").await;
    bob.join("left").await;
    bob.leave("left").await;

    alice.send("left", "is anybody here?").await;

    bob.fence().await;
    assert!(bob.unread("message").is_empty());
    let refused =
        bob.refusal(serde_json::json!({"action": "send", "room": "left", "body": {"text": "yes"}})).await;
    assert_eq!(refused, "NOT_IN_ROOM");
    // Leaving again is no mistake, and coming back works.
    bob.leave("left").await;
    bob.join("left").await;
    assert_eq!(bob.send("left", "I am back").await.seq, 2);
    alice.expect_message("left", "I am back").await;
}

#[tokio::test]
async fn joining_twice_is_being_in_once() {
    let chat = Chat::shared().await;
    let mut alice = chat.client("twice.alice").await;
    alice.join("twice").await;
    alice.join("twice").await;

    alice.send("twice", "once").await;

    alice.expect_message("twice", "once").await;
    alice.fence().await;
    assert!(alice.unread("message").is_empty());
}

#[tokio::test]
async fn two_devices_of_a_user_are_in_their_rooms_each_for_itself() {
    let chat = Chat::shared().await;
    let [mut phone, mut laptop] = chat.clients(["devices.alice", "devices.alice"]).await;
    phone.join("devices").await;

    phone.send("devices", "from the phone").await;
    laptop.fence().await;
    assert!(laptop.unread("message").is_empty());

    laptop.join("devices").await;
    laptop.send("devices", "from the laptop").await;
    phone.expect_message("devices", "from the laptop").await;
    assert_eq!(phone.who("devices").await, ["devices.alice"]);
}

#[tokio::test]
async fn text_arrives_as_it_was_written() {
    let chat = Chat::shared().await;
    let mut alice = chat.client("text.alice").await;
    alice.join("text").await;
    let longest = "ä".repeat(4_000);
    for text in [
        "<script>alert(1)</script>",
        "line\nbreak \"quoted\" \\ \u{0} \u{7f}",
        "日本語 👩‍👩‍👧 e\u{301}",
        &longest,
    ] {
        alice.send("text", text).await;
        alice.expect_message("text", text).await;
    }
    let batch = alice.history("text", serde_json::json!({})).await;
    assert_eq!(batch["items"][3]["body"]["text"], longest.as_str());
}

#[tokio::test]
async fn a_ping_is_answered_and_costs_no_function() {
    let chat = Chat::builder().start().await;
    let mut alice = chat.client("alice").await;
    chat.cloud().calls().reset();

    alice.say(r#"{"action":"ping"}"#).await;
    alice.expect("a pong", |frame| frame["type"] == "pong").await;

    let calls = chat.cloud().calls().all();
    assert!(calls.iter().all(|call| call.principal.is_none()), "a function did something: {calls:?}");
    let group = format!("/aws/lambda/{}", chat.function("on_message"));
    let invoked = async || chat.account.log_messages(&group, r#""START RequestId""#).await.len();
    // Two invocations, of the hello and of the fence, and none between them.
    alice.fence().await;
    until("both are in the log", async || invoked().await >= 2).await;
    assert_eq!(invoked().await, 2);
    chat.stop().await;
}
