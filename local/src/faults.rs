//! Faults that tests inject: rules that make chosen calls fail, answer late, or lose their answer. None by default.

#[cfg(test)]
mod tests;
mod young;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use tokio::sync::watch;

use self::young::Births;
pub(crate) use self::young::Young;
use crate::error::AwsError;
use crate::glob;

/// Pattern of [`Rule::operation`] that means every operation which configures something, as against those that move
/// items, events, messages and log lines.
pub const CONTROL_PLANE: &str = "control-plane";

/// One fault and the calls it meets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Glob over `service:Operation`, for instance `lambda:Create*`, or [`CONTROL_PLANE`]. For
    /// [`Fault::NotAssumable`] and [`Fault::RoleSpreading`] a glob over the name of the role, for
    /// [`Fault::TableCreating`] and [`Fault::FunctionUnseen`] over that of the table or function, for
    /// [`Fault::DropDisconnect`] and [`Fault::Stall`] over the connection id.
    pub operation: String,
    /// First call that is met, from 1, counted since the rule was set. Without it every call is met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nth: Option<u64>,
    /// How many calls are met from the `nth` on.
    #[serde(default = "one")]
    pub times: u64,
    pub fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Fault {
    /// The call is answered with this error and does nothing.
    Fail { code: String, status: u16, message: String },
    /// The call does its work, then the socket is closed without an answer.
    LoseAnswer,
    /// The call starts this much later.
    Delay { ms: u64 },
    /// The call is not answered as long as its caller waits, and does its work before that or never. A test that waits
    /// for [`Faults::held`] and then kills the caller has killed it at exactly this call.
    Hold { worked: bool },
    /// A role cannot be assumed by a service for this many attempts after the rule was set.
    NotAssumable { attempts: u64 },
    /// A role cannot be assumed by anybody for this long after it was created.
    RoleSpreading { ms: u64 },
    /// A table is not active for this long after it was created.
    TableCreating { ms: u64 },
    /// A function is not found by those who want to do something with it for this long after it was created.
    FunctionUnseen { ms: u64 },
    /// Calls beyond this rate (a second) are throttled in the words of their service.
    RateLimit { rate: f64, burst: f64 },
    /// The route `$disconnect` is not called.
    DropDisconnect,
    /// The client of a connection does not read: posts to it give 429.
    Stall,
}

impl Rule {
    /// Meets every call.
    pub fn every(operation: impl Into<String>, fault: Fault) -> Self {
        Self { operation: operation.into(), nth: None, times: 1, fault }
    }

    /// Meets the `n`th call only, counted from 1.
    pub fn nth(operation: impl Into<String>, n: u64, fault: Fault) -> Self {
        Self { operation: operation.into(), nth: Some(n), times: 1, fault }
    }

    /// The control-plane limits of AWS that a deploy meets first.
    pub fn rate_limits_of_aws() -> Vec<Self> {
        // aws-facts, quotas: 10 requests a second with a burst of 40; CreateDeployment once in 5 seconds.
        vec![
            Self::every("apigateway:CreateDeployment", Fault::RateLimit { rate: 0.2, burst: 1.0 }),
            Self::every("apigateway:*", Fault::RateLimit { rate: 10.0, burst: 40.0 }),
        ]
    }

    /// The pace of a region: its limits, and what takes its time there. Distance is apart from that.
    pub fn pace_of_a_region() -> Vec<Self> {
        let mut rules = Self::rate_limits_of_aws();
        // Both vary: these are what a deploy has to be ready for.
        rules.push(Self::every("*", Fault::RoleSpreading { ms: 10_000 }));
        rules.push(Self::every("*", Fault::TableCreating { ms: 8_000 }));
        rules
    }
}

impl Fault {
    pub fn fail(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Fail { status, code: code.into(), message: message.into() }
    }
}

/// The rules of a cloud. Clones share them, so a test changes a running cloud through its handle.
#[derive(Clone, Default)]
pub struct Faults {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// How many calls were held so far.
    held: watch::Sender<u64>,
    /// Lets calls pass without the lock while there are no rules, which is always outside tests.
    any: AtomicBool,
    rules: Mutex<Vec<Armed>>,
    births: Mutex<Births>,
}

struct Armed {
    rule: Rule,
    seen: u64,
    met: u64,
    /// Attempts of each role to be assumed.
    attempts: HashMap<String, u64>,
    tokens: f64,
    refilled: Instant,
}

/// What a call has to go through.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) delay: Option<Duration>,
    pub(crate) error: Option<AwsError>,
    pub(crate) lose_answer: bool,
    pub(crate) hold: Option<Hold>,
}

/// When a call is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    BeforeWork,
    AfterWork,
}

impl Faults {
    /// Replaces all rules; their counting starts anew.
    pub fn set(&self, rules: impl IntoIterator<Item = Rule>) {
        let mut armed = self.lock();
        *armed = rules.into_iter().map(Armed::new).collect();
        self.shared.any.store(!armed.is_empty(), Ordering::Release);
    }

    /// Adds a rule to those there are.
    pub fn add(&self, rule: Rule) {
        self.lock().push(Armed::new(rule));
        self.shared.any.store(true, Ordering::Release);
    }

    pub fn clear(&self) {
        self.set([]);
    }

    pub fn rules(&self) -> Vec<Rule> {
        self.lock().iter().map(|armed| armed.rule.clone()).collect()
    }

    /// How many calls the rules have met since they were set.
    pub fn met(&self) -> u64 {
        self.lock().iter().map(|armed| armed.met).sum()
    }

    /// Counts a call and says what happens to it.
    pub(crate) fn on_call(&self, service: &str, operation: &str) -> Verdict {
        let mut verdict = Verdict::default();
        if !self.any() {
            return verdict;
        }
        let name = format!("{service}:{operation}");
        for armed in self.lock().iter_mut() {
            let met = match armed.rule.operation.as_str() {
                CONTROL_PLANE => is_control_plane(service, operation),
                pattern => glob::matches(pattern, &name),
            };
            if !met {
                continue;
            }
            if let Fault::RateLimit { rate, burst } = armed.rule.fault {
                if !armed.take_token(rate, burst) {
                    verdict.error.get_or_insert_with(|| throttled(service));
                }
                continue;
            }
            if !armed.count() {
                continue;
            }
            match &armed.rule.fault {
                Fault::Fail { code, status, message } => {
                    let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                    verdict.error.get_or_insert_with(|| AwsError::new(status, code.clone(), message));
                }
                Fault::LoseAnswer => verdict.lose_answer = true,
                Fault::Hold { worked } => {
                    verdict.hold = Some(if *worked { Hold::AfterWork } else { Hold::BeforeWork });
                }
                Fault::Delay { ms } => {
                    *verdict.delay.get_or_insert_default() += Duration::from_millis(*ms);
                }
                Fault::RateLimit { .. }
                | Fault::NotAssumable { .. }
                | Fault::RoleSpreading { .. }
                | Fault::TableCreating { .. }
                | Fault::FunctionUnseen { .. }
                | Fault::DropDisconnect
                | Fault::Stall => {}
            }
        }
        verdict
    }

    /// Waits until so many calls were held since the cloud started.
    pub async fn held(&self, calls: u64) {
        // The sender is as old as this handle, so the wait cannot end without one.
        let _ = self.shared.held.subscribe().wait_for(|held| *held >= calls).await;
    }

    /// Never returns: the caller goes away first.
    pub(crate) async fn hold(&self) {
        self.shared.held.send_modify(|held| *held += 1);
        std::future::pending().await
    }

    /// Whether IAM has spread the role far enough for a service to assume it. Counts an attempt.
    pub(crate) fn role_assumable(&self, role_name: &str) -> bool {
        if !self.any() {
            return true;
        }
        self.lock().iter_mut().all(|armed| match armed.rule.fault {
            Fault::NotAssumable { attempts } if glob::matches(&armed.rule.operation, role_name) => {
                let made = armed.attempts.entry(role_name.to_owned()).or_default();
                *made += 1;
                *made > attempts
            }
            Fault::RoleSpreading { ms } if glob::matches(&armed.rule.operation, role_name) => {
                !self.is_younger(Young::Role, role_name, ms)
            }
            _ => true,
        })
    }

    /// Whether the table is still being created.
    pub(crate) fn table_creating(&self, table: &str) -> bool {
        self.any()
            && self.lock().iter().any(|armed| match armed.rule.fault {
                Fault::TableCreating { ms } => {
                    glob::matches(&armed.rule.operation, table) && self.is_younger(Young::Table, table, ms)
                }
                _ => false,
            })
    }

    /// Whether the function is not found everywhere yet.
    pub(crate) fn function_unseen(&self, function: &str) -> bool {
        self.any()
            && self.lock().iter().any(|armed| match armed.rule.fault {
                Fault::FunctionUnseen { ms } => {
                    glob::matches(&armed.rule.operation, function)
                        && self.is_younger(Young::Function, function, ms)
                }
                _ => false,
            })
    }

    /// Takes down that something was created just now.
    pub(crate) fn created(&self, kind: Young, name: &str) {
        self.births().record(kind, name);
    }

    /// Whether the end of this connection is kept from its `$disconnect` route. Counts for `nth`.
    pub(crate) fn drops_disconnect(&self, connection_id: &str) -> bool {
        self.any()
            && self.lock().iter_mut().any(|armed| {
                matches!(armed.rule.fault, Fault::DropDisconnect)
                    && glob::matches(&armed.rule.operation, connection_id)
                    && armed.count()
            })
    }

    /// Whether posts to this connection find its buffer full. Counts for `nth`.
    pub(crate) fn stalls(&self, connection_id: &str) -> bool {
        self.any()
            && self.lock().iter_mut().any(|armed| {
                matches!(armed.rule.fault, Fault::Stall)
                    && glob::matches(&armed.rule.operation, connection_id)
                    && armed.count()
            })
    }

    fn any(&self) -> bool {
        self.shared.any.load(Ordering::Acquire)
    }

    fn is_younger(&self, kind: Young, name: &str, ms: u64) -> bool {
        self.births().is_younger(kind, name, Duration::from_millis(ms))
    }

    fn births(&self) -> MutexGuard<'_, Births> {
        self.shared.births.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Armed>> {
        self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Armed {
    fn new(rule: Rule) -> Self {
        let tokens = if let Fault::RateLimit { burst, .. } = rule.fault { burst } else { 0.0 };
        Self { rule, seen: 0, met: 0, attempts: HashMap::new(), tokens, refilled: Instant::now() }
    }

    /// Counts a call; true if the rule meets it.
    fn count(&mut self) -> bool {
        self.seen += 1;
        let met =
            self.rule.nth.is_none_or(|nth| (nth..nth.saturating_add(self.rule.times)).contains(&self.seen));
        self.met += u64::from(met);
        met
    }

    fn take_token(&mut self, rate: f64, burst: f64) -> bool {
        let now = Instant::now();
        self.tokens = (self.tokens + rate * now.duration_since(self.refilled).as_secs_f64()).min(burst);
        self.refilled = now;
        let free = self.tokens >= 1.0;
        if free {
            self.tokens -= 1.0;
        }
        free
    }
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.rules()).finish()
    }
}

impl<'de> Deserialize<'de> for Faults {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let faults = Self::default();
        faults.set(Vec::<Rule>::deserialize(deserializer)?);
        Ok(faults)
    }
}

fn one() -> u64 {
    1
}

fn is_control_plane(service: &str, operation: &str) -> bool {
    match service {
        "dynamodb" => {
            !(operation.ends_with("Item")
                || operation.ends_with("Items")
                || matches!(operation, "Query" | "Scan"))
        }
        "lambda" => operation != "Invoke",
        "logs" => !(operation.ends_with("LogEvents") || operation == "StartLiveTail"),
        "execute-api" | "sts" => false,
        _ => true,
    }
}

fn throttled(service: &str) -> AwsError {
    match service {
        "apigateway" => {
            AwsError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", "Too Many Requests")
        }
        "lambda" => {
            AwsError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", "Rate Exceeded.")
        }
        "execute-api" => {
            AwsError::new(StatusCode::TOO_MANY_REQUESTS, "LimitExceededException", "Too Many Requests")
        }
        "iam" | "sts" => AwsError::bad_request("Throttling", "Rate exceeded"),
        _ => AwsError::bad_request("ThrottlingException", "Rate exceeded"),
    }
}
