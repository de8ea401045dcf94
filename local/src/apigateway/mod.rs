//! API Gateway v2: the control plane of WebSocket APIs.

use std::sync::Arc;

use http::{Method, StatusCode};

use crate::{
    call::{Call, Reply, Route},
    context::Context,
    error::AwsError,
};

/// The service.
pub(crate) struct ApiGateway {
    cx: Arc<Context>,
}

impl ApiGateway {
    pub(crate) fn new(cx: Arc<Context>) -> Result<Arc<Self>, AwsError> {
        Ok(Arc::new(Self { cx }))
    }

    pub(crate) fn route(&self, _method: &Method, _path: &str) -> Option<Route> {
        None
    }

    pub(crate) async fn call(&self, route: Route, _call: Call) -> Result<Reply, AwsError> {
        Err(AwsError::new(StatusCode::NOT_IMPLEMENTED, route.operation, self.cx.region.clone()))
    }
}
