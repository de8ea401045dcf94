//! What a principal could do, asked without doing it.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::api::Outcome;
use super::evaluate::{Decision, Key, Request};
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
        let size = usize::try_from(form.number("MaxItems", 1, PAGE)?.unwrap_or(100)).unwrap_or(100);
        let start: usize = form.get("Marker").and_then(|marker| marker.parse().ok()).unwrap_or(0);
        let pairs: Vec<(&str, &str)> = actions
            .iter()
            .flat_map(|action| resources.iter().map(move |resource| (*action, *resource)))
            .collect();
        let end = pairs.len().min(start.saturating_add(size));
        let mut xml = Xml::default();
        xml.element("EvaluationResults", |xml| {
            for (action, resource) in pairs.get(start..end).unwrap_or_default() {
                let missing = RefCell::default();
                let decision = match self.simulate(&who, action, resource, &given, &missing) {
                    Decision::Allowed => "allowed",
                    Decision::ExplicitlyDenied => "explicitDeny",
                    Decision::ImplicitlyDenied | Decision::OutOfBoundary | Decision::Unsupported(_) => {
                        "implicitDeny"
                    }
                };
                xml.element("member", |xml| {
                    xml.text("EvalActionName", action);
                    xml.text("EvalResourceName", resource);
                    xml.text("EvalDecision", decision);
                    xml.element("MatchedStatements", |_| {});
                    xml.element("MissingContextValues", |xml| {
                        for key in missing.take() {
                            xml.text("member", &key);
                        }
                    });
                });
            }
        });
        xml.text("IsTruncated", if end < pairs.len() { "true" } else { "false" });
        if end < pairs.len() {
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

    fn simulate(
        &self,
        who: &Principal,
        action: &str,
        resource: &str,
        given: &[(String, Vec<String>)],
        missing: &RefCell<BTreeSet<String>>,
    ) -> Decision {
        let lower = action.to_ascii_lowercase();
        let context = |key: &str| match given.iter().find(|(name, _)| name == key) {
            Some((_, values)) => Key::Values(values.clone()),
            // Of who asks it knows; what a request would bring along it has to be told.
            None if OF_THE_PRINCIPAL.contains(&key) => self.condition_key(who, key),
            None => {
                missing.borrow_mut().insert(key.to_owned());
                Key::Absent
            }
        };
        let request = Request { action: &lower, resource, caller: &[], context: &context };
        self.decide(who, &request)
    }
}

/// `ContextEntries.member.1.ContextKeyName` and its values, keys in lower case.
fn given(form: &Form) -> Vec<(String, Vec<String>)> {
    (1..)
        .map_while(|index| {
            let entry = format!("ContextEntries.member.{index}");
            let name = form.get(&format!("{entry}.ContextKeyName"))?;
            let values = form.list(&format!("{entry}.ContextKeyValues"));
            Some((name.to_ascii_lowercase(), values.into_iter().map(str::to_owned).collect()))
        })
        .collect()
}
