//! Follows a stack while CloudFormation works on it: its events become those of any other deploy.

use std::collections::HashMap;

use aws_sdk_cloudformation::types::StackEvent;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::changes::address;
use super::template::Template;
use crate::address::{Address, Kind};
use crate::apply::Outcome;
use crate::call::Cx;
use crate::error::{Error, StackProblem};
use crate::event::Event;
use crate::plan::Action;

/// Between two looks: short first, since the cloud on one machine is fast, then what a region's rate limits allow.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_secs(2);

/// The id of the last event that there is, so that only later ones are told.
pub(super) async fn newest(cx: &Cx<'_>, stack: &str) -> Result<Option<String>, Error> {
    let answer = cx.call(|| cx.aws.cloudformation.describe_stack_events().stack_name(stack).send()).await?;
    Ok(answer.stack_events.unwrap_or_default().into_iter().next().and_then(|event| event.event_id))
}

/// Tells what happens after the event `seen` until the stack rests.
pub(super) async fn follow(
    cx: &Cx<'_>,
    template: &Template,
    stack: &str,
    mut seen: Option<String>,
    cancel: &CancellationToken,
) -> Result<Outcome, Error> {
    let mut story = Story { cx, template, started: HashMap::new(), done: Vec::new(), failed: Vec::new() };
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let fresh = since(cx, stack, seen.as_deref()).await?;
        for event in fresh {
            seen.clone_from(&event.event_id);
            let whole = event.physical_resource_id.as_deref() == Some(stack);
            if !whole {
                story.tell(&event);
                continue;
            }
            let status = event.resource_status.as_ref().map(|status| status.as_str()).unwrap_or_default();
            if is_final(status) {
                return story.end(status, begun.elapsed());
            }
            // That the caller wanted it is no news.
            let reason = event.resource_status_reason.as_deref().filter(|reason| *reason != "User Initiated");
            story.progress(status, reason);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cancel.cancelled() => return Err(story.left()),
        }
        pause = (pause * 2).min(PAUSE);
    }
}

/// Events after the one that was seen, oldest first.
async fn since(cx: &Cx<'_>, stack: &str, seen: Option<&str>) -> Result<Vec<StackEvent>, Error> {
    let mut fresh = Vec::new();
    let mut token = None;
    loop {
        let page = cx
            .call(|| {
                cx.aws
                    .cloudformation
                    .describe_stack_events()
                    .stack_name(stack)
                    .set_next_token(token.clone())
                    .send()
            })
            .await?;
        for event in page.stack_events.unwrap_or_default() {
            if seen.is_some() && event.event_id.as_deref() == seen {
                fresh.reverse();
                return Ok(fresh);
            }
            fresh.push(event);
        }
        token = page.next_token.filter(|token| !token.is_empty());
        if token.is_none() {
            fresh.reverse();
            return Ok(fresh);
        }
    }
}

fn is_final(status: &str) -> bool {
    !status.ends_with("_IN_PROGRESS") && (status.ends_with("_COMPLETE") || status.ends_with("_FAILED"))
}

/// What was told so far.
struct Story<'a> {
    cx: &'a Cx<'a>,
    template: &'a Template,
    started: HashMap<Address, Instant>,
    done: Vec<Address>,
    failed: Vec<(Address, String)>,
}

impl Story<'_> {
    fn tell(&mut self, event: &StackEvent) {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let status = event.resource_status.as_ref().map(|status| status.as_str()).unwrap_or_default();
        let resource = address(self.template, &text(&event.logical_resource_id), &text(&event.resource_type));
        let reason = text(&event.resource_status_reason);
        let (verb, state) = status.split_once('_').unwrap_or((status, ""));
        let action = match verb {
            "DELETE" => Action::Delete,
            "UPDATE" => Action::Update,
            // An import makes nothing, but the stack has something new.
            _ => Action::Create,
        };
        match state {
            // It comes twice: when it is begun, and when it has its id.
            "IN_PROGRESS" => {
                if !self.started.contains_key(&resource) {
                    self.started.insert(resource.clone(), Instant::now());
                    self.cx.events.send(Event::Started { resource, action });
                }
            }
            // Because another one failed: that one is what is to be told.
            "FAILED" if reason.ends_with("cancelled") => {
                self.started.remove(&resource);
                self.cx.events.send(Event::Skipped { resource, action, reason });
            }
            "FAILED" => {
                self.started.remove(&resource);
                self.failed.push((resource.clone(), reason.clone()));
                self.cx.events.send(Event::Failed { resource, action, error: reason });
            }
            "SKIPPED" => {
                let reason = "its DeletionPolicy keeps it".to_owned();
                self.cx.events.send(Event::Skipped { resource, action, reason });
            }
            _ => {
                let took = self.started.remove(&resource).map_or(Duration::ZERO, |started| started.elapsed());
                let elapsed_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                self.done.push(resource.clone());
                self.cx.events.send(Event::Done { resource, action, elapsed_ms });
            }
        }
    }

    /// The state of the stack itself.
    fn progress(&self, status: &str, reason: Option<&str>) {
        let resource = Address::new(Kind::Stage, self.cx.scope.stage.as_str());
        let detail = match reason {
            Some(reason) => format!("{status}: {reason}"),
            None => status.to_owned(),
        };
        self.cx.events.send(Event::Progress { resource, detail });
    }

    fn end(self, status: &str, took: Duration) -> Result<Outcome, Error> {
        let fine = ["CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "DELETE_COMPLETE"];
        if fine.contains(&status) {
            let elapsed_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            return Ok(Outcome { done: self.done, elapsed_ms, ..Outcome::default() });
        }
        let stage = &self.cx.scope.stage;
        let name = super::stack::name(self.cx.scope);
        let list: Vec<String> = self.failed.iter().map(|(at, reason)| format!("  {at}: {reason}")).collect();
        let list = if list.is_empty() { String::new() } else { format!(":\n{}", list.join("\n")) };
        let (outcome, help) = match status {
            "ROLLBACK_COMPLETE" | "UPDATE_ROLLBACK_COMPLETE" | "IMPORT_ROLLBACK_COMPLETE" => (
                "everything is as it was before",
                "put right what failed, then run the same command again".to_owned(),
            ),
            "UPDATE_ROLLBACK_FAILED" => (
                "and CloudFormation could not go back",
                format!(
                    "put right what failed, then run: aws cloudformation continue-update-rollback --stack-name {name}"
                ),
            ),
            _ => (
                "something is left behind",
                format!(
                    "put right what failed, then: chatctl destroy --engine cloudformation --stage {stage}"
                ),
            ),
        };
        Err(Error::Stack {
            problem: StackProblem::Failed,
            what: format!("the stack {name} ended in the state {status}, {outcome}{list}"),
            help,
        })
    }

    fn left(&self) -> Error {
        let name = super::stack::name(self.cx.scope);
        Error::Stack {
            problem: StackProblem::Left,
            what: format!("stopped watching; CloudFormation goes on with the stack {name} by itself"),
            help: format!("aws cloudformation describe-stack-events --stack-name {name} shows how it ends"),
        }
    }
}
