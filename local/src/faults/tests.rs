//! Which calls the rules meet, and what they say to them.

use super::{CONTROL_PLANE, Fault, Faults, Rule, Young};

#[test]
fn the_nth_call_of_an_operation_fails_and_no_other() {
    let faults = Faults::default();
    faults.set([Rule::nth("lambda:Create*", 2, Fault::fail(429, "TooManyRequestsException", "later"))]);
    assert!(faults.on_call("lambda", "CreateFunction").error.is_none());
    assert!(faults.on_call("lambda", "GetFunction").error.is_none());
    assert_eq!(faults.on_call("lambda", "CreateAlias").error.unwrap().code, "TooManyRequestsException");
    assert!(faults.on_call("lambda", "CreateFunction").error.is_none());
}

#[test]
fn a_role_becomes_assumable_after_the_attempts_of_its_own() {
    let faults = Faults::default();
    faults.set([Rule::every("*", Fault::NotAssumable { attempts: 2 })]);
    assert!(!faults.role_assumable("a"));
    assert!(!faults.role_assumable("a"));
    assert!(!faults.role_assumable("b"));
    assert!(faults.role_assumable("a"));
}

#[test]
fn a_role_spreads_and_a_table_is_created_in_a_time_that_begins_with_each() {
    let faults = Faults::default();
    let an_hour_ms = 3_600_000;
    faults.set([
        Rule::every("slow*", Fault::RoleSpreading { ms: an_hour_ms }),
        Rule::every("slow*", Fault::TableCreating { ms: an_hour_ms }),
    ]);
    faults.created(Young::Role, "slow-role");
    faults.created(Young::Table, "slow-table");
    faults.created(Young::Role, "other");
    assert!(!faults.role_assumable("slow-role"));
    assert!(faults.role_assumable("other"));
    assert!(faults.role_assumable("slow-table"), "there is no such role");
    assert!(faults.table_creating("slow-table"));
    assert!(!faults.table_creating("slow-role"));
    faults.set([Rule::every("*", Fault::RoleSpreading { ms: 0 })]);
    assert!(faults.role_assumable("slow-role"));
    assert!(!faults.table_creating("slow-table"));
}

#[test]
fn a_burst_is_let_through_and_then_throttled_in_the_words_of_the_service() {
    let faults = Faults::default();
    faults.set([Rule::every("apigateway:*", Fault::RateLimit { rate: 0.001, burst: 3.0 })]);
    let refused =
        (0..5).filter_map(|_| faults.on_call("apigateway", "CreateRoute").error).collect::<Vec<_>>();
    assert_eq!(refused.len(), 2);
    assert_eq!(refused[0].status, 429);
}

#[test]
fn latency_of_the_control_plane_leaves_items_and_invocations_alone() {
    let faults = Faults::default();
    faults.set([Rule::every(CONTROL_PLANE, Fault::Delay { ms: 30 })]);
    assert!(faults.on_call("dynamodb", "CreateTable").delay.is_some());
    assert!(faults.on_call("apigateway", "GetApis").delay.is_some());
    for (service, operation) in [
        ("dynamodb", "PutItem"),
        ("dynamodb", "TransactWriteItems"),
        ("lambda", "Invoke"),
        ("execute-api", "PostToConnection"),
        ("logs", "FilterLogEvents"),
    ] {
        assert!(faults.on_call(service, operation).delay.is_none(), "{service}:{operation}");
    }
}

#[test]
fn rules_are_read_from_json() {
    let text = r#"[{"operation":"iam:CreateRole","nth":1,"fault":{"kind":"lose_answer"}},
        {"operation":"*","fault":{"kind":"delay","ms":5}}]"#;
    let faults: Faults = serde_json::from_str(text).unwrap();
    let verdict = faults.on_call("iam", "CreateRole");
    assert!(verdict.lose_answer);
    assert_eq!(verdict.delay.unwrap().as_millis(), 5);
    assert!(!faults.on_call("iam", "CreateRole").lose_answer);
}
