//! Asks whether the principal may do what a plan says, while the plan is still being made. A plan without steps does
//! not wait for the answer.

use std::sync::Arc;

use chat_stacks::preflight::{self, Answer};
use chat_stacks::{Error, Plan};
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::stage::Stage;

/// A question under way.
#[derive(Debug)]
pub(crate) struct Preflight(Option<JoinHandle<Answer>>);

impl Preflight {
    pub(crate) fn start(stage: &Stage, skip: bool) -> Self {
        let (aws, scope) = (Arc::clone(&stage.aws), stage.settings.scope());
        Self((!skip).then(|| tokio::spawn(async move { preflight::ask(&aws, &scope).await })))
    }

    /// Refuses a plan that would be refused on the way.
    pub(crate) async fn check(mut self, context: &Context, plan: &Plan) -> Result<(), Error> {
        let Some(asking) = self.0.take() else { return Ok(()) };
        // A question that broke off is no answer, and none is needed.
        let Ok(answer) = asking.await else { return Ok(()) };
        if let Answer::Skipped(why) = &answer {
            context
                .output
                .note("preflight_skipped", &format!("permissions were not checked beforehand: {why}"));
        }
        let unclear = answer.unclear(plan);
        if !unclear.is_empty() {
            let rights: Vec<String> = unclear.iter().map(ToString::to_string).collect();
            let text = format!("IAM cannot tell beforehand whether these are allowed: {}", rights.join(", "));
            context.output.note("preflight_unclear", &text);
        }
        answer.check(plan)
    }
}

impl Drop for Preflight {
    fn drop(&mut self) {
        if let Some(asking) = &self.0 {
            asking.abort();
        }
    }
}
