//! The execution of a change set, and the end of a stack: one resource after the other in the order of their needs.
//! When one fails, everything goes back to what it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::CloudFormation;
use super::intrinsics;
use super::model::{ChangeSet, Import, Properties, Resource, Stack, now_ms};
use super::template::{Declaration, Template, invalid};
use super::types::{self, Caller, Existing, Made, Type};
use crate::error::AwsError;

/// Begins to carry a change set out. The stack says how far it got.
pub(super) fn start(service: Arc<CloudFormation>, caller: Caller, id: String, change_set: ChangeSet) {
    let run = Run { service, caller, id };
    let work: BoxFuture<'static, ()> = Box::pin(async move { run.execute(change_set).await });
    tokio::spawn(work);
}

pub(super) fn start_delete(service: Arc<CloudFormation>, caller: Caller, id: String) {
    let run = Run { service, caller, id };
    let work: BoxFuture<'static, ()> = Box::pin(async move { run.delete().await });
    tokio::spawn(work);
}

struct Run {
    service: Arc<CloudFormation>,
    caller: Caller,
    id: String,
}

/// What has happened so far, for the way back.
#[derive(Default)]
struct Undo {
    /// In the order in which they were made.
    made: Vec<String>,
    /// Resources as they were before they were changed or replaced.
    before: BTreeMap<String, Resource>,
    /// Those of them that have another one in their place.
    replaced: Vec<String>,
    failed: Option<(String, String)>,
}

impl Run {
    async fn execute(&self, change_set: ChangeSet) {
        let mut undo = Undo::default();
        let kind = change_set.kind.as_str();
        let outcome = self.apply(&change_set, &mut undo).await;
        if let Err(error) = outcome {
            let (failed, reason) = undo.failed.clone().unwrap_or_default();
            let verb = match kind {
                "CREATE" => "create",
                "UPDATE" => "update",
                _ => "import",
            };
            let told = if failed.is_empty() {
                error.message
            } else {
                format!("The following resource(s) failed to {verb}: [{failed}]. {reason}").trim().to_owned()
            };
            match kind {
                "CREATE" => self.roll_back_create(undo, &told).await,
                "UPDATE" => self.roll_back_update(undo, &told).await,
                _ => self.roll_back_import(undo, &told),
            }
            return;
        }
        if kind == "UPDATE" {
            self.becomes("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", None);
            self.clean_up(&change_set.template, undo).await;
        }
        self.note(|stack| {
            stack.template.clone_from(&change_set.body);
            stack.becomes(&format!("{kind}_COMPLETE"), None);
        });
    }

    /// Everything that is made, changed or imported.
    async fn apply(&self, change_set: &ChangeSet, undo: &mut Undo) -> Result<(), AwsError> {
        for id in change_set.template.order() {
            let Some(declared) = change_set.template.resources.get(&id) else { continue };
            let Some(change) = change_set.changes.iter().find(|change| change.logical_id == id) else {
                continue;
            };
            let known = types::find(&declared.kind).ok_or_else(|| invalid("unknown type"))?;
            let done = match change.action.as_str() {
                "Add" => self.add(known, &id, declared, undo).await,
                "Import" => self.import(known, &id, declared, change_set.imports.get(&id), undo).await,
                _ => self.modify(known, &id, declared, undo).await,
            };
            if let Err(error) = done {
                let prefix = match change.action.as_str() {
                    "Add" => "CREATE",
                    "Import" => "IMPORT",
                    _ => "UPDATE",
                };
                let reason =
                    format!("Resource handler returned message: \"{}\" ({})", error.message, error.code);
                let physical = change.physical_id.clone().unwrap_or_default();
                self.tells(&id, &declared.kind, &physical, &format!("{prefix}_FAILED"), Some(&reason));
                undo.failed = Some((id, reason));
                return Err(error);
            }
        }
        Ok(())
    }

    async fn add(
        &self,
        known: &Type,
        id: &str,
        declared: &Declaration,
        undo: &mut Undo,
    ) -> Result<(), AwsError> {
        self.tells(id, known.name, "", "CREATE_IN_PROGRESS", None);
        let properties = self.resolve(&declared.properties)?;
        let made = known.create(&self.caller, id, &properties).await?;
        undo.made.push(id.to_owned());
        self.record(id, declared, properties, made, "CREATE_COMPLETE");
        Ok(())
    }

    async fn import(
        &self,
        known: &Type,
        id: &str,
        declared: &Declaration,
        import: Option<&Import>,
        undo: &mut Undo,
    ) -> Result<(), AwsError> {
        let Import { identifier, .. } = import.ok_or_else(|| invalid("nothing to import"))?;
        self.tells(id, known.name, "", "IMPORT_IN_PROGRESS", Some("Resource import started."));
        let made = known.read(&self.caller, identifier).await?;
        if self.service.belongs_to_another(&self.id, known.name, &made.physical_id) {
            return Err(invalid(format!("{} already belongs to another stack", made.physical_id)));
        }
        let properties = self.resolve(&declared.properties)?;
        let differing = identifier.iter().find(|(name, value)| {
            properties.get(*name).is_some_and(|property| property.as_str() != Some(value.as_str()))
        });
        if let Some((name, value)) = differing {
            return Err(invalid(format!(
                "The identifier {name} is {value}, but the template says otherwise"
            )));
        }
        undo.made.push(id.to_owned());
        self.record(id, declared, properties, made, "IMPORT_COMPLETE");
        Ok(())
    }

    async fn modify(
        &self,
        known: &Type,
        id: &str,
        declared: &Declaration,
        undo: &mut Undo,
    ) -> Result<(), AwsError> {
        let current = self.resource(id)?;
        let properties = self.resolve(&declared.properties)?;
        if properties == current.properties {
            self.note(|stack| {
                if let Some(resource) = stack.resources.get_mut(id) {
                    resource.retained = declared.retained;
                }
            });
            return Ok(());
        }
        undo.before.insert(id.to_owned(), current.clone());
        let replaces = known.fixed.iter().any(|name| properties.get(*name) != current.properties.get(*name));
        if replaces {
            let why =
                "Requested update requires the creation of a new physical resource; hence creating one.";
            self.tells(id, known.name, &current.physical_id, "UPDATE_IN_PROGRESS", Some(why));
            let made = known.create(&self.caller, id, &properties).await?;
            undo.replaced.push(id.to_owned());
            self.record(id, declared, properties, made, "UPDATE_COMPLETE");
            return Ok(());
        }
        self.tells(id, known.name, &current.physical_id, "UPDATE_IN_PROGRESS", None);
        // Noted first: should it fail half way, this is what may be there.
        self.note(|stack| {
            if let Some(resource) = stack.resources.get_mut(id) {
                resource.properties.clone_from(&properties);
                resource.retained = declared.retained;
            }
        });
        known.update(&self.caller, &existing(&current), &properties).await?;
        self.tells(id, known.name, &current.physical_id, "UPDATE_COMPLETE", None);
        Ok(())
    }

    /// What is no longer declared or was replaced goes, last what others needed. What cannot go stays behind.
    async fn clean_up(&self, template: &Template, undo: Undo) {
        let removed = self.snapshot().map(|stack| {
            let order = Template::parse(&stack.template).map(|old| old.order()).unwrap_or_default();
            let gone = order.into_iter().rev().filter(|id| !template.resources.contains_key(id));
            gone.filter_map(|id| stack.resources.get(&id).cloned().map(|resource| (id, resource)))
                .collect::<Vec<_>>()
        });
        let replaced =
            undo.replaced.into_iter().filter_map(|id| undo.before.get(&id).cloned().map(|old| (id, old)));
        let mut doomed: Vec<(String, Resource)> = replaced.collect();
        doomed.reverse();
        doomed.extend(removed.unwrap_or_default());
        for (id, resource) in doomed {
            let _ = self.remove(&id, &resource).await;
            let gone = !template.resources.contains_key(&id);
            if gone {
                self.note(|stack| drop(stack.resources.remove(&id)));
            }
        }
    }

    async fn roll_back_create(&self, undo: Undo, reason: &str) {
        self.becomes("ROLLBACK_IN_PROGRESS", Some(reason));
        let mut failed = Vec::new();
        for id in undo.made.iter().rev() {
            let Ok(resource) = self.resource(id) else { continue };
            if self.remove(id, &resource).await.is_err() {
                failed.push(id.as_str());
            } else {
                self.note(|stack| drop(stack.resources.remove(id)));
            }
        }
        if failed.is_empty() {
            self.becomes("ROLLBACK_COMPLETE", None);
        } else {
            let reason = format!("The following resource(s) failed to delete: [{}].", failed.join(", "));
            self.becomes("ROLLBACK_FAILED", Some(&reason));
        }
    }

    async fn roll_back_update(&self, undo: Undo, reason: &str) {
        self.becomes("UPDATE_ROLLBACK_IN_PROGRESS", Some(reason));
        let order =
            self.snapshot().and_then(|stack| Template::parse(&stack.template).ok()).map(|old| old.order());
        let mut new_ones = Vec::new();
        for id in order.unwrap_or_default() {
            let (Some(old), Ok(current)) = (undo.before.get(&id), self.resource(&id)) else { continue };
            if undo.replaced.contains(&id) {
                new_ones.push((id.clone(), current));
            } else if let Err(error) = self.restore(&id, old, &current).await {
                self.tells(&id, &old.kind, &old.physical_id, "UPDATE_FAILED", Some(&error.message));
                let reason = format!("The following resource(s) failed to update: [{id}].");
                self.becomes("UPDATE_ROLLBACK_FAILED", Some(&reason));
                return;
            }
            self.note(|stack| drop(stack.resources.insert(id.clone(), old.clone())));
        }
        self.becomes("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", None);
        for (id, resource) in new_ones.iter().rev() {
            let _ = self.remove(id, resource).await;
        }
        for id in undo.made.iter().rev() {
            let Ok(resource) = self.resource(id) else { continue };
            let _ = self.remove(id, &resource).await;
            self.note(|stack| drop(stack.resources.remove(id)));
        }
        self.becomes("UPDATE_ROLLBACK_COMPLETE", None);
    }

    /// Brings a resource back to what it was, from wherever a failed change left it.
    async fn restore(&self, id: &str, old: &Resource, current: &Resource) -> Result<(), AwsError> {
        let known = types::find(&old.kind).ok_or_else(|| invalid("unknown type"))?;
        self.tells(id, &old.kind, &old.physical_id, "UPDATE_IN_PROGRESS", None);
        known.update(&self.caller, &existing(current), &old.properties).await?;
        self.tells(id, &old.kind, &old.physical_id, "UPDATE_COMPLETE", None);
        Ok(())
    }

    /// What was imported is let go again: nothing was changed.
    fn roll_back_import(&self, undo: Undo, reason: &str) {
        self.becomes("IMPORT_ROLLBACK_IN_PROGRESS", Some(reason));
        self.note(|stack| {
            for id in &undo.made {
                stack.resources.remove(id);
            }
            stack.becomes("IMPORT_ROLLBACK_COMPLETE", None);
        });
    }

    async fn delete(&self) {
        let Some(stack) = self.snapshot() else { return };
        let order = Template::parse(&stack.template).map(|template| template.order()).unwrap_or_default();
        let unknown = stack.resources.keys().filter(|id| !order.contains(id)).cloned();
        let all: Vec<String> = unknown.chain(order.iter().rev().cloned()).collect();
        let mut failed = Vec::new();
        for id in all {
            let Some(resource) = stack.resources.get(&id) else { continue };
            if self.remove(&id, resource).await.is_err() {
                failed.push(id);
            } else {
                self.note(|stack| drop(stack.resources.remove(&id)));
            }
        }
        if failed.is_empty() {
            self.becomes("DELETE_COMPLETE", None);
        } else {
            let reason = format!("The following resource(s) failed to delete: [{}].", failed.join(", "));
            self.becomes("DELETE_FAILED", Some(&reason));
        }
    }

    /// Deletes one resource, unless it is to stay.
    async fn remove(&self, id: &str, resource: &Resource) -> Result<(), AwsError> {
        let (kind, physical) = (resource.kind.as_str(), resource.physical_id.as_str());
        if resource.retained {
            self.tells(id, kind, physical, "DELETE_SKIPPED", None);
            return Ok(());
        }
        self.tells(id, kind, physical, "DELETE_IN_PROGRESS", None);
        let known = types::find(kind).ok_or_else(|| invalid("unknown type"))?;
        match known.delete(&self.caller, &existing(resource)).await {
            Ok(()) => {
                self.tells(id, kind, physical, "DELETE_COMPLETE", None);
                Ok(())
            }
            Err(error) => {
                let reason =
                    format!("Resource handler returned message: \"{}\" ({})", error.message, error.code);
                self.tells(id, kind, physical, "DELETE_FAILED", Some(&reason));
                Err(error)
            }
        }
    }

    fn resolve(&self, properties: &Properties) -> Result<Properties, AwsError> {
        let stack = self.snapshot().ok_or_else(|| invalid("the stack is gone"))?;
        intrinsics::resolve(properties, &stack, &self.service.cx)
    }

    fn record(&self, id: &str, declared: &Declaration, properties: Properties, made: Made, status: &str) {
        let resource = Resource {
            kind: declared.kind.clone(),
            physical_id: made.physical_id.clone(),
            status: status.to_owned(),
            reason: None,
            changed_ms: now_ms(),
            properties,
            attributes: made.attributes,
            retained: declared.retained,
        };
        self.note(|stack| {
            stack.resources.insert(id.to_owned(), resource);
            stack.tells(id, &declared.kind, &made.physical_id, status, None);
        });
    }

    fn resource(&self, id: &str) -> Result<Resource, AwsError> {
        let found = self.snapshot().and_then(|stack| stack.resources.get(id).cloned());
        found.ok_or_else(|| invalid(format!("{id} is not in the stack")))
    }

    fn becomes(&self, status: &str, reason: Option<&str>) {
        self.note(|stack| stack.becomes(status, reason));
    }

    fn tells(&self, id: &str, kind: &str, physical: &str, status: &str, reason: Option<&str>) {
        self.note(|stack| stack.tells(id, kind, physical, status, reason));
    }

    /// Nobody is left to be told if the disk fails; the stack then stays as it was.
    fn note(&self, change: impl FnOnce(&mut Stack)) {
        let _ = self.service.update(&self.id, |stack| {
            change(stack);
            Ok(())
        });
    }

    fn snapshot(&self) -> Option<Stack> {
        self.service.look(&self.id, |stack| Ok(stack.clone())).ok()
    }
}

fn existing(resource: &Resource) -> Existing<'_> {
    Existing { physical_id: &resource.physical_id, properties: &resource.properties }
}

impl CloudFormation {
    fn belongs_to_another(&self, id: &str, kind: &str, physical_id: &str) -> bool {
        self.lock()
            .values()
            .filter(|stack| stack.id != id && !stack.is_deleted())
            .any(|stack| stack.resources.values().any(|it| it.kind == kind && it.physical_id == physical_id))
    }
}
