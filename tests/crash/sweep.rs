//! The crash sweep: every AWS call of a first deploy, of an update that replaces and removes things, and of a destroy
//! is refused, loses its answer after it took effect, and has the process killed before and after it. Then the same
//! command runs again, and must end where an undisturbed run ends, with nothing left over and nothing left to do.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat_local::{Fault, Rule};
use chat_tests::tokens::{KID, Signer};
use chat_tests::{Edition, Rehearsal};
use serde_json::Value;
use tokio::process::Command;

use crate::Bench;

/// Cases that run at the same time, each on a cloud of its own.
const WORKERS: usize = 3;

/// A killed process is gone at once; this long only if something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Create,
    Update,
    Destroy,
}

const PHASES: [Phase; 3] = [Phase::Create, Phase::Update, Phase::Destroy];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum How {
    Refuse,
    LoseAnswer,
    KillBefore,
    KillAfter,
}

/// One disturbance: the `nth` call of an operation in a phase.
#[derive(Clone, Debug)]
struct Case {
    phase: Phase,
    call: String,
    nth: u64,
    how: How,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {} {}, {:?}", self.phase, self.call, self.nth, self.how)
    }
}

impl Case {
    fn rule(&self) -> Rule {
        let fault = match self.how {
            How::Refuse => Fault::fail(403, "AccessDeniedException", "refused by the sweep"),
            How::LoseAnswer => Fault::LoseAnswer,
            How::KillBefore => Fault::Hold { worked: false },
            How::KillAfter => Fault::Hold { worked: true },
        };
        Rule::nth(self.call.clone(), self.nth, fault)
    }
}

/// Cases that share the run which sets things right again, or the run itself. Only reads do, and only those with which
/// a run begins: to be refused one, or killed at one, leaves everything as it was for the next, and lost answers to
/// several are asked for again each on its own.
type Group = Vec<Case>;

/// Most cases of a group.
const GROUP: usize = 8;

/// How an undisturbed run ends, and the calls that it makes.
struct Expected {
    calls: Vec<(String, u64)>,
    /// How many of these come before anything is changed.
    observing: BTreeMap<String, u64>,
    state: BTreeMap<String, Value>,
    census: BTreeMap<&'static str, usize>,
}

impl Bench {
    /// What must be there before a phase begins, given that the phases come in their order.
    async fn prepare(&self, phase: Phase) {
        match phase {
            // The first deploy of all makes the ledger, too.
            Phase::Create => self.census.forget_ledger().await,
            Phase::Update => {
                self.census.leave_remnants().await;
                self.census.age_lock().await;
            }
            Phase::Destroy => self.census.age_lock().await,
        }
    }

    async fn undisturbed(&self, phase: Phase, edition: &Edition) -> Expected {
        self.prepare(phase).await;
        // Deployers of their own: they ask who they are, as a process would.
        self.cloud.calls().reset();
        let looked = Rehearsal::at(&self.cloud.endpoint()).await.look(edition).await;
        looked.expect("the account can be observed");
        let observing = self.calls().collect();
        self.cloud.calls().reset();
        let run = Rehearsal::at(&self.cloud.endpoint()).await;
        run.bring_to(edition).await.unwrap_or_else(|why| panic!("{phase:?} fails undisturbed: {why}"));
        let calls = self.calls().collect();
        let (plan, state) = self.rehearsal.look(edition).await.expect("the account can be observed");
        assert!(plan.is_empty(), "{phase:?} leaves work undisturbed: {plan:?}");
        Expected { calls, observing, state, census: self.census.count().await }
    }

    fn calls(&self) -> impl Iterator<Item = (String, u64)> {
        let calls = self.cloud.calls().all().into_iter();
        calls.map(|call| (format!("{}:{}", call.service, call.operation), call.count))
    }

    /// Runs cases that can share a run, and returns how many of their calls were made.
    async fn disturb(&mut self, cases: &[&Case], edition: &Edition) -> Result<u64, String> {
        let how = cases[0].how;
        let connections = self.cloud.connections();
        self.cloud.faults().set(cases.iter().map(|case| case.rule()));
        let ended = match how {
            How::Refuse | How::LoseAnswer => {
                let run = Rehearsal::at(&self.cloud.endpoint()).await;
                Some(run.bring_to(edition).await.map_err(|why| why.to_string()))
            }
            How::KillBefore | How::KillAfter => self.kill(edition).await,
        };
        let met = self.cloud.faults().met();
        self.cloud.faults().clear();
        // What the run had sent when it ended must not be taken for calls of the next one.
        crate::closed(&self.cloud, connections).await;
        match (how, met, ended) {
            (_, 0, Some(Err(why))) => Err(format!("failed without a fault: {why}")),
            (How::Refuse, 1.., Some(Ok(()))) => Err("did not notice that the call was refused".to_owned()),
            (How::LoseAnswer, 1.., Some(Err(why))) => Err(format!("failed for a lost answer: {why}")),
            (_, met, _) => Ok(met),
        }
    }

    /// Kills a process at the call that is held; nothing if it made no such call and so came to its end.
    async fn kill(&mut self, edition: &Edition) -> Option<Result<(), String>> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rehearse"))
            .args([&self.cloud.endpoint(), &edition.settings])
            .args(&edition.code)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the deployer starts");
        tokio::select! {
            () = self.cloud.faults().held(self.held + 1) => {
                self.held += 1;
                child.kill().await.expect("the deployer can be killed");
                None
            }
            status = child.wait() => {
                let status = status.expect("the deployer ends");
                Some(if status.success() { Ok(()) } else { Err(format!("{status}")) })
            }
        }
    }

    /// Runs the same again and compares.
    async fn heal(&self, edition: &Edition, expected: &Expected) -> Result<(), String> {
        differences(&self.rehearsal.settle(edition).await?, &expected.state)?;
        let census = self.census.count().await;
        if census == expected.census {
            Ok(())
        } else {
            Err(format!("leaves {census:?} instead of {:?}", expected.census))
        }
    }

    /// A group of cases, or an undisturbed run where there is none, from the end of the phase before to the end of this
    /// one. Returns how many calls were met.
    async fn run(&mut self, phase: Phase, group: &[Case], script: &Script) -> Result<u64, String> {
        let (edition, expected) = &script.phases[&phase];
        self.prepare(phase).await;
        let Some(first) = group.first() else {
            return self.rehearsal.bring_to(edition).await.map(|()| 0).map_err(|why| why.to_string());
        };
        let together = if first.how == How::LoseAnswer { group.len() } else { 1 };
        let mut met = 0;
        for cases in group.chunks(together) {
            if phase == Phase::Destroy {
                // It looks under its lock, so the case before has had that.
                self.census.age_lock().await;
            }
            met += self.disturb(&cases.iter().collect::<Vec<_>>(), edition).await?;
        }
        let healed = tokio::time::timeout(PATIENCE, self.heal(edition, expected)).await;
        healed.map_err(|_| "hangs".to_owned())?.map(|()| met)
    }
}

fn differences(found: &BTreeMap<String, Value>, expected: &BTreeMap<String, Value>) -> Result<(), String> {
    let missing = expected.keys().filter(|address| !found.contains_key(*address));
    let missing = missing.map(|address| format!("{address} is missing"));
    let others = found.iter().filter_map(|(address, live)| match expected.get(address) {
        None => Some(format!("{address} is left over")),
        Some(wanted) if wanted != live => Some(format!("{address} is {live} instead of {wanted}")),
        Some(_) => None,
    });
    let all: Vec<String> = missing.chain(others).collect();
    if all.is_empty() { Ok(()) } else { Err(all.join("; ")) }
}

/// What each phase brings the stage to, and how it ends undisturbed.
struct Script {
    phases: BTreeMap<Phase, (Edition, Expected)>,
}

impl Script {
    async fn record() -> Self {
        let one = Edition::new("auth: { mode: open }", "one");
        // Everything that settings can change: configuration and code of functions, the authorizer and with it the
        // deployment, the stage, retention, and the guards of the table.
        let key = Signer::default().public();
        let two = Edition::new(
            &format!(
                "auth: {{ mode: token, public_keys: {{ {KID}: {key} }} }}, lambda: {{ memory_mb: 512 }}, \
                 logs: {{ retention_days: 30 }}, throttling: {{ rate: 100, burst: 50 }}, \
                 table: {{ pitr: true, deletion_protection: true }}"
            ),
            "two",
        );
        let editions = [one, two.clone(), two.gone()];
        let bench = Bench::start().await;
        let mut phases = BTreeMap::new();
        for (phase, edition) in PHASES.into_iter().zip(editions) {
            let expected = bench.undisturbed(phase, &edition).await;
            phases.insert(phase, (edition, expected));
        }
        assert!(
            phases[&Phase::Destroy].1.census.values().all(|count| *count == 0),
            "a destroy leaves things"
        );
        bench.cloud.shutdown().await;
        Self { phases }
    }

    /// Every disturbance of every call. To kill a process before and after a read is the same.
    fn groups(&self, phase: Phase) -> Vec<Group> {
        let expected = &self.phases[&phase].1;
        let calls = expected.calls.iter();
        let calls = calls.flat_map(|(call, count)| (1..=*count).map(move |nth| (call, nth)));
        let mut alone: Vec<Group> = Vec::new();
        let mut shared: BTreeMap<How, Vec<Case>> = BTreeMap::new();
        for (call, nth) in calls {
            let operation = call.rsplit(':').next().unwrap_or_default();
            let reads = ["Get", "List", "Describe", "Query"].iter().any(|verb| operation.starts_with(verb));
            let first = reads && expected.observing.get(call).is_some_and(|count| nth <= *count);
            for how in [How::Refuse, How::LoseAnswer, How::KillBefore, How::KillAfter] {
                let case = Case { phase, call: call.clone(), nth, how };
                match how {
                    How::KillAfter if reads => {}
                    how if first => shared.entry(how).or_default().push(case),
                    _ => alone.push(vec![case]),
                }
            }
        }
        let shared = shared
            .into_values()
            .flat_map(|cases| cases.chunks(GROUP).map(<[Case]>::to_vec).collect::<Vec<Group>>());
        alone.into_iter().chain(shared).collect()
    }
}

/// What came of all cases.
#[derive(Default)]
struct Tally {
    run: BTreeMap<(Phase, How), u64>,
    /// The call that was to be disturbed was not made: how often a state is polled depends on time.
    not_met: Vec<String>,
    failures: Vec<String>,
}

/// Takes every `WORKERS`th group of each phase, in cycles of a create, an update and a destroy.
async fn work(script: Arc<Script>, worker: usize) -> Tally {
    let lists = PHASES.map(|phase| {
        let groups = script.groups(phase).into_iter();
        groups.skip(worker).step_by(WORKERS).collect::<Vec<Group>>()
    });
    let mut tally = Tally::default();
    let mut bench = Bench::start().await;
    for round in 0..lists.iter().map(Vec::len).max().unwrap_or_default() {
        for (phase, list) in PHASES.into_iter().zip(&lists) {
            let group = list.get(round).map_or(&[][..], Vec::as_slice);
            let ended = bench.run(phase, group, &script).await;
            for case in group {
                *tally.run.entry((phase, case.how)).or_default() += 1;
            }
            let told = || group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ");
            match ended {
                Ok(met) if met == group.len() as u64 => {}
                Ok(met) => tally.not_met.push(format!("{} of {}", group.len() as u64 - met, told())),
                Err(why) if group.is_empty() => panic!("{phase:?} fails undisturbed: {why}"),
                Err(why) => {
                    eprintln!("{}: {why}", told());
                    tally.failures.push(format!("{}: {why}", told()));
                    // Whatever is wrong there must not be held against the next case.
                    bench = Bench::start().await;
                    for earlier in PHASES.into_iter().take_while(|earlier| *earlier <= phase) {
                        let ran = bench.run(earlier, &[], &script).await;
                        ran.unwrap_or_else(|why| panic!("{earlier:?} fails undisturbed: {why}"));
                    }
                }
            }
        }
    }
    bench.cloud.shutdown().await;
    tally
}

#[test]
fn a_run_that_is_cut_off_anywhere_is_finished_by_the_next_one() {
    let _machine = crate::MACHINE.blocking_lock();
    let started = Instant::now();
    let script = Arc::new(crate::block_on(Script::record()));
    let mut all = Tally::default();
    for tally in crate::workers(WORKERS, move |worker| work(script.clone(), worker)) {
        for (key, count) in tally.run {
            *all.run.entry(key).or_default() += count;
        }
        all.not_met.extend(tally.not_met);
        all.failures.extend(tally.failures);
    }
    let total: u64 = all.run.values().sum();
    println!("crash sweep: {total} cases in {:.0} s", started.elapsed().as_secs_f64());
    for ((phase, how), count) in &all.run {
        println!("  {phase:?} {how:?}: {count}");
    }
    println!("  calls that were not met: {:#?}", all.not_met);
    assert!(all.failures.is_empty(), "{} of {total} cases failed", all.failures.len());
    // Otherwise the sweep would prove less than it says.
    assert!(all.not_met.len() as u64 * 20 <= total, "{} of {total} cases met no call", all.not_met.len());
}
