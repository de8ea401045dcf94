//! moto, the cloud of the peers: AWS as its users test against it. Nothing is created for real there, CloudFormation
//! least of all, so its answers come at once.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::{Result, measure};

/// What the table has to be read with.
pub(crate) const NOTES: [&str; 4] = [
    "the CloudFormation of moto answers at once and makes nothing of AWS::ApiGatewayV2 (API, routes, stage), which \
     flatters every peer: a real one takes from half a minute to minutes for this stack",
    "its ValidateTemplate takes warnings for errors, and a TemplateURL at an address for one with a bucket in its \
     name: the proxy answers the first and rewrites the second to localhost",
    "SAM and Serverless ask CloudFormation every 5 s whether it is done, as they come, which against such an answer is \
     most of their time",
    "it has no CreateDeployment for WebSocket APIs; no peer calls it here, since each leaves that to CloudFormation",
];

const START: Duration = Duration::from_secs(60);
const KNOCK: Duration = Duration::from_millis(50);

/// A running server. Dropping it ends it.
pub(crate) struct Moto {
    authority: String,
    process: Child,
}

impl Moto {
    /// `bin` is that of the Python environment that it is installed in.
    pub(crate) async fn start(bin: &Path) -> Result<Self> {
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let port = free.map_err(|e| format!("found no free port: {e}"))?.port();
        let process = Command::new(bin.join("moto_server"))
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|e| format!("failed to start moto_server: {e}"))?;
        let moto = Self { authority: format!("127.0.0.1:{port}"), process };
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if moto.reset().await.is_ok() {
                return Ok(moto);
            }
            tokio::time::sleep(KNOCK).await;
        }
        Err(format!("moto_server did not come up within {} s", START.as_secs()))
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Forgets everything that was created.
    pub(crate) async fn reset(&self) -> Result<()> {
        self.request("POST", "/moto-api/reset").await
    }

    /// Makes a bucket.
    pub(crate) async fn create_bucket(&self, name: &str) -> Result<()> {
        self.request("PUT", &format!("/{name}")).await
    }

    async fn request(&self, method: &str, path: &str) -> Result<()> {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.authority))
            // It finds the service by the scope of a signature, which it does not check.
            .header("authorization", "AWS4-HMAC-SHA256 Credential=peer/20240101/us-east-1/s3/aws4_request")
            .body(Full::new(Bytes::new()))
            .map_err(|e| e.to_string())?;
        let answer = client.request(request).await.map_err(|e| e.to_string())?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("{path} gave {}", answer.status())) }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        measure::stop(&self.process);
        let _ = self.process.wait();
    }
}

/// The answer to a call that moto must not see.
pub(crate) fn answer_instead(operation: &str) -> Option<Response<Full<Bytes>>> {
    const VALID: &str = "<ValidateTemplateResponse xmlns=\"http://cloudformation.amazonaws.com/doc/2010-05-15/\">\
                         <ValidateTemplateResult/></ValidateTemplateResponse>";
    (operation == "ValidateTemplate").then(|| Response::new(Full::new(Bytes::from(VALID))))
}

/// The call as moto understands it: a bucket in the path of a URL only at this name.
pub(crate) fn amend(operation: &str, body: Bytes) -> Bytes {
    if !matches!(operation, "CreateChangeSet" | "CreateStack" | "UpdateStack") {
        return body;
    }
    let Ok(form) = std::str::from_utf8(&body) else { return body };
    let [from, to] = ["127.0.0.1", "localhost"].map(|host| format!("TemplateURL=http%3A%2F%2F{host}%3A"));
    if form.contains(&from) { Bytes::from(form.replace(&from, &to)) } else { body }
}
