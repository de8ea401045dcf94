//! `history`: the runs that changed a stage, newest first.

use std::fmt;
use std::time::Duration;

use chat_stacks::ledger::{Changes, Outcome, Record};
use console::style;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::Result;
use crate::exit_codes::ExitCode;
use crate::output::progress::seconds;
use crate::stage::Stage;

#[derive(Debug, Serialize)]
struct Report {
    runs: Vec<Record>,
    /// Whether the newest run, though not ended, shows no sign of life any more.
    newest_is_dead: bool,
    #[serde(skip)]
    verbose: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.runs.is_empty() {
            return f.write_str("no run of this stage was written down yet");
        }
        let rows: Vec<[String; 8]> =
            self.runs.iter().enumerate().map(|(at, run)| self.row(at, run)).collect();
        let head = ["run", "began", "verb", "outcome", "took", "changes", "commit", "by"].map(str::to_owned);
        let width = |column: usize| {
            rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let line = |row: &[String; 8], paint: &dyn Fn(usize, String) -> String| {
            let cells = row.iter().zip(&widths).enumerate();
            let cells = cells.map(|(at, (cell, width))| paint(at, format!("{cell:width$}")));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        f.write_str(&line(&head, &|_, cell| style(cell).dim().to_string()))?;
        for (row, run) in rows.iter().zip(&self.runs) {
            let paint = |at: usize, cell| if at == 3 { paint(run.outcome, cell) } else { cell };
            write!(f, "\n{}", line(row, &paint))?;
            if let Some(note) = run.note.as_ref().filter(|_| self.verbose) {
                write!(f, "\n      {}", style(note.replace('\n', "\n      ")).dim())?;
            }
        }
        Ok(())
    }
}

impl Report {
    fn row(&self, at: usize, run: &Record) -> [String; 8] {
        let dead = at == 0 && self.newest_is_dead;
        let outcome =
            if dead { "running, no sign of life".to_owned() } else { run.outcome.name().to_owned() };
        let verb = match run.restores {
            Some(number) => format!("{} to {number}", run.by.verb),
            None => run.by.verb.clone(),
        };
        let took = run.took_ms().map_or_else(String::new, |ms| seconds(Duration::from_millis(ms)));
        let commit = run.commit.as_ref().map_or_else(String::new, |commit| {
            let id: String = commit.id.chars().take(9).collect();
            if commit.dirty { format!("{id}+") } else { id }
        });
        // `arn:aws:sts::1:assumed-role/deploy/me`: the last part tells people from each other.
        let by = run.by.principal.rsplit([':', '/']).next().unwrap_or_default();
        [
            run.number.to_string(),
            moment(run.by.since_ms),
            verb,
            outcome,
            took,
            counts(&run.changes),
            commit,
            format!("{by} on {}", run.by.host),
        ]
    }
}

fn paint(outcome: Outcome, cell: String) -> String {
    let cell = style(cell);
    match outcome {
        Outcome::Succeeded => cell.green(),
        Outcome::Running => cell.cyan(),
        Outcome::Interrupted => cell.yellow(),
        Outcome::Failed | Outcome::RolledBack => cell.red(),
    }
    .to_string()
}

/// `+28 ~2 ±1 -3`, with the signs that a plan has.
fn counts(changes: &Changes) -> String {
    let all = [("+", changes.create), ("~", changes.update), ("±", changes.replace), ("-", changes.delete)];
    let some = all.iter().filter(|(_, count)| *count > 0).map(|(sign, count)| format!("{sign}{count}"));
    some.collect::<Vec<_>>().join(" ")
}

fn moment(ms: i64) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(time) => time.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => String::new(),
    }
}

pub(crate) async fn run(context: &Context, args: &args::History) -> Result<ExitCode> {
    let stage = Stage::open(context, args.cloud.port).await?;
    let ledger = stage.ledger();
    let (runs, holder) = tokio::try_join!(ledger.history(args.limit), ledger.holder())?;
    let at_work = holder.is_some_and(|(_, remaining)| !remaining.is_zero());
    let unfinished = runs.first().is_some_and(|run| run.outcome == Outcome::Running);
    let verbose = context.output.verbosity > 0;
    context.output.result(&Report { newest_is_dead: unfinished && !at_work, runs, verbose });
    Ok(ExitCode::Ok)
}

#[cfg(test)]
mod tests {
    use chat_stacks::ledger::{Commit, Holder};

    use super::*;

    #[test]
    fn a_table_has_one_line_a_run() {
        let by = Holder {
            principal: "arn:aws:iam::1:user/alice".into(),
            host: "laptop".into(),
            pid: 7,
            verb: "deploy".into(),
            since_ms: 0,
            run: None,
        };
        let commit = Commit { id: "0123456789abcdef".into(), dirty: true };
        let run = Record {
            number: 12,
            outcome: Outcome::Succeeded,
            ended_ms: Some(2_500),
            changes: Changes { create: 3, delete: 1, ..Changes::default() },
            ..Record::begin(by, Some(commit), "0.1.0")
        };
        let report = Report { runs: vec![run], newest_is_dead: false, verbose: false };
        let text = console::strip_ansi_codes(&report.to_string()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        for part in ["12", "deploy", "succeeded", "2.50 s", "+3 -1", "012345678+", "alice on laptop"] {
            assert!(lines[1].contains(part), "{part} is not in {}", lines[1]);
        }
    }
}
