//! Care with what is not ours and with what must not be lost: taken names are refused before anything is made and taken
//! over only on request, a protected stage cannot be destroyed, and what a destroy leaves is looked for.

use std::collections::HashMap;

use chat_tests::{Account, Chatctl, handlers};
use serde_json::Value;

/// Settings of stage `stage` of app `app` on the local cloud.
fn settings(chatctl: &Chatctl, app: &str, stage: &str, more: &str) {
    let auth = if more.contains("auth:") { "" } else { "    auth: { mode: open }\n" };
    let text = format!(
        "app: {app}\nstages:\n  {stage}:\n    endpoint: local\n{auth}    lambda: {{ architecture: native }}\n    \
         control_plane: {{ rate: 0 }}\n    build: {{ profile: dev }}\n{more}"
    );
    std::fs::write(chatctl.folder().join("chat.yaml"), text).expect("no settings");
}

fn started() -> (Chatctl, Account) {
    let chatctl = Chatctl::default();
    chatctl.build(handlers::binaries());
    let account = Account::of(&chatctl.cloud());
    (chatctl, account)
}

/// Everything but the table of locks and history, which belongs to no stage and stays.
async fn everything(account: &Account) -> Vec<String> {
    account.everything().await.into_iter().filter(|name| name != "table chatctl").collect()
}

/// The reasons for a refusal.
fn refused(chatctl: &Chatctl, args: &[&str]) -> String {
    let (code, lines) = chatctl.lines(args);
    let result = lines.last().cloned().unwrap_or_default();
    assert_eq!(code, 4, "{args:?}: {result}");
    let causes = result["error"]["causes"].as_array().cloned().unwrap_or_default();
    causes.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_our_names_is_left_alone_until_it_is_adopted() {
    let (chatctl, account) = started();
    for handler in ["connect", "on_message"] {
        account.create_log_group(&format!("/aws/lambda/chat-local-{handler}"), &HashMap::new()).await;
    }
    let before = everything(&account).await;

    for verb in [&["plan"][..], &["deploy", "--yes"]] {
        let why = refused(&chatctl, verb);
        assert!(why.contains("log-group/connect") && why.contains("log-group/on_message"), "{why}");
        assert!(why.contains("--adopt"), "{why}");
        assert_eq!(everything(&account).await, before, "{verb:?} has made something");
    }
    let adopted = chatctl.data(&["deploy", "--yes", "--adopt"]);
    assert!(
        adopted["applied"].as_array().is_some_and(|all| all.contains(&"log-group/connect".into())),
        "{adopted}"
    );
    assert_eq!(chatctl.data(&["deploy", "--yes"])["changed"], false, "it is ours now");
    chatctl.data(&["destroy", "--yes"]);
    assert_eq!(everything(&account).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_become_ours_is_refused_even_then() {
    let (chatctl, account) = started();
    // Role names are unique in an account, whatever their path, and a path cannot be changed.
    let nothing = serde_json::json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "s3:GetObject", "Resource": "*" }] });
    account.create_role("chat-local-connect", &nothing).await;
    let before = everything(&account).await;

    let why = refused(&chatctl, &["deploy", "--yes", "--adopt"]);
    assert!(why.contains("role/connect: its path cannot be changed"), "{why}");
    assert_eq!(everything(&account).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stages_whose_names_run_together_do_not_touch_each_other() {
    let (chatctl, account) = started();
    settings(&chatctl, "chat", "a-b", "");
    chatctl.data(&["deploy", "--stage", "a-b", "--yes"]);
    let before = everything(&account).await;
    settings(&chatctl, "chat-a", "b", "");

    let why = refused(&chatctl, &["deploy", "--stage", "b", "--yes"]);
    for part in ["table/chat", "function/connect", "log-group/connect", "role/connect"] {
        assert!(why.contains(part), "{part} is not in {why}");
    }
    let destroyed = chatctl.data(&["destroy", "--stage", "b", "--yes"]);
    assert_eq!(destroyed["deleted"], serde_json::json!([]));
    assert_eq!(everything(&account).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_protected_stage_survives_a_destroy() {
    let (chatctl, account) = started();
    let token = "    auth: { mode: token }\n";
    settings(&chatctl, "chat", "local", &format!("{token}    protect: true\n"));
    chatctl.data(&["deploy", "--yes"]);
    account.put_item("chat-local", "R#r", "M#1", &[]).await;
    let before = everything(&account).await;

    for args in [&["destroy", "--yes"][..], &["destroy", "--yes", "--drop-deletion-protection"]] {
        let why = refused(&chatctl, args);
        assert!(why.contains("table/chat") && why.contains("protect: true"), "{why}");
        assert_eq!(everything(&account).await, before, "{args:?}");
    }
    assert_eq!(account.keys("chat-local", "R#r", "M#").await, ["M#1"]);

    // Taken back in two steps, each of which can be seen in a plan.
    settings(&chatctl, "chat", "local", token);
    let why = refused(&chatctl, &["destroy", "--yes"]);
    assert!(why.contains("deletion protection"), "{why}");
    chatctl.data(&["deploy", "--yes"]);
    let destroyed = chatctl.run(&["destroy", "--yes"]);
    let (said, shown) =
        (String::from_utf8_lossy(&destroyed.stdout), String::from_utf8_lossy(&destroyed.stderr));
    assert!(destroyed.status.success(), "{said}{shown}");
    assert!(said.contains("none is left"), "{said}");
    for part in ["table/chat", "function/connect", "api/chat", "role/on_message"] {
        assert!(shown.contains(part), "{part} was not shown: {shown}");
    }
    assert_eq!(everything(&account).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_would_have_to_be_made_anew_is_refused_with_all_that_hangs_on_it() {
    let (chatctl, account) = started();
    // Somebody's table with our name and other keys.
    account.create_table("chat-local", "id").await;
    let before = everything(&account).await;

    let why = refused(&chatctl, &["deploy", "--yes"]);
    assert!(why.contains("table/chat: `chat-local` exists"), "{why}");
    let why = refused(&chatctl, &["deploy", "--yes", "--adopt"]);
    assert!(why.contains("table/chat: its") && why.contains("would lose its data"), "{why}");
    assert_eq!(everything(&account).await, before);
}
