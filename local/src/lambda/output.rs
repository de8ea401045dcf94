//! What handlers print, and the START, END and REPORT lines around it, on their way to CloudWatch Logs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::{mpsc, oneshot};

use crate::call::Principal;
use crate::context::Context;

/// Lines of one stream, each with its time in milliseconds.
type Batch = Vec<(i64, String)>;

/// Lines that may wait for the disk. A handler that prints faster than that waits for its own output.
const BACKLOG: usize = 4096;
/// Lines come in bursts: what came within this goes into one transaction.
const GATHER: Duration = Duration::from_millis(20);
/// Longest event of CloudWatch Logs, less its overhead. Longer lines are cut into several.
const MAX_LINE: usize = 256 * 1024 - 26;
/// What `LogType: Tail` returns at most.
const TAIL: usize = 4096;
/// Memory is looked up at most this often.
const MEMORY_EVERY: Duration = Duration::from_secs(1);

/// A log stream, and who writes to it.
pub(super) struct Destination {
    pub(super) group: String,
    pub(super) stream: String,
    /// The session of the function's role.
    pub(super) principal: Principal,
}

struct Line {
    to: Arc<Destination>,
    at_ms: i64,
    text: String,
}

enum Item {
    Line(Line),
    Flush(oneshot::Sender<()>),
}

/// Takes lines off the hands of the environments and writes them in batches.
#[derive(Clone)]
pub(super) struct LogSink {
    sender: mpsc::Sender<Item>,
}

impl LogSink {
    pub(super) fn start(cx: Arc<Context>) -> Self {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        tokio::spawn(write(cx, receiver));
        Self { sender }
    }

    /// Returns when all lines given so far are in the logs.
    pub(super) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.sender.send(Item::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }

    async fn line(&self, to: &Arc<Destination>, at_ms: i64, text: String) {
        let _ = self.sender.send(Item::Line(Line { to: Arc::clone(to), at_ms, text })).await;
    }
}

async fn write(cx: Arc<Context>, mut items: mpsc::Receiver<Item>) {
    let mut gathered = Vec::new();
    while items.recv_many(&mut gathered, BACKLOG).await > 0 {
        if !gathered.iter().any(|item| matches!(item, Item::Flush(_))) {
            tokio::time::sleep(GATHER).await;
            while gathered.len() < BACKLOG
                && let Ok(item) = items.try_recv()
            {
                gathered.push(item);
            }
        }
        let batch = std::mem::take(&mut gathered);
        let cx = Arc::clone(&cx);
        // SQLite blocks.
        let _ = tokio::task::spawn_blocking(move || append(&cx, batch)).await;
    }
}

fn append(cx: &Context, batch: Vec<Item>) {
    let mut flushed = Vec::new();
    let mut streams: Vec<(Arc<Destination>, Batch)> = Vec::new();
    for item in batch {
        match item {
            Item::Flush(done) => flushed.push(done),
            Item::Line(line) => match streams.iter_mut().find(|(to, _)| Arc::ptr_eq(to, &line.to)) {
                Some((_, lines)) => lines.push((line.at_ms, line.text)),
                None => streams.push((line.to, vec![(line.at_ms, line.text)])),
            },
        }
    }
    for (to, lines) in streams {
        let arn = format!(
            "arn:aws:logs:{}:{}:log-group:{}:log-stream:{}",
            cx.region, cx.account, to.group, to.stream
        );
        // As on Lambda, a role that may not write its logs has none, and nobody is told.
        let allowed = ["logs:CreateLogStream", "logs:PutLogEvents"]
            .iter()
            .all(|action| cx.iam.authorize(&to.principal, action, &arn).is_ok());
        if allowed {
            let _ = cx.logs.append(&to.group, &to.stream, lines);
        }
    }
    for done in flushed {
        let _ = done.send(());
    }
}

/// What the environment itself has to say between the lines of its process.
pub(super) enum Mark {
    /// A whole line.
    Line(String),
    Start {
        request_id: String,
        version: String,
    },
    End(Box<Report>),
}

/// The end of an invocation.
pub(super) struct Report {
    pub(super) request_id: String,
    pub(super) duration: Duration,
    pub(super) init: Option<Duration>,
    pub(super) memory_mb: u64,
    /// `Status: timeout` and the like, appended to the REPORT line.
    pub(super) status: Option<&'static str>,
    /// Lines before END, and after REPORT.
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
    /// Who wants the last 4 KB of this invocation's lines.
    pub(super) tail: Option<oneshot::Sender<String>>,
}

/// Writes the lines of one process until both its outputs and its marks have ended.
pub(super) async fn pump(
    sink: LogSink,
    to: Arc<Destination>,
    pid: Option<u32>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    mut marks: mpsc::UnboundedReceiver<Mark>,
) {
    let mut log = Log { sink, to, pid, tail: String::new(), memory_mb: 0, looked_up: None };
    let mut stdout = Lines::new(stdout);
    let mut stderr = Lines::new(stderr);
    let mut marking = true;
    loop {
        // Biased: what a handler printed before it answered is logged before the END of its invocation.
        tokio::select! {
            biased;
            Some(line) = stdout.next() => log.line(line).await,
            Some(line) = stderr.next() => log.line(line).await,
            mark = marks.recv(), if marking => match mark {
                Some(Mark::Line(line)) => log.line(line).await,
                Some(Mark::Start { request_id, version }) => {
                    log.tail.clear();
                    log.line(format!("START RequestId: {request_id} Version: {version}")).await;
                }
                Some(Mark::End(report)) => {
                    loop {
                        tokio::select! {
                            biased;
                            Some(line) = stdout.next() => log.line(line).await,
                            Some(line) = stderr.next() => log.line(line).await,
                            () = tokio::task::yield_now() => break,
                        }
                    }
                    log.end(*report).await;
                }
                None => marking = false,
            },
            else => break,
        }
    }
}

struct Log {
    sink: LogSink,
    to: Arc<Destination>,
    pid: Option<u32>,
    /// The lines of the running invocation, as far as `LogType: Tail` wants them.
    tail: String,
    memory_mb: u64,
    looked_up: Option<Instant>,
}

impl Log {
    async fn line(&mut self, text: String) {
        let at_ms = jiff::Timestamp::now().as_millisecond();
        self.tail.push_str(&text);
        self.tail.push('\n');
        if self.tail.len() > 2 * TAIL {
            let from = self.tail.ceil_char_boundary(self.tail.len() - TAIL);
            self.tail.drain(..from);
        }
        self.sink.line(&self.to, at_ms, text).await;
    }

    async fn end(&mut self, report: Report) {
        let id = &report.request_id;
        if let Some(before) = report.before {
            self.line(before).await;
        }
        self.line(format!("END RequestId: {id}")).await;
        let ms = report.duration.as_secs_f64() * 1000.0;
        let mut text = format!(
            "REPORT RequestId: {id}\tDuration: {ms:.2} ms\tBilled Duration: {:.0} ms\tMemory Size: {} MB\t\
             Max Memory Used: {} MB\t",
            (ms + report.init.map_or(0.0, |init| init.as_secs_f64() * 1000.0)).ceil(),
            report.memory_mb,
            self.max_memory(),
        );
        if let Some(init) = report.init {
            text.push_str(&format!("Init Duration: {:.2} ms\t", init.as_secs_f64() * 1000.0));
        }
        if let Some(status) = report.status {
            text.push_str(status);
        }
        self.line(text).await;
        if let Some(after) = report.after {
            self.line(after).await;
        }
        if let Some(tail) = report.tail {
            let from = self.tail.ceil_char_boundary(self.tail.len().saturating_sub(TAIL));
            let _ = tail.send(self.tail[from..].to_owned());
        }
    }

    /// Highest resident memory of the process so far, in MB, where the system tells.
    fn max_memory(&mut self) -> u64 {
        if self.looked_up.is_none_or(|at| at.elapsed() >= MEMORY_EVERY)
            && let Some(pid) = self.pid
        {
            self.looked_up = Some(Instant::now());
            if let Some(kib) =
                std::fs::read_to_string(format!("/proc/{pid}/status")).ok().and_then(|status| {
                    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
                    line.trim().trim_end_matches(" kB").parse::<u64>().ok()
                })
            {
                self.memory_mb = kib.div_ceil(1024);
            }
        }
        self.memory_mb
    }
}

/// Lines of a pipe. Dropping the future of `next` loses nothing.
struct Lines<R> {
    pipe: Option<R>,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(pipe: Option<R>) -> Self {
        Self { pipe, buffer: BytesMut::new() }
    }

    /// `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line = self.buffer.split_to(end);
                self.buffer.advance(1);
                return Some(text(&line));
            }
            if self.buffer.len() >= MAX_LINE {
                return Some(text(&self.buffer.split_to(MAX_LINE)));
            }
            let pipe = self.pipe.as_mut()?;
            self.buffer.reserve(1024);
            match pipe.read_buf(&mut self.buffer).await {
                Ok(n) if n > 0 => {}
                _ => {
                    self.pipe = None;
                    let rest = std::mem::take(&mut self.buffer);
                    return (!rest.is_empty()).then(|| text(&rest));
                }
            }
        }
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}
