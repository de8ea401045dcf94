//! What each event does, one file an event. Which AWS calls each makes is in `docs/protocol.md` and proved by tests.

mod connect;
mod disconnect;
#[cfg(test)]
mod fakes;
mod fan_out;
mod hello;
mod history;
mod join;
mod leave;
mod presence;
mod send;
#[cfg(test)]
mod tests;
mod who;

pub use connect::connect;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::chat::{Caller, Failure};
use crate::ids::Pair;
use crate::ports::Recipient;
use crate::protocol::{Code, Refusal};

/// Calls that one event makes at once to the table, where it has many to make.
const AT_ONCE: usize = 8;

/// Runs `one` for each item, some at once, and gives the results in the items' order.
async fn each<T, R, F: Future<Output = Result<R, Failure>>>(
    items: impl IntoIterator<Item = T>,
    one: impl FnMut(T) -> F,
) -> Result<Vec<R>, Failure> {
    stream::iter(items).map(one).buffered(AT_ONCE).try_collect().await
}

/// Leaves out who is gone though not deleted yet.
fn present(recipients: Vec<Recipient>, now_s: u64) -> Vec<Recipient> {
    recipients.into_iter().filter(|recipient| recipient.expires_s > now_s).collect()
}

/// A room of two is for these two.
fn one_of(pair: &Pair, caller: &Caller<'_>) -> Result<(), Refusal> {
    if pair.has(&caller.identity.user) {
        Ok(())
    } else {
        Err(Refusal::new(Code::Forbidden, "this room is for two others"))
    }
}

fn not_in_room() -> Refusal {
    Refusal::new(Code::NotInRoom, "join the room first")
}
