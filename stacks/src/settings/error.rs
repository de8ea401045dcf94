//! What is wrong with the settings, and exactly where: the parts that a caret is drawn from.

use std::sync::Arc;

use super::{Source, locate};

/// A mistake in the settings. `Display` is one line; the fields have what a richer rendering needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}{}: {message}", .span.map(|span| format!(":{}:{}", span.line, span.column)).unwrap_or_default())]
pub struct SettingsError {
    /// The file, as the caller called it.
    pub name: Arc<str>,
    /// Its text, for showing the line.
    pub text: Arc<str>,
    /// Absent only if the file could not be read at all.
    pub span: Option<Span>,
    pub message: String,
    /// The nearest valid key, the allowed values, or the way out.
    pub help: Option<String>,
}

/// A place in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// From 0, in bytes.
    pub offset: usize,
    /// In bytes; at least 1 unless the text ends here.
    pub length: usize,
}

impl Span {
    /// The token that starts at a line and column (both from 1).
    pub(super) fn token(text: &str, line: usize, column: usize) -> Self {
        let line_start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let rest_of_line = text.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
        let before: usize = rest_of_line.chars().take(column.saturating_sub(1)).map(char::len_utf8).sum();
        let token = &rest_of_line[before..];
        let length = match token.chars().next() {
            // A quoted token ends with its quote, any other where a flow collection, a comment or the key ends.
            Some(quote @ ('"' | '\'')) => token[1..].find(quote).map_or(token.len(), |end| end + 2),
            Some('{' | '[') => 1,
            _ => {
                let end = token.char_indices().find(|(at, c)| {
                    matches!(c, ',' | '}' | ']')
                        || (*c == ':' && token[at + 1..].chars().next().is_none_or(char::is_whitespace))
                        || (*c == '#' && token[..*at].ends_with(' '))
                });
                token[..end.map_or(token.len(), |(at, _)| at)].trim_end().len()
            }
        };
        Self { line, column, offset: line_start + before, length }
    }
}

impl SettingsError {
    pub(super) fn unreadable(name: &str, error: &std::io::Error) -> Self {
        Self {
            name: Arc::from(name),
            text: Arc::from(""),
            span: None,
            message: format!("failed to read the settings: {error}"),
            help: (error.kind() == std::io::ErrorKind::NotFound).then(|| {
                "run this in the project's directory, or name the file with `--settings`".to_owned()
            }),
        }
    }
}

impl Source {
    /// An error at the value of `path`, or at its key if the value is missing.
    pub(super) fn error_at(&self, path: &[&str], message: String, help: String) -> SettingsError {
        // A group is best pointed at by its key.
        let place = match locate::value(&self.text, path) {
            Some(span) if !is_scalar(&self.text, span) => locate::key(&self.text, path),
            place => place.or_else(|| locate::key(&self.text, path)),
        };
        SettingsError {
            name: self.name.clone(),
            text: self.text.clone(),
            span: place,
            message,
            help: Some(help),
        }
    }

    /// What `serde_yaml` refused, in the words of a person.
    pub(super) fn refused(&self, error: &serde_yaml::Error) -> SettingsError {
        let location = error.location();
        let mut message = error.to_string();
        if let Some(location) = &location {
            // The position is a field of its own.
            let at = format!(" at line {} column {}", location.line(), location.column());
            message = message.replace(&at, "");
        }
        let span = duplicate(&message)
            .and_then(|path| locate::repeated(&self.text, &path))
            .or_else(|| location.map(|at| Span::token(&self.text, at.line(), at.column())));
        let (message, help) = explain(&message);
        SettingsError { name: self.name.clone(), text: self.text.clone(), span, message, help }
    }
}

fn is_scalar(text: &str, span: Span) -> bool {
    let line = text.get(span.offset..).unwrap_or_default().lines().next().unwrap_or_default();
    !line.starts_with(['{', '[', '-']) && !line.get(span.length..).unwrap_or_default().starts_with(':')
}

/// The setting that is there twice. Of one that is, `serde_yaml` tells the place of the group alone.
fn duplicate(message: &str) -> Option<Vec<&str>> {
    let (path, rest) = message.split_once("duplicate field `")?;
    let (name, _) = rest.split_once('`')?;
    Some(path.trim_end_matches(": ").split('.').filter(|part| !part.is_empty()).chain([name]).collect())
}

/// Turns serde's "unknown field `x`, expected one of `a`, `b`" into a message and the nearest of them.
fn explain(message: &str) -> (String, Option<String>) {
    for (found, what) in [("unknown field `", "unknown setting"), ("unknown variant `", "unknown value")] {
        let Some((path, rest)) = message.split_once(found) else { continue };
        let Some((name, expected)) = rest.split_once('`') else { continue };
        let allowed: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        let list = allowed.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let help = match nearest(name, allowed.iter().copied()) {
            Some(near) => format!("did you mean `{near}`? Known here: {list}"),
            None => format!("known here: {list}"),
        };
        return (format!("{path}{what} `{name}`"), (!allowed.is_empty()).then_some(help));
    }
    if let Some((path, rest)) = message.split_once("duplicate field `") {
        let name = rest.trim_end_matches('`');
        let help = "keep one of the two; what belongs together goes below one key".to_owned();
        return (format!("{path}`{name}` is set twice"), Some(help));
    }
    match message.split_once(", expected ") {
        Some((message, expected)) => (message.to_owned(), Some(format!("expected {expected}"))),
        None => (message.to_owned(), None),
    }
}

/// The candidate that `name` was probably meant to be.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(name.len()) / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}
