//! Renders what happens while a plan is carried out: a bar for each resource in work under a terminal, one line for
//! each outcome in a log, one object for each event in JSON.

use std::collections::HashMap;
use std::time::Duration;

use chat_stacks::{Action, Address, Event, Events};
use console::style;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{Mode, Output, spinner_style};

/// A resource that takes no longer than this leaves no trace in a quiet rendering.
const TICK: Duration = Duration::from_millis(80);

/// Runs `work`, which reports to the given [`Events`], and renders what it reports until it is done.
pub(crate) async fn show<T>(output: &Output, steps: usize, work: impl AsyncFnOnce(Events) -> T) -> T {
    let (sender, receiver) = unbounded_channel();
    let render = render(output, steps, receiver);
    // The sender lives inside the work, so the renderer ends right after it.
    let (result, ()) = tokio::join!(work(Events::to(sender)), render);
    result
}

async fn render(output: &Output, steps: usize, mut events: UnboundedReceiver<Event>) {
    let mut view = View::new(output, steps);
    while let Some(event) = events.recv().await {
        view.take(&event);
    }
    view.finish();
}

struct View<'a> {
    output: &'a Output,
    /// Of resources in work.
    bars: HashMap<Address, ProgressBar>,
    /// All steps, below the others.
    total: Option<ProgressBar>,
}

impl<'a> View<'a> {
    fn new(output: &'a Output, steps: usize) -> Self {
        let total = (output.mode == Mode::Terminal && steps > 0).then(|| {
            let bar = output.bars().add(ProgressBar::new(steps as u64));
            let style = ProgressStyle::with_template("  {bar:30.green/dim} {pos}/{len} {elapsed:.dim}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("━━─"));
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { output, bars: HashMap::new(), total }
    }

    fn take(&mut self, event: &Event) {
        if self.output.mode == Mode::Json {
            // The event names itself.
            self.output.raw_event(event);
            return;
        }
        match event {
            Event::Started { resource, action } => self.started(resource, *action),
            Event::Progress { resource, detail } => self.detail(resource, detail),
            Event::Retrying { resource, operation, code, wait_ms, .. } => {
                self.detail(resource, &format!("{operation}: {code}, again in {wait_ms} ms"));
            }
            Event::Postponed { resource, what } => self
                .output
                .err(&format!("  {} {resource} postponed: {what}", style("!").for_stderr().yellow())),
            Event::Done { resource, action, elapsed_ms } => {
                let took = Duration::from_millis(*elapsed_ms);
                let text = format!("{resource} {} {}", done(*action), paint_dim(&seconds(took)));
                self.ended(resource, &style("✓").for_stderr().green().to_string(), &text);
            }
            Event::Failed { resource, action, error } => {
                let text = format!("{resource} {}: {error}", failed(*action));
                self.ended(resource, &style("✗").for_stderr().red().bold().to_string(), &text);
            }
            Event::Skipped { resource, action, reason } => {
                let text = format!("{resource} not {}: {reason}", done(*action));
                self.ended(resource, &style("-").for_stderr().yellow().to_string(), &text);
            }
            Event::Stopping { in_flight } => self.output.err(&format!(
                "  {} stopping after {}; a second signal does not wait",
                style("!").for_stderr().yellow(),
                in_flight.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            )),
            Event::LockWaiting { holder, remaining_s } => self.output.err(&format!(
                "  {} locked by {holder}; waiting (without a sign of life for {remaining_s} s more)",
                style("…").for_stderr().yellow()
            )),
            Event::Verifying { url } => {
                if self.output.verbosity > 0 {
                    self.output.err(&format!("  … connecting to {url} to see that it answers"));
                }
            }
            Event::Verified { seen } => {
                self.output.err(&format!("  {} verified: {seen}", style("✓").for_stderr().green()));
            }
            Event::PointedBack { moves } => {
                for one in moves {
                    self.output.err(&format!("  {} back to {one}", style("↩").for_stderr().yellow()));
                }
            }
            Event::LockTakenOver { from, reason } => self.output.err(&format!(
                "  {} took the lock over from {from}: {reason}",
                style("!").for_stderr().yellow()
            )),
        }
    }

    fn started(&mut self, resource: &Address, action: Action) {
        match &self.total {
            Some(total) => {
                let bar = self.output.bars().insert_before(total, ProgressBar::new_spinner());
                bar.set_style(spinner_style("  {spinner:.cyan} {wide_msg}"));
                bar.set_message(format!("{resource} {}", doing(action)));
                bar.enable_steady_tick(TICK);
                self.bars.insert(resource.clone(), bar);
            }
            None if self.output.verbosity > 0 => {
                self.output.err(&format!("  … {resource} {}", doing(action)))
            }
            None => {}
        }
    }

    fn detail(&self, resource: &Address, detail: &str) {
        match self.bars.get(resource) {
            Some(bar) => bar.set_message(format!("{resource} {}", paint_dim(detail))),
            None => self.output.err(&format!("  … {resource} {detail}")),
        }
    }

    fn ended(&mut self, resource: &Address, sign: &str, text: &str) {
        if let Some(bar) = self.bars.remove(resource) {
            self.output.remove(&bar);
        }
        self.output.err(&format!("  {sign} {text}"));
        if let Some(total) = &self.total {
            total.inc(1);
        }
    }

    fn finish(self) {
        for bar in self.bars.into_values().chain(self.total) {
            self.output.remove(&bar);
        }
    }
}

fn paint_dim(text: &str) -> String {
    style(text).for_stderr().dim().to_string()
}

/// `0.04 s`, and from a minute on `2 minutes`.
pub(crate) fn seconds(took: Duration) -> String {
    if took < Duration::from_millis(100) {
        format!("{} ms", took.as_millis())
    } else if took < Duration::from_secs(60) {
        format!("{:.2} s", took.as_secs_f64())
    } else {
        HumanDuration(took).to_string()
    }
}

pub(crate) const fn doing(action: Action) -> &'static str {
    match action {
        Action::Create => "creating",
        Action::Update => "updating",
        Action::Replace => "replacing",
        Action::Delete => "deleting",
    }
}

pub(crate) const fn done(action: Action) -> &'static str {
    match action {
        Action::Create => "created",
        Action::Update => "updated",
        Action::Replace => "replaced",
        Action::Delete => "deleted",
    }
}

const fn failed(action: Action) -> &'static str {
    match action {
        Action::Create => "not created",
        Action::Update => "not updated",
        Action::Replace => "not replaced",
        Action::Delete => "not deleted",
    }
}
