//! The handlers' settings, from the environment that the stack wrote. A missing or unreadable one stops the start and
//! is named.

use crate::auth::{Keys, Mode, Origins};
use crate::contract::env;
use crate::ports::TAIL;

/// Why a handler refuses to start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    #[error("the environment variable {0} is not set: deploy the stack again, it sets all of them")]
    Missing(&'static str),
    #[error("the environment variable {0} is not set: this program runs as a Lambda function only")]
    NotInLambda(&'static str),
    #[error("the environment variable {name} cannot be {value:?}: {wanted}")]
    Unreadable { name: &'static str, value: String, wanted: String },
}

/// Where environment variables come from.
pub struct Environment<'a>(pub &'a dyn Fn(&str) -> Option<String>);

impl Environment<'_> {
    pub fn of_process() -> Environment<'static> {
        Environment(&|name| std::env::var(name).ok())
    }

    /// # Errors
    /// If it is not set. Empty counts as set: the stack wrote it on purpose.
    pub fn get(&self, name: &'static str) -> Result<String, SettingError> {
        self.optional(name).ok_or(SettingError::Missing(name))
    }

    pub fn optional(&self, name: &str) -> Option<String> {
        (self.0)(name)
    }

    fn number<N>(&self, name: &'static str, max: N) -> Result<N, SettingError>
    where
        N: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        let value = self.get(name)?;
        match value.parse() {
            Ok(number) if number <= max => Ok(number),
            _ => {
                let wanted = format!("a whole number from 0 to {max} is wanted");
                Err(SettingError::Unreadable { name, value, wanted })
            }
        }
    }
}

/// What AWS's own environment says, and where the services are.
#[derive(Clone, Debug)]
pub struct Aws {
    pub region: String,
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Option<String>,
    /// Other endpoints than the region's own.
    pub dynamodb_endpoint: Option<String>,
    pub lambda_endpoint: Option<String>,
    pub roots: Roots,
}

/// Which certificates are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roots {
    Embedded,
    System,
}

impl Aws {
    /// # Errors
    /// If region or credentials are missing, or the choice of roots is unknown.
    pub fn read(from: &Environment<'_>) -> Result<Self, SettingError> {
        let name = env::TLS_ROOTS;
        let roots = match from.get(name)?.as_str() {
            "embedded" => Roots::Embedded,
            "system" => Roots::System,
            value => {
                let wanted = "`embedded` or `system` is wanted".to_owned();
                return Err(SettingError::Unreadable { name, value: value.to_owned(), wanted });
            }
        };
        let set = |name| from.optional(name).filter(|url| !url.is_empty());
        // The one for the service wins, as in every AWS SDK.
        let endpoint = |name| set(name).or_else(|| set("AWS_ENDPOINT_URL"));
        Ok(Self {
            region: from.get("AWS_REGION")?,
            access_key_id: from.get("AWS_ACCESS_KEY_ID")?,
            secret_access_key: from.get("AWS_SECRET_ACCESS_KEY")?,
            session_token: from.optional("AWS_SESSION_TOKEN").filter(|token| !token.is_empty()),
            dynamodb_endpoint: endpoint("AWS_ENDPOINT_URL_DYNAMODB"),
            lambda_endpoint: endpoint("AWS_ENDPOINT_URL_LAMBDA"),
            roots,
        })
    }
}

/// Of `connect`.
#[derive(Debug)]
pub struct Connect {
    pub aws: Aws,
    pub table: String,
    pub mode: Mode,
    pub origins: Origins,
}

impl Connect {
    /// # Errors
    /// Names the variable that is missing or unreadable.
    pub fn read(from: &Environment<'_>) -> Result<Self, SettingError> {
        let table = from.get(env::TABLE)?;
        let mode = match from.get(env::AUTH)?.as_str() {
            "open" => Mode::Open,
            "token" => {
                let (name, value) = (env::PUBLIC_KEYS, from.get(env::PUBLIC_KEYS)?);
                // The table's name is the application's and the stage's: what a token is for.
                match Keys::parse(&value) {
                    Ok(keys) => Mode::Token { keys, audience: table.clone() },
                    Err(wanted) => return Err(SettingError::Unreadable { name, value, wanted }),
                }
            }
            value => {
                let wanted = "`open` or `token` is wanted".to_owned();
                return Err(SettingError::Unreadable { name: env::AUTH, value: value.to_owned(), wanted });
            }
        };
        let origins = Origins::parse(&from.get(env::ORIGINS)?);
        Ok(Self { aws: Aws::read(from)?, table, mode, origins })
    }
}

/// Of `disconnect`.
#[derive(Debug)]
pub struct Disconnect {
    pub aws: Aws,
    pub table: String,
    pub callback_url: String,
    pub presence_max: usize,
}

impl Disconnect {
    /// # Errors
    /// Names the variable that is missing or unreadable.
    pub fn read(from: &Environment<'_>) -> Result<Self, SettingError> {
        Ok(Self {
            aws: Aws::read(from)?,
            table: from.get(env::TABLE)?,
            callback_url: from.get(env::CALLBACK_URL)?,
            presence_max: from.number(env::PRESENCE_MAX, 10_000)?,
        })
    }
}

/// Of `on_message`.
#[derive(Debug)]
pub struct OnMessage {
    pub aws: Aws,
    pub table: String,
    pub callback_url: String,
    pub limits: Limits,
}

/// What a stage allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Days a message is kept; 0 for ever.
    pub message_days: u64,
    /// Largest room whose comings and goings are announced, in connections; 0 for none.
    pub presence_max: usize,
    /// Messages of one user to one room in ten seconds; 0 for any number.
    pub sends_per_10s: usize,
    /// Rooms that one connection may be in at a time.
    pub rooms_per_connection: usize,
}

impl OnMessage {
    /// # Errors
    /// Names the variable that is missing or unreadable.
    pub fn read(from: &Environment<'_>) -> Result<Self, SettingError> {
        Ok(Self {
            aws: Aws::read(from)?,
            table: from.get(env::TABLE)?,
            callback_url: from.get(env::CALLBACK_URL)?,
            limits: Limits {
                message_days: from.number(env::MESSAGE_DAYS, 36_500)?,
                presence_max: from.number(env::PRESENCE_MAX, 10_000)?,
                // The tail of a room is the window that is counted in.
                sends_per_10s: from.number(env::SENDS_PER_10S, TAIL)?,
                rooms_per_connection: from.number(env::ROOMS_PER_CONNECTION, 10_000)?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Handler;

    fn full(name: &str) -> Option<String> {
        let value = match name {
            env::TABLE => "chat-local",
            env::CALLBACK_URL => "http://127.0.0.1:1/api/local",
            env::AUTH => "token",
            env::PUBLIC_KEYS => "k1=11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            env::ORIGINS => "*",
            env::MESSAGE_DAYS | env::PRESENCE_MAX | env::SENDS_PER_10S | env::ROOMS_PER_CONNECTION => "20",
            env::TLS_ROOTS => "embedded",
            "AWS_REGION" | "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => "x",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn read(handler: Handler, from: &Environment<'_>) -> Result<(), SettingError> {
        match handler {
            Handler::Connect => Connect::read(from).map(drop),
            Handler::Disconnect => Disconnect::read(from).map(drop),
            Handler::OnMessage => OnMessage::read(from).map(drop),
        }
    }

    #[test]
    fn each_handler_needs_exactly_what_the_contract_says_and_names_what_is_missing() {
        for handler in Handler::ALL {
            read(handler, &Environment(&full)).unwrap();
            for &name in env::ALL {
                let without = |asked: &str| if asked == name { None } else { full(asked) };
                let outcome = read(handler, &Environment(&without));
                if handler.environment().contains(&name) {
                    assert_eq!(outcome, Err(SettingError::Missing(name)), "{handler}");
                } else {
                    assert_eq!(outcome, Ok(()), "{handler} does not need {name}");
                }
            }
        }
    }

    #[test]
    fn unreadable_values_are_named_with_what_is_wanted() {
        for (name, value) in [
            (env::AUTH, "none"),
            (env::PUBLIC_KEYS, "k1"),
            (env::PUBLIC_KEYS, ""),
            (env::TLS_ROOTS, "mine"),
            (env::SENDS_PER_10S, "21"),
            (env::PRESENCE_MAX, "-1"),
            (env::MESSAGE_DAYS, "many"),
        ] {
            let bad = |asked: &str| if asked == name { Some(value.to_owned()) } else { full(asked) };
            let outcomes = Handler::ALL.map(|handler| read(handler, &Environment(&bad)));
            let named = outcomes.iter().any(|outcome| {
                matches!(outcome, Err(SettingError::Unreadable { name: n, value: v, .. }) if *n == name && v == value)
            });
            assert!(named, "{name}={value} was taken");
        }
    }

    #[test]
    fn the_endpoint_of_the_service_wins() {
        let both = |asked: &str| match asked {
            "AWS_ENDPOINT_URL" => Some("http://all".to_owned()),
            "AWS_ENDPOINT_URL_DYNAMODB" => Some("http://one".to_owned()),
            _ => full(asked),
        };
        let aws = Aws::read(&Environment(&both)).unwrap();
        assert_eq!(aws.dynamodb_endpoint.as_deref(), Some("http://one"));
        assert_eq!(aws.lambda_endpoint.as_deref(), Some("http://all"));
    }
}
