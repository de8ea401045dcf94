//! How anything reaches the user: a live terminal, plain lines, or JSON lines. Results go to standard output, the way
//! there to standard error, except with `--json`, where both are lines on standard output.

pub(crate) mod changes;
pub(crate) mod markdown;
pub(crate) mod plan;
pub(crate) mod progress;

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use console::style;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::args::Global;
use crate::env;
use crate::error::CliError;
use crate::exit_codes::ExitCode;

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A person at a terminal that can redraw.
    Terminal,
    /// A file, a pipe, a CI log.
    Plain,
    /// A program.
    Json,
}

/// The only way out of this program.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) mode: Mode,
    pub(crate) verbosity: u8,
    verb: &'static str,
    stage: String,
    bars: MultiProgress,
    /// Whether there is something to do without anybody who reads what it prints.
    stays: AtomicBool,
    lost_reader: AtomicBool,
}

impl Output {
    pub(crate) fn new(global: &Global, verb: &'static str) -> Self {
        let dumb = env::read(env::TERM).is_some_and(|term| term == "dumb");
        let terminal = io::stderr().is_terminal() && !dumb;
        let mode = match (global.json, terminal) {
            (true, _) => Mode::Json,
            (false, true) => Mode::Terminal,
            (false, false) => Mode::Plain,
        };
        let refused = global.no_color || global.json || env::read(env::NO_COLOR).is_some();
        let forced = env::read(env::FORCE_COLOR).is_some_and(|force| force != "0");
        console::set_colors_enabled(!refused && (forced || (io::stdout().is_terminal() && !dumb)));
        console::set_colors_enabled_stderr(!refused && (forced || terminal));
        let target =
            if mode == Mode::Terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self {
            mode,
            verbosity: global.verbose,
            verb,
            stage: global.stage.clone(),
            bars: MultiProgress::with_draw_target(target),
            stays: AtomicBool::new(false),
            lost_reader: AtomicBool::new(false),
        }
    }

    /// Whether text of other programs may carry colours.
    pub(crate) fn color(&self) -> bool {
        console::colors_enabled_stderr()
    }

    /// Whether somebody can be asked.
    pub(crate) fn can_ask(&self) -> bool {
        self.mode == Mode::Terminal && io::stdin().is_terminal()
    }

    /// Something that happened on the way: a line for people, an `event` for programs.
    pub(crate) fn event(&self, name: &str, data: impl Serialize, text: impl Display) {
        if self.mode == Mode::Json {
            self.json_event(name, data);
        } else {
            self.err(&text.to_string());
        }
    }

    /// The same for programs alone; people see it in a bar.
    pub(crate) fn json_event(&self, name: &str, data: impl Serialize) {
        if self.mode == Mode::Json {
            let mut line = Map::new();
            line.insert("type".into(), "event".into());
            line.insert("event".into(), name.into());
            merge(&mut line, data);
            self.line(&Value::Object(line));
        }
    }

    /// An event that names itself in its field `event`.
    pub(crate) fn raw_event(&self, data: impl Serialize) {
        if self.mode == Mode::Json {
            let mut line = Map::new();
            line.insert("type".into(), "event".into());
            merge(&mut line, data);
            self.line(&Value::Object(line));
        }
    }

    /// One event as a line of JSON whatever the mode prints otherwise, or text on standard output: log events.
    pub(crate) fn data_event(&self, name: &str, data: impl Serialize, text: impl Display) {
        if self.mode == Mode::Json {
            self.json_event(name, data);
        } else {
            self.out(&text.to_string());
        }
    }

    /// A remark with a stable code.
    pub(crate) fn note(&self, code: &str, text: &str) {
        let data = serde_json::json!({ "code": code, "message": text });
        self.event("note", data, style(text).for_stderr().dim());
    }

    /// A bar with a spinner and a message, gone when it is finished.
    pub(crate) fn spinner(&self, message: impl Into<String>) -> ProgressBar {
        let bar = self.bars.add(ProgressBar::new_spinner());
        bar.set_style(spinner_style("{spinner:.cyan} {wide_msg} {elapsed:.dim}"));
        bar.set_message(message.into());
        if self.mode == Mode::Terminal {
            bar.enable_steady_tick(std::time::Duration::from_millis(80));
        }
        bar
    }

    /// Takes a bar away.
    pub(crate) fn remove(&self, bar: &ProgressBar) {
        bar.finish_and_clear();
        self.bars.remove(bar);
    }

    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// The verb's result: once, at the end.
    pub(crate) fn result<T: Serialize + Display>(&self, data: &T) {
        if self.mode == Mode::Json {
            let mut line = self.envelope(true);
            line.insert("data".into(), serde_json::to_value(data).unwrap_or(Value::Null));
            self.line(&Value::Object(line));
        } else {
            let text = data.to_string();
            if !text.is_empty() {
                self.out(text.trim_end_matches('\n'));
            }
        }
    }

    /// The verb's failure: once, at the end.
    pub(crate) fn failure(&self, error: &CliError) {
        if self.mode == Mode::Json {
            let mut line = self.envelope(false);
            line.insert("error".into(), serde_json::to_value(error).unwrap_or(Value::Null));
            self.line(&Value::Object(line));
        } else {
            self.err(&render_error(error, self.color()));
        }
    }

    fn envelope(&self, ok: bool) -> Map<String, Value> {
        let mut line = Map::new();
        line.insert("type".into(), "result".into());
        line.insert("verb".into(), self.verb.into());
        line.insert("stage".into(), self.stage.clone().into());
        line.insert("ok".into(), ok.into());
        line
    }

    fn line(&self, value: &Value) {
        self.out(&json_line(value));
    }

    /// From now on this goes on when nobody reads its standard output any more, and prints nothing there.
    pub(crate) fn stay_without_reader(&self) {
        self.stays.store(true, Ordering::Relaxed);
    }

    /// Whether whoever read the standard output has gone.
    pub(crate) fn has_lost_its_reader(&self) -> bool {
        self.lost_reader.load(Ordering::Relaxed)
    }

    /// A line on standard output.
    pub(crate) fn out(&self, text: &str) {
        if self.has_lost_its_reader() {
            return;
        }
        let written = self.bars.suspend(|| {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush())
        });
        if written.is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe) {
            self.lost_reader.store(true, Ordering::Relaxed);
            if self.stays.load(Ordering::Relaxed) {
                return;
            }
            // `chatctl logs --follow | head` is over when head is.
            std::process::exit(i32::from(ExitCode::Ok as u8));
        }
    }

    /// A line on standard error. Nobody is left to be told if that fails.
    pub(crate) fn err(&self, text: &str) {
        self.bars.suspend(|| {
            let _ = writeln!(io::stderr().lock(), "{text}");
        });
    }

    /// Asks a question that only `y` or `yes` affirms. `None` if the user wants to stop instead.
    pub(crate) async fn ask(&self, question: &str, stop: &CancellationToken) -> Option<bool> {
        self.bars.suspend(|| {
            let question = style(question).for_stderr().bold();
            let _ = write!(io::stderr().lock(), "{question} {} ", style("[y/N]").for_stderr().dim());
            let _ = io::stderr().flush();
        });
        // A thread of its own, since nothing ends a read from a terminal; it goes with the process.
        let answer = tokio::task::spawn_blocking(|| {
            let mut answer = String::new();
            io::stdin().read_line(&mut answer).map(|_| answer)
        });
        tokio::select! {
            answer = answer => {
                let answer = answer.ok().and_then(Result::ok).unwrap_or_default();
                Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
            }
            () = stop.cancelled() => {
                self.err("");
                None
            }
        }
    }
}

/// A bar's style. A template of ours that does not parse falls back to the library's.
pub(crate) fn spinner_style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// Text of others, as it may reach a terminal: without what moves the cursor, and without what turns the direction of
/// the text after it around.
pub(crate) fn visible(text: &str) -> String {
    text.chars().map(|c| if is_visible(c) || c == '\t' { c } else { '\u{fffd}' }).collect()
}

/// JSON in one line. What would move a cursor stands in strings only, where JSON has another way to write it.
fn json_line(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().all(is_visible) {
        return text;
    }
    let written = |c: char| if is_visible(c) { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) };
    text.chars().map(written).collect()
}

fn is_visible(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn merge(line: &mut Map<String, Value>, data: impl Serialize) {
    match serde_json::to_value(data) {
        Ok(Value::Object(fields)) => {
            for (name, value) in fields {
                line.entry(name).or_insert(value);
            }
        }
        Ok(Value::Null) | Err(_) => {}
        Ok(other) => {
            line.insert("data".into(), other);
        }
    }
}

/// An error as a person reads it.
pub(crate) fn render_error(error: &CliError, color: bool) -> String {
    use std::fmt::Write as _;
    let paint = |text: &str, style: console::Style| style.force_styling(color).apply_to(text).to_string();
    let red = console::Style::new().red().bold();
    let mut text = String::new();
    if let Some(details) = &error.details {
        text.push_str(details.trim_end());
        text.push_str("\n\n");
    }
    if let Some(picture) = &error.picture {
        let theme =
            if color { miette::GraphicalTheme::unicode() } else { miette::GraphicalTheme::unicode_nocolor() };
        let handler = miette::GraphicalReportHandler::new_themed(theme).with_links(false).with_width(110);
        if handler.render_report(&mut text, picture.as_ref()).is_ok() {
            return text.trim_end().to_owned();
        }
    }
    let _ = write!(text, "{} {}", paint("error:", red), error.message);
    for cause in &error.causes {
        let _ =
            write!(text, "\n  {} {}", paint("│", console::Style::new().dim()), cause.replace('\n', "\n    "));
    }
    if let Some(help) = &error.help {
        let _ = write!(text, "\n  {} {help}", paint("help:", console::Style::new().cyan()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_moves_no_cursor_and_is_the_same() {
        let value = serde_json::json!({ "text": "a\u{9b}2J\u{7f}\u{202e}ü\n\u{1b}" });
        let line = json_line(&value);
        assert_eq!(line, r#"{"text":"a\u009b2J\u007f\u202eü\n\u001b"}"#);
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }
}
