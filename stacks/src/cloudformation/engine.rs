//! Deploys a template by change set: what would change is asked first and shown as a plan, then CloudFormation carries it
//! out by itself, and what it reports is passed on.

use aws_sdk_cloudformation::types::{
    Capability, ChangeSetStatus, ChangeSetType, ResourceChange, ResourceToImport, Tag,
};
use tokio::time::Duration;
use tokio_util::sync::CancellationToken;

use super::changes;
use super::stack::{self, Next};
use super::template::{Template, digest};
use super::{bucket, watch};
use crate::address::Address;
use crate::apply::Outcome;
use crate::artifact::Artifacts;
use crate::aws::Aws;
use crate::call::{Cx, Locks, OrAbsent, alone};
use crate::error::{Error, StackProblem};
use crate::event::Events;
use crate::names::Scope;
use crate::observe::observe;
use crate::plan::Plan;
use crate::resource::Outputs;

/// A change set takes seconds in a region; with a hook or a macro in the account it may take minutes.
const CHANGE_SET_WITHIN: Duration = Duration::from_secs(300);

/// There is nothing in it to delete.
const EMPTY_GONE_WITHIN: Duration = Duration::from_secs(120);

/// A change set that is ready to be executed.
#[derive(Debug)]
pub struct Prepared {
    pub plan: Plan,
    template: Template,
    change_set: String,
    stack: String,
    /// What the stack's template was before; nothing where there was no stack.
    before: Option<String>,
}

impl Prepared {
    pub(super) fn scope(&self) -> &Scope {
        &self.template.scope
    }
}

/// What a deploy begins with.
#[derive(Debug)]
pub enum Preparation {
    /// There may be nothing to do: then the plan is empty.
    Ready(Box<Prepared>),
    /// The stack's creation failed before and was rolled back. CloudFormation can only delete it, which
    /// [`delete`] does; nothing is in it.
    DeleteFirst,
}

/// Uploads the code and makes a change set of the template.
///
/// # Errors
/// [`Error::Stack`] where the stage belongs to the other engine, or its stack is in a state that nothing goes on from.
pub async fn prepare(aws: &Aws, template: &Template, artifacts: &Artifacts) -> Result<Preparation, Error> {
    let scope = &template.scope;
    alone(aws, scope, None, async |cx| {
        let kind = match stack::find(cx).await? {
            Some(found) => match found.next(scope)? {
                Next::Create => ChangeSetType::Create,
                Next::Update => ChangeSetType::Update,
                Next::DeleteFirst => return Ok(Preparation::DeleteFirst),
            },
            None => ChangeSetType::Create,
        };
        if kind == ChangeSetType::Create {
            refuse_direct(cx).await?;
        }
        let identity = aws.identity().await?;
        let before = async {
            match kind {
                ChangeSetType::Create => Ok(None),
                _ => template_of(cx).await,
            }
        };
        let (before, _) = tokio::try_join!(before, bucket::fill(cx, identity, artifacts))?;
        let prepared = change_set(cx, template, kind.clone(), Vec::new()).await?;
        Ok(Preparation::Ready(Box::new(Prepared { before, ..prepared })))
    })
    .await
}

async fn template_of(cx: &Cx<'_>) -> Result<Option<String>, Error> {
    let stack = stack::name(cx.scope);
    let answer = cx.call(|| cx.aws.cloudformation.get_template().stack_name(&stack).send()).await?;
    Ok(answer.template_body)
}

/// A stage that was deployed directly has everything that the stack would make.
async fn refuse_direct(cx: &Cx<'_>) -> Result<(), Error> {
    let observed = observe(cx.aws, cx.scope).await?;
    if observed.is_empty() {
        return Ok(());
    }
    let stage = &cx.scope.stage;
    // A protected table outlives its stack, also one whose creation failed.
    if observed.is_of_cloudformation() {
        let left: Vec<String> = observed
            .iter()
            .filter(|(_, live)| live.owned)
            .map(|(at, live)| format!("{at} ({})", live.id))
            .collect();
        return Err(Error::Stack {
            problem: StackProblem::Stuck,
            what: format!("an earlier stack of stage {stage} has left {} behind", left.join(", ")),
            help: "delete what is left by hand, with its deletion protection switched off first; a stack cannot take it in"
                .to_owned(),
        });
    }
    Err(Error::Stack {
        problem: StackProblem::OtherEngine,
        what: format!("stage {stage} is deployed without CloudFormation"),
        help: format!(
            "`chatctl eject --stage {stage}` hands it over as it is; deploy without --engine goes on as before"
        ),
    })
}

/// Makes a change set and waits until CloudFormation has compared.
pub(super) async fn change_set(
    cx: &Cx<'_>,
    template: &Template,
    kind: ChangeSetType,
    imports: Vec<ResourceToImport>,
) -> Result<Prepared, Error> {
    let stack = stack::name(cx.scope);
    // The same template has the same change set: what a killed run left is replaced, not added to.
    let name = format!("chatctl-{}", digest(&serde_json::json!([kind.as_str(), template.body()])));
    let tags: Vec<Tag> = cx
        .scope
        .tags()
        .into_iter()
        .map(|(key, value)| Tag::builder().key(key).value(value).build())
        .collect();
    let create = async || {
        cx.call(|| {
            cx.aws
                .cloudformation
                .create_change_set()
                .stack_name(&stack)
                .change_set_name(&name)
                .change_set_type(kind.clone())
                .capabilities(Capability::CapabilityNamedIam)
                .template_body(template.body())
                .set_resources_to_import((!imports.is_empty()).then(|| imports.clone()))
                .set_tags(Some(tags.clone()))
                .send()
        })
        .await
    };
    let created = match create().await {
        Err(failure) if failure.is("AlreadyExistsException") => {
            delete_change_set(cx, &stack, &name).await?;
            create().await?
        }
        other => other?,
    };
    let (id, stack) = (created.id.unwrap_or_default(), created.stack_id.unwrap_or_default());
    let described = wait(cx, &stack, &id).await?;
    let changes = match described {
        Some(changes) => changes,
        None => {
            delete_change_set(cx, &stack, &id).await?;
            Vec::new()
        }
    };
    let plan = changes::plan(template, changes);
    Ok(Prepared { plan, template: template.clone(), change_set: id, stack, before: None })
}

/// The changes; nothing if there are none.
async fn wait(cx: &Cx<'_>, stack: &str, id: &str) -> Result<Option<Vec<ResourceChange>>, Error> {
    cx.wait("the change set is ready", CHANGE_SET_WITHIN, || async {
        let mut changes = Vec::new();
        let mut token = None;
        loop {
            let page = cx
                .call(|| {
                    cx.aws
                        .cloudformation
                        .describe_change_set()
                        .stack_name(stack)
                        .change_set_name(id)
                        .include_property_values(true)
                        .set_next_token(token.clone())
                        .send()
                })
                .await?;
            match page.status {
                Some(ChangeSetStatus::CreateComplete) => {}
                Some(ChangeSetStatus::Failed) => {
                    let reason = page.status_reason.unwrap_or_default();
                    // An empty change set is a failed one, told by these words alone.
                    // Source: <https://github.com/aws-cloudformation/rain/issues/94>
                    if ["didn't contain changes", "No updates are to be performed"]
                        .iter()
                        .any(|it| reason.contains(it))
                    {
                        return Ok(Some(None));
                    }
                    return Err(Error::Stack {
                        problem: StackProblem::Failed,
                        what: format!("CloudFormation refuses the change set: {reason}"),
                        help: "`chatctl synth` prints the template that it was given".to_owned(),
                    });
                }
                _ => return Ok(None),
            }
            changes.extend(
                page.changes.unwrap_or_default().into_iter().filter_map(|change| change.resource_change),
            );
            token = page.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(Some(Some(changes)));
            }
        }
    })
    .await
}

async fn delete_change_set(cx: &Cx<'_>, stack: &str, name: &str) -> Result<(), Error> {
    cx.call(|| cx.aws.cloudformation.delete_change_set().stack_name(stack).change_set_name(name).send())
        .await
        .or_absent("ChangeSetNotFound")?;
    Ok(())
}

/// Carries a change set out and follows the stack until it rests.
///
/// # Errors
/// [`Error::Stack`] if CloudFormation rolled it back, with what failed.
pub async fn execute(
    aws: &Aws,
    prepared: &Prepared,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Outcome, Error> {
    let locks = Locks::default();
    let scope = &prepared.template.scope;
    let cx =
        Cx { aws, scope, address: None, outputs: Outputs::default(), events, locks: &locks, stop: cancel };
    let seen = watch::newest(&cx, &prepared.stack).await?;
    // Sent again because its answer was lost, it is still the same execution.
    let token = prepared.change_set.rsplit('/').next().unwrap_or_default();
    cx.call(|| {
        aws.cloudformation
            .execute_change_set()
            .stack_name(&prepared.stack)
            .change_set_name(&prepared.change_set)
            .client_request_token(token)
            .send()
    })
    .await?;
    watch::follow(&cx, &prepared.template, &prepared.stack, seen, cancel).await
}

/// Gives the stack the template that it had before `prepared` was executed. Says whether there was one.
pub(crate) async fn restore(
    aws: &Aws,
    prepared: &Prepared,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<bool, Error> {
    let Some(before) = &prepared.before else { return Ok(false) };
    let template = prepared.template.earlier(before.clone());
    let back = alone(aws, prepared.scope(), None, async |cx| {
        change_set(cx, &template, ChangeSetType::Update, Vec::new()).await
    });
    let back = back.await?;
    if !back.plan.is_empty() {
        execute(aws, &back, events, cancel).await?;
    }
    Ok(true)
}

/// Forgets a change set that is not wanted, and the stack that exists for nothing else.
pub async fn discard(aws: &Aws, prepared: &Prepared) -> Result<(), Error> {
    alone(aws, &prepared.template.scope, None, async |cx| {
        delete_change_set(cx, &prepared.stack, &prepared.change_set).await?;
        match stack::find(cx).await? {
            Some(found) if !found.has_resources() => {
                delete_stack(cx, &found.id).await?;
                // Until it is gone, the next change set would find somebody at work.
                cx.wait("the empty stack is gone", EMPTY_GONE_WITHIN, || async {
                    Ok(stack::find(cx).await?.is_none().then_some(()))
                })
                .await
            }
            _ => Ok(()),
        }
    })
    .await
}

/// Deletes the stack of a stage with everything in it, and waits until it is gone. Nothing to delete is success. What is
/// `known` to be there is called in events as it is elsewhere.
///
/// # Errors
/// [`Error::Stack`] if something could not be deleted, with what that was.
pub async fn delete(
    aws: &Aws,
    scope: &Scope,
    known: &[Address],
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Outcome, Error> {
    let locks = Locks::default();
    let cx =
        Cx { aws, scope, address: None, outputs: Outputs::default(), events, locks: &locks, stop: cancel };
    let Some(found) = stack::find(&cx).await? else { return Ok(Outcome::default()) };
    let seen = watch::newest(&cx, &found.id).await?;
    delete_stack(&cx, &found.id).await?;
    watch::follow(&cx, &Template::naming(scope, known), &found.id, seen, cancel).await
}

async fn delete_stack(cx: &Cx<'_>, id: &str) -> Result<(), Error> {
    cx.call(|| cx.aws.cloudformation.delete_stack().stack_name(id).send()).await?;
    Ok(())
}

/// Whether there is a stack of this stage with anything in it.
pub async fn is_deployed(aws: &Aws, scope: &Scope) -> Result<bool, Error> {
    alone(aws, scope, None, async |cx| Ok(stack::find(cx).await?.is_some_and(|found| found.has_resources())))
        .await
}

/// The name of the bucket that the code of the app is in, which stays when a stage goes.
pub async fn bucket_of(aws: &Aws, scope: &Scope) -> Result<String, Error> {
    Ok(bucket::name(&scope.app, aws.identity().await?))
}
