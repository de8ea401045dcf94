//! The WebSocket plane: connections, what their frames invoke, and `@connections`.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::Full;

use crate::{
    apigateway::ApiGateway,
    call::{Call, Reply, Route},
    context::Context,
    error::AwsError,
    lambda::Lambda,
};

/// Every open connection of every API.
pub(crate) struct WebSockets {
    cx: Arc<Context>,
}

impl WebSockets {
    pub(crate) fn new(cx: Arc<Context>, _apigateway: Arc<ApiGateway>, _lambda: Arc<Lambda>) -> Arc<Self> {
        Arc::new(Self { cx })
    }

    /// Answers an upgrade request, and serves the connection if it was accepted.
    pub(crate) async fn upgrade(
        self: &Arc<Self>,
        _req: http::Request<hyper::body::Incoming>,
    ) -> http::Response<Full<Bytes>> {
        let mut answer = http::Response::new(Full::new(Bytes::from(self.cx.region.clone())));
        *answer.status_mut() = StatusCode::NOT_IMPLEMENTED;
        answer
    }

    pub(crate) fn route(&self, _method: &Method, _path: &str) -> Option<Route> {
        None
    }

    pub(crate) async fn call(&self, route: Route, _call: Call) -> Result<Reply, AwsError> {
        Err(AwsError::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", route.operation))
    }

    pub(crate) async fn shutdown(&self) {}
}
