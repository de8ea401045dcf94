//! A plan as people read it: what is created, changed and deleted, and for a change what was and what will be.

use std::fmt::{self, Write as _};

use chat_stacks::{Action, Plan, PropertyChange, Step};
use console::{Style, style};
use serde_json::Value;

/// Longer values are cut: the plan says that a policy changes, `-v` and `--json` say how.
const WIDTH: usize = 60;

/// A plan and how much of it to show.
pub(crate) struct PlanView<'a> {
    pub(crate) plan: &'a Plan,
    /// Also what new resources will look like, and values in full.
    pub(crate) verbose: bool,
}

impl fmt::Display for PlanView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.plan;
        if plan.is_empty() {
            return write!(f, "nothing to do: all {} resources are as declared", plan.unchanged.len());
        }
        for step in &plan.steps {
            self.step(f, step)?;
        }
        writeln!(f)?;
        f.write_str(&summary(plan))
    }
}

impl PlanView<'_> {
    fn step(&self, f: &mut fmt::Formatter<'_>, step: &Step) -> fmt::Result {
        let (sign, color) = sign(step.action);
        write!(f, "  {} {}", color.apply_to(sign), style(&step.resource).bold())?;
        if let Some(container) = &step.deleted_with {
            write!(f, " {}", style(format!("goes with {container}")).dim())?;
        }
        writeln!(f)?;
        let shown = step.action != Action::Create || self.verbose;
        for change in step.changes.iter().filter(|_| shown) {
            write!(f, "        {}: ", change.property)?;
            if step.action != Action::Create {
                write!(f, "{} → ", self.value(change.old.as_ref()))?;
            }
            write!(f, "{}", self.new_value(change))?;
            if change.forces_replacement {
                write!(f, " {}", style("needs a new one").yellow())?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn new_value(&self, change: &PropertyChange) -> String {
        if change.known_after_apply {
            return style("known later").dim().to_string();
        }
        self.value(change.new.as_ref())
    }

    fn value(&self, value: Option<&Value>) -> String {
        let text = match value {
            None => return style("none").dim().to_string(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        if self.verbose || text.chars().count() <= WIDTH {
            return text;
        }
        let mut cut: String = text.chars().take(WIDTH - 1).collect();
        cut.push('…');
        cut
    }
}

fn sign(action: Action) -> (&'static str, Style) {
    match action {
        Action::Create => ("+", Style::new().green()),
        Action::Update => ("~", Style::new().yellow()),
        Action::Replace => ("±", Style::new().magenta()),
        Action::Delete => ("-", Style::new().red()),
    }
}

/// `28 to create, 2 to update, 12 unchanged`.
pub(crate) fn summary(plan: &Plan) -> String {
    let mut text = String::new();
    for action in [Action::Create, Action::Update, Action::Replace, Action::Delete] {
        let count = plan.count(action);
        if count > 0 {
            let (_, color) = sign(action);
            // Writing to a string does not fail.
            let _ = write!(text, "{}, ", color.apply_to(format!("{count} to {}", action.name())));
        }
    }
    let _ = write!(text, "{} unchanged", plan.unchanged.len());
    text
}
