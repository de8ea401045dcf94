//! One change of a stage from lock to record: whoever changes a stage, by whatever verb, does it in here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chat_functions::contract::Handler;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::apply::verify_gone;
use crate::aws::Aws;
use crate::cloudformation::{self, Prepared};
use crate::error::{Error, StackProblem};
use crate::event::{Event, Events};
use crate::ledger::{Ledger, Outcome, Pointers, Record, Ticket};
use crate::names::Scope;
use crate::observe::{Observed, observe, observe_outline};
use crate::pointers::{Move, moves, point};
use crate::socket::Caller;
use crate::verify::{Age, Fault, matching_logs, verify, was_asked};

/// How long a run that lost its lock tries to give it back.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5);

/// Does `work` while holding the stage's lock, and writes down that it began and how it ended. `work` is given the
/// record, for what it wants to have written down, and a token that is cancelled when it must begin nothing more.
///
/// `last` removes the lock in the end, if all went well, and looks whether the stage is gone indeed.
///
/// # Errors
/// Those of the work; [`Error::Locked`] and [`Error::Overtaken`] before anything is done; [`Error::LockLost`];
/// [`Error::LeftBehind`].
pub async fn under_lock<T>(
    ledger: &Ledger,
    ticket: &Ticket,
    mut record: Record,
    last: bool,
    events: &Events,
    cancel: &CancellationToken,
    work: impl AsyncFnOnce(&mut Record, CancellationToken) -> Result<T, Error>,
) -> Result<(T, Record), Error> {
    if let Some((from, reason)) = ticket.died() {
        events.send(Event::LockTakenOver { from: from.clone(), reason: reason.to_owned() });
    }
    let lock = ledger.take(ticket, &mut record).await?;
    let (result, lost) = lock.hold(cancel, async |token| work(&mut record, token).await).await;
    if let Some(lost) = lost {
        // If nobody else has it yet, it is given back, so that nobody waits for a run that is over.
        record.outcome = Outcome::Interrupted;
        record.note = Some(lost.to.clone());
        let _ = timeout(GIVE_UP_AFTER, lock.finish(&mut record, false)).await;
        let skipped = match result {
            Err(Error::Cancelled { unfinished, skipped }) => [unfinished, skipped].concat(),
            Err(Error::Apply { skipped, .. }) => skipped,
            _ => Vec::new(),
        };
        return Err(Error::LockLost { to: lost.to, skipped });
    }
    // The work may have said more exactly how it ended.
    if record.outcome == Outcome::Running {
        record.outcome = match &result {
            Ok(_) => Outcome::Succeeded,
            Err(Error::Cancelled { .. } | Error::Stack { problem: StackProblem::Left, .. }) => {
                Outcome::Interrupted
            }
            Err(_) => Outcome::Failed,
        };
    }
    if let (None, Err(error)) = (&record.note, &result) {
        record.note = Some(error.to_string());
    }
    let done = match result {
        Ok(done) => done,
        Err(error) => {
            let _ = lock.finish(&mut record, false).await;
            return Err(error);
        }
    };
    if !last {
        lock.finish(&mut record, false).await?;
        return Ok((done, record));
    }
    // What AWS deleted is gone by its word. The look only proves it, so the two need not wait for each other.
    let (finished, gone) =
        tokio::join!(lock.finish(&mut record, true), verify_gone(ledger.aws(), ledger.scope()));
    if let Err(error) = gone {
        // Whoever took the lock over has closed the record.
        if finished.is_ok() {
            record.outcome = Outcome::Failed;
            record.note = Some(error.to_string());
            let _ = timeout(GIVE_UP_AFTER, ledger.correct(&record)).await;
        }
        return Err(error);
    }
    finished?;
    Ok((done, record))
}

/// A look at what is to be deleted, under way while the ledger is read.
#[derive(Debug)]
pub struct Looking {
    aws: Arc<Aws>,
    scope: Scope,
    started: Instant,
    looking: AbortOnDropHandle<Result<Observed, Error>>,
}

impl Looking {
    pub fn begin(aws: Arc<Aws>, scope: Scope) -> Self {
        let started = Instant::now();
        let looking = {
            let (aws, scope) = (Arc::clone(&aws), scope.clone());
            AbortOnDropHandle::new(tokio::spawn(async move { observe_outline(&aws, &scope).await }))
        };
        Self { aws, scope, started, looking }
    }

    /// What was seen, or is seen now if somebody may have changed the stage meanwhile.
    pub async fn end(self, ticket: &Ticket) -> Result<Observed, Error> {
        if ticket.is_stale_for(self.started) {
            return observe_outline(&self.aws, &self.scope).await;
        }
        self.looking.await.unwrap_or_else(|failed| Err(Error::bug(failed.to_string())))
    }
}

/// How a change is verified.
#[derive(Clone, Debug)]
pub struct Verification {
    /// Who connects to see whether the chat answers.
    pub caller: Caller,
    /// Whether what served before serves again if it does not.
    pub rollback: bool,
}

/// How what served before a change comes back.
#[derive(Clone, Copy, Debug)]
pub enum WayBack<'a> {
    /// Aliases and the API's stage are pointed to it.
    Pointers,
    /// CloudFormation gives the stack the template that it had.
    Stack(&'a Prepared),
}

/// What became of the code that did not stand the verification.
#[derive(Clone, Debug, PartialEq)]
pub enum Aftermath {
    /// What served before serves again.
    RolledBack(Vec<Move>),
    /// Nobody wanted it back.
    Kept,
    /// Nothing served before.
    First,
    /// No pointer had moved, so that none can be moved back.
    Unmoved,
    /// The stack has the template again that it had before.
    StackRestored,
    /// It could not be moved back.
    Failed(String),
}

impl fmt::Display for Aftermath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RolledBack(moves) => {
                f.write_str("what served before serves again: ")?;
                for (at, one) in moves.iter().enumerate() {
                    write!(f, "{}{one}", if at > 0 { ", " } else { "" })?;
                }
                f.write_str("; mend it and run the same command again")
            }
            Self::Kept => f.write_str(
                "it goes on serving, as --no-rollback says; to go back, deploy the older sources or use `chatctl \
                 rollback`, or mend it and deploy again",
            ),
            Self::First => f.write_str(
                "there is nothing to go back to, since nothing served before; mend it and run the same command again",
            ),
            Self::Unmoved => f.write_str(
                "no code and no route changed, so there is nothing to go back to; mend it and run the same command again",
            ),
            Self::StackRestored => f.write_str(
                "CloudFormation brought the stack of before back, and with it the chat; mend it and run the same command \
                 again",
            ),
            Self::Failed(error) => {
                write!(f, "going back failed, too: {error}\n`chatctl rollback`, or a deploy of the older sources, tries it again")
            }
        }
    }
}

/// Verifies what serves at `url` after a change, and goes `back` to what served before if it does not answer. `record` has
/// what served before and after; it is told what was seen.
///
/// # Errors
/// [`Error::Unverified`] with the log lines that match.
pub async fn verify_change(
    ledger: &Ledger,
    url: &str,
    verification: &Verification,
    back: WayBack<'_>,
    record: &mut Record,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    let since_ms = ledger.now_ms() - LOGS_FROM_MS;
    let age = if record.before.is_empty() { Age::New } else { Age::Served };
    let after = record.after.as_ref();
    let connect = after.and_then(|after| after.versions.get(Handler::Connect.name())).cloned();
    let asked = async || match &connect {
        Some(version) => was_asked(ledger.aws(), ledger.scope(), version, since_ms).await,
        None => Ok(false),
    };
    let looking = verify(url, &verification.caller, age, asked);
    let saw = match look(url, looking, events, cancel).await? {
        Ok(seen) => {
            record.verified = Some(seen);
            return Ok(());
        }
        Err(fault) => fault.saw,
    };
    let (aws, scope) = (ledger.aws(), ledger.scope());
    // The old code first, so that people can chat; then the reasons.
    let aftermath = match back {
        _ if !verification.rollback => Aftermath::Kept,
        WayBack::Pointers => move_back(aws, scope, record, events).await,
        WayBack::Stack(prepared) => restore(aws, scope, prepared, record, events, cancel).await,
    };
    let logs = matching_logs(aws, scope, since_ms).await;
    record.outcome = match aftermath {
        Aftermath::RolledBack(_) | Aftermath::StackRestored => Outcome::RolledBack,
        _ => Outcome::Failed,
    };
    record.note = Some(format!("not verified: {saw}"));
    Err(Error::Unverified { url: url.to_owned(), saw, logs, aftermath: Box::new(aftermath) })
}

async fn look(
    url: &str,
    looking: impl Future<Output = Result<String, Fault>>,
    events: &Events,
    cancel: &CancellationToken,
) -> Result<Result<String, Fault>, Error> {
    events.send(Event::Verifying { url: url.to_owned() });
    let verified = tokio::select! {
        verified = looking => verified,
        () = cancel.cancelled() => return Err(Error::Cancelled { unfinished: Vec::new(), skipped: Vec::new() }),
    };
    if let Ok(seen) = &verified {
        events.send(Event::Verified { seen: seen.clone() });
    }
    Ok(verified)
}

/// CloudWatch's clock and ours may differ a little.
const LOGS_FROM_MS: i64 = 3_000;

async fn move_back(aws: &Aws, scope: &Scope, record: &mut Record, events: &Events) -> Aftermath {
    let (before, after) = (&record.before, record.after.clone().unwrap_or_default());
    let Some(api) =
        before.api.as_deref().filter(|api| !before.is_empty() && after.api.as_deref() == Some(*api))
    else {
        return Aftermath::First;
    };
    let moves = moves(&after, before);
    if moves.is_empty() {
        return Aftermath::Unmoved;
    }
    match point(aws, scope, api, &moves).await {
        Ok(()) => {
            events.send(Event::PointedBack { moves: moves.clone() });
            record.after = Some(record.before.clone());
            Aftermath::RolledBack(moves)
        }
        Err(error) => Aftermath::Failed(error.to_string()),
    }
}

async fn restore(
    aws: &Aws,
    scope: &Scope,
    prepared: &Prepared,
    record: &mut Record,
    events: &Events,
    cancel: &CancellationToken,
) -> Aftermath {
    match cloudformation::restore(aws, prepared, events, cancel).await {
        Ok(false) => Aftermath::First,
        Ok(true) => {
            // Its code was published anew, under other versions than before.
            record.after = observe(aws, scope).await.ok().map(|observed| Pointers::of(&observed, scope));
            Aftermath::StackRestored
        }
        Err(error) => Aftermath::Failed(error.to_string()),
    }
}
