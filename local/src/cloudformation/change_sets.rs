//! Change sets: made, described, executed, deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;

use super::changes;
use super::model::{ChangeSet, Import, Stack, now_ms};
use super::run;
use super::show;
use super::template::{Template, invalid};
use super::types::{self, Caller};
use super::{CloudFormation, KIND, Outcome};
use crate::call::Principal;
use crate::error::AwsError;
use crate::front::Front;
use crate::query::{Form, Xml};

/// What CloudFormation says of a change set that would change nothing; the tools of AWS look for these words.
const NOTHING: &str = "The submitted information didn't contain changes. Submit different information to create a \
                       change set.";

impl CloudFormation {
    pub(super) fn create_change_set(&self, form: &Form) -> Outcome {
        let (stack_name, name) = (form.required("StackName")?, form.required("ChangeSetName")?);
        check_name(name)?;
        let body = match (form.get("TemplateBody"), form.get("TemplateURL"), form.get("UsePreviousTemplate"))
        {
            (Some(body), _, _) => body,
            (None, Some(_), _) => return Err(super::template::unknown("templates by URL")),
            _ => return Err(invalid("Either Template URL or Template Body must be specified.")),
        };
        let template = Template::parse(body)?;
        let capabilities: Vec<String> = form.list("Capabilities").into_iter().map(str::to_owned).collect();
        let suffices = |wanted: &str| {
            capabilities
                .iter()
                .any(|it| it == wanted || (it == "CAPABILITY_NAMED_IAM" && wanted == "CAPABILITY_IAM"))
        };
        if let Some(wanted) = template.capability().filter(|wanted| !suffices(wanted)) {
            return Err(AwsError::bad_request(
                "InsufficientCapabilitiesException",
                format!("Requires capabilities : [{wanted}]"),
            ));
        }
        let kind = form.get("ChangeSetType").unwrap_or("UPDATE");
        let imports = imports(form)?;
        let mut stacks = self.lock();
        let id = match Self::find(&stacks, stack_name) {
            Some(id) => id,
            None if kind == "UPDATE" => return Err(invalid(format!("Stack [{stack_name}] does not exist"))),
            None => {
                let stack = self.new_stack(stack_name)?;
                self.cx.store.put(KIND, &stack.id, &stack)?;
                let id = stack.id.clone();
                stacks.insert(id.clone(), stack);
                id
            }
        };
        let stack = stacks.get_mut(&id).ok_or_else(|| super::no_stack(stack_name))?;
        check_state(stack, kind, name)?;
        if stack.change_sets.contains_key(name) {
            return Err(AwsError::bad_request(
                "AlreadyExistsException",
                format!(
                    "ChangeSet {name} cannot be created due to a mismatch with existing attribute Template"
                ),
            ));
        }
        let old =
            if stack.template.is_empty() { Template::default() } else { Template::parse(&stack.template)? };
        if kind == "IMPORT" {
            check_imports(stack, &old, &template, &imports)?;
        }
        let changes = changes::between(stack, &old, &template, &imports);
        let tags = form.tags()?;
        let empty = changes.is_empty() && tags == stack.tags;
        let change_set = ChangeSet {
            name: name.to_owned(),
            id: self.arn(&format!("changeSet/{name}/{}", uuid::Uuid::new_v4())),
            kind: kind.to_owned(),
            status: if empty { "FAILED" } else { "CREATE_COMPLETE" }.to_owned(),
            reason: empty.then(|| NOTHING.to_owned()),
            execution: if empty { "UNAVAILABLE" } else { "AVAILABLE" }.to_owned(),
            created_ms: now_ms(),
            body: body.to_owned(),
            template,
            capabilities,
            tags,
            changes,
            imports,
        };
        let mut xml = Xml::default();
        xml.text("Id", &change_set.id);
        xml.text("StackId", &stack.id);
        let mut next = stack.clone();
        next.change_sets.insert(name.to_owned(), change_set);
        self.cx.store.put(KIND, &id, &next)?;
        *stack = next;
        Ok(Some(xml))
    }

    fn new_stack(&self, name: &str) -> Result<Stack, AwsError> {
        check_name(name)?;
        let mut stack = Stack {
            name: name.to_owned(),
            id: self.arn(&format!("stack/{name}/{}", uuid::Uuid::new_v4())),
            status: String::new(),
            reason: None,
            created_ms: now_ms(),
            updated_ms: None,
            deleted_ms: None,
            tags: BTreeMap::new(),
            capabilities: Vec::new(),
            template: String::new(),
            resources: BTreeMap::new(),
            change_sets: BTreeMap::new(),
            events: Vec::new(),
        };
        stack.becomes("REVIEW_IN_PROGRESS", Some("User Initiated"));
        Ok(stack)
    }

    fn arn(&self, resource: &str) -> String {
        format!("arn:aws:cloudformation:{}:{}:{resource}", self.cx.region, self.cx.account)
    }

    pub(super) fn describe_change_set(&self, form: &Form) -> Outcome {
        let (stack, name) = self.change_set_of(form)?;
        let values = form.get("IncludePropertyValues") == Some("true");
        self.look(&stack, |stack| {
            let change_set = stack.change_sets.get(&name).ok_or_else(|| no_change_set(&name))?;
            Ok(Some(show::change_set(stack, change_set, values)))
        })
    }

    pub(super) fn delete_change_set(&self, form: &Form) -> Outcome {
        let (stack, name) = self.change_set_of(form)?;
        self.update(&stack, |stack| {
            stack.change_sets.remove(&name);
            Ok(())
        })?;
        Ok(Some(Xml::default()))
    }

    pub(super) fn execute_change_set(
        self: &Arc<Self>,
        form: &Form,
        who: &Principal,
        front: &Arc<Front>,
    ) -> Outcome {
        let (stack, name) = self.change_set_of(form)?;
        let (change_set, id, stack_name) = self.update(&stack, |stack| {
            let change_set = stack.change_sets.get(&name).ok_or_else(|| no_change_set(&name))?.clone();
            if change_set.execution != "AVAILABLE" {
                return Err(AwsError::bad_request(
                    "InvalidChangeSetStatus",
                    format!(
                        "ChangeSet [{}] cannot be executed in its current status of [{}]",
                        change_set.id, change_set.status
                    ),
                ));
            }
            check_state(stack, &change_set.kind, &name)?;
            // Executing one makes all others stale, so they go.
            stack.change_sets.clear();
            stack.updated_ms = (change_set.kind == "UPDATE").then(now_ms);
            stack.tags.clone_from(&change_set.tags);
            stack.capabilities.clone_from(&change_set.capabilities);
            stack.becomes(&format!("{}_IN_PROGRESS", change_set.kind), Some("User Initiated"));
            Ok((change_set, stack.id.clone(), stack.name.clone()))
        })?;
        let caller = Caller { front: front.clone(), who: who.clone(), stack_name, stack_id: id.clone() };
        run::start(self.clone(), caller, id, change_set);
        Ok(Some(Xml::default()))
    }

    /// Stack and name of a change set that is named by both or by its id.
    fn change_set_of(&self, form: &Form) -> Result<(String, String), AwsError> {
        let named = form.required("ChangeSetName")?;
        if let Some(stack) = form.get("StackName") {
            let name =
                if named.starts_with("arn:") { named.split('/').nth(1).unwrap_or(named) } else { named };
            return Ok((stack.to_owned(), name.to_owned()));
        }
        let stacks = self.lock();
        let found = stacks.values().find_map(|stack| {
            let change_set = stack.change_sets.values().find(|it| it.id == named)?;
            Some((stack.id.clone(), change_set.name.clone()))
        });
        found.ok_or_else(|| no_change_set(named))
    }
}

/// Whether a stack can be changed in this way now.
fn check_state(stack: &Stack, kind: &str, change_set: &str) -> Result<(), AwsError> {
    let fresh = stack.status == "REVIEW_IN_PROGRESS";
    match kind {
        "CREATE" if !fresh => Err(invalid(format!(
            "Stack [{}] already exists and cannot be created again with the changeSet [{change_set}].",
            stack.name
        ))),
        "UPDATE" if fresh => Err(invalid(format!("Stack [{}] does not exist", stack.name))),
        "CREATE" | "UPDATE" | "IMPORT" => {
            let settled = [
                "CREATE_COMPLETE",
                "UPDATE_COMPLETE",
                "UPDATE_ROLLBACK_COMPLETE",
                "IMPORT_COMPLETE",
                "IMPORT_ROLLBACK_COMPLETE",
            ];
            if fresh || settled.contains(&stack.status.as_str()) {
                return Ok(());
            }
            Err(invalid(format!("Stack:{} is in {} state and can not be updated.", stack.id, stack.status)))
        }
        other => Err(invalid(format!(
            "1 validation error detected: Value '{other}' at 'changeSetType' failed to satisfy \
                                      constraint: Member must satisfy enum value set: [CREATE, UPDATE, IMPORT]"
        ))),
    }
}

/// An import adds what exists, and does nothing else.
fn check_imports(
    stack: &Stack,
    old: &Template,
    new: &Template,
    imports: &BTreeMap<String, Import>,
) -> Result<(), AwsError> {
    if imports.is_empty() {
        return Err(invalid("ResourcesToImport must be specified for a change set of type IMPORT"));
    }
    for (id, entry) in &new.resources {
        match imports.get(id) {
            None if stack.resources.contains_key(id) && old.resources.get(id) == Some(entry) => {}
            None => {
                return Err(invalid(format!(
                    "As part of the import operation, you cannot modify or add [{id}]: it is neither imported nor as it was"
                )));
            }
            Some(import) => {
                if import.kind != entry.kind {
                    return Err(invalid(format!("{id} is of type {}, not {}", entry.kind, import.kind)));
                }
                if !entry.has_policy {
                    return Err(invalid(format!(
                        "Resources to import [{id}] must have a DeletionPolicy attribute specified in the template."
                    )));
                }
                let known = types::find(&entry.kind).map_or(&[][..], |known| known.identifier);
                let given: Vec<&str> = import.identifier.keys().map(String::as_str).collect();
                let mut wanted = known.to_vec();
                wanted.sort_unstable();
                if given != wanted {
                    return Err(invalid(format!(
                        "Resource identifiers of [{id}] must be [{}], not [{}]",
                        wanted.join(", "),
                        given.join(", ")
                    )));
                }
            }
        }
    }
    if let Some(id) = imports.keys().find(|id| !new.resources.contains_key(*id)) {
        return Err(invalid(format!("The resource to import [{id}] is not in the template")));
    }
    Ok(())
}

/// `ResourcesToImport.member.N` with `ResourceIdentifier.entry.N`.
fn imports(form: &Form) -> Result<BTreeMap<String, Import>, AwsError> {
    let mut imports = BTreeMap::new();
    for at in 1.. {
        let field = |name: &str| format!("ResourcesToImport.member.{at}.{name}");
        let Some(id) = form.get(&field("LogicalResourceId")) else { break };
        let mut identifier = BTreeMap::new();
        for pair in 1.. {
            let entry = |name: &str| field(&format!("ResourceIdentifier.entry.{pair}.{name}"));
            let Some(key) = form.get(&entry("key")) else { break };
            identifier.insert(key.to_owned(), form.required(&entry("value"))?.to_owned());
        }
        let kind = form.required(&field("ResourceType"))?.to_owned();
        imports.insert(id.to_owned(), Import { kind, identifier });
    }
    Ok(imports)
}

fn check_name(name: &str) -> Result<(), AwsError> {
    let fits = name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if fits {
        return Ok(());
    }
    Err(invalid(format!(
        "1 validation error detected: Value '{name}' failed to satisfy constraint: Member must satisfy regular expression \
         pattern: [a-zA-Z][-a-zA-Z0-9]*"
    )))
}

fn no_change_set(name: &str) -> AwsError {
    AwsError::new(StatusCode::NOT_FOUND, "ChangeSetNotFound", format!("ChangeSet [{name}] does not exist"))
}
