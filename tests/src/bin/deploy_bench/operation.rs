//! What a call asks for, as the AWS protocols say it: in a header, in a form, or by method and path.

use http::request::Parts;
use serde_json::Value;

/// A name such as `CreateRole` or `POST /v2/apis`. For forms `body` is what they say it in.
pub(crate) fn of(parts: &Parts, body: &[u8]) -> String {
    let target = parts.headers.get("x-amz-target").and_then(|value| value.to_str().ok());
    if let Some((_, operation)) = target.and_then(|target| target.rsplit_once('.')) {
        return match table_of(body) {
            Some(table) => format!("{operation} {table}"),
            None => operation.to_owned(),
        };
    }
    match field(body, "Action") {
        Some(action) if parts.uri.path() == "/" => action,
        _ => format!("{} {}", parts.method, parts.uri.path()),
    }
}

/// A field of a form.
pub(crate) fn field(body: &[u8], name: &str) -> Option<String> {
    url::form_urlencoded::parse(body).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// Two tables take part in a deploy, and what is asked of which matters.
fn table_of(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    // A transaction names it in each of its items.
    let item = body.get("TransactItems").and_then(|items| items.get(0)?.as_object()?.values().next());
    item.unwrap_or(&body).get("TableName")?.as_str().map(str::to_owned)
}
