//! CloudFormation: stacks that are changed by change sets alone, and whose resources are made by calls to the other
//! services in the name of whoever executes the change set. It knows some resource types and refuses others by name.

mod change_sets;
mod changes;
mod intrinsics;
mod model;
mod run;
mod show;
mod stacks;
mod template;
mod types;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::model::Stack;
use self::template::invalid;
use crate::call::{Call, Reply};
use crate::context::Context;
use crate::error::AwsError;
use crate::front::Front;
use crate::query::{Form, Xml, reply};

pub(crate) const NAMESPACE: &str = "http://cloudformation.amazonaws.com/doc/2010-05-15/";
pub(crate) const VERSION: &str = "2010-05-15";

const KIND: &str = "cloudformation-stack";

/// What an operation returns: its result, or nothing where it has none.
type Outcome = Result<Option<Xml>, AwsError>;

/// Every operation that there is here, with the IAM action of the same name.
pub(crate) const OPERATIONS: [&str; 12] = [
    "CreateChangeSet",
    "DeleteChangeSet",
    "DeleteStack",
    "DescribeChangeSet",
    "DescribeStackEvents",
    "DescribeStackResources",
    "DescribeStacks",
    "ExecuteChangeSet",
    "GetTemplate",
    "ListStackResources",
    "ListStacks",
    "ValidateTemplate",
];

/// The service.
pub(crate) struct CloudFormation {
    cx: Arc<Context>,
    /// By id. Deleted ones stay for those who know their id, as on AWS for 90 days.
    stacks: Mutex<BTreeMap<String, Stack>>,
}

impl CloudFormation {
    pub(crate) fn open(cx: &Arc<Context>) -> Result<Arc<Self>, AwsError> {
        let mut stacks: BTreeMap<String, Stack> = cx.store.list(KIND)?.into_iter().collect();
        for stack in stacks.values_mut().filter(|stack| stack.is_busy()) {
            // Whoever executed it is gone, and nothing knows how far it got.
            let failed = match stack.status.as_str() {
                status if status.starts_with("CREATE") || status.starts_with("ROLLBACK") => "ROLLBACK_FAILED",
                status if status.starts_with("DELETE") => "DELETE_FAILED",
                status if status.starts_with("IMPORT") => "IMPORT_ROLLBACK_FAILED",
                _ => "UPDATE_ROLLBACK_FAILED",
            };
            stack.becomes(failed, Some("The local cloud stopped while it was working on this stack."));
            cx.store.put(KIND, &stack.id, stack)?;
        }
        Ok(Arc::new(Self { cx: cx.clone(), stacks: Mutex::new(stacks) }))
    }

    /// What an operation is authorised on.
    pub(crate) fn resource(&self, form: &Form) -> String {
        let named = form.get("StackName").unwrap_or("*");
        if named.starts_with("arn:") {
            return named.to_owned();
        }
        format!("arn:aws:cloudformation:{}:{}:stack/{named}/*", self.cx.region, self.cx.account)
    }

    pub(crate) fn call(
        self: &Arc<Self>,
        operation: &str,
        form: &Form,
        call: &Call,
        front: &Arc<Front>,
    ) -> Result<Reply, AwsError> {
        let result = match operation {
            "CreateChangeSet" => self.create_change_set(form),
            "DeleteChangeSet" => self.delete_change_set(form),
            "DeleteStack" => self.delete_stack(form, &call.principal, front),
            "DescribeChangeSet" => self.describe_change_set(form),
            "DescribeStackEvents" => self.describe_events(form),
            "DescribeStackResources" => self.describe_resources(form),
            "DescribeStacks" => self.describe_stacks(form),
            "ExecuteChangeSet" => self.execute_change_set(form, &call.principal, front),
            "GetTemplate" => self.get_template(form),
            "ListStackResources" => self.list_resources(form),
            "ListStacks" => self.list_stacks(form),
            "ValidateTemplate" => self.validate_template(form),
            other => Err(invalid(format!("Could not find operation {other} for version {VERSION}"))),
        }?;
        Ok(reply(operation, NAMESPACE, &call.request_id, result))
    }

    /// The id of a stack that is named by name or id. A name finds no deleted one.
    fn find(stacks: &BTreeMap<String, Stack>, named: &str) -> Option<String> {
        let found =
            stacks.values().find(|stack| stack.id == named || (stack.name == named && !stack.is_deleted()));
        found.map(|stack| stack.id.clone())
    }

    fn look<T>(&self, named: &str, look: impl FnOnce(&Stack) -> Result<T, AwsError>) -> Result<T, AwsError> {
        let stacks = self.lock();
        let id = Self::find(&stacks, named);
        look(id.and_then(|id| stacks.get(&id)).ok_or_else(|| no_stack(named))?)
    }

    /// Changes a stack as a whole or not at all, on disk first.
    fn update<T>(
        &self,
        named: &str,
        change: impl FnOnce(&mut Stack) -> Result<T, AwsError>,
    ) -> Result<T, AwsError> {
        let mut stacks = self.lock();
        let id = Self::find(&stacks, named).ok_or_else(|| no_stack(named))?;
        let current = stacks.get_mut(&id).ok_or_else(|| no_stack(named))?;
        let mut next = current.clone();
        let result = change(&mut next)?;
        self.cx.store.put(KIND, &id, &next)?;
        *current = next;
        Ok(result)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Stack>> {
        self.stacks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_stack(named: &str) -> AwsError {
    invalid(format!("Stack with id {named} does not exist"))
}
