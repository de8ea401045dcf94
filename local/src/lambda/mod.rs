//! Lambda: functions, versions, aliases and permissions, and the processes that run them.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};

use crate::{
    call::{Call, Reply, Route},
    context::Context,
    error::AwsError,
};

/// The service.
pub(crate) struct Lambda {
    cx: Arc<Context>,
}

/// What a synchronous invocation brought.
#[derive(Clone, Debug)]
pub(crate) struct Invoked {
    pub payload: Bytes,
    /// `Handled` or `Unhandled` when the function failed.
    pub function_error: Option<&'static str>,
}

/// Why an invocation by another service brought nothing.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct InvokeError(#[from] pub AwsError);

impl Lambda {
    pub(crate) fn new(cx: Arc<Context>) -> Result<Arc<Self>, AwsError> {
        Ok(Arc::new(Self { cx }))
    }

    pub(crate) fn route(&self, _method: &Method, _path: &str) -> Option<Route> {
        None
    }

    pub(crate) async fn call(&self, route: Route, _call: Call) -> Result<Reply, AwsError> {
        Err(AwsError::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", route.operation))
    }

    pub(crate) async fn invoke_from_service(
        &self,
        _function_arn: &str,
        _service: &str,
        _source_arn: &str,
        _payload: Bytes,
    ) -> Result<Invoked, InvokeError> {
        Err(AwsError::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", self.cx.region.clone()).into())
    }

    pub(crate) async fn shutdown(&self) {}
}
