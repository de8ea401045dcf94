//! Serves the web client that this program carries inside, and tells it where the WebSocket is.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, RwLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, Response, StatusCode};
use ring::digest::{SHA256, digest};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::error::{CliError, Result};

mod files {
    include!(concat!(env!("OUT_DIR"), "/web_files.rs"));
}

/// What the client asks for as `/config.json`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct WebConfig {
    /// The WebSocket.
    pub(crate) url: String,
    /// `open` or `token`.
    pub(crate) mode: String,
    pub(crate) stage: String,
}

/// Shared between the server and `dev`, which knows the configuration only once the stack is deployed.
type Shared = Arc<RwLock<Option<WebConfig>>>;

/// A running server of the web client. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct WebServer {
    pub(crate) address: SocketAddr,
    config: Shared,
    task: JoinHandle<()>,
}

impl WebServer {
    /// Listens on loopback; port 0 takes a free one.
    pub(crate) async fn start(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|e| {
            let error = CliError::failed(
                "port_in_use",
                format!("failed to listen on port {port} for the web client"),
            )
            .because(&e);
            error
                .help(format!("stop what uses it, or choose another: --web-port {}", port.saturating_add(10)))
        })?;
        let address = listener.local_addr().map_err(|e| {
            CliError::failed("no_address", "failed to read the web client's address").because(&e)
        })?;
        let config: Shared = Arc::default();
        let app = Router::new().fallback(serve).with_state(Arc::clone(&config));
        let task = tokio::spawn(async move {
            // Ends only with its task: a listener on loopback has no other way to fail.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { address, config, task })
    }

    pub(crate) fn configure(&self, config: WebConfig) {
        let mut slot = self.config.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        *slot = Some(config);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(State(config): State<Shared>, request: Request) -> Response<Body> {
    let config = config.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    respond(request.method(), request.uri().path(), request.headers(), config.as_ref())
}

fn respond(method: &Method, path: &str, headers: &HeaderMap, config: Option<&WebConfig>) -> Response<Body> {
    let mut response = if method != Method::GET && method != Method::HEAD {
        let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        refusal
    } else if path == "/config.json" {
        match config.map(serde_json::to_vec) {
            Some(Ok(body)) => file("config.json", body.into(), headers),
            _ => {
                let mut later = plain(StatusCode::SERVICE_UNAVAILABLE, "the chat is being deployed\n");
                later.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                later
            }
        }
    } else {
        let name = if path == "/" { "index.html" } else { path.trim_start_matches('/') };
        // The list is fixed at build time, so no path can lead anywhere else.
        match files::FILES.iter().find(|(file, _)| *file == name) {
            Some((name, content)) => file(name, (*content).into(), headers),
            None => plain(StatusCode::NOT_FOUND, "not found\n"),
        }
    };
    protect(response.headers_mut(), config);
    if method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn file(name: &str, content: std::borrow::Cow<'static, [u8]>, headers: &HeaderMap) -> Response<Body> {
    let hash = digest(&SHA256, &content);
    let tag: String = hash.as_ref().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let fresh = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|given| given.trim().trim_start_matches("W/") == tag || given.trim() == "*");
    let mut response = if fresh {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(match content {
            std::borrow::Cow::Borrowed(content) => Body::from(content),
            std::borrow::Cow::Owned(content) => Body::from(content),
        })
    };
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type(name)));
    // Kept, but asked for again: a new `chatctl` shows at the next reload.
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        out.insert(header::ETAG, tag);
    }
    response
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("webp") => "image/webp",
        Some("woff2") => "font/woff2",
        Some("ts" | "txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// The headers that keep the page to itself and its own WebSocket.
fn protect(headers: &mut HeaderMap, config: Option<&WebConfig>) {
    let socket = config.and_then(|config| origin_of(&config.url)).unwrap_or_default();
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
         manifest-src 'self'; worker-src 'self'; connect-src 'self' {socket}; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// `ws://host:port` of a WebSocket URL.
fn origin_of(url: &str) -> Option<&str> {
    let host = url.find("://")? + 3;
    Some(url.get(host..)?.find('/').map_or(url, |slash| &url[..host + slash]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> WebConfig {
        WebConfig { url: "ws://127.0.0.1:4620/abc/local".into(), mode: "open".into(), stage: "local".into() }
    }

    fn get(path: &str) -> Response<Body> {
        respond(&Method::GET, path, &HeaderMap::new(), Some(&config()))
    }

    #[test]
    fn the_page_may_talk_to_its_websocket_and_to_nothing_else() {
        let response = get("/");
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("default-src 'none'"), "{policy}");
        assert!(policy.contains("connect-src 'self' ws://127.0.0.1:4620;"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }

    #[test]
    fn configuration_waits_for_the_deployment() {
        let before = respond(&Method::GET, "/config.json", &HeaderMap::new(), None);
        assert_eq!(before.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(get("/config.json").status(), StatusCode::OK);
    }

    #[test]
    fn nothing_but_the_list_is_served() {
        for path in ["/../Cargo.toml", "/%2e%2e/Cargo.toml", "//etc/passwd", "/index.html/", "/nothing"] {
            assert_eq!(get(path).status(), StatusCode::NOT_FOUND, "{path}");
        }
        let refused = respond(&Method::POST, "/", &HeaderMap::new(), Some(&config()));
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[test]
    fn an_unchanged_file_is_not_sent_again() {
        let first = get("/config.json");
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        let second = respond(&Method::GET, "/config.json", &headers, Some(&config()));
        assert_eq!(second.status(), StatusCode::NOT_MODIFIED);
    }
}
