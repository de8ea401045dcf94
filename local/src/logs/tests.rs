//! Logs as the other services and their callers see them.

use serde_json::{Value, json};

use super::{Logs, now_ms};

fn logs() -> Logs {
    Logs::open(None, "000000000000", "us-east-1").unwrap()
}

fn call(logs: &Logs, operation: &str, input: Value) -> Value {
    let reply = logs.call(operation, &input).unwrap();
    if reply.body.is_empty() { Value::Null } else { serde_json::from_slice(&reply.body).unwrap() }
}

fn messages(answer: &Value) -> Vec<&str> {
    answer["events"].as_array().unwrap().iter().map(|event| event["message"].as_str().unwrap()).collect()
}

#[test]
fn what_was_appended_is_readable_at_once_in_order_of_time() {
    let logs = logs();
    assert_eq!(logs.append("g", "s", vec![]).unwrap_err().code, "ResourceNotFoundException");
    call(&logs, "CreateLogGroup", json!({"logGroupName": "g"}));
    logs.append("g", "s", vec![(20, "b".to_owned()), (10, "a".to_owned())]).unwrap();
    logs.append("g", "other", vec![(20, "c".to_owned())]).unwrap();
    assert_eq!(messages(&call(&logs, "FilterLogEvents", json!({"logGroupName": "g"}))), ["a", "b", "c"]);
    let only = json!({"logGroupName": "g", "logStreamNames": ["other"]});
    assert_eq!(messages(&call(&logs, "FilterLogEvents", only)), ["c"]);
    let span = json!({"logGroupName": "g", "startTime": 10, "endTime": 10});
    assert_eq!(messages(&call(&logs, "FilterLogEvents", span)), ["a"]);
}

#[test]
fn pages_bring_every_event_once_and_ids_stay_the_same() {
    let logs = logs();
    call(&logs, "CreateLogGroup", json!({"logGroupName": "g"}));
    let events: Vec<_> =
        (0..25).map(|n| (n / 3, format!("{n} {}", if n % 2 == 0 { "even" } else { "odd" }))).collect();
    logs.append("g", "s", events).unwrap();
    let read = || {
        let mut ids = Vec::new();
        let mut input = json!({"logGroupName": "g", "filterPattern": "even", "limit": 4});
        loop {
            let page = call(&logs, "FilterLogEvents", input.clone());
            ids.extend(page["events"].as_array().unwrap().iter().map(|event| event["eventId"].to_string()));
            match page.get("nextToken") {
                Some(token) => input["nextToken"] = token.clone(),
                None => return ids,
            }
        }
    };
    let ids = read();
    assert_eq!(ids.len(), 13);
    assert!(ids.is_sorted_by(|a, b| a < b));
    assert_eq!(read(), ids);
}

#[test]
fn a_stream_is_read_from_either_end_and_tokens_rest_at_the_ends() {
    let logs = logs();
    call(&logs, "CreateLogGroup", json!({"logGroupName": "g"}));
    logs.append("g", "s", (0..10).map(|n| (n, n.to_string())).collect()).unwrap();
    let get = |extra: Value| {
        let mut input = json!({"logGroupName": "g", "logStreamName": "s", "limit": 4});
        input.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        call(&logs, "GetLogEvents", input)
    };
    let latest = get(json!({}));
    assert_eq!(messages(&latest), ["6", "7", "8", "9"]);
    let earlier = get(json!({"nextToken": latest["nextBackwardToken"]}));
    assert_eq!(messages(&earlier), ["2", "3", "4", "5"]);
    let first = get(json!({"startFromHead": true}));
    assert_eq!(messages(&first), ["0", "1", "2", "3"]);
    let end = get(json!({"nextToken": latest["nextForwardToken"]}));
    assert!(messages(&end).is_empty());
    assert_eq!(end["nextForwardToken"], latest["nextForwardToken"]);
    logs.append("g", "s", vec![(11, "late".to_owned())]).unwrap();
    assert_eq!(messages(&get(json!({"nextToken": end["nextForwardToken"]}))), ["late"]);
}

#[test]
fn everything_survives_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("logs.sqlite");
    let now = now_ms();
    {
        let logs = Logs::open(Some(&path), "000000000000", "us-east-1").unwrap();
        call(&logs, "CreateLogGroup", json!({"logGroupName": "g", "tags": {"a": "b"}}));
        call(&logs, "PutRetentionPolicy", json!({"logGroupName": "g", "retentionInDays": 3}));
        call(&logs, "CreateLogStream", json!({"logGroupName": "g", "logStreamName": "s"}));
        let events = json!([{"timestamp": now - 4 * 86_400_000, "message": "old"}, {"timestamp": now, "message": "new"}]);
        let put = json!({"logGroupName": "g", "logStreamName": "s", "logEvents": events});
        assert_eq!(
            call(&logs, "PutLogEvents", put)["rejectedLogEventsInfo"],
            json!({"tooOldLogEventEndIndex": 1})
        );
        // Not dropped in order: as after a kill.
        std::mem::forget(logs);
    }
    let logs = Logs::open(Some(&path), "000000000000", "us-east-1").unwrap();
    let groups = call(&logs, "DescribeLogGroups", json!({"logGroupNamePrefix": "g"}));
    assert_eq!(groups["logGroups"][0]["retentionInDays"], 3);
    assert_eq!(groups["logGroups"][0]["storedBytes"], 29);
    let arn = json!({"resourceArn": "arn:aws:logs:us-east-1:000000000000:log-group:g"});
    assert_eq!(call(&logs, "ListTagsForResource", arn)["tags"], json!({"a": "b"}));
    assert_eq!(messages(&call(&logs, "FilterLogEvents", json!({"logGroupName": "g"}))), ["new"]);
    logs.append("g", "s", vec![(now - 5 * 86_400_000, "expired".to_owned())]).unwrap();
    assert_eq!(messages(&call(&logs, "FilterLogEvents", json!({"logGroupName": "g"}))), ["expired", "new"]);
    logs.sweep();
    assert_eq!(messages(&call(&logs, "FilterLogEvents", json!({"logGroupName": "g"}))), ["new"]);
}

#[test]
fn groups_and_streams_are_listed_in_pages() {
    let logs = logs();
    for name in ["/a/1", "/a/2", "/a/3", "/b"] {
        call(&logs, "CreateLogGroup", json!({"logGroupName": name}));
    }
    let page = call(&logs, "DescribeLogGroups", json!({"logGroupNamePrefix": "/a", "limit": 2}));
    assert_eq!(page["logGroups"].as_array().unwrap().len(), 2);
    let rest = call(
        &logs,
        "DescribeLogGroups",
        json!({"logGroupNamePrefix": "/a", "limit": 2, "nextToken": page["nextToken"]}),
    );
    assert_eq!(rest["logGroups"][0]["arn"], "arn:aws:logs:us-east-1:000000000000:log-group:/a/3:*");
    assert!(rest.get("nextToken").is_none());
    for (stream, time) in [("x", 5), ("y", 9), ("z", 1)] {
        logs.append("/b", stream, vec![(time, stream.to_owned())]).unwrap();
    }
    let newest = json!({"logGroupName": "/b", "orderBy": "LastEventTime", "descending": true, "limit": 1});
    let streams = call(&logs, "DescribeLogStreams", newest);
    assert_eq!(streams["logStreams"][0]["logStreamName"], "y");
    assert_eq!(streams["logStreams"][0]["lastEventTimestamp"], 9);
    call(&logs, "DeleteLogGroup", json!({"logGroupName": "/b"}));
    assert_eq!(logs.append("/b", "x", vec![]).unwrap_err().code, "ResourceNotFoundException");
}
