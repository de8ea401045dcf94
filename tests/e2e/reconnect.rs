//! Connections come and go: what was missed is brought, and the end of an old connection never hurts a new one.

use std::time::Duration;

use chat_local::{Fault, Rule};
use chat_tests::{Chat, Hail, until};
use serde_json::{Value, json};

fn texts(batch: &Value) -> Vec<&str> {
    batch["items"].as_array().into_iter().flatten().filter_map(|item| item["body"]["text"].as_str()).collect()
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_missed_and_is_in_its_rooms_again() {
    let chat = Chat::shared().await;
    let [mut alice, mut bob] = chat.clients(["back.alice", "back.bob"]).await;
    for client in [&mut alice, &mut bob] {
        client.join("back.r").await;
    }
    alice.send("back.r", "before").await;
    bob.expect_message("back.r", "before").await;
    alice.send_to("back.bob", "dm before").await;
    bob.vanish();
    alice.send("back.r", "missed 1").await;
    alice.send("back.r", "missed 2").await;
    alice.send_to("back.bob", "dm missed").await;

    let mut bob = chat.connect(&Hail::user("back.bob")).await.expect("bob is let in");
    let welcome = bob.hello(&[("back.r", 1), ("@back.alice,back.bob", 1), ("back.new", 0)]).await;

    let head = |room: &str| {
        let rooms = welcome["rooms"].as_array().into_iter().flatten();
        rooms.filter(|entry| entry["room"] == room).find_map(|entry| entry["head"].as_u64())
    };
    assert_eq!((head("back.r"), head("@back.alice,back.bob"), head("back.new")), (Some(3), Some(2), Some(0)));
    let missed =
        bob.expect("what was missed", |frame| frame["type"] == "batch" && frame["room"] == "back.r").await;
    assert_eq!(
        (texts(&missed), &missed["upto"], &missed["more"]),
        (vec!["missed 1", "missed 2"], &json!(3), &json!(false))
    );
    let direct = bob.expect("the direct one", |frame| frame["room"] == "@back.alice,back.bob").await;
    assert_eq!(texts(&direct), ["dm missed"]);
    bob.fence().await;
    assert!(bob.unread("batch").is_empty(), "nothing was missed in the third room");
    // In the rooms again, without a join.
    alice.send("back.r", "after").await;
    bob.expect_message("back.r", "after").await;
    assert_eq!(bob.send("back.r", "I am back").await.seq, 5);
}

#[tokio::test]
async fn more_than_a_batch_is_brought_by_asking_on() {
    let chat = Chat::shared().await;
    let mut alice = chat.client("much.alice").await;
    alice.join("much").await;
    for n in 1..=130 {
        alice.send("much", &n.to_string()).await;
    }

    let mut bob = chat.connect(&Hail::user("much.bob")).await.expect("bob is let in");
    bob.hello(&[("much", 5)]).await;

    let first = bob.expect("the first batch", |frame| frame["type"] == "batch").await;
    assert_eq!((texts(&first).len(), &first["upto"], &first["more"]), (100, &json!(105), &json!(true)));
    let rest = bob.history("much", json!({"after": 105, "limit": 100})).await;
    assert_eq!((texts(&rest).len(), &rest["upto"], &rest["more"]), (25, &json!(130), &json!(false)));
}

#[tokio::test]
async fn a_late_disconnect_keeps_the_new_connection() {
    let chat = Chat::builder().start().await;
    let [mut alice, mut old] = chat.clients(["alice", "bob"]).await;
    alice.join("r").await;
    old.join("r").await;
    let table = chat.table();
    let connections = async || chat.account.keys(&table, "U#bob", "C#").await;
    let before = connections().await;
    assert_eq!(before.len(), 1);
    // The old connection's end is held up until the new one is in its room.
    chat.cloud().faults().add(Rule::nth("dynamodb:DeleteItem", 1, Fault::Delay { ms: 400 }));
    old.vanish();

    let mut new = chat.connect(&Hail::user("bob")).await.expect("bob is let in");
    new.hello(&[("r", 0)]).await;
    assert_eq!(connections().await.len(), 2, "the old connection has ended too early for this test");
    until("the old connection is forgotten", async || !connections().await.contains(&before[0])).await;
    until("and its subscription", async || chat.account.keys(&table, "R#r", "S#").await.len() == 2).await;

    alice.send("r", "still there?").await;
    new.expect_message("r", "still there?").await;
    assert_eq!(new.send("r", "yes").await.seq, 2);
    chat.stop().await;
}

#[tokio::test]
async fn a_post_to_a_connection_that_is_gone_cleans_up_after_it() {
    let chat = Chat::builder().without_presence().start().await;
    let [mut alice, mut bob] = chat.clients(["alice", "bob"]).await;
    alice.join("r").await;
    bob.join("r").await;
    // API Gateway promises `$disconnect` on a best-effort basis: this one never comes.
    chat.cloud().faults().add(Rule::every("*", Fault::DropDisconnect));
    bob.vanish();
    let table = chat.table();
    let left = async || {
        let subscriptions = chat.account.keys(&table, "R#r", "S#").await.len();
        (subscriptions, chat.account.keys(&table, "U#bob", "C#").await.len())
    };
    assert_eq!(left().await, (2, 1));

    let sender = async || {
        alice.send("r", "anybody?").await;
        left().await == (1, 0)
    };
    // The gateway itself needs a moment to notice the end of a connection.
    until("the rest of bob is gone", sender).await;
    chat.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_forgotten() {
    let chat = Chat::builder().cloud(|cloud| cloud.idle_timeout = Duration::from_millis(700)).start().await;
    let mut alice = chat.client("alice").await;
    alice.join("r").await;

    let code = alice.closed().await;

    assert_eq!(code, Some(1001));
    let table = chat.table();
    until("it is forgotten", async || chat.account.keys(&table, "R#r", "S#").await.is_empty()).await;
    chat.stop().await;
}
