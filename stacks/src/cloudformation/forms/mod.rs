//! The resources in the words of CloudFormation: the same names, documents and references as in the calls that make
//! them directly, so that what one engine deployed the other can take over.

mod functions;
mod gateway;
mod table;

use serde_json::{Map, Value, json};

use super::template::Synth;
use crate::names::{ENGINE, ENGINE_TAG, Scope};
use crate::resource::Values;

/// A resource that has a form in a template.
pub(crate) trait Form {
    fn form(&self, synth: &Synth<'_>) -> Declared;
}

/// What stands in the template for one resource.
#[derive(Debug)]
pub(crate) struct Declared {
    /// Several where CloudFormation divides what is one thing here. The last one is what others wait for.
    pub(crate) parts: Vec<Part>,
    /// What others may refer to, as references.
    pub(crate) outputs: Values,
}

/// One entry of the template's `Resources`.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) id: String,
    /// `AWS::Lambda::Function`.
    pub(crate) kind: &'static str,
    pub(crate) properties: Map<String, Value>,
    /// Whether it outlives the stack, because of the data in it.
    pub(crate) retained: bool,
    /// Findings of checkov that are meant to be so, each with the reason.
    pub(crate) accepted: &'static [(&'static str, &'static str)],
}

impl Part {
    fn new(id: impl Into<String>, kind: &'static str, properties: Value) -> Self {
        let properties = match properties {
            Value::Object(members) => members.into_iter().filter(|(_, value)| !value.is_null()).collect(),
            _ => Map::new(),
        };
        Self { id: id.into(), kind, properties, retained: false, accepted: &[] }
    }

    fn accepting(self, accepted: &'static [(&'static str, &'static str)]) -> Self {
        Self { accepted, ..self }
    }

    fn declared(self, outputs: impl IntoIterator<Item = (&'static str, String)>) -> Declared {
        Declared { parts: vec![self], outputs: outputs.into_iter().collect() }
    }
}

/// The ownership tags, and the one that says that the stage is CloudFormation's.
fn tags(scope: &Scope) -> impl Iterator<Item = (&'static str, String)> {
    scope.tags().into_iter().chain([(ENGINE_TAG, ENGINE.to_owned())])
}

/// Tags as most types take them.
fn tag_list(scope: &Scope) -> Value {
    tags(scope).map(|(key, value)| json!({ "Key": key, "Value": value })).collect()
}

/// Tags as API Gateway takes them.
fn tag_map(scope: &Scope) -> Value {
    tags(scope).map(|(key, value)| (key.to_owned(), Value::String(value))).collect()
}
