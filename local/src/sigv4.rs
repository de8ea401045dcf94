//! Verification of AWS Signature Version 4, in headers and in presigned URLs.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use ring::{digest, hmac};

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

fn canonical_request(claim: &Claim<'_>, parts: &Parts, body: &[u8]) -> String {
    let mut text = String::with_capacity(768);
    text.push_str(parts.method.as_str());
    text.push('\n');
    push_canonical_path(&mut text, parts.uri.path());
    text.push('\n');
    push_canonical_query(&mut text, parts.uri.query().unwrap_or_default());
    text.push('\n');
    for name in claim.signed_headers.split(';') {
        text.push_str(name);
        text.push(':');
        for (index, value) in parts.headers.get_all(name).iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            push_collapsed(&mut text, &String::from_utf8_lossy(value.as_bytes()));
        }
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&claim.signed_headers);
    text.push('\n');
    // A caller may leave the body out of what it signs if it says so in a header that it does sign.
    if header(&parts.headers, "x-amz-content-sha256") == Some("UNSIGNED-PAYLOAD")
        && claim.signed_headers.split(';').any(|name| name == "x-amz-content-sha256")
    {
        text.push_str("UNSIGNED-PAYLOAD");
    } else {
        text.push_str(&hex::encode(digest::digest(&digest::SHA256, body)));
    }
    text
}

/// Every service but S3 normalises the path, and encodes again what is encoded on the wire.
fn push_canonical_path(text: &mut String, path: &str) {
    let plain = |byte: u8| is_unreserved(byte) || byte == b'/';
    if path.bytes().all(plain) && !path.contains("//") && !path.contains("/.") {
        text.push_str(path);
        return;
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    for segment in &segments {
        text.push('/');
        push_encoded(text, segment.as_bytes());
    }
    if segments.is_empty() || path.ends_with('/') {
        text.push('/');
    }
}

fn push_canonical_query(text: &mut String, query: &str) {
    if query.is_empty() {
        return;
    }
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(name, _)| *name != "X-Amz-Signature")
        .map(|(name, value)| (reencode(name), reencode(value)))
        .collect();
    pairs.sort();
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            text.push('&');
        }
        let _ = write!(text, "{name}={value}");
    }
}

/// Inner runs of spaces become one, outer ones go.
fn push_collapsed(text: &mut String, value: &str) {
    for (index, word) in value.split_ascii_whitespace().enumerate() {
        if index > 0 {
            text.push(' ');
        }
        text.push_str(word);
    }
}

fn reencode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    push_encoded(&mut encoded, &decode_bytes(text));
    encoded
}

pub(crate) fn push_encoded(text: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        if is_unreserved(byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Percent-decodes; what is not UTF-8 afterwards is replaced.
pub(crate) fn percent_decode(text: &str) -> Cow<'_, str> {
    match decode_bytes(text) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

fn decode_bytes(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped =
            (byte == b'%').then(|| tail.get(..2)).flatten().and_then(|digits| hex::decode(digits).ok());
        match escaped {
            Some(decoded) => {
                bytes.extend(decoded);
                rest = &tail[2..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    Cow::Owned(bytes)
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
mod tests {
    use http::Request;
    use http::request::Parts;

    use super::{Claim, SignatureError, Verifier, canonical_request, format_timestamp, parse_timestamp};
    use crate::call::Principal;
    use crate::context::Context;

    fn parts(request: http::request::Builder) -> Parts {
        request.body(()).unwrap().into_parts().0
    }

    fn claim_of(signed_headers: &str, parts: &Parts) -> String {
        let claim = Claim {
            credential: "a/20150830/us-east-1/service/aws4_request".into(),
            signed_headers: signed_headers.to_owned().into(),
            signature: "".into(),
            timestamp: "20150830T123600Z".into(),
            session_token: None,
            expires: None,
        };
        canonical_request(&claim, parts, b"")
    }

    #[test]
    fn paths_are_normalised_and_encoded_twice() {
        for (path, canonical) in [
            ("/", "/"),
            ("//a/./b/../c/", "/a/c/"),
            ("/api/prod/@connections/abc%3D", "/api/prod/%40connections/abc%253D"),
            ("/2015-03-31/functions/f%3Alive/invocations", "/2015-03-31/functions/f%253Alive/invocations"),
            ("/~._-", "/~._-"),
        ] {
            let text = claim_of("host", &parts(Request::get(path).header("host", "h")));
            assert_eq!(text.lines().nth(1), Some(canonical), "{path}");
        }
    }

    #[test]
    fn queries_are_sorted_and_encoded_once() {
        let text = claim_of("host", &parts(Request::get("/?b=2&a=%2f+x&a=%21&flag").header("host", "h")));
        assert_eq!(text.lines().nth(2), Some("a=%21&a=%2F%2Bx&b=2&flag="));
    }

    #[test]
    fn headers_are_trimmed_and_joined() {
        let request = Request::get("/").header("host", "h").header("my", "  a   b ").header("my", "c");
        let text = claim_of("host;my", &parts(request));
        assert!(text.contains("host:h\nmy:a b,c\n\nhost;my\n"), "{text}");
    }

    #[test]
    fn timestamps_survive_both_ways() {
        assert_eq!(parse_timestamp("20150830T123600Z"), Some(1_440_938_160));
        assert_eq!(format_timestamp(1_440_938_160), "20150830T123600Z");
        for wrong in ["", "20150830T123600", "20151330T123600Z", "2015083éT12360Z"] {
            assert_eq!(parse_timestamp(wrong), None, "{wrong}");
        }
    }

    // Signed with botocore 1.44 for the owner's key pair: an answer from outside.
    fn signed(signature: &str) -> Parts {
        let credential = "chatctl/20150830/us-east-1/iam/aws4_request";
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host;x-amz-date, Signature={signature}"
        );
        parts(
            Request::get("/?Action=ListUsers&Version=2010-05-08")
                .header("host", "iam.amazonaws.com")
                .header("x-amz-date", "20150830T123600Z")
                .header("authorization", authorization),
        )
    }

    const SIGNATURE: &str = "da6e8b00f7fec3cb31907ae7a207244e4a29745a8578cd1b20b23cb8e0452137";
    const SIGNED_S: i64 = 1_440_938_160;

    fn verify(parts: &Parts, body: &[u8], now_s: i64) -> Result<Principal, SignatureError> {
        let cx = Context::for_tests(crate::Settings::default());
        let verifier = Verifier::new(std::time::Duration::from_secs(300));
        let claim = Claim::of(parts)?;
        let first = verifier.verify(&claim, parts, body, &cx.iam, now_s);
        // The second time the signing key comes from the cache.
        assert_eq!(first, verifier.verify(&claim, parts, body, &cx.iam, now_s));
        first
    }

    #[test]
    fn the_signature_of_another_implementation_is_accepted() {
        assert_eq!(verify(&signed(SIGNATURE), b"", SIGNED_S), Ok(Principal::Owner));
    }

    #[test]
    fn a_changed_body_path_or_signature_is_refused() {
        assert_eq!(verify(&signed(SIGNATURE), b"x", SIGNED_S), Err(SignatureError::Mismatch));
        let mut other = signed(SIGNATURE);
        other.uri = "/?Action=ListRoles&Version=2010-05-08".parse().unwrap();
        assert_eq!(verify(&other, b"", SIGNED_S), Err(SignatureError::Mismatch));
        assert_eq!(verify(&signed(&"0".repeat(64)), b"", SIGNED_S), Err(SignatureError::Mismatch));
        assert_eq!(verify(&signed("zz"), b"", SIGNED_S), Err(SignatureError::Mismatch));
    }

    #[test]
    fn a_clock_may_be_off_by_five_minutes_and_no_more() {
        for (offset_s, accepted) in [(299, true), (-299, true), (301, false), (-301, false)] {
            let outcome = verify(&signed(SIGNATURE), b"", SIGNED_S + offset_s);
            match outcome {
                Ok(_) => assert!(accepted, "{offset_s}"),
                Err(SignatureError::Skewed(_)) => assert!(!accepted, "{offset_s}"),
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_panic(authorization in "(AWS4-HMAC-SHA256 )?[ -~]{0,120}", date in "[0-9TZé]{0,20}", query in "[ -~]{0,80}") {
            let mut parts = signed(SIGNATURE);
            parts.headers.insert("authorization", http::HeaderValue::from_bytes(authorization.as_bytes()).unwrap());
            parts.headers.insert("x-amz-date", http::HeaderValue::from_bytes(date.as_bytes()).unwrap());
            proptest::prop_assert!(verify(&parts, b"", SIGNED_S).is_err());
            parts.headers.remove("authorization");
            if let Ok(uri) = format!("/?X-Amz-Algorithm=AWS4-HMAC-SHA256&{query}").parse() {
                parts.uri = uri;
                proptest::prop_assert!(verify(&parts, b"", SIGNED_S).is_err());
            }
        }
    }
}
