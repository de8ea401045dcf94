//! The checks of `cargo xtask test`, in the order of what fails soonest, and the benchmark.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::docs;
use crate::setup::{self, Tools, call};

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Path, &Tools) -> Result<(), String>,
}

const STEPS: &[Step] = &[
    Step { name: "format", about: "rustfmt finds nothing to change", run: format },
    Step { name: "clippy", about: "no warning in any target", run: clippy },
    Step { name: "rust", about: "every Rust test, end-to-end ones included", run: rust },
    Step { name: "sdk", about: "the JavaScript SDK alone, with its types", run: sdk },
    Step { name: "browser", about: "the web client in Chromium", run: browser },
    Step {
        name: "oracles",
        about: "clients, parsers, linters, service models and emulators of AWS that others wrote, as judges",
        run: oracles,
    },
    Step { name: "docs", about: "links and commands in the documentation", run: documentation },
];

pub(crate) fn list() {
    for step in STEPS {
        println!("{:<9} {}", step.name, step.about);
    }
}

pub(crate) fn test(root: &Path, args: &[String]) -> Result<(), String> {
    let (only, install) = parse(args)?;
    let tools = setup::run(root, install)?;
    let started = Instant::now();
    let mut failed = Vec::new();
    let mut passed = 0;
    for step in STEPS.iter().filter(|step| only.is_empty() || only.contains(&step.name)) {
        println!("\n── {}: {}", step.name, step.about);
        let begun = Instant::now();
        let outcome = (step.run)(root, &tools);
        let seconds = begun.elapsed().as_secs();
        match outcome {
            Ok(()) => {
                passed += 1;
                println!("── {}: passed in {seconds} s", step.name);
            }
            Err(why) => {
                println!("── {}: FAILED after {seconds} s: {why}", step.name);
                failed.push(step.name);
            }
        }
    }
    println!("\nxtask: {} s in all", started.elapsed().as_secs());
    println!("checks: {passed} passed, {} failed", failed.len());
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!("failed: {}. Run one alone with `cargo xtask test --only {}`", failed.join(", "), failed[0]))
}

pub(crate) fn bench(root: &Path, bin: &str, args: &[String]) -> Result<(), String> {
    let mut command = cargo(root);
    call(command.args(["run", "--release", "-p", "chat-tests", "--bin", bin, "--"]).args(args))
}

fn parse(args: &[String]) -> Result<(Vec<&str>, bool), String> {
    let mut only = Vec::new();
    let mut install = true;
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--no-install" => install = false,
            "--only" => {
                let name = rest.next().ok_or("`--only` needs the name of a check")?;
                if !STEPS.iter().any(|step| step.name == name) {
                    return Err(format!("there is no check `{name}`; `cargo xtask steps` lists them"));
                }
                only.push(name.as_str());
            }
            other => return Err(format!("unknown argument `{other}`; `cargo xtask` lists them")),
        }
    }
    Ok((only, install))
}

fn format(root: &Path, _: &Tools) -> Result<(), String> {
    call(cargo(root).args(["fmt", "--all", "--check"]))
}

fn clippy(root: &Path, _: &Tools) -> Result<(), String> {
    call(cargo(root).args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))
}

fn rust(root: &Path, tools: &Tools) -> Result<(), String> {
    // Where the tests find cargo-zigbuild.
    call(cargo(root).args(["test", "--workspace"]).env("CHATCTL_TEST_TOOLS", &tools.python_bin))
}

fn sdk(root: &Path, _: &Tools) -> Result<(), String> {
    call(node(root).args(["run", "--silent", "sdk"]))
}

fn browser(root: &Path, tools: &Tools) -> Result<(), String> {
    build_chatctl(root)?;
    call(node(root).args(["run", "--silent", "browser"]).env("CHROMIUM", &tools.chromium))
}

fn oracles(root: &Path, tools: &Tools) -> Result<(), String> {
    build_chatctl(root)?;
    call(
        scrub(&mut Command::new(tools.python_bin.join("python")))
            .arg("tests/oracles/run.py")
            .current_dir(root),
    )
}

fn documentation(root: &Path, _: &Tools) -> Result<(), String> {
    build_chatctl(root)?;
    docs::check(root)
}

/// What the steps outside Rust start: the tool and the handlers, as `cargo run -- dev` would build them.
fn build_chatctl(root: &Path) -> Result<(), String> {
    call(cargo(root).args(["build", "--quiet", "-p", "chatctl"]))
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    scrub(&mut command);
    // Of the cargo that runs this program. Another one that sees them builds some crates, and all that use them, again.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|left| name.starts_with(left)) {
            command.env_remove(name);
        }
    }
    command.current_dir(root);
    command
}

/// npm in `tests/`, whose package.json names the scripts.
fn node(root: &Path) -> Command {
    let mut command = Command::new("npm");
    scrub(&mut command);
    command.current_dir(root.join("tests"));
    command
}

/// No check may reach an account: whatever credentials the caller has stay out of it.
fn scrub(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command.env("AWS_EC2_METADATA_DISABLED", "true")
}
