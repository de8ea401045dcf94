//! Calls that one service makes to another in the name of its caller: authorised, counted and met by faults like those
//! from outside.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request};

use super::serve::Outcome;
use super::{Front, Service};
use crate::call::{Principal, Reply};
use crate::error::AwsError;

/// A request without a signature.
#[derive(Debug)]
pub(crate) struct Relayed {
    pub(crate) service: Service,
    pub(crate) method: Method,
    /// With its query, if it has one.
    pub(crate) path: String,
    /// `X-Amz-Target`, for services that want one.
    pub(crate) target: Option<String>,
    pub(crate) body: Bytes,
}

impl Front {
    pub(crate) fn relay<'a>(
        self: &'a Arc<Self>,
        who: &'a Principal,
        relayed: Relayed,
    ) -> BoxFuture<'a, Result<Reply, AwsError>> {
        Box::pin(async move {
            let Relayed { service, method, path, target, body } = relayed;
            let mut request = Request::builder().method(method).uri(path);
            if let Some(target) = target {
                request = request.header("x-amz-target", target);
            }
            let (parts, ()) = request
                .body(())
                .map_err(|error| AwsError::internal(format!("failed to ask {}: {error}", service.name())))?
                .into_parts();
            let request_id = uuid::Uuid::new_v4().to_string();
            match self.handle(who.clone(), service, &parts, body, &request_id).await? {
                (Outcome::Reply(reply), _) => Ok(reply),
                (Outcome::Stream(_), _) => Err(AwsError::internal("a stream where an answer was wanted")),
            }
        })
    }
}
