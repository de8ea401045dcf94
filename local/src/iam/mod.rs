//! IAM: roles, users, their policies, and the credentials that are theirs. Every decision about access is made here.

mod api;
mod credentials;
mod evaluate;
mod model;
mod oidc;
mod policy;
mod roles;
mod simulate;
mod sts;
mod users;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use http::StatusCode;

pub(crate) use self::api::{NAMESPACE, OPERATIONS, VERSION};
use self::credentials::Issuer;
pub(crate) use self::credentials::{IdentifyError, SessionCredentials};
pub(crate) use self::evaluate::Key;
use self::evaluate::{Decision, Request, evaluate};
use self::model::{Role, User};
pub(crate) use self::sts::{STS_NAMESPACE, STS_OPERATIONS};
use crate::call::Principal;
use crate::error::AwsError;
use crate::faults::Faults;
use crate::store::Store;

/// Access key and secret of the owner of the account.
pub(crate) const OWNER_KEY: &str = "chatctl";
pub(crate) const OWNER_SECRET: &str = "chatctl";

/// Requests to IAM go to this region, wherever else its caller works. Source: IAM User Guide, "AWS: Denies access to AWS
/// based on the requested Region".
const REGION_OF_IAM: &str = "us-east-1";

const ROLES: &str = "iam-role";
const USERS: &str = "iam-user";

pub(crate) struct Iam {
    account: String,
    region: String,
    store: Store,
    faults: Faults,
    issuer: Issuer,
    state: RwLock<State>,
}

/// Also in the store: written there first.
#[derive(Default)]
struct State {
    roles: BTreeMap<String, Arc<Role>>,
    users: BTreeMap<String, Arc<User>>,
    /// By host and path.
    providers: BTreeMap<String, oidc::Provider>,
}

impl Iam {
    pub(crate) fn open(store: Store, faults: Faults, account: &str, region: &str) -> Result<Self, AwsError> {
        let state = State {
            roles: store.list(ROLES)?.into_iter().map(|(name, role)| (name, Arc::new(role))).collect(),
            users: store.list(USERS)?.into_iter().map(|(name, user)| (name, Arc::new(user))).collect(),
            providers: store.list(oidc::PROVIDERS)?.into_iter().collect(),
        };
        Ok(Self {
            account: account.to_owned(),
            region: region.to_owned(),
            issuer: Issuer::open(&store)?,
            store,
            faults,
            state: RwLock::new(state),
        })
    }

    /// Whether the policies of a principal allow an action on a resource.
    pub(crate) fn authorize(&self, who: &Principal, action: &str, resource: &str) -> Result<(), AwsError> {
        self.authorize_with(who, action, resource, &|_| None)
    }

    /// The same with condition keys that only this request has. They are asked for in lower case, and only if a policy
    /// has a condition on them.
    pub(crate) fn authorize_with(
        &self,
        who: &Principal,
        action: &str,
        resource: &str,
        given: &dyn Fn(&str) -> Option<Key>,
    ) -> Result<(), AwsError> {
        let lower = action.to_ascii_lowercase();
        let context = |key: &str| {
            given(key).unwrap_or_else(|| match key {
                // No source tells whose region counts when another service's request passes a role.
                "aws:requestedregion" if lower.starts_with("iam:") && lower != "iam:passrole" => {
                    Key::Values(vec![REGION_OF_IAM.to_owned()])
                }
                _ => self.condition_key(who, key),
            })
        };
        let request = Request { action: &lower, resource, caller: &[], context: &context };
        let decision = self.decide(who, &request);
        let reason = match decision {
            Decision::Allowed => return Ok(()),
            Decision::ImplicitlyDenied => {
                format!("because no identity-based policy allows the {action} action")
            }
            Decision::OutOfBoundary => format!("because no permissions boundary allows the {action} action"),
            Decision::ExplicitlyDenied => "with an explicit deny in an identity-based policy".to_owned(),
            Decision::Unsupported(key) => format!(
                "because a matching policy statement has a condition on {key}, which the local cloud cannot evaluate"
            ),
        };
        Err(denied(format!(
            "User: {} is not authorized to perform: {action} on resource: {resource} {reason}",
            self.arn_of(who)
        )))
    }

    /// What the policies of a principal say. Nothing of a principal that is gone.
    fn decide(&self, who: &Principal, request: &Request<'_>) -> Decision {
        match who {
            Principal::Owner => Decision::Allowed,
            Principal::Role { role_name, .. } => {
                self.role(role_name).map_or(Decision::ImplicitlyDenied, |role| role.decide(request))
            }
            Principal::User { user_name } => match self.user(user_name) {
                Some(user) => evaluate(user.policies.all(), request),
                None => Decision::ImplicitlyDenied,
            },
        }
    }

    /// Credentials of a role for a service that runs something in its name. They are valid as long as the role.
    pub(crate) fn assume_for_service(
        &self,
        role_arn: &str,
        service: &str,
        session: &str,
    ) -> Result<SessionCredentials, AwsError> {
        let refuse = || {
            denied(format!(
                "User: {service} is not authorized to perform: sts:AssumeRole on resource: {role_arn}"
            ))
        };
        let role = self.role_by_arn(role_arn).ok_or_else(refuse)?;
        let caller = [("Service", service.to_owned())];
        let context = |_: &str| Key::Absent;
        let request =
            Request { action: "sts:assumerole", resource: role_arn, caller: &caller, context: &context };
        if !self.faults.role_assumable(&role.name)
            || evaluate([&role.trust.policy], &request) != Decision::Allowed
        {
            return Err(refuse());
        }
        Ok(self.issuer.issue(&role, session, None))
    }

    /// As it stands in messages and policies.
    pub(crate) fn arn_of(&self, who: &Principal) -> String {
        let account = &self.account;
        match who {
            Principal::Owner => format!("arn:aws:iam::{account}:root"),
            Principal::User { user_name } => match self.user(user_name) {
                Some(user) => user.arn(account),
                None => format!("arn:aws:iam::{account}:user/{user_name}"),
            },
            Principal::Role { role_name, session } => {
                format!("arn:aws:sts::{account}:assumed-role/{role_name}/{session}")
            }
        }
    }

    /// Condition keys that every request has.
    fn condition_key(&self, who: &Principal, key: &str) -> Key {
        let value = |value: String| Key::Values(vec![value]);
        match (key, who) {
            ("aws:principalarn", Principal::Role { role_name, .. }) => match self.role(role_name) {
                Some(role) => value(role.arn(&self.account)),
                None => Key::Absent,
            },
            ("aws:principalarn", who) => value(self.arn_of(who)),
            ("aws:principalaccount" | "aws:resourceaccount", _) => value(self.account.clone()),
            ("aws:principaltype", Principal::Role { .. }) => value("AssumedRole".to_owned()),
            ("aws:principaltype", Principal::User { .. }) => value("User".to_owned()),
            ("aws:username", Principal::User { user_name }) => value(user_name.clone()),
            ("aws:userid", Principal::Role { role_name, session }) => match self.role(role_name) {
                Some(role) => value(format!("{}:{session}", role.id)),
                None => Key::Absent,
            },
            ("aws:requestedregion", _) => value(self.region.clone()),
            ("aws:securetransport", _) => value("false".to_owned()),
            ("aws:sourceip", _) => value("127.0.0.1".to_owned()),
            ("aws:currenttime", _) => value(jiff::Timestamp::now().to_string()),
            ("aws:epochtime", _) => value(jiff::Timestamp::now().as_second().to_string()),
            (
                "aws:username"
                | "aws:userid"
                | "aws:principaltype"
                | "aws:sourcevpc"
                | "aws:sourcevpce"
                | "aws:sourcearn"
                | "aws:sourceaccount"
                | "aws:vpcsourceip"
                | "aws:multifactorauthpresent"
                | "aws:multifactorauthage"
                | "aws:principalorgid"
                | "aws:viaawsservice"
                | "aws:calledvia",
                _,
            ) => Key::Absent,
            // Keys of single services, and of tags, would have a value on AWS.
            _ => Key::Unsupported,
        }
    }

    fn role_by_arn(&self, arn: &str) -> Option<Arc<Role>> {
        self.role(arn.rsplit('/').next()?).filter(|role| role.arn(&self.account) == arn)
    }

    /// The unique id of a role, which no other one of its name has.
    pub(crate) fn role_id(&self, arn: &str) -> Option<String> {
        self.role_by_arn(arn).map(|role| role.id.clone())
    }

    /// Not held under the lock: what is decided with it may ask for more.
    fn role(&self, name: &str) -> Option<Arc<Role>> {
        self.read().roles.get(name).cloned()
    }

    fn user(&self, name: &str) -> Option<Arc<User>> {
        self.read().users.get(name).cloned()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn denied(message: String) -> AwsError {
    AwsError::new(StatusCode::FORBIDDEN, "AccessDenied", message)
}

fn no_such_entity(message: String) -> AwsError {
    AwsError::new(StatusCode::NOT_FOUND, "NoSuchEntity", message)
}

fn limit_exceeded(message: String) -> AwsError {
    AwsError::new(StatusCode::CONFLICT, "LimitExceeded", message)
}

#[cfg(test)]
mod tests;
