//! Fidelity point 12: signatures are verified, a wrong secret is refused, clock skew too.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::caller::{Caller, cloud, refusal};

#[tokio::test]
async fn the_owner_is_who_signs_with_the_owners_keys() {
    let cloud = cloud().await;
    let identity = Caller::owner(&cloud).sts().get_caller_identity().send().await.unwrap();
    assert_eq!(identity.arn(), Some("arn:aws:iam::000000000000:root"));
    assert_eq!(identity.account(), Some("000000000000"));
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_wrong_secret_is_refused_by_every_protocol() {
    let cloud = cloud().await;
    let forger = Caller::with_keys(&cloud, "chatctl", "guessed");
    let mismatch = "The request signature we calculated does not match the signature you provided.";
    for (code, message, expected) in [
        (refusal(forger.sts().get_caller_identity().send().await), "SignatureDoesNotMatch"),
        (refusal(forger.iam().list_roles().send().await), "SignatureDoesNotMatch"),
        (refusal(forger.dynamodb().list_tables().send().await), "InvalidSignatureException"),
        (refusal(forger.logs().describe_log_groups().send().await), "InvalidSignatureException"),
        (refusal(forger.lambda().list_functions().send().await), "InvalidSignatureException"),
    ]
    .map(|((code, message), expected)| (code, message, expected))
    {
        assert_eq!(code, expected);
        assert!(message.starts_with(mismatch), "{message}");
    }
    assert!(cloud.calls().all().is_empty(), "a call that is not believed must not reach a service");
    cloud.shutdown().await;
}

#[tokio::test]
async fn an_unknown_key_is_refused() {
    let cloud = cloud().await;
    let stranger = Caller::with_keys(&cloud, "AKIASTRANGER", "chatctl");
    assert_eq!(refusal(stranger.iam().list_roles().send().await).0, "InvalidClientTokenId");
    assert_eq!(refusal(stranger.dynamodb().list_tables().send().await).0, "UnrecognizedClientException");
    cloud.shutdown().await;
}

#[tokio::test]
async fn a_clock_that_is_off_by_more_than_five_minutes_is_refused_and_the_sdk_recovers() {
    let cloud = cloud().await;
    for (offset_s, phrase) in [(-400, "Signature expired: "), (400, "Signature not yet current: ")] {
        let late = Caller::owner(&cloud).clock_off_by(offset_s);
        let (code, message) = refusal(late.dynamodb().list_tables().send().await);
        assert_eq!(code, "InvalidSignatureException");
        assert!(message.starts_with(phrase), "{message}");
        let (code, message) = refusal(late.sts().get_caller_identity().send().await);
        assert_eq!(code, "SignatureDoesNotMatch");
        assert!(message.starts_with(phrase), "{message}");
    }
    let close = Caller::owner(&cloud).clock_off_by(-200);
    close.dynamodb().list_tables().send().await.unwrap();
    cloud.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_signature_are_refused_and_health_needs_none() {
    let cloud = cloud().await;
    let ask = |text: String| {
        let mut stream = TcpStream::connect(cloud.addr()).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let (unsigned, health, get) = tokio::task::block_in_place(|| {
        (
            ask("POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\nx-amz-target: DynamoDB_20120810.ListTables\r\ncontent-length: 2\r\n\r\n{}".to_owned()),
            ask("GET /_local/health HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n".to_owned()),
            ask("GET /v2/apis HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n".to_owned()),
        )
    });
    assert!(unsigned.starts_with("HTTP/1.1 400"), "{unsigned}");
    assert!(unsigned.contains("MissingAuthenticationTokenException"), "{unsigned}");
    assert!(get.starts_with("HTTP/1.1 403") && get.contains("MissingAuthenticationToken"), "{get}");
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    assert!(health.contains(r#""status":"ok""#), "{health}");
    assert!(health.contains(&format!(r#""pid":{}"#, std::process::id())), "{health}");
    for answer in [unsigned, health, get] {
        assert!(answer.to_ascii_lowercase().contains("x-amzn-requestid: "), "{answer}");
    }
    cloud.shutdown().await;
}
