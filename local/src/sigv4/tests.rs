//! Verification against another implementation, and the corners of the canonical form.

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
