//! The one error of the command line: what failed, why, what to do, and the exit code that goes with it.

use std::fmt;

use chat_stacks::SettingsError;
use serde::Serialize;

use crate::exit_codes::ExitCode;

/// A verb's failure, as text and as the `error` of a JSON result.
#[derive(Debug, Serialize)]
pub(crate) struct CliError {
    #[serde(skip)]
    pub(crate) exit: ExitCode,
    /// Stable word for scripts, for instance `port_in_use`.
    pub(crate) code: String,
    pub(crate) message: String,
    /// Why, outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) causes: Vec<String>,
    /// Text of another program, shown as it is: what the compiler drew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) details: Option<String>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) help: Option<String>,
    /// What AWS answered, if it was AWS that refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) aws: Option<AwsAnswer>,
    /// The place in the settings file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) location: Option<Location>,
    /// Drawn instead of the message where a person reads it.
    #[serde(skip)]
    pub(crate) picture: Option<Box<dyn miette::Diagnostic + Send + Sync>>,
}

/// A failed call.
#[derive(Debug, Serialize)]
pub(crate) struct AwsAnswer {
    operation: &'static str,
    code: Option<String>,
    request_id: Option<String>,
    status: Option<u16>,
}

/// A place in a file, counted from 1.
#[derive(Debug, Serialize)]
pub(crate) struct Location {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

pub(crate) type Result<T, E = CliError> = std::result::Result<T, E>;

impl CliError {
    pub(crate) fn new(exit: ExitCode, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            exit,
            code: code.into(),
            message: message.into(),
            causes: Vec::new(),
            details: None,
            help: None,
            aws: None,
            location: None,
            picture: None,
        }
    }

    pub(crate) fn failed(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ExitCode::Failed, code, message)
    }

    pub(crate) fn refused(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ExitCode::Refused, code, message)
    }

    pub(crate) fn usage(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ExitCode::Usage, code, message)
    }

    pub(crate) fn interrupted() -> Self {
        Self::new(ExitCode::Interrupted, "interrupted", "interrupted")
    }

    /// Whether AWS says that the principal may not do it.
    pub(crate) fn is_denied(&self) -> bool {
        let code = self.aws.as_ref().and_then(|answer| answer.code.as_deref());
        code.is_some_and(|code| code.starts_with("AccessDenied"))
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn details(mut self, details: impl Into<String>) -> Self {
        self.details = Some(details.into());
        self
    }

    /// Adds the error and what it says about its own causes.
    pub(crate) fn because(mut self, cause: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(cause);
        while let Some(error) = next {
            let text = error.to_string();
            // Many libraries repeat the inner text in the outer one; saying it once is enough.
            if !self.causes.last().is_some_and(|last| last.contains(&text)) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A mistake in the settings, drawn with the line it is in.
#[derive(Debug)]
struct SettingsPicture {
    message: String,
    help: Option<String>,
    source: miette::NamedSource<String>,
    label: miette::LabeledSpan,
}

impl fmt::Display for SettingsPicture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SettingsPicture {}

impl miette::Diagnostic for SettingsPicture {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(self.label.clone())))
    }
}

impl From<SettingsError> for CliError {
    fn from(error: SettingsError) -> Self {
        let SettingsError { name, text, span, message, help } = error;
        let mut cli = Self::new(ExitCode::Settings, "settings_invalid", message.clone());
        cli.help.clone_from(&help);
        if let Some(span) = span {
            cli.location = Some(Location { file: name.to_string(), line: span.line, column: span.column });
            cli.picture = Some(Box::new(SettingsPicture {
                message,
                help,
                source: miette::NamedSource::new(name, text.to_string()),
                label: miette::LabeledSpan::new_with_span(
                    Some("here".to_owned()),
                    (span.offset, span.length),
                ),
            }));
        }
        cli
    }
}

impl From<chat_stacks::Error> for CliError {
    fn from(error: chat_stacks::Error) -> Self {
        use chat_stacks::{Error, StackProblem};
        let help = error.help();
        let text = error.to_string();
        let mut cli = match error {
            Error::Settings(error) => return Self::from(*error),
            Error::Aws { failure, .. } => {
                let mut cli =
                    Self::failed(if failure.status.is_some() { "aws" } else { "aws_unreachable" }, text);
                cli.aws = Some(AwsAnswer {
                    operation: failure.operation,
                    code: failure.code,
                    request_id: failure.request_id,
                    status: failure.status,
                });
                cli
            }
            Error::Refused(refusals) => {
                let mut cli = Self::refused("refused", "the plan is refused");
                cli.causes = refusals.iter().map(ToString::to_string).collect();
                cli
            }
            Error::Apply { failed, skipped } => {
                let mut cli =
                    Self::new(ExitCode::PartlyApplied, "partly_applied", "not everything could be applied");
                cli.causes = failed.iter().map(|(_, error)| error.to_string()).collect();
                if !skipped.is_empty() {
                    cli.causes.push(format!("skipped: {}", list(&skipped)));
                }
                cli
            }
            Error::Cancelled { unfinished, skipped } => {
                let mut cli = Self::new(ExitCode::Interrupted, "interrupted", text);
                if !unfinished.is_empty() {
                    cli.causes.push(format!("given up while in work: {}", list(&unfinished)));
                }
                if !skipped.is_empty() {
                    cli.causes.push(format!("skipped: {}", list(&skipped)));
                }
                cli
            }
            Error::Stopped { .. } => Self::new(ExitCode::Interrupted, "interrupted", text),
            Error::LeftBehind(_) => Self::new(ExitCode::PartlyApplied, "left_behind", text),
            Error::TimedOut { .. } => Self::failed("timed_out", text),
            Error::Unhealthy { .. } => Self::failed("unhealthy", text),
            Error::Artifact { .. } => Self::failed("artifact", text),
            Error::Locked { .. } => Self::refused("locked", text),
            Error::NotOnlyCode { .. } => Self::refused("not_only_code", text),
            Error::Overtaken { .. } => Self::refused("overtaken", text),
            Error::CannotRollBack { .. } => Self::refused("cannot_roll_back", text),
            Error::Unverified { url, saw, logs, .. } => {
                let message = format!("the chat at {url} does not answer as it should: {saw}");
                let mut cli = Self::new(ExitCode::Unverified, "unverified", message);
                let lines = logs.iter().map(|line| format!("{}: {}", line.function, line.message));
                let lines: Vec<String> = lines.collect();
                cli.details = (!lines.is_empty()).then(|| lines.join("\n"));
                cli
            }
            Error::HalfMoved { .. } => Self::new(ExitCode::PartlyApplied, "half_moved", text),
            Error::LockLost { .. } => Self::new(ExitCode::PartlyApplied, "lock_lost", text),
            Error::NotPermitted(missing) => {
                let mut cli = Self::refused(
                    "not_permitted",
                    "the principal that deploys lacks permissions; nothing was changed",
                );
                cli.causes = missing.iter().map(ToString::to_string).collect();
                cli
            }
            Error::ForeignRole { .. } => Self::refused("foreign_role", text),
            Error::NotDeployed { .. } => Self::failed("not_deployed", text),
            Error::Stack { problem, .. } => match problem {
                StackProblem::OtherEngine => Self::refused("other_engine", text),
                StackProblem::Stuck => Self::refused("stack_stuck", text),
                StackProblem::Busy => Self::refused("stack_busy", text),
                StackProblem::Failed => Self::failed("stack_failed", text),
                StackProblem::Left => Self::new(ExitCode::Interrupted, "interrupted", text),
            },
            Error::Bug(_) => Self::failed("bug", text),
        };
        cli.help = help;
        cli
    }
}

fn list(addresses: &[chat_stacks::Address]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
