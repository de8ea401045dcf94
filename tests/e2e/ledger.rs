//! One run at a time changes a stage: who comes second is told who is at work, a run that died is taken over, and one
//! that lost its lock stops.

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat_local::{Fault, Rule};
use chat_stacks::ledger::{Holder, Ledger, Lock, Outcome, Patience, Record, Ticket};
use chat_stacks::{AppName, Error, Events, Scope, StageName};
use chat_tests::{Chat, Chatctl, PATIENCE, lines_of, process, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Longer than any step takes here, so that a run is met in the middle of it.
fn slow(operation: &str, ms: u64) -> Rule {
    Rule::nth(operation, 1, Fault::Delay { ms })
}

/// A run in the background, once it holds the lock.
#[expect(clippy::zombie_processes, reason = "whoever began it waits for it; a test that fails ends with it")]
fn begin(chatctl: &Chatctl, args: &[&str]) -> Child {
    let mut command = chatctl.command(&[args, &["--yes", "--json"]].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("chatctl starts");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let runs = chatctl.data(&["history"])["runs"].clone();
        if runs[0]["outcome"] == "running" && runs[0]["by"]["pid"] == child.id() {
            return child;
        }
        assert!(Instant::now() < deadline, "{args:?} does not take the lock: {runs}");
    }
}

fn end(child: Child) -> (i32, Value) {
    let (code, lines) = lines_of(child.wait_with_output().expect("it ends"));
    (code, lines.last().cloned().unwrap_or_default())
}

#[test]
fn of_two_deploys_at_once_one_is_told_about_the_other() {
    let (chatctl, endpoint) = Chatctl::with_cloud();
    chatctl.faults(&endpoint, &[slow("apigateway:CreateDeployment", 4_000)]);
    let first = begin(&chatctl, &["deploy"]);

    let (code, lines) = chatctl.lines(&["deploy", "--yes"]);

    let error = &lines.last().expect("a result")["error"];
    assert_eq!((code, &error["code"]), (4, &json!("locked")), "{lines:?}");
    let message = error["message"].as_str().unwrap_or_default();
    for part in ["arn:aws:", "deploy by process", &first.id().to_string(), "since 20"] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    assert!(error["help"].as_str().unwrap_or_default().contains("chatctl unlock --stage local"), "{error}");
    // What only looks is not kept out, and who wants to wait gets there.
    assert_eq!(chatctl.data(&["status"])["deployed"], false);
    let (code, lines) = chatctl.lines(&["deploy", "--yes", "--lock-timeout", "60"]);
    let data = &lines.last().expect("a result")["data"];
    assert_eq!((code, &data["changed"]), (0, &json!(false)), "{lines:?}");
    assert!(lines.iter().any(|line| line["event"] == "lock_waiting"), "{lines:?}");
    let (code, result) = end(first);
    assert_eq!((code, &result["data"]["changed"]), (0, &json!(true)), "{result}");
}

#[test]
fn a_deploy_that_was_killed_is_taken_over_at_once_on_its_own_machine() {
    let (chatctl, endpoint) = Chatctl::with_cloud();
    chatctl.faults(&endpoint, &[slow("apigateway:CreateDeployment", 60_000)]);
    let mut first = begin(&chatctl, &["deploy"]);
    first.kill().expect("it runs");
    first.wait().expect("it ends");
    chatctl.faults(&endpoint, &[]);

    let (code, lines) = chatctl.lines(&["deploy", "--yes"]);

    assert_eq!(code, 0, "{lines:?}");
    let over = lines.iter().find(|line| line["event"] == "lock_taken_over");
    let over = over.unwrap_or_else(|| panic!("nobody was taken over: {lines:?}"));
    assert_eq!(over["from"]["pid"], first.id());
    let runs = chatctl.data(&["history"])["runs"].clone();
    assert_eq!((&runs[1]["number"], &runs[1]["outcome"]), (&json!(1), &json!("interrupted")), "{runs}");
    assert!(runs[1]["note"].as_str().unwrap_or_default().contains("process on this host is gone"), "{runs}");
    assert_eq!((&runs[0]["number"], &runs[0]["outcome"]), (&json!(2), &json!("succeeded")), "{runs}");
    assert_eq!(chatctl.data(&["plan"])["changes"], false);
}

#[test]
fn a_deploy_that_lost_its_lock_while_it_slept_stops_and_says_to_whom() {
    let (chatctl, endpoint) = Chatctl::with_cloud();
    // Longer than it takes a holder to notice: a twelfth of a lease.
    chatctl.faults(&endpoint, &[slow("apigateway:CreateDeployment", 9_000)]);
    let first = begin(&chatctl, &["deploy"]);
    process::signal(first.id(), Signal::STOP);

    // It is alive as far as anybody can tell, so this is asked.
    let (code, lines) = chatctl.lines(&["unlock", "--reason", "it hangs"]);
    assert_eq!((code, &lines.last().expect("a result")["error"]["code"]), (4, &json!("confirmation_needed")));
    let unlocked = chatctl.data(&["unlock", "--reason", "it hangs", "--yes"]);
    assert_eq!((&unlocked["unlocked"], &unlocked["holder"]["pid"]), (&json!(true), &json!(first.id())));
    process::signal(first.id(), Signal::CONT);

    let (code, result) = end(first);
    assert_eq!((code, &result["error"]["code"]), (5, &json!("lock_lost")), "{result}");
    let message = result["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("it hangs") && message.contains("stage/local"), "{message}");
    assert_eq!(chatctl.data(&["status"])["deployed"], false, "it went on to the cut-over");
    let run = chatctl.data(&["history"])["runs"][0].clone();
    assert_eq!(run["outcome"], "interrupted");
    assert!(run["note"].as_str().unwrap_or_default().contains("it hangs"), "{run}");
    // Nobody has to wait for it, and there is nothing left to unlock.
    assert_eq!(chatctl.data(&["unlock", "--reason", "again"])["unlocked"], false);
    chatctl.faults(&endpoint, &[]);
    assert_eq!(chatctl.data(&["deploy", "--yes"])["changed"], true);
}

#[test]
fn a_destroy_takes_the_lock_along_and_leaves_the_history() {
    let (chatctl, endpoint) = Chatctl::with_cloud();
    chatctl.data(&["deploy", "--yes"]);
    chatctl.data(&["destroy", "--yes"]);

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let account = chat_tests::Account::of(&endpoint);
    let items = runtime.block_on(account.keys("chatctl", "chat/local", ""));
    assert_eq!(items, ["deploy#000000000001", "deploy#000000000002"]);
    assert_eq!(runtime.block_on(account.everything()), ["table chatctl"]);
    // Numbers go on, and what is destroyed cannot be gone back to.
    chatctl.data(&["deploy", "--yes"]);
    let runs = chatctl.data(&["history", "--limit", "1"])["runs"].clone();
    assert_eq!((&runs[0]["number"], runs.as_array().map(Vec::len)), (&json!(3), Some(1)), "{runs}");
    let (code, lines) = chatctl.lines(&["rollback", "--to", "1", "--yes"]);
    let error = &lines.last().expect("a result")["error"];
    assert_eq!((code, &error["code"]), (4, &json!("cannot_roll_back")), "{error}");
    assert!(error["message"].as_str().unwrap_or_default().contains("destroyed"), "{error}");
}

#[test]
fn a_destroy_that_leaves_something_behind_says_so_and_so_does_the_history() {
    let (chatctl, endpoint) = Chatctl::with_cloud();
    chatctl.data(&["deploy", "--yes"]);
    // While the roles go, the log group that went before them comes back with its tags.
    chatctl.faults(&endpoint, &[slow("iam:DeleteRole", 3_000)]);
    let destroy = begin(&chatctl, &["destroy"]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let account = chat_tests::Account::of(&endpoint);
    let group = "/aws/lambda/chat-local-connect";
    runtime.block_on(async {
        let tags = account.log_group_tags(group).await;
        until("the log group is gone", async || {
            !account.everything().await.contains(&format!("log group {group}"))
        })
        .await;
        account.create_log_group(group, &tags).await;
    });

    let (code, result) = end(destroy);

    let error = &result["error"];
    assert_eq!((code, &error["code"]), (5, &json!("left_behind")), "{result}");
    assert!(error["message"].as_str().unwrap_or_default().contains("log-group/connect"), "{error}");
    let runs = chatctl.data(&["history"])["runs"].clone();
    assert_eq!(runs[0]["outcome"], "failed", "{runs}");
    assert!(runs[0]["note"].as_str().unwrap_or_default().contains("log-group/connect"), "{runs}");
    // And the next one gets it.
    let deleted = chatctl.data(&["destroy", "--yes"])["deleted"].clone();
    assert_eq!(deleted, json!(["log-group/connect"]));
    assert_eq!(runtime.block_on(account.everything()), ["table chatctl"]);
}

// Below the command line: what depends on the lease itself, with one of a second.

fn scope(stage: &str) -> Scope {
    Scope { app: AppName::parse("chat").expect("a name"), stage: StageName::parse(stage).expect("a name") }
}

fn ledger(chat: &Chat, stage: &str) -> Ledger {
    Ledger::new(Arc::clone(chat.aws()), scope(stage)).with_lease(Duration::from_millis(1_200))
}

fn record(host: &str) -> Record {
    let by = Holder {
        principal: "arn:aws:iam::000000000000:user/test".into(),
        host: host.into(),
        pid: 1,
        verb: "deploy".into(),
        since_ms: 0,
        run: Some("https://ci.example/1".into()),
    };
    Record::begin(by, None, "test")
}

async fn open(ledger: &Ledger, wait: Duration) -> Result<Ticket, Error> {
    ledger.open(&Patience { wait, ..Patience::default() }, &Events::none()).await
}

async fn take(ledger: &Ledger, host: &str) -> Lock {
    let ticket = open(ledger, Duration::ZERO).await.unwrap_or_else(|why| panic!("{host}: {why}"));
    ledger.take(&ticket, &mut record(host)).await.unwrap_or_else(|why| panic!("{host}: {why}"))
}

#[tokio::test]
async fn the_table_is_made_on_first_use_even_by_several_at_once() {
    let chat = Chat::builder().start_empty().await;
    let stages = ["a", "b", "c", "d"].map(|stage| ledger(&chat, stage));

    let locks = futures_util::future::join_all(stages.iter().map(|ledger| take(ledger, "one"))).await;

    assert_eq!(locks.iter().map(|lock| lock.number).collect::<Vec<_>>(), [1, 1, 1, 1]);
    assert_eq!(chat.account.everything().await, ["table chatctl"]);
    chat.stop().await;
}

#[tokio::test]
async fn whoever_changes_nothing_pays_for_one_read() {
    let chat = Chat::builder().start_empty().await;
    let ledger = ledger(&chat, "a");
    let lock = take(&ledger, "first").await;
    lock.finish(&mut record("first"), false).await.expect("it is its own");
    chat.cloud().calls().reset();

    open(&ledger, Duration::ZERO).await.expect("nobody holds it");

    let calls: Vec<_> = chat
        .cloud()
        .calls()
        .all()
        .into_iter()
        .map(|call| format!("{} {}", call.count, call.operation))
        .collect();
    assert_eq!(calls, ["1 Query"]);
    chat.stop().await;
}

#[tokio::test]
async fn of_many_who_saw_it_free_one_gets_the_lock() {
    let chat = Chat::builder().start_empty().await;
    let ledger = ledger(&chat, "a");
    let mut tickets = Vec::new();
    for _ in 0..8 {
        tickets.push(open(&ledger, Duration::ZERO).await.expect("nobody holds it"));
    }

    let takes = tickets.iter().enumerate().map(|(n, ticket)| {
        let ledger = ledger.clone();
        async move { ledger.take(ticket, &mut record(&format!("host-{n}"))).await }
    });
    let (taken, refused): (Vec<_>, Vec<_>) =
        futures_util::future::join_all(takes).await.into_iter().partition(Result::is_ok);

    assert_eq!((taken.len(), refused.len()), (1, 7));
    for error in refused {
        let error = error.expect_err("refused");
        assert!(matches!(error, Error::Locked { .. }), "{error}");
        assert!(error.to_string().contains("https://ci.example/1"), "{error}");
    }
    chat.stop().await;
}

#[tokio::test]
async fn a_ticket_from_before_somebody_elses_change_is_worth_nothing() {
    let chat = Chat::builder().start_empty().await;
    let ledger = ledger(&chat, "a");
    let ticket = open(&ledger, Duration::ZERO).await.expect("nobody holds it");
    let lock = take(&ledger, "faster").await;
    let mut done = record("faster");
    (done.number, done.outcome) = (lock.number, Outcome::Succeeded);
    lock.finish(&mut done, false).await.expect("it is still its own");

    let error = ledger.take(&ticket, &mut record("slower")).await.expect_err("the plan is out of date");

    assert!(matches!(error, Error::Overtaken { .. }) && error.to_string().contains("faster"), "{error}");
    chat.stop().await;
}

#[tokio::test]
async fn a_lease_that_nobody_renews_is_taken_over_when_it_is_over_and_not_before() {
    let chat = Chat::builder().start_empty().await;
    let ledger = ledger(&chat, "a");
    let dead = take(&ledger, "dead").await;
    let began = Instant::now();

    let error = open(&ledger, Duration::ZERO).await.expect_err("it is held");
    assert!(matches!(&error, Error::Locked { remaining_s: 1..=2, .. }), "{error:?}");
    let ticket = open(&ledger, PATIENCE).await.expect("it expires");

    assert!(began.elapsed() >= Duration::from_millis(1_200), "taken over after {:?}", began.elapsed());
    let (from, _) = ticket.died().expect("somebody died");
    assert_eq!(from.host, "dead");
    let next = ledger.take(&ticket, &mut record("next")).await.expect("nobody else wants it");
    assert!(next.number > dead.number);
    // Whoever comes back from the dead cannot give away what is not its own any more.
    let mut late = record("dead");
    late.number = dead.number;
    let error = dead.finish(&mut late, false).await.expect_err("it is lost");
    assert!(matches!(&error, Error::LockLost { to, .. } if to.contains("next")), "{error}");
    let history = ledger.history(10).await.expect("there is a table");
    assert_eq!(
        history.iter().map(|run| run.outcome).collect::<Vec<_>>(),
        [Outcome::Running, Outcome::Interrupted]
    );
    chat.stop().await;
}

#[tokio::test]
async fn a_lease_is_renewed_for_as_long_as_its_holder_works() {
    let chat = Chat::builder().start_empty().await;
    let ledger = ledger(&chat, "a");
    let lock = take(&ledger, "busy").await;

    let (error, lost) = lock
        .hold(&CancellationToken::new(), async |_| {
            // Three leases long somebody waits, in vain.
            open(&ledger, Duration::from_millis(3_600)).await.expect_err("it is held all the time")
        })
        .await;

    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert_eq!(lost, None);
    chat.stop().await;
}

#[tokio::test]
async fn a_holder_whose_lock_was_taken_over_is_told_to_stop() {
    let chat = Chat::builder().start_empty().await;
    let ledger = ledger(&chat, "a");
    let lock = take(&ledger, "old").await;

    let ((), lost) = lock
        .hold(&CancellationToken::new(), async |stop| {
            ledger.unlock(&record("judge").by, "it hangs").await.expect("somebody holds it");
            take(&ledger, "new").await;
            tokio::time::timeout(PATIENCE, stop.cancelled()).await.expect("it is not told");
        })
        .await;

    let lost = lost.expect("it is lost");
    assert!(lost.to.contains("new"), "{lost:?}");
    chat.stop().await;
}

#[tokio::test]
async fn a_holder_that_cannot_renew_stops_before_anybody_else_may_begin() {
    let chat = Chat::builder().start_empty().await;
    let ledger = ledger(&chat, "a");
    let lock = take(&ledger, "cut off").await;
    let refuse = Fault::fail(400, "AccessDeniedException", "not any more");
    chat.cloud().faults().set([Rule::every("dynamodb:UpdateItem", refuse)]);
    let began = Instant::now();

    let ((), lost) = lock
        .hold(&CancellationToken::new(), async |stop| {
            tokio::time::timeout(PATIENCE, stop.cancelled()).await.expect("it goes on");
        })
        .await;

    assert!(lost.is_some_and(|lost| lost.to.contains("no renewal got through")));
    assert!(began.elapsed() < Duration::from_millis(1_200), "after {:?}", began.elapsed());
    chat.stop().await;
}
