//! Stacks: described, listed, deleted.

use std::sync::Arc;

use super::model::Stack;
use super::run;
use super::show;
use super::template::{Template, invalid};
use super::types::Caller;
use super::{CloudFormation, Outcome};
use crate::call::Principal;
use crate::front::Front;
use crate::query::{Form, Xml};

/// Items of a page.
const PAGE: usize = 100;

impl CloudFormation {
    pub(super) fn describe_stacks(&self, form: &Form) -> Outcome {
        if let Some(named) = form.get("StackName") {
            return self.look(named, |stack| Ok(Some(show::stacks([stack]))));
        }
        let stacks = self.lock();
        Ok(Some(show::stacks(stacks.values().filter(|stack| !stack.is_deleted()))))
    }

    pub(super) fn list_stacks(&self, form: &Form) -> Outcome {
        let wanted = form.list("StackStatusFilter");
        let stacks = self.lock();
        let found =
            stacks.values().filter(|stack| wanted.is_empty() || wanted.contains(&stack.status.as_str()));
        Ok(Some(show::summaries(found)))
    }

    pub(super) fn describe_events(&self, form: &Form) -> Outcome {
        let after = form.get("NextToken").and_then(|token| token.parse::<usize>().ok()).unwrap_or_default();
        self.look(form.required("StackName")?, |stack| {
            // Newest first.
            let page: Vec<_> = stack.events.iter().rev().skip(after).take(PAGE).collect();
            let next = (after + page.len() < stack.events.len()).then(|| (after + page.len()).to_string());
            Ok(Some(show::events(stack, &page, next.as_deref())))
        })
    }

    pub(super) fn describe_resources(&self, form: &Form) -> Outcome {
        self.look(form.required("StackName")?, |stack| Ok(Some(show::resources(stack, "StackResources"))))
    }

    pub(super) fn list_resources(&self, form: &Form) -> Outcome {
        self.look(form.required("StackName")?, |stack| {
            Ok(Some(show::resources(stack, "StackResourceSummaries")))
        })
    }

    pub(super) fn get_template(&self, form: &Form) -> Outcome {
        self.look(form.required("StackName")?, |stack| {
            let mut xml = Xml::default();
            xml.text("TemplateBody", &stack.template);
            xml.element("StagesAvailable", |xml| xml.text("member", "Original"));
            Ok(Some(xml))
        })
    }

    pub(super) fn validate_template(&self, form: &Form) -> Outcome {
        let template = Template::parse(form.required("TemplateBody")?)?;
        let mut xml = Xml::default();
        xml.text("Description", &template.description);
        xml.element("Parameters", |_| {});
        if let Some(capability) = template.capability() {
            xml.element("Capabilities", |xml| xml.text("member", capability));
        }
        Ok(Some(xml))
    }

    /// A stack that is not there is deleted already.
    pub(super) fn delete_stack(
        self: &Arc<Self>,
        form: &Form,
        who: &Principal,
        front: &Arc<Front>,
    ) -> Outcome {
        let named = form.required("StackName")?;
        let known = Self::find(&self.lock(), named).is_some();
        if !known {
            return Ok(None);
        }
        let begin = |stack: &mut Stack| {
            if stack.is_busy() {
                return Err(invalid(format!(
                    "Stack [{}] cannot be deleted while in status {}",
                    stack.name, stack.status
                )));
            }
            if stack.is_deleted() {
                return Ok(None);
            }
            stack.becomes("DELETE_IN_PROGRESS", Some("User Initiated"));
            Ok(Some((stack.id.clone(), stack.name.clone())))
        };
        if let Some((id, stack_name)) = self.update(named, begin)? {
            let caller = Caller { front: front.clone(), who: who.clone(), stack_name, stack_id: id.clone() };
            run::start_delete(self.clone(), caller, id);
        }
        Ok(None)
    }
}
