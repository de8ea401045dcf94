//! What a deploy would do: a value, computed from what is declared and what was observed and nothing else.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::address::{Address, Kind};
use crate::error::Error;
use crate::graph::Graph;
use crate::mask;
use crate::names::Scope;
use crate::observe::Observed;
use crate::resource::{Live, Outputs, Resource, Stack};
use crate::settings::StageSettings;

/// What becomes of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Create,
    Update,
    /// A new one takes over, then the old one goes.
    Replace,
    Delete,
}

impl Action {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Delete => "delete",
        }
    }
}

/// One property that changes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PropertyChange {
    pub property: &'static str,
    /// Absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// Absent if it is known only after apply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
    pub known_after_apply: bool,
    pub forces_replacement: bool,
    /// What is live is not what the last run left: somebody else changed it.
    pub drift: bool,
}

/// One resource that changes, and everything that apply needs to know about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    pub resource: Address,
    pub action: Action,
    /// The id in the account, if it exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub changes: Vec<PropertyChange>,
    /// It undoes what somebody else did since the last run: see [`crate::drift`].
    pub drift: bool,
    /// Steps that come first.
    pub after: Vec<Address>,
    /// It goes by itself when this one is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_with: Option<Address>,
    #[serde(skip)]
    pub(crate) live: Option<Live>,
}

/// The difference between what is declared and what is there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    pub scope: Scope,
    /// Creates, updates and replacements in the order of their needs, then deletions in theirs. What is deleted goes
    /// last, except for what must leave the API before it is deployed: see [`Step::after`].
    pub steps: Vec<Step>,
    pub unchanged: Vec<Address>,
    #[serde(skip)]
    pub(crate) outputs: Outputs,
}

impl Step {
    /// Whether it takes something out of the API before that is deployed: what is still there then is served. What
    /// clients are served meanwhile is the old deployment, a snapshot of its own.
    pub(crate) fn is_removed_before_deployment(&self) -> bool {
        let is_part = matches!(
            self.resource.kind,
            Kind::Route
                | Kind::RouteTarget
                | Kind::RouteResponse
                | Kind::Integration
                | Kind::IntegrationResponse
                | Kind::Authorizer
        );
        let stays = self.deleted_with.as_ref().is_none_or(|container| container.kind != Kind::Api);
        self.action == Action::Delete && is_part && stays
    }
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub fn count(&self, action: Action) -> usize {
        self.steps.iter().filter(|step| step.action == action).count()
    }
}

/// What a plan may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanOptions {
    /// The stage is protected: nothing that holds user data may go, whatever the other options say.
    pub protect: bool,
    /// Take over resources that have our names but not our tags.
    pub adopt: bool,
    /// Deletion protection may be switched off for a deletion.
    pub drop_deletion_protection: bool,
}

impl PlanOptions {
    pub fn of(stage: &StageSettings) -> Self {
        Self { protect: stage.protect, ..Self::default() }
    }
}

/// Why a plan must not be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    NotOurs { resource: Address, id: String },
    Protected { resource: Address },
    DeletionProtected { resource: Address, id: String },
    Fixed { resource: Address, property: &'static str },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOurs { resource, id } => write!(
                f,
                "{resource}: `{id}` exists, but without the tags of this app and stage; \
                 `--adopt` takes it over, another app or stage name avoids it"
            ),
            Self::Protected { resource } => write!(
                f,
                "{resource}: it would be deleted, but the stage has `protect: true`; set it to false and deploy first"
            ),
            Self::DeletionProtected { resource, id } => write!(
                f,
                "{resource}: `{id}` has deletion protection; set `table: {{ deletion_protection: false }}` and deploy \
                 first, or allow it with `--drop-deletion-protection`"
            ),
            Self::Fixed { resource, property } => write!(
                f,
                "{resource}: its {property} cannot be changed while it exists, and replacing it would lose its data; \
                 export the data and destroy it first"
            ),
        }
    }
}

/// Compares what is declared with what was observed. Pure: the same input gives the same plan.
///
/// # Errors
/// [`Error::Refused`] with every reason at once.
pub fn plan(stack: &Stack, observed: &Observed, options: &PlanOptions) -> Result<Plan, Error> {
    let graph =
        Graph::new(stack.resources().iter().map(|resource| (resource.address(), resource.all_needs())))?;
    let mut plan = Plan {
        scope: stack.scope().clone(),
        steps: Vec::new(),
        unchanged: Vec::new(),
        outputs: observed.outputs(),
    };
    let mut refusals = Vec::new();
    for address in graph.order() {
        let Some(resource) = stack.get(address) else { continue };
        let live = observed.get(address);
        if let Some(live) = live.filter(|live| !live.owned && !options.adopt) {
            // What has no tags of its own belongs to whom its container belongs, which is refused already.
            if address.kind.is_tagged() {
                refusals.push(Refusal::NotOurs { resource: address.clone(), id: live.id.clone() });
            }
            continue;
        }
        match step(resource.as_ref(), live, &mut plan.outputs) {
            Ok(Some(step)) => plan.steps.push(step),
            Ok(None) => plan.unchanged.push(address.clone()),
            Err(refusal) => refusals.push(refusal),
        }
    }
    let doomed: BTreeMap<&Address, &Live> =
        observed.iter().filter(|(address, live)| live.owned && stack.get(address).is_none()).collect();
    for (address, live) in &doomed {
        refusals.extend(guard(address, live, options));
    }
    plan.steps.extend(deletions(&doomed)?);
    remove_before_deployment(&mut plan.steps);
    if refusals.is_empty() { Ok(plan) } else { Err(Error::Refused(refusals)) }
}

/// What becomes of a declared resource; `known` loses the outputs that its change makes unknown.
fn step(resource: &dyn Resource, live: Option<&Live>, known: &mut Outputs) -> Result<Option<Step>, Refusal> {
    let address = resource.address();
    let desired = resource.desired(known);
    let old = |property: &str| live.and_then(|live| live.properties.get(property));
    let changes: Vec<PropertyChange> = desired
        .iter()
        .filter(|(property, new)| live.is_none() || new.is_none() || *new != old(property))
        .map(|(property, new)| PropertyChange {
            property,
            old: old(property).map(|old| mask::live(property, old, new).into_owned()),
            new: new.cloned(),
            known_after_apply: new.is_none(),
            forces_replacement: live.is_some() && resource.fixed().contains(&property),
            drift: false,
        })
        .collect();
    if live.is_some() && changes.is_empty() {
        return Ok(None);
    }
    let action = match (live, changes.iter().find(|change| change.forces_replacement)) {
        (None, _) => Action::Create,
        (Some(_), None) => Action::Update,
        // What has a generated id can be made anew beside the old one. What has a name and holds data cannot.
        (Some(_), Some(_)) if address.kind == Kind::Deployment => Action::Replace,
        (Some(_), Some(change)) => {
            return Err(Refusal::Fixed { resource: address, property: change.property });
        }
    };
    match action {
        Action::Update => known.forget(&address, resource.volatile()),
        _ => known.insert(address.clone(), BTreeMap::new()),
    }
    let after = if action == Action::Create { resource.needs() } else { resource.all_needs() };
    Ok(Some(Step {
        after,
        resource: address,
        action,
        id: live.map(|live| live.id.clone()),
        changes,
        drift: false,
        deleted_with: None,
        live: live.cloned(),
    }))
}

fn guard(address: &Address, live: &Live, options: &PlanOptions) -> Option<Refusal> {
    if address.kind != Kind::Table {
        return None;
    }
    let resource = address.clone();
    if options.protect {
        return Some(Refusal::Protected { resource });
    }
    let protected = live.properties.get("deletion_protection") == Some(&Value::Bool(true));
    (protected && !options.drop_deletion_protection)
        .then(|| Refusal::DeletionProtected { resource, id: live.id.clone() })
}

fn deletions(doomed: &BTreeMap<&Address, &Live>) -> Result<Vec<Step>, Error> {
    let step = |address: &Address, live: &Live| {
        let container = container(address, doomed);
        let after = doomed.keys().filter(|other| goes_before(other, address)).map(|other| (*other).clone());
        Step {
            resource: address.clone(),
            action: Action::Delete,
            id: Some(live.id.clone()),
            changes: Vec::new(),
            drift: false,
            // What goes with its container has nothing to wait for but that.
            after: container.clone().map_or_else(|| after.collect(), |container| vec![container]),
            deleted_with: container,
            live: Some(live.clone()),
        }
    };
    let mut steps: BTreeMap<&Address, Step> =
        doomed.iter().map(|(address, live)| (*address, step(address, live))).collect();
    let graph = Graph::new(steps.values().map(|step| (step.resource.clone(), step.after.clone())))?;
    Ok(graph.order().filter_map(|address| steps.remove(address)).collect())
}

/// Orders what leaves the API between the changes of what stays, which may still use it, and the deployment.
fn remove_before_deployment(steps: &mut [Step]) {
    let chosen = |steps: &[Step], choose: fn(&Step) -> bool| -> Vec<Address> {
        steps.iter().filter(|step| choose(step)).map(|step| step.resource.clone()).collect()
    };
    let changed = chosen(steps, |step| {
        step.action != Action::Delete && matches!(step.resource.kind, Kind::Route | Kind::RouteTarget)
    });
    let removed = chosen(steps, Step::is_removed_before_deployment);
    for step in steps {
        if step.is_removed_before_deployment() {
            step.after.extend(changed.iter().cloned());
        } else if step.action != Action::Delete && step.resource.kind == Kind::Deployment {
            step.after.extend(removed.iter().cloned());
        }
    }
}

/// Which deletions must be over before another: routes before the integrations that they use, a deployment after the
/// stage that serves it (aws-facts, API Gateway 3 and 8), a role after its policies (aws-facts, IAM) and after the
/// function that is found by it, a log group after the function that could still write (aws-facts, Logs).
fn goes_before(first: &Address, second: &Address) -> bool {
    match (first.kind, second.kind) {
        (Kind::Stage, Kind::Deployment) | (Kind::Route, Kind::Integration | Kind::Authorizer) => true,
        (Kind::Policy, Kind::Role) => first.owner() == second.name,
        (Kind::Function, Kind::Role | Kind::LogGroup) => first.name == second.name,
        _ => false,
    }
}

/// What takes a resource along when it is deleted, if that is deleted too.
fn container(address: &Address, doomed: &BTreeMap<&Address, &Live>) -> Option<Address> {
    let owner = address.owner();
    let named = |kind, name: &str| {
        let container = Address::new(kind, name);
        doomed.contains_key(&container).then_some(container)
    };
    let api = || {
        // Children are observed of one API only; the others are left-overs of lost answers.
        doomed
            .keys()
            .find(|other| other.kind == Kind::Api && !other.name.contains('#'))
            .map(|api| (*api).clone())
    };
    match address.kind {
        Kind::Table | Kind::LogGroup | Kind::Role | Kind::Policy | Kind::Function | Kind::Api => None,
        Kind::Alias | Kind::Permission => named(Kind::Function, owner),
        Kind::Authorizer | Kind::Integration | Kind::Route | Kind::Deployment | Kind::Stage => api(),
        Kind::IntegrationResponse => api().or_else(|| named(Kind::Integration, owner)),
        Kind::RouteTarget | Kind::RouteResponse => api().or_else(|| named(Kind::Route, owner)),
    }
}

#[cfg(test)]
mod tests;
