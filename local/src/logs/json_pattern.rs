//! Filter patterns for events that are JSON: `{ $.level = "ERROR" && $.took_ms > 100 }`.

use serde_json::Value;

use super::pattern::{invalid, quoted_string};
use crate::error::AwsError;
use crate::glob;

/// Parentheses may nest this deep.
const MAX_DEPTH: usize = 32;

#[derive(Debug)]
pub(super) enum JsonPattern {
    All(Vec<JsonPattern>),
    Any(Vec<JsonPattern>),
    Test(Selector, Test),
}

/// `$.users[0].name`, `$.items[*]`, `$['a.b']`.
#[derive(Debug)]
pub(super) struct Selector(Vec<Step>);

#[derive(Debug)]
enum Step {
    Member(String),
    Index(usize),
    /// Any element or member.
    Wild,
}

#[derive(Debug)]
pub(super) enum Test {
    /// With stars as globs; the flag says "not".
    Text(String, bool),
    Number(Comparison, f64),
    Is(Value),
    Exists(bool),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPattern {
    pub(super) fn parse(text: &str) -> Result<Self, AwsError> {
        let inner = text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'))
            .ok_or_else(|| invalid("Invalid filter pattern: a closing brace is missing"))?;
        let mut parser = Parser { rest: inner };
        let pattern = parser.any(0)?;
        parser.skip_space();
        if parser.rest.is_empty() { Ok(pattern) } else { Err(parser.unexpected()) }
    }

    pub(super) fn matches(&self, event: &Value) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.matches(event)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(event)),
            Self::Test(selector, test) => {
                let mut found = Vec::new();
                selector.select(event, &mut found);
                test.holds(&found)
            }
        }
    }
}

impl Selector {
    fn select<'v>(&self, event: &'v Value, found: &mut Vec<&'v Value>) {
        fn follow<'v>(steps: &[Step], value: &'v Value, found: &mut Vec<&'v Value>) {
            let Some((step, rest)) = steps.split_first() else {
                found.push(value);
                return;
            };
            match (step, value) {
                (Step::Member(name), Value::Object(members)) => {
                    members.get(name).into_iter().for_each(|value| follow(rest, value, found));
                }
                (Step::Index(index), Value::Array(elements)) => {
                    elements.get(*index).into_iter().for_each(|value| follow(rest, value, found));
                }
                (Step::Wild, Value::Array(elements)) => {
                    elements.iter().for_each(|value| follow(rest, value, found))
                }
                (Step::Wild, Value::Object(members)) => {
                    members.values().for_each(|value| follow(rest, value, found))
                }
                _ => {}
            }
        }
        follow(&self.0, event, found);
    }
}

impl Test {
    fn holds(&self, found: &[&Value]) -> bool {
        match self {
            Self::Exists(expected) => found.is_empty() != *expected,
            Self::Is(expected) => found.contains(&expected),
            Self::Text(pattern, negated) => found.iter().any(|value| {
                let text = match value {
                    Value::String(text) => text.clone(),
                    Value::Number(number) => number.to_string(),
                    _ => return false,
                };
                glob::matches(&pattern.replace('?', "\u{1}"), &text.replace('?', "\u{1}")) != *negated
            }),
            Self::Number(comparison, expected) => found.iter().any(|value| {
                value.as_f64().is_some_and(|actual| match comparison {
                    Comparison::Equal => actual == *expected,
                    Comparison::NotEqual => actual != *expected,
                    Comparison::Less => actual < *expected,
                    Comparison::LessOrEqual => actual <= *expected,
                    Comparison::Greater => actual > *expected,
                    Comparison::GreaterOrEqual => actual >= *expected,
                })
            }),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn any(&mut self, depth: usize) -> Result<JsonPattern, AwsError> {
        let mut parts = vec![self.all(depth)?];
        while self.take("||") {
            parts.push(self.all(depth)?);
        }
        Ok(one_or(parts, JsonPattern::Any))
    }

    fn all(&mut self, depth: usize) -> Result<JsonPattern, AwsError> {
        let mut parts = vec![self.single(depth)?];
        while self.take("&&") {
            parts.push(self.single(depth)?);
        }
        Ok(one_or(parts, JsonPattern::All))
    }

    fn single(&mut self, depth: usize) -> Result<JsonPattern, AwsError> {
        if depth > MAX_DEPTH {
            return Err(invalid("Invalid filter pattern: it nests too deep"));
        }
        if self.take("(") {
            let inner = self.any(depth + 1)?;
            return if self.take(")") { Ok(inner) } else { Err(self.unexpected()) };
        }
        let selector = self.selector()?;
        Ok(JsonPattern::Test(selector, self.test()?))
    }

    fn selector(&mut self) -> Result<Selector, AwsError> {
        if !self.take("$") {
            return Err(self.unexpected());
        }
        let mut steps = Vec::new();
        loop {
            if let Some(rest) = self.rest.strip_prefix('.').filter(|rest| !rest.starts_with('[')) {
                self.rest = rest;
                let name = self.word(|c| c.is_alphanumeric() || "_-@#".contains(c));
                steps.push(match name.as_str() {
                    "" if self.take_tight("*") => Step::Wild,
                    "" => return Err(self.unexpected()),
                    _ => Step::Member(name),
                });
            } else if let Some(rest) = self.rest.strip_prefix('[').or_else(|| self.rest.strip_prefix(".[")) {
                let (inside, rest) = rest.split_once(']').ok_or_else(|| self.unexpected())?;
                let inside = inside.trim();
                let quoted = ['\'', '"'].into_iter().find_map(|q| inside.strip_prefix(q)?.strip_suffix(q));
                steps.push(match quoted {
                    Some(name) => Step::Member(name.to_owned()),
                    None if inside == "*" => Step::Wild,
                    None => Step::Index(inside.parse().map_err(|_| self.unexpected())?),
                });
                self.rest = rest;
            } else {
                return if steps.is_empty() { Err(self.unexpected()) } else { Ok(Selector(steps)) };
            }
        }
    }

    fn test(&mut self) -> Result<Test, AwsError> {
        self.skip_space();
        let keywords = self.rest.to_ascii_uppercase();
        let mut words =
            keywords.split(|c: char| c.is_whitespace() || c == ')').filter(|word| !word.is_empty());
        let test = match (words.next(), words.next()) {
            (Some("IS"), Some("NULL")) => Some(Test::Is(Value::Null)),
            (Some("IS"), Some("TRUE")) => Some(Test::Is(Value::Bool(true))),
            (Some("IS"), Some("FALSE")) => Some(Test::Is(Value::Bool(false))),
            (Some("NOT"), Some("EXISTS")) => Some(Test::Exists(false)),
            (Some("EXISTS"), _) => Some(Test::Exists(true)),
            _ => None,
        };
        if let Some(test) = test {
            let count = if matches!(test, Test::Exists(true)) { 1 } else { 2 };
            for _ in 0..count {
                self.skip_space();
                self.word(char::is_alphabetic);
            }
            return Ok(test);
        }
        let operators = [
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("=", Comparison::Equal),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        let comparison =
            operators.into_iter().find(|(text, _)| self.take(text)).map(|(_, comparison)| comparison);
        let comparison = comparison.ok_or_else(|| self.unexpected())?;
        self.skip_space();
        let (text, quoted) = match self.rest.strip_prefix('"') {
            Some(rest) => {
                let (text, rest) = quoted_string(rest)?;
                self.rest = rest;
                (text, true)
            }
            None => (self.word(|c| !c.is_whitespace() && !"()&|=!<>\"{}".contains(c)), false),
        };
        if !quoted {
            if let Ok(number) = text.parse() {
                return Ok(Test::Number(comparison, number));
            }
            if text.is_empty() {
                return Err(self.unexpected());
            }
        }
        match comparison {
            Comparison::Equal => Ok(Test::Text(text, false)),
            Comparison::NotEqual => Ok(Test::Text(text, true)),
            _ => Err(invalid("Invalid filter pattern: only numbers can be compared by size")),
        }
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_owned()
    }

    fn take(&mut self, text: &str) -> bool {
        self.skip_space();
        self.take_tight(text)
    }

    fn take_tight(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn unexpected(&self) -> AwsError {
        let near: String = self.rest.chars().take(20).collect();
        invalid(&format!("Invalid filter pattern: unexpected '{near}'"))
    }
}

fn one_or(mut parts: Vec<JsonPattern>, several: impl FnOnce(Vec<JsonPattern>) -> JsonPattern) -> JsonPattern {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            several(parts)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::JsonPattern;

    #[test]
    fn selectors_and_comparisons_match_as_documented() {
        let event = r#"{"level":"ERROR","took":120.5,"code":404,"user":{"id":"alice","tags":["a","b"],"a.b":1},
            "ok":true,"none":null,"list":[{"n":1},{"n":5}],"path":"/x/y?z"}"#;
        let event = serde_json::from_str(event).unwrap();
        for (pattern, expected) in [
            (r#"{ $.level = "ERROR" }"#, true),
            (r#"{$.level=ERROR}"#, true),
            (r#"{ $.level = "ERR*" }"#, true),
            (r#"{ $.level != "ERROR" }"#, false),
            (r#"{ $.missing != "ERROR" }"#, false),
            (r#"{ $.took > 100 && $.took < 121 }"#, true),
            (r#"{ $.took >= 120.5 && $.code = 404 }"#, true),
            (r#"{ $.code != 404 }"#, false),
            (r#"{ $.code = "404" }"#, true),
            (r#"{ $.level = "INFO" || $.user.id = "alice" }"#, true),
            (r#"{ ($.level = "INFO" || $.code = 404) && $.ok IS TRUE }"#, true),
            (r#"{ $.level = "INFO" || $.code = 404 && $.ok IS FALSE }"#, false),
            (r#"{ $.user.tags[1] = "b" }"#, true),
            (r#"{ $.user.tags[2] = "b" }"#, false),
            (r#"{ $.user['a.b'] = 1 }"#, true),
            (r#"{ $.list[*].n = 5 }"#, true),
            (r#"{ $.list[*].n > 5 }"#, false),
            (r#"{ $.none IS NULL }"#, true),
            (r#"{ $.level IS NULL }"#, false),
            (r#"{ $.missing NOT EXISTS }"#, true),
            (r#"{ ($.level NOT EXISTS) }"#, false),
            (r#"{ $.path = "/x/?*" }"#, false),
            (r#"{ $.path = "/x/y?z" }"#, true),
        ] {
            assert_eq!(JsonPattern::parse(pattern).unwrap().matches(&event), expected, "{pattern}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = format!("{{{}$.a = 1{}}}", "(".repeat(500), ")".repeat(500));
        assert!(JsonPattern::parse(&deep).is_err());
    }
}
