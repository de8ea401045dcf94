//! What a run measured, and the table of the medians with the goals beside them.

use std::fmt;

use chat_tests::load::Losses;
use chat_tests::process::Usage;

/// One run of one side.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) ready_ms: Option<f64>,
    pub(crate) round_trip_p50_ms: f64,
    pub(crate) round_trip_p99_ms: f64,
    /// Members and deliveries a second.
    pub(crate) fan_out: Vec<(usize, f64)>,
    pub(crate) connects: f64,
    pub(crate) connections: usize,
    pub(crate) pairs: f64,
    pub(crate) cpu_ms: Option<f64>,
    /// With all connections open.
    pub(crate) memory: Option<Usage>,
    pub(crate) losses: Losses,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in rows(self) {
            if let Some(value) = (row.value)(self) {
                write!(f, "{} {value:.1} {}; ", row.name, row.unit)?;
            }
        }
        write!(f, "{:?}", self.losses)
    }
}

/// How the peer's and our figures are compared.
enum Goal {
    /// Ours is at most this part of the peer's.
    AtMost(f64),
    /// Ours is at least this many times the peer's.
    AtLeast(f64),
    None,
}

/// Reads one figure of a sample, if it was taken.
type Read = Box<dyn Fn(&Sample) -> Option<f64>>;

struct Row {
    name: String,
    unit: &'static str,
    goal: Goal,
    value: Read,
}

fn rows(sample: &Sample) -> Vec<Row> {
    let row = |name: &str, unit, goal, value: Read| Row { name: name.to_owned(), unit, goal, value };
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut rows = vec![
        row("start to first message", "ms", Goal::AtMost(0.25), Box::new(|s| s.ready_ms)),
        row("round trip p50", "ms", Goal::AtMost(0.25), Box::new(|s| Some(s.round_trip_p50_ms))),
        row("round trip p99", "ms", Goal::None, Box::new(|s| Some(s.round_trip_p99_ms))),
    ];
    for (at, (members, _)) in sample.fan_out.iter().enumerate() {
        let goal = if *members >= 100 { Goal::AtLeast(5.0) } else { Goal::None };
        let value = move |s: &Sample| s.fan_out.get(at).map(|(_, pace)| *pace);
        rows.push(row(&format!("fan-out to {members}"), "deliveries/s", goal, Box::new(value)));
    }
    rows.extend([
        row("50 talking pairs", "messages/s", Goal::AtLeast(8.0), Box::new(|s| Some(s.pairs))),
        row("server CPU a message", "ms", Goal::None, Box::new(|s| s.cpu_ms)),
        row(
            &format!("{} connects", sample.connections),
            "connects/s",
            Goal::AtLeast(5.0),
            Box::new(|s| Some(s.connects)),
        ),
        row(
            &format!("resident at {} connections", sample.connections),
            "MiB",
            Goal::AtMost(1.0 / 3.0),
            Box::new(move |s| s.memory.map(|m| mebibytes(m.resident_bytes))),
        ),
        row(
            "the same, shared pages counted once",
            "MiB",
            Goal::None,
            Box::new(move |s| s.memory.map(|m| mebibytes(m.proportional_bytes))),
        ),
    ]);
    rows
}

/// Prints the medians of both sides as a Markdown table.
pub(crate) fn print(peers: &[Sample], own: &[Sample]) {
    let Some(any) = own.first().or(peers.first()) else { return };
    println!("| measure | peer | here | ratio | goal |\n|---|---|---|---|---|");
    for row in rows(any) {
        let (peer, here) = (median(peers, &row), median(own, &row));
        let show = |value: Option<f64>| value.map_or("–".to_owned(), |v| format!("{v:.1} {}", row.unit));
        let ratio = here.zip(peer).map(|(here, peer)| here / peer);
        let verdict = |met: bool| if met { "met" } else { "missed" };
        let goal = match (&row.goal, ratio) {
            (Goal::AtMost(part), Some(ratio)) => format!("≤ {part:.2}, {}", verdict(ratio <= *part)),
            (Goal::AtMost(part), None) => format!("≤ {part:.2}"),
            (Goal::AtLeast(times), Some(ratio)) => format!("≥ {times:.0}, {}", verdict(ratio >= *times)),
            (Goal::AtLeast(times), None) => format!("≥ {times:.0}"),
            (Goal::None, _) => String::new(),
        };
        let ratio = ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
        println!("| {} | {} | {} | {ratio} | {goal} |", row.name, show(peer), show(here));
    }
    let sum = |samples: &[Sample]| {
        if samples.is_empty() {
            return "–".to_owned();
        }
        let all = samples.iter().fold(Losses::default(), |sum, sample| sum.plus(sample.losses));
        format!("{} / {} / {}", all.lost, all.duplicated, all.reordered)
    };
    println!("| lost / duplicated / reordered | {} | {} | | 0 |", sum(peers), sum(own));
}

fn median(samples: &[Sample], row: &Row) -> Option<f64> {
    let mut values: Vec<f64> = samples.iter().filter_map(|sample| (row.value)(sample)).collect();
    values.sort_by(f64::total_cmp);
    // Of an even number the worse of the two in the middle would depend on the measure: their mean does not.
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => values.get(middle).copied(),
        _ => Some((values.get(middle - 1)? + values.get(middle)?) / 2.0),
    }
}
