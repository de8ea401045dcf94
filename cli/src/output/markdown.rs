//! A plan as Markdown, for the pull request that it belongs to: what changes at a glance, and each property below.

use std::fmt::{self, Write as _};

use chat_stacks::{Action, Plan, PropertyChange, Step};
use serde_json::Value;

use super::changes::between;

/// GitHub takes comments of up to 65,536 characters; the rest is for what others put around it.
const LONGEST: usize = 60_000;

/// Longer values say less than their length costs.
const VALUE_WIDTH: usize = 200;

/// A plan to be rendered.
pub(crate) struct Markdown<'a> {
    pub(crate) plan: &'a Plan,
}

impl fmt::Display for Markdown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.plan;
        writeln!(
            f,
            "### Plan for {} in stage {}\n",
            code(plan.scope.app.as_str()),
            code(plan.scope.stage.as_str())
        )?;
        if plan.is_empty() {
            return write!(f, "Nothing to do: all {} resources are as declared.", plan.unchanged.len());
        }
        writeln!(f, "{}\n", summary(plan))?;
        if plan.steps.iter().any(|step| step.action == Action::Delete) {
            writeln!(f, "> [!WARNING]\n> Resources are deleted.\n")?;
        }
        let mut text = String::new();
        table(&mut text, &plan.steps);
        details(&mut text, &plan.steps);
        f.write_str(&cut(text))
    }
}

fn summary(plan: &Plan) -> String {
    let mut parts = Vec::new();
    for action in [Action::Create, Action::Update, Action::Replace, Action::Delete] {
        let count = plan.count(action);
        if count > 0 {
            parts.push(format!("**{count} to {}**", action.name()));
        }
    }
    parts.push(format!("{} unchanged", plan.unchanged.len()));
    parts.join(", ")
}

fn table(text: &mut String, steps: &[Step]) {
    text.push_str("| | resource | what changes |\n|---|---|---|\n");
    for step in steps {
        let what = match (&step.deleted_with, step.action) {
            (Some(container), _) => format!("goes with {}", code(&container.to_string())),
            (None, Action::Create | Action::Delete) => String::new(),
            (None, Action::Update | Action::Replace) => {
                step.changes.iter().map(|change| code(change.property)).collect::<Vec<_>>().join(", ")
            }
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "| {} | {} | {what} |", step.action.name(), code(&step.resource.to_string()));
    }
}

/// Old and new of everything that is changed; what is created is new as a whole.
fn details(text: &mut String, steps: &[Step]) {
    let changed: Vec<&Step> =
        steps.iter().filter(|step| matches!(step.action, Action::Update | Action::Replace)).collect();
    if changed.is_empty() {
        return;
    }
    text.push_str("\n<details><summary>Old and new</summary>\n\n| resource | property | old | new |\n|---|---|---|---|\n");
    for step in changed {
        for change in &step.changes {
            rows(text, &step.resource.to_string(), change);
        }
    }
    text.push_str("\n</details>\n");
}

/// A row for each place in which the property differs.
fn rows(text: &mut String, resource: &str, change: &PropertyChange) {
    let mut row = |path: &str, old: Option<&Value>, new: String| {
        let note = if change.forces_replacement { " (needs a new one)" } else { "" };
        // Writing to a string does not fail.
        let _ = writeln!(text, "| {} | {}{note} | {} | {new} |", code(resource), code(path), value(old));
    };
    if change.known_after_apply {
        return row(change.property, change.old.as_ref(), "*known later*".to_owned());
    }
    for place in between(change.property, change.old.as_ref(), change.new.as_ref()) {
        row(&place.path, place.old, value(place.new));
    }
}

fn value(value: Option<&Value>) -> String {
    match value {
        None => "*none*".to_owned(),
        Some(Value::String(text)) => code(text),
        Some(other) => code(&other.to_string()),
    }
}

/// Text as code in a table's cell, whatever is in it. Names and values may come from others, so nothing in them may
/// end the code or the cell.
fn code(text: &str) -> String {
    let mut shown: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(VALUE_WIDTH).collect();
    if text.chars().count() > VALUE_WIDTH {
        shown.push('…');
    }
    // Inside a table a bar ends the cell even in code, unless it is escaped; HTML has neither problem.
    let mut safe = String::from("<code>");
    for c in shown.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '|' => safe.push_str("&#124;"),
            // Emphasis, links and mentions work inside HTML as well.
            '`' | '*' | '_' | '[' | ']' | '@' | '\\' | '~' | '$' | ':' | '#' | '!' => {
                let _ = write!(safe, "&#{};", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    safe.push_str("</code>");
    safe
}

fn cut(mut text: String) -> String {
    if text.len() <= LONGEST {
        return text;
    }
    let end = text[..text.floor_char_boundary(LONGEST)].rfind('\n').unwrap_or(0);
    text.truncate(end);
    if text.contains("<details>") {
        text.push_str("\n\n</details>");
    }
    text.push_str("\n\nThe rest is left out: `chatctl plan` shows all of it.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_or_value_can_leave_its_cell() {
        let shown = code("a|b`c\n<script>@everyone [x](y) **z**");
        assert!(!shown.contains('|') && !shown.contains('\n') && !shown.contains("<script"), "{shown}");
        assert!(!shown.contains('@') && !shown.contains('`') && !shown.contains("]("), "{shown}");
        let long = code(&"ä".repeat(VALUE_WIDTH + 1));
        assert!(long.ends_with("…</code>"), "{long}");
    }

    #[test]
    fn a_long_plan_is_cut_at_a_line_and_says_so() {
        let text = cut("| ä | b |\n".repeat(20_000));
        assert!(text.len() < LONGEST + 100);
        assert!(text.contains("\n\nThe rest is left out"), "{}", &text[text.len() - 200..]);
        assert_eq!(cut("short".to_owned()), "short");
    }
}
