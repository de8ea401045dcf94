//! What a principal could do, asked without doing it.

use std::collections::{BTreeMap, BTreeSet};

use super::api::Outcome;
use super::evaluate::{Decision, Key, Request};
use super::model::Policies;
use super::policy::Policy;
use super::{Iam, no_such_entity};
use crate::call::Principal;
use crate::error::AwsError;
use crate::query::{Form, Xml};

/// The most answers of one call: <https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html>
const PAGE: i64 = 1000;

/// Condition keys that need no request.
const OF_THE_PRINCIPAL: [&str; 6] = [
    "aws:principalarn",
    "aws:principalaccount",
    "aws:principaltype",
    "aws:resourceaccount",
    "aws:userid",
    "aws:username",
];

impl Iam {
    pub(super) fn simulate_principal_policy(&self, form: &Form) -> Outcome {
        let source = form.required("PolicySourceArn")?;
        let who = self.principal_of(source)?;
        let actions = form.list("ActionNames");
        if actions.is_empty() {
            form.required("ActionNames.member.1")?;
        }
        let mut resources = form.list("ResourceArns");
        if resources.is_empty() {
            resources.push("*");
        }
        let given = given(form);
        let missing: Vec<String> =
            self.keys_of(&who).into_iter().filter(|key| !is_known(&given, key)).collect();
        let size = usize::try_from(form.number("MaxItems", 1, PAGE)?.unwrap_or(100)).unwrap_or(100);
        let start: usize = form.get("Marker").and_then(|marker| marker.parse().ok()).unwrap_or(0);
        let end = actions.len().min(start.saturating_add(size));
        let mut xml = Xml::default();
        xml.element("EvaluationResults", |xml| {
            for action in actions.get(start..end).unwrap_or_default() {
                let decided: Vec<(&str, Decision)> = resources
                    .iter()
                    .map(|resource| (*resource, self.simulate(&who, action, resource, &given)))
                    .collect();
                xml.element("member", |xml| evaluation(xml, action, &decided, &missing));
            }
        });
        xml.text("IsTruncated", if end < actions.len() { "true" } else { "false" });
        if end < actions.len() {
            xml.text("Marker", &end.to_string());
        }
        Ok(Some(xml))
    }

    /// What the call is authorised on: the principal that it is about.
    pub(super) fn simulated_resource(form: &Form) -> String {
        form.get("PolicySourceArn").unwrap_or_default().to_owned()
    }

    fn principal_of(&self, arn: &str) -> Result<Principal, AwsError> {
        if let Some(role) = self.role_by_arn(arn) {
            return Ok(Principal::Role { role_name: role.name.clone(), session: "simulation".to_owned() });
        }
        let name = arn.rsplit('/').next().unwrap_or_default();
        match self.user(name).filter(|user| user.arn(&self.account) == arn) {
            Some(user) => Ok(Principal::User { user_name: user.name.clone() }),
            // Sessions have no policies: their role has.
            None if arn.contains(":assumed-role/") => Err(AwsError::bad_request(
                "InvalidInput",
                format!("Invalid Entity Arn: {arn} does not clearly define entity type and name."),
            )),
            None => Err(no_such_entity(format!("The entity with arn {arn} cannot be found."))),
        }
    }

    fn simulate(&self, who: &Principal, action: &str, resource: &str, given: &Given) -> Decision {
        let lower = action.to_ascii_lowercase();
        let context = |key: &str| match given.get(key) {
            Some(values) => Key::Values(values.clone()),
            // Of who asks it knows; what a request would bring along it has to be told.
            None if OF_THE_PRINCIPAL.contains(&key) => self.condition_key(who, key),
            None => Key::Absent,
        };
        let request = Request { action: &lower, resource, caller: &[], context: &context };
        self.decide(who, &request)
    }

    /// Every key that the policies of a principal need, whatever statement it is in (boto3#3111). Those of the boundary
    /// do not count.
    fn keys_of(&self, who: &Principal) -> BTreeSet<String> {
        let keys = |policies: &Policies| policies.all().flat_map(keys).collect();
        match who {
            Principal::Owner => BTreeSet::new(),
            Principal::Role { role_name, .. } => {
                self.role(role_name).map_or_else(BTreeSet::new, |role| keys(&role.policies))
            }
            Principal::User { user_name } => {
                self.user(user_name).map_or_else(BTreeSet::new, |user| keys(&user.policies))
            }
        }
    }
}

/// One result an action, which decides for all resources by the strictest, and the decisions of each below it. Where a
/// resource was named, the name above is only the pattern that names of its kind have.
/// Source: <https://docs.aws.amazon.com/IAM/latest/APIReference/API_EvaluationResult.html>
fn evaluation(xml: &mut Xml, action: &str, decided: &[(&str, Decision)], missing: &[String]) {
    let missing = |xml: &mut Xml| {
        xml.element("MissingContextValues", |xml| missing.iter().for_each(|key| xml.text("member", key)));
    };
    let boundary = |xml: &mut Xml, allowed: bool| {
        if !allowed {
            xml.element("PermissionsBoundaryDecisionDetail", |xml| {
                xml.text("AllowedByPermissionsBoundary", "false");
            });
        }
    };
    let within = |decision: &Decision| *decision != Decision::OutOfBoundary;
    let strictest = decided.iter().map(|(_, decision)| word(decision)).max_by_key(|word| strictness(word));
    xml.text("EvalActionName", action);
    xml.text(
        "EvalResourceName",
        &decided.first().map_or_else(String::new, |(resource, _)| template(resource)),
    );
    xml.text("EvalDecision", strictest.unwrap_or(IMPLICIT_DENY));
    xml.element("MatchedStatements", |_| {});
    missing(xml);
    boundary(xml, decided.iter().all(|(_, decision)| within(decision)));
    if let [("*", _)] = decided {
        return;
    }
    xml.element("ResourceSpecificResults", |xml| {
        for (resource, decision) in decided {
            xml.element("member", |xml| {
                xml.text("EvalResourceName", resource);
                xml.text("EvalResourceDecision", word(decision));
                xml.element("MatchedStatements", |_| {});
                missing(xml);
                boundary(xml, within(decision));
            });
        }
    });
}

const ALLOWED: &str = "allowed";
const IMPLICIT_DENY: &str = "implicitDeny";
const EXPLICIT_DENY: &str = "explicitDeny";

fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Allowed => ALLOWED,
        Decision::ExplicitlyDenied => EXPLICIT_DENY,
        Decision::ImplicitlyDenied | Decision::OutOfBoundary | Decision::Unsupported(_) => IMPLICIT_DENY,
    }
}

fn strictness(word: &str) -> usize {
    [ALLOWED, IMPLICIT_DENY, EXPLICIT_DENY].iter().position(|known| *known == word).unwrap_or_default()
}

/// `arn:${Partition}:iam::${Account}:role/${Name}` of a role's ARN.
fn template(arn: &str) -> String {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let [_, _, service, region, account, resource] = parts.as_slice() else { return "*".to_owned() };
    let hidden = |part: &str, name: &'static str| if part.is_empty() { "" } else { name };
    let kind = resource.find(['/', ':']).and_then(|end| resource.get(..=end)).unwrap_or_default();
    let (region, account) = (hidden(region, "${Region}"), hidden(account, "${Account}"));
    format!("arn:${{Partition}}:{service}:{region}:{account}:{kind}${{Name}}")
}

/// Keys of conditions, and those that stand as variables in resources and values.
fn keys(policy: &Policy) -> BTreeSet<String> {
    let statements = || policy.statements.iter();
    let conditions = || statements().flat_map(|statement| &statement.conditions);
    let resources = statements().filter_map(|statement| statement.resources.as_ref());
    let patterns = resources.flat_map(|resources| &resources.patterns);
    let variables = patterns.chain(conditions().flat_map(|condition| &condition.values));
    let variables = variables.flat_map(|pattern| pattern.split("${").skip(1)).filter_map(|rest| {
        // `${*}`, `${?}` and `${$}` are characters; behind a comma stands what counts without a value.
        let name = rest.split_once('}')?.0.split(',').next()?.trim();
        name.contains(':').then(|| name.to_ascii_lowercase())
    });
    conditions().map(|condition| condition.key.clone()).chain(variables).collect()
}

/// Values of condition keys, which are in lower case.
type Given = BTreeMap<String, Vec<String>>;

fn is_known(given: &Given, key: &str) -> bool {
    given.contains_key(key) || OF_THE_PRINCIPAL.contains(&key)
}

/// `ContextEntries.member.1.ContextKeyName` and its values, keys in lower case.
fn given(form: &Form) -> Given {
    (1..)
        .map_while(|index| {
            let entry = format!("ContextEntries.member.{index}");
            let name = form.get(&format!("{entry}.ContextKeyName"))?;
            let values = form.list(&format!("{entry}.ContextKeyValues"));
            Some((name.to_ascii_lowercase(), values.into_iter().map(str::to_owned).collect()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::policy::Kind;
    use super::*;

    #[test]
    fn the_answer_has_one_result_an_action_and_below_it_one_a_resource() {
        let (role, table) =
            ("arn:aws:iam::000000000000:role/a/b", "arn:aws:dynamodb:us-east-1:000000000000:table/t");
        let mut xml = Xml::default();
        let decided = [(role, Decision::Allowed), (table, Decision::ImplicitlyDenied)];
        evaluation(&mut xml, "x:Y", &decided, &["aws:sourceip".to_owned()]);
        let text = xml.into_text();
        let (above, below) = text.split_once("<ResourceSpecificResults>").unwrap();
        assert!(
            above.contains("<EvalResourceName>arn:${Partition}:iam::${Account}:role/${Name}<"),
            "{above}"
        );
        assert!(above.contains("<EvalDecision>implicitDeny<"), "{above}");
        assert!(
            below.contains(&format!("{role}</EvalResourceName><EvalResourceDecision>allowed<")),
            "{below}"
        );
        assert!(
            below.contains(&format!("{table}</EvalResourceName><EvalResourceDecision>implicitDeny<")),
            "{below}"
        );
        assert_eq!(text.matches("<member>aws:sourceip</member>").count(), 3, "{text}");

        let mut xml = Xml::default();
        evaluation(&mut xml, "x:Y", &[("*", Decision::ExplicitlyDenied)], &[]);
        let text = xml.into_text();
        assert!(text.contains("<EvalResourceName>*<") && !text.contains("ResourceSpecificResults"), "{text}");
    }

    #[test]
    fn keys_are_found_in_every_statement_and_in_variables() {
        let document = r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Action":"s3:ListBucket","Resource":"*","Condition":{"StringLike":{"aws:PrincipalTag/x":"${aws:userid}${*}"}}},
            {"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/${aws:PrincipalTag/team, 'none'}"}
        ]}"#;
        let found = keys(&Policy::parse(document, Kind::Identity).unwrap());
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(found, ["aws:principaltag/team", "aws:principaltag/x", "aws:userid"]);
    }
}
