//! `chatctl chat`: people and scripts in the terminal, on a cloud that may die meanwhile.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use chat_stacks::Handler;
use chat_tests::tokens::{KID, Signer, claims};
use chat_tests::{Chatctl, Running, Terminal, handlers};
use serde_json::{Value, json};

fn message(client: &mut Running, room: &str, text: &str) -> u64 {
    let event = client.event("message");
    assert_eq!((&event["room"], &event["text"]), (&json!(room), &json!(text)), "{event}");
    event["seq"].as_u64().expect("a number")
}

#[test]
fn people_chat_from_their_terminals() {
    let (chatctl, _) = Chatctl::with_cloud();
    chatctl.data(&["deploy", "--yes"]);
    let mut alice = Running::chat(&chatctl, &["--user", "alice"]);
    alice.say("before anybody came");
    assert_eq!(message(&mut alice, "lobby", "before anybody came"), 1);

    let mut bob = Running::chat(&chatctl, &["--user", "bob", "--follow"]);
    let first = bob.event("message");
    assert_eq!((&first["seq"], &first["old"]), (&json!(1), &json!(true)));
    let here = alice.event("presence");
    assert_eq!((&here["user"], &here["state"]), (&json!("bob"), &json!("online")));
    alice.say("/who");
    assert_eq!(alice.event("who")["users"], json!(["alice", "bob"]));

    alice.say("hi");
    alice.say("/msg bob psst");
    assert_eq!(message(&mut bob, "lobby", "hi"), 2);
    assert_eq!(message(&mut bob, "@alice,bob", "psst"), 1);
    bob.say("/join @alice");
    bob.say("//quit is no wish of mine");
    assert_eq!(message(&mut alice, "lobby", "hi"), 2);
    assert_eq!(message(&mut alice, "@alice,bob", "psst"), 1);
    assert_eq!(message(&mut alice, "@alice,bob", "/quit is no wish of mine"), 2);

    let (code, result) = alice.finish();
    assert_eq!((code, &result["data"]["sent"]), (0, &json!(3)), "{result}");
    assert!(bob.interrupt().success(), "whoever is stopped has not failed");
}

#[test]
fn a_cloud_that_is_killed_loses_and_repeats_nothing() {
    let mut chatctl = Chatctl::default();
    chatctl.build(handlers::binaries());
    let port = chat_tests::process::free_port();
    let pid = chatctl.up(port);
    chatctl.data(&["deploy", "--yes"]);
    let mut alice = Running::chat(&chatctl, &["r", "--user", "alice"]);
    let mut bob = Running::chat(&chatctl, &["r", "--user", "bob"]);
    alice.event("connected");
    bob.event("connected");
    for n in 1..=3 {
        alice.say(&n.to_string());
    }
    // Somewhere in the midst of them.
    assert_eq!(message(&mut bob, "r", "1"), 1);
    chatctl.kill(pid);
    alice.event("disconnected");
    for n in 4..=6 {
        alice.say(&n.to_string());
    }
    chatctl.up(port);
    bob.event("connected");
    alice.event("connected");
    alice.say("7");
    for n in 2..=7 {
        assert_eq!(message(&mut bob, "r", &n.to_string()), n);
    }
    let (code, result) = alice.finish();
    assert_eq!((code, &result["data"]["sent"]), (0, &json!(7)), "{result}");
    let (code, result) = bob.finish();
    assert_eq!((code, &result["data"]["received"]), (0, &json!(7)), "{result}");
}

/// Runs it with this input to its end: code, output, and what it said about it.
fn piped(chatctl: &Chatctl, args: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut command = chatctl.command(&[&["chat"], args].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|why| panic!("{args:?}: {why}"));
    // Whoever is refused reads none of it.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    let done = child.wait_with_output().expect("chatctl is ours");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code().unwrap_or(-1), text(&done.stdout), text(&done.stderr))
}

#[test]
fn a_script_is_answered_in_order_and_goes_on_when_nobody_reads_it() {
    let (chatctl, _) = Chatctl::with_cloud();
    chatctl.data(&["deploy", "--yes"]);

    // All of it is read before the welcome.
    let (code, shown, said) =
        piped(&chatctl, &["asked", "--user", "ci", "-n", "0"], b"one\ntwo\n/history 5\n/who\n");
    assert_eq!(code, 0, "{said}");
    let texts: Vec<&str> =
        shown.lines().filter_map(|line| line.split_once("ci: ")).map(|(_, text)| text).collect();
    assert!(
        texts.ends_with(&["one", "two"]) && texts.len() == 4,
        "both, and once more from the history: {shown}"
    );
    assert!(shown.lines().last().is_some_and(|line| line.contains("ci")), "and who is there: {shown}");

    let mut command = chatctl.command(&["chat", "unread", "--user", "ci"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("chatctl is ours");
    drop(child.stdout.take());
    let input: String = (1..=40).map(|n| format!("{n}\n")).collect();
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads on");
    assert_eq!(child.wait().expect("chatctl is ours").code(), Some(0));
    let (_, shown, _) = piped(&chatctl, &["unread", "--user", "ci", "-n", "100"], b"");
    assert_eq!(shown.lines().count(), 40, "{shown}");

    // A directory is no text.
    let mut command = chatctl.command(&["chat", "unread", "--user", "ci", "-n", "0"]);
    command.stdin(std::fs::File::open("/").expect("it is there"));
    let done = command.output().expect("chatctl is ours");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.code() == Some(1) && said.contains("cannot be read"), "{said}");
}

#[test]
fn a_script_says_something_and_sees_whether_it_arrived() {
    let (chatctl, _) = Chatctl::with_cloud();
    let (code, _, said) = piped(&chatctl, &["--user", "ci"], b"hi\n");
    assert!(code == 1 && said.contains("nothing is deployed"), "{code}: {said}");
    chatctl.data(&["deploy", "--yes"]);

    // The last line needs no end, and what is no text does no harm.
    let (code, shown, said) = piped(&chatctl, &["ops", "--user", "ci"], b"released 1.2\n\n\xff\xfe\nbye");
    assert_eq!(code, 0, "{said}");
    let texts: Vec<&str> =
        shown.lines().filter_map(|line| line.split_once("ci: ")).map(|(_, text)| text).collect();
    assert_eq!(texts, ["released 1.2", "\u{fffd}\u{fffd}", "bye"], "{shown}");

    let long = "x".repeat(4_001);
    let (code, _, said) = piped(&chatctl, &["ops", "--user", "ci"], format!("{long}\nshort\n").as_bytes());
    assert!(code == 1 && said.contains("1 of 2 messages were not sent"), "{code}: {said}");
    let (code, shown, _) = piped(&chatctl, &["ops", "--user", "ci", "-n", "1"], b"");
    assert!(code == 0 && shown.ends_with("ci: short\n") && shown.lines().count() == 1, "{shown}");

    // What it could not do as it was told is not passed over.
    for (input, lost) in [
        (&b"/etc/passwd changed\n"[..], Some("1 of 1")),
        (b"//etc/passwd changed\n", None),
        (b"one\n/leave\ntwo\n/join ops\nthree\n", Some("1 of 3")),
        (b"/join #nowhere\n", Some("1 of 1")),
    ] {
        let (code, _, said) = piped(&chatctl, &["ops", "--user", "ci", "-n", "0"], input);
        match lost {
            Some(lost) => assert!(code == 1 && said.contains(&format!("{lost} messages")), "{code}: {said}"),
            None => assert_eq!(code, 0, "{said}"),
        }
    }
    let (_, shown, _) = piped(&chatctl, &["ops", "--user", "ci", "-n", "3"], b"");
    let texts: Vec<&str> =
        shown.lines().filter_map(|line| line.split_once("ci: ")).map(|(_, text)| text).collect();
    assert_eq!(texts, ["/etc/passwd changed", "one", "three"], "{shown}");

    for (args, code, word) in [
        (&["a b"][..], 2, "cannot be a room"),
        (&["@ci"], 2, "a room of two needs two"),
        (&["--user", "a#b"], 2, "is not an id"),
    ] {
        let all = if args.contains(&"--user") { args.to_vec() } else { [args, &["--user", "ci"]].concat() };
        let (ended, _, said) = piped(&chatctl, &all, b"");
        assert!(ended == code && said.contains(word), "{args:?}: {ended}: {said}");
    }
}

#[test]
fn who_wants_in_where_tokens_are_wanted_needs_one() {
    let (chatctl, _) = Chatctl::with_cloud();
    let settings = chatctl.folder().join("chat.yaml");
    let open = std::fs::read_to_string(&settings).expect("settings");
    let with = |auth: &str| {
        let changed = open.replace("auth: { mode: open }", auth);
        assert_ne!(open, changed);
        std::fs::write(&settings, changed).expect("settings");
        chatctl.data(&["deploy", "--yes"])["verified"].as_str().unwrap_or_default().to_owned()
    };
    let run = |args: &[&str]| {
        let (code, lines) = chatctl.lines(&[&["chat", "--user", "alice"], args].concat());
        let result = lines.last().cloned().unwrap_or(Value::Null);
        (code, result["error"]["code"].as_str().unwrap_or("none").to_owned())
    };

    // With the stage's own key nobody has to care.
    assert!(with("auth: { mode: token }").contains("welcomed"));
    assert_eq!(run(&[]), (0, "none".to_owned()));
    assert_eq!(run(&["--token", "a.b.c"]), (4, "not_let_in".to_owned()));

    let signer = Signer::default();
    let seen = with(&format!("auth: {{ mode: token, public_keys: {{ {KID}: {} }} }}", signer.public()));
    assert!(seen.contains("refused") && seen.contains("connect that was asked"), "{seen}");
    assert_eq!(run(&[]), (4, "token_needed".to_owned()));
    let token = signer.sign(&claims("alice", 60));
    assert_eq!(run(&["--token", &token]), (0, "none".to_owned()));
    let (code, lines) = chatctl.lines(&["chat", "@bob", "--token", &token]);
    assert_eq!((code, &lines[lines.len() - 1]["data"]["user"]), (0, &json!("alice")), "{lines:?}");
    let bobs = signer.sign(&claims("bob", 60));
    assert_eq!(run(&["--token", &bobs]), (2, "not_your_token".to_owned()));
    let mut narrow = claims("alice", 60);
    narrow["rooms"] = json!(["ops"]);
    let narrow = signer.sign(&narrow);
    assert_eq!(run(&["ops", "--token", &narrow]), (0, "none".to_owned()));
    assert_eq!(run(&["lobby", "--token", &narrow]), (4, "not_joined".to_owned()));
}

#[test]
fn a_script_that_nobody_greets_has_failed() {
    let (chatctl, _) = Chatctl::with_cloud();
    chatctl.build(&handlers::broken(Handler::OnMessage));
    chatctl.lines(&["deploy", "--yes", "--no-verify"]);
    for args in [&["ops", "--user", "ci"][..], &["@bob", "--user", "ci", "-n", "0"]] {
        let (code, lines) = chatctl.lines(&[&["chat"], args].concat());
        let result = lines.last().cloned().unwrap_or(Value::Null);
        assert_eq!((code, &result["error"]["code"]), (1, &json!("no_answer")), "{args:?}: {lines:?}");
    }
}

#[test]
fn somebody_who_is_stopped_hears_of_what_was_not_sent() {
    let mut chatctl = Chatctl::default();
    chatctl.build(handlers::binaries());
    let pid = chatctl.up(chat_tests::process::free_port());
    chatctl.data(&["deploy", "--yes"]);
    let mut ci = Running::chat(&chatctl, &["ops", "--user", "ci"]);
    ci.event("connected");
    chatctl.kill(pid);
    ci.event("disconnected");
    ci.say("too late");
    // Once this was read, so was that.
    ci.say("/rooms");
    ci.event("note");
    assert_eq!(ci.interrupt().code(), Some(1));
}

#[test]
fn a_terminal_is_served_whatever_waits() {
    let soon = Duration::from_secs(5);
    let mut chatctl = Chatctl::default();
    chatctl.build(handlers::binaries());
    let pid = chatctl.up(chat_tests::process::free_port());
    chatctl.data(&["deploy", "--yes"]);
    let open = |chatctl: &Chatctl, user: &str| {
        let mut terminal = Terminal::open(chatctl, &["chat", "--user", user]);
        terminal.shows("lobby > ");
        terminal
    };
    let mut alice = open(&chatctl, "alice");
    alice.types("hi\r");
    alice.shows("alice");
    alice.shows(": hi");
    let mut bob = open(&chatctl, "bob");
    let mut carol = open(&chatctl, "carol");
    carol.types("\u{4}");
    assert!(carol.ends_within(soon).success());

    chatctl.kill(pid);
    alice.shows("not connected");
    for n in 0..100 {
        alice.types(&format!("{n}\r"));
    }
    // The others wait.
    for n in 64..100 {
        alice.shows(&format!(": {n} (64 messages wait already"));
    }
    alice.types("/rooms\r");
    alice.shows("lobby");
    alice.types("\u{3}");
    assert!(alice.ends_within(soon).success(), "whoever is stopped has not failed");

    // Also whoever has said goodbye already may be in a hurry.
    bob.shows("not connected");
    bob.types("bye\r/quit\r");
    bob.shows("a message is still to be sent");
    bob.types("what now?\r");
    bob.shows("a message is still to be sent");
    bob.types("\u{3}");
    assert!(bob.ends_within(soon).success());
}
