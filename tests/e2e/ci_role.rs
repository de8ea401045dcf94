//! The role for CI jobs: made once, lets in the jobs of one repository that it is for and no others, and suffices for
//! a deploy and for asking beforehand.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chat_local::{Cloud, CloudConfig};
use chat_stacks::ci::{self, Change, CiRole, Jobs, Repository};
use chat_stacks::ledger::{Holder, Ledger, Patience, Record};
use chat_stacks::preflight::{self, Answer};
use chat_stacks::{
    AppName, Aws, Error, Events, Scope, Settings, StageName, StaticCredentials, Target, observe,
};
use chat_tests::Account;
use serde_json::json;

fn target(endpoint: &str, credentials: StaticCredentials) -> Target {
    let text = "app: chat\nstages:\n  dev:\n    endpoint: local\n    auth: { mode: open }\n";
    let settings = Settings::parse(text, "chat.yaml").expect("settings");
    Target::new(&settings.stage("dev").expect("a stage")).at(endpoint, credentials)
}

fn owner() -> StaticCredentials {
    StaticCredentials {
        access_key_id: "chatctl".to_owned(),
        secret_access_key: "chatctl".to_owned(),
        session_token: None,
    }
}

fn role(stage: &str, jobs: Jobs) -> CiRole {
    let repository = Repository::parse("octo/chat").expect("a repository");
    CiRole { app: AppName::parse("chat").expect("an app"), stage: stage.to_owned(), repository, jobs }
}

/// A token as GitHub writes it, but signed by nobody: the local cloud takes it for what it says.
fn token(subject: &str, audience: &str) -> String {
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims =
        json!({ "iss": "https://token.actions.githubusercontent.com", "sub": subject, "aud": audience });
    format!("{}.{}.", part(json!({ "alg": "none" })), part(claims))
}

const AUDIENCE: &str = "sts.amazonaws.com";

#[tokio::test]
async fn only_the_right_jobs_are_let_in_and_they_can_deploy() {
    let cloud = Cloud::start(CloudConfig::in_memory()).await.expect("the cloud starts");
    let account = Account::of(&cloud.endpoint());
    let admin = Aws::connect(&target(&cloud.endpoint(), owner())).await.expect("clients");
    let main = role("pr-*", Jobs::PullRequests);

    let first = ci::set_up(&admin, &main).await.expect("a setup");
    assert_eq!((first.provider, first.role), (Change::Created, Change::Created));
    let second = ci::set_up(&admin, &main).await.expect("a second setup");
    assert_eq!((second.provider, second.role), (Change::Unchanged, Change::Unchanged));

    let arn = first.role_arn;
    for (subject, audience) in [
        ("repo:octo/chat:ref:refs/heads/main", AUDIENCE),
        ("repo:octo/chat:environment:dev", AUDIENCE),
        ("repo:stranger/chat:pull_request", AUDIENCE),
        ("repo:octo/chat-2:pull_request", AUDIENCE),
        ("repo:octo/chat:pull_request", "https://github.com/octo"),
    ] {
        let refused = account.assume_with_token(&arn, &token(subject, audience)).await;
        assert!(refused.is_err(), "{subject} for {audience} was let in");
    }
    let session = account.assume_with_token(&arn, &token("repo:octo/chat:pull_request", AUDIENCE)).await;
    let job = Aws::connect(&target(&cloud.endpoint(), session.expect("the right job is let in"))).await;
    let job = Arc::new(job.expect("clients"));

    // Every stage that begins like it, and no other.
    let scope = |stage: &str| Scope {
        app: AppName::parse("chat").expect("an app"),
        stage: StageName::parse(stage).expect("a stage"),
    };
    assert_eq!(preflight::ask(&job, &scope("pr-17")).await, Answer::all_allowed());
    assert!(observe(&job, &scope("pr-17")).await.expect("it may look").is_empty());
    observe(&job, &scope("dev")).await.expect_err("it may not look at another stage");
    let Answer::Told { missing, .. } = preflight::ask(&job, &scope("dev")).await else {
        panic!("it may ask")
    };
    assert!(missing.iter().any(|missing| missing.action == "lambda:CreateFunction"), "{missing:?}");

    // Locks and history of all stages are in one table, and still each is its own stage's.
    let deploy = async |aws: &Arc<Aws>, stage: &str| -> Result<(), Error> {
        let ledger = Ledger::new(aws.clone(), scope(stage));
        let patience = Patience { make_table: true, ..Patience::default() };
        let ticket = ledger.open(&patience, &Events::none()).await?;
        let holder = Holder {
            principal: "job".to_owned(),
            host: "runner".to_owned(),
            pid: 1,
            verb: "deploy".to_owned(),
            since_ms: 0,
            run: None,
        };
        let mut record = Record::begin(holder, None, "test");
        ledger.take(&ticket, &mut record).await?.finish(&mut record, false).await
    };
    deploy(&job, "pr-17").await.expect("a first deploy makes the table");
    let admin = Arc::new(admin);
    deploy(&admin, "dev").await.expect("the owner may do everything");
    deploy(&job, "pr-18").await.expect("its stages have their locks");
    let refused = deploy(&job, "dev").await.expect_err("not this one").to_string();
    assert!(refused.contains("dynamodb:Query") && refused.contains("table/chatctl"), "{refused}");
    let own = Ledger::new(job.clone(), scope("dev")).history(1).await;
    assert!(own.is_err(), "a preview reads what became of dev");

    // Another setup for the same stage changes whom it lets in.
    let changed = ci::set_up(&admin, &role("pr-*", Jobs::Branch("main".to_owned()))).await.expect("a change");
    assert_eq!((changed.provider, changed.role), (Change::Unchanged, Change::Updated));
    assert!(account.assume_with_token(&arn, &token("repo:octo/chat:pull_request", AUDIENCE)).await.is_err());
    assert!(
        account.assume_with_token(&arn, &token("repo:octo/chat:ref:refs/heads/main", AUDIENCE)).await.is_ok()
    );

    let app = AppName::parse("chat").expect("an app");
    assert!(ci::remove(&admin, &app, "pr-*").await.expect("a removal"));
    assert!(!ci::remove(&admin, &app, "pr-*").await.expect("a second removal"));
    assert_eq!(account.everything().await, ["table chatctl"]);
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_role_of_somebody_else_is_left_alone() {
    let cloud = Cloud::start(CloudConfig::in_memory()).await.expect("the cloud starts");
    let account = Account::of(&cloud.endpoint());
    let admin = Aws::connect(&target(&cloud.endpoint(), owner())).await.expect("clients");
    let app = AppName::parse("chat").expect("an app");
    let name = ci::role_name(&app, "dev");
    let nothing = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": "s3:GetObject", "Resource": "*" }] });
    account.create_role(&name, &nothing).await;

    let refused =
        ci::set_up(&admin, &role("dev", Jobs::Branch("main".to_owned()))).await.expect_err("not ours");
    assert!(refused.to_string().contains(&name), "{refused}");
    ci::remove(&admin, &app, "dev").await.expect_err("not ours");
    assert_eq!(account.policies(&name).await.len(), 1);
    cloud.shutdown().await;
}
