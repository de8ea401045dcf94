//! What is there of a stage: found by name, path and tag, all kinds at the same time. Nothing is remembered between
//! runs, so this finds left-overs of killed runs and parts that are no longer declared as well.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::try_join_all;

use crate::address::{Address, Kind};
use crate::apply::Outcome;
use crate::aws::Aws;
use crate::call::alone;
use crate::error::Error;
use crate::names::{ENGINE, ENGINE_TAG, Scope};
use crate::resource::{Live, Outputs, Resource, Stack};
use crate::resources;

/// Everything of one stage that exists, by address.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed(BTreeMap<Address, Live>);

impl Observed {
    pub fn get(&self, address: &Address) -> Option<&Live> {
        self.0.get(address)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Address, &Live)> {
        self.0.iter()
    }

    /// Whether nothing of the stage exists.
    pub fn is_empty(&self) -> bool {
        !self.0.values().any(|live| live.owned)
    }

    /// What is there once `stack` was applied without a failure: everything as it is declared, with the outputs that
    /// the calls gave. It saves a second observation.
    pub fn after(stack: &Stack, outcome: &Outcome) -> Self {
        let scope = stack.scope();
        let live = |resource: &Arc<dyn Resource>| {
            let (address, desired) = (resource.address(), resource.desired(&outcome.outputs));
            let outputs = outcome.outputs.all(&address);
            let id = match (address.kind, outputs.get("id")) {
                (_, Some(id)) => id.clone(),
                (Kind::Table, None) => scope.table(),
                (Kind::LogGroup, None) => format!("/aws/lambda/{}", scope.named(&address.name)),
                (Kind::Stage, None) => scope.stage.to_string(),
                (_, None) => scope.named(&address.name),
            };
            let properties =
                desired.iter().filter_map(|(name, value)| Some((name, value?.clone()))).collect();
            (address, Live { id, properties, outputs, owned: true })
        };
        stack.resources().iter().map(live).collect()
    }

    /// Whether it belongs to a stack of CloudFormation, and so to the other engine.
    pub fn is_of_cloudformation(&self) -> bool {
        self.0.values().any(|live| live.owned && is_of_cloudformation(live))
    }

    /// Refuses what belongs to a stack of CloudFormation, which would not know of a change that is made past it.
    ///
    /// # Errors
    /// [`Error::Stack`] names the other engine.
    pub fn require_direct(&self, scope: &Scope) -> Result<(), Error> {
        if self.is_of_cloudformation() { Err(Error::of_cloudformation(scope)) } else { Ok(()) }
    }

    pub(crate) fn outputs(&self) -> Outputs {
        let mut outputs = Outputs::default();
        for (address, live) in &self.0 {
            outputs.insert(address.clone(), live.outputs.clone());
        }
        outputs
    }
}

impl FromIterator<(Address, Live)> for Observed {
    fn from_iter<I: IntoIterator<Item = (Address, Live)>>(found: I) -> Self {
        Self(found.into_iter().collect())
    }
}

/// Whether one resource carries the tag that says so. Not all kinds have tags.
pub(crate) fn is_of_cloudformation(live: &Live) -> bool {
    let tags = live.properties.get("tags");
    tags.and_then(|tags| tags.get(ENGINE_TAG)).is_some_and(|engine| engine == ENGINE)
}

/// What one kind of resource found.
pub(crate) type Found = Vec<(Address, Live)>;

/// How closely a stage is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Everything that can be declared.
    Full,
    /// Without what goes with a part of the API and is found only by that, which costs a round of calls.
    Outline,
}

/// Observes everything of a stage. On a deployed stage it takes three rounds of calls: the API, its parts, and the
/// parts of those.
pub async fn observe(aws: &Aws, scope: &Scope) -> Result<Observed, Error> {
    observe_in(aws, scope, Detail::Full).await
}

/// Observes what has to be deleted for nothing of a stage to be left, in two rounds of calls: responses of routes and
/// integrations go with them.
pub async fn observe_outline(aws: &Aws, scope: &Scope) -> Result<Observed, Error> {
    observe_in(aws, scope, Detail::Outline).await
}

async fn observe_in(aws: &Aws, scope: &Scope, detail: Detail) -> Result<Observed, Error> {
    let found =
        alone(aws, scope, None, async |cx| try_join_all(resources::observers(cx, detail)).await).await?;
    Ok(found.into_iter().flatten().collect())
}
