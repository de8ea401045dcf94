//! Names of functions: what callers may write for one, and its ARNs.

use crate::context::Context;
use crate::error::AwsError;

/// The version that is edited. Every other is immutable.
pub(super) const LATEST: &str = "$LATEST";

/// A function as a caller names it: by name, partial ARN or ARN, each with an optional qualifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) function: String,
    /// Version or alias.
    pub(super) qualifier: Option<String>,
}

impl Name {
    /// `qualifier` is the one given apart from the name, as a query parameter.
    pub(super) fn parse(text: &str, qualifier: Option<&str>) -> Result<Self, AwsError> {
        let invalid = || {
            AwsError::bad_request(
                "ValidationException",
                format!(
                    "1 validation error detected: Value '{text}' at 'functionName' failed to satisfy constraint: \
                     Member must satisfy regular expression pattern: \
                     (arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{{2}}((-gov)|(-iso([a-z]?)))?-[a-z]+-\\d{{1}}:)?(\\d{{12}}:)?\
                     (function:)?([a-zA-Z0-9-_]+)(:(\\$LATEST|[a-zA-Z0-9-_]+))?"
                ),
            )
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (function, inner) = match parts.as_slice() {
            [name] => (*name, None),
            [name, qualifier] => (*name, Some(*qualifier)),
            [_, "function", name] => (*name, None),
            [_, "function", name, qualifier] => (*name, Some(*qualifier)),
            ["arn", _, "lambda", _, _, "function", name] => (*name, None),
            ["arn", _, "lambda", _, _, "function", name, qualifier] => (*name, Some(*qualifier)),
            _ => return Err(invalid()),
        };
        let word = |text: &str| !text.is_empty() && text.bytes().all(is_name_byte);
        if !word(function) || function.len() > 140 || inner.is_some_and(|q| q != LATEST && !word(q)) {
            return Err(invalid());
        }
        if let (Some(inner), Some(outer)) = (inner, qualifier)
            && inner != outer
        {
            return Err(AwsError::bad_request(
                "InvalidParameterValueException",
                "The derived qualifier from the function name does not match the specified qualifier.",
            ));
        }
        Ok(Self { function: function.to_owned(), qualifier: inner.or(qualifier).map(str::to_owned) })
    }

    /// The version or alias meant when none was given.
    pub(super) fn qualifier_or_latest(&self) -> &str {
        self.qualifier.as_deref().unwrap_or(LATEST)
    }
}

/// What names of functions and aliases consist of.
pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// ARN of a function without a qualifier.
pub(super) fn function_arn(cx: &Context, function: &str) -> String {
    format!("arn:aws:lambda:{}:{}:function:{function}", cx.region, cx.account)
}

/// ARN of a version or an alias.
pub(super) fn qualified_arn(cx: &Context, function: &str, qualifier: &str) -> String {
    format!("{}:{qualifier}", function_arn(cx, function))
}

pub(super) fn not_found(arn: &str) -> AwsError {
    AwsError::new(
        http::StatusCode::NOT_FOUND,
        "ResourceNotFoundException",
        format!("Function not found: {arn}"),
    )
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn names_partial_arns_and_arns_mean_the_same_function() {
        for text in [
            "f:live",
            "000000000000:function:f:live",
            "arn:aws:lambda:us-east-1:000000000000:function:f:live",
        ] {
            let name = Name::parse(text, None).unwrap();
            assert_eq!((name.function.as_str(), name.qualifier.as_deref()), ("f", Some("live")), "{text}");
        }
        assert_eq!(Name::parse("f", Some("3")).unwrap().qualifier.as_deref(), Some("3"));
        assert_eq!(Name::parse("f:$LATEST", None).unwrap().qualifier_or_latest(), "$LATEST");
    }

    #[test]
    fn other_names_and_contradicting_qualifiers_are_refused() {
        for text in ["", "a b", "../x", "f:", "a:b:c:d:e"] {
            assert_eq!(Name::parse(text, None).unwrap_err().code, "ValidationException", "{text}");
        }
        assert_eq!(Name::parse("f:1", Some("2")).unwrap_err().code, "InvalidParameterValueException");
    }
}
