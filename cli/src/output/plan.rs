//! A plan as people read it: a tree of what is created, changed and deleted, and for a change what was and what will be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use chat_stacks::{Action, Address, Plan, PropertyChange, Step};
use console::{Style, style};
use serde_json::Value;

use super::changes;

/// Longer values are cut: the plan says that a template changes, `-v` and `--json` say how.
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
        let tree = Tree::of(plan);
        for root in &tree.roots {
            self.node(f, &tree, root, "", "")?;
        }
        writeln!(f)?;
        f.write_str(&summary(plan))
    }
}

/// The plan's resources below what they belong to.
struct Tree<'a> {
    steps: BTreeMap<&'a Address, &'a Step>,
    roots: Vec<Address>,
    children: BTreeMap<Address, Vec<Address>>,
}

impl<'a> Tree<'a> {
    fn of(plan: &'a Plan) -> Self {
        let mut tree = Self {
            steps: plan.steps.iter().map(|step| (&step.resource, step)).collect(),
            roots: Vec::new(),
            children: BTreeMap::new(),
        };
        // By kind and name, whatever the order of execution is: the same change always looks the same.
        let mut placed = BTreeSet::new();
        for address in tree.steps.keys().copied().cloned().collect::<Vec<_>>() {
            tree.place(address, plan, &mut placed);
        }
        tree.roots.sort();
        tree.children.values_mut().for_each(|children| children.sort());
        tree
    }

    fn place(&mut self, address: Address, plan: &Plan, placed: &mut BTreeSet<Address>) {
        if !placed.insert(address.clone()) {
            return;
        }
        let known = |parent: &Address| self.steps.contains_key(parent) || plan.unchanged.contains(parent);
        match address.parent(&plan.scope).filter(known) {
            Some(parent) => {
                self.children.entry(parent.clone()).or_default().push(address);
                // Unchanged ones are there to show where the changed ones belong.
                self.place(parent, plan, placed);
            }
            None => self.roots.push(address),
        }
    }
}

impl PlanView<'_> {
    /// `lead` goes before the node's own line, `indent` before everything below it.
    fn node(
        &self,
        f: &mut fmt::Formatter<'_>,
        tree: &Tree<'_>,
        address: &Address,
        lead: &str,
        indent: &str,
    ) -> fmt::Result {
        let children = tree.children.get(address).map(Vec::as_slice).unwrap_or_default();
        write!(f, "  {}", style(lead).dim())?;
        match tree.steps.get(address) {
            Some(step) => {
                let rule = if children.is_empty() { "  " } else { "│ " };
                self.step(f, step, &format!("{indent}{rule}"))?;
            }
            None => writeln!(f, "{}", style(format!("  {address}")).dim())?,
        }
        for (place, child) in children.iter().enumerate() {
            let (branch, below) =
                if place + 1 == children.len() { ("└─", "  ") } else { ("├─", "│ ") };
            self.node(f, tree, child, &format!("{indent}{branch}"), &format!("{indent}{below}"))?;
        }
        Ok(())
    }

    fn step(&self, f: &mut fmt::Formatter<'_>, step: &Step, indent: &str) -> fmt::Result {
        let (sign, color) = sign(step.action);
        write!(f, "{} {}", color.apply_to(sign), style(&step.resource).bold())?;
        if let Some(container) = &step.deleted_with {
            write!(f, " {}", style(format!("goes with {container}")).dim())?;
        }
        match step.action {
            Action::Create if step.drift => write!(f, " {}", style("was deleted outside").cyan())?,
            Action::Delete if step.drift => write!(f, " {}", style("was added outside").cyan())?,
            _ => {}
        }
        writeln!(f)?;
        let shown = step.action != Action::Create || self.verbose;
        for change in step.changes.iter().filter(|_| shown) {
            for line in self.lines(step.action, change) {
                writeln!(f, "  {}    {line}", style(indent).dim())?;
            }
        }
        Ok(())
    }

    fn lines(&self, action: Action, change: &PropertyChange) -> Vec<String> {
        let mut remarks = String::new();
        if change.forces_replacement {
            remarks.push_str(&format!(" {}", style("needs a new one").yellow()));
        }
        if change.drift {
            remarks.push_str(&format!(" {}", style("was changed outside").cyan()));
        }
        if change.known_after_apply {
            let later = style("known later").dim();
            return vec![match action {
                Action::Create => format!("{}: {later}{remarks}", change.property),
                _ => format!("{}: {} → {later}{remarks}", change.property, self.value(change.old.as_ref())),
            }];
        }
        if action == Action::Create {
            return vec![format!("{}: {}", change.property, self.value(change.new.as_ref()))];
        }
        let differences = changes::between(change.property, change.old.as_ref(), change.new.as_ref());
        let line = |part: changes::Change<'_>| {
            format!("{}: {} → {}{remarks}", part.path, self.value(part.old), self.value(part.new))
        };
        differences.into_iter().map(line).collect()
    }

    fn value(&self, value: Option<&Value>) -> String {
        let text = changes::text(value);
        if value.is_none() || self.verbose || text.chars().count() <= WIDTH {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chat_stacks::{Artifact, Artifacts, Handler, Identity, Kind, Live, Observed, PlanOptions, Settings};
    use serde_json::json;

    use super::*;

    /// What a deploy would do to an account in which `found` is there.
    fn plan_with(found: impl IntoIterator<Item = (Kind, &'static str, Live)>) -> Plan {
        let settings = Settings::parse("app: chat\nstages:\n  dev:\n    auth: { mode: open }\n", "chat.yaml");
        let settings = settings.unwrap().stage("dev").unwrap();
        let identity = Identity {
            account: "123456789012".into(),
            region: "us-east-1".into(),
            partition: "aws".into(),
            arn: "arn:aws:iam::123456789012:user/dev".into(),
        };
        let artifacts: Artifacts = Handler::ALL
            .map(|handler| (handler, Artifact::pack(b"code", chat_stacks::Effort::Quick).unwrap()))
            .into();
        let stack = chat_stacks::chat::stack(&settings, &identity, &artifacts).unwrap();
        let found = found.into_iter().map(|(kind, name, live)| (Address::new(kind, name), live));
        chat_stacks::plan(&stack, &Observed::from_iter(found), &PlanOptions::default()).unwrap()
    }

    fn live(id: &str, properties: impl IntoIterator<Item = (&'static str, Value)>) -> Live {
        Live {
            id: id.to_owned(),
            properties: properties.into_iter().collect(),
            outputs: BTreeMap::new(),
            owned: true,
        }
    }

    fn shown(plan: &Plan, verbose: bool) -> String {
        console::set_colors_enabled(false);
        PlanView { plan, verbose }.to_string()
    }

    #[test]
    fn a_first_deploy_is_a_tree_of_what_belongs_together() {
        insta::assert_snapshot!(shown(&plan_with([]), false));
    }

    #[test]
    fn a_change_names_the_place_and_hides_what_others_put_there() {
        let function = live(
            "chat-dev-connect",
            [
                ("memory_mb", json!(128)),
                ("environment", json!({ "CHAT_TABLE": "elsewhere", "DB_PASSWORD": "hunter2" })),
            ],
        );
        let mut plan = plan_with([(Kind::Function, "connect", function)]);
        plan.steps.retain(|step| step.resource == Address::new(Kind::Function, "connect"));
        let text = shown(&plan, false);
        assert!(text.contains("memory_mb: 128 → 256"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        assert!(!serde_json::to_string(&plan).unwrap().contains("hunter2"));
    }

    #[test]
    fn what_goes_is_shown_with_what_takes_it_along() {
        let mut plan = plan_with([
            (Kind::Function, "old", live("chat-dev-old", [])),
            (Kind::Alias, "old", live("live", [])),
        ]);
        plan.steps.retain(|step| step.action == Action::Delete);
        let text = shown(&plan, false);
        assert!(text.starts_with("  - function/old\n  └─- alias/old goes with function/old\n"), "{text}");
        assert!(text.ends_with("2 to delete, 0 unchanged"), "{text}");
    }
}
