//! `chatctl dev`: data that stays until it is to be forgotten, and code that changes under open connections.

use std::sync::Arc;

use chat_tests::{Chatctl, Client, Hail, Judge, Running, handlers};
use serde_json::{Value, json};

/// A project with sources of its own, so that nobody else changes them.
fn project() -> Chatctl {
    let chatctl = Chatctl::default();
    chatctl.build(handlers::binaries());
    let sources = chatctl.folder().join("functions/src");
    std::fs::create_dir_all(&sources).expect("a folder of ours");
    std::fs::write(chatctl.folder().join("functions/Cargo.toml"), "").expect("a folder of ours");
    edit(&chatctl, "one");
    chatctl
}

/// In one piece, so that it is one change however slow this is.
fn edit(chatctl: &Chatctl, text: &str) {
    let next = chatctl.folder().join("next.rs");
    std::fs::write(&next, text).expect("a folder of ours");
    std::fs::rename(&next, chatctl.folder().join("functions/src/lib.rs")).expect("a folder of ours");
}

async fn enter(ready: &Value, user: &str) -> (Client, Value) {
    let url = ready["websocket_url"].as_str().expect("an address");
    let mut client =
        Client::connect(url, Arc::new(Judge::of_project()), &Hail::user(user)).await.expect("let in");
    let welcome = client.hello(&[("r", 0)]).await;
    (client, welcome["rooms"][0]["head"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_stays_until_it_is_to_be_forgotten() {
    let chatctl = project();
    for (args, before, after) in [(&[][..], 0, 1), (&[], 1, 2), (&["--fresh"], 0, 1)] {
        let mut dev = Running::dev(&chatctl, args);
        let ready = dev.event("ready");
        let (mut alice, head) = enter(&ready, "alice").await;
        assert_eq!(head, before, "{args:?}");
        assert_eq!(alice.send("r", "hi").await.seq, after, "{args:?}");

        // One project has one cloud, and nobody takes its data from under it.
        let (code, lines) = chatctl.lines(&["dev", "--fresh", "--no-open", "--port", "0", "--web-port", "0"]);
        let refused = lines.last().expect("a result");
        assert!(code != 0 && refused["error"]["code"] == "already_running", "{refused}");

        let ended = dev.interrupt();
        assert!(ended.success(), "{ended}");
        alice.closed().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_code_takes_over_under_open_connections_and_broken_code_does_not() {
    let chatctl = project();
    let mut dev = Running::dev(&chatctl, &[]);
    let ready = dev.event("ready");
    let (mut alice, _) = enter(&ready, "alice").await;
    alice.send("r", "to the first code").await;

    chatctl.fail_to_build("error[E0425]: cannot find value `x` in this scope\n");
    edit(&chatctl, "x");
    let failed = dev.event("build_failed");
    let error = &failed["error"];
    assert_eq!(error["code"], "compile_error", "{failed}");
    assert!(error["details"].as_str().is_some_and(|text| text.contains("E0425")), "{failed}");
    alice.send("r", "to the first code still").await;

    // Compiles, but does not start: the first clients find out, and they are chatctl's own.
    chatctl.build(&handlers::broken(chat_stacks::Handler::OnMessage));
    edit(&chatctl, "broken");
    let failed = dev.event("build_failed");
    assert_eq!(failed["error"]["code"], "unverified", "{failed}");
    assert_eq!(alice.send("r", "and still").await.seq, 3);

    let changed = handlers::changed(chatctl.folder());
    chatctl.build(&changed);
    edit(&chatctl, "two");
    let cut_over = dev.event("cut_over");
    assert_eq!(cut_over["functions"], json!(["connect", "disconnect", "on_message"]), "{cut_over}");
    assert_eq!(alice.send("r", "to the second code").await.seq, 4);
    let (_bob, head) = enter(&ready, "bob").await;
    assert_eq!(head, 4);

    edit(&chatctl, "two, said in other words");
    assert_eq!(dev.event("cut_over")["functions"], json!([]));
    assert!(dev.interrupt().success());
}
