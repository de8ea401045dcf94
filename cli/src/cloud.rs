//! The local cloud as the command line sees it: which process runs it, whether it answers, how one is started in the
//! background and stopped. A lock held by the running process says the truth; `local.json` only says where to look.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chat_local::StartError;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::error::{CliError, Result};
use crate::project::Project;

const RECORD: &str = "local.json";
const LOCK: &str = "local.lock";
/// Output of the process in the background.
pub(crate) const LOG: &str = "local.log";

/// A cloud that does not answer for this long is not healthy.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
/// A cloud reads its state within milliseconds; this is for a machine under heavy load.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Handlers get their shutdown grace before the process goes.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// A look at the lock (see [`find`]) holds it for microseconds, so a start tries again.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(15);

/// The process that runs the cloud, as it wrote itself down.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Record {
    pub(crate) pid: u32,
    pub(crate) port: u16,
    pub(crate) started: jiff::Timestamp,
}

impl Record {
    pub(crate) fn endpoint(&self) -> String {
        endpoint(self.port)
    }
}

pub(crate) fn endpoint(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// What is known about a project's cloud.
#[derive(Debug)]
pub(crate) enum Presence {
    /// It runs and answers.
    Running(Record),
    /// A process holds the lock but does not answer: it is starting, stopping, or stuck.
    Silent(Option<Record>),
    /// No process. A record that is left over is from one that was killed.
    Absent { killed: Option<Record> },
}

/// Looks for the project's cloud.
pub(crate) async fn find(project: &Project) -> Result<Presence> {
    let record = read_record(project);
    if !is_locked(project)? {
        return Ok(Presence::Absent { killed: record });
    }
    match record {
        Some(record) if is_healthy(record.port).await => Ok(Presence::Running(record)),
        record => Ok(Presence::Silent(record)),
    }
}

fn read_record(project: &Project) -> Option<Record> {
    // A record that does not parse is as good as none: the lock decides.
    serde_json::from_slice(&std::fs::read(project.state(RECORD)).ok()?).ok()
}

fn is_locked(project: &Project) -> Result<bool> {
    let file = match File::open(project.state(LOCK)) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(project.unwritable(&e)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(e)) => Err(project.unwritable(&e)),
    }
}

/// Whether a cloud answers at the port.
pub(crate) async fn is_healthy(port: u16) -> bool {
    matches!(timeout(HEALTH_TIMEOUT, get_health(port)).await, Ok(Ok(true)))
}

async fn get_health(port: u16) -> io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let request =
        format!("GET /_local/health HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    Ok(&status == b"HTTP/1.1 200")
}

/// The right to run the project's cloud, held by the process that does. The kernel takes it back however the process
/// ends.
#[derive(Debug)]
pub(crate) struct Lease {
    record: PathBuf,
    _lock: File,
}

impl Lease {
    /// `None` if another process runs the cloud.
    pub(crate) async fn take(project: &Project) -> Result<Option<Self>> {
        let path = project.state_dir()?.join(LOCK);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(|e| project.unwritable(&e))?;
        let patience = Instant::now() + LOCK_PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self { record: project.state(RECORD), _lock: file })),
                Err(TryLockError::WouldBlock) if Instant::now() < patience => sleep(POLL).await,
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(e)) => return Err(project.unwritable(&e)),
            }
        }
    }

    /// Says where the cloud is, once it listens.
    pub(crate) fn publish(&self, project: &Project, port: u16) -> Result<Record> {
        let record = Record { pid: std::process::id(), port, started: jiff::Timestamp::now() };
        let write = || -> io::Result<()> {
            // Written aside and renamed, so that no reader sees half of it.
            let fresh = self.record.with_extension("json.new");
            let mut file = File::create(&fresh)?;
            serde_json::to_writer(&mut file, &record)?;
            file.write_all(b"\n")?;
            std::fs::rename(&fresh, &self.record)
        };
        write().map_err(|e| project.unwritable(&e))?;
        Ok(record)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Gone already is fine: the lock is what counts.
        let _ = std::fs::remove_file(&self.record);
    }
}

/// Starts a cloud in this process.
pub(crate) async fn start_here(
    project: &Project,
    port: u16,
    settings: chat_local::Settings,
) -> Result<chat_local::Cloud> {
    let data = project.state_dir()?.join("data");
    let config = chat_local::CloudConfig {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        data: Some(data),
        settings,
    };
    match chat_local::Cloud::start(config).await {
        Ok(cloud) => Ok(cloud),
        Err(StartError::PortInUse { .. }) => Err(port_in_use(port).await),
        Err(StartError::DataDirectory { source, .. }) => Err(project.unwritable(&source)),
        Err(e) => Err(CliError::failed("cloud_not_started", "failed to start the local cloud")
            .because(&e)
            .help("`chatctl dev --fresh` starts over without the data of earlier runs")),
    }
}

fn is_taken(port: u16) -> bool {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .is_err_and(|e| e.kind() == io::ErrorKind::AddrInUse)
}

async fn port_in_use(port: u16) -> CliError {
    let who = if is_healthy(port).await { "the local cloud of another project" } else { "another program" };
    CliError::failed("port_in_use", format!("port {port} is in use by {who}"))
        .help(format!("stop it, or choose another port: --port {}", port.saturating_add(10)))
}

/// The running cloud; if there is none, one is started in the background first. Says whether it was started.
pub(crate) async fn ensure(project: &Project, port: u16) -> Result<(Record, bool)> {
    match find(project).await? {
        Presence::Running(record) => Ok((record, false)),
        Presence::Silent(record) => match settle(project).await? {
            Some(record) => Ok((record, false)),
            None if is_locked(project)? => Err(silent(project, record.as_ref())),
            None => Ok((start_in_background(project, port, None).await?, true)),
        },
        Presence::Absent { .. } => Ok((start_in_background(project, port, None).await?, true)),
    }
}

/// Waits for a cloud that is just starting or stopping.
async fn settle(project: &Project) -> Result<Option<Record>> {
    let deadline = Instant::now() + STOP_TIMEOUT;
    while Instant::now() < deadline {
        match find(project).await? {
            Presence::Running(record) => return Ok(Some(record)),
            Presence::Absent { .. } => return Ok(None),
            Presence::Silent(_) => sleep(POLL).await,
        }
    }
    Ok(None)
}

fn silent(project: &Project, record: Option<&Record>) -> CliError {
    let who = record.map_or_else(String::new, |r| format!(" (process {}, port {})", r.pid, r.port));
    CliError::failed("cloud_silent", format!("the local cloud runs{who} but does not answer")).help(format!(
        "`chatctl local down` ends it; its output is in {}",
        Project::short(&project.state(LOG))
    ))
}

/// Starts `chatctl local up` as a process of its own and waits until it answers.
pub(crate) async fn start_in_background(
    project: &Project,
    port: u16,
    cloud_settings: Option<&Path>,
) -> Result<Record> {
    let log_path = project.state_dir()?.join(LOG);
    let log = File::create(&log_path).map_err(|e| project.unwritable(&e))?;
    let errors = log.try_clone().map_err(|e| project.unwritable(&e))?;
    let program = std::env::current_exe().map_err(|e| {
        CliError::failed("cloud_not_started", "failed to find this program's own file").because(&e)
    })?;
    let mut command = Command::new(program);
    command
        .args(["local", "up", "--background", "--no-color", "--port", &port.to_string(), "--settings"])
        .arg(&project.settings)
        .env(crate::env::STATE_DIR, project.state_dir()?)
        .current_dir(&project.root)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        // A group of its own: Ctrl-C in this terminal is not meant for it.
        .process_group(0);
    if let Some(path) = cloud_settings {
        command.arg("--cloud-settings").arg(path);
    }
    let mut child = command
        .spawn()
        .map_err(|e| CliError::failed("cloud_not_started", "failed to start the local cloud").because(&e))?;

    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        // Whoever won the race for the lock serves this project as well.
        if let Presence::Running(record) = find(project).await? {
            return Ok(record);
        }
        if let Ok(Some(status)) = child.try_wait() {
            if let Presence::Running(record) = find(project).await? {
                return Ok(record);
            }
            return Err(died(&log_path, &status.to_string(), port).await);
        }
        if Instant::now() > deadline {
            return Err(silent(project, read_record(project).as_ref()));
        }
        sleep(POLL).await;
    }
}

async fn died(log: &Path, status: &str, port: u16) -> CliError {
    if port != 0 && is_taken(port) {
        return port_in_use(port).await;
    }
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let mut error =
        CliError::failed("cloud_not_started", format!("the local cloud ended as it started ({status})"));
    error.causes.extend(lines.iter().skip(lines.len().saturating_sub(8)).map(|line| (*line).to_owned()));
    error.help(format!("all of its output is in {}", Project::short(log)))
}

/// What [`stop`] found.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// Nothing ran. A record of a killed process was removed, if there was one.
    WasNotRunning {
        killed: Option<Record>,
    },
    Stopped {
        record: Record,
        by_force: bool,
    },
}

/// Ends the project's cloud and waits until it is gone.
pub(crate) async fn stop(project: &Project) -> Result<Stopped> {
    let record = match find(project).await? {
        Presence::Absent { killed } => {
            let _ = std::fs::remove_file(project.state(RECORD));
            return Ok(Stopped::WasNotRunning { killed });
        }
        Presence::Running(record) | Presence::Silent(Some(record)) => record,
        Presence::Silent(None) => match settle(project).await? {
            Some(record) => record,
            None if !is_locked(project)? => return Ok(Stopped::WasNotRunning { killed: None }),
            None => {
                return Err(CliError::failed(
                    "cloud_silent",
                    format!(
                        "a process holds {} but did not say who it is",
                        Project::short(&project.state(LOCK))
                    ),
                )
                .help("look for a hanging `chatctl` process and end it"));
            }
        },
    };
    signal(&record, rustix::process::Signal::TERM)?;
    if wait_until_gone(project).await? {
        return Ok(Stopped::Stopped { record, by_force: false });
    }
    signal(&record, rustix::process::Signal::KILL)?;
    if wait_until_gone(project).await? {
        let _ = std::fs::remove_file(project.state(RECORD));
        return Ok(Stopped::Stopped { record, by_force: true });
    }
    Err(silent(project, Some(&record)))
}

fn signal(record: &Record, signal: rustix::process::Signal) -> Result<()> {
    let pid = i32::try_from(record.pid).ok().and_then(rustix::process::Pid::from_raw);
    match pid.map(|pid| rustix::process::kill_process(pid, signal)) {
        // No such process: it went by itself in the meantime.
        Some(Ok(()) | Err(rustix::io::Errno::SRCH)) => Ok(()),
        Some(Err(e)) => Err(CliError::failed(
            "cloud_not_stopped",
            format!("failed to end process {}, which runs the local cloud", record.pid),
        )
        .because(&io::Error::from(e))),
        None => Ok(()),
    }
}

async fn wait_until_gone(project: &Project) -> Result<bool> {
    let deadline = Instant::now() + STOP_TIMEOUT;
    while Instant::now() < deadline {
        if !is_locked(project)? {
            return Ok(true);
        }
        sleep(POLL).await;
    }
    Ok(false)
}
