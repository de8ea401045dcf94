//! Stacks, their resources, change sets and events, as they are kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::changes::Change;
use super::template::Template;

/// Properties of a resource by name.
pub(super) type Properties = Map<String, Value>;

/// One document in the store, so that a step is recorded whole or not at all.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stack {
    pub(super) name: String,
    /// ARN with a generated part: a stack of the same name that comes later is another one.
    pub(super) id: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) created_ms: i64,
    pub(super) updated_ms: Option<i64>,
    pub(super) deleted_ms: Option<i64>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) capabilities: Vec<String>,
    /// As it was given; empty before anything was executed.
    pub(super) template: String,
    pub(super) resources: BTreeMap<String, Resource>,
    pub(super) change_sets: BTreeMap<String, ChangeSet>,
    /// Oldest first.
    pub(super) events: Vec<Event>,
}

/// What became of one entry of the template.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Resource {
    pub(super) kind: String,
    pub(super) physical_id: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) changed_ms: i64,
    /// Resolved, as they were applied.
    pub(super) properties: Properties,
    /// What `Fn::GetAtt` gives.
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) retained: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ChangeSet {
    pub(super) name: String,
    pub(super) id: String,
    /// `CREATE`, `UPDATE` or `IMPORT`.
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) execution: String,
    pub(super) created_ms: i64,
    pub(super) body: String,
    pub(super) template: Template,
    pub(super) capabilities: Vec<String>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) changes: Vec<Change>,
    pub(super) imports: BTreeMap<String, Import>,
}

/// A resource that exists and is to become part of the stack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Import {
    pub(super) kind: String,
    pub(super) identifier: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) at_ms: i64,
    pub(super) logical_id: String,
    pub(super) physical_id: String,
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
}

pub(super) const STACK_TYPE: &str = "AWS::CloudFormation::Stack";

impl Stack {
    pub(super) fn is_deleted(&self) -> bool {
        self.status == "DELETE_COMPLETE"
    }

    pub(super) fn is_busy(&self) -> bool {
        self.status.ends_with("_IN_PROGRESS") && self.status != "REVIEW_IN_PROGRESS"
    }

    /// Sets the status of the whole, and says so in an event.
    pub(super) fn becomes(&mut self, status: &str, reason: Option<&str>) {
        self.status = status.to_owned();
        self.reason = reason.map(str::to_owned);
        let now = now_ms();
        if status == "DELETE_COMPLETE" {
            self.deleted_ms = Some(now);
        }
        self.events.push(Event {
            id: uuid::Uuid::new_v4().to_string(),
            at_ms: now,
            logical_id: self.name.clone(),
            physical_id: self.id.clone(),
            kind: STACK_TYPE.to_owned(),
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
        });
    }

    /// The same of one resource, which may not be recorded yet.
    pub(super) fn tells(
        &mut self,
        logical_id: &str,
        kind: &str,
        physical_id: &str,
        status: &str,
        reason: Option<&str>,
    ) {
        let now = now_ms();
        if let Some(resource) = self.resources.get_mut(logical_id).filter(|it| it.physical_id == physical_id)
        {
            resource.status = status.to_owned();
            resource.reason = reason.map(str::to_owned);
            resource.changed_ms = now;
        }
        self.events.push(Event {
            id: format!("{logical_id}-{status}-{}", uuid::Uuid::new_v4()),
            at_ms: now,
            logical_id: logical_id.to_owned(),
            physical_id: physical_id.to_owned(),
            kind: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
        });
    }
}

pub(super) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
