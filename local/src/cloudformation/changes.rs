//! What a change set would do: the difference between two templates.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model::{Import, Resource, Stack};
use super::template::{Declaration, Template};
use super::types;

/// One resource that changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) logical_id: String,
    pub(super) physical_id: Option<String>,
    pub(super) kind: String,
    /// `Add`, `Modify`, `Remove` or `Import`.
    pub(super) action: String,
    /// Only of a modification.
    pub(super) replacement: Option<bool>,
    pub(super) details: Vec<Detail>,
}

/// One property that changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Detail {
    pub(super) property: String,
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
    pub(super) recreates: bool,
}

/// Compares a stack, and the template it was made of, with a new one.
pub(super) fn between(
    stack: &Stack,
    old: &Template,
    new: &Template,
    imports: &BTreeMap<String, Import>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    for id in new.order() {
        let Some(declared) = new.resources.get(&id) else { continue };
        let change = |action: &str, physical_id: Option<&Resource>| Change {
            logical_id: id.clone(),
            physical_id: physical_id.map(|resource| resource.physical_id.clone()),
            kind: declared.kind.clone(),
            action: action.to_owned(),
            replacement: None,
            details: Vec::new(),
        };
        match (stack.resources.get(&id), old.resources.get(&id)) {
            (None, _) if imports.contains_key(&id) => changes.push(change("Import", None)),
            (None, _) => changes.push(change("Add", None)),
            (Some(resource), before) => {
                let details = differences(before, declared, &changes);
                let policy = before.is_some_and(|before| before.retained != declared.retained);
                if !details.is_empty() || policy {
                    let replacement = details.iter().any(|detail| detail.recreates);
                    changes.push(Change {
                        replacement: Some(replacement),
                        details,
                        ..change("Modify", Some(resource))
                    });
                }
            }
        }
    }
    for (id, resource) in stack.resources.iter().filter(|(id, _)| !new.resources.contains_key(*id)) {
        changes.push(Change {
            logical_id: id.clone(),
            physical_id: Some(resource.physical_id.clone()),
            kind: resource.kind.clone(),
            action: "Remove".to_owned(),
            replacement: None,
            details: Vec::new(),
        });
    }
    changes
}

/// Properties whose text differs, or that refer to something which is replaced.
fn differences(before: Option<&Declaration>, after: &Declaration, changes: &[Change]) -> Vec<Detail> {
    let empty = serde_json::Map::new();
    let old = before.map_or(&empty, |before| &before.properties);
    let replaced: Vec<&str> = changes
        .iter()
        .filter(|change| change.replacement == Some(true))
        .map(|change| change.logical_id.as_str())
        .collect();
    let names: std::collections::BTreeSet<&String> = old.keys().chain(after.properties.keys()).collect();
    let fixed = types::find(&after.kind).map_or(&[][..], |known| known.fixed);
    names
        .into_iter()
        .filter(|name| {
            let (was, is) = (old.get(*name), after.properties.get(*name));
            let dynamic = is.is_some_and(|is| replaced.iter().any(|id| mentions(is, id)));
            was != is || dynamic
        })
        .map(|name| Detail {
            property: name.clone(),
            before: old.get(name).map(shown),
            after: after.properties.get(name).map(shown),
            recreates: fixed.contains(&name.as_str()),
        })
        .collect()
}

fn mentions(value: &Value, id: &str) -> bool {
    super::intrinsics::references(&serde_json::Map::from_iter([("it".to_owned(), value.clone())]))
        .is_ok_and(|found| found.contains(id))
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
