//! `man`: writes the man pages, one for each verb, or prints the first of them.

use std::fmt;
use std::path::PathBuf;

use clap::CommandFactory;
use serde::Serialize;

use crate::args::{Cli, Man};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;

#[derive(Debug, Serialize)]
struct Report {
    directory: PathBuf,
    /// File names.
    pages: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wrote {} pages to {}", self.pages.len(), self.directory.display())
    }
}

pub(crate) fn run(context: &Context, args: &Man) -> Result<ExitCode> {
    let command = Cli::command();
    let Some(directory) = &args.directory else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).map_err(|e| failed(&e))?;
        // Like a completion script it is no result to wrap: `chatctl man | man -l -`.
        context.output.out(String::from_utf8_lossy(&page).trim_end());
        return Ok(ExitCode::Ok);
    };
    std::fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(command, directory)).map_err(
        |e| {
            failed(&e)
                .help(format!("give a directory that can be written, other than {}", directory.display()))
        },
    )?;
    let mut pages: Vec<String> = std::fs::read_dir(directory)
        .map_err(|e| failed(&e))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("chatctl") && name.ends_with(".1"))
        .collect();
    pages.sort();
    context.output.result(&Report { directory: directory.clone(), pages });
    Ok(ExitCode::Ok)
}

fn failed(cause: &std::io::Error) -> CliError {
    CliError::failed("man_failed", "failed to write the man pages").because(cause)
}
