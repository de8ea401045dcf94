//! Policy documents: what the JSON means, and what IAM refuses when it is stored.

use serde_json::{Map, Value};

use crate::error::AwsError;

/// A document, parsed once when it is stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    pub(crate) statements: Vec<Statement>,
}

#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) deny: bool,
    /// Patterns in lower case: actions have no case.
    pub(crate) actions: Matcher,
    /// `None` in trust policies, where the role itself is the resource.
    pub(crate) resources: Option<Matcher>,
    /// `None` in identity policies, where the owner of the policy is the principal.
    pub(crate) principals: Option<Principals>,
    pub(crate) conditions: Vec<Condition>,
}

/// `Action` or `NotAction`, `Resource` or `NotResource`.
#[derive(Clone, Debug)]
pub(crate) struct Matcher {
    pub(crate) negated: bool,
    pub(crate) patterns: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Principals {
    pub(crate) negated: bool,
    /// Kind (`AWS`, `Service`, `Federated`, or `*` for everybody) and value.
    pub(crate) entries: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Condition {
    /// As written, for instance `ForAllValues:StringLikeIfExists`.
    pub(crate) operator: String,
    /// In lower case: condition keys have no case.
    pub(crate) key: String,
    pub(crate) values: Vec<String>,
}

/// Where a document is meant to be attached, which decides what it must and must not contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Identity,
    Trust,
}

impl Policy {
    pub(crate) fn parse(text: &str, kind: Kind) -> Result<Self, AwsError> {
        let document: Value =
            serde_json::from_str(text).map_err(|_| malformed("This policy contains invalid Json"))?;
        let document = document.as_object().ok_or_else(|| malformed("Syntax errors in policy."))?;
        for (name, value) in document {
            match name.as_str() {
                "Version" if matches!(value.as_str(), Some("2012-10-17" | "2008-10-17")) => {}
                "Id" | "Statement" => {}
                _ => return Err(malformed("Syntax errors in policy.")),
            }
        }
        let statements = match document.get("Statement") {
            Some(Value::Array(statements)) if !statements.is_empty() => statements.iter().collect(),
            Some(statement @ Value::Object(_)) => vec![statement],
            _ => return Err(malformed("Syntax errors in policy.")),
        };
        let mut sids = std::collections::HashSet::new();
        let statements = statements
            .into_iter()
            .map(|statement| {
                let statement = statement.as_object().ok_or_else(|| malformed("Syntax errors in policy."))?;
                if let Some(sid) = statement.get("Sid") {
                    let sid = sid.as_str().ok_or_else(|| malformed("Syntax errors in policy."))?;
                    if kind == Kind::Identity && !sid.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                        return Err(malformed("Statement IDs (SID) must be alpha-numeric."));
                    }
                    if !sid.is_empty() && !sids.insert(sid) {
                        return Err(malformed("Statement IDs (SID) in a single policy must be unique."));
                    }
                }
                Statement::parse(statement, kind)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { statements })
    }
}

impl Statement {
    fn parse(statement: &Map<String, Value>, kind: Kind) -> Result<Self, AwsError> {
        const FIELDS: [&str; 9] = [
            "Sid",
            "Effect",
            "Action",
            "NotAction",
            "Resource",
            "NotResource",
            "Principal",
            "NotPrincipal",
            "Condition",
        ];
        if statement.keys().any(|name| !FIELDS.contains(&name.as_str())) {
            return Err(malformed("Syntax errors in policy."));
        }
        let deny = match statement.get("Effect").and_then(Value::as_str) {
            Some("Allow") => false,
            Some("Deny") => true,
            _ => return Err(malformed("Syntax errors in policy.")),
        };
        let mut actions = Matcher::parse(statement, "Action", "NotAction")?
            .ok_or_else(|| malformed("Policy statement must contain actions."))?;
        for action in &mut actions.patterns {
            if action != "*"
                && !action
                    .split_once(':')
                    .is_some_and(|(vendor, name)| !vendor.is_empty() && !name.is_empty())
            {
                return Err(malformed(
                    "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
                ));
            }
            action.make_ascii_lowercase();
            if kind == Kind::Trust && !action.starts_with("sts:") {
                return Err(malformed("AssumeRole policy may only specify STS AssumeRole actions."));
            }
        }
        let resources = Matcher::parse(statement, "Resource", "NotResource")?;
        let principals = Principals::parse(statement)?;
        match kind {
            Kind::Identity => {
                let resources = resources
                    .as_ref()
                    .ok_or_else(|| malformed("Policy statement must contain resources."))?;
                if let Some(wrong) = resources.patterns.iter().find(|pattern| !is_arn_pattern(pattern)) {
                    return Err(malformed(format!("Resource {wrong} must be in ARN format or \"*\".")));
                }
                if principals.is_some() {
                    return Err(malformed("Policy document should not specify a principal."));
                }
            }
            Kind::Trust => {
                if resources.is_some() {
                    return Err(malformed("Has prohibited field Resource"));
                }
                if principals.is_none() {
                    return Err(malformed("Missing required field Principal"));
                }
            }
        }
        Ok(Self { deny, actions, resources, principals, conditions: parse_conditions(statement)? })
    }
}

impl Matcher {
    fn parse(statement: &Map<String, Value>, name: &str, negation: &str) -> Result<Option<Self>, AwsError> {
        let (negated, value) = match (statement.get(name), statement.get(negation)) {
            (None, None) => return Ok(None),
            (Some(value), None) => (false, value),
            (None, Some(value)) => (true, value),
            (Some(_), Some(_)) => return Err(malformed("Syntax errors in policy.")),
        };
        let patterns = strings(value).filter(|patterns| !patterns.is_empty());
        Ok(Some(Self { negated, patterns: patterns.ok_or_else(|| malformed("Syntax errors in policy."))? }))
    }
}

impl Principals {
    fn parse(statement: &Map<String, Value>) -> Result<Option<Self>, AwsError> {
        let (negated, value) = match (statement.get("Principal"), statement.get("NotPrincipal")) {
            (None, None) => return Ok(None),
            (Some(value), None) => (false, value),
            (None, Some(value)) => (true, value),
            (Some(_), Some(_)) => return Err(malformed("Syntax errors in policy.")),
        };
        let mut entries = Vec::new();
        match value {
            Value::String(everybody) if everybody == "*" => entries.push(("*".to_owned(), "*".to_owned())),
            Value::Object(kinds) => {
                for (kind, value) in kinds {
                    if !matches!(kind.as_str(), "AWS" | "Service" | "Federated" | "CanonicalUser") {
                        return Err(malformed("Syntax errors in policy."));
                    }
                    let values = strings(value).ok_or_else(|| malformed("Syntax errors in policy."))?;
                    entries.extend(values.into_iter().map(|value| (kind.clone(), value)));
                }
            }
            _ => return Err(malformed("Syntax errors in policy.")),
        }
        Ok(Some(Self { negated, entries }))
    }
}

fn parse_conditions(statement: &Map<String, Value>) -> Result<Vec<Condition>, AwsError> {
    let mut conditions = Vec::new();
    let Some(value) = statement.get("Condition") else {
        return Ok(conditions);
    };
    let operators = value.as_object().ok_or_else(|| malformed("Syntax errors in policy."))?;
    for (operator, keys) in operators {
        if !super::evaluate::is_operator(operator) {
            return Err(malformed(format!("Invalid Condition type : {operator}.")));
        }
        for (key, value) in keys.as_object().ok_or_else(|| malformed("Syntax errors in policy."))? {
            conditions.push(Condition {
                operator: operator.clone(),
                key: key.to_ascii_lowercase(),
                values: strings(value).ok_or_else(|| malformed("Syntax errors in policy."))?,
            });
        }
    }
    Ok(conditions)
}

/// A string, number or boolean, or a list of them.
fn strings(value: &Value) -> Option<Vec<String>> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    };
    match value {
        Value::Array(values) => values.iter().map(one).collect(),
        value => one(value).map(|value| vec![value]),
    }
}

fn is_arn_pattern(pattern: &str) -> bool {
    pattern == "*" || (pattern.starts_with("arn:") && pattern.splitn(6, ':').count() == 6)
}

pub(crate) fn malformed(message: impl Into<String>) -> AwsError {
    AwsError::bad_request("MalformedPolicyDocument", message)
}

#[cfg(test)]
mod tests {
    use super::{Kind, Policy};

    #[test]
    fn what_iam_refuses_is_refused_in_its_words() {
        let statement = |fields: &str| format!(r#"{{"Version":"2012-10-17","Statement":[{{{fields}}}]}}"#);
        for (document, kind, message) in [
            ("{", Kind::Identity, "invalid Json"),
            ("[]", Kind::Identity, "Syntax errors"),
            (r#"{"Version":"2012-10-18","Statement":[]}"#, Kind::Identity, "Syntax errors"),
            (
                &statement(r#""Effect":"allow","Action":"a:b","Resource":"*""#),
                Kind::Identity,
                "Syntax errors",
            ),
            (&statement(r#""Effect":"Allow","Resource":"*""#), Kind::Identity, "must contain actions"),
            (&statement(r#""Effect":"Allow","Action":"PutItem","Resource":"*""#), Kind::Identity, "vendor"),
            (&statement(r#""Effect":"Allow","Action":"a:b""#), Kind::Identity, "must contain resources"),
            (
                &statement(r#""Effect":"Allow","Action":"a:b","Resource":"table""#),
                Kind::Identity,
                "ARN format",
            ),
            (
                &statement(
                    r#""Effect":"Allow","Action":"a:b","Resource":"*","Condition":{"StringIs":{"a":"b"}}"#,
                ),
                Kind::Identity,
                "Invalid Condition type",
            ),
            (&statement(r#""Effect":"Allow","Action":"sts:AssumeRole""#), Kind::Trust, "Principal"),
            (
                &statement(r#""Effect":"Allow","Action":"dynamodb:*","Principal":{"Service":"x"}"#),
                Kind::Trust,
                "may only specify STS",
            ),
            (
                &statement(r#""Effect":"Allow","Action":"sts:*","Principal":"*","Resource":"*""#),
                Kind::Trust,
                "prohibited field Resource",
            ),
        ] {
            let error = Policy::parse(document, kind).unwrap_err();
            assert_eq!(error.code, "MalformedPolicyDocument", "{document}");
            assert!(error.message.contains(message), "{document}: {}", error.message);
        }
    }
}
