//! Filter patterns: terms in unstructured events, selectors in JSON events.

use super::json_pattern::JsonPattern;
use crate::error::AwsError;

/// What `FilterLogEvents` looks for.
#[derive(Debug)]
pub(super) enum Pattern {
    Everything,
    Terms {
        /// All of these have to occur.
        required: Vec<String>,
        /// None of these may occur.
        excluded: Vec<String>,
        /// Of these one has to occur; they count only where there is nothing else, as on AWS.
        optional: Vec<String>,
    },
    Json(JsonPattern),
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, AwsError> {
        let text = text.trim();
        if text.len() > 1024 {
            return Err(invalid("Filter pattern is longer than 1024 characters"));
        }
        match text.chars().next() {
            None => return Ok(Self::Everything),
            Some('{') => return Ok(Self::Json(JsonPattern::parse(text)?)),
            Some('[') => {
                return Err(invalid("The local cloud has no filter patterns for space-delimited events"));
            }
            Some('%') => {
                return Err(invalid("The local cloud has no regular expressions in filter patterns"));
            }
            Some(_) => {}
        }
        let (mut required, mut excluded, mut optional) = (Vec::new(), Vec::new(), Vec::new());
        let mut rest = text;
        while !rest.is_empty() {
            let (kind, after) = match rest.as_bytes()[0] {
                b'-' => (&mut excluded, &rest[1..]),
                b'?' => (&mut optional, &rest[1..]),
                _ => (&mut required, rest),
            };
            let (term, after) = term(after)?;
            kind.push(term);
            rest = after.trim_start();
        }
        Ok(Self::Terms { required, excluded, optional })
    }

    pub(super) fn matches(&self, message: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Json(pattern) => serde_json::from_str(message).is_ok_and(|event| pattern.matches(&event)),
            Self::Terms { required, excluded, optional } => {
                let occurs = |term: &String| message.contains(term.as_str());
                let only_optional = required.is_empty() && excluded.is_empty();
                required.iter().all(occurs)
                    && !excluded.iter().any(occurs)
                    && (!only_optional || optional.iter().any(occurs))
            }
        }
    }
}

/// A word, or a phrase in quotes, and what follows it.
fn term(text: &str) -> Result<(String, &str), AwsError> {
    if let Some(quoted) = text.strip_prefix('"') {
        return quoted_string(quoted);
    }
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    if word.is_empty() {
        return Err(invalid("Invalid filter pattern: a term is missing"));
    }
    // AWS wants quotes around everything else.
    if let Some(wrong) = word.chars().find(|c| !c.is_alphanumeric() && *c != '_') {
        return Err(invalid(&format!(
            "Invalid character(s) in term '{wrong}': put the term in double quotes"
        )));
    }
    Ok((word.to_owned(), rest))
}

/// After the opening quote: the string, and what follows its closing quote.
pub(super) fn quoted_string(text: &str) -> Result<(String, &str), AwsError> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[index + 1..])),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            character => value.push(character),
        }
    }
    Err(invalid("Invalid filter pattern: a closing quote is missing"))
}

pub(super) fn invalid(message: &str) -> AwsError {
    AwsError::bad_request("InvalidParameterException", message)
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn terms_match_as_documented() {
        for (pattern, message, expected) in [
            ("", "anything", true),
            ("ERROR", "[ERROR 400] BAD REQUEST", true),
            ("ERROR", "[error 400] bad request", false),
            ("ERROR ARGUMENTS", "ERROR 500 ARGUMENTS", true),
            ("ERROR ARGUMENTS", "ERROR 500", false),
            ("ERROR -EXITING", "ERROR 401 EXITING", false),
            ("ERROR -EXITING", "ERROR 401", true),
            ("?ERROR ?WARN", "a WARN b", true),
            ("?ERROR ?WARN", "an INFO", false),
            ("\"INTERNAL SERVER\"", "INTERNAL SERVER ERROR", true),
            ("\"INTERNAL SERVER\"", "INTERNAL  SERVER ERROR", false),
            ("-\"not this\"", "this", true),
            ("\"with \\\"quotes\\\"\"", "a with \"quotes\"", true),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(message), expected, "{pattern} / {message}");
        }
    }

    #[test]
    fn what_aws_refuses_is_refused() {
        for pattern in ["\"open", "a.b", "-", "[w1, w2]", "%a+%", "{", "{ $.a }"] {
            assert_eq!(Pattern::parse(pattern).unwrap_err().code, "InvalidParameterException", "{pattern}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_makes_it_panic(pattern in "\\PC{0,60}", message in "\\PC{0,60}") {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                pattern.matches(&message);
            }
        }

        #[test]
        fn no_json_pattern_makes_it_panic(pattern in "[{}()$.a-c\\[\\]0-9*=!<>&|\" ]{0,60}", message in "\\PC{0,60}") {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                pattern.matches(&message);
            }
        }
    }
}
