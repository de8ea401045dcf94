//! The canonical form of a request, which is what gets signed.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::request::Parts;
use ring::digest;

use super::{Claim, header};

pub(super) fn canonical_request(claim: &Claim<'_>, parts: &Parts, body: &[u8]) -> String {
    let mut text = String::with_capacity(768);
    text.push_str(parts.method.as_str());
    text.push('\n');
    if claim.service() == "s3" {
        // Objects may be called anything: S3 takes the path as it is on the wire.
        text.push_str(parts.uri.path());
    } else {
        push_canonical_path(&mut text, parts.uri.path());
    }
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
