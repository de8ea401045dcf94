//! What the project's tests stand on: a chat that runs in the test's own process, clients that tell a story, the real
//! command line as a process, a judge of every frame that crosses the wire, and the load driver of the benchmark.

#[expect(clippy::panic, clippy::expect_used, reason = "a harness fails the test that uses it")]
mod account;
#[expect(clippy::panic, reason = "a harness fails the test that uses it")]
mod census;
#[expect(clippy::panic, clippy::expect_used, reason = "a harness fails the test that uses it")]
mod chat;
#[expect(clippy::panic, clippy::expect_used, reason = "a harness fails the test that uses it")]
mod chatctl;
#[expect(clippy::panic, clippy::expect_used, reason = "a harness fails the test that uses it")]
mod client;
#[expect(clippy::panic, reason = "a harness fails the test that uses it")]
pub mod handlers;
#[expect(clippy::panic, reason = "a harness fails the test that uses it")]
mod judge;
pub mod load;
#[expect(clippy::panic, reason = "a harness fails the test that uses it")]
pub mod process;
#[expect(clippy::panic, reason = "a harness fails the test that uses it")]
mod rehearsal;
#[expect(clippy::panic, clippy::expect_used, reason = "a harness fails the test that uses it")]
mod running;
#[expect(clippy::panic, reason = "a harness fails the test that uses it")]
mod stack;
#[expect(clippy::panic, clippy::expect_used, reason = "a harness fails the test that uses it")]
mod terminal;
#[expect(clippy::expect_used, reason = "a harness fails the test that uses it")]
pub mod tokens;
#[expect(clippy::panic, clippy::expect_used, reason = "a harness fails the test that uses it")]
mod vandal;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub use account::{Account, config};
pub use census::Census;
pub use chat::{Builder, Chat, until, within};
pub use chatctl::{Chatctl, lines_of};
pub use client::{Client, Hail, PATIENCE, Refused, Sent};
pub use judge::{Judge, Sender};
pub use rehearsal::{Edition, Rehearsal};
pub use running::Running;
pub use stack::Executed;
pub use terminal::Terminal;
pub use vandal::vandalise;

/// The workspace's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
