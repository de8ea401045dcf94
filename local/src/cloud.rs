//! The cloud as a whole: what starts, in which order, and what stops.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpSocket};
use tokio_util::task::AbortOnDropHandle;

use crate::apigateway::ApiGateway;
use crate::calls::Calls;
use crate::cloudformation::CloudFormation;
use crate::config::CloudConfig;
use crate::context::{ACCOUNT, Context};
use crate::dynamodb::DynamoDb;
use crate::error::AwsError;
use crate::faults::Faults;
use crate::front::{Front, Listening, listen};
use crate::iam::Iam;
use crate::lambda::Lambda;
use crate::logs::Logs;
use crate::s3::S3;
use crate::sigv4::Verifier;
use crate::store::Store;
use crate::websocket::WebSockets;

/// A running cloud. Dropping it stops the listener; [`Cloud::shutdown`] also waits for what runs in it to end.
pub struct Cloud {
    addr: SocketAddr,
    front: Arc<Front>,
    listening: Listening,
    sweeper: AbortOnDropHandle<()>,
    /// Locked for as long as the cloud runs.
    _lock: Option<File>,
}

/// Why a cloud did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("refused to listen on {addr}: other machines could reach it; use 127.0.0.1, or set allow_remote")]
    NotLoopback { addr: SocketAddr },
    #[error("port {} of {} is in use: another cloud or another program listens there; stop it or choose another port",
        .addr.port(), .addr.ip())]
    PortInUse { addr: SocketAddr },
    #[error("failed to listen on {addr}")]
    Listen { addr: SocketAddr, source: io::Error },
    #[error("another cloud uses {}{}: stop it or choose another directory", .path.display(),
        .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    DataInUse { path: PathBuf, pid: Option<u32> },
    #[error("failed to write to the data directory {}: is it writable?", .path.display())]
    DataDirectory { path: PathBuf, source: io::Error },
    #[error("failed to open the state in {}: {message}", .path.display())]
    State { path: PathBuf, message: String },
}

/// Connections that wait to be accepted. Several invocations that have just started open more than a hundred each at the
/// same moment; one that finds no place here is tried again by its system a second later.
const BACKLOG: u32 = 4_096;

fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A port whose last connections are still closing is free.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

impl Cloud {
    /// Binds, loads what was kept, and serves.
    pub async fn start(config: CloudConfig) -> Result<Self, StartError> {
        let CloudConfig { listen: addr, data, settings } = config;
        if !addr.ip().is_loopback() && !settings.allow_remote {
            return Err(StartError::NotLoopback { addr });
        }
        // The directory first: a second cloud on it must not get as far as a port.
        let lock = data.as_deref().map(lock_directory).transpose()?;
        let listener = bind(addr).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => StartError::PortInUse { addr },
            _ => StartError::Listen { addr, source },
        })?;
        let addr = listener.local_addr().map_err(|source| StartError::Listen { addr, source })?;

        let place = data.clone().unwrap_or_else(|| "memory".into());
        let state = |message: String| StartError::State { path: place.clone(), message };
        let file = |name: &str| data.as_deref().map(|directory| directory.join(name));
        let store = Store::open(file("cloud.sqlite").as_deref()).map_err(|error| state(error.to_string()))?;
        let of_service = |error: AwsError| state(error.message);
        let faults = settings.faults.clone();
        let cx = Arc::new(Context {
            account: ACCOUNT.to_owned(),
            region: settings.region.clone(),
            endpoint: format!("http://{addr}"),
            data: data.clone(),
            iam: Arc::new(
                Iam::open(store.clone(), faults.clone(), ACCOUNT, &settings.region).map_err(of_service)?,
            ),
            logs: Arc::new(
                Logs::open(file("logs.sqlite").as_deref(), ACCOUNT, &settings.region).map_err(of_service)?,
            ),
            s3: Arc::new(S3::open(store.clone(), &settings.region).map_err(of_service)?),
            store,
            faults,
            settings,
        });
        let dynamodb = DynamoDb::open(file("tables.sqlite").as_deref(), &cx).map_err(of_service)?;
        let lambda = Lambda::new(cx.clone()).map_err(of_service)?;
        let apigateway = ApiGateway::new(cx.clone()).map_err(of_service)?;
        let cloudformation = CloudFormation::open(&cx).map_err(of_service)?;
        let websockets = WebSockets::new(cx.clone(), apigateway.clone(), lambda.clone());
        let sweeper = tokio::spawn(sweep(dynamodb.clone(), cx.logs.clone(), cx.settings.ttl_sweep));
        let sweeper = AbortOnDropHandle::new(sweeper);
        let front = Arc::new(Front {
            verifier: Verifier::new(cx.settings.clock_skew),
            calls: Calls::default(),
            cx,
            dynamodb,
            lambda,
            apigateway,
            cloudformation,
            websockets,
        });
        // Read before new ones can come, and gone on with once functions find a cloud that listens.
        let accepted = front.lambda.accepted().map_err(of_service)?;
        let listening = listen(front.clone(), listener);
        front.lambda.resume(accepted);
        Ok(Self { addr, listening, front, sweeper, _lock: lock })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:4620`: what to give SDKs as the endpoint of every service.
    pub fn endpoint(&self) -> String {
        self.front.cx.endpoint.clone()
    }

    /// May be changed at any time.
    pub fn faults(&self) -> &Faults {
        &self.front.cx.faults
    }

    /// Connections that are open. When those of a caller are closed, so are its calls: none will still take effect.
    pub fn connections(&self) -> usize {
        self.listening.connections()
    }

    pub fn calls(&self) -> &Calls {
        &self.front.calls
    }

    /// Closes connections and stops functions, which may still call the cloud until they have ended.
    pub async fn shutdown(self) {
        self.front.websockets.shutdown().await;
        self.front.lambda.shutdown().await;
        self.sweeper.abort();
        self.front.cx.logs.shutdown();
        self.listening.shutdown().await;
    }
}

/// Removes expired items and log events from time to time. A sweep reads every item, so long ones come seldom: they
/// take no more than a hundredth of the time.
async fn sweep(dynamodb: DynamoDb, logs: Arc<Logs>, every: Duration) {
    let mut wait = every;
    loop {
        tokio::time::sleep(wait).await;
        let started = Instant::now();
        let (dynamodb, logs) = (dynamodb.clone(), logs.clone());
        // Takes the locks that requests take too, and may take its time.
        let swept = tokio::task::spawn_blocking(move || {
            dynamodb.sweep();
            logs.sweep();
        });
        let _ = swept.await;
        wait = every.max(started.elapsed() * 100);
    }
}

/// Makes the directory and locks it. The lock goes with the process, however that ends.
fn lock_directory(path: &Path) -> Result<File, StartError> {
    let failed = |source| StartError::DataDirectory { path: path.to_owned(), source };
    std::fs::create_dir_all(path).map_err(failed)?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path.join("cloud.lock"))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            return Err(StartError::DataInUse { path: path.to_owned(), pid: text.trim().parse().ok() });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    // For the message above, and for whoever wants to stop this process.
    file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}
