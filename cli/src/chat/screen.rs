//! Where lines come from and where events go: a terminal whose input line stays below what is printed, or pipes.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

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
/// No message is as long as this, so a line that is longer is none either, whatever follows.
const LINE_MAX_BYTES: usize = 32 * 1024;
/// Between two looks whether a pipe that does not wait has something.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What came in.
#[derive(Debug)]
pub(crate) enum Input {
    Line(String),
    /// There is nothing more.
    End,
    /// There may be more, but it cannot be read.
    Broken(io::Error),
    /// The wish to leave, now.
    Interrupted,
}

pub(crate) enum Screen {
    Terminal { readline: Box<Readline>, writer: SharedWriter, gone: bool },
    Pipes { lines: Receiver<io::Result<String>> },
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
            Self::Pipes { lines } => match lines.recv().await {
                Some(Ok(line)) => Input::Line(line),
                Some(Err(why)) => Input::Broken(why),
                None => Input::End,
            },
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
fn read_lines() -> Receiver<io::Result<String>> {
    let (sender, lines) = channel(READ_AHEAD);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        while let Some(line) = next_line(&mut input).transpose() {
            let broken = line.is_err();
            if sender.blocking_send(line).is_err() || broken {
                return;
            }
        }
    });
    lines
}

/// The next line, of one that is far too long its beginning; `None` at the end.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    loop {
        let piece = match input.fill_buf() {
            Ok(piece) => piece,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            // Another process may have made the pipe such that it does not wait.
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(LOOK_AGAIN);
                continue;
            }
            Err(why) => return Err(why),
        };
        let end = piece.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(piece.len(), |end| end + 1);
        let wanted = taken.min(LINE_MAX_BYTES.saturating_sub(line.len()));
        line.extend_from_slice(&piece[..wanted]);
        let is_over = end.is_some() || piece.is_empty();
        input.consume(taken);
        if is_over {
            return Ok((taken > 0 || !line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Gives a piece a time, or fails.
    struct Pieces(Vec<io::Result<&'static [u8]>>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0)?;
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    fn lines(pieces: Vec<io::Result<&'static [u8]>>) -> Vec<io::Result<String>> {
        let mut input = io::BufReader::new(Pieces(pieces));
        std::iter::from_fn(|| next_line(&mut input).transpose()).take(9).collect()
    }

    #[test]
    fn lines_come_whole_however_they_are_cut_and_a_pipe_that_does_not_wait_is_waited_for() {
        let waits = || Err(io::ErrorKind::WouldBlock.into());
        let read = lines(vec![Ok(b"one\ntw"), waits(), Ok(b"o\n\n"), Ok(b"\xff end")]);
        let read: Vec<String> = read.into_iter().map(Result::unwrap).collect();
        assert_eq!(read, ["one\n", "two\n", "\n", "\u{fffd} end"]);
    }

    #[test]
    fn what_cannot_be_read_is_told_from_the_end() {
        let read = lines(vec![Ok(b"one\n"), Err(io::ErrorKind::IsADirectory.into())]);
        assert_eq!(read[0].as_ref().unwrap(), "one\n");
        assert_eq!(read[1].as_ref().unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn of_a_line_that_is_far_too_long_the_beginning_is_kept() {
        let long = vec![b'x'; 3 * LINE_MAX_BYTES];
        let mut input = io::Cursor::new([&long[..], b"\nnext\n"].concat());
        assert_eq!(next_line(&mut input).unwrap().unwrap().len(), LINE_MAX_BYTES);
        assert_eq!(next_line(&mut input).unwrap().unwrap(), "next\n");
        assert_eq!(next_line(&mut input).unwrap(), None);
    }
}
