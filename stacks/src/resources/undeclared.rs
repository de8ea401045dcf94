//! Settings that the stack leaves at their defaults, and that somebody may have changed by hand: one property, which
//! names those that are not at their default and is declared to be empty. `docs/drift.md` lists them, and what is
//! deliberately left alone.

use serde_json::{Map, Value};

/// The property.
pub(super) const UNDECLARED: &str = "undeclared";

/// What a resource was found to have.
#[derive(Debug, Default)]
pub(super) struct Undeclared(Map<String, Value>);

impl Undeclared {
    /// What is declared: nothing.
    pub(super) fn none() -> Value {
        Value::Object(Map::new())
    }

    /// A setting, if it is not at its default.
    #[must_use]
    pub(super) fn with(mut self, name: &str, value: Option<impl Into<Value>>) -> Self {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value.into());
        }
        self
    }

    pub(super) fn property(self) -> Value {
        Value::Object(self.0)
    }
}

/// The text, unless it is empty, which is how some services say that there is none.
pub(super) fn some_text(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}
