//! What the operator reads: one JSON object a line on stdout, which Lambda sends to the function's log group.

use std::io::Write;

use serde_json::{Map, Value};

/// How bad it is.
#[derive(Clone, Copy, Debug)]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// Writes one line. A log that cannot be written must not stop the chat.
pub fn line(level: Level, request_id: &str, message: &str, fields: &[(&str, Value)]) {
    let text = render(level, request_id, message, fields);
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn render(level: Level, request_id: &str, message: &str, fields: &[(&str, Value)]) -> String {
    let mut object = Map::new();
    let level = match level {
        Level::Info => "INFO",
        Level::Warn => "WARN",
        Level::Error => "ERROR",
    };
    object.insert("level".to_owned(), level.into());
    if !request_id.is_empty() {
        object.insert("requestId".to_owned(), request_id.into());
    }
    object.insert("message".to_owned(), message.into());
    for (key, value) in fields {
        object.insert((*key).to_owned(), value.clone());
    }
    Value::Object(object).to_string() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_logged_stays_on_one_line() {
        let text = render(Level::Error, "r-1", "a\nb", &[("why", "c\r\n\u{2028}".into())]);
        assert_eq!(text.matches('\n').count(), 1);
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((read["message"].as_str(), read["requestId"].as_str()), (Some("a\nb"), Some("r-1")));
    }
}
