//! `cargo xtask`: sets up and runs everything that judges the project. `cargo xtask test` is what CI runs.

mod docs;
mod setup;
mod steps;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask <COMMAND>

  test [--only STEP]… [--no-install]  set up, then run every check; `--only` may be given several times
  setup                               install what the tests need beyond Rust, and say what
  steps                               list the checks of `test`
  docs --check                        check links and commands in the documentation
  bench [ARGS…]                       compare with the peer and print the table (see tests/README.md)
  deploy-bench [ARGS…]                compare deploys with those of other tools at several latencies (the same)
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let root = root();
    let outcome = match args.split_first() {
        Some((verb, rest)) if verb == "test" => steps::test(&root, rest),
        Some((verb, [])) if verb == "setup" => setup::run(&root, true).map(drop),
        Some((verb, [])) if verb == "steps" => {
            steps::list();
            Ok(())
        }
        Some((verb, [flag])) if verb == "docs" && flag == "--check" => docs::check(&root),
        Some((verb, rest)) if verb == "bench" => steps::bench(&root, "bench", rest),
        Some((verb, rest)) if verb == "deploy-bench" => steps::bench(&root, "deploy_bench", rest),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("\nxtask: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's root: two folders above this package.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}
