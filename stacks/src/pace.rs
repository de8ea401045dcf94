//! A token bucket for API Gateway's control plane, so that a deploy does not run into its limit and be told to wait.

use std::sync::Mutex;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

/// How many control-plane requests a second are allowed on average, and how many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rate {
    pub per_second: u32,
    pub burst: u32,
}

impl Rate {
    /// API Gateway's default for an account and region: aws-facts, quotas ("Control plane: 10 requests/s, burst 40").
    /// Source: <https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html>
    pub const API_GATEWAY: Self = Self { per_second: 10, burst: 40 };
    /// Never wait. Any rate of 0 means that.
    pub const UNLIMITED: Self = Self { per_second: 0, burst: 0 };
}

/// The bucket. Waiting callers are served in the order in which they came.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Rate,
    state: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Tokens left; below zero is the queue of those who already wait.
    tokens: f64,
    at: Instant,
}

impl Pace {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, state: Mutex::new(Bucket { tokens: f64::from(rate.burst), at: Instant::now() }) }
    }

    /// Takes one token, waiting for it when there is none.
    pub(crate) async fn take(&self) {
        let wait = self.reserve(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    fn reserve(&self, now: Instant) -> Duration {
        if self.rate.per_second == 0 {
            return Duration::ZERO;
        }
        let per_second = f64::from(self.rate.per_second);
        let mut bucket = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let refill = now.saturating_duration_since(bucket.at).as_secs_f64() * per_second;
        bucket.tokens = (bucket.tokens + refill).min(f64::from(self.rate.burst)) - 1.0;
        bucket.at = now;
        if bucket.tokens >= 0.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(-bucket.tokens / per_second)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let pace = Pace::new(Rate { per_second: 10, burst: 3 });
        let now = Instant::now();
        let waits: Vec<u128> = (0..5).map(|_| pace.reserve(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200]);
        assert_eq!(pace.reserve(now + Duration::from_secs(10)).as_millis(), 0);
    }

    #[test]
    fn an_unlimited_rate_never_waits() {
        let pace = Pace::new(Rate::UNLIMITED);
        let now = Instant::now();
        assert!((0..1000).all(|_| pace.reserve(now).is_zero()));
    }
}
