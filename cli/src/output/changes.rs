//! How a value differs from another, as single lines: an environment variable, one action of a policy, and not the two
//! documents that contain them.

use std::collections::BTreeSet;

use console::style;
use serde_json::Value;

/// The fields that name an element of a list, so that two lists are compared element by element.
const NAMES: [&str; 1] = ["Sid"];

/// One difference, at a path such as `statements[Store].Action`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change<'a> {
    pub(crate) path: String,
    pub(crate) old: Option<&'a Value>,
    pub(crate) new: Option<&'a Value>,
}

/// Every place below `path` at which the two differ.
pub(crate) fn between<'a>(path: &str, old: Option<&'a Value>, new: Option<&'a Value>) -> Vec<Change<'a>> {
    let mut changes = Vec::new();
    compare(path.to_owned(), old, new, &mut changes);
    changes
}

fn compare<'a>(path: String, old: Option<&'a Value>, new: Option<&'a Value>, changes: &mut Vec<Change<'a>>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                compare(format!("{path}.{name}"), old.get(name), new.get(name), changes);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => elements(&path, old, new, changes),
        (old, new) => changes.push(Change { path, old, new }),
    }
}

fn elements<'a>(path: &str, old: &'a [Value], new: &'a [Value], changes: &mut Vec<Change<'a>>) {
    let named =
        |list: &'a [Value]| list.iter().map(|item| Some((name(item)?, item))).collect::<Option<Vec<_>>>();
    if let (Some(old), Some(new)) = (named(old), named(new)) {
        let find = |list: &[(&str, &'a Value)], name: &str| {
            list.iter().find(|(other, _)| *other == name).map(|(_, item)| *item)
        };
        let names: BTreeSet<&str> = old.iter().chain(&new).map(|(name, _)| *name).collect();
        for name in names {
            compare(format!("{path}[{name}]"), find(&old, name), find(&new, name), changes);
        }
        return;
    }
    // Lists are sets to AWS: policies' actions, origins. What stayed is not worth a line.
    let gone = old.iter().filter(|item| !new.contains(item));
    changes.extend(gone.map(|item| Change { path: path.to_owned(), old: Some(item), new: None }));
    let come = new.iter().filter(|item| !old.contains(item));
    changes.extend(come.map(|item| Change { path: path.to_owned(), old: None, new: Some(item) }));
}

/// A value as a line of text shows it: texts without quotes, unless they are empty.
pub(crate) fn text(value: Option<&Value>) -> String {
    match value {
        None => style("none").dim().to_string(),
        Some(Value::String(text)) if text.is_empty() => "\"\"".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn name(item: &Value) -> Option<&str> {
    NAMES.iter().find_map(|name| item.get(name)?.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(old: &Value, new: &Value) -> Vec<String> {
        let text = |value: Option<&Value>| value.map_or_else(|| "none".to_owned(), Value::to_string);
        between("p", Some(old), Some(new))
            .into_iter()
            .map(|change| format!("{}: {} → {}", change.path, text(change.old), text(change.new)))
            .collect()
    }

    #[test]
    fn what_stayed_is_not_shown() {
        let old = json!({ "a": 1, "b": { "c": "x", "d": true }, "gone": 0 });
        let new = json!({ "a": 1, "b": { "c": "y", "d": true }, "come": [1] });
        assert_eq!(lines(&old, &new), [r#"p.b.c: "x" → "y""#, "p.come: none → [1]", "p.gone: 0 → none"]);
        assert!(lines(&old, &old).is_empty());
    }

    #[test]
    fn statements_are_compared_by_their_names_and_actions_as_sets() {
        let old = json!([{ "Sid": "B", "Action": ["x", "y"] }, { "Sid": "A", "Action": ["z"] }]);
        let new = json!([{ "Sid": "A", "Action": ["z"] }, { "Sid": "B", "Action": ["w", "x"] }]);
        assert_eq!(lines(&old, &new), [r#"p[B].Action: "y" → none"#, r#"p[B].Action: none → "w""#]);
    }

    #[test]
    fn another_kind_of_value_is_one_change() {
        assert_eq!(lines(&json!({ "a": 1 }), &json!("text")), [r#"p: {"a":1} → "text""#]);
    }
}
