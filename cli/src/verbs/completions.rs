//! `completions`: prints a completion script for a shell.

use clap::CommandFactory;

use crate::args::{Cli, Completions};
use crate::context::Context;
use crate::error::Result;
use crate::exit_codes::ExitCode;

pub(crate) fn run(context: &Context, args: &Completions) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "chatctl", &mut script);
    // A script is no result to wrap: it is what the shell reads, also with --json.
    context.output.out(String::from_utf8_lossy(&script).trim_end());
    Ok(ExitCode::Ok)
}
