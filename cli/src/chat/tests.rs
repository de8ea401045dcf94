//! What a client says and shows, whatever the server does.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::session::{Event, Presence, Session, Step};
use super::user;

/// A client, its clock, and everything that it has said and shown.
struct Client {
    session: Session,
    now: Instant,
    said: Vec<Value>,
    shown: Vec<Event>,
    redials: usize,
}

impl Client {
    fn new(backlog: u64) -> Self {
        let session = Session::new("alice", backlog, "p");
        Self { session, now: Instant::now(), said: Vec::new(), shown: Vec::new(), redials: 0 }
    }

    /// One that is online and in the room `r`, which has two messages.
    fn in_room() -> Self {
        let mut client = Self::new(20);
        client.wish(|session, now| session.enter("r", now));
        client.connect(json!([]));
        client.answer("join", json!({ "type": "ack", "room": "r" }));
        client.answer("history", batch(1..=2, 2, false));
        client.forget();
        client
    }

    fn wish(&mut self, wish: impl FnOnce(&mut Session, Instant) -> Vec<Step>) {
        let steps = wish(&mut self.session, self.now);
        self.note(steps);
    }

    fn note(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Send(frame) => self.said.push(frame),
                Step::Show(event) => self.shown.push(event),
                Step::Redial(_) => self.redials += 1,
            }
        }
    }

    fn hear(&mut self, frame: &Value) {
        let text = frame.to_string();
        self.wish(|session, now| session.received(&text, now));
    }

    /// Answers the last question of this kind.
    fn answer(&mut self, action: &str, mut answer: Value) {
        let asked = self.said.iter().rfind(|frame| frame["action"] == action);
        answer["id"] = asked.unwrap_or_else(|| panic!("no {action} in {:?}", self.said))["id"].clone();
        self.hear(&answer);
    }

    fn connect(&mut self, rooms: Value) {
        self.wish(Session::opened);
        self.answer("hello", json!({ "type": "welcome", "user": "alice", "rooms": rooms, "direct": [] }));
    }

    /// Lets time pass, with whatever is due in it.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.session.next_due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.wish(Session::tick);
        }
        self.now = end;
    }

    fn forget(&mut self) {
        self.said.clear();
        self.shown.clear();
    }

    fn actions(&self) -> Vec<&str> {
        self.said.iter().filter_map(|frame| frame["action"].as_str()).collect()
    }

    /// Numbers of the messages that were shown.
    fn numbers(&self) -> Vec<u64> {
        let number = |event: &Event| match event {
            Event::Message { seq, .. } => Some(*seq),
            _ => None,
        };
        self.shown.iter().filter_map(number).collect()
    }
}

fn message(seq: u64) -> Value {
    json!({
        "type": "message", "room": "r", "seq": seq, "from": "bob", "mid": format!("m{seq}"), "ts": seq,
        "body": { "text": format!("number {seq}") },
    })
}

fn batch(seqs: impl IntoIterator<Item = u64>, upto: u64, more: bool) -> Value {
    let items: Vec<Value> = seqs.into_iter().map(message).collect();
    json!({ "type": "batch", "room": "r", "items": items, "upto": upto, "more": more })
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_room_begins_with_what_was_said_there_and_goes_on() {
    let mut client = Client::new(20);
    client.wish(|session, now| session.enter("r", now));
    client.wish(|session, now| session.say("r", "hi", now));
    assert!(client.said.is_empty(), "nobody is there to hear it");
    client.connect(json!([]));
    assert_eq!(client.actions(), ["hello", "join"]);
    client.answer("join", json!({ "type": "ack", "room": "r" }));
    // Said while the beginning is under way.
    client.hear(&message(8));
    client.answer("history", batch(5..=7, 7, true));
    assert_eq!(client.numbers(), [5, 6, 7, 8]);
    let old = |event: &Event| matches!(event, Event::Message { old: true, .. });
    assert_eq!(client.shown.iter().filter(|event| old(event)).count(), 3);
    assert_eq!(client.actions(), ["hello", "join", "history", "send"], "it is in the room before it speaks");
    client.answer("send", json!({ "type": "ack", "room": "r", "seq": 9, "ts": 9, "dup": false }));
    assert!(client.session.is_idle());
    assert_eq!(client.session.sent, 1);
}

#[test]
fn without_a_backlog_only_what_comes_is_shown() {
    let mut client = Client::new(0);
    client.wish(|session, now| session.enter("r", now));
    client.connect(json!([]));
    client.answer("join", json!({ "type": "ack", "room": "r" }));
    client.answer("history", batch([7], 7, true));
    client.hear(&message(8));
    assert_eq!(client.numbers(), [8]);
}

#[test]
fn a_gap_that_closes_by_itself_asks_nobody() {
    let mut client = Client::in_room();
    client.hear(&message(4));
    client.hear(&message(4));
    assert!(client.numbers().is_empty());
    client.wait(SECOND / 10);
    client.hear(&message(3));
    client.wait(SECOND);
    assert_eq!(client.numbers(), [3, 4]);
    client.forget();
    client.hear(&message(5));
    client.hear(&message(4));
    assert_eq!(client.numbers(), [5], "once each");
}

#[test]
fn a_gap_is_filled_from_the_history() {
    let mut client = Client::in_room();
    client.hear(&message(5));
    client.wait(SECOND / 2);
    assert_eq!(client.said[0]["after"], 2);
    client.answer("history", batch(3..=5, 5, false));
    assert_eq!(client.numbers(), [3, 4, 5]);
    client.hear(&message(6));
    assert_eq!(client.actions(), ["history"]);
}

#[test]
fn what_never_comes_is_passed_over_and_said_so() {
    let mut client = Client::in_room();
    client.hear(&message(5));
    for look in 1..=4 {
        client.wait(3 * SECOND);
        assert_eq!(client.said.len(), look, "{:?}", client.said);
        client.answer("history", batch([], 2, false));
    }
    assert!(client.shown.contains(&Event::Gap { room: "r".into(), from: 3, to: 4 }), "{:?}", client.shown);
    assert_eq!(client.numbers(), [5]);
    client.hear(&message(6));
    assert_eq!(client.numbers(), [5, 6], "it goes on after it");
}

#[test]
fn a_lost_connection_loses_and_repeats_nothing() {
    let mut client = Client::in_room();
    client.wish(|session, now| session.say("r", "one", now));
    client.wish(|session, now| session.say("r", "two", now));
    let first = client.said[0].clone();
    assert_eq!(client.actions(), ["send"], "one at a time");
    client.session.closed();
    client.wish(|session, now| session.say("r", "three", now));
    client.wait(20 * SECOND);
    assert_eq!(client.said.len(), 1, "nobody is there to hear it");

    client.forget();
    client.connect(json!([{ "room": "r", "head": 4 }]));
    assert_eq!(client.said[0]["resume"], json!([{ "room": "r", "seq": 2 }]));
    assert_eq!(client.said[1], first, "under the same id");
    client.hear(&batch(3..=4, 4, false));
    client.answer("send", json!({ "type": "ack", "room": "r", "seq": 4, "ts": 1, "dup": true }));
    client.answer("send", json!({ "type": "ack", "room": "r", "seq": 5, "ts": 1, "dup": false }));
    client.answer("send", json!({ "type": "ack", "room": "r", "seq": 6, "ts": 1, "dup": false }));
    client.hear(&message(6));
    client.hear(&message(5));
    assert_eq!(client.numbers(), [3, 4, 5, 6]);
    let texts: Vec<&Value> = client.said[1..].iter().map(|frame| &frame["body"]["text"]).collect();
    assert_eq!(texts, ["one", "two", "three"]);
    assert!(client.session.is_idle());

    // What was stored in the moment of resuming may come neither way.
    client.wait(SECOND);
    assert_eq!(client.said.last().unwrap()["after"], 6);
    client.answer("history", batch([7], 7, false));
    assert_eq!(client.numbers(), [3, 4, 5, 6, 7]);
}

#[test]
fn a_connection_that_is_lost_while_a_room_begins_joins_it_again() {
    for backlog in [0, 20] {
        let mut client = Client::new(backlog);
        client.wish(|session, now| session.enter("r", now));
        client.connect(json!([]));
        client.answer("join", json!({ "type": "ack", "room": "r" }));
        assert_eq!(client.actions().last(), Some(&"history"));
        client.session.closed();
        client.forget();
        client.connect(json!([]));
        assert_eq!(client.actions(), ["hello", "join"]);
        client.answer("join", json!({ "type": "ack", "room": "r" }));
        client.answer("history", batch([1], 1, false));
        client.hear(&message(2));
        assert_eq!(client.numbers().last(), Some(&2));
    }
}

#[test]
fn much_that_was_missed_is_fetched_and_too_much_is_passed_over() {
    let mut client = Client::in_room();
    client.session.closed();
    client.connect(json!([{ "room": "r", "head": 250 }]));
    client.hear(&batch(3..=102, 102, true));
    client.answer("history", batch(103..=202, 202, true));
    client.answer("history", batch(203..=250, 250, false));
    assert_eq!(client.numbers(), (3..=250).collect::<Vec<_>>());

    client.session.closed();
    client.forget();
    client.connect(json!([{ "room": "r", "head": 9_000 }]));
    client.hear(&batch(251..=350, 350, true));
    assert!(
        client.shown.contains(&Event::Gap { room: "r".into(), from: 351, to: 8_900 }),
        "{:?}",
        client.shown
    );
    client.answer("history", batch(8_901..=9_000, 9_000, false));
    assert_eq!(client.numbers().last(), Some(&9_000));
}

#[test]
fn a_room_that_begins_anew_is_followed() {
    let mut client = Client::in_room();
    client.session.closed();
    client.connect(json!([{ "room": "r", "head": 0 }]));
    client.wait(2 * SECOND);
    client.answer("history", batch([1], 1, false));
    assert!(client.shown.contains(&Event::BeganAnew { room: "r".into() }), "{:?}", client.shown);
    client.answer("history", batch([1], 1, false));
    assert_eq!(client.numbers(), [1]);
}

#[test]
fn a_read_that_came_too_early_is_no_new_beginning() {
    let mut client = Client::in_room();
    client.session.closed();
    client.connect(json!([{ "room": "r", "head": 1 }]));
    client.wait(2 * SECOND);
    client.answer("history", batch([2], 2, true));
    client.hear(&message(3));
    assert_eq!(client.numbers(), [3]);
}

#[test]
fn refusals_that_pass_are_waited_for() {
    let mut client = Client::in_room();
    client.wish(|session, now| session.say("r", "fast", now));
    let refusal = json!({
        "type": "error", "code": "RATE_LIMITED", "message": "slowly", "retry": true, "retry_ms": 5_000,
    });
    for attempt in 1..20 {
        client.answer("send", refusal.clone());
        client.wait(4 * SECOND);
        assert_eq!(client.said.len(), attempt, "not before it may succeed");
        client.wait(2 * SECOND);
        assert_eq!(client.said.len(), attempt + 1);
    }
    client.answer("send", json!({ "type": "ack", "room": "r", "seq": 3, "ts": 1, "dup": false }));
    assert_eq!((client.session.sent, client.session.not_sent), (1, 0));
}

#[test]
fn refusals_that_stay_are_shown_and_the_next_message_goes_out() {
    let mut client = Client::in_room();
    client.wish(|session, now| session.say("r", "one", now));
    client.wish(|session, now| session.say("r", "two", now));
    client
        .answer("send", json!({ "type": "error", "code": "FORBIDDEN", "message": "banned", "retry": false }));
    let told = |event: &Event| matches!(event, Event::NotSent { text, code, .. } if text == "one" && code == "FORBIDDEN");
    assert!(client.shown.iter().any(told), "{:?}", client.shown);
    assert_eq!(client.said.last().unwrap()["body"]["text"], "two");

    // A server that never gets it done.
    for _ in 0..=10 {
        client
            .answer("send", json!({ "type": "error", "code": "CONFLICT", "message": "lost", "retry": true }));
        client.wait(9 * SECOND);
    }
    assert_eq!(client.session.not_sent, 2);
    assert!(client.session.is_idle());
}

#[test]
fn what_is_too_long_is_not_even_sent() {
    let mut client = Client::in_room();
    for text in ["ä".repeat(4_001), "\u{1}".repeat(4_000)] {
        client.wish(|session, now| session.say("r", &text, now));
    }
    assert_eq!((client.said.len(), client.session.not_sent), (0, 2));
    client.wish(|session, now| session.say("r", &"ä".repeat(4_000), now));
    assert_eq!(client.said.len(), 1);
}

#[test]
fn the_gateways_own_error_is_no_answer() {
    let mut client = Client::in_room();
    client.wish(|session, now| session.say("r", "hi", now));
    let first = client.said[0].clone();
    client.hear(&json!({ "message": "Internal server error", "connectionId": "c", "requestId": "r" }));
    client.wait(SECOND);
    assert_eq!(client.said[1..], [first]);
}

#[test]
fn a_connection_that_says_nothing_is_given_up() {
    let mut client = Client::in_room();
    client.wait(Duration::from_secs(121));
    assert_eq!(client.actions(), ["ping"]);
    client.hear(&json!({ "type": "pong" }));
    client.wait(Duration::from_secs(119));
    assert_eq!(client.redials, 0);
    client.wait(Duration::from_secs(12));
    assert_eq!(client.redials, 1, "the second ping was not answered");

    let mut client = Client::new(20);
    client.wish(Session::opened);
    client.wait(11 * SECOND);
    assert_eq!(client.redials, 1, "hello was not answered");
}

#[test]
fn coming_back_within_the_grace_is_not_shown() {
    let mut client = Client::in_room();
    let presence = |state: &str, user: &str| json!({ "type": "presence", "room": "r", "user": user, "state": state, "grace_ms": 25_000 });
    client.hear(&presence("online", "bob"));
    client.hear(&presence("offline", "bob"));
    client.wait(20 * SECOND);
    client.hear(&presence("online", "bob"));
    client.wait(60 * SECOND);
    client.hear(&presence("offline", "bob"));
    client.hear(&presence("offline", "alice"));
    client.wait(26 * SECOND);
    let presence = |state| Event::Presence { room: "r".into(), user: "bob".into(), state };
    assert_eq!(client.shown, [presence(Presence::Online), presence(Presence::Offline)]);
}

#[test]
fn somebody_who_writes_first_opens_the_room_of_two() {
    let direct = |seq: u64| {
        let mut message = message(seq);
        message["room"] = json!("@alice,bob");
        message
    };
    let mut client = Client::in_room();
    client.hear(&direct(4));
    assert_eq!(client.said[0]["room"], "@alice,bob");
    let items = [direct(3), direct(4)];
    client.answer(
        "history",
        json!({ "type": "batch", "room": "@alice,bob", "items": items, "upto": 4, "more": false }),
    );
    assert_eq!(client.numbers(), [3, 4]);

    // Nobody else's.
    client.forget();
    let mut foreign = message(1);
    foreign["room"] = json!("@bob,carol");
    client.hear(&foreign);
    let mut unknown = message(1);
    unknown["room"] = json!("elsewhere");
    client.hear(&unknown);
    assert!(client.said.is_empty() && client.shown.is_empty(), "{:?}", client.shown);
}

#[test]
fn rooms_of_two_that_were_there_before_are_named_and_watched() {
    let mut client = Client::new(20);
    client.wish(Session::opened);
    let welcome = json!({ "type": "welcome", "user": "alice", "rooms": [], "direct": ["@alice,bob"] });
    client.answer("hello", welcome.clone());
    assert!(client.shown.contains(&Event::Direct { rooms: vec!["@alice,bob".into()] }));
    client.answer(
        "history",
        json!({ "type": "batch", "room": "@alice,bob", "items": [], "upto": 7, "more": true }),
    );
    client.session.closed();
    client.forget();
    client.wish(Session::opened);
    assert_eq!(client.said[0]["resume"], json!([{ "room": "@alice,bob", "seq": 7 }]));
}

#[test]
fn a_room_that_may_not_be_joined_is_not_tried_again() {
    let mut client = Client::new(20);
    client.wish(|session, now| session.enter("r", now));
    client.connect(json!([]));
    client.answer("join", json!({ "type": "error", "code": "FORBIDDEN", "message": "no", "retry": false }));
    assert!(matches!(client.shown.last(), Some(Event::Refused { code, .. }) if code == "FORBIDDEN"));
    assert_eq!(client.session.current(), None);
    client.session.closed();
    client.forget();
    client.connect(json!([]));
    assert_eq!(client.actions(), ["hello"]);
}

#[test]
fn whoever_left_hears_nothing_more_of_it() {
    let mut client = Client::in_room();
    client.hear(&message(4));
    client.wish(|session, now| session.leave("r", now));
    client.hear(&message(5));
    client.wait(5 * SECOND);
    assert!(client.numbers().is_empty());
    assert_eq!(client.actions()[0], "leave");
    client.wish(|session, now| session.leave("r", now));
    assert_eq!(client.shown, [Event::Left { room: "r".into() }]);
}

#[test]
fn whatever_comes_does_no_harm() {
    let mut client = Client::in_room();
    for text in [
        "",
        "{",
        "[]",
        "7",
        "null",
        r#"{"type":7}"#,
        r#"{"type":"message"}"#,
        r#"{"type":"message","room":"r"}"#,
        r#"{"type":"batch","room":"r","items":7}"#,
        r#"{"type":"batch","room":"r","items":[{}],"more":true}"#,
        r#"{"type":"welcome","id":"p-1"}"#,
        r#"{"type":"ack","id":"nobody"}"#,
        r#"{"type":"presence","room":"r"}"#,
        r#"{"type":"message","room":"r","seq":18446744073709551615,"from":"b","ts":18446744073709551615,"body":7}"#,
    ] {
        client.wish(|session, now| session.received(text, now));
        client.wait(SECOND);
    }
    client.hear(&message(3));
    assert_eq!(client.numbers(), [3]);
}

/// Unsigned, with these claims: {"sub":"bob"}, {"sub":"not an id"}.
const BOB: &str = "e30.eyJzdWIiOiJib2IifQ.x";
const NOBODY: &str = "e30.eyJzdWIiOiJub3QgYW4gaWQifQ.x";

#[test]
fn one_is_whom_the_token_names() {
    let login = || Some("login".to_owned());
    for (named, token, who) in [
        (None, None, "login"),
        (None, Some(BOB), "bob"),
        (Some("bob"), Some(BOB), "bob"),
        (Some("alice"), None, "alice"),
        // What these are worth is for the stage to say.
        (Some("alice"), Some("a.b.c"), "alice"),
        (Some("alice"), Some(NOBODY), "alice"),
    ] {
        assert_eq!(user(named, token, login()).unwrap(), who, "{named:?} {token:?}");
    }
    let refused = user(Some("alice"), Some(BOB), login()).unwrap_err();
    assert!(refused.to_string().contains("bob's, not alice's"), "{refused}");
}

fn direct(seq: u64) -> Value {
    let mut message = message(seq);
    message["room"] = json!("@alice,bob");
    message
}

fn direct_batch(seqs: impl IntoIterator<Item = u64>, upto: u64) -> Value {
    let items: Vec<Value> = seqs.into_iter().map(direct).collect();
    json!({ "type": "batch", "room": "@alice,bob", "items": items, "upto": upto, "more": false })
}

fn ack(seq: u64) -> Value {
    json!({ "type": "ack", "room": "r", "seq": seq, "ts": seq, "dup": false })
}

#[test]
fn without_a_backlog_a_first_message_is_shown_all_the_same() {
    let mut client = Client::new(0);
    client.connect(json!([]));
    client.hear(&direct(1));
    client.answer("history", direct_batch([1], 1));
    assert_eq!(client.numbers(), [1]);

    // The history may know of it as well as of what came after it.
    let mut client = Client::new(0);
    client.wish(|session, now| session.enter("r", now));
    client.connect(json!([]));
    client.answer("join", json!({ "type": "ack", "room": "r" }));
    client.hear(&message(8));
    client.answer("history", batch([9], 9, true));
    client.hear(&message(9));
    assert_eq!(client.numbers(), [8, 9]);
}

#[test]
fn more_than_the_backlog_while_a_room_begins_is_shown_whole() {
    let mut client = Client::new(1);
    client.wish(|session, now| session.enter("r", now));
    client.connect(json!([]));
    client.answer("join", json!({ "type": "ack", "room": "r" }));
    client.hear(&message(8));
    client.hear(&message(9));
    client.answer("history", batch([9], 9, true));
    assert_eq!(client.numbers(), [8, 9]);
}

#[test]
fn what_opens_a_room_of_two_is_not_old() {
    let mut client = Client::in_room();
    client.hear(&direct(2));
    client.answer("history", direct_batch(1..=2, 2));
    let old = client.shown.iter().filter_map(|event| match event {
        Event::Message { seq, old, .. } => Some((*seq, *old)),
        _ => None,
    });
    assert_eq!(old.collect::<Vec<_>>(), [(1, true), (2, false)]);
}

#[test]
fn rooms_of_two_that_came_to_be_while_away_are_shown_from_their_beginning() {
    for backlog in [0, 20] {
        let mut client = Client::new(backlog);
        client.connect(json!([]));
        client.session.closed();
        client.forget();
        client.wish(Session::opened);
        let welcome = json!({ "type": "welcome", "user": "alice", "rooms": [], "direct": ["@alice,bob"] });
        client.answer("hello", welcome);
        assert_eq!(client.said.last().unwrap()["after"], 0);
        client.answer("history", direct_batch(1..=2, 2));
        assert_eq!(client.numbers(), [1, 2]);
    }
}

#[test]
fn a_room_whose_end_cannot_be_found_holds_nothing_up() {
    let mut client = Client::new(20);
    client.wish(Session::opened);
    let welcome = json!({ "type": "welcome", "user": "alice", "rooms": [], "direct": ["@alice,bob"] });
    client.answer("hello", welcome);
    client.wish(|session, now| session.say("@alice,bob", "hi", now));
    client.answer("history", json!({ "type": "error", "code": "INTERNAL", "message": "no", "retry": false }));
    assert!(
        matches!(client.shown.last(), Some(Event::Refused { action, .. }) if action == "history"),
        "{:?}",
        client.shown
    );
    assert_eq!(client.actions().last(), Some(&"send"));
}

#[test]
fn rooms_of_two_whose_end_was_not_found_yet_are_not_shown_after_a_lost_connection() {
    let welcome = json!({ "type": "welcome", "user": "alice", "rooms": [], "direct": ["@alice,bob"] });
    let mut client = Client::new(20);
    client.wish(Session::opened);
    client.answer("hello", welcome.clone());
    client.session.closed();
    client.forget();
    client.wish(Session::opened);
    client.answer("hello", welcome);
    assert_eq!(client.actions(), ["hello", "history"]);
    client.answer("history", direct_batch([7], 7));
    assert!(client.numbers().is_empty());
}

#[test]
fn nobody_is_done_before_the_welcome_and_the_beginning() {
    for backlog in [0, 20] {
        for room in ["r", "@alice,bob"] {
            let mut client = Client::new(backlog);
            assert!(!client.session.is_idle());
            client.wish(|session, now| session.enter(room, now));
            client.connect(json!([]));
            assert!(!client.session.is_idle(), "{room}");
            if room == "r" {
                client.answer("join", json!({ "type": "ack", "room": "r" }));
            }
            assert!(!client.session.is_idle(), "{room}");
            client.answer(
                "history",
                json!({ "type": "batch", "room": room, "items": [], "upto": 0, "more": false }),
            );
            assert!(client.session.is_idle(), "{room}");
        }
    }
}

#[test]
fn a_question_finds_out_about_a_dead_connection_and_is_not_given_up_for_it() {
    let mut client = Client::in_room();
    client.wish(|session, now| session.say("r", "hi", now));
    for redials in 1..=20 {
        for _ in 0..20 {
            client.wait(if client.redials < redials { SECOND } else { Duration::ZERO });
        }
        assert_eq!(client.redials, redials, "{:?}", client.actions());
        client.session.closed();
        client.connect(json!([{ "room": "r", "head": 2 }]));
    }
    assert_eq!((client.session.waiting(), client.session.not_sent), (1, 0));
}

#[test]
fn a_question_that_a_living_connection_does_not_answer_is_given_up() {
    let mut client = Client::in_room();
    client.wish(|session, now| session.say("r", "hi", now));
    for _ in 0..12 {
        client.wait(10 * SECOND);
        client.hear(&json!({ "type": "pong" }));
    }
    assert_eq!((client.session.waiting(), client.session.not_sent, client.redials), (0, 1, 0));
}

#[test]
fn what_waits_has_an_end() {
    let mut client = Client::new(20);
    client.wish(|session, now| session.enter("r", now));
    for n in 0..70 {
        client.wish(|session, now| session.say("r", &n.to_string(), now));
    }
    assert_eq!((client.session.waiting(), client.session.not_sent), (64, 6));
    let told = |event: &Event| matches!(event, Event::NotSent { code, .. } if code == "TOO_MANY");
    assert_eq!(client.shown.iter().filter(|event| told(event)).count(), 6);
}

#[test]
fn nothing_is_asked_before_the_last_of_many_welcomes() {
    let mut client = Client::new(0);
    let rooms: Vec<String> = (0..30).map(|n| format!("r{n}")).collect();
    for room in &rooms {
        client.wish(|session, now| session.enter(room, now));
    }
    client.connect(json!([]));
    for join in client.said.clone().iter().filter(|frame| frame["action"] == "join") {
        client.hear(&json!({ "type": "ack", "id": join["id"], "room": join["room"] }));
        let batch = json!({ "type": "batch", "room": join["room"], "items": [], "upto": 0, "more": false });
        client.answer("history", batch);
    }
    client.session.closed();
    client.forget();
    client.wish(|session, now| session.say("r29", "hi", now));
    client.wish(Session::opened);
    assert_eq!(client.actions(), ["hello", "hello"]);
    let welcome =
        |id: &Value| json!({ "type": "welcome", "id": id, "user": "alice", "rooms": [], "direct": [] });
    let hellos = client.said.clone();
    client.hear(&welcome(&hellos[0]["id"]));
    assert!(!client.session.is_online() && client.said.len() == 2, "{:?}", client.said);
    client.hear(&welcome(&hellos[1]["id"]));
    assert_eq!(client.actions(), ["hello", "hello", "send"]);
    let connected = |event: &&Event| matches!(event, Event::Connected { .. });
    assert_eq!(client.shown.iter().filter(connected).count(), 1);
}

#[test]
fn a_welcome_that_is_late_does_not_end_the_next_connection() {
    let mut client = Client::in_room();
    client.session.closed();
    client.wish(Session::opened);
    client.session.closed();
    // The next one is being made.
    client.wait(11 * SECOND);
    assert_eq!(client.redials, 0);
}

#[test]
fn one_goes_in_and_out_one_step_at_a_time() {
    let joined = json!({ "type": "ack", "room": "r" });
    let mut client = Client::in_room();
    client.wish(|session, now| session.leave("r", now));
    client.wish(|session, now| session.enter("r", now));
    client.wish(|session, now| session.leave("r", now));
    client.wish(|session, now| session.enter("r", now));
    assert_eq!(client.actions(), ["leave"]);
    client.answer("leave", joined.clone());
    assert_eq!(client.actions(), ["leave", "join"]);
    client.wish(|session, now| session.leave("r", now));
    assert_eq!(client.actions(), ["leave", "join"]);
    client.answer("join", joined.clone());
    assert_eq!(client.actions(), ["leave", "join", "leave"]);
    assert!(!client.session.is_idle());
    client.answer("leave", joined);
    assert!(client.session.is_idle());
    assert_eq!(client.actions().len(), 3);
}

#[test]
fn one_leaves_after_what_one_has_said() {
    let mut client = Client::new(20);
    client.wish(|session, now| session.enter("r", now));
    client.wish(|session, now| session.say("r", "hi", now));
    client.wish(|session, now| session.say("r", "bye", now));
    client.connect(json!([]));
    client.wish(|session, now| session.leave("r", now));
    client.answer("join", json!({ "type": "ack", "room": "r" }));
    client.answer("send", ack(1));
    assert_eq!(client.actions(), ["hello", "join", "send", "send"]);
    client.answer("send", ack(2));
    assert_eq!(client.actions().last(), Some(&"leave"));
}

#[test]
fn what_was_asked_in_a_room_that_one_has_left_is_forgotten() {
    let mut client = Client::in_room();
    client.hear(&message(5));
    client.wait(SECOND);
    assert_eq!(client.actions(), ["history"]);
    client.wish(|session, now| session.leave("r", now));
    client.answer("leave", json!({ "type": "ack", "room": "r" }));
    client.wish(|session, now| session.enter("r", now));
    client.answer("history", batch(3..=5, 5, false));
    assert!(client.numbers().is_empty(), "it is no answer to what is asked now");
    client.answer("join", json!({ "type": "ack", "room": "r" }));
    client.answer("history", batch(4..=5, 5, true));
    assert_eq!(client.numbers(), [4, 5]);
}

#[test]
fn a_new_connection_is_in_no_room_that_was_left() {
    let mut client = Client::in_room();
    client.wish(|session, now| session.leave("r", now));
    client.session.closed();
    client.forget();
    client.wish(|session, now| session.enter("r", now));
    client.connect(json!([]));
    assert_eq!(client.actions(), ["hello", "join"]);

    // Left before it was known whether one was in.
    client.wish(|session, now| session.leave("r", now));
    client.session.closed();
    client.forget();
    client.connect(json!([]));
    assert_eq!(client.actions(), ["hello"]);
    assert!(client.session.is_idle());
}

#[test]
fn a_room_of_two_goes_on_when_one_has_turned_away() {
    let mut client = Client::new(0);
    client.wish(|session, now| session.enter("@alice,bob", now));
    client.connect(json!([]));
    client.answer("history", direct_batch([], 0));
    client.wish(|session, now| session.leave("@alice,bob", now));
    assert_eq!(client.session.current(), None);
    client.session.closed();
    client.forget();
    client.connect(json!([{ "room": "@alice,bob", "head": 1 }]));
    assert_eq!(client.said[0]["resume"], json!([{ "room": "@alice,bob", "seq": 0 }]));
    client.hear(&direct_batch([1], 1));
    assert_eq!(client.numbers(), [1]);
}

#[test]
fn questions_wait_until_one_is_in_and_for_what_was_said_before() {
    let mut client = Client::new(20);
    client.wish(|session, now| session.enter("r", now));
    client.wish(|session, now| session.say("r", "hi", now));
    client.wish(|session, now| session.look("r", 5, now));
    client.wish(|session, now| session.who("r", now));
    client.connect(json!([]));
    assert_eq!(client.actions(), ["hello", "join"]);
    client.answer("join", json!({ "type": "ack", "room": "r" }));
    client.answer("history", batch([], 0, false));
    assert_eq!(client.actions()[3..], ["send"]);
    client.answer("send", ack(1));
    assert_eq!(client.actions()[4..], ["history"]);
    client.answer("history", batch([1], 1, false));
    assert!(matches!(client.shown.last(), Some(Event::Message { seq: 1, old: true, .. })));
    assert_eq!(client.actions()[5..], ["who"]);
    client.answer("who", json!({ "type": "error", "code": "FORBIDDEN", "message": "no", "retry": false }));
    assert_eq!((client.session.sent, client.session.not_sent), (1, 1), "a script has to hear of it");
    assert!(matches!(client.shown.last(), Some(Event::Refused { action, .. }) if action == "who"));
}

#[test]
fn what_was_said_before_the_welcome_is_said_before_one_leaves() {
    let mut client = Client::new(20);
    client.wish(|session, now| session.enter("r", now));
    client.wish(|session, now| session.say("r", "hi", now));
    client.wish(|session, now| session.leave("r", now));
    // The first attempt comes to nothing.
    client.wish(Session::opened);
    client.session.closed();
    client.forget();
    client.connect(json!([]));
    assert_eq!(client.actions(), ["hello", "join"]);
    client.answer("join", json!({ "type": "ack", "room": "r" }));
    assert_eq!(client.actions()[2..], ["send"]);
    assert!(!client.session.is_idle());
    let id = client.said[2]["id"].clone();

    // The connection breaks before the message is acknowledged: the next one is in no room.
    client.session.closed();
    client.forget();
    client.connect(json!([]));
    assert_eq!(client.actions(), ["hello", "join"]);
    // Some handler failed, and it is not told which: still nothing is said before one is in.
    client.hear(&json!({ "message": "Internal server error", "connectionId": "c", "requestId": "r" }));
    client.wait(SECOND);
    assert_eq!(client.actions()[2..], ["join"]);
    client.answer("join", json!({ "type": "ack", "room": "r" }));
    client.wait(Duration::ZERO);
    assert_eq!(client.actions()[3..], ["send"]);
    assert_eq!(client.said[3]["id"], id);
    client.answer("send", ack(1));
    assert_eq!(client.actions()[4..], ["leave"]);
    client.answer("leave", json!({ "type": "ack", "room": "r" }));
    assert!(client.session.is_idle());
    assert_eq!((client.session.sent, client.session.not_sent), (1, 0));
}

#[test]
fn a_greeting_that_is_put_off_is_repeated_on_the_same_connection() {
    let mut client = Client::new(20);
    client.wish(Session::opened);
    let busy = json!({ "type": "error", "code": "UNAVAILABLE", "message": "busy", "retry": true });
    client.answer("hello", busy.clone());
    client.wait(SECOND);
    // The gateway's own error, which names no question.
    client.hear(&json!({ "message": "Internal server error", "connectionId": "c", "requestId": "r" }));
    client.wait(SECOND);
    assert_eq!((client.actions(), client.redials), (vec!["hello"; 3], 0));
    let ids: Vec<_> = client.said.iter().map(|frame| &frame["id"]).collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    client.answer("hello", json!({ "type": "welcome", "user": "alice", "rooms": [], "direct": [] }));
    assert!(client.session.is_online());

    // One that is not answered at all is still the sign of a dead connection.
    client.session.closed();
    client.wish(Session::opened);
    client.wait(11 * SECOND);
    assert_eq!(client.redials, 1);
}

#[test]
fn a_fault_of_the_server_at_a_later_greeting_does_not_end_the_chat() {
    let mut client = Client::in_room();
    client.session.closed();
    client.wish(Session::opened);
    let fault = json!({ "type": "error", "code": "INTERNAL", "message": "no", "retry": false });
    client.answer("hello", fault);
    assert_eq!(client.redials, 1);
    assert!(!client.shown.iter().any(|event| matches!(event, Event::Refused { .. })));
}

#[test]
fn nobody_is_done_while_something_that_came_waits_for_what_is_missing() {
    let mut client = Client::in_room();
    client.hear(&message(4));
    assert!(!client.session.is_idle());
    client.wait(SECOND);
    client.answer("history", batch(3..=4, 4, false));
    assert!(client.session.is_idle());
    assert_eq!(client.numbers(), [3, 4]);
}

#[test]
fn a_room_of_two_that_was_only_watched_shows_its_past_when_one_goes_in() {
    let welcome = json!({ "type": "welcome", "user": "alice", "rooms": [], "direct": ["@alice,bob"] });
    let watching = || {
        let mut client = Client::new(20);
        client.wish(Session::opened);
        client.answer("hello", welcome.clone());
        client
    };
    let mut client = watching();
    client.answer("history", direct_batch([3], 3));
    client.hear(&direct(4));
    assert_eq!(client.numbers(), [4]);
    client.forget();
    client.wish(|session, now| session.enter("@alice,bob", now));
    assert_eq!((&client.said[0]["before"], &client.said[0]["limit"]), (&json!(4), &json!(20)));
    client.answer("history", direct_batch(1..=3, 4));
    assert_eq!(client.numbers(), [1, 2, 3]);
    client.forget();
    client.wish(|session, now| session.enter("@alice,bob", now));
    assert!(client.said.is_empty(), "once");

    // Entered before its end was known.
    let mut client = watching();
    client.wish(|session, now| session.enter("@alice,bob", now));
    client.answer("history", direct_batch(1..=3, 3));
    assert_eq!(client.numbers(), [1, 2, 3]);
}

#[test]
fn a_room_that_could_not_be_resumed_for_a_fault_is_joined_again_and_goes_on_where_one_was() {
    let mut client = Client::in_room();
    client.wish(|session, now| session.say("r", "hi", now));
    client.session.closed();
    client.forget();
    client.wish(Session::opened);
    client.answer(
        "hello",
        json!({
            "type": "welcome", "user": "alice", "rooms": [], "direct": [],
            "refused": [{ "room": "r", "code": "UNAVAILABLE" }],
        }),
    );
    assert_eq!(client.actions(), ["hello", "join"], "nothing is said before one is in");
    client.answer("join", json!({ "type": "ack", "room": "r" }));
    assert_eq!(client.said[2]["after"], json!(2));
    client.answer("history", batch([3], 3, false));
    assert!(matches!(client.shown.last(), Some(Event::Message { seq: 3, old: false, .. })));
    assert!(!client.shown.iter().any(|event| matches!(event, Event::Refused { .. })));
}

#[test]
fn what_is_said_between_two_leaves_is_said_inside() {
    let mut client = Client::in_room();
    client.wish(|session, now| session.leave("r", now));
    client.wish(|session, now| session.enter("r", now));
    client.wish(|session, now| session.say("r", "hi", now));
    client.wish(|session, now| session.leave("r", now));
    assert_eq!(client.actions(), ["leave"]);
    client.answer("leave", json!({ "type": "ack", "room": "r" }));
    assert_eq!(client.actions()[1..], ["join"]);
    client.answer("join", json!({ "type": "ack", "room": "r" }));
    assert_eq!(client.actions()[2..], ["send"]);
    client.answer("send", ack(3));
    assert_eq!(client.actions()[3..], ["leave"]);
    client.answer("leave", json!({ "type": "ack", "room": "r" }));
    assert!(client.session.is_idle());
}

#[test]
fn a_room_that_was_left_while_it_was_resumed_is_left_after_the_welcome() {
    let mut client = Client::in_room();
    client.session.closed();
    client.forget();
    client.wish(Session::opened);
    client.wish(|session, now| session.leave("r", now));
    let welcome =
        json!({ "type": "welcome", "user": "alice", "rooms": [{ "room": "r", "head": 2 }], "direct": [] });
    client.answer("hello", welcome.clone());
    assert_eq!(client.actions(), ["hello", "leave"]);
    client.answer("leave", json!({ "type": "ack", "room": "r" }));
    assert!(client.session.is_idle());

    // Left and entered again: what comes of the greeting is not its beginning.
    let mut client = Client::in_room();
    client.session.closed();
    client.forget();
    client.wish(Session::opened);
    client.wish(|session, now| session.leave("r", now));
    client.wish(|session, now| session.enter("r", now));
    client.answer("hello", welcome);
    client.wait(2 * SECOND);
    client.answer("join", json!({ "type": "ack", "room": "r" }));
    client.answer("history", batch(1..=2, 2, false));
    client.forget();
    client.hear(&message(4));
    client.wait(SECOND);
    assert_eq!(client.actions(), ["history"], "a gap is looked for");
}
