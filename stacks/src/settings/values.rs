//! The values a setting can have, each parsed once and refused with what is allowed instead.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A whole number between two bounds, both allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole<const MIN: u32, const MAX: u32>(pub(super) u32);

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number<const MIN: u32, const MAX: u32>;
        impl<const MIN: u32, const MAX: u32> Visitor<'_> for Number<MIN, MAX> {
            type Value = Whole<MIN, MAX>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {MIN} to {MAX}")
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
                u32::try_from(number)
                    .ok()
                    .filter(|number| (MIN..=MAX).contains(number))
                    .map(Whole)
                    .ok_or_else(|| {
                        E::custom(format!(
                            "{number} is out of range, expected a whole number from {MIN} to {MAX}"
                        ))
                    })
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
                Err(E::custom(format!(
                    "{number} is out of range, expected a whole number from {MIN} to {MAX}"
                )))
            }
        }
        // Not `deserialize_u32`: it would call a negative number a wrong type.
        deserializer.deserialize_any(Number::<MIN, MAX>)
    }
}

/// Implements `Deserialize` for a type with a `parse(&str) -> Result<Self, String>`.
macro_rules! parsed {
    ($name:ty, $expecting:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: Error>(self, text: &str) -> Result<$name, E> {
                        <$name>::parse(text).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}

/// An AWS region, by the shape of its name: new ones need no new release of this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region(String);

impl Region {
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('-').collect();
        let shaped = match parts.as_slice() {
            [area, middle @ .., number] => {
                (2..=4).contains(&area.len())
                    && !middle.is_empty()
                    && std::iter::once(area)
                        .chain(middle)
                        .all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase()))
                    && !number.is_empty()
                    && number.len() <= 2
                    && number.chars().all(|c| c.is_ascii_digit())
            }
            _ => false,
        };
        if shaped {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("`{text}` is not a region, expected one like `eu-central-1`"))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Region {
    fn default() -> Self {
        Self("us-east-1".to_owned())
    }
}

parsed!(Region, "a region like `eu-central-1`");

/// Where the stage lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Endpoint {
    #[default]
    Aws,
    /// The cloud in `local/`; whoever started it knows its address.
    Local,
    /// Any other, spoken to with the caller's credentials.
    Url(String),
}

impl Endpoint {
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "aws" => Ok(Self::Aws),
            "local" => Ok(Self::Local),
            url if url.starts_with("http://") || url.starts_with("https://") => {
                Ok(Self::Url(url.trim_end_matches('/').to_owned()))
            }
            other => Err(format!("`{other}` is not an endpoint, expected `aws`, `local` or a URL")),
        }
    }
}

parsed!(Endpoint, "`aws`, `local` or a URL");

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// By saying so: `?user=alice`. For trying things out.
    Open,
    /// By a token that the owner of the stage signed.
    Token,
}

impl AuthMode {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Token => "token",
        }
    }
}

/// A token's `kid`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(String);

impl KeyId {
    pub fn parse(text: &str) -> Result<Self, String> {
        let valid = (1..=64).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("`{text}` is not a key id, expected 1 to 64 of A-Z, a-z, 0-9, `_`, `-`, `.`"))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

parsed!(KeyId, "a key id");

/// A raw Ed25519 public key in base64url without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(String);

impl PublicKey {
    pub fn parse(text: &str) -> Result<Self, String> {
        match URL_SAFE_NO_PAD.decode(text) {
            Ok(bytes) if bytes.len() == 32 => Ok(Self(text.to_owned())),
            Ok(bytes) => {
                Err(format!("this key has {} bytes, expected an Ed25519 public key of 32", bytes.len()))
            }
            Err(_) => Err("this is not base64url without padding, expected 43 characters of it".to_owned()),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

parsed!(PublicKey, "an Ed25519 public key in base64url");

/// An `Origin` header's value, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        // Origins travel in one environment variable, separated by commas.
        let valid =
            host.is_some_and(|host| !host.is_empty() && !host.contains(['/', ',', '?', '#', ' ', '*', '@']));
        if text == "*" || valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "`{text}` is not an origin, expected `*` or one like `https://chat.example.org`, without a path"
            ))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

parsed!(Origin, "an origin like `https://chat.example.org`, or `*`");

/// How long CloudWatch keeps a log event. It accepts these numbers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionDays(u32);

impl RetentionDays {
    /// Source: <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html>
    const ALLOWED: [u32; 22] = [
        1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288,
        3653,
    ];

    pub fn days(self) -> u32 {
        self.0
    }
}

impl Default for RetentionDays {
    fn default() -> Self {
        Self(14)
    }
}

impl<'de> Deserialize<'de> for RetentionDays {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Days;
        impl Visitor<'_> for Days {
            type Value = RetentionDays;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of days that CloudWatch knows")
            }
            fn visit_u64<E: Error>(self, days: u64) -> Result<RetentionDays, E> {
                if let Some(allowed) =
                    RetentionDays::ALLOWED.into_iter().find(|allowed| u64::from(*allowed) == days)
                {
                    return Ok(RetentionDays(allowed));
                }
                let list = RetentionDays::ALLOWED.map(|days| days.to_string()).join(", ");
                Err(E::custom(format!(
                    "CloudWatch does not keep logs for {days} days, expected one of {list}"
                )))
            }
        }
        deserializer.deserialize_any(Days)
    }
}

/// The processor of the functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    Arm64,
    #[serde(rename = "x86_64")]
    X86,
    /// Whatever this program was built for: for a cloud that runs on the same machine.
    Native,
}

impl Architecture {
    /// The name that Lambda and the build use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arm64 => "arm64",
            Self::X86 => "x86_64",
            Self::Native => {
                if cfg!(target_arch = "aarch64") {
                    "arm64"
                } else {
                    "x86_64"
                }
            }
        }
    }
}

/// Which root certificates the handlers trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsRoots {
    /// The few that sign AWS's endpoints, in the binary: the fast start.
    Embedded,
    /// The system's, for endpoints behind another authority.
    System,
}

impl TlsRoots {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::System => "system",
        }
    }
}

/// The cargo profile that the handlers are built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    Dev,
    Release,
    Lambda,
}

impl Profile {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
            Self::Lambda => "lambda",
        }
    }

    /// Where cargo puts what is built with it, below its target directory.
    pub const fn directory(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release | Self::Lambda => self.name(),
        }
    }
}
