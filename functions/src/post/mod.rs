//! The gateway over `@connections`: one signed POST for each recipient, many at a time over connections that are kept;
//! and over Lambda, which takes whole batches of them.
//!
//! The SDK's client for these APIs would build, sign, resolve and log each of hundreds of equal requests from the start;
//! here only the path and its signature differ.

mod dial;
mod endpoint;
mod sign;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use endpoint::{Endpoint, Header};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sign::{Shared, encode};
use tokio::time::Instant;

use crate::contract::{Partition, env};
use crate::ids::ConnectionId;
use crate::ports::{Deliveries, Gateway};
use crate::settings::{Aws, SettingError};

/// Posts under way at once.
const AT_ONCE: usize = 128;
/// Lambda is to queue the event, and not to wait for what becomes of it.
const AS_EVENT: Header = ("x-amz-invocation-type", "Event");

/// The management endpoint of one stage, and Lambda's.
pub struct Callback {
    connections: Endpoint,
    lambda: Endpoint,
}

/// What became of one post.
enum Outcome {
    Delivered,
    Gone,
    Failed(String),
}

impl Callback {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// If `url` is not one, or the session token cannot be a header.
    pub fn new(aws: &Aws, url: &str) -> Result<Self, SettingError> {
        let regional = || format!("https://lambda.{}.{}", aws.region, Partition::of(&aws.region).domain);
        let lambda = aws.lambda_endpoint.clone().unwrap_or_else(regional);
        Ok(Self {
            connections: Endpoint::new(aws, env::CALLBACK_URL, url, "execute-api", None)?,
            lambda: Endpoint::new(aws, "AWS_ENDPOINT_URL_LAMBDA", &lambda, "lambda", Some(AS_EVENT))?,
        })
    }

    async fn deliver(&self, to: &ConnectionId, shared: &Shared, frame: &Bytes, until: Instant) -> Outcome {
        let mut path = format!("{}/@connections/", self.connections.base);
        encode(to.as_str(), false, &mut path);
        match self.connections.send(&path, shared, frame, until).await {
            Ok(200..=299) => Outcome::Delivered,
            Ok(410) => Outcome::Gone,
            Ok(status) => Outcome::Failed(format!("status {status}")),
            Err(why) => Outcome::Failed(why),
        }
    }
}

impl Gateway for Callback {
    async fn post(&self, to: &[&ConnectionId], frame: Bytes, until: Instant) -> Deliveries {
        let shared = self.connections.share(&frame, now_s());
        let next = Cell::new(0);
        let deliveries = RefCell::new(Deliveries::default());
        // Each takes the next recipient when it is done with one: who is slow holds only one of them.
        let carrier = || async {
            loop {
                let position = next.get();
                let Some(recipient) = to.get(position) else { return };
                next.set(position + 1);
                match self.deliver(recipient, &shared, &frame, until).await {
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

    async fn hand_over(&self, function: &str, event: Bytes, until: Instant) -> Result<(), String> {
        let shared = self.lambda.share(&event, now_s());
        let mut path = format!("{}/2015-03-31/functions/", self.lambda.base);
        encode(function, false, &mut path);
        path.push_str("/invocations");
        match self.lambda.send(&path, &shared, &event, until).await? {
            202 => Ok(()),
            status => Err(format!("status {status}")),
        }
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
