//! What happens while a plan is carried out, as values: the caller renders them as a live tree, plain lines or JSON.

use serde::Serialize;
use tokio::sync::mpsc::UnboundedSender;

use crate::address::Address;
use crate::ledger::Holder;
use crate::plan::Action;
use crate::pointers::Move;

/// One thing that happened. Serialised, it is one JSON object tagged by `event`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A resource is being worked on.
    Started {
        resource: Address,
        action: Action,
    },
    /// What it is waiting for or doing now: `waiting until the table is active`.
    Progress {
        resource: Address,
        detail: String,
    },
    /// AWS said to come back later; it is tried again after `wait_ms`.
    Retrying {
        resource: Address,
        operation: String,
        code: String,
        message: String,
        wait_ms: u64,
    },
    /// A part that cannot be done now and that nothing waits for: the next deploy tries again.
    Postponed {
        resource: Address,
        what: String,
    },
    Done {
        resource: Address,
        action: Action,
        elapsed_ms: u64,
    },
    Failed {
        resource: Address,
        action: Action,
        error: String,
    },
    /// Not tried: something it needs failed, or the run was cancelled.
    Skipped {
        resource: Address,
        action: Action,
        reason: String,
    },
    /// Somebody else changes the stage, and this run waits for that to end.
    LockWaiting {
        holder: Holder,
        remaining_s: u64,
    },
    /// The run was asked to stop: nothing more is begun, and these are finished.
    Stopping {
        in_flight: Vec<Address>,
    },
    /// A client connects to what was deployed.
    Verifying {
        url: String,
    },
    Verified {
        seen: String,
    },
    /// What was deployed did not stand the verification, so what served before serves again.
    PointedBack {
        moves: Vec<Move>,
    },
    /// This run goes on in place of one that died.
    LockTakenOver {
        from: Holder,
        reason: String,
    },
}

/// Where events go. Cheap to clone; a receiver that is gone is no error.
#[derive(Clone, Debug, Default)]
pub struct Events(Option<UnboundedSender<Event>>);

impl Events {
    pub fn to(sender: UnboundedSender<Event>) -> Self {
        Self(Some(sender))
    }

    /// Nobody is watching.
    pub fn none() -> Self {
        Self(None)
    }

    pub(crate) fn send(&self, event: Event) {
        if let Some(sender) = &self.0 {
            // The watcher may have gone away; the work goes on.
            let _ = sender.send(event);
        }
    }
}
