//! `--engine cloudformation`: under the lock of the stage, written down, verified and taken back like any other deploy.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Instant;

use chat_local::{Fault, Rule};
use chat_stacks::Handler;
use chat_tests::{Chatctl, Client, Hail, Judge, PATIENCE, handlers, lines_of, process};
use serde_json::{Value, json};

const BY_STACK: [&str; 2] = ["--engine", "cloudformation"];

fn with<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &BY_STACK, &["--yes"]].concat()
}

/// Verb, outcome and number of every run, newest first.
fn history(chatctl: &Chatctl) -> Vec<(String, String, u64)> {
    let runs = chatctl.data(&["history"])["runs"].clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let run = |run: &Value| {
        (text(&run["by"]["verb"]), text(&run["outcome"]), run["number"].as_u64().unwrap_or_default())
    };
    runs.as_array().into_iter().flatten().map(run).collect()
}

fn run(verb: &str, outcome: &str, number: u64) -> (String, String, u64) {
    (verb.to_owned(), outcome.to_owned(), number)
}

fn error_of(lines: &[Value]) -> &Value {
    &lines.last().expect("a result")["error"]
}

/// A deploy in the background, once CloudFormation is at work for it.
fn begin(chatctl: &Chatctl) -> Child {
    let mut command = chatctl.command(&[&with(&["deploy"])[..], &["--json"]].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("chatctl starts");
    let deadline = Instant::now() + PATIENCE;
    // The log groups come first in the stack, and the delayed call last.
    while chatctl.data(&["status"])["resources"].as_u64().unwrap_or_default() < 10 {
        assert!(Instant::now() < deadline, "no stack comes: {:?}", history(chatctl));
    }
    child
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stack_is_written_down_and_code_that_does_not_run_is_taken_back() {
    let (chatctl, _) = Chatctl::with_cloud();
    let data = chatctl.data(&with(&["deploy"]));
    assert!(data["verified"].as_str().unwrap_or_default().contains("welcomed as chatctl-verify-"), "{data}");
    assert_eq!(chatctl.data(&with(&["deploy"]))["changed"], false);
    assert_eq!(history(&chatctl), [run("deploy", "succeeded", 1)], "nothing to do is no run");
    let first = chatctl.data(&["history"])["runs"][0].clone();
    assert!(first["changes"]["create"].as_u64() > Some(30) && first["verified"].is_string(), "{first}");
    let url = data["outputs"]["websocket_url"].as_str().expect("an address");
    let hail = Hail::user("alice");
    let mut alice = Client::connect(url, Arc::new(Judge::of_project()), &hail).await.expect("it is let in");
    alice.hello(&[]).await;
    alice.join("r").await;
    let code = |chatctl: &Chatctl| chatctl.data(&["status"])["functions"].clone();
    let served = code(&chatctl);

    chatctl.build(&handlers::broken(Handler::OnMessage));
    let (exit, lines) = chatctl.lines(&with(&["deploy"]));

    let error = error_of(&lines);
    assert_eq!((exit, &error["code"]), (7, &json!("unverified")), "{lines:?}");
    assert!(error["help"].as_str().unwrap_or_default().contains("the stack of before"), "{error}");
    assert!(error["details"].as_str().unwrap_or_default().contains("on_message: "), "{error}");
    alice.send("r", "still here").await;
    let back = chatctl.data(&["history"])["runs"][0].clone();
    assert_eq!((&back["outcome"], &back["changes"]["update"]), (&json!("rolled_back"), &json!(2)), "{back}");
    // The same code as before, published once more.
    let versions = |of: &Value| {
        let all = of.as_array().cloned().unwrap_or_default().into_iter();
        all.map(|function| (function["handler"].to_string(), function["version"].clone()))
            .collect::<BTreeMap<_, _>>()
    };
    let (before, after) = (versions(&served), versions(&code(&chatctl)));
    assert_eq!(before["\"connect\""], after["\"connect\""]);
    assert_eq!((&before["\"on_message\""], &after["\"on_message\""]), (&json!("1"), &json!("3")));
    assert_eq!(back["after"]["versions"]["on_message"], "3", "{back}");
    chatctl.build(handlers::binaries());
    assert_eq!(chatctl.data(&with(&["deploy"]))["changed"], false, "what was restored is what is declared");

    // Who wants to look at it keeps it.
    chatctl.build(&handlers::broken(Handler::OnMessage));
    let (exit, lines) = chatctl.lines(&[&with(&["deploy"])[..], &["--no-rollback"]].concat());
    let help = error_of(&lines)["help"].as_str().unwrap_or_default().to_owned();
    assert!(exit == 7 && help.contains("--no-rollback"), "{lines:?}");
    chatctl.build(handlers::binaries());
    assert!(chatctl.data(&with(&["deploy"]))["verified"].is_string());
    alice.send("r", "and again").await;
    alice.close().await;

    chatctl.data(&with(&["destroy"]));
    let told = [
        run("destroy", "succeeded", 5),
        run("deploy", "succeeded", 4),
        run("deploy", "failed", 3),
        run("deploy", "rolled_back", 2),
        run("deploy", "succeeded", 1),
    ];
    assert_eq!(history(&chatctl), told);
    // Gone, and so is the lock.
    assert_eq!(chatctl.data(&with(&["destroy"]))["deleted"], json!([]));
    assert_eq!(history(&chatctl), told);
}

#[test]
fn a_first_stack_that_does_not_answer_stays_to_be_looked_at() {
    let chatctl = Chatctl::default();
    chatctl.build(&handlers::broken(Handler::Connect));
    chatctl.cloud();
    let (exit, lines) = chatctl.lines(&with(&["deploy"]));
    let error = error_of(&lines);
    assert_eq!((exit, &error["code"]), (7, &json!("unverified")), "{lines:?}");
    assert!(error["help"].as_str().unwrap_or_default().contains("nothing served before"), "{error}");
    assert_eq!(history(&chatctl), [run("deploy", "failed", 1)]);
}

#[test]
fn whoever_comes_second_is_told_and_a_stack_whose_deploy_was_killed_is_waited_for() {
    let (chatctl, endpoint) = Chatctl::with_cloud();
    let slow = Rule::nth("apigateway:CreateDeployment", 1, Fault::Delay { ms: 6_000 });
    chatctl.faults(&endpoint, &[slow]);
    let mut first = begin(&chatctl);
    for second in [with(&["deploy"]), with(&["destroy"]), vec!["destroy", "--yes"]] {
        let (exit, lines) = chatctl.lines(&second);
        assert_eq!((exit, &error_of(&lines)["code"]), (4, &json!("locked")), "{second:?}: {lines:?}");
    }

    first.kill().expect("it runs");
    first.wait().expect("it ends");

    // CloudFormation goes on without it, so there is nothing to change yet.
    let (exit, lines) = chatctl.lines(&with(&["deploy"]));
    let error = error_of(&lines);
    assert_eq!((exit, &error["code"]), (4, &json!("stack_busy")), "{lines:?}");
    assert!(error["help"].as_str().unwrap_or_default().contains("--lock-timeout"), "{error}");
    let (exit, lines) = chatctl.lines(&[&with(&["deploy"])[..], &["--lock-timeout", "60"]].concat());
    let data = &lines.last().expect("a result")["data"];
    assert_eq!((exit, &data["changed"]), (0, &json!(false)), "{lines:?}");
    let told = lines.iter().filter(|line| line["code"] == "stack_busy").count();
    assert_eq!(told, 1, "whoever waits is told for what, and once: {lines:?}");
    // Whoever next has something to do closes the record of the run that died.
    chatctl.data(&with(&["destroy"]));
    assert_eq!(history(&chatctl), [run("destroy", "succeeded", 2), run("deploy", "interrupted", 1)]);
}

#[test]
fn who_stops_watching_leaves_it_to_cloudformation_and_says_so() {
    let (chatctl, endpoint) = Chatctl::with_cloud();
    let slow = Rule::nth("apigateway:CreateDeployment", 1, Fault::Delay { ms: 3_000 });
    chatctl.faults(&endpoint, &[slow]);
    let first = begin(&chatctl);
    process::signal(first.id(), rustix::process::Signal::INT);
    let (exit, lines) = lines_of(first.wait_with_output().expect("it ends"));
    assert_eq!((exit, &error_of(&lines)["code"]), (130, &json!("interrupted")), "{lines:?}");
    assert_eq!(history(&chatctl), [run("deploy", "interrupted", 1)]);
    // The lock is free, and the stack gets there by itself.
    let again = [&with(&["deploy"])[..], &["--lock-timeout", "60"]].concat();
    assert_eq!(chatctl.data(&again)["changed"], false);
}

#[test]
fn who_may_use_cloudformation_alone_goes_without_lock_and_history() {
    let (chatctl, endpoint) = Chatctl::with_cloud();
    let denied = Fault::fail(400, "AccessDeniedException", "not authorized to perform: dynamodb:Query");
    chatctl.faults(&endpoint, &[Rule::nth("dynamodb:Query", 1, denied)]);
    let (exit, lines) = chatctl.lines(&with(&["deploy"]));
    let help = error_of(&lines)["help"].as_str().unwrap_or_default().to_owned();
    assert!(exit == 1 && help.contains("--no-ledger") && help.contains("`chatctl`"), "{lines:?}");

    let alone = |verb| [&with(&[verb])[..], &["--no-ledger"]].concat();
    assert!(chatctl.data(&alone("deploy"))["verified"].is_string());
    assert_eq!(history(&chatctl), []);
    assert!(chatctl.data(&alone("destroy"))["deleted"].as_array().is_some_and(|all| all.len() > 30));
    assert_eq!(history(&chatctl), []);
    // Calls of our own are kept apart by the lock alone.
    for verb in ["deploy", "destroy"] {
        let (exit, lines) = chatctl.lines(&[verb, "--no-ledger", "--yes"]);
        assert_eq!((exit, &error_of(&lines)["code"]), (2, &json!("ledger_needed")), "{lines:?}");
    }
}

/// Runs a verb that must be refused, and returns its error.
fn refused(chatctl: &Chatctl, args: &[&str]) -> Value {
    let done = chatctl.run(&[args, &["--json"]].concat());
    let text = String::from_utf8_lossy(&done.stdout);
    assert_eq!(done.status.code(), Some(4), "{args:?}: {text}");
    let result = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["ok"] == false);
    result.unwrap_or_else(|| panic!("{text}"))["error"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_engine_refuses_what_the_other_one_owns() {
    let chatctl = Chatctl::default();
    chatctl.data(&["local", "up", "--detach", "--port", "0"]);
    let by_stack = ["--engine", "cloudformation"];
    let with = |args: &[&'static str]| [args, &by_stack].concat();
    let folder = chatctl.state();
    let folder = folder.parent().unwrap_or(Path::new(".")).to_string_lossy().into_owned();
    // The same sources give the same text, and no cloud is asked.
    let template = chatctl.data(&["synth"])["template"].clone();
    assert_eq!(chatctl.data(&["synth"])["template"], template);

    chatctl.data(&["deploy", "--yes"]);
    let error = refused(&chatctl, &with(&["deploy", "--yes"]));
    assert_eq!(error["code"], "other_engine", "{error}");
    assert!(error["help"].as_str().is_some_and(|help| help.contains("chatctl eject")), "{error}");
    let error = refused(&chatctl, &with(&["destroy", "--yes"]));
    assert_eq!(error["code"], "other_engine", "{error}");

    let written = chatctl.data(&["eject", "--out", &folder]);
    assert_eq!(written["executed"], false);
    let list = std::fs::read_to_string(written["resources"].as_str().unwrap_or_default()).expect("the list");
    let list: Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(
        list.as_array().map(Vec::len),
        written["imported"].as_u64().map(|n| usize::try_from(n).unwrap_or(0))
    );
    chatctl.data(&["eject", "--execute", "--yes", "--out", &folder]);

    for args in [
        ["plan", "--yes"],
        ["deploy", "--yes"],
        ["destroy", "--yes"],
        ["rollback", "--yes"],
        ["drift", "--yes"],
    ] {
        let error = refused(&chatctl, &args);
        assert_eq!(error["code"], "other_engine", "{args:?}: {error}");
    }
    let error = refused(&chatctl, &["deploy", "--only-code", "--yes"]);
    assert_eq!(error["code"], "other_engine", "{error}");
    assert_eq!(chatctl.data(&with(&["deploy", "--yes"]))["changed"], false);
    let deleted = chatctl.data(&with(&["destroy", "--yes"]))["deleted"].clone();
    assert!(deleted.as_array().is_some_and(|deleted| deleted.len() > 30), "{deleted}");
    assert_eq!(chatctl.data(&["status"])["resources"], 0);
}
