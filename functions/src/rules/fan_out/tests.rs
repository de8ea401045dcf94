//! Rooms beyond what one invocation posts to, over a table and a gateway in memory.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::chat::Caller;
use crate::ids::UserId;
use crate::rules::fakes::{FUNCTION, NOW_MS, NOW_S, TestChat, chat, conn, name};

fn somebody(n: usize) -> Recipient {
    Recipient {
        user: UserId::parse(&format!("u{n}")).unwrap(),
        conn: conn(&format!("c{n:05}")),
        expires_s: NOW_S + 100,
        at_s: None,
    }
}

/// A room with alice, who speaks, and others, so that it has `members`.
async fn crowd(chat: &TestChat, members: usize) -> Caller<'static> {
    let alice = chat.here("alice1", &["r"]).await;
    let mut subscriptions = chat.store.subscriptions.borrow_mut();
    subscriptions.extend((1..members).map(somebody).map(|who| ((name("r"), who.conn.clone()), who)));
    alice
}

fn handed(chat: &TestChat) -> Vec<Batch> {
    let events = std::mem::take(&mut *chat.gateway.handed.borrow_mut());
    let read = |(function, event): (String, Bytes)| {
        assert_eq!(function, FUNCTION);
        match serde_json::from_slice(&event).unwrap() {
            Event::Handed(batch) => batch,
            other @ Event::Received(_) => panic!("{other:?}"),
        }
    };
    events.into_iter().map(read).collect()
}

/// As the invocation that gets the batch sees it; it could even hand over what it got.
fn later(ms: u64) -> Invocation<'static> {
    let now_ms = NOW_MS + ms;
    Invocation { relay: Some(FUNCTION), ..Invocation::of("request-2", now_ms, now_ms + 10_000) }
}

proptest! {
    #[test]
    fn batches_are_few_alike_and_leave_nobody_out(members in 1_usize..3_000) {
        let to: Vec<Recipient> = (0..members).map(somebody).collect();
        let sizes: Vec<usize> = batches(&to).map(<[Recipient]>::len).collect();
        prop_assert_eq!(sizes.len(), members.div_ceil(BATCH_MAX));
        prop_assert!(sizes.iter().all(|size| (1..=BATCH_MAX).contains(size)));
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        prop_assert!(most - least < sizes.len(), "{sizes:?}");
        prop_assert!(batches(&to).flatten().eq(&to));
    }
}

#[test]
fn the_largest_batch_is_far_from_the_limit_of_an_event() {
    let who = Recipient {
        user: UserId::parse(&"u".repeat(64)).unwrap(),
        conn: conn(&"c".repeat(128)),
        expires_s: u64::MAX,
        at_s: Some(NOW_S),
    };
    // A text of 4,000 control characters, each written `\u0001` in the frame.
    let frame =
        serde_json::json!({ "type": "message", "body": { "text": "\u{1}".repeat(4_000) } }).to_string();
    let event =
        Event::handed_over(NOW_MS, Some(&name(&"r".repeat(64))), frame.as_bytes(), &vec![who; BATCH_MAX]);
    assert!(event.len() < 256 * 1024, "{} bytes", event.len());
}

#[tokio::test]
async fn up_to_the_limit_everybody_is_posted_to_from_here() {
    let chat = chat();
    let alice = crowd(&chat, INLINE_MAX).await;
    assert_eq!(chat.text(&alice, "m", "r").await["type"], "ack");
    assert_eq!(chat.told("message").len(), INLINE_MAX);
    assert!(handed(&chat).is_empty());
}

#[tokio::test]
async fn beyond_it_everybody_is_in_one_batch_and_gets_the_frame_once() {
    let chat = chat();
    for members in [INLINE_MAX + 1, BATCH_MAX + 1, 2 * BATCH_MAX] {
        let alice = crowd(&chat, members).await;
        let ack = chat.text(&alice, &format!("m{members}"), "r").await;
        assert_eq!(ack["type"], "ack");
        assert_eq!(chat.calls(), ["Query S#", "Query M#", "PutItem M#"]);
        assert!(chat.told("message").is_empty(), "the sender waits for no post");
        let batches = handed(&chat);
        assert_eq!(batches.len(), members.div_ceil(BATCH_MAX));
        for batch in batches {
            chat.handed(later(50), batch).await;
        }
        assert!(chat.calls().is_empty() && handed(&chat).is_empty(), "a batch is posted, and that is all");
        let sent = chat.gateway.sent.borrow().clone();
        assert!(sent.iter().all(|(_, frame)| frame["seq"] == ack["seq"] && frame["type"] == "message"));
        assert_eq!(sent[0].0, "alice1", "the sender is in the first batch");
        let told = chat.told("message");
        assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), members);
        assert_eq!(told.len(), members);
    }
}

#[tokio::test]
async fn presence_of_a_large_room_goes_the_same_way() {
    let mut chat = chat();
    crowd(&chat, INLINE_MAX + 1).await;
    chat.limits.presence_max = 1_000;
    chat.here("bob1", &["r"]).await;
    assert!(chat.told("presence").is_empty());
    assert_eq!(handed(&chat).iter().map(|batch| batch.to.len()).sum::<usize>(), INLINE_MAX + 1);
}

#[tokio::test]
async fn what_cannot_be_handed_over_is_posted_from_here() {
    let chat = chat();
    let alice = crowd(&chat, 3 * BATCH_MAX).await;
    chat.gateway.refusing_after.set(Some(1));
    assert_eq!(chat.text(&alice, "m", "r").await["type"], "ack");
    let (here, there) = (chat.told("message"), handed(&chat));
    assert_eq!((here.len(), there.len()), (2 * BATCH_MAX, 1));
    chat.handed(later(50), there.into_iter().next().unwrap()).await;
    let all: BTreeSet<String> = here.into_iter().chain(chat.told("message")).collect();
    assert_eq!(all.len(), 3 * BATCH_MAX, "nobody is left out, and nobody is told twice");
}

#[tokio::test]
async fn who_is_gone_is_forgotten_whoever_finds_out() {
    let chat = chat();
    let alice = crowd(&chat, INLINE_MAX + 1).await;
    let bob = chat.here("bob1", &["r"]).await;
    chat.gateway.gone.borrow_mut().extend([bob.conn.clone(), conn("c00007")]);
    chat.text(&alice, "m", "r").await;
    chat.calls();
    for batch in handed(&chat) {
        chat.handed(later(50), batch).await;
    }
    assert_eq!(chat.calls(), ["BatchWriteItem"]);
    let subscribed = |conn: ConnectionId| chat.store.subscriptions.borrow().contains_key(&(name("r"), conn));
    assert!(!subscribed(bob.conn.clone()) && !subscribed(conn("c00007")) && subscribed(conn("c00008")));
    assert!(!chat.store.connections.borrow().keys().any(|(_, conn)| *conn == bob.conn));
}

#[tokio::test]
async fn who_may_still_be_connecting_is_not_taken_for_gone_in_a_batch_either() {
    let chat = chat();
    let bob = chat.here("bob1", &[]).await;
    chat.gateway.gone.borrow_mut().insert(bob.conn.clone());
    let young = Recipient { at_s: Some(NOW_S - 5), ..bob.as_recipient() };
    for (recipient, calls) in [(young, 0), (bob.as_recipient(), 1)] {
        let event = Event::handed_over(NOW_MS, None, b"{}", &[recipient]);
        let Ok(Event::Handed(batch)) = serde_json::from_slice(&event) else { panic!("{event:?}") };
        chat.handed(later(50), batch).await;
        assert_eq!(chat.calls().len(), calls);
    }
}

#[tokio::test]
async fn a_batch_that_comes_too_late_is_dropped() {
    for (late_ms, told) in [(BATCH_MAX_AGE_MS, 1), (BATCH_MAX_AGE_MS + 1, 0)] {
        let chat = chat();
        let event = Event::handed_over(NOW_MS, None, br#"{"type":"message"}"#, &[somebody(1)]);
        let Ok(Event::Handed(batch)) = serde_json::from_slice(&event) else { panic!("{event:?}") };
        chat.handed(later(late_ms), batch).await;
        assert_eq!(chat.told("message").len(), told, "{late_ms} ms late");
    }
}
