//! Credentials: those of sessions prove themselves, so that nothing has to be kept for them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::model::Role;
use super::{Iam, OWNER_KEY, OWNER_SECRET};
use crate::call::Principal;
use crate::error::AwsError;
use crate::store::Store;

const MASTER_KEY: &str = "iam-master-key";
/// Sessions remembered after their token was verified.
const CACHED_SESSIONS: usize = 4096;

/// Credentials of a session, as a function finds them in its environment.
#[derive(Clone, Debug)]
pub(crate) struct SessionCredentials {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) session_token: String,
    pub(crate) principal: Principal,
}

/// Who an access key belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) principal: Principal,
    pub(crate) secret_access_key: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdentifyError {
    UnknownKey,
    InvalidToken,
    ExpiredToken,
}

/// What a session token says, under a MAC that only this cloud can make.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Token {
    key: String,
    role: String,
    /// Sessions of a role end with it, even if another takes its name.
    role_id: String,
    session: String,
    expires_s: Option<i64>,
}

/// Makes and reads session credentials.
pub(super) struct Issuer {
    key: hmac::Key,
    sessions: RwLock<HashMap<String, Arc<Session>>>,
}

struct Session {
    token_text: String,
    token: Token,
    identity: Identity,
}

impl Issuer {
    /// The key is kept, so that sessions outlive a restart.
    pub(super) fn open(store: &Store) -> Result<Self, AwsError> {
        let bytes = match store.get_blob(MASTER_KEY, "")? {
            Some(bytes) => bytes.to_vec(),
            None => {
                let mut bytes = vec![0; 32];
                fill_random(&mut bytes)?;
                store.put_blob(MASTER_KEY, "", &bytes)?;
                bytes
            }
        };
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), sessions: RwLock::default() })
    }

    pub(super) fn issue(&self, role: &Role, session: &str, expires_s: Option<i64>) -> SessionCredentials {
        let access_key_id = random_id("ASIA", 16);
        let token = Token {
            key: access_key_id.clone(),
            role: role.name.clone(),
            role_id: role.id.clone(),
            session: session.to_owned(),
            expires_s,
        };
        let text = serde_json::to_vec(&token).unwrap_or_default();
        let mac = hmac::sign(&self.key, &text);
        SessionCredentials {
            secret_access_key: self.secret_of(&access_key_id),
            session_token: format!("{}.{}", URL_SAFE_NO_PAD.encode(text), URL_SAFE_NO_PAD.encode(mac)),
            principal: Principal::Role { role_name: role.name.clone(), session: session.to_owned() },
            access_key_id,
        }
    }

    fn secret_of(&self, access_key_id: &str) -> String {
        let mac = hmac::sign(&self.key, format!("secret of {access_key_id}").as_bytes());
        STANDARD.encode(&mac.as_ref()[..30])
    }

    fn session(&self, access_key_id: &str, token_text: &str) -> Result<Arc<Session>, IdentifyError> {
        let known = self.sessions.read().unwrap_or_else(PoisonError::into_inner).get(access_key_id).cloned();
        if let Some(session) = known.filter(|session| session.token_text == token_text) {
            return Ok(session);
        }
        let token = self.read_token(token_text).ok_or(IdentifyError::InvalidToken)?;
        if token.key != access_key_id {
            return Err(IdentifyError::InvalidToken);
        }
        let identity = Identity {
            principal: Principal::Role { role_name: token.role.clone(), session: token.session.clone() },
            secret_access_key: self.secret_of(access_key_id).into(),
        };
        let session = Arc::new(Session { token_text: token_text.to_owned(), token, identity });
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= CACHED_SESSIONS {
            sessions.clear();
        }
        sessions.insert(access_key_id.to_owned(), session.clone());
        Ok(session)
    }

    fn read_token(&self, text: &str) -> Option<Token> {
        let (body, mac) = text.split_once('.')?;
        let body = URL_SAFE_NO_PAD.decode(body).ok()?;
        hmac::verify(&self.key, &body, &URL_SAFE_NO_PAD.decode(mac).ok()?).ok()?;
        serde_json::from_slice(&body).ok()
    }
}

impl Iam {
    /// Finds the owner of an access key, with the session token that a request with it carries.
    pub(crate) fn identify(
        &self,
        access_key_id: &str,
        session_token: Option<&str>,
        now_s: i64,
    ) -> Result<Identity, IdentifyError> {
        if let Some(token) = session_token {
            let session = self.issuer.session(access_key_id, token)?;
            if session.token.expires_s.is_some_and(|expires_s| expires_s <= now_s) {
                return Err(IdentifyError::ExpiredToken);
            }
            let same = |role: &Arc<Role>| role.id == session.token.role_id;
            return if self.read().roles.get(&session.token.role).is_some_and(same) {
                Ok(session.identity.clone())
            } else {
                Err(IdentifyError::InvalidToken)
            };
        }
        if access_key_id == OWNER_KEY {
            return Ok(Identity { principal: Principal::Owner, secret_access_key: OWNER_SECRET.into() });
        }
        let state = self.read();
        let mut keys = state.users.values().flat_map(|user| user.keys.iter().map(move |key| (user, key)));
        let (user, key) = keys.find(|(_, key)| key.id == access_key_id).ok_or(IdentifyError::UnknownKey)?;
        Ok(Identity {
            principal: Principal::User { user_name: user.name.clone() },
            secret_access_key: key.secret.as_str().into(),
        })
    }
}

/// A prefix and characters of the alphabet that ids of AWS have.
pub(super) fn random_id(prefix: &str, length: usize) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut bytes = vec![0u8; length];
    // Without randomness from the system ids would still be unique: UUIDs have their own source.
    if getrandom::fill(&mut bytes).is_err() {
        bytes = uuid::Uuid::new_v4().as_bytes().iter().copied().cycle().take(length).collect();
    }
    let characters = bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    prefix.chars().chain(characters).collect()
}

pub(super) fn random_secret() -> Result<String, AwsError> {
    let mut bytes = [0; 30];
    fill_random(&mut bytes)?;
    Ok(STANDARD.encode(bytes))
}

fn fill_random(bytes: &mut [u8]) -> Result<(), AwsError> {
    getrandom::fill(bytes)
        .map_err(|error| AwsError::internal(format!("the system gives no randomness: {error}")))
}
