//! A cloud with a function and a WebSocket API in front of it, as the tests of both planes start from.

use std::io::{Cursor, Write};
use std::path::PathBuf;
use std::sync::OnceLock;

use aws_sdk_apigatewayv2::types::{AuthorizationType, AuthorizerType, IntegrationType, ProtocolType};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{FunctionCode, Runtime};
use chat_local::{Cloud, CloudConfig, Settings};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::caller::Caller;
use crate::patience::{PATIENCE, found};

pub(crate) const FUNCTION: &str = "echo";
const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:echo";

/// An example of this crate, which `cargo test` builds beside the tests.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is not built: `cargo build -p chat-local --examples`", path.display());
    path
}

/// The handler as a zip, packed once.
fn zip() -> Blob {
    static ZIP: OnceLock<Vec<u8>> = OnceLock::new();
    let bytes = ZIP.get_or_init(|| {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options =
            zip::write::SimpleFileOptions::default().unix_permissions(0o755).compression_level(Some(1));
        zip.start_file("bootstrap", options).unwrap();
        zip.write_all(&std::fs::read(example("handler")).unwrap()).unwrap();
        zip.finish().unwrap().into_inner()
    });
    Blob::new(bytes.clone())
}

/// The function, which may write its log.
pub(crate) async fn create_function(owner: &Caller, timeout_s: i32) {
    owner.create_role("echo", r#"{"Effect":"Allow","Action":"logs:*","Resource":"*"}"#).await;
    create_another(owner, FUNCTION, timeout_s).await;
}

/// Another one with the same role and the same code.
pub(crate) async fn create_another(owner: &Caller, name: &str, timeout_s: i32) {
    let group = format!("/aws/lambda/{name}");
    owner.logs().create_log_group().log_group_name(group).send().await.unwrap();
    owner
        .lambda()
        .create_function()
        .function_name(name)
        .runtime(Runtime::Providedal2023)
        .handler("bootstrap")
        .role("arn:aws:iam::000000000000:role/echo")
        .timeout(timeout_s)
        .code(FunctionCode::builder().zip_file(zip()).build())
        .send()
        .await
        .unwrap();
}

/// The events that a function's log has so far.
pub(crate) async fn seen_by(owner: &Caller, function: &str) -> Vec<Value> {
    let group = format!("/aws/lambda/{function}");
    let logs = owner.logs();
    let found = logs.filter_log_events().log_group_name(group).filter_pattern("EVENT");
    let lines = found.send().await.unwrap().events.unwrap_or_default();
    let event = |line: &str| serde_json::from_str(line.strip_prefix("EVENT ")?.trim()).ok();
    lines.iter().filter_map(|line| event(line.message.as_deref()?)).collect()
}

pub(crate) struct Deployed {
    pub(crate) cloud: Cloud,
    pub(crate) owner: Caller,
    pub(crate) api: String,
    integration: String,
}

impl Deployed {
    pub(crate) async fn start() -> Self {
        Self::start_with(Settings::default(), "*").await
    }

    /// `source` is what of the API may invoke the function, below the API's ARN.
    pub(crate) async fn start_with(settings: Settings, source: &str) -> Self {
        let cloud = Cloud::start(CloudConfig { settings, ..CloudConfig::in_memory() }).await.unwrap();
        let owner = Caller::owner(&cloud);
        create_function(&owner, 2).await;
        let gateway = owner.apigateway();
        let api = gateway
            .create_api()
            .name("echo")
            .protocol_type(ProtocolType::Websocket)
            .route_selection_expression("$request.body.action")
            .send()
            .await
            .unwrap()
            .api_id
            .unwrap();
        owner
            .lambda()
            .add_permission()
            .function_name(FUNCTION)
            .statement_id("gateway")
            .action("lambda:InvokeFunction")
            .principal("apigateway.amazonaws.com")
            .source_arn(format!("arn:aws:execute-api:us-east-1:000000000000:{api}/{source}"))
            .send()
            .await
            .unwrap();
        let uri = format!("arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{ARN}/invocations");
        let create = gateway.create_integration().api_id(&api);
        let integration = create
            .integration_type(IntegrationType::AwsProxy)
            .integration_uri(&uri)
            .send()
            .await
            .unwrap()
            .integration_id
            .unwrap();
        let authorizer = gateway
            .create_authorizer()
            .api_id(&api)
            .name("who")
            .authorizer_type(AuthorizerType::Request)
            .authorizer_uri(&uri)
            .identity_source("route.request.querystring.auth")
            .send()
            .await
            .unwrap()
            .authorizer_id
            .unwrap();
        let deployed = Self { cloud, owner, api, integration };
        let target = format!("integrations/{}", deployed.integration);
        gateway
            .create_route()
            .api_id(&deployed.api)
            .route_key("$connect")
            .target(&target)
            .authorization_type(AuthorizationType::Custom)
            .authorizer_id(authorizer)
            .send()
            .await
            .unwrap();
        deployed.create_route("$disconnect", false).await;
        deployed.create_route("two_way", true).await;
        deployed.create_route("one_way", false).await;
        let deployment = deployed.create_deployment().await;
        gateway
            .create_stage()
            .api_id(&deployed.api)
            .stage_name("test")
            .deployment_id(deployment)
            .stage_variables("colour", "blue")
            .send()
            .await
            .unwrap();
        deployed
    }

    pub(crate) async fn create_route(&self, key: &str, two_way: bool) {
        let gateway = self.owner.apigateway();
        let create = gateway.create_route().api_id(&self.api).route_key(key);
        let create = create.target(format!("integrations/{}", self.integration));
        let create = if two_way { create.route_response_selection_expression("$default") } else { create };
        let route = create.send().await.unwrap().route_id.unwrap();
        if two_way {
            let respond = gateway.create_route_response().api_id(&self.api).route_id(route);
            respond.route_response_key("$default").send().await.unwrap();
        }
    }

    pub(crate) async fn create_deployment(&self) -> String {
        let gateway = self.owner.apigateway();
        gateway.create_deployment().api_id(&self.api).send().await.unwrap().deployment_id.unwrap()
    }

    pub(crate) fn url(&self, query: &str) -> String {
        format!("ws://{}/{}/test?{query}", self.cloud.addr(), self.api)
    }

    /// Where posts go.
    pub(crate) fn callback(&self) -> String {
        format!("{}/{}/test", self.cloud.endpoint(), self.api)
    }

    pub(crate) async fn connect(&self) -> Socket {
        self.try_connect(&self.url("auth=yes")).await.unwrap()
    }

    /// The status of a refusal is the error.
    pub(crate) async fn try_connect(&self, url: &str) -> Result<Socket, u16> {
        match tokio_tungstenite::connect_async(url.into_client_request().unwrap()).await {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(other) => panic!("{url}: {other}"),
        }
    }

    /// The status that the client sees.
    pub(crate) async fn upgrade(&self, query: &str) -> u16 {
        self.try_connect(&self.url(query)).await.err().unwrap_or(101)
    }

    /// The events of a kind that the function got for a connection, once there is one.
    pub(crate) async fn events(&self, kind: &str, connection: &str) -> Vec<Value> {
        found(&format!("{kind} of {connection}"), async || {
            Some(self.seen(kind, connection).await).filter(|seen| !seen.is_empty())
        })
        .await
    }

    /// The events that the function's log has so far. `connection` may be empty: of all connections.
    pub(crate) async fn seen(&self, kind: &str, connection: &str) -> Vec<Value> {
        let seen = seen_by(&self.owner, FUNCTION).await.into_iter();
        seen.filter(|event| event["type"] != "REQUEST" && event["requestContext"]["eventType"] == kind)
            .filter(|event| connection.is_empty() || event["requestContext"]["connectionId"] == connection)
            .collect()
    }
}

/// A client.
pub(crate) struct Socket(pub(crate) WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(crate) async fn say(&mut self, text: impl Into<String>) {
        self.0.send(Message::text(text.into())).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Message {
        let next = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("nothing came");
        next.expect("the connection ended").unwrap()
    }

    pub(crate) async fn next_json(&mut self) -> Value {
        serde_json::from_str(self.next().await.to_text().unwrap()).unwrap()
    }

    /// The frame that ends the connection.
    pub(crate) async fn close_frame(&mut self) -> CloseFrame {
        loop {
            if let Message::Close(frame) = self.next().await {
                return frame.expect("a close frame without a code");
            }
        }
    }

    /// The event of a message that is sent now.
    pub(crate) async fn event(&mut self) -> Value {
        self.say(r#"{"action":"two_way"}"#).await;
        self.next_json().await["event"].take()
    }

    pub(crate) async fn id(&mut self) -> String {
        self.event().await["requestContext"]["connectionId"].as_str().unwrap().to_owned()
    }
}
