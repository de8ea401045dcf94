//! Carries a plan out: every step as soon as what it needs is there, the longest path first. It makes no choices of
//! its own. What was created serves before what is no longer declared goes.

use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::address::Address;
use crate::aws::Aws;
use crate::call::{Cx, Locks};
use crate::error::Error;
use crate::event::{Event, Events};
use crate::graph::Graph;
use crate::names::Scope;
use crate::observe::observe_outline;
use crate::plan::{Action, Plan, Step};
use crate::resource::{Outputs, Stack, Values};
use crate::resources;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    pub done: Vec<Address>,
    pub elapsed_ms: u64,
    #[serde(skip)]
    pub(crate) outputs: Outputs,
}

/// How long what is in flight may take after the run was asked to stop. CI systems send SIGINT, 7.5 s later SIGTERM and
/// 2.5 s after that SIGKILL, and what was left undone has to be said before: aws-facts, what users complain about.
const DRAIN: Duration = Duration::from_secs(6);

/// Carries out `plan`, which must be of this `stack`. When a step fails or `cancel` is triggered, what is in flight is
/// finished and nothing new is begun; after `cancel` what still waits for AWS gives up, and so does after 6 s what has
/// not come to an end.
///
/// # Errors
/// [`Error::Apply`] with every failure and everything skipped; [`Error::Cancelled`] if nothing failed.
pub async fn apply(
    aws: &Aws,
    stack: &Stack,
    plan: &Plan,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Outcome, Error> {
    let started = Instant::now();
    let locks = Locks::default();
    let surroundings = Surroundings { aws, stack, scope: &plan.scope, events, cancel, locks: &locks };
    let mut progress = Progress { outputs: plan.outputs.clone(), ..Progress::default() };
    // Cut over once: the old serves until the new does, so nothing goes before everything else has come.
    for phase in [Phase::Make, Phase::DeleteReplaced, Phase::Delete] {
        let steps: Vec<&Step> = plan.steps.iter().filter(|step| phase.includes(step)).collect();
        surroundings.run(&steps, phase, &mut progress).await?;
    }
    progress.outcome(started.elapsed())
}

/// Looks whether a destroy left anything of the stage behind.
///
/// # Errors
/// [`Error::LeftBehind`] names it.
pub async fn verify_gone(aws: &Aws, scope: &Scope) -> Result<(), Error> {
    let observed = observe_outline(aws, scope).await?;
    let left: Vec<Address> =
        observed.iter().filter(|(_, live)| live.owned).map(|(address, _)| address.clone()).collect();
    if left.is_empty() { Ok(()) } else { Err(Error::LeftBehind(left)) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Up to and with the cut-over.
    Make,
    /// The old ones of replacements, once the new ones have taken over.
    DeleteReplaced,
    Delete,
}

impl Phase {
    fn includes(self, step: &Step) -> bool {
        match self {
            Self::Make => step.action != Action::Delete || step.is_removed_before_deployment(),
            Self::DeleteReplaced => step.action == Action::Replace,
            Self::Delete => step.action == Action::Delete && !step.is_removed_before_deployment(),
        }
    }

    /// A replacement was announced when its new resource was made.
    fn is_announced(self) -> bool {
        self != Self::DeleteReplaced
    }
}

/// What stays the same for the whole run.
struct Surroundings<'a> {
    aws: &'a Aws,
    stack: &'a Stack,
    scope: &'a Scope,
    events: &'a Events,
    cancel: &'a CancellationToken,
    locks: &'a Locks,
}

/// What has become of the steps so far.
#[derive(Default)]
struct Progress {
    outputs: Outputs,
    done: Vec<Address>,
    failed: Vec<(Address, Error)>,
    unfinished: Vec<Address>,
    skipped: Vec<Address>,
    /// Whether it was told that the run is stopping.
    stopping: bool,
}

struct Finished<'a> {
    step: &'a Step,
    result: Result<Values, Error>,
    elapsed: Duration,
}

impl Surroundings<'_> {
    async fn run(&self, steps: &[&Step], phase: Phase, progress: &mut Progress) -> Result<(), Error> {
        let graph = Graph::new(steps.iter().map(|step| (step.resource.clone(), step.after.clone())))?;
        let urgency = graph.urgency();
        let mut waiting: Vec<&Step> = steps.to_vec();
        waiting
            .sort_by_key(|step| std::cmp::Reverse(urgency.get(&step.resource).copied().unwrap_or_default()));
        let mut unfinished: HashSet<Address> = steps.iter().map(|step| step.resource.clone()).collect();
        let mut in_flight = FuturesUnordered::new();
        let mut impatient = pin!(async {
            self.cancel.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        });
        loop {
            // After a failure or a cancellation nothing new is begun; what is in flight is drained.
            if progress.failed.is_empty() && !self.cancel.is_cancelled() {
                let (ready, blocked): (Vec<&Step>, Vec<&Step>) = waiting
                    .into_iter()
                    .partition(|step| step.after.iter().all(|need| !unfinished.contains(need)));
                waiting = blocked;
                for step in ready {
                    in_flight.push(self.execute(step, phase, progress.outputs.clone()));
                }
            }
            let finished = tokio::select! {
                finished = in_flight.next() => finished,
                () = self.cancel.cancelled(), if !progress.stopping => {
                    progress.stopping = true;
                    let in_flight: Vec<Address> =
                        begun(steps, &waiting, &unfinished).map(|step| step.resource.clone()).collect();
                    if !in_flight.is_empty() {
                        self.events.send(Event::Stopping { in_flight });
                    }
                    continue;
                }
                () = &mut impatient => break,
            };
            let Some(Finished { step, result, elapsed }) = finished else { break };
            unfinished.remove(&step.resource);
            self.record(step, phase, result, elapsed, progress);
        }
        // What is dropped here was sent perhaps, and answered perhaps.
        drop(in_flight);
        for step in begun(steps, &waiting, &unfinished) {
            self.give_up(step, progress, &format!("it was not done {} s after the stop", DRAIN.as_secs()));
        }
        for step in waiting {
            self.skip(step, phase, progress);
        }
        Ok(())
    }

    async fn execute<'s>(&self, step: &'s Step, phase: Phase, outputs: Outputs) -> Finished<'s> {
        let started = Instant::now();
        let (resource, action) = (step.resource.clone(), step.action);
        if phase.is_announced() {
            self.events.send(Event::Started { resource: resource.clone(), action });
        }
        let cx = Cx {
            aws: self.aws,
            scope: self.scope,
            address: Some(resource.clone()),
            outputs,
            events: self.events,
            locks: self.locks,
            stop: self.cancel,
        };
        let result = match (phase, action) {
            (Phase::Make, Action::Create | Action::Update | Action::Replace) => self.make(&cx, step).await,
            // It went with what contained it.
            _ if step.deleted_with.is_some() => Ok(Values::new()),
            _ => match &step.live {
                Some(live) if phase == Phase::DeleteReplaced => {
                    resources::retire(&cx, resource.kind, live).await.map(|()| Values::new())
                }
                Some(live) => resources::delete(&cx, resource.kind, live).await.map(|()| Values::new()),
                None => Err(Error::bug(format!("{resource} is deleted but was not observed"))),
            },
        };
        Finished { step, result: result.map_err(|error| error.at(&resource)), elapsed: started.elapsed() }
    }

    async fn make(&self, cx: &Cx<'_>, step: &Step) -> Result<Values, Error> {
        let resource = self.stack.get(&step.resource);
        let resource =
            resource.ok_or_else(|| Error::bug(format!("{} is not in the stack", step.resource)))?;
        resource.converge(cx, step.live.as_ref()).await
    }

    fn record(
        &self,
        step: &Step,
        phase: Phase,
        result: Result<Values, Error>,
        elapsed: Duration,
        progress: &mut Progress,
    ) {
        let (resource, action) = (step.resource.clone(), step.action);
        match result {
            Ok(values) => {
                if phase == Phase::Make {
                    progress.outputs.insert(resource.clone(), values);
                }
                if phase.is_announced() {
                    self.events.send(Event::Done {
                        resource: resource.clone(),
                        action,
                        elapsed_ms: millis(elapsed),
                    });
                    progress.done.push(resource);
                }
            }
            Err(error) if self.cancel.is_cancelled() && error.is_not_yet() => {
                self.give_up(step, progress, &error.to_string());
            }
            Err(error) => {
                self.events.send(Event::Failed {
                    resource: resource.clone(),
                    action,
                    error: error.to_string(),
                });
                progress.failed.push((resource, error));
            }
        }
    }

    /// Tells of a step that was begun before the stop and will not be finished.
    fn give_up(&self, step: &Step, progress: &mut Progress, reason: &str) {
        self.events.send(Event::Skipped {
            resource: step.resource.clone(),
            action: step.action,
            reason: format!("the run was stopped while it was in work ({reason})"),
        });
        progress.unfinished.push(step.resource.clone());
    }

    fn skip(&self, step: &Step, phase: Phase, progress: &mut Progress) {
        if !phase.is_announced() {
            return;
        }
        let reason = match progress.failed.first() {
            Some((failed, _)) => format!("{failed} failed"),
            None => "the run was stopped".to_owned(),
        };
        self.events.send(Event::Skipped { resource: step.resource.clone(), action: step.action, reason });
        progress.skipped.push(step.resource.clone());
    }
}

impl Progress {
    fn outcome(self, elapsed: Duration) -> Result<Outcome, Error> {
        if !self.failed.is_empty() {
            let skipped = [self.unfinished, self.skipped].concat();
            return Err(Error::Apply { failed: self.failed, skipped });
        }
        if !self.unfinished.is_empty() || !self.skipped.is_empty() {
            return Err(Error::Cancelled { unfinished: self.unfinished, skipped: self.skipped });
        }
        Ok(Outcome { done: self.done, elapsed_ms: millis(elapsed), outputs: self.outputs })
    }
}

/// The steps that are neither done nor waiting.
fn begun<'s>(
    steps: &[&'s Step],
    waiting: &[&Step],
    unfinished: &HashSet<Address>,
) -> impl Iterator<Item = &'s Step> {
    let is_waiting = |step: &Step| waiting.iter().any(|waiting| waiting.resource == step.resource);
    steps.iter().copied().filter(move |step| unfinished.contains(&step.resource) && !is_waiting(step))
}

fn millis(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
