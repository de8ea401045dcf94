//! Compares this project with its peer: the same chat on serverless-offline and dynalite. Both are started, driven by
//! one load driver that checks every delivery, and measured in turns; what is printed is the median of the runs.

mod ours;
mod peer;
mod server;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use chat_tests::load::{self, LoadError, Losses, Target};
use chat_tests::process::usage_of_tree;
use clap::{Parser, ValueEnum};

use server::Server;
use table::Sample;

/// Compare with serverless-offline and dynalite, and print the table.
#[derive(Parser)]
#[command(name = "bench")]
struct Args {
    /// Runs of each side; the table shows their medians
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// A tenth of the messages: to see that it works
    #[arg(long)]
    quick: bool,
    /// Drive one side only
    #[arg(long, value_enum)]
    only: Option<Side>,
    /// Drive a server that runs already, by its WebSocket URL, and nothing else
    #[arg(long, value_name = "URL", conflicts_with = "only")]
    url: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Side {
    Peer,
    Ours,
}

type Result<T> = std::result::Result<T, LoadError>;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(losses) if losses.none() => ExitCode::SUCCESS,
        Ok(losses) => {
            eprintln!("bench: deliveries went wrong: {losses:?}");
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<Losses> {
    // One thread: the driver takes as little as it can of the cores that it shares with the server.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| LoadError(format!("failed to start the driver: {e}")))?;
    let local = tokio::task::LocalSet::new();
    let load = if args.quick { Load::quick() } else { Load::full() };
    if let Some(url) = &args.url {
        let target = Target { url: url.clone() };
        let sample = runtime.block_on(local.run_until(measure(&target, None, &load, 1)))?;
        table::print(&[], std::slice::from_ref(&sample));
        return Ok(sample.losses);
    }
    let root = root();
    let wanted = |side| args.only.is_none_or(|only| only == side);
    if wanted(Side::Ours) {
        ours::build(&root)?;
    }
    if wanted(Side::Peer) {
        peer::install(&root)?;
    }
    let (mut peers, mut own) = (Vec::new(), Vec::new());
    for number in 1..=args.runs {
        // In turns, and who begins changes too, so that a busy spell of the machine does not hit one side only.
        let order = if number % 2 == 1 { [Side::Peer, Side::Ours] } else { [Side::Ours, Side::Peer] };
        for side in order.into_iter().filter(|side| wanted(*side)) {
            eprintln!("bench: run {number} of {}: {side:?}", args.runs);
            let measuring = async {
                let (server, ready) = match side {
                    Side::Peer => peer::start(&root).await?,
                    Side::Ours => ours::start(&root).await?,
                };
                let mut sample = measure(&server.target, Some(&server), &load, number).await?;
                sample.ready_ms = Some(ready.as_secs_f64() * 1e3);
                server.stop();
                Ok::<_, LoadError>(sample)
            };
            let sample = runtime.block_on(local.run_until(measuring))?;
            eprintln!("bench: {sample}");
            if side == Side::Peer { peers.push(sample) } else { own.push(sample) }
        }
    }
    table::print(&peers, &own);
    Ok(peers.iter().chain(&own).fold(Losses::default(), |sum, sample| sum.plus(sample.losses)))
}

/// How much of everything.
struct Load {
    connections: usize,
    round_trips: u64,
    /// Members of the room, and sends.
    fan_out: [(usize, u64); 3],
    pairs: usize,
    turns: u64,
}

impl Load {
    const fn full() -> Self {
        Self {
            connections: 1_000,
            round_trips: 500,
            fan_out: [(10, 200), (100, 50), (500, 20)],
            pairs: 50,
            turns: 60,
        }
    }

    const fn quick() -> Self {
        Self {
            connections: 100,
            round_trips: 50,
            fan_out: [(10, 20), (100, 5), (500, 2)],
            pairs: 50,
            turns: 6,
        }
    }
}

/// Takes every measurement on a running server.
async fn measure(target: &Target, server: Option<&Server>, load: &Load, number: u32) -> Result<Sample> {
    // Rooms and users of a run are new ones, whatever the server remembers.
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let name = |phase: &str| format!("{phase}.{stamp}.{number}");
    let usage = || server.map(|server| usage_of_tree(server.pid()));

    // First, so that the memory is that of connections and not of what came before.
    let (connects, open) = load::connects(target, &name("conn"), load.connections).await?;
    let memory = usage();
    load::close(open).await;
    let (times, mut losses) = load::round_trips(target, &name("rt"), load.round_trips).await?;
    let mut fan_out = Vec::new();
    for (members, sends) in load.fan_out {
        let pace = load::fan_out(target, &name(&format!("fan{members}")), members, sends).await?;
        losses = losses.plus(pace.losses);
        fan_out.push((members, pace.per_second()));
    }
    let before = usage();
    let pairs = load::pairs(target, &name("pairs"), load.pairs, load.turns).await?;
    losses = losses.plus(pairs.losses);
    let cpu = usage().zip(before).map(|(after, before)| after.cpu.saturating_sub(before.cpu));
    Ok(Sample {
        ready_ms: None,
        round_trip_p50_ms: times.value_at_quantile(0.5) as f64 / 1e3,
        round_trip_p99_ms: times.value_at_quantile(0.99) as f64 / 1e3,
        fan_out,
        connects: connects.per_second(),
        connections: load.connections,
        pairs: pairs.per_second(),
        cpu_ms: cpu.map(|cpu| cpu.as_secs_f64() * 1e3 / pairs.count as f64),
        memory,
        losses,
    })
}

/// The workspace's root.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
