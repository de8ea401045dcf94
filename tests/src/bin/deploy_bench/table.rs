//! The tables: what each took for each act, and whether that is as much less as it should be.

use std::fmt::Write as _;

use crate::peers::Tool;
use crate::{Act, LATENCIES_MS, MIDDLE, Sample};

/// What one tool took, by act and latency.
pub(crate) struct Series {
    name: String,
    /// Nothing for our own.
    tool: Option<Tool>,
    samples: Vec<Vec<Vec<Sample>>>,
}

impl Series {
    pub(crate) fn new(name: String, tool: Option<Tool>) -> Self {
        Self { name, tool, samples: vec![vec![Vec::new(); LATENCIES_MS.len()]; Act::ALL.len()] }
    }

    /// Takes a run in.
    pub(crate) fn add(&mut self, latency: usize, samples: Vec<(Act, Sample)>) {
        for (act, sample) in samples {
            self.samples[act as usize][latency].push(sample);
        }
    }

    /// The sample in the middle by wall time.
    fn median(&self, act: Act, latency: usize) -> Option<&Sample> {
        let mut sorted: Vec<&Sample> = self.samples[act as usize][latency].iter().collect();
        sorted.sort_by_key(|sample| sample.cost.wall);
        sorted.get(sorted.len() / 2).copied()
    }

    fn wall_s(&self, act: Act, latency: usize) -> Option<f64> {
        Some(self.median(act, latency)?.cost.wall.as_secs_f64())
    }

    /// By how many milliseconds it grows with each that is added. Of the fastest runs: whatever else the machine does
    /// can only add time, and 10 ms more or less would be a tenth of a call.
    fn depth(&self, act: Act) -> Option<f64> {
        let [from, to] = [MIDDLE, LATENCIES_MS.len() - 1];
        let fastest_s = |latency: usize| {
            let walls = self.samples[act as usize][latency].iter().map(|sample| sample.cost.wall);
            walls.min().map(|wall| wall.as_secs_f64())
        };
        let grown_ms = (fastest_s(to)? - fastest_s(from)?) * 1e3;
        #[expect(clippy::cast_precision_loss, reason = "latencies are small numbers")]
        let added_ms = (LATENCIES_MS[to] - LATENCIES_MS[from]) as f64;
        Some(grown_ms / added_ms)
    }
}

/// The depth that we should have at most.
const fn depth_goal(act: Act) -> u32 {
    match act {
        Act::FirstOfAccount | Act::First => 8,
        Act::NoOp => 3,
        Act::OneFunction => 6,
        Act::Destroy => 5,
    }
}

/// Which part of a peer's time we may take.
const GOALS: [(Act, Tool, u32); 4] = [
    (Act::First, Tool::Sam, 8),
    (Act::NoOp, Tool::Sam, 5),
    (Act::OneFunction, Tool::Serverless, 6),
    (Act::OneFunction, Tool::Cdk, 6),
];

pub(crate) fn print(all: &[Series], notes: &[String]) -> String {
    let mut text = String::from(
        "| what | with | calls | at once | depth | goal | at 0 ms | at 50 ms | at 150 ms | CPU |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for act in Act::ALL {
        for series in all {
            row(&mut text, act, series);
        }
    }
    text.push_str(&ratios(all));
    if !notes.is_empty() {
        text.push('\n');
    }
    for note in notes {
        // Writing to a string does not fail.
        let _ = writeln!(text, "- {note}");
    }
    text
}

fn row(text: &mut String, act: Act, series: &Series) {
    let Some(middle) = series.median(act, MIDDLE) else { return };
    let seconds = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.2} s"));
    let goal = series.tool.map_or_else(|| format!("≤ {}", depth_goal(act)), |_| String::new());
    let _ = writeln!(
        text,
        "| {} | {} | {} | {} | {} | {goal} | {} | {} | {} | {:.2} s |",
        act.name(),
        series.name,
        middle.counted.calls.len(),
        middle.counted.peak,
        series.depth(act).map_or("–".to_owned(), |depth| format!("{depth:.1}")),
        seconds(series.wall_s(act, 0)),
        seconds(series.wall_s(act, MIDDLE)),
        seconds(series.wall_s(act, 2)),
        middle.cost.cpu.as_secs_f64(),
    );
}

/// Nothing where there is nobody to compare with.
fn ratios(all: &[Series]) -> String {
    let mut text = String::new();
    let wall_s = |tool: Option<Tool>, act| {
        all.iter().find(|series| series.tool == tool).and_then(|series| series.wall_s(act, MIDDLE))
    };
    for (act, tool, goal) in GOALS {
        let (Some(ours), Some(theirs)) = (wall_s(None, act), wall_s(Some(tool), act)) else { continue };
        if text.is_empty() {
            text.push_str(
                "\n| at 50 ms | chatctl | beside | takes | we take | goal | reached |\n\
                 |---|---|---|---|---|---|---|\n",
            );
        }
        let beside =
            if act == Act::OneFunction { tool.short_path().to_owned() } else { tool.name().to_owned() };
        let times = theirs / ours;
        let _ = writeln!(
            text,
            "| {} | {ours:.2} s | {beside} | {theirs:.2} s | 1/{times:.1} | ≤ 1/{goal} | {} |",
            act.name(),
            if times >= f64::from(goal) { "yes" } else { "no" },
        );
    }
    text
}
