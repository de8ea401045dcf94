//! The functions' logs, looked up or followed.
//!
//! Following polls FilterLogEvents with a window that overlaps the last one and forgets what was seen by event id: a
//! cursor behind the last event would lose those that arrive late (aws-facts, following logs).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aws_sdk_cloudwatchlogs::types::FilteredLogEvent;
use chat_functions::contract::Handler;
use futures_util::future::{join_all, try_join_all};
use serde::Serialize;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::aws::Aws;
use crate::call::{OrAbsent, alone};
use crate::error::{AwsFailure, Error};
use crate::names::Scope;

/// How far behind the newest event an event may still arrive and be shown.
const OVERLAP_MS: i64 = 10_000;

/// Between two looks while nothing happens. Twice a second in a region would be throttled with many functions.
const PAUSE: Duration = Duration::from_secs(1);
/// While lines come, they should appear as they are written. But FilterLogEvents takes 5 requests a second of an account
/// and region (Logs quotas), so where a look takes its time, the pause is so many times as long: three looks of 0.2 s at once
/// every second are 3.
const QUICK_PAUSE: Duration = Duration::from_millis(150);
const QUICK_PAUSES: u32 = 4;
const THROTTLED_PAUSE: Duration = Duration::from_secs(5);

/// Which lines.
#[derive(Clone, Debug)]
pub struct LogQuery {
    /// Empty: all of them.
    pub functions: Vec<Handler>,
    /// From this time on, in milliseconds since 1970.
    pub since_ms: i64,
    /// CloudWatch's filter pattern: `ERROR`, `"two words"`, `{ $.level = "warn" }`.
    pub pattern: Option<String>,
    /// The newest so many lines; all if absent.
    pub limit: Option<usize>,
}

/// One line that a function logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// Milliseconds since 1970.
    pub ts_ms: i64,
    /// `connect`, `disconnect` or `on_message`.
    pub function: &'static str,
    pub stream: String,
    /// Without the line end.
    pub message: String,
    pub event_id: String,
}

impl LogLine {
    /// Whether it is one of those that Lambda itself writes around every event.
    pub fn is_platform(&self) -> bool {
        ["START RequestId:", "END RequestId:", "REPORT RequestId:", "INIT_START "]
            .iter()
            .any(|start| self.message.starts_with(start))
    }

    /// The version of the function that wrote it: Lambda calls a stream `YYYY/MM/DD/[version]` and an id.
    pub(crate) fn version(&self) -> Option<&str> {
        Some(self.stream.split_once('[')?.1.split_once(']')?.0)
    }
}

/// Looks lines up, oldest first. A function that never ran has none.
pub async fn query(aws: &Aws, scope: &Scope, query: &LogQuery) -> Result<Vec<LogLine>, Error> {
    let looks =
        handlers(query).map(|handler| look(aws, scope, handler, query.since_ms, query.pattern.as_deref()));
    let mut lines = try_join_all(looks).await?.concat();
    // Stable, and each function's lines come in order: what was written in the same millisecond stays as it was.
    lines.sort_by_key(|line| line.ts_ms);
    if let Some(limit) = query.limit {
        lines.drain(..lines.len().saturating_sub(limit));
    }
    Ok(lines)
}

/// Sends lines as they are written until `cancel` is triggered or nobody listens any more. Begins with those that
/// [`query`] would give.
pub async fn follow(
    aws: &Aws,
    scope: &Scope,
    query: &LogQuery,
    lines: &UnboundedSender<LogLine>,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    let mut windows: Vec<Window> =
        handlers(query).map(|handler| Window::new(handler, query.since_ms)).collect();
    let mut first = true;
    loop {
        let began = Instant::now();
        let looks = windows.iter_mut().map(|window| window.advance(aws, scope, query.pattern.as_deref()));
        let looked = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            looked = join_all(looks) => looked,
        };
        let mut new = Vec::new();
        let mut throttled = false;
        for found in looked {
            match found {
                // One that was refused does not cost the others their lines: they count as seen.
                Ok(found) => new.extend(found),
                Err(failure) if is_throttled(&failure) => throttled = true,
                Err(failure) => return Err(failure.into()),
            }
        }
        new.sort_by_key(|line| line.ts_ms);
        if let (true, Some(limit)) = (std::mem::take(&mut first), query.limit) {
            new.drain(..new.len().saturating_sub(limit));
        }
        let pause = match (throttled, new.is_empty()) {
            (true, _) => THROTTLED_PAUSE,
            (false, true) => PAUSE,
            (false, false) => QUICK_PAUSE.max(began.elapsed() * QUICK_PAUSES).min(PAUSE),
        };
        for line in new {
            if lines.send(line).is_err() {
                return Ok(());
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn handlers(query: &LogQuery) -> impl Iterator<Item = Handler> {
    Handler::ALL.into_iter().filter(|handler| query.functions.is_empty() || query.functions.contains(handler))
}

fn is_throttled(failure: &AwsFailure) -> bool {
    failure.is("ThrottlingException") || failure.is("LimitExceededException")
}

/// What was seen of one function's log.
#[derive(Debug)]
struct Window {
    handler: Handler,
    /// Nothing before this is looked at again.
    from_ms: i64,
    /// When each event of the window happened, by id.
    seen: HashMap<String, i64>,
}

impl Window {
    fn new(handler: Handler, since_ms: i64) -> Self {
        Self { handler, from_ms: since_ms, seen: HashMap::new() }
    }

    async fn advance(
        &mut self,
        aws: &Aws,
        scope: &Scope,
        pattern: Option<&str>,
    ) -> Result<Vec<LogLine>, AwsFailure> {
        let found = look(aws, scope, self.handler, self.from_ms, pattern).await?;
        Ok(self.take_new(found))
    }

    /// Keeps the lines that were not seen before, and moves on.
    fn take_new(&mut self, mut lines: Vec<LogLine>) -> Vec<LogLine> {
        lines.retain(|line| self.seen.insert(line.event_id.clone(), line.ts_ms).is_none());
        if let Some(newest) = self.seen.values().max() {
            self.from_ms = self.from_ms.max(newest - OVERLAP_MS);
        }
        self.seen.retain(|_, ts| *ts >= self.from_ms);
        lines
    }
}

async fn look(
    aws: &Aws,
    scope: &Scope,
    handler: Handler,
    from_ms: i64,
    pattern: Option<&str>,
) -> Result<Vec<LogLine>, AwsFailure> {
    alone(aws, scope, None, async |cx| {
        let mut lines = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let page = cx
                .call(|| {
                    aws.logs
                        .filter_log_events()
                        .log_group_name(scope.log_group(handler))
                        .start_time(from_ms)
                        .set_filter_pattern(pattern.map(str::to_owned))
                        .set_next_token(token.clone())
                        .send()
                })
                .await
                // No such group or stream: not invoked yet.
                .or_absent("ResourceNotFoundException")?;
            let Some(page) = page else { return Ok(lines) };
            lines.extend(page.events.unwrap_or_default().into_iter().map(|event| line(handler, event)));
            token = page.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(lines);
            }
        }
    })
    .await
}

fn line(handler: Handler, event: FilteredLogEvent) -> LogLine {
    LogLine {
        ts_ms: event.timestamp.unwrap_or_default(),
        function: handler.name(),
        stream: event.log_stream_name.unwrap_or_default(),
        message: event.message.unwrap_or_default().trim_end().to_owned(),
        event_id: event.event_id.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, ts_ms: i64) -> LogLine {
        LogLine { ts_ms, function: "connect", stream: "s".into(), message: id.into(), event_id: id.into() }
    }

    #[test]
    fn a_late_event_is_shown_and_none_is_shown_twice() {
        let mut window = Window::new(Handler::Connect, 0);
        assert_eq!(window.take_new(vec![line("a", 50_000), line("c", 52_000)]).len(), 2);
        // `b` was written before `c`, but arrived after it.
        let again = window.take_new(vec![line("a", 50_000), line("b", 51_000), line("c", 52_000)]);
        assert_eq!(again, [line("b", 51_000)]);
        assert!(window.take_new(vec![line("b", 51_000), line("c", 52_000)]).is_empty());
    }

    #[test]
    fn the_window_moves_on_and_forgets() {
        let mut window = Window::new(Handler::Connect, 0);
        window.take_new((0..1_000).map(|n| line(&n.to_string(), n * 1_000)).collect());
        assert_eq!(window.from_ms, 999_000 - OVERLAP_MS);
        assert_eq!(window.seen.len(), 11);
    }
}
