//! History: every page in order, from either end, and only for those who are in the room.

use chat_tests::Chat;
use serde_json::{Value, json};

fn seqs(batch: &Value) -> Vec<u64> {
    batch["items"].as_array().into_iter().flatten().filter_map(|item| item["seq"].as_u64()).collect()
}

#[tokio::test]
async fn pages_lead_back_to_the_beginning_and_forward_to_the_end() {
    let chat = Chat::shared().await;
    let mut alice = chat.client("pages.alice").await;
    alice.join("pages").await;
    for n in 1..=25 {
        alice.send("pages", &format!("message {n}")).await;
    }

    let newest = alice.history("pages", json!({"limit": 10})).await;
    assert_eq!(seqs(&newest), (16..=25).collect::<Vec<_>>());
    assert_eq!((&newest["upto"], &newest["more"]), (&json!(25), &json!(true)));
    let middle = alice.history("pages", json!({"before": 16, "limit": 10})).await;
    assert_eq!((seqs(&middle), &middle["more"]), ((6..=15).collect(), &json!(true)));
    let oldest = alice.history("pages", json!({"before": 6, "limit": 10})).await;
    assert_eq!((seqs(&oldest), &oldest["more"]), ((1..=5).collect(), &json!(false)));

    let first = alice.history("pages", json!({"after": 0, "limit": 20})).await;
    assert_eq!(
        (seqs(&first), &first["upto"], &first["more"]),
        ((1..=20).collect(), &json!(20), &json!(true))
    );
    let rest = alice.history("pages", json!({"after": 20, "limit": 20})).await;
    assert_eq!((seqs(&rest), &rest["upto"], &rest["more"]), ((21..=25).collect(), &json!(25), &json!(false)));
    let between = alice.history("pages", json!({"after": 3, "before": 7})).await;
    assert_eq!(seqs(&between), [4, 5, 6]);
    let nothing = alice.history("pages", json!({"after": 25})).await;
    assert_eq!((seqs(&nothing), &nothing["upto"], &nothing["more"]), (vec![], &json!(25), &json!(false)));
}

#[tokio::test]
async fn a_long_history_fits_into_frames_that_the_gateway_carries() {
    let chat = Chat::shared().await;
    let mut alice = chat.client("long.alice").await;
    alice.join("long").await;
    let text = "x".repeat(4_000);
    for _ in 0..40 {
        alice.send("long", &text).await;
    }

    let (mut upto, mut got) = (0, Vec::new());
    loop {
        let batch = alice.history("long", json!({"after": upto, "limit": 100})).await;
        // API Gateway carries 128 KB.
        assert!(batch.to_string().len() <= 128 * 1024);
        got.extend(seqs(&batch));
        upto = batch["upto"].as_u64().unwrap_or_default();
        if batch["more"] == false {
            break;
        }
    }
    assert_eq!(got, (1..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_empty_room_has_an_empty_history_and_a_stranger_none() {
    let chat = Chat::shared().await;
    let mut alice = chat.client("empty.alice").await;
    assert_eq!(alice.refusal(json!({"action": "history", "room": "empty"})).await, "NOT_IN_ROOM");
    alice.join("empty").await;
    let batch = alice.history("empty", json!({})).await;
    assert_eq!((seqs(&batch), &batch["upto"], &batch["more"]), (vec![], &json!(0), &json!(false)));
}
