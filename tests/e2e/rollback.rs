//! Verified, and taken back: a deploy whose chat does not answer leaves the old one at work, and `rollback` brings an
//! earlier one back, both under open connections.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use chat_stacks::socket::{Caller, Pass};
use chat_stacks::verify::{Age, new_user, verify};
use chat_stacks::{Handler, Observed};
use chat_tests::tokens::claims;
use chat_tests::{Chat, Chatctl, Client, Hail, Judge, handlers, until};
use serde_json::{Value, json};

/// The handlers, with other bytes behind one of them: new code that does the same.
fn changed(chatctl: &Chatctl, changed: Handler, suffix: &str) -> BTreeMap<Handler, PathBuf> {
    let mut binaries = handlers::binaries().clone();
    let mut bytes = std::fs::read(&binaries[&changed]).expect("a handler");
    bytes.extend_from_slice(suffix.as_bytes());
    let path = chatctl.folder().join(format!("{changed}-{suffix}"));
    std::fs::write(&path, bytes).expect("room for a handler");
    binaries.insert(changed, path);
    binaries
}

fn deployed() -> (Chatctl, String) {
    let chatctl = Chatctl::default();
    chatctl.build(handlers::binaries());
    chatctl.cloud();
    let data = chatctl.data(&["deploy", "--yes"]);
    assert!(data["verified"].as_str().unwrap_or_default().contains("welcomed as chatctl-verify-"), "{data}");
    let url = data["outputs"]["websocket_url"].as_str().expect("an address").to_owned();
    (chatctl, url)
}

async fn client(url: &str, user: &str) -> Client {
    let judge = Arc::new(Judge::of_project());
    let mut client = Client::connect(url, judge, &Hail::user(user)).await.expect("it is let in");
    client.hello(&[]).await;
    client.join("r").await;
    client
}

fn version(chatctl: &Chatctl, function: &str) -> Value {
    let status = chatctl.data(&["status"]);
    let functions = status["functions"].as_array().cloned().unwrap_or_default();
    let found = functions.into_iter().find(|one| one["handler"] == function);
    found.unwrap_or_else(|| panic!("no {function} in {status}"))["version"].clone()
}

/// The version that wrote the newest log line about a request: it is in the name of the stream.
fn answered_by(chatctl: &Chatctl, function: &str) -> String {
    let (_, lines) = chatctl.lines(&["logs", function, "-v"]);
    let streams =
        lines.iter().rev().filter(|line| line["event"] == "log").filter_map(|line| line["stream"].as_str());
    let newest = streams.clone().next().unwrap_or_else(|| panic!("no logs: {lines:?}"));
    let version = newest.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    version.unwrap_or_else(|| panic!("no version in {newest}")).0.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_moves_the_code_back_under_an_open_connection() {
    let (chatctl, url) = deployed();
    let mut alice = client(&url, "alice").await;
    alice.send("r", "one").await;
    chatctl.build(&changed(&chatctl, Handler::OnMessage, "two"));
    assert_eq!(chatctl.data(&["deploy", "--yes"])["changed"], true);
    assert_eq!(alice.send("r", "two").await.seq, 2);
    assert_eq!(
        (version(&chatctl, "on_message"), answered_by(&chatctl, "on_message")),
        (json!("2"), "2".into())
    );

    let back = chatctl.data(&["rollback", "--yes"]);

    assert_eq!(back["to"], 1, "{back}");
    assert!(back["verified"].is_string(), "{back}");
    assert_eq!(version(&chatctl, "on_message"), "1");
    assert_eq!(alice.send("r", "three").await.seq, 3, "the connection is open and nothing is forgotten");
    assert_eq!(answered_by(&chatctl, "on_message"), "1");
    // What is live is not what is declared, and the plan says so.
    let plan = chatctl.data(&["plan"]);
    let steps: Vec<&str> = plan["plan"]["steps"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|step| step["resource"].as_str())
        .collect();
    assert_eq!(
        (&plan["changes"], steps),
        (&json!(true), vec!["function/on_message", "alias/on_message"]),
        "{plan}"
    );
    assert_eq!(chatctl.data(&["drift"])["drift"], json!([]), "a rollback is nobody else's change");
    let marked = |step: &&Value| step["drift"] == true;
    assert_eq!(plan["plan"]["steps"].as_array().into_iter().flatten().find(marked), None, "{plan}");
    // Going back once more finds nothing earlier; forward again is possible by name.
    let (code, lines) = chatctl.lines(&["rollback", "--yes"]);
    assert_eq!((code, &lines.last().expect("a result")["error"]["code"]), (4, &json!("cannot_roll_back")));
    assert_eq!(chatctl.data(&["rollback", "--to", "2", "--yes"])["to"], 2);
    assert_eq!(version(&chatctl, "on_message"), "2");
    assert_eq!(chatctl.data(&["rollback", "--to", "2", "--yes"])["moved"], json!([]), "it is there already");
    assert_eq!(chatctl.data(&["plan"])["changes"], false);

    let runs = chatctl.data(&["history"])["runs"].clone();
    let told: Vec<(&str, &str)> = runs
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|run| Some((run["by"]["verb"].as_str()?, run["outcome"].as_str()?)))
        .collect();
    let good = "succeeded";
    assert_eq!(told, [("rollback", good), ("rollback", good), ("deploy", good), ("deploy", good)]);
    assert_eq!(runs[2]["changes"]["steps"], json!(["update function/on_message", "update alias/on_message"]));
    alice.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_that_does_not_run_is_taken_back_and_the_old_chat_goes_on() {
    let (chatctl, url) = deployed();
    let mut alice = client(&url, "alice").await;
    chatctl.build(&handlers::broken(Handler::OnMessage));

    let (code, lines) = chatctl.lines(&["deploy", "--yes"]);

    let error = &lines.last().expect("a result")["error"];
    assert_eq!((code, &error["code"]), (7, &json!("unverified")), "{lines:?}");
    assert!(error["message"].as_str().unwrap_or_default().contains("Internal server error"), "{error}");
    assert!(error["help"].as_str().unwrap_or_default().contains("on_message: version 2 → 1"), "{error}");
    // The reason is in the function's own log.
    assert!(error["details"].as_str().unwrap_or_default().contains("on_message: "), "{error}");
    assert!(lines.iter().any(|line| line["event"] == "pointed_back"), "{lines:?}");
    assert_eq!(version(&chatctl, "on_message"), "1");
    alice.send("r", "still here").await;
    let run = chatctl.data(&["history"])["runs"][0].clone();
    assert_eq!((&run["outcome"], &run["before"]), (&json!("rolled_back"), &run["after"]), "{run}");

    // Somebody who wants to look at it as it is keeps it, and goes back by hand.
    let (code, lines) = chatctl.lines(&["deploy", "--yes", "--no-rollback"]);
    assert_eq!(code, 7, "{lines:?}");
    assert_eq!(version(&chatctl, "on_message"), "2");
    assert_eq!(chatctl.data(&["history"])["runs"][0]["outcome"], "failed");
    assert_eq!(chatctl.data(&["rollback", "--to", "1", "--yes"])["to"], 1);
    assert_eq!(version(&chatctl, "on_message"), "1");
    alice.send("r", "and again").await;
    alice.close().await;
}

#[test]
fn a_first_deploy_that_does_not_answer_says_that_there_is_nothing_to_go_back_to() {
    let chatctl = Chatctl::default();
    chatctl.build(&handlers::broken(Handler::Connect));
    chatctl.cloud();

    let (code, lines) = chatctl.lines(&["deploy", "--yes"]);

    let error = &lines.last().expect("a result")["error"];
    assert_eq!((code, &error["code"]), (7, &json!("unverified")), "{lines:?}");
    assert!(error["help"].as_str().unwrap_or_default().contains("nothing served before"), "{error}");
    assert!(error["details"].as_str().unwrap_or_default().contains("connect: "), "{error}");
    // Nobody looks if nobody wants it; and mended, it is deployed as ever.
    let (code, lines) = chatctl.lines(&["deploy", "--yes", "--no-verify"]);
    assert_eq!((code, &lines.last().expect("a result")["data"]["changed"]), (0, &json!(false)), "{lines:?}");
    chatctl.build(handlers::binaries());
    assert!(chatctl.data(&["deploy", "--yes"])["verified"].is_string());
}

/// What the log of `connect` shows.
async fn asked() -> Result<bool, chat_stacks::Error> {
    Ok(true)
}

#[tokio::test]
async fn a_verification_leaves_nothing_behind() {
    let chat = Chat::builder().start().await;
    let mut alice = chat.client("alice").await;
    alice.join("r").await;
    let before = chat.account.items(&chat.table()).await;

    let caller = Caller { user: new_user(), pass: Pass::Name, origin: None };
    let seen = verify(chat.url(), &caller, Age::Served, asked).await.expect("the chat answers");

    assert!(seen.contains(&caller.user), "{seen}");
    until("its connection is forgotten", async || chat.account.items(&chat.table()).await == before).await;
    alice.fence().await;
    assert!(alice.unread("presence").is_empty(), "others were told about it");
    chat.stop().await;
}

#[tokio::test]
async fn where_tokens_are_wanted_it_is_verified_as_far_as_there_is_a_key() {
    let chat = Chat::builder().with_tokens().start().await;
    let caller = |pass| Caller { user: "chatctl-verify-1".into(), pass, origin: None };

    let token = chat.signer.sign(&claims("chatctl-verify-1", 60));
    let seen = verify(chat.url(), &caller(Pass::Token(token)), Age::Served, asked)
        .await
        .expect("a good token is welcome");
    assert!(seen.contains("welcomed as chatctl-verify-1"), "{seen}");
    let seen = verify(chat.url(), &caller(Pass::Nothing), Age::Served, asked)
        .await
        .expect("a refusal is what is wanted");
    assert!(seen.contains("was refused") && seen.contains("welcome was not tried"), "{seen}");
    let fault = verify(chat.url(), &caller(Pass::Token("a.b.c".into())), Age::Served, asked)
        .await
        .expect_err("a bad token is not");
    assert!(fault.saw.contains("403"), "{fault:?}");
    chat.stop().await;

    // A stage that lets everybody in, though it should not, is no success.
    let open = Chat::builder().start().await;
    let url = format!("{}?user=somebody", open.url());
    let fault =
        verify(&url, &caller(Pass::Nothing), Age::Served, asked).await.expect_err("nobody asked for a token");
    assert!(fault.saw.contains("let in without a token"), "{fault:?}");
    open.stop().await;
}

#[tokio::test]
async fn what_a_deploy_says_of_the_stage_afterwards_is_what_an_observation_finds() {
    let chat = Chat::builder().start_empty().await;
    let (stack, outcome) = chat.deploy_and_tell(handlers::artifacts()).await;
    let after = Observed::after(&stack, &outcome);
    let scope = stack.scope();
    assert_eq!(json!(chat_stacks::status::of(&after, scope)), chat.status().await);
    let observed = chat_stacks::observe(chat.aws(), scope).await.expect("it can be observed");
    let pointers = chat_stacks::ledger::Pointers::of(&observed, scope);
    assert_eq!(chat_stacks::ledger::Pointers::of(&after, scope), pointers);
    assert_eq!(
        chat_stacks::pointers::observe(chat.aws(), scope).await.expect("it can be observed").pointers,
        pointers
    );
    chat.stop().await;
}

#[test]
fn going_to_and_fro_between_two_apis_keeps_two_deployments() {
    let chatctl = Chatctl::default();
    chatctl.build(handlers::binaries());
    let endpoint = chatctl.cloud();
    chatctl.data(&["deploy", "--yes"]);
    let settings = chatctl.folder().join("chat.yaml");
    let open = std::fs::read_to_string(&settings).expect("settings");
    // Where the authorizer looks for an identity is part of the API.
    let token = open.replace("auth: { mode: open }", "auth: { mode: token }");
    assert_ne!(open, token);
    let served = || chatctl.data(&["history", "--limit", "1"])["runs"][0]["after"]["deployment"].clone();
    let first = served();

    std::fs::write(&settings, &token).expect("settings");
    let data = chatctl.data(&["deploy", "--yes"]);
    // The key is here, since the deploy made it, so even this is a whole verification.
    assert!(data["verified"].as_str().unwrap_or_default().contains("welcomed"), "{data}");
    let second = served();
    assert_ne!(first, second);
    assert_eq!(chatctl.data(&["plan"])["changes"], false, "what is kept is no change");
    std::fs::write(&settings, &open).expect("settings");
    chatctl.data(&["deploy", "--yes"]);

    assert_eq!(served(), first, "the kept one serves again");
    let back = chatctl.data(&["rollback", "--yes", "--no-verify"]);
    assert_eq!((&back["to"], served()), (&json!(2), second), "{back}");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    chatctl.data(&["destroy", "--yes"]);
    let left = runtime.block_on(chat_tests::Account::of(&endpoint).everything());
    assert_eq!(left, ["table chatctl"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_code_takes_the_short_path_and_refuses_anything_else() {
    let (chatctl, url) = deployed();
    let mut alice = client(&url, "alice").await;
    chatctl.build(&changed(&chatctl, Handler::OnMessage, "two"));

    let done = chatctl.data(&["deploy", "--only-code", "--yes"]);

    assert_eq!((&done["changed"], &done["functions"]), (&json!(true), &json!(["on_message"])), "{done}");
    assert!(done["verified"].is_string(), "{done}");
    assert_eq!(alice.send("r", "one").await.seq, 1, "the connection is open");
    assert_eq!(answered_by(&chatctl, "on_message"), "2");
    assert_eq!(chatctl.data(&["plan"])["changes"], false);
    assert_eq!(chatctl.data(&["drift"])["drift"], json!([]), "what it did itself is no drift");
    assert_eq!(chatctl.data(&["deploy", "--only-code", "--yes"])["changed"], false);

    // A setting as well: nothing is done, and what would be is named.
    chatctl.build(&changed(&chatctl, Handler::OnMessage, "three"));
    chatctl.settings("    presence: { max_members: 7 }\n");
    let (code, lines) = chatctl.lines(&["deploy", "--only-code", "--yes"]);
    let error = &lines.last().expect("a result")["error"];
    assert_eq!((code, &error["code"]), (4, &json!("not_only_code")), "{error}");
    assert!(error["message"].as_str().unwrap_or_default().contains("function/on_message"), "{error}");
    assert_eq!(version(&chatctl, "on_message"), "2");
}
