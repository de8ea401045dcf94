//! Faults change what callers see, and only that.

use std::time::{Duration, Instant};

use chat_local::{CONTROL_PLANE, Cloud, CloudConfig, Fault, Rule};

use crate::caller::{Caller, TRUST, cloud, create_table, refusal};

#[tokio::test]
async fn the_nth_call_fails_with_the_error_that_was_asked_for() {
    let cloud = cloud().await;
    let iam = Caller::owner(&cloud).iam();
    let list = || iam.list_roles().send();
    cloud.faults().set([Rule::nth("iam:ListRoles", 2, Fault::fail(400, "Throttling", "Rate exceeded"))]);
    list().await.unwrap();
    assert_eq!(refusal(list().await), ("Throttling".to_owned(), "Rate exceeded".to_owned()));
    list().await.unwrap();
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_lost_answer_leaves_the_work_done() {
    let cloud = cloud().await;
    let owner = Caller::owner(&cloud);
    let create = |caller: &Caller, name: &'static str| {
        caller.iam().create_role().role_name(name).assume_role_policy_document(TRUST).send()
    };
    cloud.faults().set([Rule::nth("iam:CreateRole", 1, Fault::LoseAnswer)]);
    let error = create(&owner, "once").await.unwrap_err();
    assert!(error.as_service_error().is_none(), "an answer came: {error:?}");
    owner.iam().get_role().role_name("once").send().await.unwrap();

    // A client that retries meets its own first attempt.
    cloud.faults().set([Rule::nth("iam:CreateRole", 1, Fault::LoseAnswer)]);
    assert_eq!(refusal(create(&owner.clone().attempts(2), "twice").await).0, "EntityAlreadyExists");
    cloud.shutdown().await;
}

#[tokio::test]
async fn latency_and_limits_of_the_control_plane_are_those_that_were_set() {
    let cloud = cloud().await;
    let owner = Caller::owner(&cloud);
    create_table(&owner, "things").await;
    let dynamodb = owner.dynamodb();
    let describe = || dynamodb.describe_table().table_name("things").send();
    cloud.faults().set([Rule::every(CONTROL_PLANE, Fault::Delay { ms: 60 })]);
    let started = Instant::now();
    describe().await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(60));

    cloud.faults().set([Rule::every("dynamodb:Describe*", Fault::RateLimit { rate: 0.001, burst: 2.0 })]);
    describe().await.unwrap();
    describe().await.unwrap();
    assert_eq!(refusal(describe().await).0, "ThrottlingException");
    dynamodb.list_tables().send().await.unwrap();
    cloud.faults().clear();
    describe().await.unwrap();
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_role_that_has_not_spread_yet_cannot_be_assumed() {
    let cloud = cloud().await;
    let owner = Caller::owner(&cloud);
    owner.create_role("new", r#"{"Effect":"Allow","Action":"dynamodb:*","Resource":"*"}"#).await;
    cloud.faults().set([Rule::every("new", Fault::NotAssumable { attempts: 2 })]);
    let assume = || {
        let arn = "arn:aws:iam::000000000000:role/new";
        owner.sts().assume_role().role_arn(arn).role_session_name("session").send()
    };
    assert_eq!(refusal(assume().await).0, "AccessDenied");
    assert_eq!(refusal(assume().await).0, "AccessDenied");
    assume().await.unwrap();
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_table_that_is_being_created_is_described_and_not_used() {
    let cloud = cloud().await;
    let owner = Caller::owner(&cloud);
    cloud.faults().set([Rule::every("slow", Fault::TableCreating { ms: 3_600_000 })]);
    for table in ["slow", "quick"] {
        create_table(&owner, table).await;
    }
    let dynamodb = owner.dynamodb();
    let status = async |table: &str| {
        let described = dynamodb.describe_table().table_name(table).send().await.unwrap();
        described.table.unwrap().table_status.unwrap()
    };
    let read = async |table: &str| {
        let key = aws_sdk_dynamodb::types::AttributeValue::S("1".to_owned());
        dynamodb.get_item().table_name(table).key("k", key).send().await
    };
    assert_eq!(status("slow").await.as_str(), "CREATING");
    assert_eq!(refusal(read("slow").await).0, "ResourceNotFoundException");
    assert_eq!(refusal(dynamodb.delete_table().table_name("slow").send().await).0, "ResourceInUseException");
    assert_eq!(status("quick").await.as_str(), "ACTIVE");
    read("quick").await.unwrap();

    // The time has passed.
    cloud.faults().clear();
    assert_eq!(status("slow").await.as_str(), "ACTIVE");
    read("slow").await.unwrap();
    cloud.shutdown().await;
}

#[tokio::test]
async fn faults_are_changed_by_request_only_where_that_was_allowed() {
    for (allowed, status) in [(true, "200"), (false, "403")] {
        let mut config = CloudConfig::in_memory();
        config.settings.allow_fault_requests = allowed;
        let cloud = Cloud::start(config).await.unwrap();
        let rules = r#"[{"operation":"iam:*","fault":{"kind":"delay","ms":1}}]"#;
        let answer = put(&cloud, "/_local/faults", rules).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert_eq!(cloud.faults().rules().len(), usize::from(allowed));
        cloud.shutdown().await;
    }
}

async fn put(cloud: &Cloud, path: &str, body: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(cloud.addr()).await.unwrap();
    let length = body.len();
    let request = format!(
        "PUT {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
