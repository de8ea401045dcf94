//! What the process returns to its caller. The numbers are documented in `--help` and in `docs/cli.md`: scripts rely
//! on them.

use std::process;

/// How a verb ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ExitCode {
    /// Done, or nothing to do.
    Ok = 0,
    /// It did not work; the message says what to try.
    Failed = 1,
    /// The arguments make no sense.
    Usage = 2,
    /// The settings file is missing or invalid.
    Settings = 3,
    /// Possible but not done: foreign resources, a protected stage, or `--yes` is missing without a terminal.
    Refused = 4,
    /// Some steps were applied, others not; running it again goes on.
    PartlyApplied = 5,
    /// `--detailed-exitcode`: there is something to do, or to look at. Not Terraform's 2, which a mistyped flag returns
    /// as well.
    Changes = 6,
    /// What was deployed does not answer; what served before serves again, if the message says so.
    Unverified = 7,
    /// Ctrl-C or SIGTERM.
    Interrupted = 130,
}

impl ExitCode {
    /// The name that goes with `ok: false` in JSON when there is no finer one.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Settings => "settings",
            Self::Refused => "refused",
            Self::PartlyApplied => "partly_applied",
            Self::Changes => "changes",
            Self::Unverified => "unverified",
            Self::Interrupted => "interrupted",
        }
    }
}

impl From<ExitCode> for process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// The part of `--help` that explains the numbers.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done, or nothing to do
  1    failed
  2    wrong arguments
  3    settings missing or invalid
  4    refused: a foreign resource, a protected stage, or --yes is missing without a terminal
  5    partly applied: run the same command again to go on
  6    plan and drift with --detailed-exitcode: there are differences
  7    not verified: the chat did not answer after the change, which was taken back if the message says so
  130  interrupted";
