//! What the rules promise, over a table and a gateway in memory.

use serde_json::{Value, json};

use super::fakes::{NOW_MS, NOW_S, TestChat, caller, chat, conn, name};
use crate::auth::Grants;
use crate::ids::{FrameId, Room, Seq, UserId};
use crate::ports::{StoreError, Stored};

fn said(room: &str, seq: u64, by: &str, mid: &str) -> ((Room, u64), Stored) {
    let message = Stored {
        seq: Seq::new(seq).unwrap(),
        user: UserId::parse(by).unwrap(),
        mid: FrameId::parse(mid).unwrap(),
        ts: NOW_MS - 60_000,
        text: format!("text {seq}"),
        expires_s: Some(NOW_S + 100),
        request: "another".into(),
    };
    ((Room::parse(room).unwrap(), seq), message)
}

fn fill(chat: &TestChat, room: &str, upto: u64) {
    chat.store.messages.borrow_mut().extend((1..=upto).map(|seq| said(room, seq, "zoe", &format!("z{seq}"))));
}

fn seqs(batch: &Value) -> Vec<u64> {
    batch["items"].as_array().unwrap().iter().map(|item| item["seq"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_send_reaches_everybody_and_costs_three_calls() {
    let chat = chat();
    let alice = chat.here("alice1", &["r"]).await;
    for other in ["alice2", "bob1", "carol1"] {
        chat.here(other, &["r"]).await;
    }
    chat.here("dave1", &["elsewhere"]).await;
    for seq in 1..=3 {
        let ack = chat.text(&alice, &format!("m{seq}"), "r").await;
        let wanted = json!({"type": "ack", "id": format!("m{seq}"), "room": "r", "seq": seq, "ts": NOW_MS, "dup": false});
        assert_eq!(ack, wanted);
        assert_eq!(chat.calls(), ["Query S#", "Query M#", "PutItem M#"]);
        let first = chat.gateway.sent.borrow()[0].0.clone();
        assert_eq!(first, "alice1", "the sender waits for their own");
        assert_eq!(chat.told("message"), ["alice1", "alice2", "bob1", "carol1"]);
    }
}

#[tokio::test]
async fn a_repeated_send_keeps_its_number_and_nobody_is_told_again() {
    let chat = chat();
    let alice = chat.here("alice1", &["r"]).await;
    let bob = chat.here("bob1", &["r"]).await;
    let first = chat.text(&alice, "m", "r").await;
    assert_eq!(chat.text(&bob, "m", "r").await["seq"], 2, "ids are each user's own");
    chat.reset();
    let mut again = caller("alice2");
    again.invocation.request_id = "request-2";
    again.invocation.now_ms += 5_000;
    chat.store.subscriptions.borrow_mut().insert((name("r"), conn("alice2")), again.as_recipient());
    let ack = chat.text(&again, "m", "r").await;
    assert_eq!((&ack["seq"], &ack["ts"], &ack["dup"]), (&first["seq"], &first["ts"], &json!(true)));
    assert_eq!(chat.calls(), ["Query S#", "Query M#"]);
    assert!(chat.told("message").is_empty());
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_recognised_and_told_once() {
    let chat = chat();
    let alice = chat.here("alice1", &["r"]).await;
    chat.store.lost_answer.set(true);
    let ack = chat.text(&alice, "m", "r").await;
    assert_eq!((&ack["seq"], &ack["dup"]), (&json!(1), &json!(false)));
    assert_eq!(chat.told("message"), ["alice1"]);
    assert_eq!(chat.store.messages.borrow().len(), 1);
}

#[tokio::test]
async fn lost_races_and_stale_reads_leave_no_gap_and_no_double() {
    let chat = chat();
    fill(&chat, "r", 7);
    let alice = chat.here("alice1", &["r"]).await;
    // The first read misses three messages, and two more come in between.
    chat.store.lag.set(3);
    chat.store.rivals.borrow_mut().extend([said("r", 9, "bob", "b2").1, said("r", 8, "bob", "b1").1]);
    assert_eq!(chat.text(&alice, "m", "r").await["seq"], 10);
    let numbers: Vec<u64> = chat.store.messages.borrow().keys().map(|(_, seq)| *seq).collect();
    assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn somebody_who_has_just_joined_may_speak_before_reads_agree() {
    let chat = chat();
    let alice = chat.here("alice1", &["r"]).await;
    chat.store.lag.set(1);
    assert_eq!(chat.text(&alice, "m", "r").await["type"], "ack");
    assert_eq!(chat.calls(), ["Query S#", "Query M#", "GetItem S#", "PutItem M#"]);
    assert_eq!(chat.told("message"), ["alice1"]);
}

#[tokio::test]
async fn outsiders_learn_and_do_nothing() {
    let chat = chat();
    chat.here("bob1", &["r"]).await;
    chat.here("carol1", &[]).await;
    fill(&chat, "@bob,carol", 1);
    let eve = chat.here("eve1", &[]).await;
    assert_eq!(chat.text(&eve, "m", "r").await["code"], "NOT_IN_ROOM");
    for action in ["history", "who"] {
        let frame = format!(r#"{{"action":"{action}","id":"1","room":"r"}}"#);
        assert_eq!(chat.say(&eve, &frame).await["code"], "NOT_IN_ROOM");
    }
    for action in ["join", "leave", "history", "who"] {
        let frame = format!(r#"{{"action":"{action}","id":"1","room":"@bob,carol"}}"#);
        let answer = chat.say(&eve, &frame).await;
        assert_eq!((&answer["code"], &answer["id"]), (&json!("FORBIDDEN"), &json!("1")));
    }
    assert_eq!(chat.text(&eve, "m", "@bob,carol").await["code"], "FORBIDDEN");
    assert_eq!(chat.store.messages.borrow().len(), 1);
    assert!(chat.told("message").is_empty());
}

#[tokio::test]
async fn a_direct_message_reaches_all_devices_of_both_and_is_found_later() {
    let chat = chat();
    let alice = chat.here("alice1", &[]).await;
    for other in ["alice2", "bob1", "bob2", "carol1"] {
        chat.here(other, &[]).await;
    }
    let frame = r#"{"action":"send","id":"m","to":"bob","body":{"text":"psst"}}"#;
    let ack = chat.say(&alice, frame).await;
    assert_eq!((&ack["room"], &ack["seq"]), (&json!("@alice,bob"), &json!(1)));
    assert_eq!(chat.calls(), ["Query C#", "Query C#", "Query M#", "BatchWriteItem", "PutItem M#"]);
    assert_eq!(chat.told("message"), ["alice1", "alice2", "bob1", "bob2"]);
    assert_eq!(chat.text(&caller("bob1"), "m", "@alice,bob").await["seq"], 2);
    assert_eq!(chat.calls(), ["Query C#", "Query C#", "Query M#", "PutItem M#"]);
    let late = chat.here("bob3", &[]).await;
    let welcome = chat.say(&late, r#"{"action":"hello","id":"h"}"#).await;
    assert_eq!(welcome["direct"], json!(["@alice,bob"]));
    let to_self = chat.say(&alice, r#"{"action":"send","id":"m","to":"alice","body":{"text":"x"}}"#).await;
    assert_eq!(to_self["code"], "BAD_REQUEST");
}

#[tokio::test]
async fn a_rate_limit_says_when_to_come_back() {
    let mut chat = chat();
    chat.limits.sends_per_10s = 2;
    let mut alice = chat.here("alice1", &["r"]).await;
    let bob = chat.here("bob1", &["r"]).await;
    assert_eq!(chat.text(&alice, "m1", "r").await["type"], "ack");
    alice.invocation.now_ms += 3_000;
    assert_eq!(chat.text(&alice, "m2", "r").await["type"], "ack");
    alice.invocation.now_ms += 1_000;
    let refused = chat.text(&alice, "m3", "r").await;
    assert_eq!(
        (&refused["code"], &refused["retry"], &refused["retry_ms"]),
        (&json!("RATE_LIMITED"), &json!(true), &json!(6_000))
    );
    alice.invocation.request_id = "request-2";
    assert_eq!(chat.text(&alice, "m2", "r").await["dup"], true, "a repetition is not one more");
    assert_eq!(chat.text(&bob, "m1", "r").await["type"], "ack", "others are not held");
    alice.invocation.now_ms += 6_000;
    assert_eq!(chat.text(&alice, "m3", "r").await["seq"], 4);
}

#[tokio::test]
async fn joins_are_asked_granted_and_limited() {
    let chat = chat();
    let mut alice = chat.here("alice1", &[]).await;
    let join = |room: &str| format!(r#"{{"action":"join","id":"1","room":"{room}"}}"#);
    assert_eq!(chat.say(&alice, &join("r1")).await, json!({"type": "ack", "id": "1", "room": "r1"}));
    assert_eq!(chat.calls(), ["GetItem A#", "UpdateItem C#", "PutItem S#"]);
    chat.store.bans.borrow_mut().insert((name("r2"), alice.identity.user.clone()));
    assert_eq!(chat.say(&alice, &join("r2")).await["code"], "FORBIDDEN");
    assert_eq!(chat.calls(), ["GetItem A#"]);
    for room in ["r3", "r4", "r5", "r6"] {
        assert_eq!(chat.say(&alice, &join(room)).await["type"], "ack");
    }
    assert_eq!(chat.say(&alice, &join("r7")).await["code"], "FORBIDDEN");
    assert_eq!(chat.say(&alice, &join("r6")).await["type"], "ack", "again is not one more");
    chat.reset();
    alice.identity.grants = Grants::Only(vec!["r1".into()]);
    assert_eq!(chat.say(&alice, &join("r3")).await["code"], "FORBIDDEN");
    assert!(chat.calls().is_empty());
    assert_eq!(chat.say(&caller("ghost1"), &join("r1")).await["code"], "NOT_FOUND");
    assert!(!chat.store.subscriptions.borrow().contains_key(&(name("r1"), conn("ghost1"))));
}

#[tokio::test]
async fn who_leaves_is_out_and_may_leave_again() {
    let chat = chat();
    let alice = chat.here("alice1", &["r"]).await;
    for _ in 0..2 {
        let ack = chat.say(&alice, r#"{"action":"leave","id":"1","room":"r"}"#).await;
        assert_eq!(ack, json!({"type": "ack", "id": "1", "room": "r"}));
        assert_eq!(chat.calls(), ["DeleteItem S#", "UpdateItem C#"]);
    }
    assert_eq!(chat.text(&alice, "m", "r").await["code"], "NOT_IN_ROOM");
}

#[tokio::test]
async fn late_disconnect_keeps_the_new_connection() {
    let chat = chat();
    let old = chat.here("alice1", &["r", "s"]).await;
    let new = chat.here("alice2", &["r"]).await;
    chat.disconnect(&old).await.unwrap();
    assert_eq!(chat.calls(), ["DeleteItem C#", "BatchWriteItem"]);
    let left: Vec<_> = chat.store.subscriptions.borrow().keys().cloned().collect();
    assert_eq!(left, [(name("r"), conn("alice2"))]);
    chat.disconnect(&old).await.unwrap();
    assert_eq!(chat.calls(), ["DeleteItem C#"], "nothing is left to do");
    assert_eq!(chat.text(&new, "m", "r").await["type"], "ack");
}

#[tokio::test]
async fn gone_connections_are_forgotten_in_one_call() {
    let chat = chat();
    let alice = chat.here("alice1", &["r"]).await;
    for gone in ["bob1", "carol1"] {
        chat.here(gone, &["r"]).await;
        chat.gateway.gone.borrow_mut().insert(conn(gone));
    }
    chat.here("dave1", &["r"]).await;
    chat.gateway.failing.borrow_mut().insert(conn("dave1"));
    assert_eq!(chat.text(&alice, "m", "r").await["type"], "ack");
    assert_eq!(chat.calls(), ["Query S#", "Query M#", "PutItem M#", "BatchWriteItem"]);
    let left: Vec<_> = chat.store.subscriptions.borrow().keys().map(|(_, conn)| conn.to_string()).collect();
    assert_eq!(left, ["alice1", "dave1"]);
    assert_eq!(chat.store.connections.borrow().len(), 2);
}

#[tokio::test]
async fn a_connection_that_is_still_connecting_is_not_taken_for_gone() {
    let chat = chat();
    let alice = chat.here("alice1", &[]).await;
    chat.here("bob1", &[]).await;
    chat.store.connections.borrow_mut().values_mut().for_each(|(c, _)| c.at_s = NOW_S - 5);
    chat.gateway.gone.borrow_mut().insert(conn("bob1"));
    assert_eq!(chat.text(&alice, "m", "@alice,bob").await["type"], "ack");
    assert_eq!(chat.store.connections.borrow().len(), 2);
}

#[tokio::test]
async fn who_has_expired_is_not_there() {
    let chat = chat();
    let alice = chat.here("alice1", &["r"]).await;
    chat.here("bob1", &["r"]).await;
    chat.store.subscriptions.borrow_mut().get_mut(&(name("r"), conn("bob1"))).unwrap().expires_s = NOW_S;
    let who = chat.say(&alice, r#"{"action":"who","id":"1","room":"r"}"#).await;
    assert_eq!(who, json!({"type": "who", "id": "1", "room": "r", "users": ["alice"], "more": false}));
    chat.text(&alice, "m", "r").await;
    assert_eq!(chat.told("message"), ["alice1"]);
}

#[tokio::test]
async fn history_goes_both_ways_and_ends_where_things_expired() {
    let chat = chat();
    let alice = chat.here("alice1", &["r"]).await;
    fill(&chat, "r", 10);
    let history = async |more: &str| {
        let frame = format!(r#"{{"action":"history","id":"1","room":"r"{more}}}"#);
        let batch = chat.say(&alice, &frame).await;
        (seqs(&batch), batch["upto"].as_u64().unwrap(), batch["more"].as_bool().unwrap())
    };
    assert_eq!(history("").await, ((1..=10).collect(), 10, false));
    assert_eq!(chat.calls().len(), 2);
    assert_eq!(history(r#","limit":3"#).await, (vec![8, 9, 10], 10, true));
    assert_eq!(history(r#","limit":3,"before":4"#).await, (vec![1, 2, 3], 3, false));
    assert_eq!(history(r#","limit":3,"after":4"#).await, (vec![5, 6, 7], 7, true));
    assert_eq!(history(r#","limit":3,"after":7"#).await, (vec![8, 9, 10], 10, false));
    assert_eq!(history(r#","after":10"#).await, (vec![], 10, false));
    assert_eq!(history(r#","after":2,"before":5"#).await, (vec![3, 4], 4, false));
    for ((_, seq), message) in chat.store.messages.borrow_mut().iter_mut() {
        if *seq <= 6 {
            message.expires_s = Some(NOW_S);
        }
    }
    assert_eq!(history(r#","limit":5"#).await, (vec![7, 8, 9, 10], 10, false));
    assert_eq!(history(r#","limit":3,"after":0"#).await, (vec![], 3, true), "goes on past what expired");
}

#[tokio::test]
async fn long_batches_are_cut_to_what_the_gateway_carries() {
    let chat = chat();
    let alice = chat.here("alice1", &["r"]).await;
    fill(&chat, "r", 60);
    for message in chat.store.messages.borrow_mut().values_mut() {
        message.text = "\u{1}".repeat(2_000);
    }
    let mut after = 0;
    let mut all = Vec::new();
    loop {
        let frame = format!(r#"{{"action":"history","id":"1","room":"r","limit":100,"after":{after}}}"#);
        let text = chat.received(Some(&alice), &frame).await;
        assert!(text.len() < 128 * 1024, "{} bytes", text.len());
        let batch: Value = serde_json::from_str(&text).unwrap();
        all.extend(seqs(&batch));
        after = batch["upto"].as_u64().unwrap();
        if batch["more"] == false {
            break;
        }
    }
    assert_eq!(all, (1..=60).collect::<Vec<_>>());
}

#[tokio::test]
async fn hello_brings_back_rooms_and_what_was_missed() {
    let chat = chat();
    fill(&chat, "near", 10);
    fill(&chat, "far", 150);
    fill(&chat, "anew", 3);
    fill(&chat, "@alice,bob", 2);
    fill(&chat, "same", 4);
    let mut alice = chat.here("alice1", &[]).await;
    alice.identity.grants = Grants::Only(vec!["*".into()]);
    chat.store.bans.borrow_mut().insert((name("banned"), alice.identity.user.clone()));
    let resume = json!([
        {"room": "near", "seq": 8}, {"room": "far", "seq": 0}, {"room": "anew", "seq": 41},
        {"room": "@alice,bob", "seq": 1}, {"room": "same", "seq": 4},
        {"room": "banned", "seq": 1}, {"room": "@bob,carol", "seq": 0},
    ]);
    let hello = json!({"action": "hello", "id": "h", "device": "d", "resume": resume});
    let welcome = chat.say(&alice, &hello.to_string()).await;
    let heads = json!([
        {"room": "near", "head": 10}, {"room": "far", "head": 150}, {"room": "anew", "head": 3},
        {"room": "@alice,bob", "head": 2}, {"room": "same", "head": 4},
    ]);
    assert_eq!(welcome["rooms"], heads);
    assert_eq!(
        welcome["refused"],
        json!([{"room": "banned", "code": "FORBIDDEN"}, {"room": "@bob,carol", "code": "FORBIDDEN"}])
    );
    assert_eq!((&welcome["v"], &welcome["heartbeat"]), (&json!(1), &json!(540)));
    assert_eq!(welcome["expires"], NOW_S - 60 + 7_200);

    let sent = chat.gateway.sent.borrow().clone();
    let batches: Vec<_> = sent
        .iter()
        .map(|(to, batch)| {
            assert_eq!((to.as_str(), &batch["type"], batch.get("id")), ("alice1", &json!("batch"), None));
            let seqs = seqs(batch);
            (
                batch["room"].as_str().unwrap(),
                seqs[0],
                *seqs.last().unwrap(),
                batch["more"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(batches, [("near", 9, 10, false), ("far", 1, 100, true), ("@alice,bob", 2, 2, false)]);

    let rooms: Vec<_> = chat.store.subscriptions.borrow().keys().map(|(room, _)| room.to_string()).collect();
    assert_eq!(rooms, ["anew", "far", "near", "same"]);
    let (connection, noted) = chat.store.connections.borrow().values().next().cloned().unwrap();
    assert_eq!((connection.device.unwrap().as_str(), noted.len()), ("d", 4));
}

#[tokio::test]
async fn hello_alone_costs_one_read() {
    let chat = chat();
    let alice = chat.here("alice1", &[]).await;
    assert_eq!(chat.say(&alice, r#"{"action":"hello","id":"h"}"#).await["type"], "welcome");
    assert_eq!(chat.calls(), ["Query M#@"]);
}

#[tokio::test]
async fn hello_past_the_limit_of_rooms_refuses_those_but_not_the_rest() {
    let chat = chat();
    let alice = chat.here("alice1", &[]).await;
    let rooms = ["a", "b", "c", "d", "e", "f", "@alice,bob"].map(|room| json!({"room": room, "seq": 0}));
    let hello = json!({"action": "hello", "id": "h", "resume": rooms});
    let welcome = chat.say(&alice, &hello.to_string()).await;
    assert_eq!(welcome["rooms"], json!([{"room": "@alice,bob", "head": 0}]));
    assert_eq!(welcome["refused"].as_array().unwrap().len(), 6);
    assert!(chat.store.subscriptions.borrow().is_empty());
}

#[tokio::test]
async fn presence_is_news_only_in_small_rooms_and_of_those_who_were_not_there() {
    let mut chat = chat();
    chat.limits.presence_max = 3;
    chat.here("bob1", &["r"]).await;
    let alice = caller("alice1");
    chat.here("alice1", &[]).await;
    chat.say(&alice, r#"{"action":"join","id":"1","room":"r"}"#).await;
    assert_eq!(chat.calls(), ["GetItem A#", "UpdateItem C#", "PutItem S#", "Query S#"]);
    let sent = chat.gateway.sent.borrow().clone();
    let online = json!({"type": "presence", "room": "r", "user": "alice", "state": "online"});
    assert_eq!(sent, [("bob1".to_owned(), online)]);

    // Alice moves to another connection: nobody needs to know.
    let second = chat.here("alice2", &["r"]).await;
    chat.disconnect(&alice).await.unwrap();
    assert!(chat.told("presence").is_empty());
    chat.reset();
    chat.say(&second, r#"{"action":"leave","id":"1","room":"r"}"#).await;
    assert_eq!(chat.calls(), ["DeleteItem S#", "UpdateItem C#", "Query S#"]);
    let sent = chat.gateway.sent.take();
    let offline =
        json!({"type": "presence", "room": "r", "user": "alice", "state": "offline", "grace_ms": 25_000});
    assert_eq!(sent, [("bob1".to_owned(), offline)]);
    chat.say(&second, r#"{"action":"leave","id":"1","room":"r"}"#).await;
    assert!(chat.told("presence").is_empty(), "who was not there has not left");

    for other in ["carol1", "dave1"] {
        chat.here(other, &["r"]).await;
    }
    chat.say(&second, r#"{"action":"join","id":"1","room":"r"}"#).await;
    assert!(chat.told("presence").is_empty(), "four are too many");
}

#[tokio::test]
async fn an_ended_token_ends_every_action() {
    let chat = chat();
    let mut alice = chat.here("alice1", &["r"]).await;
    for (expires, allowed) in [(NOW_S + 1, true), (NOW_S, false)] {
        alice.identity.expires = Some(expires);
        for frame in [
            r#"{"action":"hello","id":"1"}"#,
            r#"{"action":"join","id":"1","room":"r"}"#,
            r#"{"action":"send","id":"1","room":"r","body":{"text":"x"}}"#,
            r#"{"action":"history","id":"1","room":"r"}"#,
            r#"{"action":"who","id":"1","room":"r"}"#,
            r#"{"action":"ping","id":"1"}"#,
            r#"{"action":"leave","id":"1","room":"r"}"#,
        ] {
            chat.reset();
            let answer = chat.say(&alice, frame).await;
            assert_eq!(answer["id"], "1");
            if allowed {
                assert_ne!(answer["type"], "error", "{answer}");
            } else {
                assert_eq!(answer["code"], "TOKEN_EXPIRED", "{frame}");
                assert!(chat.calls().is_empty());
            }
        }
    }
    let nobody = chat.received(None, r#"{"action":"ping","id":"1"}"#).await;
    assert!(nobody.contains("UNAUTHENTICATED"));
}

#[tokio::test]
async fn failures_of_the_table_are_told_apart_and_never_in_its_words() {
    let chat = chat();
    let alice = chat.here("alice1", &["r"]).await;
    for (call, why, code, retry) in [
        ("PutItem M#", StoreError::Unavailable("secret detail".into()), "UNAVAILABLE", true),
        ("Query M#", StoreError::Unexpected("secret detail".into()), "INTERNAL", false),
        ("Query S#", StoreError::Unexpected("secret detail".into()), "INTERNAL", false),
    ] {
        *chat.store.failing.borrow_mut() = Some((call, why));
        let answer = chat.text(&alice, "m", "r").await;
        assert_eq!(
            (&answer["id"], &answer["code"], &answer["retry"]),
            (&json!("m"), &json!(code), &json!(retry))
        );
        assert!(!answer.to_string().contains("secret"));
    }
    // Delivered is delivered, whatever becomes of the tidying.
    *chat.store.failing.borrow_mut() = Some(("BatchWriteItem", StoreError::Unexpected("no".into())));
    chat.here("bob1", &[]).await;
    chat.store.subscriptions.borrow_mut().insert((name("r"), conn("bob1")), caller("bob1").as_recipient());
    chat.gateway.gone.borrow_mut().insert(conn("bob1"));
    assert_eq!(chat.text(&alice, "m", "r").await["type"], "ack");
}
