//! Asks IAM before the first change whether the principal that deploys may do what the plan says, so that a missing
//! right is not met halfway. Only a question: who may not ask it deploys all the same.

use std::collections::BTreeSet;

use aws_sdk_iam::types::{
    ContextEntry, ContextKeyTypeEnum, EvaluationResult, PermissionsBoundaryDecisionDetail,
    PolicyEvaluationDecisionType,
};
use chat_functions::contract::Partition;
use futures_util::future::try_join_all;

use crate::address::Kind;
use crate::aws::Aws;
use crate::call::{Cx, alone};
use crate::error::{AwsFailure, Error};
use crate::names::Scope;
use crate::permissions::{self, Condition, Question, outside};
use crate::plan::{Action, Plan};

outside! {
    aws_sdk_iam { simulate_principal_policy SimulatePrincipalPolicyError }
}

/// A right that is missing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Missing {
    pub action: String,
    pub resource: String,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", self.action, self.resource)
    }
}

/// What IAM said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Told {
        /// What is not allowed of all that deploys may need.
        missing: BTreeSet<Missing>,
        /// What IAM calls denied without knowing all that the decision may depend on: a condition on something that it
        /// was not told, or a policy of the organization, which it does not simulate faithfully (aws-sdk#102).
        unclear: BTreeSet<Missing>,
    },
    /// It could not be asked, and why.
    Skipped(String),
}

impl Answer {
    pub const fn all_allowed() -> Self {
        Self::Told { missing: BTreeSet::new(), unclear: BTreeSet::new() }
    }

    /// Refuses a plan for whose steps a right is missing, and names them all.
    ///
    /// # Errors
    /// [`Error::NotPermitted`].
    pub fn check(&self, plan: &Plan) -> Result<(), Error> {
        let Self::Told { missing, .. } = self else { return Ok(()) };
        let missing = needed(missing, plan);
        if missing.is_empty() { Ok(()) } else { Err(Error::NotPermitted(missing)) }
    }

    /// What the plan needs and IAM could not tell about.
    pub fn unclear(&self, plan: &Plan) -> Vec<Missing> {
        match self {
            Self::Told { unclear, .. } => needed(unclear, plan),
            Self::Skipped(_) => Vec::new(),
        }
    }
}

fn needed(of: &BTreeSet<Missing>, plan: &Plan) -> Vec<Missing> {
    let needed: BTreeSet<&str> = plan
        .steps
        .iter()
        .flat_map(|step| changes(step.resource.kind, step.action).iter().copied())
        .chain(LEDGER)
        .collect();
    of.iter().filter(|right| needed.contains(right.action.as_str())).cloned().collect()
}

/// Asks about every change that a deploy of this stage can make.
pub async fn ask(aws: &Aws, scope: &Scope) -> Answer {
    alone(aws, scope, None, async |cx| answer(cx).await).await
}

async fn answer(cx: &Cx<'_>) -> Answer {
    let identity = match cx.aws.identity().await {
        Ok(identity) => identity,
        Err(error) => return Answer::Skipped(error.to_string()),
    };
    if identity.arn.ends_with(":root") {
        // The owner may do everything.
        return Answer::all_allowed();
    }
    let source = match principal(cx, &identity.arn).await {
        Some(source) => source,
        None => {
            return Answer::Skipped(format!("{} has no policies that could be asked about", identity.arn));
        }
    };
    let questions = permissions::questions(cx.scope, identity, &changing());
    let conditions: BTreeSet<&Condition> =
        questions.iter().filter_map(|question| question.condition.as_ref()).collect();
    let asked = questions
        .iter()
        .map(|question| ask_one(cx, &source, question, context(question, &conditions, &identity.region)));
    match try_join_all(asked).await {
        Ok(denied) => {
            let (unclear, missing): (Vec<_>, Vec<_>) =
                denied.into_iter().flatten().partition(|denied| denied.unclear);
            let rights = |denied: Vec<Denied>| denied.into_iter().map(|denied| denied.right).collect();
            Answer::Told { missing: rights(missing), unclear: rights(unclear) }
        }
        Err(failure) if failure.is("AccessDenied") => {
            Answer::Skipped(format!("{source} may not iam:SimulatePrincipalPolicy itself"))
        }
        Err(failure) => Answer::Skipped(failure.to_string()),
    }
}

/// The principal whose policies count. A session is named after its role without the role's path, so that is looked
/// up; who may not look hopes that it has none.
async fn principal(cx: &Cx<'_>, arn: &str) -> Option<String> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let [_, partition, service, _, account, resource] = parts.as_slice() else { return None };
    match (*service, resource.split('/').collect::<Vec<_>>().as_slice()) {
        ("sts", ["assumed-role", role, ..]) => {
            let found = cx.call(|| cx.aws.iam.get_role().role_name(*role).send()).await;
            let found = found.ok().and_then(|answer| answer.role).map(|role| role.arn);
            Some(found.unwrap_or_else(|| format!("arn:{partition}:iam::{account}:role/{role}")))
        }
        ("iam", ["user", ..]) => Some(arn.to_owned()),
        // A federated user has no policies of its own.
        _ => None,
    }
}

/// A right that IAM says is not there, and whether it can know.
#[derive(Debug, PartialEq, Eq)]
struct Denied {
    right: Missing,
    unclear: bool,
}

/// All that is known here of the requests: IAM names every key of the principal's policies that it was not told, also
/// of statements about something else (boto3#3111), so that one key less would make every denial look unclear.
fn context(question: &Question, conditions: &BTreeSet<&Condition>, region: &str) -> Vec<ContextEntry> {
    let entry = |key: &str, kind: ContextKeyTypeEnum, value: &str| {
        let entry = ContextEntry::builder().context_key_name(key).context_key_type(kind);
        entry.context_key_values(value).build()
    };
    let known = conditions.iter().map(|condition| {
        let kind = match condition {
            Condition::PassedTo(_) => ContextKeyTypeEnum::String,
            Condition::LeadingKey(_) => ContextKeyTypeEnum::StringList,
        };
        entry(condition.key(), kind, condition.value())
    });
    // Many organizations have conditions on the region, and IAM does not fill it in: openshift/installer#1322.
    let region = requested_region(question, region);
    let region = region.map(|region| entry("aws:RequestedRegion", ContextKeyTypeEnum::String, region));
    known.chain(region).collect()
}

/// The region that a request goes to. A role is passed by a request to another service, and no source tells whose
/// region counts then.
fn requested_region<'a>(question: &Question, region: &'a str) -> Option<&'a str> {
    match &question.condition {
        Some(Condition::PassedTo(_)) => None,
        _ if question.actions.iter().all(|action| action.starts_with("iam:")) => {
            Some(Partition::of(region).iam_region)
        }
        _ => Some(region),
    }
}

async fn ask_one(
    cx: &Cx<'_>,
    source: &str,
    question: &Question,
    context: Vec<ContextEntry>,
) -> Result<Vec<Denied>, AwsFailure> {
    let mut denied = Vec::new();
    let mut marker: Option<String> = None;
    loop {
        let page = cx
            .call(|| {
                cx.aws
                    .iam
                    .simulate_principal_policy()
                    .policy_source_arn(source)
                    .set_action_names(Some(
                        question.actions.iter().map(|action| (*action).to_owned()).collect(),
                    ))
                    .set_resource_arns(Some(question.resources.clone()))
                    .set_context_entries(Some(context.clone()))
                    .set_marker(marker.clone())
                    .send()
            })
            .await?;
        denied.extend(page.evaluation_results().iter().flat_map(|result| denials(question, result)));
        marker = page.marker.filter(|marker| page.is_truncated && !marker.is_empty());
        if marker.is_none() {
            return Ok(denied);
        }
    }
}

/// What of an answer is denied: resource by resource where it says so, and otherwise the whole.
fn denials(question: &Question, result: &EvaluationResult) -> Vec<Denied> {
    let by_organization =
        result.organizations_decision_detail().is_some_and(|detail| !detail.allowed_by_organizations());
    // Its keys are not among the missing ones.
    let by_boundary = |detail: Option<&PermissionsBoundaryDecisionDetail>| {
        detail.is_some_and(|detail| !detail.allowed_by_permissions_boundary())
    };
    let unclear = by_organization
        || by_boundary(result.permissions_boundary_decision_detail())
        || !result.missing_context_values().is_empty();
    let denied = |resource: String, unclear: bool| Denied {
        right: Missing { action: result.eval_action_name.clone(), resource },
        unclear,
    };
    let is_denied =
        |decision: &PolicyEvaluationDecisionType| *decision != PolicyEvaluationDecisionType::Allowed;
    if !result.resource_specific_results().is_empty() {
        let each = result.resource_specific_results().iter();
        let of_one = each.filter(|one| is_denied(one.eval_resource_decision())).map(|one| {
            let unclear = unclear
                || by_boundary(one.permissions_boundary_decision_detail())
                || !one.missing_context_values().is_empty();
            denied(one.eval_resource_name().to_owned(), unclear)
        });
        return of_one.collect();
    }
    if !is_denied(result.eval_decision()) {
        return Vec::new();
    }
    // It may be the pattern of all such ARNs, which says nothing.
    let named =
        result.eval_resource_name().filter(|name| question.resources.iter().any(|asked| asked == name));
    vec![denied(named.map_or_else(|| question.resources.join(", "), str::to_owned), unclear)]
}

/// Every change takes the lock and is written down.
const LEDGER: [&str; 3] = ["dynamodb:DeleteItem", "dynamodb:PutItem", "dynamodb:UpdateItem"];

/// Every action that changes something.
fn changing() -> BTreeSet<&'static str> {
    let actions = [Action::Create, Action::Update, Action::Replace, Action::Delete];
    let kinds = Kind::ALL.into_iter();
    kinds
        .flat_map(|kind| actions.into_iter().flat_map(move |action| changes(kind, action)))
        .copied()
        .chain(LEDGER)
        .collect()
}

/// The IAM actions that a step may take. What only reads was needed for the plan already.
fn changes(kind: Kind, action: Action) -> &'static [&'static str] {
    match (kind, action) {
        (Kind::Table, Action::Create) => &[
            "dynamodb:CreateTable",
            "dynamodb:TagResource",
            "dynamodb:UpdateTimeToLive",
            "dynamodb:UpdateContinuousBackups",
        ],
        (Kind::Table, Action::Update) => &[
            "dynamodb:UpdateTable",
            "dynamodb:TagResource",
            "dynamodb:UpdateTimeToLive",
            "dynamodb:UpdateContinuousBackups",
        ],
        (Kind::Table, Action::Delete) => &["dynamodb:DeleteTable", "dynamodb:UpdateTable"],
        (Kind::LogGroup, Action::Create) => {
            &["logs:CreateLogGroup", "logs:TagResource", "logs:PutRetentionPolicy"]
        }
        (Kind::LogGroup, Action::Update) => &["logs:TagResource", "logs:PutRetentionPolicy"],
        (Kind::LogGroup, Action::Delete) => &["logs:DeleteLogGroup"],
        (Kind::Role, Action::Create) => &["iam:CreateRole", "iam:TagRole"],
        (Kind::Role, Action::Update) => &[
            "iam:UpdateAssumeRolePolicy",
            "iam:TagRole",
            "iam:DetachRolePolicy",
            "iam:DeleteRolePermissionsBoundary",
        ],
        (Kind::Role, Action::Delete) => &["iam:DeleteRole", "iam:DetachRolePolicy"],
        (Kind::Policy, Action::Create | Action::Update) => &["iam:PutRolePolicy"],
        (Kind::Policy, Action::Delete) => &["iam:DeleteRolePolicy"],
        (Kind::Function, Action::Create) => &["lambda:CreateFunction", "lambda:TagResource", "iam:PassRole"],
        (Kind::Function, Action::Update) => &[
            "lambda:UpdateFunctionCode",
            "lambda:UpdateFunctionConfiguration",
            "lambda:PublishVersion",
            "lambda:DeleteFunctionConcurrency",
            "lambda:TagResource",
            "iam:PassRole",
        ],
        (Kind::Function, Action::Delete) => &["lambda:DeleteFunction"],
        (Kind::Alias, Action::Create) => &["lambda:CreateAlias"],
        (Kind::Alias, Action::Update) => &["lambda:UpdateAlias", "lambda:DeleteFunction"],
        // It goes with its function.
        (Kind::Alias, Action::Delete) => &[],
        (Kind::Permission, Action::Create) => &["lambda:AddPermission"],
        (Kind::Permission, Action::Update) => &["lambda:AddPermission", "lambda:RemovePermission"],
        (Kind::Permission, Action::Delete) => &["lambda:RemovePermission"],
        // None of the named ones is ever replaced.
        (
            Kind::Table
            | Kind::LogGroup
            | Kind::Role
            | Kind::Policy
            | Kind::Function
            | Kind::Alias
            | Kind::Permission,
            Action::Replace,
        ) => &[],
        (Kind::Api | Kind::Stage, Action::Create) => &["apigateway:POST", "apigateway:TagResource"],
        // Tags are posted.
        (Kind::Api | Kind::Stage, Action::Update) => &["apigateway:PATCH", "apigateway:POST"],
        // A property of its route.
        (Kind::RouteTarget, _) => &["apigateway:PATCH"],
        (_, Action::Create) => &["apigateway:POST"],
        (_, Action::Update) => &["apigateway:PATCH"],
        (_, Action::Replace) => &["apigateway:POST", "apigateway:DELETE"],
        (_, Action::Delete) => &["apigateway:DELETE"],
    }
}

#[cfg(test)]
mod tests;
