//! What a cloud is started with. Everything has the value AWS has, unless a test or its owner says otherwise.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::faults::Faults;

/// Port that `chatctl` uses unless told otherwise.
pub const DEFAULT_PORT: u16 = 4620;

/// Where to listen and where to keep the state.
#[derive(Clone, Debug)]
pub struct CloudConfig {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Directory of the state, which then survives `kill -9`. `None` keeps it in memory.
    pub data: Option<PathBuf>,
    pub settings: Settings,
}

impl Default for CloudConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            data: None,
            settings: Settings::default(),
        }
    }
}

impl CloudConfig {
    /// In memory on a free port: what tests want.
    pub fn in_memory() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..Self::default() }
    }
}

/// Limits and switches. `Deserialize` reads durations as milliseconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Region of every ARN. A signature may name any region.
    pub region: String,
    /// A WebSocket connection without traffic is closed after this: 10 minutes on AWS.
    #[serde(with = "milliseconds")]
    pub idle_timeout: Duration,
    /// A WebSocket connection is closed after this in any case: 2 hours on AWS.
    #[serde(with = "milliseconds")]
    pub max_connection: Duration,
    pub lambda: LambdaSettings,
    pub faults: Faults,
    /// `false` takes every request as the owner's. Only for measuring what verification costs.
    pub verify_signatures: bool,
    /// How far the clock of a caller may be off: 5 minutes on AWS.
    #[serde(with = "milliseconds")]
    pub clock_skew: Duration,
    /// How often expired items are removed. AWS promises days; readers must filter them in any case.
    #[serde(with = "milliseconds")]
    pub ttl_sweep: Duration,
    /// Listen on an address that other machines can reach.
    pub allow_remote: bool,
    /// Let `PUT /_local/faults` change the faults of a running cloud.
    pub allow_fault_requests: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            idle_timeout: Duration::from_secs(600),
            max_connection: Duration::from_secs(7200),
            lambda: LambdaSettings::default(),
            faults: Faults::default(),
            verify_signatures: true,
            clock_skew: Duration::from_secs(300),
            ttl_sweep: Duration::from_secs(10),
            allow_remote: false,
            allow_fault_requests: false,
        }
    }
}

/// Limits of Lambda.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LambdaSettings {
    /// Processes of one function, by default two a core. One event is in each at a time; further events wait for a free
    /// one.
    pub max_environments: usize,
    /// Events in flight over all functions, beyond which callers get 429: 1,000 on AWS.
    pub concurrency: usize,
    /// An environment without events is stopped after this.
    #[serde(with = "milliseconds")]
    pub idle_reap: Duration,
    /// Time that an environment has for its first `next`: 10 seconds on AWS.
    #[serde(with = "milliseconds")]
    pub init_timeout: Duration,
    /// Base of the waits between the retries of asynchronous events: 1 minute, then 2 on AWS.
    #[serde(with = "milliseconds")]
    pub async_retry: Duration,
    /// How long a new or changed function stays `Pending` or `InProgress`: some seconds on AWS.
    #[serde(with = "milliseconds")]
    pub settle: Duration,
}

impl Default for LambdaSettings {
    fn default() -> Self {
        Self {
            max_environments: environments(),
            concurrency: 1000,
            idle_reap: Duration::from_secs(300),
            init_timeout: Duration::from_secs(10),
            async_retry: Duration::from_secs(60),
            settle: Duration::ZERO,
        }
    }
}

/// Enough to keep all cores busy while some wait. More of them take memory and are no faster, as was tried on two cores.
fn environments() -> usize {
    std::thread::available_parallelism().map_or(4, |cores| (2 * cores.get()).clamp(4, 32))
}

mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}
