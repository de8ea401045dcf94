//! DynamoDB's own clock, read off its answers. A lease is measured with that alone: the holder writes down when it
//! renewed the lease by this clock, and whoever meets the lease compares with the same clock. What the machines
//! themselves believe the time to be does not matter.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::DateTime;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::Format;

/// How far two readings of the clock may be apart: the header counts whole seconds, and an answer is under way for a
/// while.
pub(super) const UNCERTAINTY_MS: i64 = 3_000;

/// The header's second has begun up to this long ago.
const HALF_A_SECOND_MS: i64 = 500;

/// Clones share what they have learnt.
#[derive(Clone, Debug, Default)]
pub(super) struct Clock(Arc<AtomicI64>);

impl Clock {
    /// Milliseconds since 1970. Before the first answer, or without a `Date` in it, the machine's own clock.
    pub(super) fn now_ms(&self) -> i64 {
        machine_ms() + self.0.load(Ordering::Relaxed)
    }

    fn learn(&self, date: &str) {
        let Some(server_ms) =
            DateTime::from_str(date, Format::HttpDate).ok().and_then(|date| date.to_millis().ok())
        else {
            return;
        };
        self.0.store(server_ms + HALF_A_SECOND_MS - machine_ms(), Ordering::Relaxed);
    }
}

fn machine_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[dyn_dispatch_hint]
impl Intercept for Clock {
    fn name(&self) -> &'static str {
        "Clock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date") {
            self.learn(date);
        }
        Ok(())
    }
}

/// A moment as people read it: `2026-11-24T08:03:11Z`.
pub(crate) fn written(ms: i64) -> String {
    let seconds = DateTime::from_secs(ms.div_euclid(1000));
    seconds.fmt(Format::DateTime).unwrap_or_else(|_| format!("{ms} ms after 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_clock_counts_and_not_the_machines() {
        let clock = Clock::default();
        assert!((clock.now_ms() - machine_ms()).abs() < 1_000);
        clock.learn("Tue, 24 Nov 2026 08:00:00 GMT");
        let server_ms = 1_795_507_200_000;
        assert!((clock.now_ms() - server_ms - HALF_A_SECOND_MS).abs() < 1_000);
        clock.learn("nonsense");
        assert!((clock.now_ms() - server_ms).abs() < 2_000, "a header that is no date changes nothing");
    }

    #[test]
    fn moments_are_written_as_people_read_them() {
        assert_eq!(written(1_795_507_391_250), "2026-11-24T08:03:11Z");
    }
}
