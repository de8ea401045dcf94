//! IAM policies: statements, documents, and whether two documents mean the same.

use serde_json::{Value, json};

/// One `Allow` statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) sid: &'static str,
    pub(crate) actions: Vec<String>,
    /// `None` while an id in it is not known yet.
    pub(crate) resources: Option<Vec<String>>,
}

/// A policy document of `Allow` statements, or `None` while one of their resources is unknown.
pub(crate) fn document(statements: &[Statement]) -> Option<Value> {
    let statements: Option<Vec<Value>> = statements
        .iter()
        .map(|statement| {
            Some(json!({
                "Sid": statement.sid,
                "Effect": "Allow",
                "Action": statement.actions,
                "Resource": statement.resources.as_ref()?,
            }))
        })
        .collect();
    Some(canonical(&json!({ "Version": "2012-10-17", "Statement": statements? })))
}

/// Who may take a role on.
pub(crate) fn trust(service: &str) -> Value {
    canonical(&json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Principal": { "Service": service }, "Action": "sts:AssumeRole" }],
    }))
}

/// A document in the one form that all documents of the same meaning share: what may be a string or a list is a
/// sorted list, and statements are sorted. AWS gives back neither order nor form as they were sent.
pub(crate) fn canonical(document: &Value) -> Value {
    let mut document = document.clone();
    let Some(fields) = document.as_object_mut() else { return document };
    fields.remove("Id");
    if let Some(statements) = fields.get_mut("Statement") {
        let mut list: Vec<Value> = as_list(statements.take()).into_iter().map(statement).collect();
        list.sort_by_key(Value::to_string);
        *statements = Value::Array(list);
    }
    document
}

fn statement(mut statement: Value) -> Value {
    let Some(fields) = statement.as_object_mut() else { return statement };
    for (name, value) in fields.iter_mut() {
        match name.as_str() {
            "Action" | "NotAction" | "Resource" | "NotResource" => *value = sorted(value.take()),
            "Principal" | "NotPrincipal" => {
                if let Some(kinds) = value.as_object_mut() {
                    for principals in kinds.values_mut() {
                        *principals = sorted(principals.take());
                    }
                }
            }
            "Condition" => {
                for operator in value.as_object_mut().into_iter().flat_map(|operators| operators.values_mut())
                {
                    for values in operator.as_object_mut().into_iter().flat_map(|keys| keys.values_mut()) {
                        *values = sorted(values.take());
                    }
                }
            }
            _ => {}
        }
    }
    statement
}

fn sorted(value: Value) -> Value {
    let mut list = as_list(value);
    list.sort_by_key(Value::to_string);
    list.dedup();
    Value::Array(list)
}

fn as_list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        single => vec![single],
    }
}

/// Parses a document as IAM returns it: URL-encoded (RFC 3986), whatever was sent.
/// Source: <https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetRolePolicy.html>
pub(crate) fn parse(encoded: &str) -> Value {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escape = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    // What is no JSON is drift like any other: shown, and overwritten.
    serde_json::from_str(&text)
        .map_or_else(|_| Value::String(text.into_owned()), |document| canonical(&document))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_the_same_meaning_are_equal() {
        let one = json!({
            "Version": "2012-10-17",
            "Statement": [
                { "Effect": "Allow", "Action": ["b:B", "a:A"], "Resource": "r" },
                { "Effect": "Allow", "Action": "c:C", "Resource": ["s"], "Condition": { "ArnLike": { "k": "v" } } },
            ],
        });
        let other = json!({
            "Statement": [
                { "Action": ["c:C"], "Resource": "s", "Effect": "Allow", "Condition": { "ArnLike": { "k": ["v"] } } },
                { "Effect": "Allow", "Resource": ["r"], "Action": ["a:A", "b:B", "a:A"] },
            ],
            "Version": "2012-10-17",
        });
        assert_eq!(canonical(&one), canonical(&other));
    }

    #[test]
    fn one_action_more_is_another_meaning() {
        let less = json!({ "Statement": { "Effect": "Allow", "Action": "a:A", "Resource": "r" } });
        let more = json!({ "Statement": { "Effect": "Allow", "Action": ["a:A", "a:B"], "Resource": "r" } });
        assert_ne!(canonical(&less), canonical(&more));
    }

    #[test]
    fn what_iam_returns_is_url_encoded() {
        let sent = trust("lambda.amazonaws.com");
        let encoded: String = sent
            .to_string()
            .bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect();
        assert_eq!(parse(&encoded), sent);
        assert_eq!(parse(&sent.to_string()), sent, "some clouds return it as it is");
        assert_eq!(parse("100%"), Value::String("100%".into()));
    }

    #[test]
    fn an_unknown_id_makes_the_document_unknown() {
        let statement = Statement { sid: "Post", actions: vec!["a:A".into()], resources: None };
        assert_eq!(document(&[statement]), None);
    }
}
