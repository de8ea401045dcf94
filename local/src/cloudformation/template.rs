//! Templates: read, held against what the local cloud knows, and put in order.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::intrinsics;
use super::model::Properties;
use super::types;
use crate::error::AwsError;

/// The largest template in a request: <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>
const MAX_BODY: usize = 51_200;
const SECTIONS: [&str; 4] = ["AWSTemplateFormatVersion", "Description", "Metadata", "Resources"];
const ATTRIBUTES: [&str; 6] =
    ["DeletionPolicy", "DependsOn", "Metadata", "Properties", "Type", "UpdateReplacePolicy"];

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Template {
    pub(super) description: String,
    pub(super) resources: BTreeMap<String, Declaration>,
}

/// An entry of `Resources`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Declaration {
    pub(super) kind: String,
    pub(super) properties: Properties,
    /// What `DependsOn` names and what is referred to.
    pub(super) needs: BTreeSet<String>,
    /// Whether it stays when it is no longer declared.
    pub(super) retained: bool,
    /// Whether that was said at all: only then may it be imported.
    pub(super) has_policy: bool,
}

impl Template {
    pub(super) fn parse(body: &str) -> Result<Self, AwsError> {
        if body.len() > MAX_BODY {
            return Err(invalid(format!(
                "1 validation error detected: Value at 'templateBody' failed to satisfy constraint: Member must have \
                 length less than or equal to {MAX_BODY}"
            )));
        }
        let root: Value = serde_yaml::from_str(body)
            .map_err(|error| invalid(format!("Template format error: YAML not well-formed. ({error})")))?;
        let sections =
            root.as_object().ok_or_else(|| invalid("Template format error: unsupported structure."))?;
        if let Some(other) = sections.keys().find(|name| !SECTIONS.contains(&name.as_str())) {
            return Err(unknown(&format!("the section {other} of a template")));
        }
        let entries =
            sections.get("Resources").and_then(Value::as_object).filter(|entries| !entries.is_empty());
        let entries = entries.ok_or_else(|| {
            invalid("Template format error: At least one Resources member must be defined.")
        })?;
        let mut resources = BTreeMap::new();
        for (id, entry) in entries {
            if !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(invalid(format!(
                    "Template format error: Resource name {id} is non alphanumeric."
                )));
            }
            resources.insert(id.clone(), declaration(id, entry)?);
        }
        let description = sections.get("Description").and_then(Value::as_str).unwrap_or_default().to_owned();
        let template = Self { description, resources };
        template.check_references()?;
        Ok(template)
    }

    fn check_references(&self) -> Result<(), AwsError> {
        let missing: BTreeSet<&str> = self
            .resources
            .values()
            .flat_map(|entry| &entry.needs)
            .filter(|need| !self.resources.contains_key(*need))
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            let list = missing.into_iter().collect::<Vec<_>>().join(", ");
            return Err(invalid(format!(
                "Template format error: Unresolved resource dependencies [{list}] in the Resources block of the template"
            )));
        }
        let ordered = self.order();
        if ordered.len() < self.resources.len() {
            let circle: Vec<&str> =
                self.resources.keys().filter(|id| !ordered.contains(id)).map(String::as_str).collect();
            return Err(invalid(format!("Circular dependency between resources: [{}]", circle.join(", "))));
        }
        Ok(())
    }

    /// Every entry after what it needs; those in a circle are left out.
    pub(super) fn order(&self) -> Vec<String> {
        let mut ordered: Vec<String> = Vec::new();
        let mut done: BTreeSet<&str> = BTreeSet::new();
        loop {
            let ready: Vec<&String> = self
                .resources
                .iter()
                .filter(|(id, entry)| {
                    !done.contains(id.as_str()) && entry.needs.iter().all(|need| done.contains(need.as_str()))
                })
                .map(|(id, _)| id)
                .collect();
            if ready.is_empty() {
                return ordered;
            }
            done.extend(ready.iter().map(|id| id.as_str()));
            ordered.extend(ready.into_iter().cloned());
        }
    }

    /// Why a caller has to say that it knows what the template can do.
    pub(super) fn capability(&self) -> Option<&'static str> {
        let roles = self.resources.values().filter(|entry| entry.kind.starts_with("AWS::IAM::"));
        let mut roles = roles.peekable();
        roles.peek()?;
        let named = roles.any(|entry| entry.properties.contains_key("RoleName"));
        Some(if named { "CAPABILITY_NAMED_IAM" } else { "CAPABILITY_IAM" })
    }
}

fn declaration(id: &str, entry: &Value) -> Result<Declaration, AwsError> {
    let members = entry
        .as_object()
        .ok_or_else(|| invalid(format!("Template format error: [/Resources/{id}] must be an object.")))?;
    if let Some(other) = members.keys().find(|name| !ATTRIBUTES.contains(&name.as_str())) {
        return Err(unknown(&format!("the attribute {other} of a resource")));
    }
    let kind = members
        .get("Type")
        .and_then(Value::as_str)
        .ok_or_else(|| invalid(format!("Template format error: [/Resources/{id}] must have a Type.")))?;
    let Some(known) = types::find(kind) else {
        return Err(unknown(&format!("the resource type {kind} of {id}")));
    };
    let properties = members.get("Properties").and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(other) = properties.keys().find(|name| !known.properties.contains(&name.as_str())) {
        return Err(unknown(&format!("the property {other} of {kind}")));
    }
    let mut needs: BTreeSet<String> = intrinsics::references(&properties)?;
    match members.get("DependsOn") {
        Some(Value::String(one)) => drop(needs.insert(one.clone())),
        Some(Value::Array(several)) => {
            needs.extend(several.iter().filter_map(Value::as_str).map(str::to_owned))
        }
        _ => {}
    }
    let policy = members.get("DeletionPolicy").and_then(Value::as_str);
    match policy {
        None | Some("Delete" | "Retain") => {}
        Some(other) => return Err(unknown(&format!("the DeletionPolicy {other} of {id}"))),
    }
    Ok(Declaration {
        kind: kind.to_owned(),
        properties,
        needs,
        retained: policy == Some("Retain"),
        has_policy: policy.is_some(),
    })
}

pub(super) fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::bad_request("ValidationError", message)
}

/// What AWS may have and this cloud has not.
pub(super) fn unknown(what: &str) -> AwsError {
    invalid(format!("The local cloud's CloudFormation does not know {what}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(resources: &str) -> String {
        Template::parse(&format!("Resources: {resources}")).unwrap_err().message
    }

    #[test]
    fn what_is_not_known_is_refused_by_its_name() {
        for (resources, name) in [
            ("{ Q: { Type: AWS::SQS::Queue } }", "AWS::SQS::Queue"),
            ("{ G: { Type: AWS::Logs::LogGroup, Properties: { KmsKeyId: k } } }", "KmsKeyId"),
            ("{ G: { Type: AWS::Logs::LogGroup, Condition: C } }", "Condition"),
            ("{ G: { Type: AWS::Logs::LogGroup, DeletionPolicy: Snapshot } }", "Snapshot"),
            (
                "{ G: { Type: AWS::Logs::LogGroup, Properties: { LogGroupName: { 'Fn::Select': [0, [a]] } } } }",
                "Fn::Select",
            ),
            (
                "{ G: { Type: AWS::Logs::LogGroup, Properties: { LogGroupName: { Ref: Nobody } } } }",
                "[Nobody]",
            ),
        ] {
            let message = refusal(resources);
            assert!(message.contains(name), "{message}");
        }
        let parameters = Template::parse("Parameters: {}\nResources: { G: { Type: AWS::Logs::LogGroup } }");
        assert!(parameters.unwrap_err().message.contains("Parameters"));
    }

    #[test]
    fn an_entry_comes_after_what_it_needs_and_a_circle_is_refused() {
        let group = |needs: &str| format!("{{ Type: AWS::Logs::LogGroup, DependsOn: {needs} }}");
        let text = format!("Resources: {{ A: {}, B: {}, C: {} }}", group("[C]"), group("[A]"), group("[]"));
        assert_eq!(Template::parse(&text).unwrap().order(), ["C", "A", "B"]);
        let circle = format!("{{ A: {}, B: {}, C: {} }}", group("B"), group("A"), group("[]"));
        assert!(refusal(&circle).contains("Circular dependency between resources: [A, B]"));
    }

    #[test]
    fn named_roles_want_the_larger_capability() {
        let role = |properties: &str| {
            format!("Resources: {{ R: {{ Type: AWS::IAM::Role, Properties: {properties} }} }}")
        };
        let capability = |text: String| Template::parse(&text).unwrap().capability();
        assert_eq!(capability(role("{ RoleName: r }")), Some("CAPABILITY_NAMED_IAM"));
        assert_eq!(capability(role("{ Path: / }")), Some("CAPABILITY_IAM"));
        assert_eq!(capability("Resources: { G: { Type: AWS::Logs::LogGroup } }".to_owned()), None);
    }
}
