//! What every event costs, counted at the cloud's door: the table of `docs/protocol.md`, call by call.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use chat_local::{Fault, Rule};
use chat_tests::{Chat, Client, Hail, until};
use serde_json::json;

/// Calls of the handlers by operation since the last look.
fn spent(chat: &Chat) -> BTreeMap<&'static str, u64> {
    let calls = chat.cloud().calls();
    let mut by_operation = BTreeMap::new();
    for call in calls.all() {
        let by_handler = call.principal.as_deref().is_some_and(|role| role.starts_with("chat-local-"));
        if by_handler && call.service != "logs" {
            *by_operation.entry(call.operation).or_default() += call.count;
        }
    }
    calls.reset();
    by_operation
}

fn cost<const N: usize>(calls: [(&'static str, u64); N]) -> BTreeMap<&'static str, u64> {
    BTreeMap::from(calls)
}

#[tokio::test]
async fn every_event_costs_what_the_protocol_promises() {
    // One process of each function, since a process reads a room for the first time in another way than later on.
    let chat =
        Chat::builder().without_presence().cloud(|cloud| cloud.lambda.max_environments = 1).start().await;
    spent(&chat);

    let mut alice = chat.connect(&Hail::user("alice")).await.expect("alice is let in");
    assert_eq!(spent(&chat), cost([("PutItem", 1)]), "connect");
    alice.hello(&[]).await;
    assert_eq!(spent(&chat), cost([("Query", 1)]), "hello");
    alice.join("r").await;
    assert_eq!(spent(&chat), cost([("GetItem", 1), ("UpdateItem", 1), ("PutItem", 1)]), "join");

    let mut others = Vec::new();
    for name in ["bob", "carol", "dave"] {
        let mut client = chat.client(name).await;
        client.join("r").await;
        others.push(client);
    }
    spent(&chat);
    for n in 1..=3 {
        alice.send_as(&format!("m{n}"), "r", "hi").await;
        let queries = if n == 1 { 2 } else { 1 };
        let sent = cost([("Query", queries), ("PutItem", 1), ("PostToConnection", 4)]);
        assert_eq!(spent(&chat), sent, "send {n}");
    }
    alice.send_as("m1", "r", "hi").await;
    assert_eq!(spent(&chat), cost([("Query", 1)]), "a repeated send");

    alice.history("r", json!({})).await;
    assert_eq!(spent(&chat), cost([("GetItem", 1), ("Query", 1)]), "history");
    alice.who("r").await;
    assert_eq!(spent(&chat), cost([("Query", 1)]), "who");

    alice.send_to("bob", "first").await;
    let first = cost([("Query", 3), ("BatchWriteItem", 1), ("PutItem", 1), ("PostToConnection", 2)]);
    assert_eq!(spent(&chat), first, "the first direct message of two");
    alice.send_to("bob", "second").await;
    let next = cost([("Query", 3), ("PutItem", 1), ("PostToConnection", 2)]);
    assert_eq!(spent(&chat), next, "a direct message");

    let mut again = chat.connect(&Hail::user("erin")).await.expect("erin is let in");
    spent(&chat);
    again.hello(&[("r", 0)]).await;
    let resumed =
        cost([("GetItem", 1), ("UpdateItem", 1), ("PutItem", 1), ("Query", 2), ("PostToConnection", 1)]);
    assert_eq!(spent(&chat), resumed, "hello with one room to resume");

    alice.leave("r").await;
    assert_eq!(spent(&chat), cost([("DeleteItem", 1), ("UpdateItem", 1)]), "leave");

    // Somebody who was in three rooms.
    let mut frank = chat.client("frank").await;
    for room in ["r", "s", "t"] {
        frank.join(room).await;
    }
    spent(&chat);
    frank.close().await;
    until("frank is forgotten", async || {
        let keys = async |partition| chat.account.keys(&chat.table(), partition, "").await;
        keys("U#frank").await.is_empty() && keys("R#s").await.is_empty() && keys("R#t").await.is_empty()
    })
    .await;
    assert_eq!(spent(&chat), cost([("DeleteItem", 1), ("BatchWriteItem", 1)]), "disconnect");

    // Somebody whose `$disconnect` never came.
    chat.cloud().faults().set([Rule::every("*", Fault::DropDisconnect)]);
    let gone = others.pop().expect("dave is there");
    gone.close().await;
    let mut bob = others.remove(0);
    let unaware = cost([("Query", 1), ("PutItem", 1), ("PostToConnection", 4)]);
    let cleaned = cost([("Query", 1), ("PutItem", 1), ("PostToConnection", 4), ("BatchWriteItem", 1)]);
    // The gateway itself needs a moment to notice the end of a connection.
    until("a send meets a connection that is gone", async || {
        bob.send("r", "anybody?").await;
        let spent = spent(&chat);
        assert!(spent == unaware || spent == cleaned, "a send after an end that nobody told: {spent:?}");
        spent == cleaned
    })
    .await;
    bob.send("r", "anybody else?").await;
    assert_eq!(spent(&chat), cost([("Query", 1), ("PutItem", 1), ("PostToConnection", 3)]), "and the next");

    chat.cloud().faults().clear();
    chat.stop().await;
}

#[tokio::test]
async fn a_send_to_a_large_room_costs_an_invocation_more_for_each_batch() {
    let chat = Chat::builder().without_presence().start().await;
    let mut alice = chat.client("alice").await;
    alice.join("r").await;
    for (ghosts, batches, removals) in [(199, 0, 16), (200, 1, 16), (590, 2, 2 * 24)] {
        chat.haunt("r", ghosts, 0).await;
        spent(&chat);
        alice.send("r", "hi").await;
        let mut wanted =
            cost([("PutItem", 1), ("PostToConnection", ghosts as u64 + 1), ("BatchWriteItem", removals)]);
        if batches > 0 {
            wanted.insert("Invoke", batches);
        }
        let (mut all, mut queries) = (BTreeMap::new(), 0);
        until("the batches are posted", async || {
            for (operation, count) in spent(&chat) {
                *all.entry(operation).or_default() += count;
            }
            queries += all.remove("Query").unwrap_or_default();
            all.values().sum::<u64>() >= wanted.values().sum()
        })
        .await;
        // How many it takes depends on what the process knew of the room, if it was the same process.
        assert!((1..=3).contains(&queries), "{queries} queries");
        assert_eq!(all, wanted, "{ghosts} others");
        until("the ghosts are forgotten", async || {
            chat.account.keys(&chat.table(), "R#r", "S#").await.len() == 1
        })
        .await;
    }
    chat.stop().await;
}

/// A message that another process stored.
async fn stored_elsewhere(chat: &Chat, room: &str, seq: u64, mid: &str) {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let attributes = [
        ("u", text("alice")),
        ("mid", text(mid)),
        ("t", AttributeValue::N("1".to_owned())),
        ("r", text("elsewhere")),
        ("body", AttributeValue::M([("text".to_owned(), text("hi"))].into())),
    ];
    chat.account.put_item(&chat.table(), &format!("R#{room}"), &format!("M#{seq:012}"), &attributes).await;
}

#[tokio::test]
async fn of_a_room_that_is_known_only_what_has_come_since_is_read() {
    let chat =
        Chat::builder().without_presence().cloud(|cloud| cloud.lambda.max_environments = 1).start().await;
    let mut alice = chat.client("alice").await;
    alice.join("r").await;
    assert_eq!(alice.send("r", "the first").await.seq, 1);

    let mut crowd = Vec::new();
    for n in 0..12 {
        let mut client = chat.client(&format!("crowd{n}")).await;
        client.join("r").await;
        crowd.push(client);
    }
    spent(&chat);
    let queries = async |alice: &mut Client, id: &str| {
        let sent = alice.send_as(id, "r", "hi").await;
        (sent.seq, sent.dup, spent(&chat).remove("Query").unwrap_or_default())
    };
    assert_eq!(queries(&mut alice, "m2").await, (2, false, 1), "who has come is found on the way");
    for client in &mut crowd {
        client.fence().await;
        let heard = client.received().into_iter().filter(|frame| frame["mid"] == "m2").count();
        assert_eq!(heard, 1, "{}", client.user);
    }
    spent(&chat);

    for seq in 3..=21 {
        stored_elsewhere(&chat, "r", seq, &format!("m{seq}")).await;
    }
    assert_eq!(queries(&mut alice, "m22").await, (22, false, 1), "what was said meanwhile, too");
    assert_eq!(queries(&mut alice, "m3").await, (3, true, 1), "and it is known");
    assert_eq!(queries(&mut alice, "m22").await, (22, true, 1), "as is what the process stored itself");

    for seq in 23..=60 {
        stored_elsewhere(&chat, "r", seq, &format!("m{seq}")).await;
    }
    assert_eq!(
        queries(&mut alice, "m61").await,
        (61, false, 3),
        "if much more was said, the room is read anew"
    );
    assert_eq!(queries(&mut alice, "m60").await, (60, true, 1));

    for seq in 1..=61 {
        chat.account.delete_item(&chat.table(), "R#r", &format!("M#{seq:012}")).await;
    }
    assert_eq!(
        queries(&mut alice, "m61").await,
        (1, false, 3),
        "after everything has expired it begins anew"
    );
    assert_eq!(queries(&mut alice, "m2").await, (2, false, 1));

    chat.haunt("r", 100, 0).await;
    assert_eq!(
        queries(&mut alice, "m3").await,
        (3, false, 3),
        "as is one that has grown far beyond what it was"
    );
    assert_eq!(queries(&mut alice, "m4").await, (4, false, 1));
    chat.stop().await;
}

#[tokio::test]
async fn a_disconnect_in_no_room_costs_one_call() {
    let chat = Chat::builder().start().await;
    let alice = chat.client("alice").await;
    spent(&chat);
    alice.close().await;
    until("alice is forgotten", async || chat.account.items(&chat.table()).await.is_empty()).await;
    assert_eq!(spent(&chat), cost([("DeleteItem", 1)]));
    chat.stop().await;
}
