//! Least privilege for whoever deploys, proved from both sides: under exactly the policy that `chatctl policy` prints
//! a stage can be made, mended, changed, read and destroyed; without any single action of it something is refused.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chat_local::{Cloud, CloudConfig};
use chat_stacks::ledger::{Holder, Ledger, Patience, Record};
use chat_stacks::logs::{self, LogQuery};
use chat_stacks::permissions::{self, Grant};
use chat_stacks::pointers::{self, Move};
use chat_stacks::preflight::{self, Answer};
use chat_stacks::{
    Artifact, Artifacts, Aws, Error, Events, Handler, Identity, Plan, PlanOptions, Settings, Stack,
    StageSettings, Target, apply, chat, code, observe, plan, under_lock,
};
use chat_tests::Account;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const ROLE: &str = "deployer";

/// Renewed twelve times in it, and expires long after that even on a busy machine.
const LEASE: Duration = Duration::from_secs(3);

#[tokio::test]
async fn the_policy_suffices_and_every_call_is_in_it() {
    let place = Place::with(&all_grants()).await;
    place.cloud.calls().reset();

    place.everything().await.expect("everything works under the policy");

    let calls = place.cloud.calls().all().into_iter();
    let made: BTreeSet<(&str, &str)> = calls
        .filter(|call| call.principal.as_deref() == Some(ROLE) && call.service != "sts")
        .map(|call| (call.service, call.operation))
        .collect();
    let known = permissions::operations();
    let unknown: Vec<_> = made.difference(&known).collect();
    assert!(unknown.is_empty(), "calls without an entry: {unknown:?}");
    // What this test does not exercise would not be missed below either.
    let silent: Vec<_> = known.difference(&made).collect();
    assert!(silent.is_empty(), "entries that nothing here calls: {silent:?}");
    place.cloud.shutdown().await;
}

#[tokio::test]
async fn without_any_single_action_something_is_refused() {
    let mut superfluous = Vec::new();
    let mut taken = 0;
    let full = all_grants();
    for (at, grant) in full.iter().enumerate() {
        for action in &grant.actions {
            let mut less = full.clone();
            less[at].actions.retain(|other| other != action);
            less.retain(|grant| !grant.actions.is_empty());
            let place = Place::with(&less).await;
            taken += 1;
            match place.everything().await {
                Ok(()) => superfluous.push(*action),
                Err(why) => assert!(why.contains(action), "without {action} this failed: {why}"),
            }
            place.cloud.shutdown().await;
        }
    }
    assert!(taken > 40, "only {taken} actions were taken away");
    assert!(superfluous.is_empty(), "nothing is refused without {superfluous:?}");
}

#[tokio::test]
async fn what_is_missing_is_named_at_once_and_before_anything_is_made() {
    let taken = ["iam:CreateRole", "lambda:CreateFunction", "apigateway:TagResource"];
    let mut less = with_preflight(all_grants());
    less.iter_mut().for_each(|grant| grant.actions.retain(|action| !taken.contains(action)));
    less.retain(|grant| !grant.actions.is_empty());
    let place = Place::with(&less).await;
    let scope = stage("").scope();

    let wanted = stage("");
    let (plan, answer) = tokio::join!(place.plan(&wanted), preflight::ask(&place.deployer, &scope));
    let refused = answer.check(&plan.expect("a plan only reads")).expect_err("three rights are missing");

    let text = refused.to_string();
    for action in taken {
        assert!(text.contains(&format!("{action} on arn:aws:")), "{action} is not in: {text}");
    }
    for (action, resource) in [
        ("iam:CreateRole", "role/chatctl/chat/dev/chat-dev-connect"),
        ("lambda:CreateFunction", "function:chat-dev-on_message"),
    ] {
        let found = text.lines().any(|line| line.contains(action) && line.ends_with(resource));
        assert!(found, "{action} on {resource} is not in: {text}");
    }
    assert!(!text.contains("dynamodb") && !text.contains("PassRole"), "more than that is missing: {text}");
    assert_eq!(place.account.everything().await, [format!("role {ROLE}")]);
    place.cloud.shutdown().await;
}

#[tokio::test]
async fn with_the_whole_policy_nothing_is_missing_and_who_may_not_ask_goes_on() {
    let place = Place::with(&with_preflight(all_grants())).await;
    let scope = stage("").scope();
    assert_eq!(preflight::ask(&place.deployer, &scope).await, Answer::all_allowed());
    place.cloud.shutdown().await;

    let place = Place::with(&all_grants()).await;
    let answer = preflight::ask(&place.deployer, &scope).await;
    assert!(matches!(&answer, Answer::Skipped(why) if why.contains("SimulatePrincipalPolicy")), "{answer:?}");
    answer
        .check(&place.plan(&stage("")).await.expect("a plan"))
        .expect("nothing is refused that was not asked");
    place.cloud.shutdown().await;
}

#[tokio::test]
async fn what_depends_on_the_request_itself_is_not_taken_for_missing() {
    let scope = stage("").scope();
    let full = with_preflight(all_grants());
    let under = |condition: Value| {
        let mut document = permissions::document(&full);
        for statement in document["Statement"].as_array_mut().into_iter().flatten() {
            if statement["Sid"] != "Preflight" && statement.get("Condition").is_none() {
                statement["Condition"] = condition.clone();
            }
        }
        document
    };
    // IAM is told the region, and so can say that it is the right one, or another.
    let region = |region: &str| under(json!({ "StringEquals": { "aws:RequestedRegion": region } }));
    let place = Place::under(&region("us-east-1")).await;
    assert_eq!(preflight::ask(&place.deployer, &scope).await, Answer::all_allowed());
    place.cloud.shutdown().await;
    let place = Place::under(&region("eu-west-1")).await;
    let answer = preflight::ask(&place.deployer, &scope).await;
    assert!(matches!(&answer, Answer::Told { missing, unclear } if missing.len() > 20 && unclear.is_empty()));
    place.cloud.shutdown().await;

    // Where the request will come from it cannot know.
    let place = Place::under(&under(json!({ "IpAddress": { "aws:SourceIp": "127.0.0.0/8" } }))).await;
    let answer = preflight::ask(&place.deployer, &scope).await;
    let plan = place.plan(&stage("")).await.expect("a plan");
    answer.check(&plan).expect("nothing is refused that may be allowed");
    let unclear = answer.unclear(&plan);
    assert!(unclear.iter().any(|right| right.action == "lambda:CreateFunction"), "{unclear:?}");
    place.cloud.shutdown().await;
}

/// With the right to ask what one may do.
fn with_preflight(mut grants: Vec<Grant>) -> Vec<Grant> {
    grants.push(Grant {
        sid: "Preflight".to_owned(),
        actions: vec!["iam:SimulatePrincipalPolicy"],
        resources: vec![format!("arn:aws:iam::000000000000:role/{ROLE}")],
        condition: None,
    });
    grants
}

/// A cloud with nothing in it but a role, and clients that act in it.
struct Place {
    cloud: Cloud,
    account: Account,
    deployer: Arc<Aws>,
}

impl Place {
    async fn with(grants: &[Grant]) -> Self {
        Self::under(&permissions::document(grants)).await
    }

    async fn under(policy: &Value) -> Self {
        let cloud = Cloud::start(CloudConfig::in_memory()).await.expect("the cloud starts");
        let account = Account::of(&cloud.endpoint());
        account.create_role(ROLE, policy).await;
        let target = Target::new(&stage("")).at(cloud.endpoint(), account.assume(ROLE).await);
        let deployer = Arc::new(Aws::connect(&target).await.expect("clients"));
        Self { cloud, account, deployer }
    }

    /// The life of a stage, and at each point what only that point needs.
    async fn everything(&self) -> Result<(), String> {
        let scope = stage("").scope();
        let say = |what: &str, error: Error| format!("{what}: {error}");
        self.deploy(&stage(""), &artifacts(1)).await.map_err(|e| say("first deploy", e))?;
        let query = LogQuery { functions: Vec::new(), since_ms: 0, pattern: None, limit: None };
        logs::query(&self.deployer, &scope, &query).await.map_err(|e| say("logs", e))?;

        chat_tests::vandalise(&self.account, &scope.prefix()).await;
        let changed = stage(
            "    lambda: { architecture: x86_64, memory_mb: 512 }\n    table: { pitr: true, deletion_protection: true }\n    throttling: { rate: 7, burst: 7 }\n",
        );
        self.deploy(&changed, &artifacts(1)).await.map_err(|e| say("repair", e))?;
        for generation in 2..=7 {
            self.cut_over(&artifacts(generation)).await.map_err(|e| say("new code", e))?;
        }
        self.roll_back().await.map_err(|e| say("rollback", e))?;
        let stack = Stack::empty(scope.clone());
        self.bring_to(&stack, true).await.map_err(|e| say("destroy", e))
    }

    async fn deploy(&self, stage: &StageSettings, artifacts: &Artifacts) -> Result<(), Error> {
        let stack = chat::stack(stage, self.deployer.identity().await?, artifacts)?;
        self.bring_to(&stack, false).await?;
        let observed = observe(&self.deployer, stack.scope()).await?;
        let left = plan(&stack, &observed, &PlanOptions::default())?;
        assert!(left.is_empty(), "a second plan has {left:?}");
        Ok(())
    }

    async fn plan(&self, stage: &StageSettings) -> Result<Plan, Error> {
        let stack = chat::stack(stage, self.deployer.identity().await?, &artifacts(1))?;
        plan(&stack, &observe(&self.deployer, stack.scope()).await?, &PlanOptions::default())
    }

    async fn bring_to(&self, stack: &Stack, drop_deletion_protection: bool) -> Result<(), Error> {
        let options = PlanOptions { adopt: true, drop_deletion_protection, ..PlanOptions::default() };
        let observed = observe(&self.deployer, stack.scope()).await?;
        let plan = plan(stack, &observed, &options)?;
        self.under_lock(stack.is_empty(), async |_| {
            apply(&self.deployer, stack, &plan, &Events::none(), &CancellationToken::new()).await.map(drop)
        })
        .await
    }

    async fn cut_over(&self, artifacts: &Artifacts) -> Result<(), Error> {
        let scope = stage("").scope();
        let changed = code::changed(&self.deployer, &scope, artifacts).await?;
        code::cut_over(&self.deployer, &scope, &changed, artifacts).await.map(drop)
    }

    /// Moves an alias to the version before, and stays at it until the lock was renewed.
    async fn roll_back(&self) -> Result<(), Error> {
        let scope = stage("").scope();
        let now = pointers::observe(&self.deployer, &scope).await?.pointers;
        let mut before = now.clone();
        for version in before.versions.values_mut() {
            *version =
                version.parse::<u32>().map_or_else(|_| version.clone(), |number| (number - 1).to_string());
        }
        let mut moves = pointers::moves(&now, &before);
        assert_eq!(moves.len(), Handler::ALL.len());
        // There is no other deployment to go back to, but the calls are the same.
        let deployment = now.deployment.clone().unwrap_or_default();
        moves.push(Move::Deployment { from: deployment.clone(), to: deployment });
        self.under_lock(false, async |ledger| {
            ledger.history(10).await?;
            let api = now.api.clone().unwrap_or_default();
            let missing = pointers::missing(&self.deployer, &scope, &api, &moves).await?;
            assert!(missing.is_empty(), "{missing:?}");
            pointers::point(&self.deployer, &scope, &api, &moves).await?;
            tokio::time::sleep(LEASE / 8).await;
            Ok(())
        })
        .await
    }

    /// As every verb that changes something does it.
    async fn under_lock(
        &self,
        last: bool,
        work: impl AsyncFnOnce(&Ledger) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let ledger = Ledger::new(Arc::clone(&self.deployer), stage("").scope()).with_lease(LEASE);
        let patience = Patience { make_table: true, ..Patience::default() };
        let ticket = ledger.open(&patience, &Events::none()).await?;
        let by = Holder {
            principal: ROLE.to_owned(),
            host: "here".to_owned(),
            pid: std::process::id(),
            verb: "deploy".to_owned(),
            since_ms: 0,
            run: None,
        };
        let (events, cancel) = (Events::none(), CancellationToken::new());
        let record = Record::begin(by, None, "tests");
        under_lock(&ledger, &ticket, record, last, &events, &cancel, async |_, _| work(&ledger).await)
            .await?;
        Ok(())
    }
}

/// What `chatctl policy --stage dev` prints.
fn all_grants() -> Vec<Grant> {
    let stage = stage("");
    permissions::deployer(
        &stage.app,
        stage.stage.as_str(),
        &Identity::of_account("000000000000", "us-east-1"),
    )
}

fn stage(more: &str) -> StageSettings {
    let lambda = if more.contains("lambda:") { "" } else { "    lambda: { architecture: x86_64 }\n" };
    let text = format!(
        "app: chat\nstages:\n  dev:\n    endpoint: local\n    auth: {{ mode: open }}\n    control_plane: {{ rate: 0 }}\n\
         {lambda}{more}"
    );
    let settings = Settings::parse(&text, "chat.yaml").unwrap_or_else(|why| panic!("{text}\n{why}"));
    settings.stage("dev").unwrap_or_else(|why| panic!("{text}\n{why}"))
}

/// Nothing is invoked here, so the code may be anything that differs.
fn artifacts(generation: u32) -> Artifacts {
    let pack = |handler: Handler| {
        Artifact::pack(format!("{handler} {generation}").as_bytes(), chat_stacks::Effort::Quick)
    };
    Handler::ALL
        .into_iter()
        .map(|handler| (handler, pack(handler).unwrap_or_else(|why| panic!("{why}"))))
        .collect()
}
