//! Who is connecting: the two ways to say it, and which pages may. The answer is the authorizer's; every later event
//! carries it back from the gateway.

mod jwt;

pub use jwt::{Keys, TokenError};
use serde_json::Value;

use crate::event::{Authorization, PolicyDocument, RequestContext, Upgrade};
use crate::ids::{RoomName, UserId};

/// How a stage learns who somebody is.
#[derive(Debug)]
pub enum Mode {
    /// Whoever says so: `?user=`.
    Open,
    /// By a token that the stage's owner signed, offered as the subprotocol `bearer.<jwt>`.
    Token { keys: Keys, audience: String },
}

/// Somebody, and what they may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub user: UserId,
    pub name: String,
    /// Seconds since 1970; without a token there is no end.
    pub expires: Option<u64>,
    pub grants: Grants,
}

/// The named rooms that somebody may join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grants {
    All,
    /// Names, or beginnings of names with a `*` after them.
    Only(Vec<String>),
}

/// Grants in one token: the gateway carries at most 8 KB of an authorizer's answer.
const GRANTS_MAX: usize = 64;

impl Grants {
    pub fn allow(&self, room: &RoomName) -> bool {
        match self {
            Self::All => true,
            Self::Only(patterns) => patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(beginning) => room.as_str().starts_with(beginning),
                None => room.as_str() == pattern,
            }),
        }
    }

    fn parse(patterns: Vec<String>) -> Option<Self> {
        let fits = |pattern: &String| {
            let name = pattern.strip_suffix('*').unwrap_or(pattern);
            RoomName::parse(name).is_some() || pattern == "*"
        };
        (patterns.len() <= GRANTS_MAX && patterns.iter().all(fits)).then_some(Self::Only(patterns))
    }
}

/// Pages that may connect. Only browsers say which page they are on, so this guards against foreign pages that use a
/// visitor's standing, not against programs.
#[derive(Debug)]
pub enum Origins {
    All,
    Only(Vec<String>),
}

impl Origins {
    pub fn parse(list: &str) -> Self {
        let origins: Vec<String> =
            list.split(',').map(str::trim).filter(|origin| !origin.is_empty()).map(str::to_owned).collect();
        if origins.iter().any(|origin| origin == "*") { Self::All } else { Self::Only(origins) }
    }

    fn allow(&self, offered: &[&str]) -> bool {
        match (self, offered) {
            (Self::All, _) => true,
            (Self::Only(origins), [one]) => origins.iter().any(|origin| origin.eq_ignore_ascii_case(one)),
            (Self::Only(_), _) => false,
        }
    }
}

/// Why somebody may not connect. For the log: clients learn only that they may not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("the origin is not on the allow-list")]
    Origin,
    #[error("there is no user id in the query, or not a valid one")]
    User,
    #[error("there is no `bearer.` subprotocol, or more than one")]
    NoToken,
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Decides on an upgrade request.
///
/// # Errors
/// The reason why it is denied.
pub fn identify(event: &Upgrade, mode: &Mode, origins: &Origins, now_s: u64) -> Result<Identity, Denied> {
    if !origins.allow(&event.header("Origin")) {
        return Err(Denied::Origin);
    }
    match mode {
        Mode::Open => {
            let user = event.query("user").and_then(UserId::parse).ok_or(Denied::User)?;
            Ok(Identity { name: user.to_string(), user, expires: None, grants: Grants::All })
        }
        Mode::Token { keys, audience } => {
            let mut tokens = event.subprotocols().filter_map(|offer| offer.strip_prefix("bearer."));
            match (tokens.next(), tokens.next()) {
                (Some(token), None) => Ok(jwt::verify(token, keys, audience, now_s)?),
                _ => Err(Denied::NoToken),
            }
        }
    }
}

/// Names of the authorizer's own context keys.
mod context {
    pub(super) const NAME: &str = "name";
    pub(super) const EXPIRES: &str = "exp";
    pub(super) const ROOMS: &str = "rooms";
}

/// The authorizer's answer to the gateway. A refusal is a policy too: a failing authorizer would look like an outage.
pub fn authorization(outcome: Result<Identity, Denied>, method_arn: &str) -> Authorization {
    match outcome {
        Ok(identity) => {
            let mut values = std::collections::BTreeMap::new();
            values.insert(context::NAME, Value::from(identity.name));
            if let Some(expires) = identity.expires {
                values.insert(context::EXPIRES, Value::from(expires));
            }
            if let Grants::Only(patterns) = identity.grants {
                values.insert(context::ROOMS, Value::from(patterns.join(",")));
            }
            Authorization {
                principal_id: identity.user.to_string(),
                policy_document: PolicyDocument::invoke(true, method_arn),
                context: values,
            }
        }
        Err(_) => Authorization {
            principal_id: "nobody".to_owned(),
            policy_document: PolicyDocument::invoke(false, method_arn),
            context: std::collections::BTreeMap::new(),
        },
    }
}

/// The identity that the gateway carries; never anything that a client sent after connecting.
pub fn identity(context: &RequestContext) -> Option<Identity> {
    let user = UserId::parse(&context.authorized("principalId")?)?;
    // What cannot be read must not live for ever.
    let expires = context.authorized(context::EXPIRES).map(|text| text.parse().unwrap_or(0));
    let grants = match context.authorized(context::ROOMS) {
        Some(list) => Grants::Only(list.split(',').filter(|p| !p.is_empty()).map(str::to_owned).collect()),
        None => Grants::All,
    };
    let name = context.authorized(context::NAME).unwrap_or_else(|| user.to_string());
    Some(Identity { user, name, expires, grants })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn upgrade(query: Value, headers: Value) -> Upgrade {
        serde_json::from_value(json!({
            "type": "REQUEST", "methodArn": "arn:m", "queryStringParameters": query, "headers": headers,
            "requestContext": {},
        }))
        .unwrap()
    }

    fn open(query: Value, headers: Value, origins: &str) -> Result<Identity, Denied> {
        identify(&upgrade(query, headers), &Mode::Open, &Origins::parse(origins), 0)
    }

    #[test]
    fn open_takes_the_name_and_nothing_that_could_be_a_key() {
        assert_eq!(open(json!({"user": "alice"}), json!({}), "*").unwrap().user.as_str(), "alice");
        for bad in
            [json!(null), json!({}), json!({"user": ""}), json!({"user": "a#b"}), json!({"user": "@a,b"})]
        {
            assert_eq!(open(bad, json!({}), "*"), Err(Denied::User));
        }
    }

    #[test]
    fn only_listed_origins_connect() {
        let list = "https://chat.example.com, http://127.0.0.1:4621";
        let from = |origin: &str| open(json!({"user": "a"}), json!({"origin": origin}), list);
        assert!(from("http://127.0.0.1:4621").is_ok());
        assert!(from("https://chat.example.com").is_ok());
        for bad in [
            "https://evil.example",
            "https://chat.example.com.evil.example",
            "null",
            "http://chat.example.com",
        ] {
            assert_eq!(from(bad), Err(Denied::Origin), "{bad}");
        }
        assert_eq!(open(json!({"user": "a"}), json!({}), list), Err(Denied::Origin));
        assert!(open(json!({"user": "a"}), json!({}), "*").is_ok());
        assert_eq!(open(json!({"user": "a"}), json!({"Origin": "x"}), ""), Err(Denied::Origin));
    }

    #[test]
    fn what_the_authorizer_says_comes_back_whole() {
        let identity_ = Identity {
            user: UserId::parse("alice").unwrap(),
            name: "Alice, of course".into(),
            expires: Some(1_700_000_000),
            grants: Grants::Only(vec!["r1".into(), "team-*".into()]),
        };
        for said in [
            identity_.clone(),
            Identity { expires: None, grants: Grants::All, ..identity_.clone() },
            Identity { grants: Grants::Only(vec![]), ..identity_ },
        ] {
            let answer = serde_json::to_value(authorization(Ok(said.clone()), "arn:m")).unwrap();
            assert_eq!(answer["policyDocument"]["Statement"][0]["Effect"], "Allow");
            // As the gateway does it: the context's keys beside principalId, everything as text.
            let mut authorizer = json!({"principalId": answer["principalId"]});
            for (key, value) in answer["context"].as_object().unwrap() {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                authorizer[key] = Value::from(text);
            }
            let context: RequestContext = serde_json::from_value(json!({"authorizer": authorizer})).unwrap();
            assert_eq!(identity(&context), Some(said));
        }
    }

    #[test]
    fn a_refusal_allows_nothing_and_tells_nothing() {
        let answer = serde_json::to_value(authorization(Err(Denied::Origin), "arn:m")).unwrap();
        assert_eq!(answer["policyDocument"]["Statement"][0]["Effect"], "Deny");
        assert!(answer.get("context").is_none());
    }

    #[test]
    fn an_expiry_that_cannot_be_read_has_passed() {
        let context = json!({"authorizer": {"principalId": "alice", "exp": "soon"}});
        let context: RequestContext = serde_json::from_value(context).unwrap();
        assert_eq!(identity(&context).unwrap().expires, Some(0));
    }

    #[test]
    fn grants_match_whole_names_and_beginnings() {
        let grants = Grants::parse(vec!["r1".into(), "team-*".into()]).unwrap();
        for (room, allowed) in [("r1", true), ("r10", false), ("team-a", true), ("team", false), ("x", false)]
        {
            assert_eq!(grants.allow(&RoomName::parse(room).unwrap()), allowed, "{room}");
        }
        assert_eq!(Grants::parse(vec!["a,b".into()]), None);
        assert_eq!(Grants::parse(vec!["a".into(); GRANTS_MAX + 1]), None);
        assert!(Grants::parse(vec!["*".into()]).unwrap().allow(&RoomName::parse("any").unwrap()));
    }
}
