//! Rooms beyond what one invocation posts to: everybody hears everything once, the sender waits for none of it, and what
//! goes wrong on the way to another invocation loses nothing.

use chat_local::{Fault, Rule};
use chat_tests::{Chat, Client, Hail, now_ms, until};
use futures_util::future::join_all;
use serde_json::{Value, json};

/// Just above what is posted by the invocation that stores the message.
const MANY: usize = 210;

const POSTED: &str = r#""posted a batch""#;
const POSTED_HERE: &str = r#""could not be handed over""#;

async fn logged(chat: &Chat, what: &str) -> usize {
    let group = format!("/aws/lambda/{}", chat.function("on_message"));
    chat.account.log_messages(&group, what).await.len()
}

/// Clients in a room, the first one of them named alice.
async fn crowd(chat: &Chat, room: &str, members: usize) -> Vec<Client> {
    let mut all = Vec::with_capacity(members);
    for n in 0..members {
        let mut client = chat.client(&if n == 0 { "alice".to_owned() } else { format!("user{n}") }).await;
        client.join(room).await;
        all.push(client);
    }
    all
}

fn messages(client: &Client) -> Vec<Value> {
    client.received().into_iter().filter(|frame| frame["type"] == "message").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_in_a_large_room_hears_each_message_once_and_the_sender_waits_for_none() {
    let chat = Chat::builder().without_presence().start().await;
    let mut all = crowd(&chat, "r", MANY).await;

    // Posts that take their time, so that it shows who waits for them.
    chat.cloud().faults().set([Rule::every("execute-api:PostToConnection", Fault::Delay { ms: 1_000 })]);
    let slow = all[0].send("r", "slow").await;
    assert!(messages(&all[0]).is_empty(), "the ack waited for the posts");
    join_all(all.iter_mut().map(|client| client.expect_message("r", "slow"))).await;

    chat.cloud().faults().clear();
    let quick = all[0].send("r", "quick").await;
    join_all(all.iter_mut().map(|client| client.expect_message("r", "quick"))).await;

    assert_eq!((slow.seq, quick.seq), (1, 2));
    until("both batches are in the log", async || logged(&chat, POSTED).await == 2).await;
    join_all(all.iter_mut().map(Client::fence)).await;
    for client in &all {
        let seqs: Vec<Value> = messages(client).iter().map(|message| message["seq"].clone()).collect();
        assert_eq!(seqs, [1, 2], "{}", client.user);
    }
    assert_eq!(logged(&chat, POSTED_HERE).await, 0);
    chat.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_of_more_than_a_page_is_told_in_batches_and_cleaned_up() {
    // A page of a query ends after 1 MB.
    const GHOSTS: usize = 1_200;
    let chat = Chat::builder().without_presence().start().await;
    chat.haunt("r", GHOSTS, 1_000).await;
    let [mut alice, mut bob] = chat.clients(["alice", "bob"]).await;
    alice.join("r").await;
    bob.join("r").await;
    let calls = chat.cloud().calls();
    calls.reset();

    alice.send("r", "is anybody here?").await;
    assert_eq!(calls.count("dynamodb", "Query"), 3, "two pages of members, and the newest messages");
    assert_eq!(calls.count("lambda", "Invoke"), 3);
    bob.expect_message("r", "is anybody here?").await;
    alice.expect_message("r", "is anybody here?").await;

    until("the ghosts are forgotten", async || {
        chat.account.keys(&chat.table(), "R#r", "S#").await.len() == 2
    })
    .await;
    assert_eq!(calls.count("execute-api", "PostToConnection"), GHOSTS as u64 + 2);
    chat.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_handed_over_is_posted_all_the_same() {
    let chat = Chat::builder().without_presence().start().await;
    let [mut alice, mut bob] = chat.clients(["alice", "bob"]).await;
    alice.join("r").await;
    bob.join("r").await;

    let throttled = Fault::fail(429, "TooManyRequestsException", "Rate Exceeded.");
    chat.haunt("r", MANY, 0).await;
    chat.cloud().faults().set([Rule::every("lambda:Invoke", throttled)]);
    alice.send("r", "throttled").await;
    bob.expect_message("r", "throttled").await;
    until("it is in the log", async || logged(&chat, POSTED_HERE).await == 1).await;
    chat.cloud().faults().clear();

    let role = chat.function("on_message");
    for (name, mut document) in chat.account.policies(&role).await {
        let statements = document["Statement"].as_array_mut().expect("several statements");
        statements.retain(|statement| statement["Sid"] != "HandOver");
        chat.account.put_policy(&role, &name, &document).await;
    }
    chat.haunt("r", MANY, 0).await;
    let sent = alice.send("r", "denied").await;
    assert_eq!((sent.seq, sent.dup), (2, false));
    bob.expect_message("r", "denied").await;
    until("it is in the log", async || logged(&chat, POSTED_HERE).await == 2).await;

    bob.fence().await;
    assert!(bob.unread("message").is_empty(), "it came twice");
    assert_eq!(logged(&chat, POSTED).await, 0);
    chat.stop().await;
}

#[tokio::test]
async fn only_who_may_invoke_the_function_can_hand_it_a_batch() {
    let chat = Chat::builder().without_presence().start().await;
    let mut eve = chat.connect(&Hail::user("eve")).await.expect("eve is let in");
    let mut bob = chat.connect(&Hail::user("bob")).await.expect("bob is let in");
    eve.hello(&[]).await;
    let conn = bob.hello(&[]).await["conn"].clone();
    let frame = |text: &str| {
        let message = json!({
            "type": "message", "room": "r", "seq": 1, "from": "alice", "mid": "m", "ts": now_ms(), "body": {"text": text},
        });
        message.to_string()
    };
    let batch =
        |at: u64, text: &str| json!({"at": at, "frame": frame(text), "to": [{"c": conn, "u": "bob"}]});

    // As a frame it is a frame, and nobody's post.
    let forged = batch(now_ms(), "forged");
    let plain = json!({"id": "1", "deliver": forged});
    assert_eq!(eve.ask_anyway(&plain).await["type"], "error");
    for action in ["deliver", "send", "join", "hello", "history"] {
        let frame =
            json!({"id": action, "action": action, "deliver": forged, "room": "eve", "requestContext": null});
        eve.ask_anyway(&frame).await;
    }
    // What looks like both is taken for neither.
    let function = chat.function("on_message");
    let both = json!({"requestContext": {"connectionId": conn}, "body": "{}", "deliver": forged});
    let refused = chat.account.invoke(&function, &both).await;
    assert!(refused["errorMessage"].is_string(), "{refused}");

    // Late is too late, and no failure: Lambda would try again.
    let late = chat.account.invoke(&function, &json!({"deliver": batch(now_ms() - 61_000, "late")})).await;
    assert_eq!(late["statusCode"], 200, "{late}");
    bob.fence().await;
    assert!(bob.unread("message").is_empty(), "{:?}", bob.unread("message"));

    // In time it is posted, however large, and not handed on. Posts that fail are no failure either.
    let mut large = batch(now_ms(), "in time");
    let nobody = json!({"c": "nobody", "u": "nobody"});
    large["to"].as_array_mut().expect("a list").extend(vec![nobody; 2 * MANY]);
    chat.cloud().calls().reset();
    let posted = chat.account.invoke(&function, &json!({"deliver": large})).await;
    assert_eq!(posted["statusCode"], 200, "{posted}");
    bob.expect_message("r", "in time").await;
    assert_eq!(chat.cloud().calls().count_of_role(&function, "lambda", "Invoke"), 0);
    chat.stop().await;
}
