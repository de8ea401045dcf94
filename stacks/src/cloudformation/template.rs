//! The template of a stack: deterministic, so that the same declaration gives the same text on every machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use serde_yaml::Mapping;
use sha2::{Digest, Sha256};

use super::forms::Part;
use super::logical_id::logical_id;
use super::reference;
use crate::address::Address;
use crate::artifact::Artifacts;
use crate::error::Error;
use crate::graph::Graph;
use crate::names::Scope;
use crate::resource::{Outputs, Stack};
use crate::settings::StageSettings;

/// What `TemplateBody` may hold: <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>
const MAX_BODY_BYTES: usize = 51_200;

/// A template, and which resource of the stack each of its entries stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    pub scope: Scope,
    body: String,
    entries: BTreeMap<String, Entry>,
}

/// One entry of `Resources`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// The place in the template.
    pub(crate) at: usize,
    pub(crate) address: Address,
    pub(crate) kind: &'static str,
}

/// What a resource is given to say what it looks like in a template.
pub(crate) struct Synth<'a> {
    bucket: &'a str,
    outputs: Outputs,
    parts: BTreeMap<Address, Vec<Part>>,
}

impl Synth<'_> {
    /// References to what is declared already.
    pub(crate) fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// A reference to another resource, which is declared already because this one needs it.
    pub(crate) fn output(&self, address: &Address, name: &str) -> Option<&str> {
        self.outputs.get(address, name)
    }

    /// Where the zips are.
    pub(crate) fn bucket(&self) -> &str {
        self.bucket
    }

    /// A hash of what the given resources are in the template.
    pub(crate) fn digest_of(&self, addresses: &[Address]) -> String {
        let parts = addresses.iter().filter_map(|address| self.parts.get(address)).flatten();
        let mut parts: Vec<Value> = parts.map(|part| json!([part.id, part.kind, part.properties])).collect();
        parts.sort_by_key(Value::to_string);
        digest(&json!(parts))
    }
}

/// The chat of one stage as a template. It needs neither an account nor a region: both are filled in by CloudFormation.
///
/// # Errors
/// If a handler is missing in `artifacts`, or the template is larger than CloudFormation takes.
pub fn synth(settings: &StageSettings, artifacts: &Artifacts) -> Result<Template, Error> {
    let identity = reference::identity();
    let stack = crate::chat::stack(settings, &identity, artifacts)?;
    let bucket = super::bucket::name(&settings.app, &identity);
    of_stack(&stack, &bucket)
}

fn of_stack(stack: &Stack, bucket: &str) -> Result<Template, Error> {
    let graph =
        Graph::new(stack.resources().iter().map(|resource| (resource.address(), resource.all_needs())))?;
    let mut synth = Synth { bucket, outputs: Outputs::default(), parts: BTreeMap::new() };
    for address in graph.order() {
        let Some(resource) = stack.get(address) else { continue };
        let declared = resource.form(&synth);
        synth.outputs.insert(address.clone(), declared.outputs);
        synth.parts.insert(address.clone(), declared.parts);
    }
    let mut entries = BTreeMap::new();
    let mut resources = Mapping::new();
    // In the order of the declaration, which is how a person reads it.
    for resource in stack.resources() {
        let address = resource.address();
        for (at, part) in synth.parts.get(&address).into_iter().flatten().enumerate() {
            // What follows in the same resource waits for its first part, which has waited for the rest.
            let needs = if at == 0 { resource.all_needs() } else { Vec::new() };
            let address = if at == 0 { address.clone() } else { below(&address, part.kind) };
            let entry = Entry { at: entries.len(), address, kind: part.kind };
            if entries.insert(part.id.clone(), entry).is_some() {
                return Err(Error::bug(format!("two resources are called {} in the template", part.id)));
            }
            resources.insert(part.id.as_str().into(), yaml(&declaration(part, &needs, &synth)));
        }
    }
    let scope = stack.scope().clone();
    let mut root = Mapping::new();
    root.insert("AWSTemplateFormatVersion".into(), "2010-09-09".into());
    root.insert(
        "Description".into(),
        format!("{}: a serverless WebSocket chat, written by chatctl synth", scope.prefix()).into(),
    );
    root.insert("Resources".into(), resources.into());
    let body = serde_yaml::to_string(&root)
        .map_err(|error| Error::bug(format!("the template cannot be written: {error}")))?;
    if body.len() > MAX_BODY_BYTES {
        let what = format!(
            "the template has {} bytes, but CloudFormation takes {MAX_BODY_BYTES}: name fewer public keys or origins",
            body.len()
        );
        return Err(Error::Artifact { what });
    }
    Ok(Template { scope, body, entries })
}

/// `function/connect` has its version at `function/connect/version`.
fn below(address: &Address, kind: &str) -> Address {
    let name = kind.rsplit(':').next().unwrap_or(kind).to_ascii_lowercase();
    Address::new(address.kind, format!("{}/{name}", address.name))
}

fn declaration(part: &Part, needs: &[Address], synth: &Synth<'_>) -> Value {
    let properties = Value::Object(part.properties.clone());
    let named: BTreeSet<String> = reference::names(&properties).into_iter().collect();
    let mut depends = BTreeSet::new();
    for need in needs {
        let parts = synth.parts.get(need).map(Vec::as_slice).unwrap_or_default();
        // A reference is a dependency already, and saying it twice is a warning of cfn-lint (W3005).
        if !parts.iter().any(|other| named.contains(&other.id)) {
            depends.extend(parts.last().map(|last| last.id.clone()));
        }
    }
    let policy = if part.retained { "Retain" } else { "Delete" };
    let mut declaration = Map::from_iter([
        ("Type".to_owned(), json!(part.kind)),
        // Every one of them says so, since only what does can be imported.
        ("DeletionPolicy".to_owned(), json!(policy)),
        ("UpdateReplacePolicy".to_owned(), json!(policy)),
        ("Properties".to_owned(), reference::resolve(properties)),
    ]);
    if !depends.is_empty() {
        declaration.insert("DependsOn".to_owned(), json!(depends));
    }
    if !part.accepted.is_empty() {
        let skip: Vec<Value> =
            part.accepted.iter().map(|(id, reason)| json!({ "id": id, "comment": reason })).collect();
        declaration.insert("Metadata".to_owned(), json!({ "checkov": { "skip": skip } }));
    }
    Value::Object(declaration)
}

/// Members in a fixed order: `Type` first, then by name, whatever order the map of JSON was built with.
fn yaml(value: &Value) -> serde_yaml::Value {
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_by_key(|name| (name.as_str() != "Type", name.as_str()));
            let pairs =
                names.into_iter().filter_map(|name| Some((name.as_str().into(), yaml(members.get(name)?))));
            serde_yaml::Value::Mapping(pairs.collect())
        }
        Value::Array(items) => serde_yaml::Value::Sequence(items.iter().map(yaml).collect()),
        Value::String(text) => text.as_str().into(),
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(whole), _, _) => whole.into(),
            (_, Some(whole), _) => whole.into(),
            (_, _, float) => float.unwrap_or_default().into(),
        },
        Value::Null => serde_yaml::Value::Null,
    }
}

/// Twelve hexadecimal digits that tell one value from another, whatever the order of its members.
pub(crate) fn digest(value: &Value) -> String {
    let text = serde_yaml::to_string(&yaml(value)).unwrap_or_default();
    Sha256::digest(text).iter().take(6).fold(String::new(), |mut digits, byte| {
        // Writing to a string does not fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

impl Template {
    /// YAML.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// Of a stack that goes: it says nothing but what its entries are called here.
    pub(crate) fn naming(scope: &Scope, addresses: &[Address]) -> Self {
        let entry = |(at, address): (usize, &Address)| {
            (logical_id(address), Entry { at, address: address.clone(), kind: "" })
        };
        let entries = addresses.iter().enumerate().map(entry).collect();
        Self { scope: scope.clone(), body: String::new(), entries }
    }

    /// An earlier text, whose entries are called as they are in this one as far as they are in it.
    pub(crate) fn earlier(&self, body: String) -> Self {
        Self { body, ..self.clone() }
    }

    /// Entries of `Resources`.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }
}

#[cfg(test)]
pub(super) mod tests;
