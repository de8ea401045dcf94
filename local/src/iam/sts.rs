//! STS: who is calling, and the credentials of roles.

use super::api::{Outcome, iso_time};
use super::evaluate::{Decision, Key, Request, evaluate};
use super::model::Role;
use super::roles::check_session_name;
use super::{Iam, denied};
use crate::call::{Call, Principal, Reply};
use crate::error::AwsError;
use crate::query::{Form, Xml, reply};

pub(crate) const STS_NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// Every operation of STS that there is here.
pub(crate) const STS_OPERATIONS: [&str; 3] = ["AssumeRole", "AssumeRoleWithWebIdentity", "GetCallerIdentity"];

impl Iam {
    /// STS needs no permission to say who asks, and looks at the role itself for the others.
    pub(crate) fn call_sts(&self, operation: &str, form: &Form, call: &Call) -> Result<Reply, AwsError> {
        let result = match operation {
            "GetCallerIdentity" => self.caller_identity(&call.principal),
            "AssumeRole" => self.assume_role(form, &call.principal),
            "AssumeRoleWithWebIdentity" => self.assume_role_with_web_identity(form),
            other => Err(AwsError::bad_request(
                "InvalidAction",
                format!("Could not find operation {other} for version 2011-06-15"),
            )),
        }?;
        Ok(reply(operation, STS_NAMESPACE, &call.request_id, result))
    }

    fn caller_identity(&self, who: &Principal) -> Outcome {
        let id = match who {
            Principal::Owner => self.account.clone(),
            Principal::User { user_name } => {
                self.user(user_name).map(|user| user.id.clone()).unwrap_or_default()
            }
            Principal::Role { role_name, session } => {
                let role_id = self.role(role_name).map(|role| role.id.clone()).unwrap_or_default();
                format!("{role_id}:{session}")
            }
        };
        let mut xml = Xml::default();
        xml.text("UserId", &id);
        xml.text("Account", &self.account);
        xml.text("Arn", &self.arn_of(who));
        Ok(Some(xml))
    }

    fn assume_role(&self, form: &Form, who: &Principal) -> Outcome {
        let session = check_session_name(form)?;
        let arn = form.required("RoleArn")?;
        if form.get("Policy").is_some() || form.get("PolicyArns.member.1.arn").is_some() {
            return Err(AwsError::bad_request(
                "ValidationError",
                "Session policies are not supported by the local cloud.",
            ));
        }
        let refuse = || {
            denied(format!(
                "User: {} is not authorized to perform: sts:AssumeRole on resource: {arn}",
                self.arn_of(who)
            ))
        };
        let role = self.role_by_arn(arn).ok_or_else(refuse)?;
        let duration_s = form.number("DurationSeconds", 900, role.max_session_s)?.unwrap_or(3600);

        // A trust policy that names the caller suffices; one that names the account leaves the choice to the policies
        // of the caller.
        let account = &self.account;
        let mut by_name = vec![("AWS", self.arn_of(who))];
        if let Principal::Role { role_name, .. } = who {
            by_name.extend(self.role(role_name).map(|role| ("AWS", role.arn(account))));
        }
        let by_account = [("AWS", account.clone()), ("AWS", format!("arn:aws:iam::{account}:root"))];
        let context = |key: &str| match (key, form.get("ExternalId")) {
            ("sts:externalid", Some(id)) => Key::Values(vec![id.to_owned()]),
            ("sts:externalid", None) => Key::Absent,
            ("sts:rolesessionname", _) => Key::Values(vec![session.to_owned()]),
            (key, _) => self.condition_key(who, key),
        };
        let trusts = |caller: &[(&'static str, String)]| {
            let request = Request { action: "sts:assumerole", resource: arn, caller, context: &context };
            evaluate([&role.trust.policy], &request)
        };
        let both = [by_name.clone(), by_account.to_vec()].concat();
        match (trusts(&by_name), trusts(&both)) {
            (_, Decision::ExplicitlyDenied) => return Err(refuse()),
            (Decision::Allowed, _) => {}
            (_, Decision::Allowed) => self.authorize(who, "sts:AssumeRole", arn).map_err(|_| refuse())?,
            _ => return Err(refuse()),
        }
        if !self.faults.role_assumable(&role.name) {
            return Err(refuse());
        }

        Ok(Some(self.session(&role, session, duration_s)))
    }

    /// Credentials of a new session, as STS answers with them.
    pub(super) fn session(&self, role: &Role, session: &str, duration_s: i64) -> Xml {
        let expires_s = jiff::Timestamp::now().as_second() + duration_s;
        let credentials = self.issuer.issue(role, session, Some(expires_s));
        let mut xml = Xml::default();
        xml.element("Credentials", |xml| {
            xml.text("AccessKeyId", &credentials.access_key_id);
            xml.text("SecretAccessKey", &credentials.secret_access_key);
            xml.text("SessionToken", &credentials.session_token);
            xml.text("Expiration", &iso_time(expires_s));
        });
        xml.element("AssumedRoleUser", |xml| {
            xml.text("AssumedRoleId", &format!("{}:{session}", role.id));
            xml.text("Arn", &self.arn_of(&credentials.principal));
        });
        xml
    }
}
