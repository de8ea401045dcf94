//! The chat deployed by CloudFormation: by change set, with the same handlers on the same cloud, and back again when
//! something fails.

use std::collections::BTreeSet;

use chat_local::{Fault, Rule};
use chat_stacks::{Action, Event, Kind};
use chat_tests::{Chat, handlers};
use serde_json::Value;

async fn versions(chat: &Chat) -> BTreeSet<String> {
    let status = chat.status().await;
    let functions = status["functions"].as_array().cloned().unwrap_or_default();
    functions.iter().map(|function| function["version"].to_string()).collect()
}

#[tokio::test]
async fn a_stack_serves_the_chat_takes_new_code_and_goes_without_a_trace() {
    let chat = Chat::builder().start_empty().await;
    let first = chat.deploy_stack(handlers::artifacts()).await;
    assert_eq!(first.failure, None);
    assert_eq!(first.plan.count(Action::Create), first.plan.steps.len());
    let done = first.events.iter().filter(|event| matches!(event, Event::Done { .. })).count();
    assert_eq!(done, first.plan.steps.len(), "each resource is told once");
    let chat = chat.located().await;
    let [mut alice, mut bob] = chat.clients(["alice", "bob"]).await;
    alice.join("r").await;
    bob.join("r").await;
    alice.send("r", "hi").await;
    bob.expect_message("r", "hi").await;

    let again = chat.prepare_stack(handlers::artifacts()).await.expect("the stack rests");
    assert!(again.plan.is_empty(), "{:?}", again.plan.steps);

    let old = versions(&chat).await;
    let changed = chat.deploy_stack(&handlers::changed_artifacts()).await;
    assert_eq!(changed.failure, None);
    let told: BTreeSet<(Action, String)> = changed
        .plan
        .steps
        .iter()
        .map(|step| {
            (
                step.action,
                step.resource.to_string().split_inclusive('/').next().unwrap_or_default().to_owned(),
            )
        })
        .collect();
    let expected = [(Action::Create, "function/"), (Action::Update, "alias/"), (Action::Update, "function/")];
    let expected = expected.into_iter().chain([(Action::Delete, "function/")]);
    assert_eq!(told, expected.map(|(action, kind)| (action, kind.to_owned())).collect());
    let code =
        changed.plan.steps.iter().flat_map(|step| &step.changes).find(|change| change.property == "Code");
    let code = code.expect("the code changes");
    assert!(code.old.is_some() && code.new.is_some() && code.old != code.new, "{code:?}");
    assert!(old.is_disjoint(&versions(&chat).await));
    // The connections of before go on.
    alice.send("r", "still here").await;
    bob.expect_message("r", "still here").await;

    chat.delete_stack().await;
    assert_eq!(chat.account.everything().await, Vec::<String>::new());
    assert!(chat.observe().await.is_empty());
    chat.stop().await;
}

#[tokio::test]
async fn a_first_deploy_that_fails_leaves_nothing_and_says_what_failed() {
    let chat = Chat::builder().start_empty().await;
    let fault = Fault::fail(400, "ValidationException", "no more aliases today");
    chat.cloud().faults().set([Rule::nth("lambda:CreateAlias", 2, fault)]);

    let failed = chat.deploy_stack(handlers::artifacts()).await;

    let what = failed.failure.expect("it failed");
    assert!(what.contains("ROLLBACK_COMPLETE") && what.contains("no more aliases today"), "{what}");
    let named = failed.events.iter().find_map(|event| match event {
        Event::Failed { resource, error, .. } => Some((resource.to_string(), error.clone())),
        _ => None,
    });
    let (resource, error) = named.expect("the failure is an event too");
    assert!(resource.starts_with("alias/") && error.contains("no more aliases today"), "{resource}: {error}");
    assert_eq!(chat.account.everything().await, Vec::<String>::new());
    // The stack that is left can only be deleted, and then it works.
    assert!(chat.prepare_stack(handlers::artifacts()).await.is_none());
    chat.cloud().faults().clear();
    chat.delete_stack().await;
    assert_eq!(chat.deploy_stack(handlers::artifacts()).await.failure, None);
    chat.stop().await;
}

#[tokio::test]
async fn an_update_that_fails_goes_back_and_the_old_chat_serves() {
    let chat = Chat::builder().start_empty().await;
    assert_eq!(chat.deploy_stack(handlers::artifacts()).await.failure, None);
    let chat = chat.located().await;
    let mut alice = chat.client("alice").await;
    alice.join("r").await;
    let old: Value = chat.status().await["functions"].clone();
    let fault = Fault::fail(400, "ValidationException", "not this one");
    chat.cloud().faults().set([Rule::nth("lambda:UpdateAlias", 3, fault)]);

    let failed = chat.deploy_stack(&handlers::changed_artifacts()).await;

    let what = failed.failure.expect("it failed");
    assert!(what.contains("UPDATE_ROLLBACK_COMPLETE") && what.contains("not this one"), "{what}");
    chat.cloud().faults().clear();
    assert_eq!(chat.status().await["functions"], old);
    alice.send("r", "still here").await;
    let plan = chat.prepare_stack(handlers::artifacts()).await.expect("the stack rests").plan;
    assert!(plan.is_empty(), "{:?}", plan.steps);
    chat.stop().await;
}

#[tokio::test]
async fn a_stage_is_handed_over_with_its_connections() {
    let chat = Chat::builder().start().await;
    let [mut alice, mut bob] = chat.clients(["alice", "bob"]).await;
    alice.join("r").await;
    bob.join("r").await;
    let before = chat.status().await;

    let imported = chat.eject(handlers::artifacts()).await;

    assert_eq!(
        imported,
        chat.observe().await.iter().filter(|(at, _)| at.kind != Kind::RouteTarget).count() + 3,
        "every resource, and a version of each function; where a route leads is part of it"
    );
    assert!(chat.observe().await.is_of_cloudformation());
    assert_eq!(chat.status().await, before);
    alice.send("r", "same as ever").await;
    bob.expect_message("r", "same as ever").await;
    let plan = chat.prepare_stack(handlers::artifacts()).await.expect("the stack rests").plan;
    assert!(plan.is_empty(), "{:?}", plan.steps);
    // And it is CloudFormation's for good.
    assert_eq!(chat.deploy_stack(&handlers::changed_artifacts()).await.failure, None);
    bob.send("r", "new code, old connection").await;
    alice.expect_message("r", "new code, old connection").await;
    chat.delete_stack().await;
    assert_eq!(chat.account.everything().await, Vec::<String>::new());
    chat.stop().await;
}
