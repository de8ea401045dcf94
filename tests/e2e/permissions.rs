//! Least privilege, proved from both sides: with the policies of the stack everything works, and without any single
//! action of any of their statements something breaks.

use std::time::Duration;

use chat_local::{Fault, Rule};
use chat_tests::{Chat, Hail, within};
use serde_json::{Value, json};

/// How long a thing may take that is not awaited by an answer. Only what is broken takes it in full.
const SOON: Duration = Duration::from_millis(1_500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_action_of_every_statement_is_needed() {
    let chat = Chat::builder().start().await;
    let mut round = 0;
    everything_works(&chat, round).await.expect("with all policies everything works");

    let mut superfluous = Vec::new();
    let mut taken = 0;
    for handler in ["connect", "disconnect", "on_message"] {
        let role = chat.function(handler);
        let policies = chat.account.policies(&role).await;
        assert!(!policies.is_empty(), "{role} has no policy");
        for (name, document) in policies {
            for (what, less) in one_action_less(&document) {
                round += 1;
                taken += 1;
                match &less {
                    Some(less) => chat.account.put_policy(&role, &name, less).await,
                    None => chat.account.delete_policy(&role, &name).await,
                }
                if everything_works(&chat, round).await.is_ok() {
                    superfluous.push(format!("{role}/{name}: {what}"));
                }
            }
            chat.account.put_policy(&role, &name, &document).await;
        }
    }
    assert!(taken >= 10, "only {taken} actions were found in the policies");
    assert!(superfluous.is_empty(), "nothing breaks without {superfluous:#?}");
    everything_works(&chat, round + 1).await.expect("with all policies back everything works again");
    chat.stop().await;
}

#[tokio::test]
async fn no_statement_allows_more_than_its_own_table_api_log_group_and_alias() {
    let chat = Chat::shared().await;
    for handler in ["connect", "disconnect", "on_message"] {
        for (name, document) in chat.account.policies(&chat.function(handler)).await {
            for statement in statements(&document) {
                assert_eq!(statement["Effect"], "Allow");
                for action in list(&statement["Action"]) {
                    assert!(!action.contains('*'), "{handler}/{name} allows {action}");
                }
                for resource in list(&statement["Resource"]) {
                    let own = [
                        "table/chat-local",
                        "/aws/lambda/chat-local-",
                        "arn:aws:execute-api:",
                        &format!("function:chat-local-{handler}:live"),
                    ];
                    let is_own = own.iter().any(|part| resource.contains(part));
                    assert!(resource != "*" && is_own, "{handler}/{name} allows {resource}");
                }
            }
        }
    }
}

/// The document without one of its actions, for each of them. `None` is no document at all: there was but one action.
fn one_action_less(document: &Value) -> Vec<(String, Option<Value>)> {
    let all = statements(document);
    let mut variants = Vec::new();
    for (at, statement) in all.iter().enumerate() {
        for action in list(&statement["Action"]) {
            let mut left = all.clone();
            let actions: Vec<String> =
                list(&statement["Action"]).into_iter().filter(|other| *other != action).collect();
            if actions.is_empty() {
                left.remove(at);
            } else {
                left[at]["Action"] = json!(actions);
            }
            let mut less = document.clone();
            less["Statement"] = json!(left);
            let what = format!("{action} on {}", statement["Resource"]);
            variants.push((what, (!left.is_empty()).then_some(less)));
        }
    }
    variants
}

fn statements(document: &Value) -> Vec<Value> {
    match &document["Statement"] {
        Value::Array(all) => all.clone(),
        one => vec![one.clone()],
    }
}

fn list(value: &Value) -> Vec<String> {
    match value {
        Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        one => one.as_str().map(str::to_owned).into_iter().collect(),
    }
}

/// Does everything that the chat can do, with names of this round, and says what did not work.
async fn everything_works(chat: &Chat, round: u32) -> Result<(), String> {
    let [alice_id, bob_id, room] = ["alice", "bob", "room"].map(|name| format!("{name}{round}"));
    let table = chat.table();
    let account = &chat.account;
    let mut alice = chat.connect(&Hail::user(&alice_id)).await.map_err(|why| format!("connect: {why:?}"))?;
    let mut bob = chat.connect(&Hail::user(&bob_id)).await.map_err(|why| format!("connect: {why:?}"))?;
    (alice.user, bob.user) = (alice_id.clone(), bob_id.clone());

    for client in [&mut alice, &mut bob] {
        for frame in [
            json!({"action": "hello", "device": "d"}),
            json!({"action": "join", "room": room}),
            json!({"action": "send", "room": room, "body": {"text": "hi"}}),
            json!({"action": "history", "room": room}),
            json!({"action": "who", "room": room}),
            json!({"action": "leave", "room": "other"}),
        ] {
            let answer = client.ask(frame.clone()).await;
            if answer["type"] == "error" {
                return Err(format!("{frame}: {answer}"));
            }
        }
    }
    let to_bob = alice.ask(json!({"action": "send", "to": bob_id, "body": {"text": "psst"}})).await;
    if to_bob["type"] == "error" {
        return Err(format!("a direct message: {to_bob}"));
    }
    for client in [&mut alice, &mut bob] {
        client.fence().await;
        let heard = client.received();
        for text in ["hi", "psst"] {
            if !heard.iter().any(|frame| frame["type"] == "message" && frame["body"]["text"] == text) {
                return Err(format!("{} did not hear {text:?}", client.user));
            }
        }
    }

    // A room too large for one invocation: what is said there is handed over, and not merely posted all the same.
    let crowd = format!("crowd{round}");
    let group = format!("/aws/lambda/{}", chat.function("on_message"));
    let batches = async || account.log_messages(&group, r#""posted a batch""#).await.len();
    let before = batches().await;
    chat.haunt(&crowd, 210, 0).await;
    let said = [
        json!({"action": "join", "room": crowd}),
        json!({"action": "send", "room": crowd, "body": {"text": "anybody?"}}),
    ];
    for frame in said {
        let answer = alice.ask(frame.clone()).await;
        if answer["type"] == "error" {
            return Err(format!("{frame}: {answer}"));
        }
    }
    if !within(SOON, &mut async || batches().await > before).await {
        return Err("nothing was handed over".to_owned());
    }

    // Bob's end is noticed, told, and cleaned up.
    bob.close().await;
    let bobs = format!("U#{bob_id}");
    let forgotten = &mut async || account.keys(&table, &bobs, "C#").await.is_empty();
    if !within(SOON, forgotten).await {
        return Err("a connection was not forgotten".to_owned());
    }
    let rooms = format!("R#{room}");
    if !within(SOON, &mut async || account.keys(&table, &rooms, "S#").await.len() == 1).await {
        return Err("a subscription was not forgotten".to_owned());
    }
    let told = &mut async || alice.unread("presence").iter().any(|frame| frame["state"] == "offline");
    if !within(SOON, told).await {
        return Err("nobody was told".to_owned());
    }

    // Carol's is not: the next message meets her connection.
    let carol_id = format!("carol{round}");
    let mut carol = chat.connect(&Hail::user(&carol_id)).await.map_err(|why| format!("connect: {why:?}"))?;
    carol.join(&room).await;
    chat.cloud().faults().set([Rule::every("*", Fault::DropDisconnect)]);
    carol.close().await;
    let carols = format!("U#{carol_id}");
    // The gateway itself needs a moment to notice the end of a connection.
    let cleaned = &mut async || {
        alice.ask(json!({"action": "send", "room": room, "body": {"text": "carol?"}})).await;
        account.keys(&table, &carols, "C#").await.is_empty()
    };
    let cleaned = within(SOON, cleaned).await;
    chat.cloud().faults().clear();
    if !cleaned {
        return Err("a connection that is gone was left".to_owned());
    }

    // What the functions say is to be read: each logs its requests.
    for handler in ["connect", "disconnect", "on_message"] {
        let group = format!("/aws/lambda/{}", chat.function(handler));
        let since = account.log_messages(&group, "REPORT").await.len();
        if handler == "on_message" {
            alice.fence().await;
        } else {
            let visitor = chat.connect(&Hail::user(&format!("visitor{round}"))).await;
            visitor.map_err(|why| format!("connect: {why:?}"))?.close().await;
        }
        let logged = &mut async || account.log_messages(&group, "REPORT").await.len() > since;
        if !within(SOON, logged).await {
            return Err(format!("{handler} does not log"));
        }
    }
    alice.close().await;
    Ok(())
}
