//! A first deploy at the pace of a region: roles that spread for 10 s, tables that take 8 s, API Gateway's limits, and
//! 50 ms to every answer. Its time is held against its critical path, which is computed from a deploy beside it.
//!
//! *Critical path*: what the same deploy takes without those waits, measured at the same latency, and the longest chain
//! of waits that follow one another. A role and the table of the chat wait at the same time; the table of the ledger
//! has to be there before the lock is, and so before either. Calls to API Gateway beyond its burst would be a third
//! wait beside those two, of a tenth of a second each. What API Gateway's calls take longer than those of the functions
//! happens during the waits and is counted in, so the path is too long by that: some answers' time.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::ours::{Bench, Surroundings};
use crate::proxy::{Call, Counted};
use crate::{Act, Result, Sample};

const LATENCY: Duration = Duration::from_millis(50);
const ROLE: Duration = Duration::from_secs(10);
const TABLE: Duration = Duration::from_secs(8);
/// Of API Gateway: requests at once, and how long each further one takes to be let through.
const BURST: usize = 40;
const FURTHER: Duration = Duration::from_millis(100);
/// At most so many times its critical path.
const GOAL: f64 = 1.15;

/// The names that calls have here: see `operation.rs`.
const LEDGER: &str = "chatctl";
const CREATE_ROLE: &str = "CreateRole";
const CREATE_FUNCTION: &str = "POST /2015-03-31/functions";

/// A deploy with the waits and one without.
struct Pair {
    act: Act,
    paced: Sample,
    plain: Sample,
}

pub(crate) async fn run(root: &Path, trace: bool) -> Result<()> {
    eprintln!("deploy_bench: deploying without waits, twice");
    let [plain_first, plain_again] = deploys(root, false).await?;
    eprintln!("deploy_bench: deploying at the pace of a region, twice");
    let [paced_first, paced_again] = deploys(root, true).await?;
    let pairs = [
        Pair { act: Act::FirstOfAccount, paced: paced_first, plain: plain_first },
        Pair { act: Act::First, paced: paced_again, plain: plain_again },
    ];
    let mut text = String::from(
        "| what | took | without waits | waits | critical path | times | goal | reached |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for pair in pairs.iter().filter(|_| trace) {
        crate::print_calls(pair.act.name(), &pair.paced);
    }
    for pair in &pairs {
        pair.row(&mut text);
    }
    for pair in &pairs {
        pair.whereabouts(&mut text);
    }
    print!("{text}");
    Ok(())
}

/// Into an empty account, and again after everything but the ledger was destroyed.
async fn deploys(root: &Path, region: bool) -> Result<[Sample; 2]> {
    let around = Surroundings { latency: LATENCY, region, own_limit: true };
    let bench = Bench::start(root, around).await?;
    let first = bench.act(Act::FirstOfAccount).await?;
    bench.act(Act::Destroy).await?;
    let again = bench.act(Act::First).await?;
    bench.end().await;
    Ok([first, again])
}

impl Pair {
    /// The longest chain of waits.
    fn waits(&self) -> Duration {
        let gateway = self.plain.counted.calls.iter().filter(|call| call.name.contains(" /v2/")).count();
        let beyond = u32::try_from(gateway.saturating_sub(BURST)).unwrap_or(u32::MAX);
        let ledger = if self.act == Act::FirstOfAccount { TABLE } else { Duration::ZERO };
        ledger + ROLE.max(TABLE).max(FURTHER * beyond)
    }

    fn row(&self, text: &mut String) {
        let path = self.plain.cost.wall + self.waits();
        let times = self.paced.cost.wall.as_secs_f64() / path.as_secs_f64();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {times:.2} | ≤ {GOAL} | {} |",
            self.act.name(),
            seconds(self.paced.cost.wall),
            seconds(self.plain.cost.wall),
            seconds(self.waits()),
            seconds(path),
            if times <= GOAL { "yes" } else { "no" },
        );
    }

    /// Where the time went, by the calls that begin and end each part.
    fn whereabouts(&self, text: &mut String) {
        let calls = Calls(&self.paced.counted);
        let wall = self.paced.cost.wall;
        let _ = writeln!(text, "\n{}: where its {} went", self.act.name(), seconds(wall));
        let mut line = |what: &str, value: String| {
            let _ = writeln!(text, "- {what}: {value}");
        };
        let ledger = calls.last_answer(|call| call.name == format!("CreateTable {LEDGER}") && call.ok());
        let lock = calls.first(|call| call.ok() && call.name == format!("TransactWriteItems {LEDGER}"));
        if let (Some(made), Some(lock)) = (ledger, lock) {
            let waited = lock.at.saturating_sub(made);
            line("the ledger's table, from its creation to the lock in it", waits_of(waited, TABLE));
        }
        if let Some(lock) = lock {
            line("until the lock was held", seconds(lock.answered));
        }
        let role = calls.last_answer(|call| call.name == CREATE_ROLE && call.ok());
        let is_function = |call: &Call| call.name.trim_end_matches('/') == CREATE_FUNCTION;
        let function = calls.last(|call| is_function(call) && call.ok());
        if let (Some(role), Some(function)) = (role, function) {
            line("until the last role was created", seconds(role));
            line(
                "from there to the call that created the last function",
                waits_of(function.at.saturating_sub(role), ROLE),
            );
            line(
                "calls to create a function that came too early",
                calls.count(|call| is_function(call) && !call.ok()).to_string(),
            );
            line("from the last function to the end", seconds(wall.saturating_sub(function.answered)));
        }
        let refused = calls.count(|call| call.status == 429);
        let gateway = calls.count(|call| call.name.contains(" /v2/"));
        line("calls to API Gateway", format!("{gateway}, of all refused calls {refused} for their rate"));
        line(
            "calls at all",
            format!("{}, {} at once", self.paced.counted.calls.len(), self.paced.counted.peak),
        );
    }
}

/// The calls of a deploy.
struct Calls<'a>(&'a Counted);

impl Calls<'_> {
    fn first(&self, is: impl Fn(&Call) -> bool) -> Option<&Call> {
        self.0.calls.iter().filter(|call| is(call)).min_by_key(|call| call.at)
    }

    fn last(&self, is: impl Fn(&Call) -> bool) -> Option<&Call> {
        self.0.calls.iter().filter(|call| is(call)).max_by_key(|call| call.at)
    }

    fn last_answer(&self, is: impl Fn(&Call) -> bool) -> Option<Duration> {
        self.0.calls.iter().filter(|call| is(call)).map(|call| call.answered).max()
    }

    fn count(&self, is: impl Fn(&Call) -> bool) -> usize {
        self.0.calls.iter().filter(|call| is(call)).count()
    }
}

impl Call {
    fn ok(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// A wait beside the least that it can be.
fn waits_of(waited: Duration, least: Duration) -> String {
    format!(
        "{}, of which {} are beyond the {} that it takes",
        seconds(waited),
        seconds(waited.saturating_sub(least)),
        seconds(least)
    )
}
