//! The decision of IAM: does a set of policies allow an action on a resource, under which conditions.

use std::borrow::Cow;
use std::net::IpAddr;

use super::policy::{Condition, Matcher, Policy, Principals};
use crate::glob;

/// A question to a set of policies.
pub(crate) struct Request<'a> {
    /// In lower case.
    pub(crate) action: &'a str,
    pub(crate) resource: &'a str,
    /// Names of the caller that a trust policy may use: kind and value.
    pub(crate) caller: &'a [(&'static str, String)],
    /// Condition keys of the request, built only when a statement asks for one.
    pub(crate) context: &'a dyn Fn(&str) -> Key,
}

/// What is known about a condition key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Values(Vec<String>),
    /// AWS would not send the key in this request either.
    Absent,
    /// AWS would evaluate this key and this cloud does not.
    Unsupported,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed,
    /// No statement allows it.
    ImplicitlyDenied,
    /// The policies allow it, and the permissions boundary does not.
    OutOfBoundary,
    /// A statement denies it.
    ExplicitlyDenied,
    /// A statement that matters has a condition that cannot be evaluated here: never a silent yes.
    Unsupported(String),
}

/// Any deny wins, then any allow, then no.
pub(crate) fn evaluate<'p>(
    policies: impl IntoIterator<Item = &'p Policy>,
    request: &Request<'_>,
) -> Decision {
    let mut allowed = false;
    // A condition that cannot be evaluated: where it may deny it always matters, where it may allow only if nothing
    // else allows.
    let (mut maybe_denied, mut maybe_allowed) = (None, None);
    for statement in policies.into_iter().flat_map(|policy| &policy.statements) {
        if allowed && !statement.deny {
            continue;
        }
        let matches = statement.actions.matches(request.action, request)
            && statement
                .resources
                .as_ref()
                .is_none_or(|resources| resources.matches(request.resource, request))
            && statement.principals.as_ref().is_none_or(|principals| principals.matches(request.caller));
        if !matches {
            continue;
        }
        match (conditions_hold(&statement.conditions, request), statement.deny) {
            (Ok(false), _) => {}
            (Ok(true), true) => return Decision::ExplicitlyDenied,
            (Ok(true), false) => allowed = true,
            (Err(key), true) => maybe_denied = Some(key),
            (Err(key), false) => maybe_allowed = Some(key),
        }
    }
    match (maybe_denied, allowed, maybe_allowed) {
        (Some(key), _, _) | (None, false, Some(key)) => Decision::Unsupported(key),
        (None, true, _) => Decision::Allowed,
        (None, false, None) => Decision::ImplicitlyDenied,
    }
}

impl Matcher {
    fn matches(&self, text: &str, request: &Request<'_>) -> bool {
        let any = self
            .patterns
            .iter()
            .any(|pattern| substitute(pattern, request).is_some_and(|pattern| glob::matches(&pattern, text)));
        any != self.negated
    }
}

impl Principals {
    fn matches(&self, caller: &[(&'static str, String)]) -> bool {
        let any = self.entries.iter().any(|(kind, value)| {
            kind == "*"
                || caller
                    .iter()
                    .any(|(caller_kind, name)| caller_kind == kind && (value == "*" || value == name))
        });
        any != self.negated
    }
}

/// Fills policy variables in. `None` if one has no value, in which case the pattern matches nothing.
fn substitute<'p>(pattern: &'p str, request: &Request<'_>) -> Option<Cow<'p, str>> {
    if !pattern.contains("${") {
        return Some(Cow::Borrowed(pattern));
    }
    let mut filled = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, tail) = after.split_once('}')?;
        filled.push_str(before);
        match name {
            // Escapes for the characters that would otherwise have a meaning. Globs cannot tell a literal star from
            // another, so these match a little more than on AWS.
            "*" | "?" | "$" => filled.push_str(name),
            name => match (request.context)(&name.to_ascii_lowercase()) {
                Key::Values(values) => filled.push_str(values.first()?),
                Key::Absent | Key::Unsupported => return None,
            },
        }
        rest = tail;
    }
    filled.push_str(rest);
    Some(Cow::Owned(filled))
}

/// Every condition has to hold. `Err` names what cannot be evaluated.
fn conditions_hold(conditions: &[Condition], request: &Request<'_>) -> Result<bool, String> {
    // One that fails for sure settles the matter, even if another cannot be evaluated.
    let mut unsupported = None;
    for condition in conditions {
        match condition_holds(condition, request) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(key) => unsupported = Some(key),
        }
    }
    unsupported.map_or(Ok(true), Err)
}

fn condition_holds(condition: &Condition, request: &Request<'_>) -> Result<bool, String> {
    let values = match (request.context)(&condition.key) {
        Key::Values(values) => Some(values),
        Key::Absent => None,
        Key::Unsupported => return Err(condition.key.clone()),
    };
    let (quantifier, operator) = match condition.operator.split_once(':') {
        Some((quantifier, operator)) => (Some(quantifier), operator),
        None => (None, condition.operator.as_str()),
    };
    if operator == "Null" {
        let wants_absent = condition.values.iter().any(|value| value.eq_ignore_ascii_case("true"));
        return Ok(values.is_none() == wants_absent);
    }
    let (operator, if_exists) = match operator.strip_suffix("IfExists") {
        Some(operator) => (operator, true),
        None => (operator, false),
    };
    let negated = is_negated(operator);
    let Some(values) = values else {
        // A key that is not in the request matches only what says "not", or what does not insist on it.
        return Ok(if_exists || quantifier == Some("ForAllValues") || negated);
    };
    let meets = |value: &String| {
        let any = condition
            .values
            .iter()
            .filter_map(|expected| substitute(expected, request))
            .any(|expected| compare(operator, value, &expected));
        any != negated
    };
    Ok(match quantifier {
        Some("ForAllValues") => values.iter().all(meets),
        Some(_) => values.iter().any(meets),
        None => values.first().is_some_and(meets),
    })
}

fn is_negated(operator: &str) -> bool {
    operator.contains("Not")
}

/// The comparison without its negation: `StringNotEquals` compares as `StringEquals`.
fn compare(operator: &str, actual: &str, expected: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().ok();
    let time = |text: &str| {
        let instant = text.parse::<jiff::Timestamp>().ok().map(|time| time.as_second());
        instant.or_else(|| text.parse::<i64>().ok())
    };
    let ordered = |ordering: Option<std::cmp::Ordering>, operator: &str| match operator {
        "Equals" | "NotEquals" => ordering.is_some_and(std::cmp::Ordering::is_eq),
        "LessThan" => ordering.is_some_and(std::cmp::Ordering::is_lt),
        "LessThanEquals" => ordering.is_some_and(std::cmp::Ordering::is_le),
        "GreaterThan" => ordering.is_some_and(std::cmp::Ordering::is_gt),
        _ => ordering.is_some_and(std::cmp::Ordering::is_ge),
    };
    match operator {
        "StringEquals" | "StringNotEquals" | "BinaryEquals" => actual == expected,
        "StringEqualsIgnoreCase" | "StringNotEqualsIgnoreCase" => actual.eq_ignore_ascii_case(expected),
        "StringLike" | "StringNotLike" => glob::matches(expected, actual),
        "ArnEquals" | "ArnNotEquals" | "ArnLike" | "ArnNotLike" => arn_matches(expected, actual),
        "Bool" => actual.eq_ignore_ascii_case(expected),
        "IpAddress" | "NotIpAddress" => in_network(actual, expected),
        operator => {
            if let Some(comparison) = operator.strip_prefix("Numeric") {
                let ordering = number(actual).zip(number(expected)).and_then(|(a, b)| a.partial_cmp(&b));
                ordered(ordering, comparison)
            } else if let Some(comparison) = operator.strip_prefix("Date") {
                ordered(time(actual).zip(time(expected)).map(|(a, b)| a.cmp(&b)), comparison)
            } else {
                false
            }
        }
    }
}

/// Each of the six parts for itself, so that a star does not cross a colon.
fn arn_matches(pattern: &str, arn: &str) -> bool {
    let mut parts = arn.splitn(6, ':');
    let mut patterns = pattern.splitn(6, ':');
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if glob::matches(pattern, part) => {}
            _ => return false,
        }
    }
}

fn in_network(address: &str, network: &str) -> bool {
    let (base, bits) = network.split_once('/').unwrap_or((network, ""));
    let (Ok(address), Ok(base)) = (address.parse::<IpAddr>(), base.parse::<IpAddr>()) else {
        return false;
    };
    let (address, base, width) = match (address, base) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    let bits: u32 = if bits.is_empty() { width } else { bits.parse().unwrap_or(width) }.min(width);
    (address ^ base).checked_shr(width - bits).unwrap_or(0) == 0
}

/// Whether IAM knows the operator of a condition.
pub(crate) fn is_operator(operator: &str) -> bool {
    const BASES: [&str; 25] = [
        "StringEquals",
        "StringNotEquals",
        "StringEqualsIgnoreCase",
        "StringNotEqualsIgnoreCase",
        "StringLike",
        "StringNotLike",
        "NumericEquals",
        "NumericNotEquals",
        "NumericLessThan",
        "NumericLessThanEquals",
        "NumericGreaterThan",
        "NumericGreaterThanEquals",
        "DateEquals",
        "DateNotEquals",
        "DateLessThan",
        "DateLessThanEquals",
        "DateGreaterThan",
        "DateGreaterThanEquals",
        "Bool",
        "BinaryEquals",
        "IpAddress",
        "NotIpAddress",
        "ArnEquals",
        "ArnLike",
        "ArnNotEquals",
    ];
    let plain = operator
        .strip_prefix("ForAllValues:")
        .or_else(|| operator.strip_prefix("ForAnyValue:"))
        .unwrap_or(operator);
    let plain = plain.strip_suffix("IfExists").unwrap_or(plain);
    operator == "Null" || plain == "ArnNotLike" || BASES.contains(&plain)
}

#[cfg(test)]
mod tests {
    use super::{Decision, Key, Request, arn_matches, evaluate, in_network};
    use crate::iam::policy::{Kind, Policy};

    const TABLE: &str = "arn:aws:dynamodb:us-east-1:000000000000:table/chat";

    fn decide(document: &str, action: &str, resource: &str) -> Decision {
        let policy = Policy::parse(document, Kind::Identity).unwrap();
        let action = action.to_ascii_lowercase();
        let context = |key: &str| match key {
            "aws:username" => Key::Values(vec!["alice".to_owned()]),
            "aws:requestedregion" => Key::Values(vec!["us-east-1".to_owned()]),
            "aws:tagkeys" => Key::Values(vec!["a".to_owned(), "b".to_owned()]),
            "aws:epoch" => Key::Values(vec!["50".to_owned()]),
            "aws:principalarn" => Key::Values(vec!["arn:aws:iam::1:role/x/y".to_owned()]),
            "dynamodb:leadingkeys" => Key::Unsupported,
            _ => Key::Absent,
        };
        evaluate([&policy], &Request { action: &action, resource, caller: &[], context: &context })
    }

    fn with_condition(effect: &str, condition: &str) -> String {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[
                {{"Effect":"Allow","Action":"dynamodb:GetItem","Resource":"*"}},
                {{"Effect":"{effect}","Action":"dynamodb:PutItem","Resource":"*","Condition":{condition}}}]}}"#
        )
    }

    #[test]
    fn actions_and_resources_match_by_glob_and_a_deny_wins() {
        let document = r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Action":["dynamodb:get*","dynamodb:Query"],"Resource":["arn:aws:dynamodb:*:*:table/chat","arn:aws:dynamodb:*:*:table/chat/index/*"]},
            {"Effect":"Allow","NotAction":"dynamodb:*","Resource":"*"},
            {"Effect":"Deny","Action":"dynamodb:*","NotResource":"arn:aws:dynamodb:*:*:table/chat*"},
            {"Effect":"Deny","Action":"iam:DeleteRole","Resource":"*"}]}"#;
        for (action, resource, decision) in [
            ("dynamodb:GetItem", TABLE, Decision::Allowed),
            ("DynamoDB:GETITEM", TABLE, Decision::Allowed),
            ("dynamodb:PutItem", TABLE, Decision::ImplicitlyDenied),
            ("dynamodb:Query", &format!("{TABLE}/index/by-user"), Decision::Allowed),
            (
                "dynamodb:Query",
                "arn:aws:dynamodb:us-east-1:000000000000:table/Chat",
                Decision::ExplicitlyDenied,
            ),
            ("lambda:InvokeFunction", "arn:aws:lambda:x", Decision::Allowed),
            ("iam:DeleteRole", "arn:aws:iam::1:role/x", Decision::ExplicitlyDenied),
        ] {
            assert_eq!(decide(document, action, resource), decision, "{action} {resource}");
        }
    }

    #[test]
    fn conditions_hold_as_documented() {
        for (condition, holds) in [
            (r#"{"StringEquals":{"aws:RequestedRegion":["eu-west-1","us-east-1"]}}"#, true),
            (r#"{"StringEquals":{"aws:RequestedRegion":"eu-west-1"}}"#, false),
            (r#"{"StringNotEquals":{"aws:RequestedRegion":["eu-west-1","us-east-1"]}}"#, false),
            (r#"{"StringNotEquals":{"aws:SourceVpc":"v"}}"#, true),
            (r#"{"StringEquals":{"aws:SourceVpc":"v"}}"#, false),
            (r#"{"StringEqualsIfExists":{"aws:SourceVpc":"v"}}"#, true),
            (r#"{"StringLike":{"AWS:username":"al?c*"}}"#, true),
            (r#"{"StringEquals":{"aws:username":"${aws:username}"}}"#, true),
            (r#"{"StringEquals":{"aws:username":"${aws:sourcevpc}"}}"#, false),
            (r#"{"Null":{"aws:SourceVpc":"true"}}"#, true),
            (r#"{"Null":{"aws:username":true}}"#, false),
            (r#"{"NumericLessThan":{"aws:epoch":"51"},"NumericGreaterThanEquals":{"aws:epoch":50}}"#, true),
            (r#"{"NumericLessThan":{"aws:epoch":"fifty"}}"#, false),
            (r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::1:role/x/*"}}"#, true),
            (r#"{"ArnLike":{"aws:PrincipalArn":"arn:*:role/x/y"}}"#, false),
            (r#"{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b","c"]}}"#, true),
            (r#"{"ForAllValues:StringEquals":{"aws:TagKeys":["a"]}}"#, false),
            (r#"{"ForAnyValue:StringEquals":{"aws:TagKeys":["b"]}}"#, true),
            (r#"{"ForAnyValue:StringEquals":{"aws:SourceVpc":["b"]}}"#, false),
        ] {
            let expected = if holds { Decision::Allowed } else { Decision::ImplicitlyDenied };
            assert_eq!(
                decide(&with_condition("Allow", condition), "dynamodb:PutItem", TABLE),
                expected,
                "{condition}"
            );
            let expected = if holds { Decision::ExplicitlyDenied } else { Decision::ImplicitlyDenied };
            assert_eq!(
                decide(&with_condition("Deny", condition), "dynamodb:PutItem", TABLE),
                expected,
                "{condition}"
            );
        }
    }

    #[test]
    fn a_condition_that_cannot_be_evaluated_is_never_a_silent_yes() {
        let condition = r#"{"ForAllValues:StringEquals":{"dynamodb:LeadingKeys":["alice"]}}"#;
        for effect in ["Allow", "Deny"] {
            let decision = decide(&with_condition(effect, condition), "dynamodb:PutItem", TABLE);
            assert_eq!(decision, Decision::Unsupported("dynamodb:leadingkeys".to_owned()));
            assert_eq!(
                decide(&with_condition(effect, condition), "dynamodb:GetItem", TABLE),
                Decision::Allowed
            );
        }
    }

    #[test]
    fn arns_and_networks_match_part_by_part() {
        assert!(arn_matches(
            "arn:aws:execute-api:*:*:abc/*",
            "arn:aws:execute-api:us-east-1:1:abc/live/$connect"
        ));
        assert!(!arn_matches("arn:aws:*:abc", "arn:aws:execute-api:us-east-1:1:abc"));
        assert!(in_network("127.0.0.1", "127.0.0.0/8"));
        assert!(!in_network("126.0.0.1", "127.0.0.0/8"));
        assert!(in_network("127.0.0.1", "0.0.0.0/0"));
        assert!(!in_network("::1", "0.0.0.0/0"));
    }
}
