//! `chatctl`: deploys and runs a serverless WebSocket chat on AWS, or on this machine. Every verb is one file in
//! [`verbs`]: arguments become a request, one call of `stacks` does the work, and what it reports is rendered.

#![expect(
    clippy::result_large_err,
    reason = "an error is made once and ends the verb: its size costs nothing"
)]

mod args;
mod artifacts;
mod building;
mod change;
mod chat;
mod cloud;
mod context;
mod dev;
mod env;
mod error;
mod exit_codes;
mod handlers;
mod ids;
mod output;
mod preflight;
mod project;
mod stage;
mod time;
mod token;
mod toolchain;
mod verbs;
mod who;

use std::process;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::{Cli, Verb};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;
use crate::output::Output;

fn main() -> process::ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(run(cli));
            // A thread that waits for an answer at the prompt must not keep the process.
            runtime.shutdown_background();
            code.into()
        }
        Err(e) => {
            let error = CliError::failed("no_runtime", "failed to start the runtime").because(&e);
            Output::new(&cli.global, cli.verb.name()).failure(&error);
            error.exit.into()
        }
    }
}

async fn run(cli: Cli) -> ExitCode {
    let Cli { global, verb } = cli;
    let output = Output::new(&global, verb.name());
    let context = Context { global, output, stop: CancellationToken::new() };
    let result = match watch_signals(&context.stop, verb.is_background()) {
        Ok(()) => dispatch(&context, &verb).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            context.output.failure(&error);
            error.exit
        }
    }
}

async fn dispatch(context: &Context, verb: &Verb) -> Result<ExitCode> {
    let work = async {
        match verb {
            Verb::Dev(args) => dev::run(context, args).await,
            Verb::Plan(args) => verbs::plan::run(context, args).await,
            Verb::Drift(args) => verbs::drift::run(context, args).await,
            Verb::Deploy(args) => verbs::deploy::run(context, args).await,
            Verb::Status(args) => verbs::status::run(context, args).await,
            Verb::Outputs(args) => verbs::outputs::run(context, args).await,
            Verb::Logs(args) => verbs::logs::run(context, args).await,
            Verb::Destroy(args) => verbs::destroy::run(context, args).await,
            Verb::History(args) => verbs::history::run(context, args).await,
            Verb::Rollback(args) => verbs::rollback::run(context, args).await,
            Verb::Unlock(args) => verbs::unlock::run(context, args).await,
            Verb::Synth(args) => verbs::synth::run(context, args).await,
            Verb::Eject(args) => verbs::eject::run(context, args).await,
            Verb::Chat(args) => chat::run(context, args).await,
            Verb::Token(args) => verbs::token::run(context, args),
            Verb::Local { verb } => verbs::local::run(context, verb).await,
            Verb::Build => verbs::build::run(context).await,
            Verb::Ci { verb } => verbs::ci::run(context, verb).await,
            Verb::Doctor(args) => verbs::doctor::run(context, args).await,
            Verb::Man(args) => verbs::man::run(context, args),
            Verb::Policy(args) => verbs::policy::run(context, args).await,
            Verb::Completions(args) => verbs::completions::run(context, args),
        }
    };
    if verb.stops_by_itself() {
        return work.await;
    }
    tokio::select! {
        result = work => result,
        () = context.stop.cancelled() => Err(CliError::interrupted()),
    }
}

/// The first Ctrl-C or SIGTERM asks the verb to stop, the second ends the process.
fn watch_signals(stop: &CancellationToken, background: bool) -> Result<()> {
    let listen = |kind| {
        signal(kind).map_err(|e| CliError::failed("no_signals", "failed to listen for signals").because(&e))
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let stop = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                // A closed terminal ends what runs in it, but not the cloud in the background.
                _ = hangup.recv() => if background { continue },
            }
            if stop.is_cancelled() {
                process::exit(i32::from(ExitCode::Interrupted as u8));
            }
            stop.cancel();
        }
    });
    Ok(())
}

/// What clap has to say: help and version on standard output, mistakes on standard error, or as JSON if that was
/// asked for.
fn usage(error: &clap::Error) -> process::ExitCode {
    if error.use_stderr() && std::env::args_os().any(|arg| arg == "--json") {
        let rendered = error.render().to_string();
        let (message, help) = rendered.split_once("\n\n").unwrap_or((&rendered, ""));
        let result = serde_json::json!({
            "type": "result", "verb": null, "stage": null, "ok": false,
            "error": {
                "code": ExitCode::Usage.name(),
                "message": message.trim_start_matches("error: ").trim(),
                "help": help.trim(),
            },
        });
        // Nobody is left to be told if standard output is gone.
        let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("{result}\n").as_bytes());
    } else {
        let _ = error.print();
    }
    if error.use_stderr() { ExitCode::Usage.into() } else { ExitCode::Ok.into() }
}
