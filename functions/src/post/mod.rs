//! The gateway over `@connections`: one signed POST for each recipient, many at a time over connections that are kept.
//!
//! The SDK's client for this API would build, sign, resolve and log each of hundreds of equal requests from the start;
//! here only the path and its signature differ.

mod dial;
mod sign;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dial::{Dial, Line};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use sign::{Shared, Signer, encode};

use crate::contract::env;
use crate::ids::ConnectionId;
use crate::ports::{Deliveries, Gateway};
use crate::settings::{Aws, SettingError};

/// Posts under way at once.
const AT_ONCE: usize = 128;
/// Attempts for one recipient.
const ATTEMPTS: u32 = 2;
/// For one attempt, answer included.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Between attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// Answers are empty or a short error.
const ANSWER_MAX_BYTES: usize = 4 * 1024;

const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// The management endpoint of one stage.
pub struct Callback {
    dial: Dial,
    signer: Signer,
    host: HeaderValue,
    token: Option<HeaderValue>,
    /// Up to the connection's id.
    prefix: String,
    /// Connections that wait for the next post, the last used last.
    kept: RefCell<Vec<Line>>,
}

/// What became of one post.
enum Outcome {
    Delivered,
    Gone,
    Failed(String),
}

/// What became of one attempt.
enum Attempt {
    Answered(u16),
    /// The connection was an old one that the other side had closed: the post never happened.
    Stale,
    Broken(String),
    TimedOut,
}

impl Callback {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// If `url` is not one, or the session token cannot be a header.
    pub fn new(aws: &Aws, url: &str) -> Result<Self, SettingError> {
        let unreadable = || SettingError::Unreadable {
            name: env::CALLBACK_URL,
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
            signer: Signer::new(
                &aws.access_key_id,
                &aws.secret_access_key,
                token,
                &aws.region,
                authority.as_str(),
            ),
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| unreadable())?,
            token: token_header,
            prefix: format!("{}/@connections/", uri.path().trim_end_matches('/')),
            kept: RefCell::new(Vec::new()),
        })
    }

    /// Posts to one connection, twice if need be.
    async fn deliver(&self, to: &ConnectionId, shared: &Shared, frame: &Bytes) -> Outcome {
        let mut path = self.prefix.clone();
        encode(to.as_str(), false, &mut path);
        let Some(authorization) = shared.authorization(&path) else {
            return Outcome::Failed("the signature cannot be a header".to_owned());
        };
        let mut attempt = 1;
        loop {
            let why = match self.attempt(&path, &authorization, shared, frame).await {
                Attempt::Answered(200..=299) => return Outcome::Delivered,
                Attempt::Answered(410) => return Outcome::Gone,
                // 429: too fast, or this client reads too slowly. 5xx: the gateway's own trouble.
                Attempt::Answered(status @ (429 | 500..)) => format!("status {status}"),
                Attempt::Answered(status) => return Outcome::Failed(format!("status {status}")),
                Attempt::Stale => continue,
                Attempt::Broken(why) => why,
                // It may have arrived, and one slow client has held the others long enough.
                Attempt::TimedOut => return Outcome::Failed("no answer in time".to_owned()),
            };
            if attempt == ATTEMPTS {
                return Outcome::Failed(why);
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
        frame: &Bytes,
    ) -> Attempt {
        let kept = self.kept.borrow_mut().pop();
        let is_kept = kept.is_some();
        let exchange = async {
            let mut line = match kept {
                Some(line) => line,
                None => self.dial.line().await.map_err(|why| why.to_string())?,
            };
            let mut request = Request::new(Full::new(frame.clone()));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = Uri::try_from(path).map_err(|why| why.to_string())?;
            let headers = request.headers_mut();
            headers.insert(HOST, self.host.clone());
            headers.insert(X_AMZ_DATE, shared.date.clone());
            headers.insert(AUTHORIZATION, authorization.clone());
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
        match tokio::time::timeout(TIMEOUT, exchange).await {
            Ok(Ok(status)) => Attempt::Answered(status),
            Ok(Err(_)) if is_kept => Attempt::Stale,
            Ok(Err(why)) => Attempt::Broken(why),
            Err(_) => Attempt::TimedOut,
        }
    }
}

impl Gateway for Callback {
    async fn post(&self, to: &[&ConnectionId], frame: Bytes) -> Deliveries {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let shared = self.signer.share(&frame, now_s);
        let next = Cell::new(0);
        let deliveries = RefCell::new(Deliveries::default());
        // Each takes the next recipient when it is done with one: who is slow holds only one of them.
        let carrier = || async {
            loop {
                let position = next.get();
                let Some(recipient) = to.get(position) else { return };
                next.set(position + 1);
                match self.deliver(recipient, &shared, &frame).await {
                    Outcome::Delivered => {}
                    Outcome::Gone => deliveries.borrow_mut().gone.push(position),
                    Outcome::Failed(why) => {
                        let mut deliveries = deliveries.borrow_mut();
                        deliveries.failed.push(position);
                        deliveries.why = Some(why);
                    }
                }
            }
        };
        let carriers: FuturesUnordered<_> = (0..AT_ONCE.min(to.len())).map(|_| carrier()).collect();
        carriers.collect::<()>().await;
        deliveries.into_inner()
    }
}
