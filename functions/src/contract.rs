//! What the handlers need from whoever provisions them: names, environment variables, table keys, and the AWS
//! actions each of them performs. The stack derives policies and configuration from here, so that a grant and the
//! code that needs it cannot drift apart.

use std::fmt;

/// A part of AWS that has accounts and names of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// What regions of it begin with.
    regions: &'static str,
    /// What ARNs of it have behind `arn:`.
    pub name: &'static str,
    /// What its endpoints end with.
    pub domain: &'static str,
    /// Where its IAM is, whatever region one works in.
    pub iam_region: &'static str,
}

impl Partition {
    /// That of a region, by its name. Source: `partitions.json` in botocore, and for IAM the endpoints of its SDK.
    pub fn of(region: &str) -> Self {
        const fn known(
            regions: &'static str,
            name: &'static str,
            domain: &'static str,
            iam_region: &'static str,
        ) -> Partition {
            Partition { regions, name, domain, iam_region }
        }
        const COMMERCIAL: Partition = known("", "aws", "amazonaws.com", "us-east-1");
        const OTHERS: [Partition; 7] = [
            known("cn-", "aws-cn", "amazonaws.com.cn", "cn-north-1"),
            known("us-gov-", "aws-us-gov", "amazonaws.com", "us-gov-west-1"),
            known("eusc-", "aws-eusc", "amazonaws.eu", "eusc-de-east-1"),
            known("us-iso-", "aws-iso", "c2s.ic.gov", "us-iso-east-1"),
            known("us-isob-", "aws-iso-b", "sc2s.sgov.gov", "us-isob-east-1"),
            known("eu-isoe-", "aws-iso-e", "cloud.adc-e.uk", "eu-isoe-west-1"),
            known("us-isof-", "aws-iso-f", "csp.hci.ic.gov", "us-isof-south-1"),
        ];
        OTHERS.into_iter().find(|other| region.starts_with(other.regions)).unwrap_or(COMMERCIAL)
    }
}

/// One of the three Lambda functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Handler {
    /// REQUEST authorizer of `$connect`, and `$connect` itself.
    Connect,
    /// `$disconnect`.
    Disconnect,
    /// `$default`: every frame a client sends, except `ping`.
    OnMessage,
}

impl Handler {
    pub const ALL: [Self; 3] = [Self::Connect, Self::Disconnect, Self::OnMessage];

    /// The name of the binary in this crate, and the last part of the function's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Disconnect => "disconnect",
            Self::OnMessage => "on_message",
        }
    }

    /// The DynamoDB actions it performs on the table, each without the `dynamodb:` prefix.
    pub const fn table_actions(self) -> &'static [&'static str] {
        match self {
            Self::Connect => &["PutItem"],
            Self::Disconnect => &["DeleteItem", "BatchWriteItem", "Query"],
            Self::OnMessage => &["Query", "GetItem", "PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem"],
        }
    }

    /// The environment variables it reads; it does not start without one of them, except that
    /// [`env::PUBLIC_KEYS`] is read only where [`env::AUTH`] is `token`. More do no harm.
    pub const fn environment(self) -> &'static [&'static str] {
        match self {
            Self::Connect => &[env::TABLE, env::AUTH, env::PUBLIC_KEYS, env::ORIGINS, env::TLS_ROOTS],
            Self::Disconnect => &[env::TABLE, env::CALLBACK_URL, env::PRESENCE_MAX, env::TLS_ROOTS],
            Self::OnMessage => &[
                env::TABLE,
                env::CALLBACK_URL,
                env::MESSAGE_DAYS,
                env::PRESENCE_MAX,
                env::SENDS_PER_10S,
                env::ROOMS_PER_CONNECTION,
                env::TLS_ROOTS,
            ],
        }
    }

    /// Whether it posts to other clients through `@connections`.
    pub const fn posts(self) -> bool {
        matches!(self, Self::Disconnect | Self::OnMessage)
    }

    /// Whether it invokes itself, by the alias that it was invoked by, to hand posts over.
    pub const fn hands_over(self) -> bool {
        matches!(self, Self::OnMessage)
    }
}

impl fmt::Display for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Environment variables of the handlers. Every one is set by the stack; a handler that misses one refuses to start
/// and names it.
pub mod env {
    /// Name of the table: application and stage, as in `chat-local`. It is also the audience of tokens.
    pub const TABLE: &str = "CHAT_TABLE";
    /// Base of `@connections`: the API's own endpoint and the stage, without trailing slash. With `wss`, as API
    /// Gateway tells it, or with `https`.
    pub const CALLBACK_URL: &str = "CHAT_CALLBACK_URL";
    /// `open` or `token`.
    pub const AUTH: &str = "CHAT_AUTH";
    /// Public keys for `token`: `kid=base64url` pairs of raw Ed25519 keys, separated by commas.
    pub const PUBLIC_KEYS: &str = "CHAT_PUBLIC_KEYS";
    /// Allowed `Origin`s, separated by commas; `*` allows all, and requests without an origin.
    pub const ORIGINS: &str = "CHAT_ORIGINS";
    /// Days a message is kept; `0` keeps it for ever.
    pub const MESSAGE_DAYS: &str = "CHAT_MESSAGE_DAYS";
    /// Presence and joins are announced in rooms of up to this many connections; `0` never.
    pub const PRESENCE_MAX: &str = "CHAT_PRESENCE_MAX";
    /// Sends one user may make to one room in ten seconds, at most 20; `0` does not limit.
    pub const SENDS_PER_10S: &str = "CHAT_SENDS_PER_10S";
    /// Rooms one connection may be in at a time.
    pub const ROOMS_PER_CONNECTION: &str = "CHAT_ROOMS_PER_CONNECTION";
    /// `embedded` (the roots that sign AWS's endpoints; the fast start) or `system`.
    pub const TLS_ROOTS: &str = "CHAT_TLS_ROOTS";

    /// All of them.
    pub const ALL: &[&str] = &[
        TABLE,
        CALLBACK_URL,
        AUTH,
        PUBLIC_KEYS,
        ORIGINS,
        MESSAGE_DAYS,
        PRESENCE_MAX,
        SENDS_PER_10S,
        ROOMS_PER_CONNECTION,
        TLS_ROOTS,
    ];
}

/// What `connect` logs as the message of a line when it lets somebody not in: whoever looks for it knows that it was
/// asked.
pub const REFUSED: &str = "refused";

/// Names of the table's key attributes and of its TTL attribute.
pub mod table {
    pub const PARTITION_KEY: &str = "PK";
    pub const SORT_KEY: &str = "SK";
    pub const TTL: &str = "x";
}
