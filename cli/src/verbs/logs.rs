//! `logs`: what the functions logged, each function in its own colour.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use chat_stacks::logs::{LogLine, LogQuery, follow, query};
use chat_stacks::{Aws, Handler, Scope};
use console::{Style, style};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc::unbounded_channel;

use crate::args;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit_codes::ExitCode;
use crate::output::visible;
use crate::stage::Stage;
use crate::time::parse_since;

#[derive(Debug, Serialize)]
struct Report {
    /// How many were printed.
    events: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The lines speak for themselves.
        Ok(())
    }
}

pub(crate) async fn run(context: &Context, args: &args::Logs) -> Result<ExitCode> {
    let since = parse_since(&args.since, Timestamp::now()).ok_or_else(|| {
        CliError::usage("invalid_since", format!("--since {:?} is neither a duration nor a time", args.since))
            .help("write for instance 90s, 10m, 1h, 2d or 2026-11-24T08:00:00Z")
    })?;
    let look = async {
        let stage = Stage::open(context, args.cloud.port).await?;
        let tail = Tail {
            scope: stage.settings.scope(),
            aws: stage.aws,
            query: LogQuery {
                functions: Handler::ALL
                    .into_iter()
                    .filter(|handler| args.functions.iter().any(|name| name == handler.name()))
                    .collect(),
                since_ms: since.as_millisecond(),
                pattern: args.filter.clone(),
                limit: None,
            },
        };
        let mut events = 0;
        if args.follow {
            tail.print(context, &mut events).await?;
        } else {
            for line in query(&tail.aws, &tail.scope, &tail.query).await? {
                print(context, &line);
                events += 1;
            }
        }
        Ok::<_, CliError>(events)
    };
    let events = tokio::select! {
        events = look => events?,
        () = context.stop.cancelled(), if !args.follow => return Err(CliError::interrupted()),
    };
    context.output.result(&Report { events });
    Ok(ExitCode::Ok)
}

/// The functions' logs as they are written.
#[derive(Debug)]
pub(crate) struct Tail {
    aws: Arc<Aws>,
    scope: Scope,
    query: LogQuery,
}

impl Tail {
    /// All functions, from this moment on.
    pub(crate) fn from_now(aws: Arc<Aws>, scope: Scope) -> Self {
        let since_ms = Timestamp::now().as_millisecond();
        Self { aws, scope, query: LogQuery { functions: Vec::new(), since_ms, pattern: None, limit: None } }
    }

    /// Prints until the user wants to stop, and counts.
    pub(crate) async fn print(&self, context: &Context, events: &mut usize) -> Result<()> {
        let (sender, mut lines) = unbounded_channel();
        let print = async {
            while let Some(line) = lines.recv().await {
                print(context, &line);
                *events += 1;
            }
        };
        let follow = async {
            // Dropped at its end, which ends the printing.
            let sender = sender;
            follow(&self.aws, &self.scope, &self.query, &sender, &context.stop).await
        };
        let (result, ()) = tokio::join!(follow, print);
        Ok(result?)
    }
}

fn print(context: &Context, line: &LogLine) {
    let verbose = context.output.verbosity > 0;
    let time = Timestamp::from_millisecond(line.ts_ms).unwrap_or_default();
    let data = serde_json::json!({
        "time": time,
        "function": line.function,
        "stream": line.stream,
        "message": line.message,
    });
    match render(line, time, &TimeZone::system(), verbose) {
        Some(text) => context.output.data_event("log", data, text),
        None => context.output.json_event("log", data),
    }
}

/// What a REPORT line says in a few words: `18.93 ms, 16 MB, cold start 8.68 ms`.
fn report(message: &str) -> Option<String> {
    let mut fields = message.strip_prefix("REPORT ")?.split('\t').filter_map(|field| field.split_once(": "));
    let mut find =
        |name: &str| fields.find(|(field, _)| *field == name).map(|(_, value)| value.trim().to_owned());
    // In the order in which Lambda writes them.
    let (duration, memory) = (find("Duration")?, find("Max Memory Used")?);
    let cold = find("Init Duration").map(|init| format!(", cold start {init}")).unwrap_or_default();
    Some(format!("{duration}, {memory}{cold}"))
}

/// A new line that begins below the text of the one before: behind the time and the function.
const INDENT: &str = "\n                        ";

/// A line as people read it. Of Lambda's own lines, which they see with `verbose`, only the durations remain.
fn render(line: &LogLine, time: Timestamp, zone: &TimeZone, verbose: bool) -> Option<String> {
    let time = time.to_zoned_datetime(zone.clone()).strftime("%H:%M:%S%.3f").to_string();
    let name = format!("{:10}", line.function);
    let text = match serde_json::from_str::<Map<String, Value>>(&line.message) {
        Ok(fields) => structured(fields),
        Err(_) if line.is_platform() => {
            let text = if verbose { line.message.clone() } else { report(&line.message)? };
            style(visible(&text)).dim().to_string()
        }
        // Below the first line, so that none of them can pass for another entry.
        Err(_) => line.message.trim_end().split('\n').map(visible).collect::<Vec<_>>().join(INDENT),
    };
    Some(format!("{} {} {text}", style(time).dim(), color_of(line.function).apply_to(name)))
}

fn color_of(function: &str) -> Style {
    match function {
        "connect" => Style::new().green(),
        "disconnect" => Style::new().magenta(),
        _ => Style::new().cyan(),
    }
}

/// The handlers' own lines: the message, then the rest as `key=value`.
fn structured(mut fields: Map<String, Value>) -> String {
    let mut take = |name: &str| match fields.remove(name) {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let (level, message) = (take("level"), take("message"));
    // It is in START and REPORT as well, and the last thing a reader looks for.
    let request = take("requestId");
    let mut text = match level.as_str() {
        "ERROR" => format!("{} {}", style("error").red().bold(), visible(&message)),
        "WARN" => format!("{} {}", style("warn").yellow(), visible(&message)),
        _ => visible(&message),
    };
    let mut rest = String::new();
    for (name, value) in &fields {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if !value.is_empty() {
            // Writing to a string does not fail.
            let _ = write!(rest, " {name}={value}");
        }
    }
    if matches!(level.as_str(), "ERROR" | "WARN") && !request.is_empty() {
        let _ = write!(rest, " request={request}");
    }
    text.push_str(&style(visible(&rest)).dim().to_string());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(message: &str) -> String {
        rendered(message, false).unwrap()
    }

    fn rendered(message: &str, verbose: bool) -> Option<String> {
        let line = LogLine {
            ts_ms: 1_796_083_200_123,
            function: "connect",
            stream: "s".into(),
            message: message.into(),
            event_id: "e".into(),
        };
        let time = Timestamp::from_millisecond(line.ts_ms).unwrap();
        let text = render(&line, time, &TimeZone::UTC, verbose)?;
        Some(console::strip_ansi_codes(&text).into_owned())
    }

    #[test]
    fn a_line_of_a_handler_reads_like_a_sentence() {
        assert_eq!(
            shown(r#"{"level":"INFO","requestId":"r","message":"connected","user":"alice","rooms":2}"#),
            "00:00:00.123 connect    connected rooms=2 user=alice"
        );
        assert_eq!(
            shown(r#"{"level":"ERROR","requestId":"r","message":"failed"}"#),
            "00:00:00.123 connect    error failed request=r"
        );
    }

    #[test]
    fn of_the_lines_of_lambda_the_durations_remain() {
        let report = "REPORT RequestId: r\tDuration: 1.30 ms\tBilled Duration: 14 ms\tMemory Size: 256 MB\t\
                      Max Memory Used: 13 MB\tInit Duration: 12.43 ms";
        assert_eq!(shown(report), "00:00:00.123 connect    1.30 ms, 13 MB, cold start 12.43 ms");
        assert_eq!(rendered("START RequestId: r Version: 2", false), None);
        assert!(rendered("START RequestId: r Version: 2", true).unwrap().ends_with("Version: 2"));
    }

    #[test]
    fn further_lines_of_a_message_stand_below_its_first() {
        assert_eq!(
            shown("Error: it ended\nRuntime.ExitError\n"),
            "00:00:00.123 connect    Error: it ended\n                        Runtime.ExitError"
        );
    }

    #[test]
    fn a_client_cannot_reach_the_terminal_through_a_log() {
        let text = shown("\u{1b}]0;owned\u{7} {\"message\":1}");
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
        let text = shown(r#"{"message":"\u001b[2J","user":"\u001b[2J"}"#);
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
