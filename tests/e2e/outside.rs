//! Drift: what somebody changes in the account is told from what the settings say, and a deploy repairs it.

use chat_tests::{Account, Chatctl, handlers};
use serde_json::json;

const ROLE: &str = "chat-local-connect";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_from_outside_is_named_as_such_and_repaired() {
    let chatctl = Chatctl::default();
    chatctl.build(handlers::binaries());
    let account = Account::of(&chatctl.cloud());
    let (code, lines) = chatctl.lines(&["drift"]);
    assert_eq!((code, &lines.last().expect("a result")["error"]["code"]), (1, &json!("not_deployed")));
    chatctl.data(&["deploy", "--yes"]);
    assert_eq!(chatctl.data(&["drift"])["drift"], json!([]));

    // Somebody lets the function do more, and deletes another.
    let policies = account.policies(ROLE).await;
    let (name, mut document) = policies.into_iter().next().expect("a policy");
    let mut first = document["Statement"][0].clone();
    first["Sid"] = json!("Handmade");
    document["Statement"].as_array_mut().expect("statements").push(first);
    account.put_policy(ROLE, &name, &document).await;
    account.delete_function("chat-local-disconnect").await;
    // And the settings change as well.
    chatctl.settings("    presence: { max_members: 7 }\n");

    let (code, lines) = chatctl.lines(&["drift", "--detailed-exitcode"]);
    let drift = &lines.last().expect("a result")["data"]["drift"];
    let kind = |resource: &str| {
        let all = drift.as_array().into_iter().flatten();
        all.filter(|one| one["resource"] == resource).map(|one| one["kind"].clone()).next()
    };
    assert_eq!(code, 6);
    assert_eq!(kind("policy/connect"), Some(json!("changed")), "{drift}");
    assert_eq!(kind("function/disconnect"), Some(json!("deleted")), "{drift}");
    assert_eq!(kind("function/on_message"), None, "the settings are not the account: {drift}");

    let (code, lines) = chatctl.lines(&["plan", "--detailed-exitcode"]);
    let steps = &lines.last().expect("a result")["data"]["plan"]["steps"];
    let is_drift = |resource: &str| {
        let all = steps.as_array().into_iter().flatten();
        all.filter(|step| step["resource"] == resource).map(|step| step["drift"].clone()).next()
    };
    assert_eq!(code, 6);
    assert_eq!(is_drift("policy/connect"), Some(json!(true)), "{steps}");
    assert_eq!(is_drift("function/disconnect"), Some(json!(true)), "{steps}");
    assert_eq!(is_drift("function/on_message"), Some(json!(false)), "declared, not drifted: {steps}");

    chatctl.data(&["deploy", "--yes"]);
    assert_eq!(chatctl.data(&["drift"])["drift"], json!([]));
    let text = account.policies(ROLE).await.into_iter().map(|(_, document)| document.to_string());
    assert!(!text.collect::<String>().contains("Handmade"));
}
