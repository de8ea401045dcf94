//! Who somebody is: said by the gateway, believed by the handlers, and never by anything that a client writes into a
//! frame.

use chat_tests::tokens::{KID, Signer, claims, unsecured};
use chat_tests::{Chat, Hail, Refused};
use serde_json::json;

#[tokio::test]
async fn a_good_token_lets_its_user_in_under_the_name_it_gives() {
    let chat = Chat::builder().with_tokens().start().await;
    let mut of_token = claims("alice", 60);
    of_token["name"] = json!("Alice A.");
    let mut alice = chat.connect(&Hail::token(&chat.signer.sign(&of_token))).await.expect("a good token");
    // Never the token: it is a secret.
    assert_eq!(alice.protocol.as_deref(), Some("chat.v1"));
    let welcome = alice.hello(&[]).await;
    assert_eq!((&welcome["user"], &welcome["name"]), (&json!("alice"), &json!("Alice A.")));
    assert_eq!(welcome["expires"], of_token["exp"]);
    // The query says nothing where tokens are wanted.
    let mut hail = Hail::token(&chat.signer.sign(&claims("alice", 60)));
    hail.user = Some("mallory".to_owned());
    let mut alice = chat.connect(&hail).await.expect("a good token");
    assert_eq!(alice.hello(&[]).await["user"], "alice");
    chat.stop().await;
}

#[tokio::test]
async fn every_other_token_is_refused() {
    let chat = Chat::builder().with_tokens().start().await;
    let good = chat.signer.sign(&claims("alice", 60));
    let (head, tail) = good.rsplit_once('.').expect("a token has three parts");
    let (header, _) = head.split_once('.').expect("a token has three parts");
    let of_mallory = Signer::default().sign(&claims("mallory", 60));
    let (mallorys, _) = of_mallory.rsplit_once('.').expect("a token has three parts");
    let header_with = |field: &str, value: &str| {
        let mut header = json!({"alg": "EdDSA", "typ": "JWT", "kid": KID});
        header[field] = json!(value);
        chat.signer.sign_with_header(&header, &claims("alice", 60))
    };
    let with = |field: &str, value: serde_json::Value| {
        let mut claims = claims("alice", 60);
        claims[field] = value;
        chat.signer.sign(&claims)
    };
    for (why, token) in [
        ("expired", chat.signer.sign(&claims("alice", -1))),
        ("alg none", unsecured(&claims("alice", 60))),
        ("alg None, signed", header_with("alg", "None")),
        ("HS256 with the public key", chat.signer.confuse(&claims("alice", 60))),
        ("ES256", header_with("alg", "ES256")),
        ("unknown kid", header_with("kid", "other")),
        ("kid with a path", header_with("kid", "../../dev/null")),
        ("another's key", of_mallory.clone()),
        ("another's claims", format!("{mallorys}.{tail}")),
        ("no signature", format!("{head}.")),
        ("two parts", head.to_owned()),
        ("four parts", format!("{good}.{header}")),
        ("not yet good", with("nbf", json!(chat_tests::now_ms() / 1000 + 3_600))),
        ("for another stage", with("aud", json!("chat-prod"))),
        ("no user", with("sub", json!(null))),
        ("a user with a key in it", with("sub", json!("alice#C#1"))),
        ("a user of two", with("sub", json!("alice,bob"))),
        ("no end", with("exp", json!(null))),
        ("an end that is a text", with("exp", json!("never"))),
        ("not a token", "x".to_owned()),
        ("nothing", String::new()),
    ] {
        let outcome = chat.connect(&Hail::token(&token)).await.map(drop);
        // A policy that denies is 403; what is no identity at all may be 401.
        assert!(matches!(outcome, Err(Refused(401 | 403))), "{why}: {outcome:?}");
    }
    let outcome = chat.connect(&Hail::user("alice")).await.map(drop);
    assert!(matches!(outcome, Err(Refused(401 | 403))), "without a token: {outcome:?}");
    // The two of one are one too many.
    let mut both = Hail::token(&good);
    both.protocols.push(format!("bearer.{good}"));
    assert_eq!(chat.connect(&both).await.map(drop), Err(Refused(403)));
    // And the good one is good.
    chat.connect(&Hail::token(&good)).await.expect("the good token");
    assert!(chat.account.items(&chat.table()).await.iter().all(|(key, _)| key == "U#alice"));
    chat.stop().await;
}

#[tokio::test]
async fn an_identity_in_a_frame_is_ignored() {
    let chat = Chat::shared().await;
    let [mut mallory, mut bob] = chat.clients(["forge.mallory", "forge.bob"]).await;
    mallory.join("forge").await;
    bob.join("forge").await;

    let forged = json!({
        "action": "send", "id": "1", "room": "forge", "body": {"text": "I am alice", "from": "forge.alice"},
        "from": "forge.alice", "user": "forge.alice", "u": "forge.alice", "principalId": "forge.alice",
        "requestContext": {"authorizer": {"principalId": "forge.alice"}, "connectionId": "other"},
        "authorizer": {"principalId": "forge.alice"}, "connectionId": "other"
    });
    let ack = mallory.ask_anyway(&forged).await;
    assert_eq!(ack["type"], "ack", "{ack}");

    let message = bob.expect_message("forge", "I am alice").await;
    assert_eq!(message["from"], "forge.mallory");
    let batch = bob.history("forge", json!({})).await;
    assert_eq!(batch["items"][0]["from"], "forge.mallory");
}

#[tokio::test]
async fn names_that_are_no_ids_are_not_let_in() {
    let chat = Chat::shared().await;
    for user in ["", "a%23b", "a,b", "a%20b", "%40a", "a/b", "%00", "ä", &"x".repeat(65)] {
        let outcome = chat.connect(&Hail::user(user)).await.map(drop);
        assert!(matches!(outcome, Err(Refused(401 | 403))), "{user}: {outcome:?}");
    }
    // Said twice, it is one of them or none, but never a mixture.
    if let Ok(mut client) = chat.connect(&Hail::user("one.a&user=one.b")).await {
        "one".clone_into(&mut client.user);
        let user = client.hello(&[]).await["user"].clone();
        assert!(user == "one.a" || user == "one.b", "{user}");
    }
    let nobody = Hail { protocols: vec!["chat.v1".to_owned()], ..Hail::default() };
    assert_eq!(chat.connect(&nobody).await.map(drop), Err(Refused(401)));
    let longest = "x".repeat(64);
    chat.connect(&Hail::user(&longest)).await.expect("64 characters are a name");
}

#[tokio::test]
async fn only_pages_of_the_allow_list_connect() {
    let list = r#"["https://chat.example.org", "http://localhost:8080"]"#;
    let chat = Chat::builder().setting("origins", list).start().await;
    for origin in ["https://chat.example.org", "http://localhost:8080"] {
        chat.connect(&Hail::user("alice").origin(origin)).await.expect(origin);
    }
    for origin in [
        "https://evil.example.org",
        "http://chat.example.org",
        "https://chat.example.org.evil.test",
        "https://chat.example.org:8443",
        "https://evil.test/https://chat.example.org",
        "null",
    ] {
        let outcome = chat.connect(&Hail::user("alice").origin(origin)).await.map(drop);
        assert_eq!(outcome, Err(Refused(403)), "{origin}");
    }
    assert_eq!(chat.connect(&Hail::user("alice")).await.map(drop), Err(Refused(403)), "no origin");
    let mut two = Hail::user("alice").origin("https://chat.example.org");
    two.headers.push(("origin".to_owned(), "https://evil.example.org".to_owned()));
    assert_eq!(chat.connect(&two).await.map(drop), Err(Refused(403)), "two origins");
    chat.stop().await;
}

#[tokio::test]
async fn the_subprotocol_is_selected_only_if_it_was_offered() {
    let chat = Chat::shared().await;
    let mut hail = Hail::user("protocol.alice");
    let client = chat.connect(&hail).await.expect("with chat.v1");
    assert_eq!(client.protocol.as_deref(), Some("chat.v1"));
    hail.protocols.clear();
    let client = chat.connect(&hail).await.expect("without");
    assert_eq!(client.protocol, None);
}
