//! Where in the text a setting stands. `serde_yaml` tells positions only in errors, so this walks to the setting and
//! fails there on purpose: the position of that error is the answer.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::error::Span;

/// The place of the value at `path`, if the text has one.
pub(super) fn value(text: &str, path: &[&str]) -> Option<Span> {
    find(text, path, Part::Value)
}

/// The place of the key that ends `path`, if the text has it.
pub(super) fn key(text: &str, path: &[&str]) -> Option<Span> {
    find(text, path, Part::Key)
}

/// The place where the key that ends `path` comes for the second time.
pub(super) fn repeated(text: &str, path: &[&str]) -> Option<Span> {
    find(text, path, Part::SecondKey)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Key,
    SecondKey,
    Value,
}

/// The message by which the deliberate error is told from all others.
const HERE: &str = "\u{1}here";

fn find(text: &str, path: &[&str], part: Part) -> Option<Span> {
    let error = Walk { path, part }.deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    if !error.to_string().contains(HERE) {
        return None;
    }
    error.location().map(|location| Span::token(text, location.line(), location.column()))
}

struct Walk<'a> {
    path: &'a [&'a str],
    part: Part,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HERE)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.path.split_first() else {
            return Err(A::Error::custom(HERE));
        };
        let last = rest.is_empty();
        let mut stop = last && self.part == Part::Key;
        while let Some(found) = map.next_key_seed(Key { name: first, stop })? {
            if found && last && self.part == Part::SecondKey {
                stop = true;
            } else if found {
                return map.next_value_seed(Walk { path: rest, part: self.part });
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.path.is_empty() {
            return Err(A::Error::custom(HERE));
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.scalar()
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.scalar()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.scalar()
    }
}

impl Walk<'_> {
    fn scalar<E: Error>(&self) -> Result<(), E> {
        if self.path.is_empty() { Err(E::custom(HERE)) } else { Ok(()) }
    }
}

/// A key that is compared with the one looked for.
struct Key<'a> {
    name: &'a str,
    stop: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        match key == self.name {
            true if self.stop => Err(E::custom(HERE)),
            found => Ok(found),
        }
    }
}
