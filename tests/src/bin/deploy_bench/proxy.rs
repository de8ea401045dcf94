//! A proxy that makes every call take longer by a fixed time and counts: what a region's distance does to a deploy.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// A running proxy. It ends with the runtime.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    client: Client<HttpConnector, Full<Bytes>>,
    latency_ms: AtomicU64,
    calls: AtomicUsize,
    under_way: AtomicUsize,
    peak: AtomicUsize,
    /// When the measurement began, if every call is to be printed.
    trace: Option<Mutex<Instant>>,
}

/// What was counted since the last [`Proxy::measure`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) calls: usize,
    /// Calls under way at the same time, at most.
    pub(crate) peak: usize,
}

impl Proxy {
    /// Forwards to `upstream`, an authority such as `127.0.0.1:4620`.
    pub(crate) async fn start(upstream: String, trace: bool) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            upstream,
            client: Client::builder(TokioExecutor::new()).build_http(),
            latency_ms: AtomicU64::new(0),
            calls: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            trace: trace.then(|| Mutex::new(Instant::now())),
        });
        tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { port, shared })
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn delay(&self, latency: Duration) {
        let ms = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        self.shared.latency_ms.store(ms, Ordering::Relaxed);
    }

    /// The counts so far, which begin anew.
    pub(crate) fn measure(&self) -> Counted {
        if let Some(began) = &self.shared.trace {
            *began.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        Counted {
            calls: self.shared.calls.swap(0, Ordering::Relaxed),
            peak: self.shared.peak.swap(0, Ordering::Relaxed),
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, std::convert::Infallible>(shared.forward(request).await) }
            });
            // A client that goes away in the middle is its own business.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Shared {
    async fn forward(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if let Some(began) = &self.trace {
            let at = began.lock().unwrap_or_else(PoisonError::into_inner).elapsed().as_millis();
            // Its operation, where the protocol puts it into a header.
            let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok());
            eprintln!(
                "{at:6} ms  {} {} {}",
                request.method(),
                request.uri().path(),
                target.unwrap_or_default()
            );
        }
        let now = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(now, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(self.latency_ms.load(Ordering::Relaxed))).await;
        let answer = self.exchange(request).await.unwrap_or_else(|why| {
            let mut answer = Response::new(Full::new(Bytes::from(why)));
            *answer.status_mut() = StatusCode::BAD_GATEWAY;
            answer
        });
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        answer
    }

    /// Headers and path stay as they are: both are signed.
    async fn exchange(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, String> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = format!("http://{}{path}", self.upstream).parse::<Uri>().map_err(|e| e.to_string())?;
        let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        let sent = self.client.request(Request::from_parts(parts, Full::new(body))).await;
        let (parts, body) = sent.map_err(|e| e.to_string())?.into_parts();
        let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        Ok(Response::from_parts(parts, Full::new(body)))
    }
}
