//! The listener: reads requests, finds out who sent them and what they want, and lets the services answer.

mod admin;
mod demands;
pub(crate) mod relay;
mod render;
mod serve;
mod service;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::service::Service;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::apigateway::ApiGateway;
use crate::calls::Calls;
use crate::cloudformation::CloudFormation;
use crate::context::Context;
use crate::dynamodb::DynamoDb;
use crate::lambda::Lambda;
use crate::sigv4::Verifier;
use crate::websocket::WebSockets;

/// Everything behind the listener.
pub(crate) struct Front {
    pub(crate) cx: Arc<Context>,
    pub(crate) verifier: Verifier,
    pub(crate) calls: Calls,
    pub(crate) dynamodb: DynamoDb,
    pub(crate) lambda: Arc<Lambda>,
    pub(crate) apigateway: Arc<ApiGateway>,
    pub(crate) cloudformation: Arc<CloudFormation>,
    pub(crate) websockets: Arc<WebSockets>,
}

/// The running listener. Dropping it stops it too.
pub(crate) struct Listening {
    stop: CancellationToken,
    connections: TaskTracker,
}

/// How long requests may take to finish once the listener is told to stop.
const GRACE: Duration = Duration::from_secs(2);

pub(crate) fn listen(front: Arc<Front>, listener: TcpListener) -> Listening {
    let stop = CancellationToken::new();
    let connections = TaskTracker::new();
    let tasks = connections.clone();
    let stopped = stop.clone();
    connections.spawn(async move {
        loop {
            tokio::select! {
                () = stopped.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        tasks.spawn(serve_connection(front.clone(), stream, stopped.clone()));
                    }
                    // Out of file descriptors, most likely: some will be closed.
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                },
            }
        }
    });
    Listening { stop, connections }
}

impl Listening {
    /// Connections that are open, WebSockets included.
    pub(crate) fn connections(&self) -> usize {
        // The listener itself is one of the tasks.
        self.connections.len().saturating_sub(1)
    }

    pub(crate) async fn shutdown(self) {
        self.stop.cancel();
        self.connections.close();
        // What is still running then ends with its runtime or its client.
        let _ = tokio::time::timeout(GRACE, self.connections.wait()).await;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve_connection(front: Arc<Front>, stream: TcpStream, stop: CancellationToken) {
    // Answers are small and someone waits for each.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| serve::serve(front.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Pools of SDKs keep connections open without a word.
        .header_read_timeout(None)
        .max_headers(128)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        // An answer that was lost on purpose ends the connection with an error: nothing to do about it.
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(GRACE, connection).await;
        }
    }
}
