//! Stacks, change sets and events as the protocol shows them.

use std::collections::BTreeMap;

use super::changes::{Change, Detail};
use super::model::{ChangeSet, Event, Stack};
use crate::query::Xml;

pub(super) fn stacks<'a>(stacks: impl IntoIterator<Item = &'a Stack>) -> Xml {
    let mut xml = Xml::default();
    xml.element("Stacks", |xml| {
        for stack in stacks {
            xml.element("member", |xml| {
                head(xml, stack);
                xml.text("DisableRollback", "false");
                xml.text("EnableTerminationProtection", "false");
                xml.element("Capabilities", |xml| {
                    stack.capabilities.iter().for_each(|capability| xml.text("member", capability));
                });
                tags(xml, &stack.tags);
            });
        }
    });
    xml
}

pub(super) fn summaries<'a>(stacks: impl IntoIterator<Item = &'a Stack>) -> Xml {
    let mut xml = Xml::default();
    xml.element("StackSummaries", |xml| {
        stacks.into_iter().for_each(|stack| xml.element("member", |xml| head(xml, stack)))
    });
    xml
}

fn head(xml: &mut Xml, stack: &Stack) {
    xml.text("StackId", &stack.id);
    xml.text("StackName", &stack.name);
    xml.text("CreationTime", &time(stack.created_ms));
    if let Some(updated) = stack.updated_ms {
        xml.text("LastUpdatedTime", &time(updated));
    }
    if let Some(deleted) = stack.deleted_ms {
        xml.text("DeletionTime", &time(deleted));
    }
    xml.text("StackStatus", &stack.status);
    if let Some(reason) = &stack.reason {
        xml.text("StackStatusReason", reason);
    }
}

pub(super) fn events(stack: &Stack, events: &[&Event], next: Option<&str>) -> Xml {
    let mut xml = Xml::default();
    xml.element("StackEvents", |xml| {
        for event in events {
            xml.element("member", |xml| {
                xml.text("StackId", &stack.id);
                xml.text("EventId", &event.id);
                xml.text("StackName", &stack.name);
                xml.text("LogicalResourceId", &event.logical_id);
                xml.text("PhysicalResourceId", &event.physical_id);
                xml.text("ResourceType", &event.kind);
                xml.text("Timestamp", &time(event.at_ms));
                xml.text("ResourceStatus", &event.status);
                if let Some(reason) = &event.reason {
                    xml.text("ResourceStatusReason", reason);
                }
            });
        }
    });
    if let Some(next) = next {
        xml.text("NextToken", next);
    }
    xml
}

/// In either of the two lists that there are of them.
pub(super) fn resources(stack: &Stack, list: &str) -> Xml {
    let summary = list.ends_with("Summaries");
    let mut xml = Xml::default();
    xml.element(list, |xml| {
        for (id, resource) in &stack.resources {
            xml.element("member", |xml| {
                if !summary {
                    xml.text("StackName", &stack.name);
                    xml.text("StackId", &stack.id);
                }
                xml.text("LogicalResourceId", id);
                xml.text("PhysicalResourceId", &resource.physical_id);
                xml.text("ResourceType", &resource.kind);
                xml.text(
                    if summary { "LastUpdatedTimestamp" } else { "Timestamp" },
                    &time(resource.changed_ms),
                );
                xml.text("ResourceStatus", &resource.status);
                if let Some(reason) = &resource.reason {
                    xml.text("ResourceStatusReason", reason);
                }
            });
        }
    });
    xml
}

pub(super) fn change_set(stack: &Stack, change_set: &ChangeSet, values: bool) -> Xml {
    let mut xml = Xml::default();
    xml.text("ChangeSetName", &change_set.name);
    xml.text("ChangeSetId", &change_set.id);
    xml.text("StackId", &stack.id);
    xml.text("StackName", &stack.name);
    xml.text("CreationTime", &time(change_set.created_ms));
    xml.text("ExecutionStatus", &change_set.execution);
    xml.text("Status", &change_set.status);
    if let Some(reason) = &change_set.reason {
        xml.text("StatusReason", reason);
    }
    xml.element("Capabilities", |xml| {
        change_set.capabilities.iter().for_each(|capability| xml.text("member", capability));
    });
    tags(&mut xml, &change_set.tags);
    xml.element("Changes", |xml| {
        for change in &change_set.changes {
            xml.element("member", |xml| {
                xml.text("Type", "Resource");
                xml.element("ResourceChange", |xml| resource_change(xml, change, values));
            });
        }
    });
    xml
}

fn resource_change(xml: &mut Xml, change: &Change, values: bool) {
    xml.text("Action", &change.action);
    xml.text("LogicalResourceId", &change.logical_id);
    if let Some(id) = &change.physical_id {
        xml.text("PhysicalResourceId", id);
    }
    xml.text("ResourceType", &change.kind);
    if let Some(replacement) = change.replacement {
        xml.text("Replacement", if replacement { "True" } else { "False" });
        xml.element("Scope", |xml| xml.text("member", "Properties"));
    }
    xml.element("Details", |xml| {
        for detail in &change.details {
            xml.element("member", |xml| {
                xml.element("Target", |xml| target(xml, detail, values));
                xml.text("Evaluation", "Static");
                xml.text("ChangeSource", "DirectModification");
            });
        }
    });
}

fn target(xml: &mut Xml, detail: &Detail, values: bool) {
    xml.text("Attribute", "Properties");
    xml.text("Name", &detail.property);
    xml.text("RequiresRecreation", if detail.recreates { "Always" } else { "Never" });
    xml.text("Path", &format!("/Properties/{}", detail.property));
    if values {
        if let Some(before) = &detail.before {
            xml.text("BeforeValue", before);
        }
        if let Some(after) = &detail.after {
            xml.text("AfterValue", after);
        }
    }
}

fn tags(xml: &mut Xml, tags: &BTreeMap<String, String>) {
    xml.tags(tags);
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map(|time| format!("{time:.3}")).unwrap_or_default()
}
