//! How long deploys take, and what of that is waiting for answers: the same deploys against the same cloud, each call
//! made longer by 0, 50 and 150 ms. The growth of the time per added millisecond is the *depth*: how many calls a deploy
//! makes one after the other. It depends on the design alone and not on the machine.

mod ours;
mod proxy;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::proxy::Counted;

/// Measure deploys at several latencies, and print the table.
#[derive(Parser)]
#[command(name = "deploy_bench")]
struct Args {
    /// Runs at each latency; the table shows their medians
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Print every call and when it was made, once and at the middle latency
    #[arg(long)]
    trace: bool,
}

/// Added to every call.
const LATENCIES_MS: [u64; 3] = [0, 50, 150];

/// What is measured, in this order, each beginning where the one before ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    First,
    NoOp,
    OneFunction,
    Destroy,
}

impl Act {
    const ALL: [Self; 4] = [Self::First, Self::NoOp, Self::OneFunction, Self::Destroy];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::First => "first deploy",
            Self::NoOp => "no-op",
            Self::OneFunction => "one function changed",
            Self::Destroy => "destroy",
        }
    }

    /// The depth that it should have at most.
    const fn goal(self) -> f64 {
        match self {
            Self::First => 8.0,
            Self::NoOp => 3.0,
            Self::OneFunction => 6.0,
            Self::Destroy => 5.0,
        }
    }
}

/// One act at one latency.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) counted: Counted,
}

type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("deploy_bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("failed to start: {e}"))?;
    let root = chat_tests::root();
    ours::build(&root)?;
    if args.trace {
        let run = ours::run(&root, Duration::from_millis(LATENCIES_MS[1]), true);
        return runtime.block_on(run).map(drop);
    }
    // By latency, then by act.
    let mut samples: Vec<Vec<Vec<Sample>>> = vec![vec![Vec::new(); Act::ALL.len()]; LATENCIES_MS.len()];
    for number in 1..=args.runs {
        for (place, latency) in LATENCIES_MS.into_iter().enumerate() {
            eprintln!("deploy_bench: run {number} of {} at {latency} ms", args.runs);
            let run = ours::run(&root, Duration::from_millis(latency), false);
            for (act, sample) in runtime.block_on(run)?.into_iter().enumerate() {
                samples[place][act].push(sample);
            }
        }
    }
    print!("{}", table(&samples));
    Ok(())
}

fn table(samples: &[Vec<Vec<Sample>>]) -> String {
    let mut text = String::from(
        "| what | calls | at once | depth | goal | at 0 ms | at 50 ms | at 150 ms | CPU |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for (place, act) in Act::ALL.into_iter().enumerate() {
        let at = |latency: usize| median(&samples[latency][place]);
        let (zero, fifty, most) = (at(0), at(1), at(2));
        let depth = (most.wall.as_secs_f64() - fifty.wall.as_secs_f64()) * 1e3 / 100.0;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {depth:.1} | ≤ {} | {:.2} s | {:.2} s | {:.2} s | {:.2} s |",
            act.name(),
            fifty.counted.calls,
            fifty.counted.peak,
            act.goal(),
            zero.wall.as_secs_f64(),
            fifty.wall.as_secs_f64(),
            most.wall.as_secs_f64(),
            fifty.cpu.as_secs_f64(),
        );
    }
    text
}

/// The sample in the middle by wall time.
fn median(samples: &[Sample]) -> Sample {
    let mut sorted = samples.to_vec();
    sorted.sort_by_key(|sample| sample.wall);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
