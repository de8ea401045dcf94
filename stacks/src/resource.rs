//! What every kind of resource can do, and the values that pass between them: wanted and live properties, and outputs
//! such as generated ids.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::address::Address;
use crate::call::Cx;
use crate::cloudformation::Form;
use crate::error::Error;
use crate::names::Scope;

/// Live properties by name, each in the form that [`Resource::desired`] uses, so that equality is the whole diff.
pub(crate) type Properties = BTreeMap<&'static str, Value>;

/// What a resource tells others once it is there: ids, ARNs, endpoints.
pub(crate) type Values = BTreeMap<&'static str, String>;

/// One declared resource. The engine observes it together with its kind ([`crate::observe`]), plans by
/// [`desired`](Self::desired), and applies by [`converge`](Self::converge).
#[async_trait]
pub(crate) trait Resource: Form + fmt::Debug + Send + Sync {
    fn address(&self) -> Address;

    /// What must be there before this can be made.
    fn needs(&self) -> Vec<Address>;

    /// What must be there besides before a change of it reaches clients. When it is new it serves nobody yet, and waits
    /// for nothing of this.
    fn needs_to_serve(&self) -> Vec<Address> {
        Vec::new()
    }

    /// Both, for whoever does not know yet whether it is new.
    fn all_needs(&self) -> Vec<Address> {
        [self.needs(), self.needs_to_serve()].concat()
    }

    /// What it should look like, as far as the outputs of what it needs are known. Pure.
    fn desired(&self, outputs: &Outputs) -> Desired;

    /// Properties that cannot change in place.
    fn fixed(&self) -> &'static [&'static str] {
        &[]
    }

    /// Outputs that are no longer known once it changes.
    fn volatile(&self) -> &'static [&'static str] {
        &[]
    }

    /// Brings it from `live`, or from nothing, to what is desired, and returns its outputs. Every step is idempotent:
    /// it may have been taken before by a run that was killed.
    async fn converge(&self, cx: &Cx<'_>, live: Option<&Live>) -> Result<Values, Error>;
}

/// A resource as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// How AWS calls it: a name, an ARN or a generated id.
    pub id: String,
    pub properties: BTreeMap<&'static str, Value>,
    pub outputs: BTreeMap<&'static str, String>,
    /// Whether it carries this stage's ownership tags, or is part of something that does.
    pub owned: bool,
}

/// The outputs known so far, by resource.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outputs(BTreeMap<Address, Values>);

impl Outputs {
    pub(crate) fn get(&self, address: &Address, name: &str) -> Option<&str> {
        self.0.get(address)?.get(name).map(String::as_str)
    }

    pub(crate) fn all(&self, address: &Address) -> Values {
        self.0.get(address).cloned().unwrap_or_default()
    }

    pub(crate) fn insert(&mut self, address: Address, values: Values) {
        self.0.insert(address, values);
    }

    pub(crate) fn forget(&mut self, address: &Address, names: &[&str]) {
        if let Some(values) = self.0.get_mut(address) {
            values.retain(|name, _| !names.contains(name));
        }
    }
}

/// Desired properties; `None` is a value that is known only after something else was applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Desired(BTreeMap<&'static str, Option<Value>>);

impl Desired {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.insert(name, Some(value.into()));
        self
    }

    /// A value that may not be known yet.
    #[must_use]
    pub(crate) fn with_later(mut self, name: &'static str, value: Option<impl Into<Value>>) -> Self {
        self.0.insert(name, value.map(Into::into));
        self
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, Option<&Value>)> {
        self.0.iter().map(|(name, value)| (*name, value.as_ref()))
    }

    /// The whole as one JSON object, or nothing while a part is unknown.
    pub(crate) fn resolved(&self) -> Option<Value> {
        let pairs = self.0.iter().map(|(name, value)| Some(((*name).to_owned(), value.clone()?)));
        pairs.collect::<Option<serde_json::Map<_, _>>>().map(Value::Object)
    }

    /// The properties whose live value is another one.
    pub(crate) fn drifted(&self, live: &Properties) -> Vec<&'static str> {
        self.iter().filter(|(name, value)| *value != live.get(name)).map(|(name, _)| name).collect()
    }
}

/// Everything declared for one stage.
#[derive(Clone, Debug)]
pub struct Stack {
    scope: Scope,
    resources: Vec<Arc<dyn Resource>>,
}

impl Stack {
    /// Nothing: what a destroy deploys.
    pub fn empty(scope: Scope) -> Self {
        Self { scope, resources: Vec::new() }
    }

    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Whether nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    pub(crate) fn resources(&self) -> &[Arc<dyn Resource>] {
        &self.resources
    }

    pub(crate) fn add(&mut self, resource: impl Resource + 'static) -> Arc<dyn Resource> {
        let resource: Arc<dyn Resource> = Arc::new(resource);
        self.resources.push(resource.clone());
        resource
    }

    pub(crate) fn get(&self, address: &Address) -> Option<&Arc<dyn Resource>> {
        self.resources.iter().find(|resource| resource.address() == *address)
    }
}
