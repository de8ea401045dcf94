//! An execution environment: a process of the function's `bootstrap`, its Runtime API, and who watches over it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Notify, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::output::{self, Destination, Mark};
use super::pool::{Due, Ending, Pool, Spec};
use super::runtime_api;
use crate::iam::SessionCredentials;

/// How long a program may be busy before it counts as broken, and how often that is looked at.
const BUSY_FOR: Duration = Duration::from_secs(2);
const BUSY_PAUSE: Duration = Duration::from_millis(2);

/// Starts the process for a place that the pool has reserved. Whatever becomes of it, the pool is told.
pub(super) fn start(pool: &Arc<Pool>, id: u64, wake: Arc<Notify>) {
    let (marks, lines) = mpsc::unbounded_channel();
    pool.attach(id, marks.clone());
    let credentials = match pool.host.cx.iam.assume_for_service(
        &pool.spec.role,
        "lambda.amazonaws.com",
        &pool.spec.function,
    ) {
        Ok(credentials) => credentials,
        Err(error) => {
            let message =
                format!("The role defined for the function cannot be assumed by Lambda. {}", error.message);
            pool.gone(id, Ending::Failed { error_type: "AccessDeniedException", message }, None);
            return;
        }
    };
    let Spec { role, grantee, variables, .. } = &pool.spec;
    if !variables.is_empty() && grantee.is_some() && pool.host.cx.iam.role_id(role) != *grantee {
        let message =
            "Lambda was unable to decrypt the environment variables because KMS access was denied. Please \
                       check the function's KMS key settings."
                .to_owned();
        pool.gone(id, Ending::Failed { error_type: "KMSAccessDeniedException", message }, None);
        return;
    }
    let to = Arc::new(Destination {
        group: pool.spec.log_group.clone(),
        stream: stream_name(&pool.spec.version),
        principal: credentials.principal.clone(),
    });
    let pool = Arc::clone(pool);
    tokio::spawn(async move {
        match spawn(&pool, &credentials, &to.stream).await {
            Ok((listener, mut child)) => {
                let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
                let _ = marks.send(Mark::Line(format!(
                    "INIT_START Runtime Version: provided.local\tRuntime Version ARN: arn:aws:lambda:{}::runtime:local",
                    pool.host.cx.region
                )));
                tokio::spawn(output::pump(pool.host.sink.clone(), to, child.id(), stdout, stderr, lines));
                let api = runtime_api::serve(Arc::clone(&pool), id, listener);
                let api = AbortOnDropHandle::new(tokio::spawn(api));
                supervise(pool, id, wake, child, api).await;
            }
            Err(error) => {
                tokio::spawn(output::pump(pool.host.sink.clone(), to, None, None, None, lines));
                let (ending, hint) = could_not_start(&pool.spec.code.path, &error);
                pool.gone(id, ending, hint);
            }
        }
    });
}

/// The process and what it talks to.
///
/// A program that was written a moment ago may be "busy": whatever this process starts at the same time holds all open
/// files until it has become another program, that of the writer too. It passes in milliseconds
/// (<https://github.com/rust-lang/rust/issues/114554>).
async fn spawn(
    pool: &Pool,
    credentials: &SessionCredentials,
    stream: &str,
) -> io::Result<(TcpListener, Child)> {
    let (listener, address) = listen()?;
    let group = pool.host.watchdog.group()?;
    let mut command = command(pool, credentials, stream, address, group);
    let patience = Instant::now() + BUSY_FOR;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < patience => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            spawned => return spawned.map(|child| (listener, child)),
        }
    }
}

fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((TcpListener::from_std(listener)?, address))
}

/// The process with exactly the environment that Lambda would give it, and the endpoint of this cloud.
fn command(
    pool: &Pool,
    credentials: &SessionCredentials,
    stream: &str,
    runtime_api: SocketAddr,
    group: i32,
) -> Command {
    let (cx, spec) = (&pool.host.cx, &pool.spec);
    let root = spec.code.path.to_string_lossy();
    let mut command = Command::new(spec.code.path.join("bootstrap"));
    command
        .current_dir(&spec.code.path)
        .env_clear()
        .envs([
            ("AWS_ACCESS_KEY_ID", credentials.access_key_id.as_str()),
            ("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key.as_str()),
            ("AWS_SESSION_TOKEN", credentials.session_token.as_str()),
            ("AWS_REGION", cx.region.as_str()),
            ("AWS_DEFAULT_REGION", cx.region.as_str()),
            ("AWS_LAMBDA_FUNCTION_NAME", spec.function.as_str()),
            ("AWS_LAMBDA_FUNCTION_VERSION", spec.version.as_str()),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", spec.log_group.as_str()),
            ("AWS_LAMBDA_LOG_STREAM_NAME", stream),
            ("AWS_ENDPOINT_URL", cx.endpoint.as_str()),
            // No SDK may ask a metadata service for what is already here.
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("_HANDLER", spec.handler.as_str()),
            ("LAMBDA_TASK_ROOT", &*root),
            ("LAMBDA_RUNTIME_DIR", &*root),
            ("LANG", "en_US.UTF-8"),
            ("PATH", "/usr/local/bin:/usr/bin:/bin:/opt/bin"),
            ("TZ", ":UTC"),
        ])
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", spec.memory_mb.to_string())
        .env("AWS_LAMBDA_RUNTIME_API", runtime_api.to_string())
        .env("LD_LIBRARY_PATH", format!("{root}:{root}/lib"))
        .envs(spec.variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(group)
        .kill_on_drop(true);
    command
}

/// Waits for the end of the process, and brings it about when it is due.
async fn supervise(
    pool: Arc<Pool>,
    id: u64,
    wake: Arc<Notify>,
    mut child: Child,
    api: AbortOnDropHandle<()>,
) {
    let exit = loop {
        let until = match pool.due(id) {
            Due::Wait(until) => until,
            Due::Kill => {
                let _ = child.start_kill();
                break child.wait().await;
            }
        };
        tokio::select! {
            exit = child.wait() => break exit,
            () = tokio::time::sleep_until(until.into()) => {}
            () = wake.notified() => {}
        }
    };
    let (ending, hint) = exited(exit, &pool.spec.code.path);
    pool.gone(id, ending, hint);
    drop(api);
}

fn exited(exit: io::Result<ExitStatus>, directory: &Path) -> (Ending, Option<String>) {
    let message = match exit {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(0), _) => "Runtime exited without providing a reason".to_owned(),
            (Some(code), _) => format!("Runtime exited with error: exit status {code}"),
            (None, Some(signal)) => format!("Runtime exited with error: signal: {}", signal_name(signal)),
            (None, None) => "Runtime exited with error".to_owned(),
        },
        Err(error) => format!("Runtime exited with error: {error}"),
    };
    let code = status_needs_hint(&message).then(|| glibc_hint(directory)).flatten();
    (Ending::Failed { error_type: "Runtime.ExitError", message }, code)
}

/// The dynamic linker says with status 1 that a library or a version of one is missing.
fn status_needs_hint(message: &str) -> bool {
    message.ends_with("exit status 1") || message.ends_with("exit status 127")
}

/// What to do if the binary wants a newer C library than this machine's; nothing if it may have ended for any other
/// reason, which its own output then tells.
fn glibc_hint(directory: &Path) -> Option<String> {
    let needed = super::elf::newest_glibc(&directory.join("bootstrap"))?;
    let here = super::elf::own_glibc()?;
    (needed > here).then(|| {
        format!(
            "Hint: bootstrap needs GLIBC_{}.{}, and this machine has {}.{}. Build it on this machine, or for an older \
             C library.",
            needed.0, needed.1, here.0, here.1
        )
    })
}

fn could_not_start(directory: &Path, error: &io::Error) -> (Ending, Option<String>) {
    let bootstrap = directory.join("bootstrap");
    let (message, hint) = match error.kind() {
        io::ErrorKind::NotFound if !bootstrap.exists() => (
            "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]".to_owned(),
            Some("Hint: the zip must have an executable file named bootstrap at its root.".to_owned()),
        ),
        io::ErrorKind::NotFound => (
            "fork/exec /var/task/bootstrap: no such file or directory".to_owned(),
            Some(
                "Hint: the interpreter that bootstrap names is not on this machine: a script's #! line, or the \
                 dynamic linker of another C library."
                    .to_owned(),
            ),
        ),
        io::ErrorKind::PermissionDenied => (
            "fork/exec /var/task/bootstrap: permission denied".to_owned(),
            Some("Hint: bootstrap is not executable; its mode in the zip must be 0755.".to_owned()),
        ),
        // ENOEXEC has no kind of its own: the error number is the same on every Unix.
        _ if error.raw_os_error() == Some(8) => (
            "fork/exec /var/task/bootstrap: exec format error".to_owned(),
            Some(match super::elf::machine(&bootstrap) {
                Some(machine) if machine != std::env::consts::ARCH => format!(
                    "Hint: bootstrap is built for {machine}, and this machine is {}.",
                    std::env::consts::ARCH
                ),
                _ => "Hint: bootstrap is neither a program of this machine nor a script with a #! line.".to_owned(),
            }),
        ),
        _ => (format!("fork/exec /var/task/bootstrap: {error}"), None),
    };
    // The invoker learns the way out too: here it is the one who built the zip.
    let message = hint.as_ref().map_or(message.clone(), |hint| format!("{message}. {hint}"));
    (Ending::Failed { error_type: "Runtime.InvalidEntrypoint", message }, None)
}

/// As Go prints signals, which is what Lambda shows.
fn signal_name(signal: i32) -> String {
    match signal {
        4 => "illegal instruction".to_owned(),
        6 => "aborted".to_owned(),
        9 => "killed".to_owned(),
        11 => "segmentation fault".to_owned(),
        15 => "terminated".to_owned(),
        other => other.to_string(),
    }
}

/// `YYYY/MM/DD/[version]` and 32 hexadecimal digits.
fn stream_name(version: &str) -> String {
    let date = jiff::Timestamp::now().strftime("%Y/%m/%d");
    format!("{date}/[{version}]{}", uuid::Uuid::new_v4().simple())
}
