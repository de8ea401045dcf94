//! Verification of AWS Signature Version 4, in headers and in presigned URLs.

mod canonical;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use ring::{digest, hmac};

use self::canonical::canonical_request;
pub(crate) use self::canonical::{percent_decode, push_encoded};
use crate::call::Principal;
use crate::iam::{Iam, IdentifyError};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Keys derived for more scopes than this are forgotten and derived again.
const CACHED_KEYS: usize = 4096;

/// What a request says about who signed it. Nothing of it is true before [`Verifier::verify`].
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    /// `AKID/20260101/us-east-1/dynamodb/aws4_request`.
    credential: Cow<'a, str>,
    signed_headers: Cow<'a, str>,
    signature: Cow<'a, str>,
    /// `20260101T000000Z`.
    timestamp: Cow<'a, str>,
    session_token: Option<Cow<'a, str>>,
    /// Only in presigned URLs.
    expires: Option<i64>,
}

/// Why a request is not believed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SignatureError {
    Missing,
    /// Parts are missing or malformed; says which.
    Incomplete(String),
    UnknownKey,
    InvalidToken,
    ExpiredToken,
    Mismatch,
    /// Signed too long ago or in the future; says when and what time it is here.
    Skewed(String),
}

impl<'a> Claim<'a> {
    /// Takes the claim from the `Authorization` header, or else from the query.
    pub(crate) fn of(parts: &'a Parts) -> Result<Self, SignatureError> {
        match parts.headers.get(AUTHORIZATION) {
            Some(value) => {
                let text = value.to_str().map_err(|_| incomplete("Authorization header is not ASCII."))?;
                Self::in_header(text, &parts.headers)
            }
            None => Self::in_query(parts.uri.query().unwrap_or_default()),
        }
    }

    fn in_header(text: &'a str, headers: &'a HeaderMap) -> Result<Self, SignatureError> {
        let Some(fields) = text.strip_prefix(ALGORITHM) else {
            return Err(incomplete(&format!("Unsupported AWS 'algorithm': only {ALGORITHM} is.")));
        };
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in fields.split(',') {
            match field.trim().split_once('=') {
                Some(("Credential", value)) => credential = Some(value),
                Some(("SignedHeaders", value)) => signed_headers = Some(value),
                Some(("Signature", value)) => signature = Some(value),
                _ => {}
            }
        }
        let required = |value: Option<&'a str>, name: &str| {
            value.map(Cow::Borrowed).ok_or_else(|| {
                incomplete(&format!("Authorization header requires '{name}' parameter. Authorization={text}"))
            })
        };
        Ok(Self {
            credential: required(credential, "Credential")?,
            signed_headers: required(signed_headers, "SignedHeaders")?,
            signature: required(signature, "Signature")?,
            timestamp: header(headers, "x-amz-date").map(Cow::Borrowed).ok_or_else(|| {
                incomplete(
                    "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
                )
            })?,
            session_token: header(headers, "x-amz-security-token").map(Cow::Borrowed),
            expires: None,
        })
    }

    fn in_query(query: &'a str) -> Result<Self, SignatureError> {
        let fields: HashMap<&str, Cow<'a, str>> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .filter(|(name, _)| name.starts_with("X-Amz-"))
            .map(|(name, value)| (name, percent_decode(value)))
            .collect();
        if fields.get("X-Amz-Algorithm").is_none_or(|algorithm| algorithm != ALGORITHM) {
            return Err(SignatureError::Missing);
        }
        let required = |name: &str| {
            fields
                .get(name)
                .cloned()
                .ok_or_else(|| incomplete(&format!("Query requires '{name}' parameter.")))
        };
        let expires = required("X-Amz-Expires")?;
        Ok(Self {
            credential: required("X-Amz-Credential")?,
            signed_headers: required("X-Amz-SignedHeaders")?,
            signature: required("X-Amz-Signature")?,
            timestamp: required("X-Amz-Date")?,
            session_token: fields.get("X-Amz-Security-Token").cloned(),
            // AWS allows at most a week.
            expires: Some(
                expires
                    .parse()
                    .ok()
                    .filter(|seconds| (1..=604_800).contains(seconds))
                    .ok_or_else(|| incomplete("X-Amz-Expires must be from 1 to 604800."))?,
            ),
        })
    }

    /// The service in the credential scope: which service is meant.
    pub(crate) fn service(&self) -> &str {
        self.credential.split('/').rev().nth(1).unwrap_or_default()
    }
}

/// Verifies claims. Remembers signing keys, since deriving one costs more than all the rest.
pub(crate) struct Verifier {
    allowed_skew_s: i64,
    keys: RwLock<HashMap<String, hmac::Key>>,
}

impl Verifier {
    pub(crate) fn new(allowed_skew: Duration) -> Self {
        Self {
            allowed_skew_s: i64::try_from(allowed_skew.as_secs()).unwrap_or(i64::MAX),
            keys: RwLock::default(),
        }
    }

    /// `now_s` is the time here in seconds since the epoch.
    pub(crate) fn verify(
        &self,
        claim: &Claim<'_>,
        parts: &Parts,
        body: &[u8],
        iam: &Iam,
        now_s: i64,
    ) -> Result<Principal, SignatureError> {
        let scope = Scope::of(&claim.credential)?;
        let signed_s = parse_timestamp(&claim.timestamp)
            .filter(|_| claim.timestamp.starts_with(scope.date))
            .ok_or_else(|| incomplete("Date in Credential scope does not match YYYYMMDD of X-Amz-Date."))?;
        let identity = iam.identify(scope.access_key, claim.session_token.as_deref(), now_s).map_err(
            |error| match error {
                IdentifyError::UnknownKey => SignatureError::UnknownKey,
                IdentifyError::InvalidToken => SignatureError::InvalidToken,
                IdentifyError::ExpiredToken => SignatureError::ExpiredToken,
            },
        )?;

        if !claim.signed_headers.split(';').any(|name| name == "host") {
            return Err(incomplete("'Host' must be a 'SignedHeader' in the AWS Authorization."));
        }
        let request = canonical_request(claim, parts, body);
        let mut to_sign = String::with_capacity(192);
        let _ = write!(
            to_sign,
            "{ALGORITHM}\n{}\n{}\n{}",
            claim.timestamp,
            scope.text,
            hex::encode(digest::digest(&digest::SHA256, request.as_bytes()))
        );
        let signature = hex::decode(claim.signature.as_bytes()).map_err(|_| SignatureError::Mismatch)?;
        let cached =
            self.keys.read().unwrap_or_else(PoisonError::into_inner).get(&*claim.credential).cloned();
        let known = cached.is_some();
        let key = cached.unwrap_or_else(|| scope.signing_key(&identity.secret_access_key));
        hmac::verify(&key, to_sign.as_bytes(), &signature).map_err(|_| SignatureError::Mismatch)?;
        if !known {
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            if keys.len() >= CACHED_KEYS {
                keys.clear();
            }
            keys.insert(claim.credential.clone().into_owned(), key);
        }
        // After the signature, so that only those who know the secret learn about the clock.
        self.check_time(claim, signed_s, now_s)?;
        Ok(identity.principal.clone())
    }

    fn check_time(&self, claim: &Claim<'_>, signed_s: i64, now_s: i64) -> Result<(), SignatureError> {
        let skew_s = self.allowed_skew_s;
        let minutes = skew_s / 60;
        if signed_s > now_s + skew_s {
            return Err(SignatureError::Skewed(format!(
                "Signature not yet current: {} is still later than {} ({} + {minutes} min.)",
                claim.timestamp,
                format_timestamp(now_s + skew_s),
                format_timestamp(now_s),
            )));
        }
        let valid_s = claim.expires.unwrap_or(skew_s);
        if signed_s < now_s - valid_s {
            return Err(SignatureError::Skewed(format!(
                "Signature expired: {} is now earlier than {} ({} - {} min.)",
                claim.timestamp,
                format_timestamp(now_s - valid_s),
                format_timestamp(now_s),
                valid_s / 60,
            )));
        }
        Ok(())
    }
}

struct Scope<'a> {
    access_key: &'a str,
    /// All after the access key.
    text: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
}

impl<'a> Scope<'a> {
    fn of(credential: &'a str) -> Result<Self, SignatureError> {
        let malformed = || {
            incomplete(&format!(
                "Credential must have at least 5 slash-delimited elements (date, region, service, aws4_request), got \
                 '{credential}'."
            ))
        };
        let (access_key, text) = credential.split_once('/').ok_or_else(malformed)?;
        let mut fields = text.split('/');
        match (fields.next(), fields.next(), fields.next(), fields.next(), fields.next()) {
            (Some(date), Some(region), Some(service), Some("aws4_request"), None) if date.len() == 8 => {
                Ok(Self { access_key, text, date, region, service })
            }
            _ => Err(malformed()),
        }
    }

    fn signing_key(&self, secret: &str) -> hmac::Key {
        let mut key = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret}").as_bytes());
        for part in [self.date, self.region, self.service, "aws4_request"] {
            key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
        }
        key
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn incomplete(message: &str) -> SignatureError {
    SignatureError::Incomplete(message.to_owned())
}

/// Seconds since the epoch of `20260101T000000Z`.
fn parse_timestamp(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i16>().ok();
    let narrow = |from, to| i8::try_from(number(from, to)?).ok();
    jiff::civil::DateTime::new(
        number(0, 4)?,
        narrow(4, 6)?,
        narrow(6, 8)?,
        narrow(9, 11)?,
        narrow(11, 13)?,
        narrow(13, 15)?,
        0,
    )
    .ok()
    .and_then(|time| jiff::tz::Offset::UTC.to_timestamp(time).ok())
    .map(|time| time.as_second())
}

fn format_timestamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map(|time| time.strftime("%Y%m%dT%H%M%SZ").to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
