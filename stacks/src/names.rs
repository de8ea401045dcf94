//! Names and tags of everything that belongs to one stage of one app. They are deterministic, so that what a run
//! creates the next one finds again.

use std::fmt;

use chat_functions::contract::Handler;
use serde::de::{Deserialize, Deserializer, Visitor};

/// The tag that names the app which owns a resource.
pub(crate) const APP_TAG: &str = "chatctl:app";
/// The tag that names the stage which owns a resource.
pub(crate) const STAGE_TAG: &str = "chatctl:stage";
/// The tag that says which engine a stage belongs to, and its only value: what is deployed directly has none.
pub(crate) const ENGINE_TAG: &str = "chatctl:engine";
pub(crate) const ENGINE: &str = "cloudformation";

/// App and stage together may not outgrow a function or role name: 64 characters with `-disconnect` behind them.
const MAX_NAME: usize = 26;

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a valid {what}: up to {MAX_NAME} of a-z, 0-9 and `-`, starting with a letter")]
pub struct BadName {
    name: String,
    what: &'static str,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        pub struct $name(String);

        impl $name {
            /// Parses a name: it becomes part of function, role, table and stage names, so it has the alphabet that
            /// all of them share.
            pub fn parse(name: &str) -> Result<Self, BadName> {
                if is_valid(name) { Ok(Self(name.to_owned())) } else { Err(BadName { name: name.to_owned(), what: $what }) }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Name;
                impl Visitor<'_> for Name {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("a ", $what))
                    }
                    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<$name, E> {
                        $name::parse(name).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Name)
            }
        }
    };
}

name_type!(
    /// The app: `chat`. The first part of every name.
    AppName,
    "app name"
);
name_type!(
    /// One deployment of the app: `local`, `dev`, `prod`. Also the name of the API's stage, so part of its URL.
    StageName,
    "stage name"
);

fn is_valid(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// One stage of one app: everything that is observed, planned and deleted together.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Scope {
    pub app: AppName,
    pub stage: StageName,
}

impl Scope {
    /// `chat-local`: the API's and the table's name, and the start of all others.
    pub fn prefix(&self) -> String {
        format!("{}-{}", self.app, self.stage)
    }

    pub fn table(&self) -> String {
        self.prefix()
    }

    /// A function's name, which is its role's too.
    pub fn function(&self, handler: Handler) -> String {
        self.named(handler.name())
    }

    pub fn log_group(&self, handler: Handler) -> String {
        format!("/aws/lambda/{}", self.function(handler))
    }

    /// The path of every role of this stage: listing it finds them all, declared or left over.
    pub fn role_path(&self) -> String {
        format!("/chatctl/{}/{}/", self.app, self.stage)
    }

    /// The name in the account of the part called `part` in the stack.
    pub(crate) fn named(&self, part: &str) -> String {
        format!("{}-{part}", self.prefix())
    }

    /// The reverse of [`Scope::named`].
    pub(crate) fn part<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(&self.prefix())?.strip_prefix('-')
    }

    pub(crate) fn tags(&self) -> [(&'static str, String); 2] {
        [(APP_TAG, self.app.to_string()), (STAGE_TAG, self.stage.to_string())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_names_still_fit_a_function() {
        let longest = "a".repeat(MAX_NAME);
        let app = AppName::parse(&longest).unwrap();
        let stage = StageName::parse(&longest).unwrap();
        assert!(Scope { app, stage }.function(Handler::Disconnect).len() <= 64);
        assert!(AppName::parse(&"a".repeat(MAX_NAME + 1)).is_err());
    }

    #[test]
    fn a_part_is_what_follows_the_prefix() {
        let scope = Scope { app: AppName::parse("chat").unwrap(), stage: StageName::parse("dev").unwrap() };
        assert_eq!(scope.part("chat-dev-connect"), Some("connect"));
        assert_eq!(scope.part("chat-device-connect"), None);
        assert_eq!(scope.part("chat-dev"), None);
    }

    #[test]
    fn names_that_would_break_an_arn_or_a_url_are_refused() {
        for bad in ["", "Chat", "1st", "a/b", "a b", "a.b", "ä", "-a", "a_b"] {
            assert!(StageName::parse(bad).is_err(), "{bad}");
        }
    }
}
