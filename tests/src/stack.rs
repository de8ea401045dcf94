//! The same chat deployed by a stack of the local CloudFormation.

use chat_stacks::cloudformation::{self, Preparation, Prepared, eject};
use chat_stacks::{Artifacts, Error, Event, Events, Plan, StackProblem};
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use crate::chat::Chat;

/// What came of the execution of a change set.
pub struct Executed {
    pub plan: Plan,
    /// What CloudFormation reported on the way.
    pub events: Vec<Event>,
    /// What it ended with, if not well.
    pub failure: Option<String>,
}

impl Chat {
    /// A change set for these handlers, or nothing if a stack whose creation failed is in the way.
    pub async fn prepare_stack(&self, artifacts: &Artifacts) -> Option<Prepared> {
        let template = cloudformation::synth(&self.stage, artifacts).unwrap_or_else(|why| panic!("{why}"));
        match cloudformation::prepare(&self.aws, &template, artifacts)
            .await
            .unwrap_or_else(|why| panic!("{why}"))
        {
            Preparation::Ready(prepared) => Some(*prepared),
            Preparation::DeleteFirst => None,
        }
    }

    /// Deploys these handlers by change set.
    pub async fn deploy_stack(&self, artifacts: &Artifacts) -> Executed {
        let prepared =
            self.prepare_stack(artifacts).await.unwrap_or_else(|| panic!("the stack can only be deleted"));
        self.execute(&prepared).await
    }

    pub async fn execute(&self, prepared: &Prepared) -> Executed {
        let (sender, mut receiver) = unbounded_channel();
        let cancel = CancellationToken::new();
        let outcome = cloudformation::execute(&self.aws, prepared, &Events::to(sender), &cancel).await;
        let failure = match outcome {
            Ok(_) => None,
            Err(Error::Stack { problem: StackProblem::Failed, what, .. }) => Some(what),
            Err(other) => panic!("{other}"),
        };
        let mut events = Vec::new();
        while let Ok(event) = receiver.try_recv() {
            events.push(event);
        }
        Executed { plan: prepared.plan.clone(), events, failure }
    }

    /// Hands the directly deployed stage over, and says how many resources that were.
    pub async fn eject(&self, artifacts: &Artifacts) -> usize {
        let template = cloudformation::synth(&self.stage, artifacts).unwrap_or_else(|why| panic!("{why}"));
        let observed = self.observe().await;
        let identity = self.aws.identity().await.unwrap_or_else(|why| panic!("{why}"));
        let imports = eject::imports(&template, &observed, identity).unwrap_or_else(|why| panic!("{why}"));
        let prepared = eject::prepare(&self.aws, &template, artifacts, &imports).await;
        let prepared = prepared.unwrap_or_else(|why| panic!("{why}"));
        let cancel = CancellationToken::new();
        let done = eject::execute(&self.aws, &prepared, &observed, &Events::none(), &cancel).await;
        done.unwrap_or_else(|why| panic!("{why}"));
        imports.len()
    }

    /// Deletes the stack.
    pub async fn delete_stack(&self) {
        let (scope, cancel) = (self.stage.scope(), CancellationToken::new());
        let deleted = cloudformation::delete(&self.aws, &scope, &[], &Events::none(), &cancel).await;
        deleted.unwrap_or_else(|why| panic!("{why}"));
    }

    pub async fn observe(&self) -> chat_stacks::Observed {
        chat_stacks::observe(&self.aws, &self.stage.scope()).await.unwrap_or_else(|why| panic!("{why}"))
    }
}
