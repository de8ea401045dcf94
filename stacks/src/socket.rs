//! A client's WebSocket to a deployed chat: the connection, TLS where the address wants it, and the upgrade.

use std::fmt;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio_tungstenite::tungstenite::Error as SocketError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{WebSocketStream, client_async};

/// Frames of what [`dial`] opens.
pub use tokio_tungstenite::tungstenite::{self, Message};

pub(crate) const SUBPROTOCOL: &str = "chat.v1";

/// How a client may say who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Whoever says a name is let in.
    Name,
    /// A token for [`user`](Caller::user).
    Token(String),
    /// There are tokens, and nobody here can sign one.
    Nothing,
}

/// Who connects.
#[derive(Clone, Debug)]
pub struct Caller {
    pub user: String,
    pub pass: Pass,
    /// The page that the client claims to be on, if the stage wants one.
    pub origin: Option<String>,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoSocket {
    /// The address, or what should be said there, cannot be said.
    Malformed(String),
    /// Nothing answered at all.
    Unreachable(String),
    /// The upgrade was answered with something else.
    Refused { status: u16, body: String },
    /// The upgrade went wrong.
    Failed(String),
}

impl fmt::Display for NoSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) | Self::Unreachable(why) => f.write_str(why),
            Self::Refused { status, body } => {
                write!(f, "the upgrade was answered with {status} {body}")
            }
            Self::Failed(why) => write!(f, "the upgrade failed: {why}"),
        }
    }
}

/// Bytes in both directions, encrypted or not.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// An open connection.
pub type Socket = WebSocketStream<Box<dyn Duplex>>;

/// Connects. Waits as long as it takes.
///
/// # Errors
/// [`NoSocket`].
pub async fn dial(url: &str, caller: &Caller) -> Result<Socket, NoSocket> {
    let request = request(url, caller)?;
    let stream = connect(&request).await?;
    match client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(SocketError::Http(response)) => {
            let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            Err(NoSocket::Refused { status: response.status().as_u16(), body: body.into_owned() })
        }
        Err(why) => Err(NoSocket::Failed(why.to_string())),
    }
}

fn request(url: &str, caller: &Caller) -> Result<Request, NoSocket> {
    let (url, offered) = match &caller.pass {
        Pass::Name => (format!("{url}?user={}", caller.user), SUBPROTOCOL.to_owned()),
        Pass::Token(token) => (url.to_owned(), format!("{SUBPROTOCOL}, bearer.{token}")),
        // A gateway that finds no subprotocol asks nobody.
        Pass::Nothing => (url.to_owned(), format!("{SUBPROTOCOL}, bearer.none")),
    };
    let malformed =
        |why: &dyn fmt::Display| NoSocket::Malformed(format!("{url} cannot be connected to: {why}"));
    let mut request = url.as_str().into_client_request().map_err(|why| malformed(&why))?;
    let value = |text: &str| HeaderValue::from_str(text).map_err(|why| malformed(&why));
    request.headers_mut().insert("sec-websocket-protocol", value(&offered)?);
    if let Some(origin) = &caller.origin {
        request.headers_mut().insert("origin", value(origin)?);
    }
    Ok(request)
}

async fn connect(request: &Request) -> Result<Box<dyn Duplex>, NoSocket> {
    let uri = request.uri();
    let host = uri.host().ok_or_else(|| NoSocket::Malformed(format!("{uri} names no host")))?;
    let encrypted = uri.scheme_str() == Some("wss");
    let port = uri.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
    let unreachable =
        |why: &dyn fmt::Display| NoSocket::Unreachable(format!("{host}:{port} cannot be reached: {why}"));
    let stream = TcpStream::connect((host, port)).await.map_err(|why| unreachable(&why))?;
    // Frames are small, and each waits for an answer.
    let _ = stream.set_nodelay(true);
    if !encrypted {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|why| unreachable(&why))?;
    let config = tls().map_err(NoSocket::Malformed)?;
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|why| unreachable(&why))?;
    Ok(Box::new(stream))
}

/// Trusts whom the system trusts, as the SDK does.
fn tls() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("there is no root certificate on this system".to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|why| why.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_says_who_it_is_as_the_stage_wants_it() {
        let url = "wss://a.execute-api.us-east-1.amazonaws.com/dev";
        let caller =
            Caller { user: "alice".into(), pass: Pass::Name, origin: Some("https://chat.example".into()) };
        let open = request(url, &caller).unwrap();
        assert_eq!(open.uri().query(), Some("user=alice"));
        assert_eq!(open.headers()["origin"], "https://chat.example");
        let token = request(url, &Caller { pass: Pass::Token("t.t.t".into()), ..caller }).unwrap();
        assert_eq!(token.headers()["sec-websocket-protocol"], "chat.v1, bearer.t.t.t");
        assert_eq!(token.uri().query(), None);
    }

    #[test]
    fn what_cannot_be_said_is_told_from_nobody_there() {
        let caller = Caller { user: "alice".into(), pass: Pass::Token("a\nb".into()), origin: None };
        assert!(matches!(request("ws://127.0.0.1/dev", &caller), Err(NoSocket::Malformed(_))));
    }

    #[test]
    fn system_roots_make_a_configuration() {
        assert!(tls().is_ok());
    }
}
