//! Applying with resources that only note what is done to them: order, parallelism, failures and stopping.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::{Barrier, mpsc};

use super::*;
use crate::address::Kind;
use crate::aws::{StaticCredentials, Target};
use crate::cloudformation::{Declared, Form, Synth};
use crate::names::{AppName, StageName};
use crate::observe::Observed;
use crate::pace::Rate;
use crate::plan::{PlanOptions, plan};
use crate::resource::{Desired, Live, Resource};

type Noted = Arc<Mutex<Vec<String>>>;

/// What happens when it is converged.
#[derive(Clone, Debug)]
enum Behaviour {
    Works,
    Fails,
    /// Waits until so many others have begun, which a run with level barriers or one by one never reaches.
    Meets(Arc<Barrier>),
    /// Stops the run while it is in flight.
    Cancels(CancellationToken),
}

#[derive(Clone, Debug)]
struct Fake {
    name: &'static str,
    needs: &'static [&'static str],
    behaviour: Behaviour,
    noted: Noted,
}

fn at(name: &str) -> Address {
    Address::new(Kind::Route, name)
}

impl Form for Fake {
    fn form(&self, _: &Synth<'_>) -> Declared {
        unreachable!("nothing here is written as a template")
    }
}

#[async_trait]
impl Resource for Fake {
    fn address(&self) -> Address {
        at(self.name)
    }

    fn needs(&self) -> Vec<Address> {
        self.needs.iter().map(|need| at(need)).collect()
    }

    fn desired(&self, outputs: &Outputs) -> Desired {
        let ids: Option<Vec<&str>> = self.needs.iter().map(|need| outputs.get(&at(need), "id")).collect();
        Desired::new().with_later("ids", ids.map(|ids| serde_json::json!(ids)))
    }

    async fn converge(&self, cx: &Cx<'_>, live: Option<&Live>) -> Result<Values, Error> {
        cx.drifted(self, live)?;
        match &self.behaviour {
            Behaviour::Works => tokio::task::yield_now().await,
            Behaviour::Fails => {
                return Err(Error::Unhealthy { resource: self.address(), what: "broken on purpose".into() });
            }
            Behaviour::Meets(barrier) => {
                barrier.wait().await;
            }
            Behaviour::Cancels(cancel) => {
                cancel.cancel();
                tokio::task::yield_now().await;
            }
        }
        self.noted.lock().unwrap().push(self.name.to_owned());
        Ok(Values::from([("id", format!("{}-id", self.name))]))
    }
}

struct Story {
    stack: Stack,
    noted: Noted,
    cancel: CancellationToken,
}

impl Story {
    fn new() -> Self {
        let scope = Scope { app: AppName::parse("chat").unwrap(), stage: StageName::parse("dev").unwrap() };
        Self { stack: Stack::empty(scope), noted: Noted::default(), cancel: CancellationToken::new() }
    }

    fn with(mut self, name: &'static str, needs: &'static [&'static str], behaviour: Behaviour) -> Self {
        self.stack.add(Fake { name, needs, behaviour, noted: self.noted.clone() });
        self
    }

    async fn run(&self) -> (Result<Outcome, Error>, Vec<Event>) {
        // Nobody listens there: a call would fail, and none is made.
        let target = Target {
            region: "us-east-1".into(),
            endpoint: None,
            credentials: None,
            profile: None,
            control_plane: Rate::UNLIMITED,
        };
        let nobody = StaticCredentials {
            access_key_id: "none".into(),
            secret_access_key: "none".into(),
            session_token: None,
        };
        let aws = Aws::connect(&target.at("http://127.0.0.1:1", nobody)).await.unwrap();
        let plan = plan(&self.stack, &Observed::default(), &PlanOptions::default()).unwrap();
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let events = Events::to(sender);
        let run = apply(&aws, &self.stack, &plan, &events, &self.cancel);
        let result = tokio::time::timeout(Duration::from_secs(10), run).await.expect("the run does not hang");
        let mut seen = Vec::new();
        while let Ok(event) = receiver.try_recv() {
            seen.push(event);
        }
        (result, seen)
    }

    fn noted(&self) -> Vec<String> {
        self.noted.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn outputs_reach_what_needs_them() {
    let story = Story::new().with("c", &["b"], Behaviour::Works).with("b", &["a"], Behaviour::Works);
    let story = story.with("a", &[], Behaviour::Works);
    let (result, events) = story.run().await;
    assert_eq!(result.unwrap().done, [at("a"), at("b"), at("c")]);
    assert_eq!(story.noted(), ["a", "b", "c"]);
    let started = events.iter().filter(|event| matches!(event, Event::Started { .. })).count();
    let done = events.iter().filter(|event| matches!(event, Event::Done { .. })).count();
    assert_eq!((started, done), (3, 3));
}

#[tokio::test]
async fn a_step_starts_as_soon_as_its_own_needs_are_met() {
    // `slow` is on the first level and `deep` on the third, and yet each waits for the other to be under way.
    let barrier = Arc::new(Barrier::new(2));
    let story = Story::new()
        .with("slow", &[], Behaviour::Meets(barrier.clone()))
        .with("a", &[], Behaviour::Works)
        .with("b", &["a"], Behaviour::Works)
        .with("deep", &["b"], Behaviour::Meets(barrier));
    assert_eq!(story.run().await.0.unwrap().done.len(), 4);
}

#[tokio::test]
async fn a_failure_lets_what_is_in_flight_finish_and_skips_the_rest() {
    let story = Story::new()
        .with("bad", &[], Behaviour::Fails)
        .with("good", &[], Behaviour::Works)
        .with("after-good", &["good"], Behaviour::Works)
        .with("after-bad", &["bad"], Behaviour::Works);
    let (result, events) = story.run().await;
    let Err(Error::Apply { failed, mut skipped }) = result else { panic!("{result:?}") };
    skipped.sort();
    assert_eq!(failed.iter().map(|(address, _)| address.clone()).collect::<Vec<_>>(), [at("bad")]);
    assert_eq!(skipped, [at("after-bad"), at("after-good")]);
    assert_eq!(story.noted(), ["good"]);
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Failed { error, .. } if error.contains("on purpose")))
    );
    let reasons = events.iter().filter_map(|event| match event {
        Event::Skipped { reason, .. } => Some(reason.as_str()),
        _ => None,
    });
    assert_eq!(reasons.collect::<Vec<_>>(), ["route/bad failed"; 2]);
}

#[tokio::test]
async fn a_stopped_run_finishes_what_is_in_flight_and_says_what_is_left() {
    let story = Story::new();
    let cancel = story.cancel.clone();
    let story = story.with("a", &[], Behaviour::Cancels(cancel)).with("b", &["a"], Behaviour::Works);
    let (result, _) = story.run().await;
    let Err(Error::Cancelled { skipped, .. }) = result else { panic!("{result:?}") };
    assert_eq!((story.noted(), skipped), (vec!["a".to_owned()], vec![at("b")]));
}

#[tokio::test]
async fn a_run_that_was_stopped_before_it_began_does_nothing() {
    let story = Story::new().with("a", &[], Behaviour::Works);
    story.cancel.cancel();
    assert!(matches!(story.run().await.0, Err(Error::Cancelled { .. })));
    assert!(story.noted().is_empty());
}
