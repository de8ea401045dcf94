//! The stack of a stage: whether there is one, what state it is in, and what can be done from there.

use aws_sdk_cloudformation::types::Stack as Described;

use crate::call::Cx;
use crate::error::{Error, StackProblem};
use crate::names::Scope;

/// A stack as it was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
}

/// What a deploy may do with a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing was ever made of it.
    Create,
    Update,
    /// Its creation failed and was rolled back: it can only be deleted.
    DeleteFirst,
}

/// The stack of the stage, if there is one.
pub(crate) async fn find(cx: &Cx<'_>) -> Result<Option<Found>, Error> {
    let name = name(cx.scope);
    let answer = cx.call(|| cx.aws.cloudformation.describe_stacks().stack_name(&name).send()).await;
    match answer {
        Ok(answer) => Ok(answer.stacks.unwrap_or_default().into_iter().next().map(found)),
        // There is no typed error for it.
        Err(failure) if failure.is("ValidationError") && failure.message.contains("does not exist") => {
            Ok(None)
        }
        Err(failure) => Err(failure.into()),
    }
}

/// A stack is called like the stage's other resources.
pub(crate) fn name(scope: &Scope) -> String {
    scope.prefix()
}

fn found(stack: Described) -> Found {
    Found {
        id: stack.stack_id.unwrap_or_default(),
        status: stack.stack_status.map(|status| status.as_str().to_owned()).unwrap_or_default(),
        reason: stack.stack_status_reason,
    }
}

impl Found {
    /// Whether anything was made of it.
    pub(crate) fn has_resources(&self) -> bool {
        self.status != "REVIEW_IN_PROGRESS"
    }

    /// # Errors
    /// [`Error::Stack`] says how to get out of a state that nothing can go on from.
    /// Source: <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html>
    pub(crate) fn next(&self, scope: &Scope) -> Result<Next, Error> {
        let name = name(scope);
        let stage = &scope.stage;
        let refuse = |problem: StackProblem, what: &str, help: String| {
            let reason = self.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            Err(Error::Stack {
                problem,
                what: format!("the stack {name} is in the state {}{reason}; {what}", self.status),
                help,
            })
        };
        let stuck = |what: &str, help: String| refuse(StackProblem::Stuck, what, help);
        match self.status.as_str() {
            "REVIEW_IN_PROGRESS" => Ok(Next::Create),
            "ROLLBACK_COMPLETE" => Ok(Next::DeleteFirst),
            "CREATE_COMPLETE"
            | "UPDATE_COMPLETE"
            | "UPDATE_ROLLBACK_COMPLETE"
            | "IMPORT_COMPLETE"
            | "IMPORT_ROLLBACK_COMPLETE" => Ok(Next::Update),
            "UPDATE_ROLLBACK_FAILED" => stuck(
                "it could not be brought back to what it was before the last update",
                format!(
                    "put right what its events name (aws cloudformation describe-stack-events --stack-name {name}), then \
                     run: aws cloudformation continue-update-rollback --stack-name {name}"
                ),
            ),
            "ROLLBACK_FAILED" | "CREATE_FAILED" | "DELETE_FAILED" => stuck(
                "what is left of it has to go first",
                format!("chatctl destroy --engine cloudformation --stage {stage}"),
            ),
            status if status.ends_with("_IN_PROGRESS") => refuse(
                StackProblem::Busy,
                "somebody is working on it",
                "wait until that is over, then run the same command again; `--lock-timeout 600` waits for it"
                    .to_owned(),
            ),
            _ => stuck(
                "nothing here knows what to do with it",
                "look at it in the console of CloudFormation".to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{AppName, StageName};

    fn next(status: &str) -> Result<Next, Error> {
        let scope = Scope { app: AppName::parse("chat").unwrap(), stage: StageName::parse("dev").unwrap() };
        Found { id: String::new(), status: status.to_owned(), reason: None }.next(&scope)
    }

    #[test]
    fn a_state_leads_on_or_says_how_to_get_out_of_it() {
        assert_eq!(next("UPDATE_ROLLBACK_COMPLETE").unwrap(), Next::Update);
        assert_eq!(next("ROLLBACK_COMPLETE").unwrap(), Next::DeleteFirst);
        let stuck = next("UPDATE_ROLLBACK_FAILED").unwrap_err();
        assert!(stuck.help().unwrap().contains("continue-update-rollback"), "{stuck}");
        assert!(next("UPDATE_ROLLBACK_IN_PROGRESS").unwrap_err().help().unwrap().contains("wait"));
    }
}
