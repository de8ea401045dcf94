//! The Runtime API of one environment: where its process fetches events and leaves answers.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::pool::{Pool, error_payload};

/// Largest answer of a synchronous invocation: Lambda's quota of 6 MB and its JSON overhead.
const MAX_ANSWER: usize = 6 * 1024 * 1024 + 100;
const PREFIX: &str = "/2018-06-01/runtime/";

/// Serves until it is aborted.
pub(super) async fn serve(pool: Arc<Pool>, id: u64, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let pool = Arc::clone(&pool);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let pool = Arc::clone(&pool);
                async move { Ok::<_, Infallible>(answer(&pool, id, request).await) }
            });
            // A handler that goes away in the middle is seen by its supervisor.
            let _ = http1::Builder::new()
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(pool: &Pool, id: u64, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().strip_prefix(PREFIX).unwrap_or_default().to_owned();
    let mut parts = path.split('/');
    match (request.method(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (&Method::GET, Some("invocation"), Some("next"), None, None) => next(pool, id).await,
        (&Method::POST, Some("init"), Some("error"), None, None) => match read(request).await {
            Ok(body) => {
                pool.init_error(id, body);
                status(StatusCode::ACCEPTED, "OK")
            }
            Err(refused) => refused,
        },
        (&Method::POST, Some("invocation"), Some(request_id), Some(kind @ ("response" | "error")), None) => {
            let (body, failed) = match read(request).await {
                Ok(body) => (body, kind == "error"),
                Err(refused) => {
                    let message = format!(
                        "Response payload size exceeded maximum allowed payload size ({MAX_ANSWER} bytes)."
                    );
                    pool.answer(
                        id,
                        request_id,
                        error_payload("Function.ResponseSizeTooLarge", &message),
                        true,
                    );
                    return refused;
                }
            };
            if pool.answer(id, request_id, body, failed) {
                status(StatusCode::ACCEPTED, "OK")
            } else {
                error(StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID")
            }
        }
        _ => error(StatusCode::NOT_FOUND, "InvalidPath", "No such resource in the Runtime API"),
    }
}

async fn next(pool: &Pool, id: u64) -> Response<Full<Bytes>> {
    let Some(receiver) = pool.next(id) else {
        return error(StatusCode::FORBIDDEN, "InvalidStateTransition", "State transition is not allowed");
    };
    let Ok(delivery) = receiver.await else {
        // This environment is ending: its process will not read this any more.
        return std::future::pending().await;
    };
    let trace = trace_id(&delivery.request_id);
    let mut response = Response::new(Full::new(delivery.payload));
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("lambda-runtime-deadline-ms", HeaderValue::from(delivery.deadline_ms));
    for (name, value) in [
        ("lambda-runtime-aws-request-id", delivery.request_id.as_str()),
        ("lambda-runtime-invoked-function-arn", &delivery.arn),
        ("lambda-runtime-trace-id", &trace),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}

/// An X-Ray id as Lambda makes one; nothing is sampled.
fn trace_id(request_id: &str) -> String {
    let digits: String = request_id.chars().filter(char::is_ascii_hexdigit).collect();
    let seconds = jiff::Timestamp::now().as_second();
    format!(
        "Root=1-{seconds:08x}-{};Parent={};Sampled=0",
        digits.get(..24).unwrap_or_default(),
        digits.get(8..24).unwrap_or_default()
    )
}

async fn read(request: Request<Incoming>) -> Result<Bytes, Response<Full<Bytes>>> {
    match Limited::new(request.into_body(), MAX_ANSWER).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(_) => Err(error(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", "Exceeded maximum size")),
    }
}

fn status(code: StatusCode, text: &str) -> Response<Full<Bytes>> {
    body(code, serde_json::json!({ "status": text }).to_string())
}

fn error(code: StatusCode, error_type: &str, message: &str) -> Response<Full<Bytes>> {
    body(code, serde_json::json!({ "errorType": error_type, "errorMessage": message }).to_string())
}

fn body(code: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = code;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
