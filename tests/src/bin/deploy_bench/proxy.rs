//! A proxy that makes every call take longer by a fixed time and takes each down: what a region's distance does to a
//! deploy.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use crate::{moto, operation};

/// What the calls go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// The cloud in `local/`, which takes them as they are.
    Ours,
    /// moto, some of whose gaps are mended on the way.
    Moto,
}

/// A running proxy. It ends with the runtime.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    behind: Behind,
    client: Client<HttpConnector, Full<Bytes>>,
    latency_ms: AtomicU64,
    under_way: AtomicUsize,
    log: Mutex<Log>,
}

struct Log {
    began: Instant,
    peak: usize,
    calls: Vec<Call>,
}

/// One call and its answer, in times since the measurement began.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) at: Duration,
    pub(crate) answered: Duration,
    pub(crate) status: u16,
}

/// What came through since the last [`Proxy::measure`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Counted {
    /// In the order of their answers.
    pub(crate) calls: Vec<Call>,
    /// Calls under way at the same time, at most.
    pub(crate) peak: usize,
}

type Answer = Response<Full<Bytes>>;

impl Proxy {
    /// Forwards to `upstream`, an authority such as `127.0.0.1:4620`.
    pub(crate) async fn start(upstream: String, behind: Behind) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            upstream,
            behind,
            client: Client::builder(TokioExecutor::new()).build_http(),
            latency_ms: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            log: Mutex::new(Log { began: Instant::now(), peak: 0, calls: Vec::new() }),
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

    /// What was taken down so far; that begins anew.
    pub(crate) fn measure(&self) -> Counted {
        let mut log = self.shared.log();
        log.began = Instant::now();
        Counted { calls: std::mem::take(&mut log.calls), peak: std::mem::take(&mut log.peak) }
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
    async fn forward(&self, request: Request<Incoming>) -> Answer {
        let now = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        let arrived = {
            let mut log = self.log();
            log.peak = log.peak.max(now);
            Instant::now()
        };
        tokio::time::sleep(Duration::from_millis(self.latency_ms.load(Ordering::Relaxed))).await;
        let (name, answer) = match self.exchange(request).await {
            Ok(done) => done,
            Err(why) => {
                let mut answer = Response::new(Full::new(Bytes::from(why.clone())));
                *answer.status_mut() = StatusCode::BAD_GATEWAY;
                (why, answer)
            }
        };
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        let mut log = self.log();
        let call = Call {
            name,
            at: arrived.saturating_duration_since(log.began),
            answered: log.began.elapsed(),
            status: answer.status().as_u16(),
        };
        log.calls.push(call);
        answer
    }

    /// The call's name and its answer. Headers and path stay as they are: both are signed.
    async fn exchange(&self, request: Request<Incoming>) -> Result<(String, Answer), String> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let upstream = format!("http://{}{path}", self.upstream).parse::<Uri>().map_err(|e| e.to_string())?;
        let mut body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        let name = operation::of(&parts, &body);
        if self.behind == Behind::Moto {
            if let Some(answer) = moto::answer_instead(&name) {
                return Ok((name, answer));
            }
            body = moto::amend(&name, body);
        }
        parts.uri = upstream;
        // The body is whole by now, however it came.
        for hop in [EXPECT, TRANSFER_ENCODING] {
            parts.headers.remove(hop);
        }
        if !body.is_empty() {
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let sent = self.client.request(Request::from_parts(parts, Full::new(body))).await;
        let (mut parts, body) = sent.map_err(|e| e.to_string())?.into_parts();
        // Says something about the connection upstream only.
        for hop in [CONNECTION, TRANSFER_ENCODING] {
            parts.headers.remove(hop);
        }
        let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        Ok((name, Response::from_parts(parts, Full::new(body))))
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
