//! Bad input of every kind: an error frame or a documented close, never a failing function and never another's data.

use std::time::Duration;

use chat_tests::{Chat, Client, Hail, until, within};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

/// Frames in all.
const FRAMES: usize = 10_000;
const CLIENTS: usize = 8;
/// Frames on their way at a time, for each client.
const FLIGHT: usize = 25;
/// Reproduces a run.
const SEED: u64 = 0x00C0_FFEE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_random_frames_are_each_answered_once_and_show_nothing_of_others() {
    let chat = Chat::builder().without_presence().start().await;
    let [mut alice, mut bob] = chat.clients(["alice", "bob"]).await;
    alice.send_to("bob", "the secret").await;
    bob.expect_message("@alice,bob", "the secret").await;
    alice.join("quiet").await;

    let storm = (0..CLIENTS).map(|n| storm(&chat, n));
    let done: usize = join_all(storm).await.into_iter().sum();
    assert_eq!(done, FRAMES);

    // Nobody else noticed anything.
    for client in [&mut alice, &mut bob] {
        client.fence().await;
        let heard: Vec<Value> = client.unread("message");
        let foreign =
            heard.iter().find(|m| m["room"] == "@alice,bob" && m["from"] != "alice" && m["from"] != "bob");
        assert_eq!(foreign, None);
    }
    assert_eq!(alice.send_to("bob", "as before").await.seq, 2);
    bob.expect_message("@alice,bob", "as before").await;
    // A panic of a handler would end its process, and the function's log would say so.
    let failed = chat
        .account
        .log_messages("/aws/lambda/chat-local-on_message", r#"?"panicked" ?"\"ERROR\"" ?"Runtime.""#)
        .await;
    assert!(failed.is_empty(), "{failed:?}");
    chat.stop().await;
}

/// One client's part. Returns how many frames it sent.
async fn storm(chat: &Chat, number: usize) -> usize {
    let mut random = StdRng::seed_from_u64(SEED + number as u64);
    let mut mallory = chat.client(&format!("mallory{number}")).await;
    mallory.join("own").await;
    let (mut sent, mut answers) = (0, answered(&mallory));
    while sent < FRAMES / CLIENTS {
        let flight = FLIGHT.min(FRAMES / CLIENTS - sent);
        for _ in 0..flight {
            mallory.say(&frame(&mut random)).await;
        }
        let wanted = answers + flight;
        sent += flight;
        let complete = within(Duration::from_secs(30), &mut async || answered(&mallory) >= wanted).await;
        assert!(complete, "{} of {wanted} frames were answered (seed {SEED:#x})", answered(&mallory));
        answers = answered(&mallory);
        assert_eq!(answers, wanted, "a frame was answered twice");
    }
    for frame in mallory.received() {
        assert!(frame.get("type").is_some(), "the gateway reports a failed function: {frame}");
        assert!(!frame.to_string().contains("the secret"), "another's data: {frame}");
        assert_ne!(frame["code"], "INTERNAL", "{frame}");
    }
    sent
}

/// Answers so far: everything but what is posted, or what the gateway says.
fn answered(client: &Client) -> usize {
    let is_answer = |frame: &&Value| match frame["type"].as_str() {
        Some("message" | "presence") => false,
        Some("batch") => frame.get("id").is_some(),
        _ => true,
    };
    client.received().iter().filter(is_answer).count()
}

/// A frame between noise and nearly right.
fn frame(random: &mut StdRng) -> String {
    match random.random_range(0..10) {
        0 => (0..random.random_range(0..200)).map(|_| random.random::<char>()).collect(),
        1 => value(random, 4).to_string(),
        2 => {
            // A right frame, cut or with one byte changed.
            let mut text = nearly_right(random).to_string().into_bytes();
            let at = random.random_range(0..text.len());
            if random.random() {
                text.truncate(at)
            } else {
                text[at] = random.random()
            }
            String::from_utf8_lossy(&text).into_owned()
        }
        _ => nearly_right(random).to_string(),
    }
}

fn nearly_right(random: &mut StdRng) -> Value {
    let mut frame = json!({"id": id(random), "action": pick(random, &[
        "hello", "join", "leave", "send", "history", "who", "ping", "typing", "$connect", "$default", "", "send ", "SEND",
    ])});
    for key in ["room", "to", "body", "before", "after", "limit", "resume", "device", "v", "user", "from"] {
        if random.random_ratio(2, 5) {
            frame[key] = match key {
                "room" => json!(room(random)),
                "body" => json!({"text": text(random)}),
                "resume" => (0..random.random_range(0..4))
                    .map(|_| json!({"room": room(random), "seq": random.random_range(-1..9)}))
                    .collect(),
                "before" | "after" | "limit" => json!(random.random_range(-2..120_i64)),
                _ => json!(id(random)),
            };
        }
        if random.random_ratio(1, 25) {
            frame[key] = value(random, 2);
        }
    }
    frame
}

fn room(random: &mut StdRng) -> String {
    pick(
        random,
        &[
            "own",
            "own",
            "own",
            "other",
            "@alice,bob",
            "@bob,alice",
            "R#@alice,bob",
            "@alice,bob#",
            "@alice",
            "quiet#",
            "U#alice",
            "own#M#000000000001",
            "own\u{0}",
            "../own",
            "own/../quiet",
            "*",
            "%",
            "",
            " ",
            "M#",
            "S#",
            "#",
        ],
    )
}

fn id(random: &mut StdRng) -> String {
    match random.random_range(0..4) {
        0 => pick(random, &["alice", "bob", "mallory0", "", "#", "C#1", "a,b", "__proto__", "null"]),
        _ => format!("m{}", random.random::<u32>()),
    }
}

fn text(random: &mut StdRng) -> String {
    match random.random_range(0..6) {
        0 => "x".repeat(random.random_range(0..4_100)),
        1 => (0..random.random_range(0..50)).map(|_| random.random::<char>()).collect(),
        _ => "hello".to_owned(),
    }
}

fn value(random: &mut StdRng, depth: u32) -> Value {
    match random.random_range(0..if depth == 0 { 5 } else { 7 }) {
        0 => Value::Null,
        1 => json!(random.random::<bool>()),
        2 => json!(random.random::<i64>()),
        3 => json!(random.random::<f64>() * 1e300),
        4 => json!(id(random)),
        5 => (0..random.random_range(0..4)).map(|_| value(random, depth - 1)).collect(),
        _ => Value::Object(
            (0..random.random_range(0..4)).map(|_| (id(random), value(random, depth - 1))).collect(),
        ),
    }
}

fn pick(random: &mut StdRng, from: &[&str]) -> String {
    from[random.random_range(0..from.len())].to_owned()
}

#[tokio::test]
async fn nesting_cannot_exhaust_a_handler() {
    let chat = Chat::shared().await;
    let mut mallory = chat.client("deep.mallory").await;
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let depth = 16_000 / (open.len() + close.len());
        for bomb in [open.repeat(depth), format!("{}1{}", open.repeat(depth), close.repeat(depth))] {
            mallory.say(&bomb).await;
            assert_eq!(mallory.expect_error().await["code"], "BAD_JSON");
        }
        let inside = format!(
            r#"{{"action":"who","id":"1","room":"r","x":{}1{}}}"#,
            open.repeat(2_000),
            close.repeat(2_000)
        );
        mallory.say(&inside).await;
        assert_eq!(mallory.expect_error().await["code"], "BAD_JSON");
    }
    mallory.fence().await;
}

#[tokio::test]
async fn what_the_gateway_does_not_carry_closes_the_connection_and_is_forgotten() {
    let chat = Chat::shared().await;
    for (user, message, code) in [
        ("close.binary", Message::binary(vec![0, 1, 2]), 1003),
        ("close.frame", Message::text("x".repeat(33 * 1024)), 1009),
        ("close.message", Message::text("x".repeat(129 * 1024)), 1009),
    ] {
        let mut mallory = chat.client(user).await;
        mallory.join("close").await;
        mallory.say_message(message).await;
        assert_eq!(mallory.closed().await, Some(code), "{user}");
        let key = format!("U#{user}");
        until("the connection is forgotten", async || {
            chat.account.keys(&chat.table(), &key, "C#").await.is_empty()
        })
        .await;
    }
    until("so are its rooms", async || chat.account.keys(&chat.table(), "R#close", "S#").await.is_empty())
        .await;
}

#[tokio::test]
async fn no_id_reaches_into_another_key() {
    let chat = Chat::shared().await;
    let mut mallory = chat.client("inject.mallory").await;
    for room in [
        "a#S#x",
        "a#M#000000000001",
        "#",
        "U#alice",
        "R#a",
        "a\u{0}b",
        "a/b",
        "a b",
        "..",
        "a%23b",
        "é",
        "",
        "\n",
    ] {
        let sure = room == ".."; // Two dots are two harmless characters of the alphabet.
        for frame in [
            json!({"action": "join", "room": room}),
            json!({"action": "leave", "room": room}),
            json!({"action": "who", "room": room}),
            json!({"action": "history", "room": room}),
            json!({"action": "send", "room": room, "body": {"text": "x"}}),
            json!({"action": "send", "to": room, "body": {"text": "x"}}),
        ] {
            if !sure {
                assert_eq!(mallory.refusal(frame.clone()).await, "BAD_REQUEST", "{frame}");
            }
        }
    }
    for id in ["#", "a#b", "", "a b", &"x".repeat(65)] {
        mallory.say(&json!({"action": "join", "id": id, "room": "inject"}).to_string()).await;
        let answer = mallory.expect_error().await;
        assert_eq!((&answer["code"], answer.get("id")), (&json!("BAD_REQUEST"), None), "{id:?}");
    }
    let hash = |key: &str| key.matches('#').count();
    let items = chat.account.items(&chat.table()).await;
    let odd = items.iter().find(|(partition, sort)| hash(partition) > 1 || hash(sort) > 1);
    assert_eq!(odd, None, "a key with more parts than the design has");
}

#[tokio::test]
async fn an_address_that_is_not_the_chats_is_not_a_connection() {
    let chat = Chat::shared().await;
    let (api, _) = chat.url().rsplit_once('/').expect("the address ends in the stage");
    let (host, _) = api.rsplit_once('/').expect("the stage is below the API");
    for url in [
        format!("{api}/other"),
        format!("{host}/nothing00/local"),
        format!("{host}/"),
        api.to_owned(),
        format!("{api}/local/more"),
    ] {
        let judge = std::sync::Arc::new(chat_tests::Judge::of_project());
        let outcome = Client::connect(&url, judge, &Hail::user("lost")).await.map(drop);
        let refused = outcome.expect_err(&url);
        assert!(matches!(refused.0, 403 | 404), "{url}: {refused:?}");
    }
}
