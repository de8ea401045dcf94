//! API Gateway's WebSocket plane, as a client and a function see it.

use std::time::Duration;

use aws_sdk_apigatewayv2::types::RouteSettings;
use chat_local::{Fault, Rule, Settings};
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

use crate::caller::refusal;
use crate::deployed::{Deployed, Socket};
use crate::patience::until;

#[tokio::test]
async fn the_socket_opens_only_after_the_authorizer_and_connect_said_so() {
    let deployed = Deployed::start().await;
    for (query, status) in [
        ("", 401),
        ("auth=deny", 403),
        ("auth=unauthorized", 401),
        ("auth=fail", 500),
        ("auth=yes&status=418", 418),
        ("auth=yes&status=500", 500),
        ("auth=yes&fail=1", 502),
        ("auth=yes", 101),
    ] {
        assert_eq!(deployed.upgrade(query).await, status, "{query}");
    }
    // Who is not let in has no `$disconnect`: the only one to come is of the last, which had been open.
    assert_eq!(deployed.events("DISCONNECT", "").await.len(), 1);
    deployed.cloud.shutdown().await;
}

#[tokio::test]
async fn what_is_not_there_is_not_a_connection() {
    let deployed = Deployed::start().await;
    let (addr, api) = (deployed.cloud.addr(), &deployed.api);
    for url in
        [format!("ws://{addr}/{api}/other"), format!("ws://{addr}/abcdefghij/test"), format!("ws://{addr}/")]
    {
        assert_eq!(deployed.try_connect(&url).await.err(), Some(403), "{url}");
    }
    let mut request = format!("ws://{addr}/test?auth=yes").into_client_request().unwrap();
    let host = format!("{api}.execute-api.localhost:{}", addr.port());
    request.headers_mut().insert("host", host.parse().unwrap());
    tokio_tungstenite::connect_async(request).await.expect("the API is known by its host, too");
    deployed.cloud.shutdown().await;
}

#[tokio::test]
async fn the_subprotocol_is_the_one_that_connect_chose() {
    let deployed = Deployed::start().await;
    let mut request = deployed.url("auth=yes&protocol=second").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "first, second".parse().unwrap());
    let (_, answer) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "second");
    deployed.cloud.shutdown().await;
}

#[tokio::test]
async fn events_have_every_field_and_their_domain_is_an_endpoint() {
    let deployed = Deployed::start().await;
    let mut client = deployed.connect().await;
    let first = client.event().await;
    let context = &first["requestContext"];
    for field in [
        "routeKey",
        "messageId",
        "eventType",
        "extendedRequestId",
        "requestTime",
        "messageDirection",
        "stage",
        "connectedAt",
        "requestTimeEpoch",
        "requestId",
        "domainName",
        "connectionId",
        "apiId",
    ] {
        assert!(!context[field].is_null(), "{field} is missing: {context}");
    }
    assert_eq!(context["routeKey"], "two_way");
    assert_eq!(context["identity"]["sourceIp"], "127.0.0.1");
    let authorizer = &context["authorizer"];
    assert_eq!(authorizer["principalId"], "somebody");
    assert_eq!([&authorizer["name"], &authorizer["number"], &authorizer["flag"]], ["Some Body", "7", "true"]);
    assert_eq!(first["stageVariables"], json!({ "colour": "blue" }));
    assert_eq!(first["isBase64Encoded"], false);

    let second = client.event().await;
    assert_eq!(second["requestContext"]["connectedAt"], context["connectedAt"]);
    assert_ne!(second["requestContext"]["messageId"], context["messageId"]);

    let domain = context["domainName"].as_str().unwrap();
    let connections = deployed.owner.connections(&format!("http://{domain}/test"));
    let id = context["connectionId"].as_str().unwrap();
    connections.post_to_connection().connection_id(id).data("hello".as_bytes().into()).send().await.unwrap();
    assert_eq!(client.next().await, Message::text("hello"));
    deployed.cloud.shutdown().await;
}

#[tokio::test]
async fn a_failed_function_tells_the_client_nothing() {
    let deployed = Deployed::start().await;
    let mut client = deployed.connect().await;
    let id = client.id().await;
    // The last one outlasts the function's two seconds.
    for order in [json!({"do": "fail"}), json!({"do": "crash"}), json!({"pause_ms": 60_000})] {
        let mut frame = order.clone();
        frame["action"] = json!("two_way");
        client.say(frame.to_string()).await;
        let answer = client.next_json().await;
        assert_eq!(answer["message"], "Internal server error", "{order}");
        assert_eq!(answer["connectionId"], id);
        let names: Vec<&String> = answer.as_object().unwrap().keys().collect();
        assert_eq!(names, ["connectionId", "message", "requestId"]);
    }
    // A fresh process serves on.
    assert_eq!(client.id().await, id);
    deployed.cloud.shutdown().await;
}

#[tokio::test]
async fn a_body_returns_only_where_the_route_has_a_response() {
    let deployed = Deployed::start().await;
    let mut client = deployed.connect().await;
    let id = client.id().await;
    client.say(r#"{"action":"one_way","id":1}"#).await;
    until("both messages", async || deployed.seen("MESSAGE", &id).await.len() >= 2).await;
    client.say(r#"{"action":"two_way","id":2}"#).await;
    assert_eq!(client.next_json().await["id"], 2);
    deployed.cloud.shutdown().await;
}

#[tokio::test]
async fn messages_of_one_connection_run_at_the_same_time() {
    let deployed = Deployed::start().await;
    let mut client = deployed.connect().await;
    client.say(r#"{"action":"two_way","id":"slow","pause_ms":1000}"#).await;
    client.say(r#"{"action":"two_way","id":"fast"}"#).await;
    assert_eq!(client.next_json().await["id"], "fast");
    assert_eq!(client.next_json().await["id"], "slow");
    deployed.cloud.shutdown().await;
}

#[tokio::test]
async fn a_route_has_its_own_limits_or_shares_those_of_its_stage() {
    let deployed = Deployed::start().await;
    let limits = |burst| {
        // So slow that nothing is gained while the test runs.
        RouteSettings::builder().throttling_rate_limit(0.001).throttling_burst_limit(burst).build()
    };
    let gateway = deployed.owner.apigateway();
    let update = gateway.update_stage().api_id(&deployed.api).stage_name("test");
    // Connecting takes one of the stage's four, and `one_way` shares them.
    let update = update.default_route_settings(limits(4)).route_settings("two_way", limits(2));
    update.send().await.unwrap();

    let mut client = deployed.connect().await;
    for expected in [None, None, Some("Too Many Requests")] {
        client.say(r#"{"action":"two_way"}"#).await;
        assert_eq!(client.next_json().await["message"].as_str(), expected);
    }
    for _ in 0..3 {
        client.say(r#"{"action":"one_way"}"#).await;
    }
    client.say(r#"{"action":"one_way"}"#).await;
    assert_eq!(client.next_json().await["message"], "Too Many Requests");
    assert_eq!(deployed.upgrade("auth=yes").await, 429);

    gateway
        .delete_route_settings()
        .api_id(&deployed.api)
        .stage_name("test")
        .route_key("two_way")
        .send()
        .await
        .unwrap();
    let update = gateway.update_stage().api_id(&deployed.api).stage_name("test");
    update
        .default_route_settings(RouteSettings::builder().throttling_rate_limit(1000.0).build())
        .send()
        .await
        .unwrap();
    until("the higher limit", async || deployed.upgrade("auth=yes").await == 101).await;
    client.say(r#"{"action":"two_way"}"#).await;
    assert!(client.next_json().await["message"].is_null());
    deployed.cloud.shutdown().await;
}

#[tokio::test]
async fn a_frame_cannot_select_a_route_of_the_connection_itself() {
    let deployed = Deployed::start().await;
    let mut client = deployed.connect().await;
    for frame in
        [r#"{"action":"$connect"}"#, r#"{"action":"$disconnect"}"#, r#"{"action":"none"}"#, "no JSON"]
    {
        client.say(frame).await;
        assert_eq!(client.next_json().await["message"], "Forbidden", "{frame}");
    }
    assert_eq!(deployed.seen("DISCONNECT", "").await, Vec::<Value>::new());
    deployed.cloud.shutdown().await;
}

#[tokio::test]
async fn a_change_serves_nothing_until_it_is_deployed_and_the_stage_points_there() {
    let deployed = Deployed::start().await;
    let mut client = deployed.connect().await;
    let knows_it = async |client: &mut Socket| {
        client.say(r#"{"action":"new"}"#).await;
        client.next_json().await["message"].is_null()
    };
    deployed.create_route("new", true).await;
    assert!(!knows_it(&mut client).await);
    let deployment = deployed.create_deployment().await;
    assert!(!knows_it(&mut client).await);
    let update = deployed.owner.apigateway().update_stage().api_id(&deployed.api).stage_name("test");
    update.deployment_id(deployment).send().await.unwrap();
    assert!(knows_it(&mut client).await, "the open connection is served by the old deployment");
    deployed.cloud.shutdown().await;
}

#[tokio::test]
async fn a_function_is_invoked_only_for_a_source_that_its_policy_names() {
    let deployed = Deployed::start_with(Settings::default(), "authorizers/*").await;
    assert_eq!(deployed.upgrade("auth=yes").await, 502, "`$connect` is not named");
    let deployed = Deployed::start_with(Settings::default(), "test/*").await;
    assert_eq!(deployed.upgrade("auth=yes").await, 500, "the authorizer is not named");
    deployed.cloud.shutdown().await;
}

#[tokio::test]
async fn what_is_too_large_or_binary_ends_the_connection() {
    let deployed = Deployed::start().await;
    let part = |code, fin| {
        let header = FrameHeader {
            is_final: fin,
            opcode: OpCode::Data(code),
            mask: Some([0; 4]),
            ..Default::default()
        };
        Message::Frame(Frame::from_payload(header, vec![b' '; 32 * 1024].into()))
    };
    let too_long_a_message =
        vec![part(Data::Text, false), part(Data::Continue, false), part(Data::Continue, false)]
            .into_iter()
            .chain([part(Data::Continue, false), part(Data::Continue, true)])
            .collect();
    for (messages, code) in [
        (vec![Message::text("x".repeat(33 * 1024))], 1009),
        (too_long_a_message, 1009),
        (vec![Message::binary(vec![1, 2, 3])], 1003),
    ] {
        let mut client = deployed.connect().await;
        let id = client.id().await;
        for message in messages {
            client.0.feed(message).await.unwrap();
        }
        client.0.flush().await.unwrap();
        assert_eq!(u16::from(client.close_frame().await.code), code);
        let told = deployed.events("DISCONNECT", &id).await;
        assert_eq!(told[0]["requestContext"]["disconnectStatusCode"], code);
    }
    // The largest frame there may be is answered.
    let mut client = deployed.connect().await;
    let frame = json!({"action": "two_way", "id": "x".repeat(32 * 1024 - 40)}).to_string();
    client.say(frame).await;
    assert!(client.next_json().await["id"].is_string());
    deployed.cloud.shutdown().await;
}

#[tokio::test]
async fn disconnect_is_told_how_the_client_ended() {
    let deployed = Deployed::start().await;
    let told = async |id: &str| {
        let events = deployed.events("DISCONNECT", id).await;
        assert_eq!(events.len(), 1);
        assert!(events[0]["multiValueHeaders"].is_object());
        let context = &events[0]["requestContext"];
        (context["disconnectStatusCode"].as_u64().unwrap(), context["disconnectReason"].clone())
    };

    let mut client = deployed.connect().await;
    let id = client.id().await;
    client.0.close(Some(CloseFrame { code: CloseCode::from(4001), reason: "enough".into() })).await.unwrap();
    assert_eq!(told(&id).await, (4001, json!("enough")));

    let mut client = deployed.connect().await;
    let id = client.id().await;
    client.0.close(None).await.unwrap();
    assert_eq!(told(&id).await.0, 1005);

    let mut client = deployed.connect().await;
    let id = client.id().await;
    drop(client);
    assert_eq!(told(&id).await.0, 1006, "a client that is gone without a close frame");
    deployed.cloud.shutdown().await;
}

#[tokio::test]
async fn a_client_that_leaves_during_connect_has_its_disconnect() {
    let deployed = Deployed::start().await;
    let mut raw = tokio::net::TcpStream::connect(deployed.cloud.addr()).await.unwrap();
    let request = format!(
        "GET /{}/test?auth=yes&pause_ms=500 HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        deployed.api
    );
    raw.write_all(request.as_bytes()).await.unwrap();
    let connects = deployed.events("CONNECT", "").await;
    let id = connects[0]["requestContext"]["connectionId"].as_str().unwrap();

    // The function is still busy with `$connect`: nobody can be reached there yet.
    let connections = deployed.owner.connections(&deployed.callback());
    let post =
        connections.post_to_connection().connection_id(id).data("early".as_bytes().into()).send().await;
    assert_eq!(refusal(post).0, "GoneException");

    drop(raw);
    assert_eq!(deployed.events("DISCONNECT", id).await.len(), 1);
    deployed.cloud.shutdown().await;
}

#[tokio::test]
async fn idle_connections_and_old_ones_are_sent_away() {
    for settings in [
        Settings { idle_timeout: Duration::from_millis(300), ..Settings::default() },
        Settings { max_connection: Duration::from_millis(300), ..Settings::default() },
    ] {
        let deployed = Deployed::start_with(settings, "*").await;
        let mut client = deployed.connect().await;
        let id = client.id().await;
        let frame = client.close_frame().await;
        assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1001, "Going away"));
        let told = deployed.events("DISCONNECT", &id).await;
        assert_eq!(told[0]["requestContext"]["disconnectStatusCode"], 1001);
        deployed.cloud.shutdown().await;
    }
}

#[tokio::test]
async fn posts_look_closes_and_their_refusals_are_those_of_aws() {
    let deployed = Deployed::start().await;
    let mut client = deployed.connect().await;
    let id = client.id().await;
    let connections = deployed.owner.connections(&deployed.callback());
    let post = |id: &str, bytes: usize| {
        connections.post_to_connection().connection_id(id).data(vec![b'x'; bytes].into()).send()
    };
    post(&id, 128 * 1024).await.unwrap();
    assert_eq!(client.next().await.len(), 128 * 1024);
    assert_eq!(refusal(post(&id, 128 * 1024 + 1).await).0, "PayloadTooLargeException");
    assert_eq!(refusal(post("AAAAAAAAAAAAAAA=", 1).await).0, "GoneException");
    assert_eq!(refusal(post("no-id", 1).await).0, "BadRequestException");

    deployed.cloud.faults().set([Rule::every(&*id, Fault::Stall)]);
    assert_eq!(refusal(post(&id, 1).await).0, "LimitExceededException");
    deployed.cloud.faults().clear();

    let seen = connections.get_connection().connection_id(&id).send().await.unwrap();
    assert!(seen.connected_at.is_some() && seen.last_active_at.is_some());
    assert_eq!(seen.identity.unwrap().source_ip.as_deref(), Some("127.0.0.1"));

    connections.delete_connection().connection_id(&id).send().await.unwrap();
    assert_eq!(u16::from(client.close_frame().await.code), 1000);
    deployed.events("DISCONNECT", &id).await;
    assert_eq!(refusal(post(&id, 1).await).0, "GoneException");
    assert_eq!(refusal(connections.delete_connection().connection_id(&id).send().await).0, "GoneException");
    deployed.cloud.shutdown().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody_and_can_be_ended() {
    let deployed = Deployed::start().await;
    let mut deaf = deployed.connect().await;
    let mut other = deployed.connect().await;
    let (deaf_id, other_id) = (deaf.id().await, other.id().await);
    let connections = deployed.owner.connections(&deployed.callback());
    let post =
        |id: &str| connections.post_to_connection().connection_id(id).data(vec![b'x'; 100_000].into()).send();
    // The system's own buffers take some megabytes first.
    let mut refused = None;
    for _ in 0..500 {
        if let Err(error) = post(&deaf_id).await {
            refused = Some(refusal::<(), _, _>(Err(error)).0);
            break;
        }
    }
    assert_eq!(refused.as_deref(), Some("LimitExceededException"));
    post(&other_id).await.unwrap();
    assert_eq!(other.next().await.len(), 100_000);

    connections.delete_connection().connection_id(&deaf_id).send().await.unwrap();
    assert_eq!(deployed.events("DISCONNECT", &deaf_id).await.len(), 1);
    deployed.cloud.shutdown().await;
}

#[tokio::test]
async fn a_dropped_disconnect_is_never_told() {
    let deployed = Deployed::start().await;
    let (mut first, mut second) = (deployed.connect().await, deployed.connect().await);
    let (first_id, second_id) = (first.id().await, second.id().await);
    deployed.cloud.faults().set([Rule::every(&*first_id, Fault::DropDisconnect)]);
    first.0.close(None).await.unwrap();
    let connections = deployed.owner.connections(&deployed.callback());
    until("the end of the connection", async || {
        connections.get_connection().connection_id(&first_id).send().await.is_err()
    })
    .await;
    second.0.close(None).await.unwrap();
    deployed.events("DISCONNECT", &second_id).await;
    assert!(deployed.seen("DISCONNECT", &first_id).await.is_empty());
    deployed.cloud.shutdown().await;
}
