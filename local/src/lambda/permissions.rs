//! Resource policies of functions: who else may invoke them. `AddPermission`, `GetPolicy`, `RemovePermission`.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Lambda;
use super::model::{Function, new_revision};
use super::name::{Name, function_arn, qualified_arn};
use crate::call::{Call, Reply};
use crate::context::Context;
use crate::error::AwsError;
use crate::glob;
use crate::rest::{self, Params, Query};

/// Longest policy: Lambda's quota.
const MAX_POLICY: usize = 20_480;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Policy {
    pub(super) statements: Vec<Statement>,
    pub(super) revision_id: String,
}

/// What `AddPermission` adds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Statement {
    pub(super) sid: String,
    pub(super) action: String,
    /// Service, account or ARN.
    pub(super) principal: String,
    pub(super) source_arn: Option<String>,
    pub(super) source_account: Option<String>,
}

impl Policy {
    /// Whether a service may invoke the function for one of its resources.
    pub(super) fn allows(&self, service: &str, source_arn: &str, account: &str) -> bool {
        self.statements.iter().any(|statement| {
            glob::matches(&statement.action, "lambda:InvokeFunction")
                && (statement.principal == service || statement.principal == "*")
                && statement.source_account.as_deref().is_none_or(|wanted| wanted == account)
                && statement.source_arn.as_deref().is_none_or(|pattern| arn_like(pattern, source_arn))
        })
    }
}

/// `ArnLike`: the five colons separate, and a glob does not reach over them.
fn arn_like(pattern: &str, arn: &str) -> bool {
    let mut patterns = pattern.splitn(6, ':');
    let mut parts = arn.splitn(6, ':');
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if glob::matches(pattern, part) => {}
            _ => return false,
        }
    }
}

impl Statement {
    fn show(&self, resource: &str) -> Value {
        let principal = match self.principal.as_str() {
            "*" => json!("*"),
            account if account.bytes().all(|byte| byte.is_ascii_digit()) => {
                json!({ "AWS": format!("arn:aws:iam::{account}:root") })
            }
            arn if arn.starts_with("arn:") => json!({ "AWS": arn }),
            service => json!({ "Service": service }),
        };
        let mut shown = json!({
            "Sid": self.sid,
            "Effect": "Allow",
            "Principal": principal,
            "Action": self.action,
            "Resource": resource,
        });
        if let Some(account) = &self.source_account {
            shown["Condition"]["StringEquals"]["AWS:SourceAccount"] = json!(account);
        }
        if let Some(arn) = &self.source_arn {
            shown["Condition"]["ArnLike"]["AWS:SourceArn"] = json!(arn);
        }
        shown
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AddPermission {
    statement_id: Option<String>,
    action: Option<String>,
    principal: Option<String>,
    source_arn: Option<String>,
    source_account: Option<String>,
    revision_id: Option<String>,
    event_source_token: Option<String>,
    #[serde(rename = "PrincipalOrgID")]
    principal_org_id: Option<String>,
    function_url_auth_type: Option<String>,
    invoked_via_function_url: Option<bool>,
}

impl Lambda {
    pub(super) fn add_permission(&self, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let name = Name::parse(params.get("FunctionName"), Query::of(&call.query).get("Qualifier"))?;
        let wanted: AddPermission = rest::body(call, "InvalidRequestContentException")?;
        for (member, given) in [
            ("EventSourceToken", wanted.event_source_token.is_some()),
            ("PrincipalOrgID", wanted.principal_org_id.is_some()),
            ("FunctionUrlAuthType", wanted.function_url_auth_type.is_some()),
            ("InvokedViaFunctionUrl", wanted.invoked_via_function_url.is_some()),
        ] {
            if given {
                return Err(super::unsupported(member));
            }
        }
        let required = |member: &str, value: Option<String>| {
            value.filter(|value| !value.is_empty()).ok_or_else(|| super::required(member))
        };
        let statement = Statement {
            sid: required("statementId", wanted.statement_id)?,
            action: required("action", wanted.action)?,
            principal: required("principal", wanted.principal)?,
            source_arn: wanted.source_arn,
            source_account: wanted.source_account,
        };
        if !statement.sid.bytes().all(super::name::is_name_byte) || statement.sid.len() > 100 {
            return Err(super::constraint("statementId", &statement.sid, "([a-zA-Z0-9-_]+)"));
        }
        if !statement.action.starts_with("lambda:") && statement.action != "*" {
            return Err(super::constraint("action", &statement.action, "(lambda:[*]|lambda:[a-zA-Z]+|[*])"));
        }
        let shown = self.update(&name.function, |function| {
            let resource = resource(&self.host.cx, function, &name)?;
            let policy = function.policies.entry(name.qualifier.clone().unwrap_or_default()).or_default();
            super::check_revision(wanted.revision_id.as_deref(), &policy.revision_id)?;
            if policy.statements.iter().any(|other| other.sid == statement.sid) {
                return Err(AwsError::new(
                    StatusCode::CONFLICT,
                    "ResourceConflictException",
                    format!(
                        "The statement id ({}) provided already exists. Please provide a new statement id, or remove \
                         the existing statement.",
                        statement.sid
                    ),
                ));
            }
            let shown = statement.show(&resource);
            policy.statements.push(statement);
            policy.revision_id = new_revision();
            if show(policy, &resource).len() > MAX_POLICY {
                return Err(AwsError::bad_request(
                    "PolicyLengthExceededException",
                    format!("The final policy size is bigger than the limit ({MAX_POLICY})."),
                ));
            }
            Ok(shown)
        })?;
        Reply::json(StatusCode::CREATED, &json!({ "Statement": shown.to_string() }))
    }

    pub(super) fn get_policy(&self, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let name = Name::parse(params.get("FunctionName"), Query::of(&call.query).get("Qualifier"))?;
        let (shown, revision_id) = self.read(&name.function, |function| {
            let resource = resource(&self.host.cx, function, &name)?;
            let policy = function
                .policies
                .get(name.qualifier.as_deref().unwrap_or_default())
                .filter(|policy| !policy.statements.is_empty())
                .ok_or_else(no_policy)?;
            Ok((show(policy, &resource), policy.revision_id.clone()))
        })?;
        Reply::json(StatusCode::OK, &json!({ "Policy": shown, "RevisionId": revision_id }))
    }

    pub(super) fn remove_permission(&self, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let query = Query::of(&call.query);
        let name = Name::parse(params.get("FunctionName"), query.get("Qualifier"))?;
        let sid = params.get("StatementId");
        self.update(&name.function, |function| {
            resource(&self.host.cx, function, &name)?;
            let policy = function
                .policies
                .get_mut(name.qualifier.as_deref().unwrap_or_default())
                .filter(|policy| !policy.statements.is_empty())
                .ok_or_else(no_policy)?;
            super::check_revision(query.get("RevisionId"), &policy.revision_id)?;
            let before = policy.statements.len();
            policy.statements.retain(|statement| statement.sid != sid);
            if policy.statements.len() == before {
                return Err(AwsError::new(
                    StatusCode::NOT_FOUND,
                    "ResourceNotFoundException",
                    format!("Statement {sid} is not found in resource policy."),
                ));
            }
            policy.revision_id = new_revision();
            Ok(())
        })?;
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }
}

/// The ARN that the statements are about, which has to exist.
fn resource(cx: &Context, function: &Function, name: &Name) -> Result<String, AwsError> {
    match &name.qualifier {
        None => Ok(function_arn(cx, &function.name)),
        Some(qualifier) => {
            let arn = qualified_arn(cx, &function.name, qualifier);
            function.version(qualifier).map(|_| arn.clone()).ok_or_else(|| super::name::not_found(&arn))
        }
    }
}

fn show(policy: &Policy, resource: &str) -> String {
    let statements: Vec<Value> = policy.statements.iter().map(|statement| statement.show(resource)).collect();
    json!({ "Version": "2012-10-17", "Id": "default", "Statement": statements }).to_string()
}

fn no_policy() -> AwsError {
    AwsError::new(
        StatusCode::NOT_FOUND,
        "ResourceNotFoundException",
        "The resource you requested does not exist.",
    )
}

#[cfg(test)]
mod tests {
    use super::{Policy, Statement, arn_like};

    const SOURCE: &str = "arn:aws:execute-api:us-east-1:000000000000:abc123/local/$connect";

    fn policy(source_arn: Option<&str>) -> Policy {
        let statement = Statement {
            sid: "s".to_owned(),
            action: "lambda:InvokeFunction".to_owned(),
            principal: "apigateway.amazonaws.com".to_owned(),
            source_arn: source_arn.map(str::to_owned),
            source_account: None,
        };
        Policy { statements: vec![statement], revision_id: String::new() }
    }

    #[test]
    fn a_statement_is_for_its_service_and_its_source_only() {
        let mine = policy(Some("arn:aws:execute-api:us-east-1:000000000000:abc123/*/$connect"));
        assert!(mine.allows("apigateway.amazonaws.com", SOURCE, "000000000000"));
        assert!(!mine.allows("events.amazonaws.com", SOURCE, "000000000000"));
        let other = policy(Some("arn:aws:execute-api:us-east-1:000000000000:other/*"));
        assert!(!other.allows("apigateway.amazonaws.com", SOURCE, "000000000000"));
        assert!(policy(None).allows("apigateway.amazonaws.com", SOURCE, "000000000000"));
        assert!(!Policy::default().allows("apigateway.amazonaws.com", SOURCE, "000000000000"));
    }

    #[test]
    fn a_star_does_not_reach_over_a_colon() {
        assert!(arn_like("arn:aws:execute-api:*:*:abc123/*", SOURCE));
        assert!(!arn_like("arn:*:abc123/*", SOURCE));
    }
}
