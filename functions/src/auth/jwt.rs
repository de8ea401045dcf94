//! JSON Web Tokens, as far as a chat needs them: Ed25519 and nothing else. The algorithm is the key's, never the
//! token's choice, so `none` and the confusion of public keys with shared secrets have no way in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ED25519, ED25519_PUBLIC_KEY_LEN, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::Value;

use super::{Grants, Identity};
use crate::ids::{FrameId, UserId};

/// Longest token that is looked at; API Gateway's headers end at about this size.
const TOKEN_MAX_BYTES: usize = 8 * 1024;
/// Longest display name, in characters.
const NAME_MAX_CHARS: usize = 64;
/// How far the clocks of signer and verifier may be apart, in seconds. An expiry has no leeway.
const SKEW_S: u64 = 60;

/// The public keys of a stage, by `kid`.
#[derive(Debug)]
pub struct Keys(Vec<(String, UnparsedPublicKey<[u8; ED25519_PUBLIC_KEY_LEN]>)>);

impl Keys {
    /// Reads `kid=base64url` pairs, separated by commas.
    ///
    /// # Errors
    /// What would have been readable.
    pub fn parse(list: &str) -> Result<Self, String> {
        let wanted =
            || "`kid=base64url` pairs of raw Ed25519 public keys are wanted, separated by commas".to_owned();
        let mut keys: Vec<(String, _)> = Vec::new();
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (kid, key) = entry.split_once('=').ok_or_else(wanted)?;
            let bytes = URL_SAFE_NO_PAD.decode(key.trim_end_matches('=')).map_err(|_| wanted())?;
            let bytes: [u8; ED25519_PUBLIC_KEY_LEN] = bytes.try_into().map_err(|_| wanted())?;
            if FrameId::parse(kid).is_none() || keys.iter().any(|(known, _)| known == kid) {
                return Err(format!("the key id {kid:?} is malformed or named twice"));
            }
            keys.push((kid.to_owned(), UnparsedPublicKey::new(&ED25519, bytes)));
        }
        if keys.is_empty() { Err(wanted()) } else { Ok(Self(keys)) }
    }

    fn get(&self, kid: &str) -> Option<&UnparsedPublicKey<[u8; ED25519_PUBLIC_KEY_LEN]>> {
        self.0.iter().find(|(known, _)| known == kid).map(|(_, key)| key)
    }
}

/// Why a token is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    #[error("the token's algorithm is not EdDSA")]
    Algorithm,
    #[error("the token names no key of this stage")]
    UnknownKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("the token is for another audience")]
    Audience,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood; none are.
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    nbf: Option<u64>,
    iat: Option<u64>,
    aud: Option<Audience>,
    name: Option<String>,
    rooms: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Any(Vec<String>),
}

impl Audience {
    fn has(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Any(some) => some.iter().any(|one| one == audience),
        }
    }
}

/// Checks a token and reads who it is for. Claims are looked at only after the signature.
pub(super) fn verify(token: &str, keys: &Keys, audience: &str, now_s: u64) -> Result<Identity, TokenError> {
    use TokenError::Malformed;
    if token.len() > TOKEN_MAX_BYTES {
        return Err(Malformed("too long"));
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Malformed("not three parts"))?;
    let (header, claims) = signed.split_once('.').ok_or(Malformed("not three parts"))?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Malformed("not base64url"));

    let header: Header =
        serde_json::from_slice(&decode(header)?).map_err(|_| Malformed("the header is not readable"))?;
    if header.alg != "EdDSA" {
        return Err(TokenError::Algorithm);
    }
    if header.crit.is_some() {
        return Err(Malformed("it has critical extensions"));
    }
    let key = header.kid.as_deref().and_then(|kid| keys.get(kid)).ok_or(TokenError::UnknownKey)?;
    key.verify(signed.as_bytes(), &decode(signature)?).map_err(|_| TokenError::Signature)?;

    let claims: Claims =
        serde_json::from_slice(&decode(claims)?).map_err(|_| Malformed("the claims are not readable"))?;
    if claims.exp <= now_s {
        return Err(TokenError::Expired);
    }
    if claims.nbf.into_iter().chain(claims.iat).any(|from| from > now_s.saturating_add(SKEW_S)) {
        return Err(TokenError::NotYet);
    }
    if claims.aud.is_some_and(|aud| !aud.has(audience)) {
        return Err(TokenError::Audience);
    }
    let user = UserId::parse(&claims.sub).ok_or(Malformed("`sub` is not a user id"))?;
    let name = claims.name.unwrap_or_else(|| claims.sub.clone());
    if name.chars().count() > NAME_MAX_CHARS || name.chars().any(char::is_control) {
        return Err(Malformed("`name` is too long or has control characters"));
    }
    let grants = match claims.rooms {
        Some(patterns) => Grants::parse(patterns).ok_or(Malformed("`rooms` is not a list of rooms"))?,
        None => Grants::All,
    };
    Ok(Identity { user, name, expires: Some(claims.exp), grants })
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair};
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn pair(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    fn keys() -> Keys {
        let key = |seed| URL_SAFE_NO_PAD.encode(pair(seed).public_key().as_ref());
        Keys::parse(&format!("k1={}, k2={}=", key(1), key(2))).unwrap()
    }

    fn signed(header: &Value, claims: &Value, seed: u8) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = pair(seed).sign(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    fn check(token: &str) -> Result<Identity, TokenError> {
        verify(token, &keys(), "chat-prod", NOW)
    }

    fn header() -> Value {
        json!({"alg": "EdDSA", "typ": "JWT", "kid": "k1"})
    }

    fn with(field: &str, value: Value) -> Result<Identity, TokenError> {
        let mut claims = json!({"sub": "alice", "exp": NOW + 60});
        claims[field] = value;
        check(&signed(&header(), &claims, 1))
    }

    #[test]
    fn a_good_token_says_who_and_what() {
        let claims = json!({
            "sub": "alice", "name": "Alice", "exp": NOW + 1, "iat": NOW, "nbf": NOW,
            "aud": "chat-prod", "rooms": ["r1"], "jti": "ignored",
        });
        let identity = check(&signed(&header(), &claims, 1)).unwrap();
        assert_eq!((identity.user.as_str(), identity.name.as_str()), ("alice", "Alice"));
        assert_eq!((identity.expires, identity.grants), (Some(NOW + 1), Grants::Only(vec!["r1".into()])));
        assert!(check(&signed(&json!({"alg": "EdDSA", "kid": "k2"}), &claims, 2)).is_ok());
    }

    #[test]
    fn algorithms_other_than_the_keys_are_refused() {
        let claims = json!({"sub": "alice", "exp": NOW + 60});
        for alg in ["none", "None", "", "HS256", "RS256", "ES256", "Ed25519", "eddsa"] {
            let mut header = header();
            header["alg"] = alg.into();
            assert_eq!(check(&signed(&header, &claims, 1)), Err(TokenError::Algorithm), "{alg}");
        }
        // Unsigned, as `none` would have it.
        let token = signed(&json!({"alg": "none", "kid": "k1"}), &claims, 1);
        let unsigned = token.rsplit_once('.').unwrap().0.to_owned() + ".";
        assert_eq!(check(&unsigned), Err(TokenError::Algorithm));
        // With the public key as a shared secret.
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(json!({"alg": "HS256", "kid": "k1"})), part(claims));
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, pair(1).public_key().as_ref());
        let tag = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&secret, message.as_bytes()));
        assert_eq!(check(&format!("{message}.{tag}")), Err(TokenError::Algorithm));
    }

    #[test]
    fn keys_are_named_and_theirs() {
        let claims = json!({"sub": "alice", "exp": NOW + 60});
        assert_eq!(check(&signed(&json!({"alg": "EdDSA"}), &claims, 1)), Err(TokenError::UnknownKey));
        assert_eq!(
            check(&signed(&json!({"alg": "EdDSA", "kid": "k3"}), &claims, 1)),
            Err(TokenError::UnknownKey)
        );
        assert_eq!(check(&signed(&header(), &claims, 2)), Err(TokenError::Signature));
        let crit = json!({"alg": "EdDSA", "kid": "k1", "crit": ["b64"], "b64": false});
        assert!(matches!(check(&signed(&crit, &claims, 1)), Err(TokenError::Malformed(_))));
    }

    #[test]
    fn a_changed_token_is_refused() {
        let token = signed(&header(), &json!({"sub": "alice", "exp": NOW + 60}), 1);
        let other = signed(&header(), &json!({"sub": "mallory", "exp": NOW + 60}), 1);
        let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
        let (a, b) = (parts(&token), parts(&other));
        assert_eq!(check(&format!("{}.{}.{}", a[0], b[1], a[2])), Err(TokenError::Signature));
        for end in 0..token.len() {
            assert!(check(&token[..end]).is_err());
        }
        for bad in ["", ".", "..", "...", "a.b.c", "é.é.é", &"a".repeat(9_000), &format!("{token}.")] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_kept() {
        assert_eq!(with("exp", json!(NOW)), Err(TokenError::Expired));
        assert_eq!(with("exp", json!(NOW - 1)), Err(TokenError::Expired));
        assert!(with("exp", json!(NOW + 1)).is_ok());
        assert!(matches!(with("exp", Value::Null), Err(TokenError::Malformed(_))));
        assert!(matches!(with("exp", json!("2030")), Err(TokenError::Malformed(_))));
        assert!(matches!(with("exp", json!(-1)), Err(TokenError::Malformed(_))));
        assert!(with("nbf", json!(NOW + SKEW_S)).is_ok());
        assert_eq!(with("nbf", json!(NOW + SKEW_S + 1)), Err(TokenError::NotYet));
        assert_eq!(with("iat", json!(u64::MAX)), Err(TokenError::NotYet));
    }

    #[test]
    fn claims_are_what_they_must_be() {
        assert_eq!(with("aud", json!("chat-dev")), Err(TokenError::Audience));
        assert_eq!(with("aud", json!([])), Err(TokenError::Audience));
        assert!(with("aud", json!(["other", "chat-prod"])).is_ok());
        for (field, value) in [
            ("sub", json!("a#b")),
            ("sub", json!(7)),
            ("name", json!("x".repeat(65))),
            ("name", json!("a\nb")),
            ("rooms", json!("r1")),
            ("rooms", json!(["r 1"])),
        ] {
            assert!(matches!(with(field, value.clone()), Err(TokenError::Malformed(_))), "{field}: {value}");
        }
    }

    #[test]
    fn key_lists_are_read_strictly() {
        let key = URL_SAFE_NO_PAD.encode([7; 32]);
        for bad in
            ["", "k1", "=", "k1=", "k1=AAAA", "k 1=x", &format!("k1={key},k1={key}"), &format!("={key}")]
        {
            assert!(Keys::parse(bad).is_err(), "{bad:?} was taken");
        }
        assert!(Keys::parse(&format!("k1={key},k2={key}")).is_ok());
    }
}
