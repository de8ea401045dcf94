//! An endpoint of AWS that takes signed POSTs, and the connections to it that are kept for the next one.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use tokio::time::Instant;

use super::dial::{Dial, Line};
use super::sign::{Shared, Signer};
use crate::settings::{Aws, SettingError};

/// Attempts at one request.
const ATTEMPTS: u32 = 2;
/// For one attempt, answer included.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);
/// Between attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// Answers are empty or a short error.
const ANSWER_MAX_BYTES: usize = 4 * 1024;

const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// A header that every request has, by its name and value.
pub(super) type Header = (&'static str, &'static str);

/// Where an endpoint is.
pub(super) struct Endpoint {
    pub(super) dial: Dial,
    signer: Signer,
    host: HeaderValue,
    token: Option<HeaderValue>,
    more: Option<Header>,
    /// The path of its URL, without trailing slash.
    pub(super) base: String,
    /// Connections that wait for the next request, the last used last.
    kept: RefCell<Vec<Line>>,
}

/// What became of one attempt.
enum Attempt {
    Answered(u16),
    /// The connection was an old one that the other side had closed: the request never happened.
    Stale,
    Broken(String),
    TimedOut,
}

impl Endpoint {
    /// Opens no connection yet. Signs in the name of `service`, and sends `more` with each request. `setting` is where
    /// `url` comes from.
    ///
    /// # Errors
    /// If `url` is not one, or the session token cannot be a header.
    pub(super) fn new(
        aws: &Aws,
        setting: &'static str,
        url: &str,
        service: &'static str,
        more: Option<Header>,
    ) -> Result<Self, SettingError> {
        let unreadable = || SettingError::Unreadable {
            name: setting,
            value: url.to_owned(),
            wanted: "a wss or https URL is wanted".to_owned(),
        };
        let uri: Uri = url.parse().map_err(|_| unreadable())?;
        let authority = uri.authority().ok_or_else(unreadable)?;
        // API Gateway tells its endpoint as clients of WebSockets want it.
        let (default_port, roots) = match uri.scheme_str() {
            Some("http" | "ws") => (80, None),
            Some("https" | "wss") => (443, Some(aws.roots)),
            _ => return Err(unreadable()),
        };
        let token = aws.session_token.as_deref();
        let token_header =
            token.map(HeaderValue::from_str).transpose().map_err(|_| SettingError::Unreadable {
                name: "AWS_SESSION_TOKEN",
                value: String::new(),
                wanted: "printable characters are wanted".to_owned(),
            })?;
        let port = authority.port_u16().unwrap_or(default_port);
        Ok(Self {
            dial: Dial::new(authority.host().to_owned(), port, roots),
            signer: Signer::new(aws, service, authority.as_str(), more),
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| unreadable())?,
            token: token_header,
            more,
            base: uri.path().trim_end_matches('/').to_owned(),
            kept: RefCell::new(Vec::new()),
        })
    }

    #[cfg(test)]
    pub(super) fn host(&self) -> &str {
        self.host.to_str().unwrap_or_default()
    }

    /// Prepares requests of one body to paths that differ.
    pub(super) fn share(&self, body: &Bytes, now_s: u64) -> Shared {
        self.signer.share(body, now_s)
    }

    /// Sends a request, twice if need be, and gives the status of its answer or why there is none. What is not answered
    /// by `until` is given up.
    pub(super) async fn send(
        &self,
        path: &str,
        shared: &Shared,
        body: &Bytes,
        until: Instant,
    ) -> Result<u16, String> {
        let Some(authorization) = shared.authorization(path) else {
            return Err("the signature cannot be a header".to_owned());
        };
        let mut attempt = 1;
        loop {
            if Instant::now() >= until {
                return Err("there was no time left".to_owned());
            }
            let outcome = match self.attempt(path, &authorization, shared, body, until).await {
                // 429: too fast, or this client reads too slowly. 5xx: trouble on the other side.
                Attempt::Answered(status @ (429 | 500..)) => Ok(status),
                Attempt::Answered(status) => return Ok(status),
                Attempt::Stale => continue,
                Attempt::Broken(why) => Err(why),
                // It may have arrived, and one slow client has held the others long enough.
                Attempt::TimedOut => return Err("no answer in time".to_owned()),
            };
            if attempt == ATTEMPTS {
                return outcome;
            }
            attempt += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn attempt(
        &self,
        path: &str,
        authorization: &HeaderValue,
        shared: &Shared,
        body: &Bytes,
        until: Instant,
    ) -> Attempt {
        let kept = self.kept.borrow_mut().pop();
        let is_kept = kept.is_some();
        let exchange = async {
            let mut line = match kept {
                Some(line) => line,
                None => self.dial.line().await.map_err(|why| why.to_string())?,
            };
            let mut request = Request::new(Full::new(body.clone()));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = Uri::try_from(path).map_err(|why| why.to_string())?;
            let headers = request.headers_mut();
            headers.insert(HOST, self.host.clone());
            headers.insert(X_AMZ_DATE, shared.date.clone());
            headers.insert(AUTHORIZATION, authorization.clone());
            if let Some((name, value)) = self.more {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            if let Some(token) = &self.token {
                headers.insert(X_AMZ_SECURITY_TOKEN, token.clone());
            }
            line.ready().await.map_err(|why| why.to_string())?;
            let answer = line.send_request(request).await.map_err(|why| why.to_string())?;
            let status = answer.status().as_u16();
            // Read to its end, or the connection cannot be used again.
            if Limited::new(answer.into_body(), ANSWER_MAX_BYTES).collect().await.is_ok() {
                self.kept.borrow_mut().push(line);
            }
            Ok::<u16, String>(status)
        };
        match tokio::time::timeout_at(until.min(Instant::now() + TIMEOUT), exchange).await {
            Ok(Ok(status)) => Attempt::Answered(status),
            Ok(Err(_)) if is_kept => Attempt::Stale,
            Ok(Err(why)) => Attempt::Broken(why),
            Err(_) => Attempt::TimedOut,
        }
    }
}
