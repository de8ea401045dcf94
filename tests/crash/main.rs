//! Deploys that are broken, cut off and killed, and what is left of them: nothing, once the same command has run again.

#![allow(clippy::expect_used, clippy::panic, reason = "everything here is a test")]

mod drain;
mod fuzz;
mod sweep;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chat_local::Cloud;
use chat_tests::PATIENCE;

/// One test at a time: each keeps all processors busy, and some measure time.
fn machine() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until no more connections are open than before a run: nothing that it had sent will still take effect.
async fn closed(cloud: &Cloud, before: usize) {
    let deadline = Instant::now() + PATIENCE;
    while cloud.connections() > before {
        assert!(Instant::now() < deadline, "a deployer that is gone keeps its connections");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
