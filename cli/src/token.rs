//! Signing keys and tokens of stages with `auth.mode: token`. The private key stays in `.chatctl/keys/`; the stack gets
//! the public half.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chat_stacks::StageName;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::Serialize;

use crate::error::{CliError, Result};
use crate::project::Project;

/// An Ed25519 key pair of one stage.
pub(crate) struct SigningKey {
    pair: Ed25519KeyPair,
    /// Whether this call made it.
    pub(crate) made_now: bool,
}

impl SigningKey {
    /// The stage's key pair, if it is here.
    pub(crate) fn existing(project: &Project, stage: &StageName) -> Result<Option<Self>> {
        if !project.state("keys").join(format!("{stage}.pk8")).exists() {
            return Ok(None);
        }
        Self::of_stage(project, stage).map(Some)
    }

    /// Reads the stage's key pair, or makes it on first use.
    pub(crate) fn of_stage(project: &Project, stage: &StageName) -> Result<Self> {
        let dir = project.state("keys");
        project.state_dir()?;
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(project.unwritable(&e)),
        }
        let path = dir.join(format!("{stage}.pk8"));
        let short = Project::short(&path);
        let broken = |why: String| {
            CliError::failed("key_unreadable", format!("failed to read the signing key {short}: {why}")).help(
                "restore it, or remove it to have a new one made: tokens signed so far stop working then",
            )
        };

        let fresh = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| CliError::failed("no_randomness", "failed to get randomness for a new key"))?;
        // `create_new` decides a race between two first uses; mode 0600 holds from the first moment on.
        let made_now = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                file.write_all(fresh.as_ref()).map_err(|e| project.unwritable(&e))?;
                true
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
            Err(e) => return Err(project.unwritable(&e)),
        };
        let mode = fs::metadata(&path).map_err(|e| broken(e.to_string()))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(CliError::refused(
                "key_exposed",
                format!("the signing key {short} is readable by others"),
            )
            .help(format!("take that away and consider it known: chmod 600 {short}")));
        }
        let bytes = fs::read(&path).map_err(|e| broken(e.to_string()))?;
        let pair = Ed25519KeyPair::from_pkcs8(&bytes).map_err(|e| broken(e.to_string()))?;
        Ok(Self { pair, made_now })
    }

    /// Names the key in tokens and in the handlers' environment: the start of the public key's SHA-256, in hex.
    pub(crate) fn kid(&self) -> String {
        let hash = digest(&SHA256, self.pair.public_key().as_ref());
        hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The raw public key, base64url.
    pub(crate) fn public(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref())
    }

    /// A signed JWT.
    pub(crate) fn sign(&self, claims: &Claims) -> Result<String> {
        let header = serde_json::json!({ "alg": "EdDSA", "typ": "JWT", "kid": self.kid() });
        let claims = serde_json::to_vec(claims).map_err(|e| {
            CliError::failed("token_not_made", "failed to write the token's claims").because(&e)
        })?;
        let unsigned =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(unsigned.as_bytes());
        Ok(format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }
}

/// What a token says, as the `connect` handler reads it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Claims {
    /// The user's id.
    pub(crate) sub: String,
    /// The name others see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Rooms it is good for; none means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) rooms: Vec<String>,
    /// Seconds since 1970.
    pub(crate) iat: i64,
    pub(crate) exp: i64,
}

/// Whom a token names, if it is one. Whether it is valid is for the stage to say.
pub(crate) fn subject(token: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    claims["sub"].as_str().map(str::to_owned)
}
