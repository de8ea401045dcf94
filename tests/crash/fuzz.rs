//! Random stories of a stage: changes of mind, faults of every kind, kills, and two people who deploy at once. Whatever
//! has happened, one undisturbed deploy must bring the stage to what is declared, with nothing left over, and one
//! destroy must leave nothing.
//!
//! `CHATCTL_FUZZ_CASES` is how many stories are told; `CHATCTL_FUZZ_SEED` is the first one's seed. A seed gives the
//! same story each time, but not the order in which its parallel calls arrive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chat_local::{CONTROL_PLANE, Fault, Rule};
use chat_tests::tokens::{KID, Signer};
use chat_tests::{Edition, Rehearsal};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::Bench;

/// Stories of an ordinary test run.
const CASES: u64 = 100;
const WORKERS: usize = 3;
/// The longest that one run can take: all retries of all faults of its story are over long before.
const PATIENCE: Duration = Duration::from_secs(120);
/// A first deploy makes about so many calls, later ones some more: which of them is met.
const CALLS: u64 = 130;
/// Versions that a function may have: `$LATEST`, the one that serves, four to go back to, and one of a run that was cut
/// off before it tidied up.
const VERSIONS: usize = 7;
/// Deployments that there may be: the one that is served, and four to go back to.
const DEPLOYMENTS: usize = 5;

/// One run of the deployer.
#[derive(Clone, Debug)]
struct Run {
    edition: Edition,
    faults: Vec<Rule>,
    /// It is killed at this call.
    killed_at: Option<u64>,
    /// What somebody else deploys at the same time.
    rival: Option<Edition>,
    /// Afterwards, if all went well, parts of an older edition turn up.
    remnants: bool,
}

#[derive(Clone, Debug)]
struct Story {
    runs: Vec<Run>,
    last: Edition,
}

/// Makes a story up.
struct Author {
    rng: StdRng,
    key: String,
}

impl Author {
    fn story(&mut self) -> Story {
        let runs = (0..self.rng.random_range(1..=3)).map(|_| self.run(true)).collect();
        Story { runs, last: self.edition() }
    }

    fn run(&mut self, may_be_gone: bool) -> Run {
        let edition = self.edition();
        let gone = may_be_gone && self.rng.random_bool(0.15);
        Run {
            edition: if gone { edition.gone() } else { edition },
            faults: (0..self.rng.random_range(0..=3)).map(|_| self.fault()).collect(),
            killed_at: self.rng.random_bool(0.4).then(|| self.rng.random_range(1..=CALLS)),
            rival: self.rng.random_bool(0.15).then(|| self.edition()),
            remnants: self.rng.random_bool(0.3),
        }
    }

    fn edition(&mut self) -> Edition {
        let auth = match self.rng.random_bool(0.5) {
            true => "{ mode: open }".to_owned(),
            false => format!("{{ mode: token, public_keys: {{ {KID}: {} }} }}", self.key),
        };
        let mut one = |values: &[&'static str]| values[self.rng.random_range(0..values.len())];
        let settings = format!(
            "auth: {auth}, lambda: {{ memory_mb: {}, timeout_s: {} }}, logs: {{ retention_days: {} }}, \
             throttling: {{ rate: {}, burst: {} }}, messages: {{ keep_days: {} }}, \
             table: {{ pitr: {}, deletion_protection: {} }}",
            one(&["128", "256", "512"]),
            one(&["3", "10"]),
            one(&["7", "14", "30"]),
            one(&["10", "1000"]),
            one(&["5", "500"]),
            one(&["0", "30"]),
            one(&["true", "false"]),
            one(&["true", "false"]),
        );
        Edition::new(&settings, one(&["one", "two", "three"]))
    }

    fn fault(&mut self) -> Rule {
        let nth = self.rng.random_range(1..=CALLS);
        let fault = match self.rng.random_range(0..8) {
            0 => Fault::fail(403, "AccessDeniedException", "refused by the fuzzer"),
            1 => Fault::fail(500, "InternalFailure", "broken by the fuzzer"),
            2 => Fault::fail(429, "TooManyRequestsException", "Too Many Requests"),
            3 | 4 => Fault::LoseAnswer,
            5 => return Rule::every("*", Fault::NotAssumable { attempts: 1 }),
            6 => return Rule::every("*", Fault::FunctionUnseen { ms: self.rng.random_range(1..=50) }),
            _ => return Rule::every(CONTROL_PLANE, Fault::Delay { ms: self.rng.random_range(1..=8) }),
        };
        Rule::nth(CONTROL_PLANE, nth, fault)
    }
}

/// How a deployed stage looks when all is well.
struct Norm {
    key: String,
    census: BTreeMap<&'static str, usize>,
}

impl Bench {
    async fn tell(&mut self, story: &Story, end: &Run, norm: &Norm) -> Result<(), String> {
        let mut remnants = false;
        for run in &story.runs {
            let done = self.attempt(run).await?;
            remnants &= !done;
            if done && run.remnants && !remnants && run.edition.code.is_some() && run.rival.is_none() {
                self.census.leave_remnants().await;
                remnants = true;
            }
        }
        self.settle(&story.last).await?;
        let mut found = self.census.count().await;
        let mut expected = norm.census.clone();
        let bounds = [("versions", VERSIONS * found["functions"]), ("deployments", DEPLOYMENTS)];
        for (kind, most) in bounds {
            expected.remove(kind);
            let count = found.remove(kind).unwrap_or_default();
            if count > most {
                return Err(format!("leaves {count} {kind}"));
            }
        }
        if found != expected {
            return Err(format!("leaves {found:?} instead of {expected:?}"));
        }
        self.attempt(end).await?;
        self.settle(&end.edition).await?;
        let left = self.census.count().await;
        if left.values().any(|count| *count > 0) { Err(format!("a destroy leaves {left:?}")) } else { Ok(()) }
    }

    /// Whether it came to a good end. It may fail in any way, but not hang.
    async fn attempt(&mut self, run: &Run) -> Result<bool, String> {
        let held =
            run.killed_at.map(|nth| Rule::nth(CONTROL_PLANE, nth, Fault::Hold { worked: nth % 2 == 0 }));
        self.cloud.faults().set(run.faults.iter().cloned().chain(held));
        let connections = self.cloud.connections();
        let endpoint = self.cloud.endpoint();
        let (own, other) = (Rehearsal::at(&endpoint).await, Rehearsal::at(&endpoint).await);
        let deploying = async {
            let rival = async {
                match &run.rival {
                    Some(rival) => other.bring_to(rival).await.is_ok(),
                    None => true,
                }
            };
            let (own, rival) = tokio::join!(own.bring_to(&run.edition), rival);
            own.is_ok() && rival
        };
        let done = tokio::select! {
            // Dropped in the middle: what it has sent is sent, and nothing more will be.
            () = self.cloud.faults().held(self.held + 1) => {
                self.held += 1;
                false
            }
            done = tokio::time::timeout(PATIENCE, deploying) => done.map_err(|_| format!("hangs: {run:?}"))?,
        };
        self.cloud.faults().clear();
        drop((own, other));
        // As the sweep has it: a call that is still on its way is not the next run's.
        crate::closed(&self.cloud, connections).await;
        Ok(done)
    }

    async fn settle(&self, edition: &Edition) -> Result<(), String> {
        let undisturbed = tokio::time::timeout(PATIENCE, self.rehearsal.settle(edition)).await;
        undisturbed.map_err(|_| "the undisturbed run hangs".to_owned())?.map(drop)
    }
}

async fn tell(seed: u64, norm: &Norm, bench: &mut Bench) -> Result<(), String> {
    let mut author = Author { rng: StdRng::seed_from_u64(seed), key: norm.key.clone() };
    let story = author.story();
    let mut end = author.run(false);
    end.edition = story.last.gone();
    end.rival = None;
    bench.tell(&story, &end, norm).await.map_err(|why| format!("{why}\n{story:#?}\n{end:#?}"))
}

fn number(variable: &str, otherwise: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(otherwise, |text| text.parse().unwrap_or_else(|why| panic!("{variable}={text}: {why}")))
}

/// Tells stories until there are no more, and returns the seeds of those that ended badly.
async fn work(norm: Arc<Norm>, next: Arc<AtomicU64>, end: u64) -> Vec<u64> {
    let mut failed = Vec::new();
    let mut bench = Bench::start().await;
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return failed;
        }
        if let Err(why) = tell(seed, &norm, &mut bench).await {
            eprintln!("CHATCTL_FUZZ_SEED={seed} CHATCTL_FUZZ_CASES=1: {why}");
            failed.push(seed);
            bench = Bench::start().await;
        }
    }
}

#[test]
fn whatever_happened_one_deploy_sets_it_right_and_one_destroy_leaves_nothing() {
    let _machine = crate::MACHINE.blocking_lock();
    let started = Instant::now();
    let first = number("CHATCTL_FUZZ_SEED", rand::rng().random_range(0..1_000_000_000));
    let cases = number("CHATCTL_FUZZ_CASES", CASES);
    println!("fuzzer: {cases} cases from CHATCTL_FUZZ_SEED={first}");
    let norm = Arc::new(crate::block_on(async {
        let bench = Bench::start().await;
        let edition = Edition::new("auth: { mode: open }", "one");
        bench.settle(&edition).await.expect("an undisturbed deploy works");
        Norm { key: Signer::default().public(), census: bench.census.count().await }
    }));
    let next = Arc::new(AtomicU64::new(first));
    let failed = crate::workers(WORKERS, move |_| work(norm.clone(), next.clone(), first + cases)).concat();
    println!("fuzzer: {cases} cases in {:.0} s, {} failed", started.elapsed().as_secs_f64(), failed.len());
    assert!(
        failed.is_empty(),
        "seeds {failed:?} failed; CHATCTL_FUZZ_SEED=SEED CHATCTL_FUZZ_CASES=1 runs one of them"
    );
}
