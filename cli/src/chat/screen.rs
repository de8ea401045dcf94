//! Where lines come from and where events go: a terminal whose input line stays below what is printed, or pipes.

use std::io::{self, BufRead, IsTerminal, Write};

use jiff::ZonedDateTime;
use rustyline_async::{Readline, ReadlineEvent, SharedWriter};
use tokio::sync::mpsc::{Receiver, channel};

use super::render::{render, short};
use super::session::Event;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::output::Mode;

/// Lines that are read ahead of what was said.
const READ_AHEAD: usize = 16;

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Line(String),
    /// There is nothing more.
    End,
    /// The wish to leave, now.
    Interrupted,
}

pub(crate) enum Screen {
    Terminal { readline: Box<Readline>, writer: SharedWriter, gone: bool },
    Pipes { lines: Receiver<String> },
}

impl Screen {
    pub(crate) fn open(context: &Context) -> Result<Self> {
        let interactive =
            context.output.mode == Mode::Terminal && io::stdin().is_terminal() && io::stdout().is_terminal();
        if !interactive {
            return Ok(Self::Pipes { lines: read_lines() });
        }
        let opened = Readline::new(String::new())
            .map_err(|why| CliError::failed("no_terminal", "failed to take over the terminal").because(&why));
        let (mut readline, writer) = opened?;
        // One's own messages are printed when they have come back with their numbers.
        readline.should_print_line_on(false, false);
        Ok(Self::Terminal { readline: Box::new(readline), writer, gone: false })
    }

    pub(crate) const fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// Waits for the next line. Can be dropped and called again without losing any. A terminal may still have something to
    /// say after an end, but nothing more when it is gone.
    pub(crate) async fn input(&mut self) -> Input {
        match self {
            Self::Terminal { gone: true, .. } => std::future::pending().await,
            Self::Terminal { readline, gone, .. } => match readline.readline().await {
                Ok(ReadlineEvent::Line(line)) => {
                    readline.add_history_entry(line.clone());
                    Input::Line(line)
                }
                Ok(ReadlineEvent::Interrupted) => Input::Interrupted,
                Ok(_) => Input::End,
                Err(_) => {
                    *gone = true;
                    Input::End
                }
            },
            Self::Pipes { lines } => lines.recv().await.map_or(Input::End, Input::Line),
        }
    }

    /// What stands before the line of input: where it goes.
    pub(crate) fn prompt(&mut self, room: Option<&str>, me: &str, online: bool) {
        if let Self::Terminal { readline, .. } = self {
            let room = room.map_or_else(|| "no room".to_owned(), |room| short(room, me));
            let mark = if online { ">" } else { "…" };
            // It is only a decoration.
            let _ = readline.update_prompt(&format!("{room} {mark} "));
        }
    }

    /// Shows an event as the mode has it.
    pub(crate) fn show(&mut self, context: &Context, event: &Event, me: &str) {
        if context.output.mode == Mode::Json {
            context.output.raw_event(event);
            return;
        }
        let text = render(event, me, &ZonedDateTime::now());
        match (self, event) {
            (Self::Terminal { readline, writer, .. }, _) => print(readline, writer, &text),
            // What was said is the output; all else is about it.
            (Self::Pipes { .. }, Event::Message { .. } | Event::Who { .. }) => context.output.out(&text),
            (Self::Pipes { .. }, _) => context.output.err(&text),
        }
    }

    /// Something for people alone.
    pub(crate) fn remark(&mut self, context: &Context, text: &str) {
        match self {
            Self::Terminal { readline, writer, .. } => print(readline, writer, text),
            Self::Pipes { .. } => context.output.note("chat", text),
        }
    }

    /// Gives the terminal back.
    pub(crate) fn close(self) {
        if let Self::Terminal { mut readline, writer, .. } = self {
            let _ = readline.update_prompt("");
            let _ = readline.flush();
            drop(writer);
        }
    }
}

fn print(readline: &mut Readline, writer: &SharedWriter, text: &str) {
    // It takes so many lines until they are printed; then they are, and it takes more. What it did not take stays in the
    // one it was written to, hence a clone each time. A terminal that is gone ends the input as well.
    if writeln!(writer.clone(), "{text}").is_err() {
        let _ = readline.flush();
        let _ = writeln!(writer.clone(), "{text}");
    }
}

/// On a thread of its own, since nothing ends a read from a pipe; it goes with the process.
fn read_lines() -> Receiver<String> {
    let (sender, lines) = channel(READ_AHEAD);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut line = Vec::new();
        while input.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if sender.blocking_send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    lines
}
