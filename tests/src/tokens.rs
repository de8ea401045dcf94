//! Signs tokens as an owner of a stage does, and forges them as others try to.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

/// Key id of the tests' own key.
pub const KID: &str = "test-key";

/// An owner's key pair.
pub struct Signer {
    pair: Ed25519KeyPair,
}

impl Default for Signer {
    fn default() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("no randomness");
        Self { pair: Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a fresh key is a key") }
    }
}

impl Signer {
    /// The public half as settings have it.
    pub fn public(&self) -> String {
        BASE64.encode(self.pair.public_key().as_ref())
    }

    /// A token that is good.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with_header(&json!({"alg": "EdDSA", "typ": "JWT", "kid": KID}), claims)
    }

    /// The right signature under any header.
    pub fn sign_with_header(&self, header: &Value, claims: &Value) -> String {
        let unsigned = unsigned(header, claims);
        let signature = self.pair.sign(unsigned.as_bytes());
        format!("{unsigned}.{}", BASE64.encode(signature))
    }

    /// Signed with the public key as if it were a shared secret: what a verifier takes that lets the token choose.
    pub fn confuse(&self, claims: &Value) -> String {
        let unsigned = unsigned(&json!({"alg": "HS256", "typ": "JWT", "kid": KID}), claims);
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.pair.public_key().as_ref());
        format!("{unsigned}.{}", BASE64.encode(hmac::sign(&key, unsigned.as_bytes())))
    }
}

/// No signature at all.
pub fn unsecured(claims: &Value) -> String {
    format!("{}.", unsigned(&json!({"alg": "none", "typ": "JWT", "kid": KID}), claims))
}

/// Claims for a user, good for `seconds` from now, which may be negative.
pub fn claims(user: &str, seconds: i64) -> Value {
    let now = crate::now_ms() as i64 / 1000;
    json!({"sub": user, "iat": now, "exp": now + seconds})
}

fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()))
}
