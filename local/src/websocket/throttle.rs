//! The token bucket of a stage or a route.

use std::time::Instant;

use crate::apigateway::Throttle;

pub(super) struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    pub(super) fn full(limit: Throttle) -> Self {
        Self { tokens: f64::from(limit.burst), filled: Instant::now() }
    }

    /// Takes a token if there is one. The limit is given anew each time, since a stage may change it.
    pub(super) fn take(&mut self, limit: Throttle) -> bool {
        let now = Instant::now();
        let gained = now.duration_since(self.filled).as_secs_f64() * limit.rate;
        self.filled = now;
        self.tokens = (self.tokens + gained).min(f64::from(limit.burst));
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::Bucket;
    use crate::apigateway::Throttle;

    #[test]
    fn a_burst_passes_and_then_no_more() {
        let limit = Throttle { rate: 0.001, burst: 3 };
        let mut bucket = Bucket::full(limit);
        assert_eq!((0..5).filter(|_| bucket.take(limit)).count(), 3);
    }
}
