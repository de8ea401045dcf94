//! Numbers: 1, 2, 3 … in every room, without gaps and without doubles, however many speak at once.

use std::collections::BTreeSet;

use chat_tests::{Chat, Client, Sent};
use futures_util::future::join_all;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_senders_in_many_rooms_leave_no_gap_and_no_double() {
    const SENDERS: usize = 8;
    const ROOMS: usize = 3;
    const EACH: usize = 6;
    let chat = Chat::shared().await;
    let rooms: Vec<String> = (0..ROOMS).map(|room| format!("crowd.{room}")).collect();
    let mut crowd: Vec<Client> = Vec::new();
    for n in 0..SENDERS {
        let mut client = chat.client(&format!("crowd.{n}")).await;
        for room in &rooms {
            client.join(room).await;
        }
        crowd.push(client);
    }

    // Everybody speaks in all rooms, all of them at the same time.
    let speaking = crowd.iter_mut().map(async |client| {
        let mut sent: Vec<Sent> = Vec::new();
        for n in 0..EACH {
            for room in &rooms {
                sent.push(client.send(room, &format!("{n}")).await);
            }
        }
        sent
    });
    let sent: Vec<Sent> = join_all(speaking).await.into_iter().flatten().collect();

    let all: BTreeSet<u64> = (1..=(SENDERS * EACH) as u64).collect();
    for room in &rooms {
        let acked: Vec<u64> = sent.iter().filter(|sent| sent.room == *room).map(|sent| sent.seq).collect();
        assert_eq!(acked.len(), all.len());
        assert_eq!(acked.into_iter().collect::<BTreeSet<_>>(), all, "numbers of {room} as acknowledged");
        for client in &mut crowd {
            client.fence().await;
            let messages = client.received().into_iter();
            let messages: Vec<_> =
                messages.filter(|frame| frame["type"] == "message" && frame["room"] == *room).collect();
            let seqs: Vec<u64> = messages.iter().filter_map(|message| message["seq"].as_u64()).collect();
            assert_eq!(seqs.len(), all.len(), "{} got something twice or not in {room}", client.user);
            assert_eq!(
                seqs.into_iter().collect::<BTreeSet<_>>(),
                all,
                "numbers of {room} as {} got them",
                client.user
            );
            // Who waits for each ack before the next message has them in order with everybody.
            for n in 0..SENDERS {
                let from = format!("crowd.{n}");
                let of_sender = messages.iter().filter(|message| message["from"] == from.as_str());
                let seqs: Vec<u64> = of_sender.filter_map(|message| message["seq"].as_u64()).collect();
                assert!(seqs.is_sorted(), "{}: {from} out of order in {room}: {seqs:?}", client.user);
            }
        }
    }
    let history = crowd[0].history(&rooms[0], serde_json::json!({"limit": 100})).await;
    assert_eq!(history["items"].as_array().map(Vec::len), Some(all.len()));
}

#[tokio::test]
async fn a_repeated_send_is_answered_alike_and_seen_once() {
    let chat = Chat::shared().await;
    let [mut alice, mut bob] = chat.clients(["retry.alice", "retry.bob"]).await;
    alice.join("retry").await;
    bob.join("retry").await;

    let first = alice.send_as("same-id", "retry", "once").await;
    let again = alice.send_as("same-id", "retry", "once").await;
    // From a new connection too: that is when a client does not know whether the first one arrived.
    let mut later = chat.client("retry.alice").await;
    later.join("retry").await;
    let later_still = later.send_as("same-id", "retry", "once").await;

    assert_eq!((first.seq, first.dup), (1, false));
    assert_eq!((again.seq, again.dup), (1, true));
    assert_eq!((later_still.seq, later_still.dup), (1, true));
    bob.expect_message("retry", "once").await;
    bob.fence().await;
    assert!(bob.unread("message").is_empty(), "a repetition was shown");
    // The id is the sender's own: somebody else's message of the same id is another message.
    let of_bob = bob.send_as("same-id", "retry", "twice").await;
    assert_eq!((of_bob.seq, of_bob.dup), (2, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_send_from_two_connections_at_once_is_stored_once() {
    let chat = Chat::shared().await;
    for round in 0..5 {
        let room = format!("race.{round}");
        let [mut one, mut other, mut bob] = chat.clients(["race.alice", "race.alice", "race.bob"]).await;
        for client in [&mut one, &mut other, &mut bob] {
            client.join(&room).await;
        }
        let (first, second) = tokio::join!(one.send_as("x", &room, "one"), other.send_as("x", &room, "one"));
        assert_eq!((first.seq, second.seq), (1, 1));
        assert!(first.dup != second.dup, "{first:?} {second:?}");
        bob.expect_message(&room, "one").await;
        bob.fence().await;
        assert!(bob.unread("message").is_empty());
    }
}
