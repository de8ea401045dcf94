//! The stage as the last run that succeeded left it. Nothing is decided by it: a plan compares what is declared with
//! what is there. It only tells who made a difference: the settings and sources, or somebody who changed the account.

use std::collections::BTreeMap;

use chat_functions::contract::Handler;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::record::Pointers;
use crate::address::{Address, Kind};
use crate::names::Scope;
use crate::observe::Observed;

/// Properties of resources by address, as in `function/connect`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Applied(BTreeMap<String, Map<String, Value>>);

impl Applied {
    /// What is there now is what was left. `observed` is of a run's own making and has nothing of others in it.
    pub fn of(observed: &Observed) -> Self {
        let properties = |live: &crate::resource::Live| {
            live.properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
        };
        Self(observed.iter().map(|(address, live)| (address.to_string(), properties(live))).collect())
    }

    /// Other versions and another deployment serve.
    pub fn point(&mut self, scope: &Scope, to: &Pointers) {
        for (function, version) in &to.versions {
            self.set(&Address::new(Kind::Alias, function), "version", version);
        }
        if let Some(deployment) = &to.deployment {
            self.set(&Address::new(Kind::Stage, scope.stage.as_str()), "deployment", deployment);
        }
    }

    /// A function has other code.
    pub fn code(&mut self, handler: Handler, sha256: &str) {
        self.set(&Address::new(Kind::Function, handler.name()), "code_sha256", sha256);
    }

    fn set(&mut self, address: &Address, property: &str, value: &str) {
        if let Some(properties) = self.0.get_mut(&address.to_string()) {
            properties.insert(property.to_owned(), value.into());
        }
    }

    /// The resource as it was left.
    pub(crate) fn get(&self, address: &Address) -> Option<&Map<String, Value>> {
        self.0.get(&address.to_string())
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
