//! How many events may be in flight: over the account, and for a function that reserved its share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts events in flight.
#[derive(Clone, Default)]
pub(super) struct Gate {
    in_flight: Arc<AtomicUsize>,
}

impl Gate {
    /// A place, unless `limit` are taken.
    pub(super) fn enter(&self, limit: usize) -> Option<Permit> {
        self.in_flight
            .try_update(Ordering::AcqRel, Ordering::Acquire, |count| (count < limit).then_some(count + 1))
            .ok()
            .map(|_| Permit { in_flight: Arc::clone(&self.in_flight) })
    }
}

/// A place in flight, until it is dropped.
pub(super) struct Permit {
    in_flight: Arc<AtomicUsize>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::Gate;

    #[test]
    fn a_place_is_free_again_when_its_permit_is_dropped() {
        let gate = Gate::default();
        let first = gate.enter(1).unwrap();
        assert!(gate.enter(1).is_none());
        drop(first);
        assert!(gate.enter(1).is_some());
        assert!(gate.enter(0).is_none());
    }
}
