//! Every way in which a deploy can fail, each saying which resource, what AWS answered, and what to do next.

use std::fmt;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::request_id::RequestId;

use crate::address::Address;
use crate::names::Scope;
use crate::plan::Refusal;

/// A failed plan, deploy, destroy or look-up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Settings(#[from] Box<crate::settings::SettingsError>),

    /// A call that AWS refused, or that never reached it.
    #[error("{}{failure}", on(.resource.as_ref()))]
    Aws { resource: Option<Address>, failure: Box<AwsFailure> },

    /// The plan must not be carried out as it is.
    #[error("the plan is refused:\n{}", list(.0))]
    Refused(Vec<Refusal>),

    /// Part of the plan failed; what could be finished was.
    #[error("{}", partly(.failed, .skipped))]
    Apply { failed: Vec<(Address, Error)>, skipped: Vec<Address> },

    /// The run was asked to stop; what was in flight was finished.
    #[error("{}", stopped(.unfinished, .skipped))]
    Cancelled {
        /// Begun and given up: it may be there or not, which the next run sees.
        unfinished: Vec<Address>,
        /// Never begun.
        skipped: Vec<Address>,
    },

    /// A step that had to wait for AWS when the run was asked to stop.
    #[error("{resource}: stopped {what}")]
    Stopped { resource: Address, what: String },

    /// AWS did not get there in time.
    #[error("{resource}: {what} for more than {seconds} s; run the same command again to go on")]
    TimedOut { resource: Address, what: String, seconds: u64 },

    /// A resource that AWS itself reports as failed.
    #[error("{resource}: {what}")]
    Unhealthy { resource: Address, what: String },

    /// The handlers cannot be packed or uploaded as they are.
    #[error("{what}")]
    Artifact { what: String },

    /// Destroy went through, but these still carry the stage's tags.
    #[error("still there after the destroy: {}", join(.0))]
    LeftBehind(Vec<Address>),

    /// IAM says beforehand that steps of the plan would be refused. Nothing was changed.
    #[error("the principal that deploys lacks permissions:\n{}", .0.iter().map(|missing| format!("  {missing}")).collect::<Vec<_>>().join("\n"))]
    NotPermitted(Vec<crate::preflight::Missing>),

    /// A role that CI jobs should get is there already, and is not ours.
    #[error(
        "the role `{name}` exists, but without the tags that `chatctl ci setup` gives it; delete it or rename the app"
    )]
    ForeignRole { name: String },

    /// The stage has not been deployed.
    #[error("nothing is deployed for app {app}, stage {stage}; `chatctl deploy --stage {stage}` does it")]
    NotDeployed { app: String, stage: String },

    /// Somebody else changes the stage.
    #[error("stage {stage} is locked by {holder}")]
    Locked { stage: String, holder: Box<crate::ledger::Holder>, remaining_s: u64 },

    /// Somebody else changed the stage after it was observed for this run.
    #[error("stage {stage} was changed since it was looked at, by {by}")]
    Overtaken { stage: String, by: String },

    /// `--only-code`, and more than code is declared otherwise.
    #[error("not only code changed: {}", .others.join(", "))]
    NotOnlyCode { others: Vec<String> },

    /// The lock went to somebody else while this run was at work.
    #[error("this run lost its lock and began nothing more: {to}{}", left_out(.skipped))]
    LockLost { to: String, skipped: Vec<Address> },

    /// There is nothing to go back to.
    #[error("cannot roll back: {why}")]
    CannotRollBack { why: String },

    /// What was deployed does not answer.
    #[error("the chat at {url} does not answer as it should: {saw}{}", lines(.logs))]
    Unverified {
        url: String,
        saw: String,
        /// What the functions logged meanwhile.
        logs: Vec<crate::logs::LogLine>,
        aftermath: Box<crate::change::Aftermath>,
    },

    /// A rollback that moved a part of the pointers and could not move it back.
    #[error("{error}; moved already and not moved back: {}", .stuck.join(", "))]
    HalfMoved { error: Box<Error>, stuck: Vec<String> },
    /// A stack of CloudFormation that does not do what is asked.
    #[error("{what}")]
    Stack { problem: StackProblem, what: String, help: String },

    /// A mistake in this program.
    #[error("internal error: {0}; please report it")]
    Bug(String),
}

impl Error {
    /// The stage belongs to the other engine.
    pub fn of_cloudformation(scope: &Scope) -> Self {
        Self::Stack {
            problem: StackProblem::OtherEngine,
            what: format!("stage {} belongs to CloudFormation", scope.stage),
            help: "add --engine cloudformation; if a `chatctl eject --execute` was interrupted, run it again first"
                .to_owned(),
        }
    }

    pub(crate) fn bug(what: impl Into<String>) -> Self {
        Self::Bug(what.into())
    }

    /// Names the resource that a failed call was about.
    pub(crate) fn at(self, address: &Address) -> Self {
        match self {
            Self::Aws { resource: None, failure } => Self::Aws { resource: Some(address.clone()), failure },
            other => other,
        }
    }

    /// Whether it only says that AWS was not ready yet: of a run that was asked to stop, that is no failure.
    pub(crate) fn is_not_yet(&self) -> bool {
        match self {
            Self::Stopped { .. } => true,
            Self::Aws { failure, .. } => crate::retry::is_not_yet(failure),
            _ => false,
        }
    }

    /// The AWS error code, if AWS answered with one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Aws { failure, .. } => failure.code.as_deref(),
            _ => None,
        }
    }

    /// What to do about it, if there is more to say than the message does.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Settings(error) => error.help.clone(),
            Self::NotPermitted(_) => Some(
                "`chatctl policy` prints all that it needs; `--no-preflight` goes on without asking IAM"
                    .into(),
            ),
            Self::Aws { failure, .. } => failure.help(),
            Self::Apply { failed, .. } => {
                let help = failed.iter().find_map(|(_, error)| error.help()).unwrap_or_default();
                Some(format!("{help}\nrun the same command again to go on from here").trim().to_owned())
            }
            Self::Locked { stage, remaining_s, .. } => Some(format!(
                "`--lock-timeout 600` waits until it is done; a holder that died is taken over when its lease expires, \
                 in {remaining_s} s at the latest; `chatctl unlock --stage {stage} --reason \"...\"` ends it now"
            )),
            Self::NotOnlyCode { .. } => {
                Some("deploy without `--only-code`; `chatctl plan` shows what it would do".to_owned())
            }
            Self::Overtaken { .. } => Some("run the same command again: it plans anew".to_owned()),
            Self::CannotRollBack { .. } => {
                Some("`chatctl history` shows what there is to go back to".to_owned())
            }
            Self::Unverified { aftermath, .. } => Some(aftermath.to_string()),
            Self::HalfMoved { .. } => Some("run the same command again".to_owned()),
            Self::LockLost { .. } => Some(
                "what it did stays; once the other run is over, run the same command again to go on"
                    .to_owned(),
            ),
            Self::Stack { help, .. } => Some(help.clone()),
            _ => None,
        }
    }
}

/// In which way a stack does not do what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackProblem {
    /// The stage belongs to the other engine.
    OtherEngine,
    /// It is in a state that nothing here goes on from.
    Stuck,
    /// CloudFormation is at work on it.
    Busy,
    /// CloudFormation tried, and it failed.
    Failed,
    /// It goes on, but nobody watches.
    Left,
}

fn on(resource: Option<&Address>) -> String {
    resource.map(|address| format!("{address}: ")).unwrap_or_default()
}

fn list(refusals: &[Refusal]) -> String {
    refusals.iter().map(|refusal| format!("  {refusal}")).collect::<Vec<_>>().join("\n")
}

fn lines(logs: &[crate::logs::LogLine]) -> String {
    logs.iter().map(|line| format!("\n{}: {}", line.function, line.message)).collect()
}

fn stopped(unfinished: &[Address], skipped: &[Address]) -> String {
    let before = match skipped.len() {
        0 if unfinished.is_empty() => "before it was seen whether the chat answers".to_owned(),
        0 => String::new(),
        steps => format!("before {steps} of the plan's steps"),
    };
    let within = match unfinished {
        [] => String::new(),
        some => format!("in the middle of {}", join(some)),
    };
    let and = if before.is_empty() || within.is_empty() { "" } else { " and " };
    format!("stopped {before}{and}{within}; run the same command again to go on")
}

fn join(addresses: &[Address]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn left_out(skipped: &[Address]) -> String {
    if skipped.is_empty() {
        return String::new();
    }
    format!("\nskipped: {}", join(skipped))
}

fn partly(failed: &[(Address, Error)], skipped: &[Address]) -> String {
    let mut lines: Vec<String> = failed.iter().map(|(_, error)| error.to_string()).collect();
    if !skipped.is_empty() {
        lines.push(format!("skipped: {}", join(skipped)));
    }
    lines.join("\n")
}

/// What became of one AWS call, reduced to what a decision or a reader needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsFailure {
    /// `CreateRole`.
    pub operation: &'static str,
    /// The typed code of the answer; absent when there was none.
    pub code: Option<String>,
    pub message: String,
    pub request_id: Option<String>,
    /// HTTP status; absent when there was no answer.
    pub status: Option<u16>,
    /// Whether the call may have taken effect although it failed: no answer came, or the service broke down.
    pub ambiguous: bool,
}

impl AwsFailure {
    pub(crate) fn of<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + RequestId + std::error::Error + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        match error {
            SdkError::ServiceError(context) => {
                let error = context.err();
                Self {
                    operation,
                    code: error.code().map(str::to_owned),
                    message: match (error.message(), status) {
                        (Some(message), _) => message.to_owned(),
                        (None, Some(status)) => format!("HTTP {status} without a message"),
                        (None, None) => error.to_string(),
                    },
                    request_id: error.request_id().map(str::to_owned),
                    status,
                    ambiguous: status.is_some_and(|status| status >= 500),
                }
            }
            other => Self {
                operation,
                code: None,
                message: chain(other),
                request_id: None,
                status,
                // Only a request that was never built certainly did not happen.
                ambiguous: !matches!(other, SdkError::ConstructionFailure(_)),
            },
        }
    }

    /// Whether this is the failure called `code`. IAM's codes are written with and without the suffix `Exception`,
    /// depending on who renders them.
    pub(crate) fn is(&self, code: &str) -> bool {
        let bare = |code: &str| code.strip_suffix("Exception").unwrap_or(code).to_owned();
        self.code.as_deref().is_some_and(|found| bare(found) == bare(code))
    }

    fn help(&self) -> Option<String> {
        let code = self.code.as_deref().unwrap_or_default();
        let action = self.operation;
        Some(match code {
            "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => {
                format!("the principal that deploys needs permission for {action}; `chatctl policy` prints all that it needs")
            }
            "UnrecognizedClientException" | "InvalidClientTokenId" | "InvalidSignatureException"
            | "SignatureDoesNotMatch" | "MissingAuthenticationToken" => {
                "check the credentials: the access key is unknown there, or the secret does not belong to it".into()
            }
            "ExpiredToken" | "ExpiredTokenException" => "the session has expired: sign in again".into(),
            "LimitExceededException" | "LimitExceeded" | "ServiceQuotaExceededException" => {
                "a quota of the account is used up: raise it or remove what is not needed".into()
            }
            "" if self.status.is_none() => {
                "no answer: check that the endpoint is running and can be reached, and the credentials are there".into()
            }
            _ => return None,
        })
    }
}

impl fmt::Display for AwsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: ", self.operation)?;
        if let Some(code) = &self.code {
            write!(f, "{code}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(id) = &self.request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}

impl From<AwsFailure> for Error {
    fn from(failure: AwsFailure) -> Self {
        Self::Aws { resource: None, failure: Box::new(failure) }
    }
}

/// An error and its causes in one line: the SDK puts the interesting part last.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
