//! What was created a moment ago: it exists for whoever asks for it, and not yet for those who would use it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What takes its time after the call that creates it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Young {
    Role,
    Table,
    Function,
}

/// When each was created. What is not in it is old.
#[derive(Debug, Default)]
pub(super) struct Births {
    born: HashMap<(Young, String), Instant>,
}

impl Births {
    /// A thing of the same name that was there before is another one.
    pub(super) fn record(&mut self, kind: Young, name: &str) {
        self.born.insert((kind, name.to_owned()), Instant::now());
    }

    pub(super) fn is_younger(&self, kind: Young, name: &str, than: Duration) -> bool {
        // No allocation matters here: only clouds with such a rule come this far.
        self.born.get(&(kind, name.to_owned())).is_some_and(|born| born.elapsed() < than)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Births, Young};

    #[test]
    fn what_was_just_created_is_young_and_what_nobody_saw_being_created_is_old() {
        let mut births = Births::default();
        births.record(Young::Role, "worker");
        let hour = Duration::from_secs(3600);
        assert!(births.is_younger(Young::Role, "worker", hour));
        assert!(!births.is_younger(Young::Role, "worker", Duration::ZERO));
        assert!(!births.is_younger(Young::Table, "worker", hour), "a table is no role");
        assert!(!births.is_younger(Young::Role, "other", hour));
    }
}
