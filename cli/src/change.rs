//! A stage in change: looked at, carried out under its lock, verified and written down. Every verb that changes a stage
//! by calls of its own goes this way.

use std::time::{Duration, Instant};

use chat_stacks::code::Changed;
use chat_stacks::ledger::{Applied, Changes, Ledger, Patience, Pointers, Record, Ticket};
use chat_stacks::settings::Endpoint;
use chat_stacks::verify::new_user;
use chat_stacks::{
    Artifacts, Error, Looking, Observed, Outcome, Plan, Stack, Verification, WayBack, apply, code, pointers,
    status, under_lock, verify_change,
};
use tokio_util::sync::CancellationToken;

use crate::args;
use crate::context::Context;
use crate::error::Result;
use crate::output::progress::show;
use crate::stage::Stage;
use crate::who;

/// A stage as it was seen in order to change it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) observed: Observed,
    pub(crate) ledger: Ledger,
    pub(crate) ticket: Ticket,
}

/// What came of a change.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) outcome: Outcome,
    /// The stage as it is now.
    pub(crate) observed: Observed,
    /// What the verification has seen.
    pub(crate) verified: Option<String>,
}

/// What came of the short way.
#[derive(Debug)]
pub(crate) struct CutOver {
    pub(crate) functions: Vec<String>,
    /// Where clients connect.
    pub(crate) url: Option<String>,
    pub(crate) verified: Option<String>,
}

/// How the address of a cloud on this machine begins.
const LOOPBACK: [&str; 3] = ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"];

/// Seconds that the token of a verification is good for: longer than any verification takes.
const VERIFY_TOKEN_S: i64 = 120;

impl Stage {
    /// Observes the stage in order to change it, and does `work` meanwhile, which changes nothing. Refuses, or waits,
    /// while somebody else changes it, and refuses what belongs to CloudFormation.
    pub(crate) async fn look<T>(
        &self,
        context: &Context,
        wait: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<(T, Seen)> {
        let (done, seen) = self.look_anyway(context, wait, work).await?;
        seen.observed.require_direct(&self.settings.scope())?;
        Ok((done, seen))
    }

    /// The same of a stage that may be CloudFormation's already.
    pub(crate) async fn look_anyway<T>(
        &self,
        context: &Context,
        wait: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<(T, Seen)> {
        let started = tokio::time::Instant::now();
        let ledger = self.ledger();
        let open = self.open_ledger(context, &ledger, wait);
        let identify = async { Ok(self.aws.identity().await?) };
        let (done, mut observed, ticket, _) = tokio::try_join!(work, self.observe(), open, identify)?;
        if ticket.is_stale_for(started) {
            observed = self.observe().await?;
        }
        Ok((done, Seen { observed, ledger, ticket }))
    }

    /// Deletes what `plan_of` makes of the stage, which is observed no closer than that takes. `ask` may say no.
    ///
    /// With `--yes` nobody is asked, so the lock is taken while the stage is still being observed, which saves a round
    /// of calls. Not so where there was no lock before: nothing was deployed there, and nothing is written for nothing.
    pub(crate) async fn delete(
        &self,
        context: &Context,
        wait: Duration,
        plan_of: impl AsyncFnOnce(&Observed) -> std::result::Result<Plan, Error>,
        ask: impl AsyncFnOnce(&Plan) -> Result<()>,
    ) -> Result<Outcome> {
        let scope = self.settings.scope();
        let stack = Stack::empty(scope.clone());
        let looking = Looking::begin(self.aws.clone(), scope.clone());
        let ledger = self.ledger();
        let open = async {
            let record = async { who::record(self, "destroy").await };
            tokio::try_join!(self.open_ledger(context, &ledger, wait), record)
        };
        let (ticket, record) = context.unless_stopped(open).await?;
        let planning = async {
            let observed = looking.end(&ticket).await?;
            let plan = plan_of(&observed).await?;
            Ok::<_, Error>((observed, plan))
        };
        if !(context.global.yes && ticket.has_lock()) {
            let planning = async {
                let (observed, plan) = planning.await?;
                if !plan.is_empty() {
                    ask(&plan).await?;
                }
                Ok((observed, plan))
            };
            let (observed, plan) = context.unless_stopped(planning).await?;
            if plan.is_empty() && ticket.has_lock() {
                ledger.forget(&ticket, &record.by).await?;
            }
            let seen = Seen { observed, ledger, ticket };
            return Ok(self.carry_out(context, "destroy", seen, &stack, &plan, None).await?.outcome);
        }
        let work = async |record: &mut Record, stop: CancellationToken| {
            let (observed, plan) = stop
                .run_until_cancelled(planning)
                .await
                .unwrap_or_else(|| Err(Error::Cancelled { unfinished: Vec::new(), skipped: Vec::new() }))?;
            record.changes = Changes::of(&plan);
            record.before = Pointers::of(&observed, &scope);
            show(&context.output, plan.steps.len(), async |events| {
                Box::pin(apply(&self.aws, &stack, &plan, &events, &stop)).await
            })
            .await
        };
        let (outcome, _) = show(&context.output, 0, async |events| {
            Box::pin(under_lock(&ledger, &ticket, record, true, &events, &context.stop, work)).await
        })
        .await?;
        Ok(outcome)
    }

    /// How to see that the chat answers.
    pub(crate) fn verification(&self, args: args::Verify) -> Result<Option<Verification>> {
        if args.no_verify {
            return Ok(None);
        }
        let caller = self.caller(new_user(), VERIFY_TOKEN_S)?;
        Ok(Some(Verification { caller, rollback: !args.no_rollback }))
    }

    /// Carries a plan out under the stage's lock and a live rendering, and writes it down. Stops in an orderly way when
    /// the user wants to.
    pub(crate) async fn carry_out(
        &self,
        context: &Context,
        verb: &str,
        seen: Seen,
        stack: &Stack,
        plan: &Plan,
        verification: Option<Verification>,
    ) -> Result<Done> {
        if plan.is_empty() {
            return Ok(Done { outcome: Outcome::default(), observed: seen.observed, verified: None });
        }
        let record = Record {
            changes: Changes::of(plan),
            before: Pointers::of(&seen.observed, stack.scope()),
            ..who::record(self, verb).await?
        };
        let last = stack.is_empty();
        let ((outcome, observed), record) = show(&context.output, plan.steps.len(), async |events| {
            let Seen { ledger, ticket, .. } = &seen;
            let work = async |record: &mut Record, cancel| {
                let outcome = Box::pin(apply(&self.aws, stack, plan, &events, &cancel)).await?;
                if last {
                    return Ok((outcome, Observed::default()));
                }
                let observed = Observed::after(stack, &outcome);
                record.after = Some(Pointers::of(&observed, stack.scope()));
                record.leaves = Some(Applied::of(&observed));
                let url = status::of(&observed, stack.scope()).websocket_url;
                if let (Some(verification), Some(url)) = (&verification, url) {
                    verify_change(ledger, &url, verification, WayBack::Pointers, record, &events, &cancel)
                        .await?;
                }
                Ok((outcome, observed))
            };
            Box::pin(under_lock(ledger, ticket, record, last, &events, &context.stop, work)).await
        })
        .await?;
        Ok(Done { outcome, observed, verified: record.verified })
    }

    /// The short way for code that changed: nothing else is looked at. Names the functions that were cut over. With
    /// `strict` it refuses if more than code is declared otherwise than the last run left it.
    pub(crate) async fn cut_over(
        &self,
        context: &Context,
        verb: &str,
        wait: Duration,
        artifacts: &Artifacts,
        verify: args::Verify,
        strict: bool,
    ) -> Result<CutOver> {
        let (aws, scope) = (&self.aws, self.settings.scope());
        let started = tokio::time::Instant::now();
        let ledger = self.ledger();
        let look = async {
            Ok(tokio::try_join!(code::changed(aws, &scope, artifacts), pointers::find(aws, &scope))?)
        };
        let open = self.open_ledger(context, &ledger, wait);
        let identify = async { Ok(aws.identity().await?) };
        let ((mut changed, mut serving), ticket, identity) = tokio::try_join!(look, open, identify)?;
        if ticket.is_stale_for(started) {
            (changed, serving) =
                tokio::try_join!(code::changed(aws, &scope, artifacts), pointers::find(aws, &scope))?;
        }
        if serving.of_cloudformation {
            return Err(Error::of_cloudformation(&scope).into());
        }
        if strict {
            let stack = chat_stacks::chat::stack(&self.settings, identity, artifacts)?;
            let others = match ticket.applied() {
                Some(applied) => code::others(&stack, applied, &serving),
                None => vec!["nothing is written down of the last deploy".to_owned()],
            };
            if !others.is_empty() {
                return Err(chat_stacks::Error::NotOnlyCode { others }.into());
            }
        }
        let url = serving.url(&scope);
        let before = serving.pointers.clone();
        if changed.is_empty() {
            return Ok(CutOver { functions: Vec::new(), url, verified: None });
        }
        let steps = changed.iter().map(|changed| format!("update function/{}", changed.handler)).collect();
        let changes = Changes { update: changed.len(), steps, ..Changes::default() };
        let record = Record { changes, before, ..who::record(self, verb).await? };
        let verification = self.verification(verify)?;
        let change = show(&context.output, 0, async |events| {
            let work = async |record: &mut Record, cancel| {
                // It stays, and is only wanted for the record: so it is looked up while the code goes up.
                let (versions, deployment) = tokio::join!(
                    code::cut_over(aws, &scope, &changed, artifacts),
                    pointers::deployment(aws, &scope, &serving)
                );
                // Without it the record says less, which is no reason to fail.
                record.before.deployment = deployment.unwrap_or_default();
                let versions = versions?;
                let mut after = record.before.clone();
                after.versions.extend(versions);
                record.leaves = ticket.applied().cloned().map(|mut applied| {
                    applied.point(&scope, &after);
                    for Changed { handler, .. } in &changed {
                        if let Some(artifact) = artifacts.get(handler) {
                            applied.code(*handler, artifact.sha256());
                        }
                    }
                    applied
                });
                record.after = Some(after);
                match (&verification, &url) {
                    (Some(verification), Some(url)) => {
                        verify_change(&ledger, url, verification, WayBack::Pointers, record, &events, &cancel)
                            .await
                    }
                    _ => Ok(()),
                }
            };
            Box::pin(under_lock(&ledger, &ticket, record, false, &events, &context.stop, work)).await
        });
        let ((), record) = change.await?;
        let functions = changed.iter().map(|changed| changed.handler.name().to_owned()).collect();
        Ok(CutOver { functions, url, verified: record.verified })
    }

    pub(crate) async fn open_ledger(
        &self,
        context: &Context,
        ledger: &Ledger,
        wait: Duration,
    ) -> Result<Ticket> {
        let is_here = match &self.settings.endpoint {
            Endpoint::Local => true,
            Endpoint::Url(url) => LOOPBACK.iter().any(|start| url.starts_with(start)),
            Endpoint::Aws => false,
        };
        let patience = Patience {
            wait,
            // Whoever changes a cloud on this machine is on it, too.
            is_gone: is_here.then_some(who::is_gone as fn(&_) -> _),
            make_table: context.global.yes,
        };
        show(&context.output, 0, async |events| Ok(Box::pin(ledger.open(&patience, &events)).await?)).await
    }
}

/// Tries again from the start when somebody else was faster: what was planned is no longer what it was planned for.
pub(crate) async fn again_if_overtaken<T>(
    context: &Context,
    wait: Duration,
    attempt: impl AsyncFn(Duration) -> Result<T>,
) -> Result<T> {
    let started = Instant::now();
    let mut tries = 0;
    loop {
        let left = wait.saturating_sub(started.elapsed());
        match attempt(left).await {
            Err(error) if error.code == "overtaken" && tries < 3 => {
                context.output.note("overtaken", &format!("{}; looking again", error.message));
            }
            Err(error) if error.code == "locked" && !left.is_zero() => {
                context.output.note("locked", &format!("{}; waiting", error.message));
            }
            result => return result,
        }
        tries += 1;
    }
}
