//! What is written down of every run that changes a stage: who, when, what, how it ended, and what served before and
//! after, which is what a rollback needs.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::applied::Applied;
use super::clock;
use crate::address::{Address, Kind};
use crate::names::Scope;
use crate::observe::Observed;
use crate::plan::{Action, Plan};

/// Whoever changes a stage: what every refusal names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// ARN of the principal.
    pub principal: String,
    pub host: String,
    pub pid: u32,
    /// What it was called for: `deploy`, `destroy`, `rollback`, `dev`.
    pub verb: String,
    /// Milliseconds since 1970.
    pub since_ms: i64,
    /// Where a CI system shows this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { principal, host, pid, verb, since_ms, run } = self;
        write!(f, "{principal} ({verb} by process {pid} on {host} since {}", clock::written(*since_ms))?;
        match run {
            Some(run) => write!(f, ", {run})"),
            None => f.write_str(")"),
        }
    }
}

/// The state of the sources that were deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    pub id: String,
    /// Whether files differed from it.
    pub dirty: bool,
}

/// Where a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Running,
    Succeeded,
    Failed,
    /// It was stopped, killed, or its lock was taken away.
    Interrupted,
    /// It did not stand the verification, and what served before serves again.
    RolledBack,
}

impl Outcome {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::RolledBack => "rolled back",
        }
    }
}

/// What a run changes, by number and by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    pub create: usize,
    pub update: usize,
    pub replace: usize,
    pub delete: usize,
    /// `update function/connect`.
    pub steps: Vec<String>,
}

impl Changes {
    pub fn of(plan: &Plan) -> Self {
        Self {
            create: plan.count(Action::Create),
            update: plan.count(Action::Update),
            replace: plan.count(Action::Replace),
            delete: plan.count(Action::Delete),
            steps: plan
                .steps
                .iter()
                .map(|step| format!("{} {}", step.action.name(), step.resource))
                .collect(),
        }
    }
}

/// What serves: the version behind each function's alias, and the deployment behind the API's stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointers {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// By function, as in `connect`.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
}

impl Pointers {
    /// What served when it was observed.
    pub fn of(observed: &Observed, scope: &Scope) -> Self {
        let text = |address: &Address, property: &str| {
            let value = observed.get(address)?.properties.get(property)?;
            value.as_str().map(str::to_owned)
        };
        let aliases = observed.iter().filter(|(address, live)| address.kind == Kind::Alias && live.owned);
        Self {
            api: observed.get(&Address::new(Kind::Api, scope.app.as_str())).map(|live| live.id.clone()),
            deployment: text(&Address::new(Kind::Stage, scope.stage.as_str()), "deployment"),
            versions: aliases
                .filter_map(|(address, _)| Some((address.name.clone(), text(address, "version")?)))
                .collect(),
        }
    }

    /// Whether nothing serves.
    pub fn is_empty(&self) -> bool {
        self.deployment.is_none() && self.versions.is_empty()
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Counted for each stage. It is the fencing number of the run's lock as well.
    pub number: u64,
    pub by: Holder,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// Version of the tool.
    pub tool: String,
    pub changes: Changes,
    /// What served before.
    pub before: Pointers,
    /// What served afterwards, if it got that far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Pointers>,
    pub outcome: Outcome,
    /// Milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
    /// The run that this one went back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<u64>,
    /// What the verification has seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<String>,
    /// Why it failed, or who ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The stage as it is left if the run succeeds, which is kept beside the records.
    #[serde(skip)]
    pub leaves: Option<Applied>,
}

impl Record {
    /// A run that begins; number and time come with its lock.
    pub fn begin(by: Holder, commit: Option<Commit>, tool: impl Into<String>) -> Self {
        Self {
            number: 0,
            by,
            commit,
            tool: tool.into(),
            changes: Changes::default(),
            before: Pointers::default(),
            after: None,
            outcome: Outcome::Running,
            ended_ms: None,
            restores: None,
            verified: None,
            note: None,
            leaves: None,
        }
    }

    /// Whether it was written down like the other; what it leaves is not part of it.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        *self == Self { leaves: self.leaves.clone(), ..other.clone() }
    }

    /// How long it took, once it is over.
    pub fn took_ms(&self) -> Option<u64> {
        u64::try_from(self.ended_ms? - self.by.since_ms).ok()
    }
}
