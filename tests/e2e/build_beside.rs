//! A first deploy while its handlers are still being built: only functions wait, a build that fails costs nothing that
//! is made, and a run that waits for a build can be stopped.

use chat_stacks::chat::stack_in_build;
use chat_stacks::{
    Address, Builder, Building, Error, Event, Events, Kind, Plan, PlanOptions, Stack, apply, plan,
};
use chat_tests::{Chat, handlers};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::sync::CancellationToken;

/// A deploy of a stage of which nothing is there, before its build is over.
struct First {
    chat: Chat,
    builder: Builder,
    stack: Stack,
    plan: Plan,
}

impl First {
    async fn planned() -> Self {
        let chat = Chat::builder().start_empty().await;
        let (builder, building) = Building::begin();
        let identity = chat.aws().identity().await.expect("an identity");
        let stack = stack_in_build(chat.settings(), identity, &building);
        let plan = plan(&stack, &chat.observe().await, &PlanOptions::default()).expect("a plan");
        Self { chat, builder, stack, plan }
    }
}

/// Waits until everything is done that needs no function.
async fn all_but_functions(events: &mut UnboundedReceiver<Event>, plan: &Plan) {
    let waits = |at: &Address| matches!(at.kind, Kind::Function | Kind::Alias | Kind::Permission);
    let mut open: Vec<Address> =
        plan.steps.iter().map(|step| step.resource.clone()).filter(|at| !waits(at)).collect();
    while !open.is_empty() {
        match events.recv().await.expect("the run goes on") {
            Event::Done { resource, .. } => {
                assert!(!waits(&resource), "{resource} was made of nothing");
                open.retain(|at| *at != resource);
            }
            Event::Failed { resource, error, .. } => panic!("{resource}: {error}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn everything_but_functions_is_made_during_the_build() {
    let First { chat, builder, stack, plan } = First::planned().await;
    let code =
        plan.steps.iter().flat_map(|step| &step.changes).filter(|change| change.property == "code_sha256");
    assert!(code.clone().count() == 3 && code.clone().all(|change| change.known_after_apply));
    let (sender, mut events) = unbounded_channel();
    let (events_of_run, stop) = (Events::to(sender), CancellationToken::new());

    let (outcome, ()) = tokio::join!(apply(chat.aws(), &stack, &plan, &events_of_run, &stop), async {
        all_but_functions(&mut events, &plan).await;
        builder.finish(Ok(handlers::artifacts().clone()));
    });

    outcome.expect("it is deployed");
    assert!(chat.plan(handlers::artifacts()).await.is_empty());
    let chat = chat.located().await;
    let mut alice = chat.client("alice").await;
    alice.join("r").await;
    alice.send("r", "hi").await;
    chat.stop().await;
}

#[tokio::test]
async fn a_build_that_fails_leaves_what_the_next_run_goes_on_with() {
    let First { chat, builder, stack, plan } = First::planned().await;
    builder.finish(Err("error[E0308]: mismatched types".to_owned()));

    let failed = apply(chat.aws(), &stack, &plan, &Events::none(), &CancellationToken::new()).await;

    let Err(Error::Apply { failed, skipped }) = failed else { panic!("{failed:?}") };
    assert!(
        failed.iter().all(|(at, error)| at.kind == Kind::Function && error.to_string().contains("E0308"))
    );
    assert!(skipped.iter().any(|at| at.kind == Kind::Alias));
    assert!(!chat.observe().await.is_empty());
    chat.deploy(handlers::artifacts()).await;
    assert!(chat.plan(handlers::artifacts()).await.is_empty());
    chat.stop().await;
}

#[tokio::test]
async fn a_run_that_waits_for_a_build_can_be_stopped() {
    let First { chat, builder, stack, plan } = First::planned().await;
    let (sender, mut events) = unbounded_channel();
    let (events_of_run, stop) = (Events::to(sender), CancellationToken::new());

    let (stopped, ()) = tokio::join!(apply(chat.aws(), &stack, &plan, &events_of_run, &stop), async {
        all_but_functions(&mut events, &plan).await;
        stop.cancel();
    });

    let Err(Error::Cancelled { unfinished, skipped }) = stopped else { panic!("{stopped:?}") };
    assert!(unfinished.len() == 3 && unfinished.iter().all(|at| at.kind == Kind::Function), "{unfinished:?}");
    assert!(skipped.iter().any(|at| at.kind == Kind::Permission));
    drop(builder);
    chat.destroy().await;
    assert_eq!(chat.account.everything().await, Vec::<String>::new());
    chat.stop().await;
}
