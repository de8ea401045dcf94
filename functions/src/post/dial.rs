//! Connections to the gateway: dialled, spoken over, kept for the next post.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::settings::Roots;
use crate::tls::client_config;

/// A connection ready for one request at a time.
pub(super) type Line = SendRequest<Full<Bytes>>;

pub(super) type DialError = Box<dyn std::error::Error + Send + Sync>;

const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Answers to posts are short, and there are many connections.
const READ_BUFFER_BYTES: usize = 2 * 1024;

/// Where to, and whether encrypted.
pub(super) struct Dial {
    host: String,
    port: u16,
    /// Roots for https; `None` for plain http, which never touches TLS.
    roots: Option<Roots>,
    tls: OnceCell<TlsConnector>,
}

impl Dial {
    pub(super) fn new(host: String, port: u16, roots: Option<Roots>) -> Self {
        Self { host, port, roots, tls: OnceCell::new() }
    }

    #[cfg(test)]
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    #[cfg(test)]
    pub(super) fn is_encrypted(&self) -> bool {
        self.roots.is_some()
    }

    pub(super) async fn line(&self) -> Result<Line, DialError> {
        tokio::time::timeout(DIAL_TIMEOUT, self.dial()).await?
    }

    async fn dial(&self) -> Result<Line, DialError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let Some(roots) = self.roots else { return speak(stream).await };
        let tls = self.tls.get_or_try_init(|| async { client_config(roots).map(TlsConnector::from) }).await?;
        let name = ServerName::try_from(self.host.clone())?;
        speak(tls.connect(name, stream).await?).await
    }
}

async fn speak<IO>(stream: IO) -> Result<Line, DialError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.read_buf_exact_size(Some(READ_BUFFER_BYTES));
    let (line, driver) = builder.handshake(TokioIo::new(stream)).await?;
    // Ends with the connection; whoever uses the line learns why.
    tokio::spawn(driver);
    Ok(line)
}
