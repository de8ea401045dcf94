//! What was changed in the account since the last run, by somebody else: a comparison of what was left with what is
//! there, which needs neither settings nor sources.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::ledger::Applied;
use crate::mask;
use crate::observe::Observed;
use crate::plan::{Action, Plan};
use crate::resource::Properties;
use crate::resources::function::PUBLISHED;

/// One resource that is not as it was left.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drift {
    /// As in `function/connect`.
    pub resource: String,
    /// Its id in the account, if it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub kind: DriftKind,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<DriftedProperty>,
}

/// What happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftKind {
    Changed,
    Deleted,
    /// It carries the stage's tags or is part of its API, and no run made it.
    Added,
}

impl fmt::Display for DriftKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Changed => "changed",
            Self::Deleted => "deleted",
            Self::Added => "added",
        })
    }
}

/// One property that is not as it was left.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DriftedProperty {
    pub property: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<Value>,
}

/// Compares. Pure.
pub fn drift(applied: &Applied, observed: &Observed) -> Vec<Drift> {
    let mut drifts = Vec::new();
    for (address, live) in observed.iter().filter(|(_, live)| live.owned) {
        let resource = address.to_string();
        let id = Some(live.id.clone());
        let Some(left) = applied.get(address) else {
            drifts.push(Drift { resource, id, kind: DriftKind::Added, changes: Vec::new() });
            continue;
        };
        // What is not declared is none of our business, here as in a plan.
        let changes: Vec<DriftedProperty> = left
            .keys()
            .map(String::as_str)
            .filter(|name| differs(left, &live.properties, name))
            .map(|name| DriftedProperty {
                property: name.to_owned(),
                left: left.get(name).cloned(),
                found: live
                    .properties
                    .get(name)
                    .map(|found| mask::live(name, found, left.get(name)).into_owned()),
            })
            .collect();
        if !changes.is_empty() {
            drifts.push(Drift { resource, id, kind: DriftKind::Changed, changes });
        }
    }
    let is_there =
        |resource: &str| observed.iter().any(|(address, live)| live.owned && address.to_string() == resource);
    let gone = applied.addresses().filter(|resource| !is_there(resource));
    drifts.extend(gone.map(|resource| Drift {
        resource: resource.to_owned(),
        id: None,
        kind: DriftKind::Deleted,
        changes: Vec::new(),
    }));
    drifts
}

/// Whether somebody else changed a property. What follows from other properties is told with those.
fn differs(left: &Map<String, Value>, live: &Properties, property: &str) -> bool {
    property != PUBLISHED && left.get(property) != live.get(property)
}

/// Marks the steps and properties of a plan that undo what somebody else did.
pub fn mark(plan: &mut Plan, applied: &Applied) {
    for step in &mut plan.steps {
        let left = applied.get(&step.resource);
        step.drift = match step.action {
            Action::Create => left.is_some(),
            Action::Delete => left.is_none(),
            Action::Update | Action::Replace => {
                let live = step.live.as_ref().map(|live| &live.properties);
                for change in &mut step.changes {
                    change.drift =
                        left.zip(live).is_some_and(|(left, live)| differs(left, live, change.property));
                }
                step.changes.iter().any(|change| change.drift)
            }
        };
    }
}
