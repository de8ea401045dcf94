//! Functions as they are kept, and as Lambda shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::name::{self, LATEST};
use super::permissions::Policy;
use crate::context::Context;

/// A function with everything that belongs to it. One document of the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) latest: Version,
    /// Published versions by number. Numbers are never used twice.
    pub(super) versions: BTreeMap<u64, Version>,
    pub(super) last_version: u64,
    pub(super) aliases: BTreeMap<String, Alias>,
    /// Resource policies by qualifier; that of the function itself has the empty one.
    pub(super) policies: BTreeMap<String, Policy>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) reserved_concurrency: Option<usize>,
    /// Configurations of asynchronous invocation by qualifier.
    pub(super) event_invoke: BTreeMap<String, EventInvoke>,
}

/// Code and configuration of one version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) code_sha256: String,
    /// The same in hexadecimal: the key of the zip.
    pub(super) code_key: String,
    pub(super) code_size: u64,
    pub(super) settings: Settings,
    pub(super) version: String,
    pub(super) revision_id: String,
    pub(super) last_modified_ms: i64,
    /// Created, and its last update, take effect at these times.
    pub(super) active_at_ms: i64,
    pub(super) updated_at_ms: i64,
}

/// What a caller configures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) role: String,
    /// Unique id of the role that may decrypt the environment: of the one that had this name when it was set.
    #[serde(default)]
    pub(super) grantee: Option<String>,
    pub(super) handler: String,
    pub(super) runtime: String,
    pub(super) description: String,
    pub(super) timeout_s: u64,
    pub(super) memory_mb: u64,
    pub(super) variables: BTreeMap<String, String>,
    pub(super) architecture: String,
    pub(super) tracing: String,
    pub(super) storage_mb: u64,
    pub(super) log_group: Option<String>,
    pub(super) dead_letter: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Alias {
    pub(super) version: String,
    pub(super) description: String,
    /// Further versions and their shares of the events.
    pub(super) weights: BTreeMap<String, f64>,
    pub(super) revision_id: String,
}

/// How asynchronous events are retried, and where those end up that failed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct EventInvoke {
    pub(super) last_modified_s: f64,
    pub(super) max_retries: Option<u32>,
    pub(super) max_age_s: Option<u64>,
    pub(super) on_success: Option<String>,
    pub(super) on_failure: Option<String>,
}

impl Function {
    /// The version that a version number, `$LATEST` or an alias means; by weight if the alias has several.
    pub(super) fn version(&self, qualifier: &str) -> Option<&Version> {
        if qualifier == LATEST {
            return Some(&self.latest);
        }
        match self.aliases.get(qualifier) {
            Some(alias) => self.numbered(&alias.version),
            None => self.numbered(qualifier),
        }
    }

    fn numbered(&self, version: &str) -> Option<&Version> {
        if version == LATEST { Some(&self.latest) } else { self.versions.get(&version.parse().ok()?) }
    }

    /// Whether some alias sends events to a version.
    pub(super) fn is_aliased(&self, version: &str) -> bool {
        self.aliases.values().any(|alias| alias.version == version || alias.weights.contains_key(version))
    }

    /// Whether some version has this code.
    pub(super) fn uses_code(&self, code_key: &str) -> bool {
        std::iter::once(&self.latest)
            .chain(self.versions.values())
            .any(|version| version.code_key == code_key)
    }
}

impl Version {
    /// Whether an update has not taken effect yet.
    pub(super) fn in_progress(&self) -> bool {
        now_ms() < self.updated_at_ms
    }

    /// `FunctionConfiguration` of the model. `qualifier` is the one asked for, which the ARN then has.
    pub(super) fn show(&self, cx: &Context, function: &str, qualifier: Option<&str>) -> Map<String, Value> {
        let settings = &self.settings;
        let arn = match qualifier {
            Some(qualifier) => name::qualified_arn(cx, function, qualifier),
            None => name::function_arn(cx, function),
        };
        let pending = now_ms() < self.active_at_ms;
        let updating = now_ms() < self.updated_at_ms;
        let log_group = settings.log_group.clone().unwrap_or_else(|| format!("/aws/lambda/{function}"));
        let mut shown = json!({
            "FunctionName": function,
            "FunctionArn": arn,
            "Runtime": settings.runtime,
            "Role": settings.role,
            "Handler": settings.handler,
            "CodeSize": self.code_size,
            "Description": settings.description,
            "Timeout": settings.timeout_s,
            "MemorySize": settings.memory_mb,
            "LastModified": last_modified(self.last_modified_ms),
            "CodeSha256": self.code_sha256,
            "Version": self.version,
            "TracingConfig": { "Mode": settings.tracing },
            "RevisionId": self.revision_id,
            "State": if pending { "Pending" } else { "Active" },
            "LastUpdateStatus": if updating && !pending { "InProgress" } else { "Successful" },
            "PackageType": "Zip",
            "Architectures": [settings.architecture],
            "EphemeralStorage": { "Size": settings.storage_mb },
            "SnapStart": { "ApplyOn": "None", "OptimizationStatus": "Off" },
            "LoggingConfig": { "LogFormat": "Text", "LogGroup": log_group },
        });
        if pending {
            shown["StateReason"] = json!("The function is being created.");
            shown["StateReasonCode"] = json!("Creating");
        } else if updating {
            shown["LastUpdateStatusReason"] = json!("The function is being updated.");
            shown["LastUpdateStatusReasonCode"] = json!("Creating");
        }
        if !settings.variables.is_empty() {
            shown["Environment"] = json!({ "Variables": settings.variables });
        }
        if let Some(target) = &settings.dead_letter {
            shown["DeadLetterConfig"] = json!({ "TargetArn": target });
        }
        match shown {
            Value::Object(shown) => shown,
            _ => Map::new(),
        }
    }
}

impl Alias {
    pub(super) fn show(&self, cx: &Context, function: &str, name: &str) -> Value {
        let mut shown = json!({
            "AliasArn": name::qualified_arn(cx, function, name),
            "Name": name,
            "FunctionVersion": self.version,
            "Description": self.description,
            "RevisionId": self.revision_id,
        });
        if !self.weights.is_empty() {
            shown["RoutingConfig"] = json!({ "AdditionalVersionWeights": self.weights });
        }
        shown
    }
}

impl EventInvoke {
    pub(super) fn show(&self, arn: &str) -> Value {
        let mut shown = json!({ "LastModified": self.last_modified_s, "FunctionArn": arn });
        if let Some(retries) = self.max_retries {
            shown["MaximumRetryAttempts"] = json!(retries);
        }
        if let Some(age) = self.max_age_s {
            shown["MaximumEventAgeInSeconds"] = json!(age);
        }
        let destination =
            |to: &Option<String>| to.as_ref().map_or(json!({}), |to| json!({ "Destination": to }));
        shown["DestinationConfig"] =
            json!({ "OnSuccess": destination(&self.on_success), "OnFailure": destination(&self.on_failure) });
        shown
    }
}

pub(super) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

pub(super) fn new_revision() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// `2026-11-24T04:00:00.000+0000`
fn last_modified(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map(|at| at.strftime("%Y-%m-%dT%H:%M:%S.%3f+0000").to_string())
        .unwrap_or_default()
}
