//! Drives any server of `chat.v1` as many clients at once, measures it, and checks every single delivery.

mod connection;
mod ledger;
mod phases;

use std::fmt;

pub use connection::{Connection, Shared, Target};
pub use ledger::Losses;
pub use phases::{Pace, close, connects, fan_out, pairs, round_trips};

/// Why a measurement could not be taken.
#[derive(Debug)]
pub struct LoadError(pub String);

impl LoadError {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LoadError {}
