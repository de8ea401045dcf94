//! Deploys that are broken, cut off and killed, and what is left of them: nothing, once the same command has run again.

#![allow(clippy::expect_used, clippy::panic, reason = "everything here is a test")]

mod drain;
mod fuzz;
mod sweep;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chat_local::{Cloud, CloudConfig};
use chat_tests::{Census, PATIENCE, Rehearsal};
use tokio::sync::Mutex;

/// One test at a time: each keeps all processors busy, and some measure time.
static MACHINE: Mutex<()> = Mutex::const_new(());

/// A cloud, what is deployed to it, and who looks at it.
struct Bench {
    cloud: Cloud,
    rehearsal: Rehearsal,
    census: Census,
    /// Calls that were held on this cloud.
    held: u64,
}

impl Bench {
    async fn start() -> Self {
        let cloud = Cloud::start(CloudConfig::in_memory()).await.expect("the cloud starts");
        let endpoint = cloud.endpoint();
        Self { rehearsal: Rehearsal::at(&endpoint).await, census: Census::of(&endpoint), cloud, held: 0 }
    }
}

/// Waits until no more connections are open than before a run: nothing that it had sent will still take effect.
async fn closed(cloud: &Cloud, before: usize) {
    let deadline = Instant::now() + PATIENCE;
    while cloud.connections() > before {
        assert!(Instant::now() < deadline, "a deployer that is gone keeps its connections");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Runs to its end what cannot be sent to another thread.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

/// Runs so many workers at the same time, and returns what came of them.
fn workers<T: Send + 'static, F: Future<Output = T>>(
    count: usize,
    work: impl Fn(usize) -> F + Send + Sync + 'static,
) -> Vec<T> {
    let work = Arc::new(work);
    let start = |worker| {
        let work = work.clone();
        std::thread::spawn(move || block_on(work(worker)))
    };
    let threads: Vec<_> = (0..count).map(start).collect();
    threads.into_iter().map(|thread| thread.join().expect("a worker failed")).collect()
}
