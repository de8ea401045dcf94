//! The keys of `stages:`. One ends in a star where stages come and go, such as the previews of pull requests.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::names::{BadName, StageName};

/// `dev` is a stage. `pr-*` is every stage that begins with `pr-` and has no key of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StageKey(String);

impl StageKey {
    fn parse(text: &str) -> Result<Self, BadName> {
        // What the star stands for is checked when there is a name.
        StageName::parse(text.strip_suffix('*').unwrap_or(text))?;
        Ok(Self(text.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, if it is one.
    pub(super) fn name(&self) -> Option<StageName> {
        StageName::parse(&self.0).ok()
    }

    /// How well it fits a name: the number of characters that it gives, and one more if it gives all of them.
    pub(super) fn fit(&self, name: &str) -> Option<usize> {
        match self.0.strip_suffix('*') {
            Some(start) => (name.len() > start.len() && name.starts_with(start)).then_some(start.len()),
            None => (self.0 == name).then_some(name.len() + 1),
        }
    }
}

impl<'de> Deserialize<'de> for StageKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Key;
        impl Visitor<'_> for Key {
            type Value = StageKey;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a stage name")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<StageKey, E> {
                StageKey::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Key)
    }
}
