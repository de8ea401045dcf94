//! The cloud of this machine as `chatctl` runs it, killed without a warning: what was acknowledged is there when it
//! comes back, and clients go on without loss and without doubles.

use std::sync::Arc;

use chat_tests::process::{self, free_port};
use chat_tests::{Chatctl, Client, Hail, Judge};
use serde_json::json;

async fn connect(url: &str, user: &str) -> Client {
    Client::connect(url, Arc::new(Judge::of_project()), &Hail::user(user)).await.expect(user)
}

fn address(chatctl: &Chatctl) -> String {
    let outputs = chatctl.data(&["outputs"]);
    let text = outputs.to_string();
    let url = text.split('"').find(|part| part.starts_with("ws://"));
    url.unwrap_or_else(|| panic!("no address in {text}")).to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_cloud_comes_back_with_everything_that_was_acknowledged() {
    let mut chatctl = Chatctl::default();
    let port = free_port();
    let pid = chatctl.up(port);
    chatctl.data(&["deploy", "--yes"]);
    let url = address(&chatctl);
    let mut alice = connect(&url, "alice").await;
    let mut bob = connect(&url, "bob").await;
    for client in [&mut alice, &mut bob] {
        client.hello(&[]).await;
        client.join("r").await;
    }
    let mut last = alice.send("r", "1").await;
    for n in 2..=20 {
        last = alice.send("r", &n.to_string()).await;
    }
    alice.send_to("bob", "psst").await;
    bob.expect_message("r", "5").await;
    let handlers = process::tree(pid);
    assert!(handlers.len() > 1, "no handler runs");

    chatctl.kill(pid);

    alice.closed().await;
    chatctl.up(port);
    // Nothing has to be deployed again, and the address is the same.
    assert_eq!(address(&chatctl), url);
    let plan = chatctl.run(&["plan", "--json"]);
    assert!(plan.status.success(), "{}", String::from_utf8_lossy(&plan.stdout));

    let mut bob = connect(&url, "bob").await;
    let welcome = bob.hello(&[("r", 5), ("@alice,bob", 0)]).await;
    assert_eq!(welcome["rooms"], json!([{"room": "r", "head": 20}, {"room": "@alice,bob", "head": 1}]));
    let missed =
        bob.expect("what was missed", |frame| frame["type"] == "batch" && frame["room"] == "r").await;
    let seqs: Vec<u64> =
        missed["items"].as_array().into_iter().flatten().filter_map(|item| item["seq"].as_u64()).collect();
    assert_eq!(seqs, (6..=20).collect::<Vec<_>>());
    let mut alice = connect(&url, "alice").await;
    alice.hello(&[("r", 20)]).await;
    // She does not know whether her last one arrived, and says it again.
    let again = alice.send_as(&last.id, "r", "20").await;
    assert_eq!((again.seq, again.dup), (20, true));
    assert_eq!(alice.send("r", "on we go").await.seq, 21);
    bob.expect_message("r", "on we go").await;
    bob.fence().await;
    assert!(bob.unread("message").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_a_conversation_no_acknowledged_message_is_lost() {
    let mut chatctl = Chatctl::default();
    let port = free_port();
    let mut pid = chatctl.up(port);
    chatctl.data(&["deploy", "--yes"]);
    let url = address(&chatctl);
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let mut alice = connect(&url, "alice").await;
        alice.hello(&[("r", 0)]).await;
        let talking = tokio::spawn({
            let user = format!("alice{round}");
            async move {
                let mut acked = Vec::new();
                for n in 0.. {
                    let id = format!("{user}-{n}");
                    let frame = json!({"action": "send", "id": id, "room": "r", "body": {"text": id}});
                    alice.say_message(frame.to_string().into()).await;
                    match alice.answer_or_end(&id).await {
                        Some(answer) => acked.push((answer["seq"].as_u64(), id)),
                        None => break,
                    }
                }
                acked
            }
        });
        // Somewhere in the middle: after a number of messages that differs from round to round.
        let mut watcher = connect(&url, "watcher").await;
        watcher.hello(&[("r", 0)]).await;
        for _ in 0..7 + round * 5 {
            watcher.expect("some talk", |frame| frame["type"] == "message").await;
        }
        chatctl.kill(pid);
        acknowledged.extend(talking.await.expect("alice talks until the end"));
        pid = chatctl.up(port);
    }

    let mut bob = connect(&url, "bob").await;
    bob.hello(&[]).await;
    bob.join("r").await;
    let mut stored = Vec::new();
    loop {
        let batch = bob.history("r", json!({"after": stored.len(), "limit": 100})).await;
        let items = batch["items"].as_array().cloned().unwrap_or_default();
        stored.extend(
            items
                .into_iter()
                .map(|item| (item["seq"].as_u64(), item["mid"].as_str().unwrap_or_default().to_owned())),
        );
        if batch["more"] == false {
            break;
        }
    }
    for (at, (seq, _)) in stored.iter().enumerate() {
        assert_eq!(*seq, Some(at as u64 + 1), "a gap in what is stored");
    }
    let lost: Vec<_> = acknowledged.iter().filter(|acked| !stored.contains(acked)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert!(acknowledged.len() >= 30, "hardly anything was said: {}", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_verbs_agree_about_a_stage_from_deploy_to_destroy() {
    let mut chatctl = Chatctl::default();
    chatctl.up(free_port());
    chatctl.data(&["deploy", "--yes"]);
    let status = chatctl.data(&["status"]).to_string();
    assert!(status.contains("chat-local-on_message"), "{status}");
    let mut alice = connect(&address(&chatctl), "alice").await;
    alice.hello(&[]).await;
    alice.join("r").await;
    let logs = chatctl.run(&["logs", "connect"]);
    let (out, err) = (String::from_utf8_lossy(&logs.stdout), String::from_utf8_lossy(&logs.stderr));
    assert!(out.contains("user=alice"), "{}: {out}\n{err}", logs.status);
    chatctl.data(&["destroy", "--yes"]);
    alice.close().await;
    chatctl.data(&["deploy", "--yes"]);
    connect(&address(&chatctl), "alice").await.hello(&[]).await;
}
