//! The command line: verbs, options and their help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::{env, exit_codes};

/// Deploy and run a serverless WebSocket chat on AWS, or on this machine.
///
/// `chatctl dev` builds the handlers, starts a cloud on this machine, deploys the chat to it and serves the web
/// client. Every other verb works on one stage of `stacks/chat.yaml`.
#[derive(Debug, Parser)]
#[command(
    name = "chatctl",
    version,
    after_help = exit_codes::HELP,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    infer_subcommands = false
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What every verb understands.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Stage of the settings to work on
    #[arg(long, short, global = true, value_name = "STAGE", default_value = "local", env = env::STAGE, hide_env = true)]
    pub(crate) stage: String,
    /// Settings file [default: stacks/chat.yaml, here or in a directory above]
    #[arg(long, global = true, value_name = "FILE", env = env::SETTINGS, hide_env = true)]
    pub(crate) settings: Option<PathBuf>,
    /// Take the built handlers from this directory instead of building them
    #[arg(long, global = true, value_name = "DIR", env = env::HANDLERS, hide_env = true)]
    pub(crate) handlers: Option<PathBuf>,
    /// Print JSON lines: events, then one result
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No colours, as with NO_COLOR
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Do not ask; needed for changes without a terminal
    #[arg(long, short, global = true)]
    pub(crate) yes: bool,
    /// Say more
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the chat on this machine and follow changes to the handlers
    Dev(Dev),
    /// Show what a deploy would change
    Plan(Plan),
    /// Show what somebody else changed since the last deploy
    Drift(Drift),
    /// Create or update a stage
    Deploy(Deploy),
    /// Show what is deployed
    Status(Status),
    /// Print a stage's addresses and names
    Outputs(Outputs),
    /// Read the functions' logs
    Logs(Logs),
    /// Delete a stage
    Destroy(Destroy),
    /// Show who changed a stage, when and how it ended
    History(History),
    /// Let a stage serve what it served after an earlier run
    Rollback(Rollback),
    /// Take a stage's lock away from a run that died or hangs
    Unlock(Unlock),
    /// Write a stage as a CloudFormation template
    Synth(Synth),
    /// Hand a stage over to CloudFormation, without making anything anew
    Eject(Eject),
    /// Sign a token for a user of a stage with `auth.mode: token`
    Token(Token),
    /// Chat in the terminal, or from a script
    Chat(Chat),
    /// Start, stop and look at the cloud on this machine
    #[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
    Local {
        #[command(subcommand)]
        verb: Local,
    },
    /// Build and pack the handlers, and check that they run where the stage is
    Build,
    /// Check what this machine and the stage need, and say how to mend it
    Doctor(Doctor),
    /// Print the IAM policy that whoever deploys a stage needs
    Policy(Policy),
    /// Let CI jobs deploy a stage without keys
    #[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
    Ci {
        #[command(subcommand)]
        verb: Ci,
    },
    /// Print a completion script
    Completions(Completions),
    /// Write man pages
    Man(Man),
}

/// What carries a plan out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// Calls of the services themselves
    Direct,
    /// A stack, changed by change sets
    Cloudformation,
}

/// Port of the local cloud.
#[derive(Args, Clone, Debug)]
pub(crate) struct CloudPort {
    /// Port of the local cloud on 127.0.0.1, when it has to be started; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = chat_local::DEFAULT_PORT, env = env::PORT, hide_env = true)]
    pub(crate) port: u16,
}

#[derive(Args, Debug)]
pub(crate) struct Dev {
    #[command(flatten)]
    pub(crate) cloud: CloudPort,
    /// Port of the web client on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 4621, env = env::WEB_PORT, hide_env = true)]
    pub(crate) web_port: u16,
    /// Forget the data of earlier runs
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Do not open the browser
    #[arg(long)]
    pub(crate) no_open: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Plan {
    /// Exit with 6 instead of 0 if there is something to do
    #[arg(long)]
    pub(crate) detailed_exitcode: bool,
    /// Take over resources that have this stage's names but not its tags
    #[arg(long)]
    pub(crate) adopt: bool,
    /// Print the plan as Markdown, for a pull request
    #[arg(long)]
    pub(crate) markdown: bool,
    /// What carries it out
    #[arg(long, value_enum, value_name = "ENGINE", default_value_t = Engine::Direct)]
    pub(crate) engine: Engine,
    #[command(flatten)]
    pub(crate) cloud: CloudPort,
}

/// What to do when somebody else changes the stage.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct LockWait {
    /// Seconds to wait while somebody else changes the stage; 0 says at once who does
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(crate) lock_timeout: u64,
}

/// How to check that the chat answers after a change.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Verify {
    /// Do not connect to the chat to see that it answers
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// If the chat does not answer, leave it so instead of going back to what served before
    #[arg(long, conflicts_with = "no_verify")]
    pub(crate) no_rollback: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Drift {
    /// Exit with 6 instead of 0 if there is any
    #[arg(long)]
    pub(crate) detailed_exitcode: bool,
    #[command(flatten)]
    pub(crate) cloud: CloudPort,
}

#[derive(Args, Debug)]
pub(crate) struct Deploy {
    /// Take the short path for new code, and refuse if anything else would change
    #[arg(long)]
    pub(crate) only_code: bool,
    /// Take over resources that have this stage's names but not its tags
    #[arg(long)]
    pub(crate) adopt: bool,
    /// Do not ask IAM beforehand whether everything is allowed
    #[arg(long)]
    pub(crate) no_preflight: bool,
    /// What carries it out
    #[arg(long, value_enum, value_name = "ENGINE", default_value_t = Engine::Direct)]
    pub(crate) engine: Engine,
    /// Neither lock the stage nor write the history, for who may use CloudFormation alone
    #[arg(long)]
    pub(crate) no_ledger: bool,
    #[command(flatten)]
    pub(crate) verify: Verify,
    #[command(flatten)]
    pub(crate) lock: LockWait,
    #[command(flatten)]
    pub(crate) cloud: CloudPort,
}

#[derive(Args, Debug)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) cloud: CloudPort,
}

#[derive(Args, Debug)]
pub(crate) struct Outputs {
    /// Print the value of this output alone
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) cloud: CloudPort,
}

#[derive(Args, Debug)]
pub(crate) struct Logs {
    /// Functions to read [default: all]
    #[arg(value_name = "FUNCTION", value_parser = ["connect", "disconnect", "on_message"])]
    pub(crate) functions: Vec<String>,
    /// From when: a duration such as 90s, 10m, 1h or 2d, or a time such as 2026-11-24T08:00:00Z
    #[arg(long, value_name = "WHEN", default_value = "10m")]
    pub(crate) since: String,
    /// Only events that match a CloudWatch filter pattern
    #[arg(long, value_name = "PATTERN")]
    pub(crate) filter: Option<String>,
    /// Go on with what comes until Ctrl-C
    #[arg(long, short)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) cloud: CloudPort,
}

#[derive(Args, Debug)]
pub(crate) struct Destroy {
    /// Switch a table's deletion protection off first
    #[arg(long)]
    pub(crate) drop_deletion_protection: bool,
    /// Do not ask IAM beforehand whether everything is allowed
    #[arg(long)]
    pub(crate) no_preflight: bool,
    /// What carries it out
    #[arg(long, value_enum, value_name = "ENGINE", default_value_t = Engine::Direct)]
    pub(crate) engine: Engine,
    /// Neither lock the stage nor write the history, for who may use CloudFormation alone
    #[arg(long)]
    pub(crate) no_ledger: bool,
    #[command(flatten)]
    pub(crate) lock: LockWait,
    #[command(flatten)]
    pub(crate) cloud: CloudPort,
}

#[derive(Args, Debug)]
pub(crate) struct Synth {
    /// File to write the template to [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Directory to write the functions' code to, as the template expects it in the bucket
    #[arg(long, value_name = "DIR")]
    pub(crate) artifacts: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Eject {
    /// Directory for the template and the list of resources to import
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub(crate) out: PathBuf,
    /// Create the import change set and execute it
    #[arg(long)]
    pub(crate) execute: bool,
    #[command(flatten)]
    pub(crate) lock: LockWait,
    #[command(flatten)]
    pub(crate) cloud: CloudPort,
}

#[derive(Args, Debug)]
pub(crate) struct History {
    /// How many runs, from the newest on
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) cloud: CloudPort,
}

#[derive(Args, Debug)]
pub(crate) struct Rollback {
    /// Run of the history to go back to [default: the last good one that served something else]
    #[arg(long, value_name = "N")]
    pub(crate) to: Option<u64>,
    #[command(flatten)]
    pub(crate) verify: Verify,
    #[command(flatten)]
    pub(crate) lock: LockWait,
    #[command(flatten)]
    pub(crate) cloud: CloudPort,
}

#[derive(Args, Debug)]
pub(crate) struct Unlock {
    /// Why, for the history and for whoever loses the lock
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) cloud: CloudPort,
}

#[derive(Args, Debug)]
pub(crate) struct Token {
    /// Id of the user
    #[arg(long, value_name = "ID", required_unless_present = "public_key")]
    pub(crate) user: Option<String>,
    /// Name that others see [default: the id]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// How long it is good for: 90s, 10m, 12h, 7d
    #[arg(long, value_name = "DURATION", default_value = "12h")]
    pub(crate) ttl: String,
    /// Room it is good for; may be repeated [default: all]
    #[arg(long = "room", value_name = "ROOM")]
    pub(crate) rooms: Vec<String>,
    /// Print the public half of the stage's signing key instead, as a line for `auth.public_keys`
    #[arg(long, conflicts_with_all = ["user", "name", "ttl", "rooms"])]
    pub(crate) public_key: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Chat {
    /// Room to join; @USER is the room of you two
    #[arg(value_name = "ROOM", default_value = "lobby")]
    pub(crate) room: String,
    /// Who you are [default: whom the token names, or your login name]
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
    /// Token for a stage whose signing key is not here, see `chatctl token`
    #[arg(long, value_name = "TOKEN", env = env::TOKEN, hide_env = true, hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// How many of a room's newest messages to show first, up to 100
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(..=100))]
    pub(crate) history: u64,
    /// Stay when the input ends, until Ctrl-C
    #[arg(long, short)]
    pub(crate) follow: bool,
    #[command(flatten)]
    pub(crate) cloud: CloudPort,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Local {
    /// Start the cloud, in this terminal unless --detach
    Up(LocalUp),
    /// Stop the cloud; its data stays
    Down,
    /// Say whether the cloud runs
    Status,
}

#[derive(Args, Debug)]
pub(crate) struct LocalUp {
    #[command(flatten)]
    pub(crate) cloud: CloudPort,
    /// Run in the background
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// Limits and faults of the cloud as a JSON file, for tests
    #[arg(long, value_name = "FILE")]
    pub(crate) cloud_settings: Option<PathBuf>,
    /// This is the process in the background
    #[arg(long, hide = true)]
    pub(crate) background: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Policy {
    /// Account of the policy, so that nobody has to be asked whose the credentials are
    #[arg(long, value_name = "ID", value_parser = account)]
    pub(crate) account: Option<String>,
    #[command(flatten)]
    pub(crate) cloud: CloudPort,
}

/// An account's id.
fn account(text: &str) -> Result<String, &'static str> {
    let fits = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    if fits { Ok(text.to_owned()) } else { Err("an account's id has 12 digits") }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ci {
    /// Make GitHub an identity provider of the account, and a role that only the right jobs may take on
    Setup(CiSetup),
    /// Delete the role
    Remove,
}

#[derive(Args, Debug)]
pub(crate) struct CiSetup {
    /// Repository, as its tokens name it: OWNER/NAME, or OWNER@ID/NAME@ID
    #[arg(long, value_name = "REPOSITORY")]
    pub(crate) repo: String,
    /// Let the jobs of this branch in [default: main; for a stage that ends in a star, pull requests]
    #[arg(long, value_name = "BRANCH", conflicts_with_all = ["environment", "pull_requests"])]
    pub(crate) branch: Option<String>,
    /// Let the jobs with this environment in
    #[arg(long, value_name = "ENVIRONMENT", conflicts_with = "pull_requests")]
    pub(crate) environment: Option<String>,
    /// Let the jobs of pull requests in
    #[arg(long)]
    pub(crate) pull_requests: bool,
    /// Print what would be made, and make nothing
    #[arg(long)]
    pub(crate) print: bool,
    /// Account to print it for, so that nobody has to be asked whose the credentials are
    #[arg(long, value_name = "ID", value_parser = account, requires = "print")]
    pub(crate) account: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) cloud: CloudPort,
}

#[derive(Args, Debug)]
pub(crate) struct Man {
    /// Directory to write a page for every verb to [default: print the page of chatctl]
    #[arg(value_name = "DIRECTORY")]
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// Shell to write the script for
    pub(crate) shell: Shell,
}

impl Verb {
    /// The verb's name in JSON results.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Dev(_) => "dev",
            Self::Plan(_) => "plan",
            Self::Drift(_) => "drift",
            Self::Deploy(_) => "deploy",
            Self::Status(_) => "status",
            Self::Outputs(_) => "outputs",
            Self::Logs(_) => "logs",
            Self::Destroy(_) => "destroy",
            Self::History(_) => "history",
            Self::Rollback(_) => "rollback",
            Self::Unlock(_) => "unlock",
            Self::Synth(_) => "synth",
            Self::Eject(_) => "eject",
            Self::Token(_) => "token",
            Self::Chat(_) => "chat",
            Self::Local { verb: Local::Up(_) } => "local up",
            Self::Local { verb: Local::Down } => "local down",
            Self::Local { verb: Local::Status } => "local status",
            Self::Build => "build",
            Self::Ci { verb: Ci::Setup(_) } => "ci setup",
            Self::Ci { verb: Ci::Remove } => "ci remove",
            Self::Doctor(_) => "doctor",
            Self::Man(_) => "man",
            Self::Policy(_) => "policy",
            Self::Completions(_) => "completions",
        }
    }

    /// Whether it does what is left to do itself when the user wants to stop.
    pub(crate) const fn stops_by_itself(&self) -> bool {
        matches!(
            self,
            Self::Dev(_)
                | Self::Deploy(_)
                | Self::Destroy(_)
                | Self::Rollback(_)
                | Self::Eject(_)
                | Self::Logs(_)
                | Self::Chat(_)
                | Self::Local { verb: Local::Up(_) }
        )
    }

    /// Whether this is the local cloud's process in the background.
    pub(crate) const fn is_background(&self) -> bool {
        matches!(self, Self::Local { verb: Local::Up(LocalUp { background: true, .. }) })
    }
}
