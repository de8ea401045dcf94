//! How long deploys take, and what of that is waiting for answers: the same deploys, each call made longer by 0, 50 and
//! 150 ms. The growth of the time per added millisecond is the *depth*: how many calls a deploy makes one after the
//! other. It depends on the design alone and not on the machine. The tools that people know do the same beside it.

mod measure;
mod moto;
mod operation;
mod ours;
mod peers;
mod proxy;
mod region;
mod table;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::measure::Cost;
use crate::moto::Moto;
use crate::peers::{Installed, Tool};
use crate::proxy::Counted;
use crate::table::Series;

/// Measure deploys at several latencies beside those of other tools, and print the tables.
#[derive(Parser)]
#[command(name = "deploy_bench")]
struct Args {
    /// Runs of chatctl at each latency; the table shows their medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Runs of each peer at each latency; one run of all of them takes minutes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    peer_runs: u32,
    /// One run of each at 50 ms: to see that it works, and the ratios
    #[arg(long)]
    quick: bool,
    /// Measure this one only; may be given several times
    #[arg(long, value_enum)]
    only: Vec<Side>,
    /// Print every call and when it was made, once and at 50 ms
    #[arg(long)]
    trace: bool,
    /// Deploy at the pace of a region instead, and print where its time went
    #[arg(long, conflicts_with_all = ["only", "quick"])]
    region_model: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Side {
    Ours,
    Sam,
    Cdk,
    Serverless,
}

impl Side {
    const ALL: [Self; 4] = [Self::Ours, Self::Sam, Self::Cdk, Self::Serverless];

    fn tool(self) -> Option<Tool> {
        match self {
            Self::Ours => None,
            Self::Sam => Some(Tool::Sam),
            Self::Cdk => Some(Tool::Cdk),
            Self::Serverless => Some(Tool::Serverless),
        }
    }
}

/// Added to every call.
const LATENCIES_MS: [u64; 3] = [0, 50, 150];
/// The latency that goals are set at, by its place among them.
const MIDDLE: usize = 1;

const HANDLERS: [&str; 3] = ["connect", "disconnect", "on_message"];

/// What is measured, in this order, each beginning where the one before ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Into an account in which the tool was never used: ours makes its ledger. What others need beforehand, such as a
    /// bucket, they are given.
    FirstOfAccount,
    First,
    NoOp,
    OneFunction,
    Destroy,
}

impl Act {
    const ALL: [Self; 5] = [Self::FirstOfAccount, Self::First, Self::NoOp, Self::OneFunction, Self::Destroy];

    const fn name(self) -> &'static str {
        match self {
            Self::FirstOfAccount => "first deploy of an account",
            Self::First => "first deploy",
            Self::NoOp => "no-op",
            Self::OneFunction => "one function changed",
            Self::Destroy => "destroy",
        }
    }
}

/// One act at one latency.
#[derive(Clone, Debug, Default)]
struct Sample {
    cost: Cost,
    counted: Counted,
}

type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("deploy_bench: failed to start: {e}");
            return ExitCode::FAILURE;
        }
    };
    let root = chat_tests::root();
    let outcome = ours::build(&root).and_then(|()| {
        runtime.block_on(async {
            if args.region_model { region::run(&root, args.trace).await } else { run(&root, &args).await }
        })
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("deploy_bench: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(root: &Path, args: &Args) -> Result<()> {
    let sides: &[Side] = if args.only.is_empty() { &Side::ALL } else { &args.only };
    let tools: Vec<Tool> = sides.iter().filter_map(|side| side.tool()).collect();
    let once = args.quick || args.trace;
    let places: Vec<usize> = if once { vec![MIDDLE] } else { (0..LATENCIES_MS.len()).collect() };
    let mut all = Vec::new();
    let mut notes: Vec<String> = busy().into_iter().collect();
    if sides.contains(&Side::Ours) {
        let mut series = Series::new("chatctl".to_owned(), None);
        for number in 1..=if once { 1 } else { args.runs } {
            for &place in &places {
                let latency = LATENCIES_MS[place];
                eprintln!("deploy_bench: chatctl, run {number} at {latency} ms");
                let samples = ours::run(root, Duration::from_millis(latency)).await?;
                trace_if(args.trace, "chatctl", &samples);
                series.add(place, samples);
            }
        }
        all.push(series);
    }
    if !tools.is_empty() {
        notes.extend(moto::NOTES.map(str::to_owned));
        notes.push(peers::ABSENT.to_owned());
        match peers(root, args, &tools, &places, &mut notes).await {
            Ok(series) => all.extend(series),
            Err(why) => notes.push(format!("no peer runs here: {why}")),
        }
    }
    if !args.trace {
        print!("{}", table::print(&all, &notes));
    }
    Ok(())
}

/// What to say if others use this machine while something is measured on it.
fn busy() -> Option<String> {
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    let load: f64 = load.split_whitespace().next()?.parse().ok()?;
    let cores = std::thread::available_parallelism().ok()?.get();
    (load > f64::from(u32::try_from(cores).ok()?)).then(|| {
        format!(
            "the machine was busy before this began (a load of {load:.1} on {cores} cores): times are longer than on \
             one that is not, most of all those of tools that compute, and a depth below 0 is noise"
        )
    })
}

/// A peer that does not run is named, and does not keep the others from it.
async fn peers(
    root: &Path,
    args: &Args,
    tools: &[Tool],
    places: &[usize],
    notes: &mut Vec<String>,
) -> Result<Vec<Series>> {
    let installed = Installed::prepare(root)?;
    let moto = Moto::start(&installed.python_bin()).await?;
    let runs = if args.quick || args.trace { 1 } else { args.peer_runs };
    let mut all = Vec::new();
    for &tool in tools {
        let name = format!("{} {}", tool.name(), installed.version(tool));
        if let Some(why) = installed.missing(tool) {
            notes.push(format!("{name} does not run here: {why}"));
            continue;
        }
        let mut series = Series::new(name.clone(), Some(tool));
        'runs: for number in 1..=runs {
            for &place in places {
                let latency = LATENCIES_MS[place];
                eprintln!("deploy_bench: {name}, run {number} at {latency} ms");
                match peers::run(root, &installed, &moto, tool, Duration::from_millis(latency)).await {
                    Ok(samples) => {
                        trace_if(args.trace, &name, &samples);
                        series.add(place, samples);
                    }
                    Err(why) => {
                        notes.push(format!("{name} did not get through at {latency} ms: {why}"));
                        break 'runs;
                    }
                }
            }
        }
        all.push(series);
    }
    Ok(all)
}

fn trace_if(wanted: bool, name: &str, samples: &[(Act, Sample)]) {
    if wanted {
        for (act, sample) in samples {
            print_calls(&format!("{name}, {}", act.name()), sample);
        }
    }
}

/// Every call in the order in which they were made.
fn print_calls(what: &str, sample: &Sample) {
    println!("{what}: {:.2} s", sample.cost.wall.as_secs_f64());
    let mut calls: Vec<_> = sample.counted.calls.iter().collect();
    calls.sort_by_key(|call| call.at);
    for call in calls {
        let [at, answered] = [call.at, call.answered].map(|time| time.as_millis());
        println!("{at:6} ms to {answered:6} ms  {}  {}", call.status, call.name);
    }
}

/// Makes other code of a handler: what comes after an executable's sections is not loaded.
fn change(handler: &Path) -> Result<()> {
    use std::io::Write as _;
    std::fs::OpenOptions::new()
        .append(true)
        .open(handler)
        .and_then(|mut file| file.write_all(b"changed"))
        .map_err(|e| format!("failed to change {}: {e}", handler.display()))
}
