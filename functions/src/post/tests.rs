//! Posts to a gateway of a few lines, which answers by the connection's id.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::dial::Dial;
use super::endpoint::TIMEOUT;
use super::*;
use crate::settings::Roots;

/// How often each path was asked for, and when last.
type Asked = Arc<Mutex<BTreeMap<String, (u32, Instant)>>>;

/// Answers `S…` with status S…, `F…` with 500 and from the second time on with 200, `stall…` never.
async fn gateway(close_after_each: bool) -> (Callback, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Asked::default();
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(stream, Arc::clone(&counted), close_after_each));
        }
    });
    (Callback::new(&aws(), &format!("http://127.0.0.1:{port}/api/local/")).unwrap(), asked)
}

fn aws() -> Aws {
    Aws {
        region: "us-east-1".into(),
        access_key_id: "AKID".into(),
        secret_access_key: "secret".into(),
        session_token: Some("token".into()),
        dynamodb_endpoint: None,
        lambda_endpoint: None,
        roots: Roots::Embedded,
    }
}

#[test]
fn an_endpoint_as_clients_of_the_api_write_it_is_the_same_endpoint() {
    for (url, port, encrypted) in [
        ("https://a.example/dev", 443, true),
        ("wss://a.example/dev", 443, true),
        ("http://127.0.0.1:4620/a/dev", 4620, false),
        ("ws://127.0.0.1:4620/a/dev", 4620, false),
    ] {
        let callback = Callback::new(&aws(), url).unwrap();
        assert_eq!(
            (callback.connections.dial.port(), callback.connections.dial.is_encrypted()),
            (port, encrypted),
            "{url}"
        );
    }
}

async fn answer(mut stream: TcpStream, asked: Asked, close_after_each: bool) {
    let mut bytes = Vec::new();
    while stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        if bytes.len() < end + 4 + 5 {
            continue;
        }
        assert_eq!(&bytes[end + 4..], b"frame");
        bytes.clear();
        let lower = head.to_lowercase();
        for header in
            ["host: 127.0.0.1:", "content-length: 5", "x-amz-security-token: token", "authorization: aws4-"]
        {
            assert!(lower.contains(header), "no {header} in {head}");
        }
        let path = head.split(' ').nth(1).unwrap();
        let id = path.strip_prefix("/api/local/@connections/").unwrap().to_owned();
        let times = {
            let mut asked = asked.lock().unwrap();
            let entry = asked.entry(id.clone()).or_insert((0, Instant::now()));
            *entry = (entry.0 + 1, Instant::now());
            entry.0
        };
        let status = match (id.get(..1), times) {
            (Some("S"), _) => id[1..4].to_owned(),
            (Some("F"), 1) => "500".to_owned(),
            _ => "200".to_owned(),
        };
        if id.starts_with("stall") {
            std::future::pending::<()>().await;
        }
        let text = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\n{{}}");
        stream.write_all(text.as_bytes()).await.unwrap();
        if close_after_each {
            return;
        }
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(9)
}

async fn post(callback: &Callback, to: &[&str]) -> Deliveries {
    let ids: Vec<ConnectionId> = to.iter().map(|id| ConnectionId::parse(id).unwrap()).collect();
    let mut outcome =
        callback.post(&ids.iter().collect::<Vec<_>>(), Bytes::from_static(b"frame"), soon()).await;
    outcome.gone.sort_unstable();
    outcome.failed.sort_unstable();
    outcome
}

#[tokio::test]
async fn each_answer_means_what_it_means() {
    let (callback, asked) = gateway(false).await;
    let to = ["a+/=", "S200", "S410", "S429", "S400", "S403", "S413", "S500", "F1", "S410x"];
    let outcome = post(&callback, &to).await;
    assert_eq!((outcome.gone, outcome.failed), (vec![2, 9], vec![3, 4, 5, 6, 7]));
    let asked = asked.lock().unwrap();
    let times = |id: &str| asked[id].0;
    assert_eq!(times("a%2B%2F%3D"), 1, "the id is one segment of the path");
    for (id, wanted) in
        [("S200", 1), ("S410", 1), ("S400", 1), ("S403", 1), ("S413", 1), ("S429", 2), ("S500", 2), ("F1", 2)]
    {
        assert_eq!(times(id), wanted, "{id}");
    }
}

#[tokio::test]
async fn who_does_not_read_holds_nobody_else() {
    let (callback, asked) = gateway(false).await;
    let names: Vec<String> = (0..300).map(|n| format!("c{n}")).collect();
    let mut to: Vec<&str> = names.iter().map(String::as_str).collect();
    to.insert(0, "stall");
    to.insert(1, "S429");
    let started = Instant::now();
    let outcome = post(&callback, &to).await;
    assert_eq!((outcome.gone, outcome.failed), (vec![], vec![0, 1]));
    let asked = asked.lock().unwrap();
    assert_eq!(asked["stall"].0, 1, "what may have arrived is not sent again");
    let last = names.iter().map(|name| asked[name].1).max().unwrap();
    assert!(
        last.duration_since(started) < TIMEOUT,
        "all others were served before the slow one was given up"
    );
    assert!(started.elapsed() < TIMEOUT + Duration::from_secs(1));
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_replaced() {
    let (callback, asked) = gateway(true).await;
    for round in 1..=3 {
        assert_eq!(post(&callback, &["a", "b"]).await, Deliveries::default());
        assert_eq!(asked.lock().unwrap()["a"].0, round);
    }
}

#[tokio::test]
async fn a_gateway_out_of_reach_is_a_failure_not_an_end() {
    let (mut callback, _) = gateway(false).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    callback.connections.dial = Dial::new("127.0.0.1".to_owned(), free, None);
    let outcome = post(&callback, &["a"]).await;
    assert_eq!(outcome.failed, [0]);
    assert!(outcome.why.is_some());
}

#[test]
fn urls_are_of_http_or_of_the_websocket_that_is_beside_it() {
    for bad in ["", "/local", "ftp://h/x"] {
        assert!(Callback::new(&aws(), bad).is_err(), "{bad:?} was taken");
    }
    let callback = Callback::new(&aws(), "https://a1.execute-api.us-east-1.amazonaws.com/prod").unwrap();
    assert_eq!(callback.connections.base, "/prod");
}

#[tokio::test]
async fn what_there_is_no_time_for_is_not_begun() {
    let (callback, asked) = gateway(false).await;
    let ids: Vec<ConnectionId> =
        (0..300).map(|n| ConnectionId::parse(&format!("stall{n}")).unwrap()).collect();
    let to: Vec<&ConnectionId> = ids.iter().collect();
    let began = Instant::now();
    let outcome = callback.post(&to, Bytes::from_static(b"frame"), began + Duration::from_millis(300)).await;
    assert_eq!(outcome.failed.len(), 300);
    assert!(began.elapsed() < TIMEOUT, "it ends in time, whoever does not answer");
    assert!(asked.lock().unwrap().len() <= AT_ONCE, "the second round never began");
    let outcome = callback.post(&to[..1], Bytes::from_static(b"frame"), Instant::now()).await;
    assert_eq!(outcome.why.as_deref(), Some("there was no time left"));
}

/// Lambda in a few lines: answers with the statuses in turn, and keeps what was asked of it.
async fn lambda(statuses: &'static [u16]) -> (Callback, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    tokio::spawn(async move {
        for status in statuses {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = String::new();
            while !request.ends_with("{\"deliver\":1}") {
                let mut bytes = Vec::new();
                assert!(stream.read_buf(&mut bytes).await.unwrap() > 0);
                request.push_str(std::str::from_utf8(&bytes).unwrap());
            }
            heard.lock().unwrap().push(request);
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let aws = Aws { lambda_endpoint: Some(endpoint), ..aws() };
    (Callback::new(&aws, "https://a.example/dev").unwrap(), asked)
}

#[tokio::test]
async fn lambda_is_asked_to_queue_a_batch_and_says_whether_it_did() {
    for (statuses, wanted) in [
        (&[202][..], Ok(())),
        (&[429, 202], Ok(())),
        (&[503, 429], Err("status 429")),
        (&[403], Err("status 403")),
        // It ran at once: nobody asked for that, and nobody knows what came of it.
        (&[200], Err("status 200")),
    ] {
        let (callback, asked) = lambda(statuses).await;
        let event = Bytes::from_static(b"{\"deliver\":1}");
        let outcome = callback.hand_over("arn:aws:lambda:us-east-1:1:function:f:live", event, soon()).await;
        assert_eq!(outcome, wanted.map_err(str::to_owned), "{statuses:?}");
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), statuses.len());
        let path =
            "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A1%3Afunction%3Af%3Alive/invocations";
        for request in asked.iter() {
            assert!(request.starts_with(&format!("POST {path} HTTP/1.1\r\n")), "{request}");
            assert!(request.contains("x-amz-invocation-type: Event\r\n"), "{request}");
            assert!(request.contains("SignedHeaders=host;x-amz-date;x-amz-invocation-type;"), "{request}");
        }
    }
}

#[test]
fn lambda_is_in_the_region() {
    for (region, host) in [
        ("eu-central-1", "lambda.eu-central-1.amazonaws.com"),
        ("cn-north-1", "lambda.cn-north-1.amazonaws.com.cn"),
        ("eusc-de-east-1", "lambda.eusc-de-east-1.amazonaws.eu"),
    ] {
        let aws = Aws { region: region.into(), ..aws() };
        let callback = Callback::new(&aws, "https://a.example/dev").unwrap();
        assert_eq!(callback.lambda.host(), host);
        assert!(callback.lambda.dial.is_encrypted());
    }
}
