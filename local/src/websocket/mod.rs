//! The WebSocket plane: connections, what their frames invoke, and `@connections`.

mod connections;
mod event;
mod handshake;
mod session;
mod throttle;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::session::Session;
use self::throttle::Bucket;
use crate::apigateway::{ApiGateway, ServedRoute, Serving};
use crate::context::Context;
use crate::lambda::Lambda;

/// The longest that open connections are waited for when the cloud ends.
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(2);

/// Every open connection of every API.
pub(crate) struct WebSockets {
    cx: Arc<Context>,
    apigateway: Arc<ApiGateway>,
    lambda: Arc<Lambda>,
    sessions: RwLock<HashMap<String, Arc<Session>>>,
    /// By API, stage, and route; that of a stage has no route.
    buckets: Mutex<HashMap<(String, String, String), Bucket>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl WebSockets {
    pub(crate) fn new(cx: Arc<Context>, apigateway: Arc<ApiGateway>, lambda: Arc<Lambda>) -> Arc<Self> {
        Arc::new(Self {
            cx,
            apigateway,
            lambda,
            sessions: RwLock::default(),
            buckets: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// Closes every connection and lets what their ends invoke finish, for a short while.
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        drop(tokio::time::timeout(FAREWELL, self.tasks.wait()).await);
    }

    fn find(&self, connection_id: &str) -> Option<Arc<Session>> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).get(connection_id).cloned()
    }

    fn register(&self, session: &Arc<Session>) {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(session.id.clone(), Arc::clone(session));
    }

    fn forget(&self, session: &Session) {
        self.sessions.write().unwrap_or_else(PoisonError::into_inner).remove(&session.id);
    }

    /// Whether throttling lets one more request through: that of its route, or else that of the stage.
    fn admits(&self, serving: &Serving, route: Option<&ServedRoute>) -> bool {
        let of_route = route.and_then(|route| Some((route.throttle?, route.key.as_str())));
        let Some((limit, key)) = of_route.or(serving.throttle.map(|limit| (limit, ""))) else { return true };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (serving.api_id.clone(), serving.stage.clone(), key.to_owned());
        buckets.entry(key).or_insert_with(|| Bucket::full(limit)).take(limit)
    }
}

/// An id as API Gateway makes them for connections, messages and requests: eleven bytes, sixteen characters.
fn new_id() -> String {
    URL_SAFE.encode(rand::random::<[u8; ID_BYTES]>())
}

const ID_BYTES: usize = 11;
