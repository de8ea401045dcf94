//! The operations on roles.

use std::sync::Arc;

use http::StatusCode;

use super::api::{Outcome, check_name, check_path, check_tags, iso_time, page};
use super::credentials::random_id;
use super::model::{Document, Policies, Role, managed_document};
use super::policy::{Kind, Policy, malformed};
use super::{Iam, ROLES, limit_exceeded, no_such_entity};
use crate::error::AwsError;
use crate::faults::Young;
use crate::query::{Form, Xml, invalid, percent_encode};

/// Quotas of AWS: roles of an account, characters of a trust policy and of all inline policies of a role.
const MAX_ROLES: usize = 1000;
const MAX_TRUST: usize = 2048;
const MAX_INLINE: usize = 10_240;
const MAX_ATTACHED: usize = 10;

impl Iam {
    pub(super) fn create_role(&self, form: &Form) -> Outcome {
        let name = check_name(form, "RoleName", 64)?;
        let tags = form.tags()?;
        check_tags(&tags)?;
        let role = Role {
            name: name.to_owned(),
            id: random_id("AROA", 17),
            path: check_path(form, "Path")?,
            created_s: jiff::Timestamp::now().as_second(),
            description: form.get("Description").map(str::to_owned),
            max_session_s: form.number("MaxSessionDuration", 3600, 43_200)?.unwrap_or(3600),
            tags,
            trust: self.trust_document(form.required("AssumeRolePolicyDocument")?)?,
            policies: Policies::default(),
            boundary: match form.get("PermissionsBoundary") {
                Some(arn) => Some((arn.to_owned(), managed_document(arn)?)),
                None => None,
            },
        };
        let mut state = self.write();
        if state.roles.contains_key(name) {
            return Err(AwsError::new(
                StatusCode::CONFLICT,
                "EntityAlreadyExists",
                format!("Role with name {name} already exists."),
            ));
        }
        if state.roles.len() >= MAX_ROLES {
            return Err(limit_exceeded(format!("Cannot exceed quota for RolesPerAccount: {MAX_ROLES}")));
        }
        self.store.put(ROLES, name, &role)?;
        let mut xml = Xml::default();
        self.role_element(&mut xml, &role, "Role");
        state.roles.insert(name.to_owned(), Arc::new(role));
        self.faults.created(Young::Role, name);
        Ok(Some(xml))
    }

    pub(super) fn get_role(&self, form: &Form) -> Outcome {
        let role = self.named_role(form)?;
        let mut xml = Xml::default();
        self.role_element(&mut xml, &role, "Role");
        Ok(Some(xml))
    }

    pub(super) fn list_roles(&self, form: &Form) -> Outcome {
        let prefix = form.get("PathPrefix").unwrap_or("/");
        let roles: Vec<Arc<Role>> =
            self.read().roles.values().filter(|role| role.path.starts_with(prefix)).cloned().collect();
        page(form, "Roles", roles, |role| &role.name, |xml, role| self.role_element(xml, role, "member"))
    }

    pub(super) fn delete_role(&self, form: &Form) -> Outcome {
        let role = self.named_role(form)?;
        if !role.policies.is_empty() {
            let which = if role.policies.inline.is_empty() { "detach all" } else { "delete" };
            return Err(AwsError::new(
                StatusCode::CONFLICT,
                "DeleteConflict",
                format!("Cannot delete entity, must {which} policies first."),
            ));
        }
        let mut state = self.write();
        self.store.delete(ROLES, &role.name)?;
        state.roles.remove(&role.name);
        Ok(None)
    }

    pub(super) fn update_role(&self, form: &Form) -> Outcome {
        let duration = form.number("MaxSessionDuration", 3600, 43_200)?;
        self.change_role(form, |role| {
            role.max_session_s = duration.unwrap_or(role.max_session_s);
            role.description = form.get("Description").map(str::to_owned).or_else(|| role.description.take());
            Ok(())
        })?;
        Ok(Some(Xml::default()))
    }

    pub(super) fn update_assume_role_policy(&self, form: &Form) -> Outcome {
        let trust = self.trust_document(form.required("PolicyDocument")?)?;
        self.change_role(form, |role| {
            role.trust = trust;
            Ok(())
        })
    }

    pub(super) fn put_role_policy(&self, form: &Form) -> Outcome {
        let name = check_name(form, "PolicyName", 128)?;
        let document = Document::parse(form.required("PolicyDocument")?, Kind::Identity)?;
        self.change_role(form, |role| {
            let owner = format!("role {}", role.name);
            role.policies.put(name, document, MAX_INLINE, &owner)
        })
    }

    pub(super) fn get_role_policy(&self, form: &Form) -> Outcome {
        let role = self.named_role(form)?;
        let name = form.required("PolicyName")?;
        let document = role.policies.inline.get(name).ok_or_else(|| no_role_policy(name))?;
        let mut xml = Xml::default();
        xml.text("RoleName", &role.name);
        xml.text("PolicyName", name);
        xml.text("PolicyDocument", &percent_encode(&document.text));
        Ok(Some(xml))
    }

    pub(super) fn list_role_policies(&self, form: &Form) -> Outcome {
        let names = self.named_role(form)?.policies.inline.keys().cloned().collect();
        page(form, "PolicyNames", names, |name: &String| name, |xml, name| xml.text("member", name))
    }

    pub(super) fn delete_role_policy(&self, form: &Form) -> Outcome {
        let name = form.required("PolicyName")?;
        self.change_role(form, |role| {
            role.policies.inline.remove(name).map(drop).ok_or_else(|| no_role_policy(name))
        })
    }

    pub(super) fn attach_role_policy(&self, form: &Form) -> Outcome {
        let arn = form.required("PolicyArn")?;
        let document = managed_document(arn)?;
        self.change_role(form, |role| {
            role.policies.attached.insert(arn.to_owned(), document);
            if role.policies.attached.len() > MAX_ATTACHED {
                return Err(limit_exceeded(format!(
                    "Cannot exceed quota for PoliciesPerRole: {MAX_ATTACHED}"
                )));
            }
            Ok(())
        })
    }

    pub(super) fn detach_role_policy(&self, form: &Form) -> Outcome {
        let arn = form.required("PolicyArn")?;
        self.change_role(form, |role| {
            role.policies
                .attached
                .remove(arn)
                .map(drop)
                .ok_or_else(|| no_such_entity(format!("Policy {arn} was not found.")))
        })
    }

    pub(super) fn put_role_permissions_boundary(&self, form: &Form) -> Outcome {
        let arn = form.required("PermissionsBoundary")?;
        let document = managed_document(arn)?;
        self.change_role(form, |role| {
            role.boundary = Some((arn.to_owned(), document));
            Ok(())
        })
    }

    pub(super) fn delete_role_permissions_boundary(&self, form: &Form) -> Outcome {
        self.change_role(form, |role| {
            let gone = role.boundary.take();
            gone.map(drop)
                .ok_or_else(|| no_such_entity(format!("Role {} has no permissions boundary.", role.name)))
        })
    }

    pub(super) fn list_attached_role_policies(&self, form: &Form) -> Outcome {
        let arns = self.named_role(form)?.policies.attached.keys().cloned().collect();
        page(
            form,
            "AttachedPolicies",
            arns,
            |arn: &String| arn,
            |xml, arn| {
                xml.element("member", |xml| {
                    xml.text("PolicyName", arn.rsplit('/').next().unwrap_or_default());
                    xml.text("PolicyArn", arn);
                });
            },
        )
    }

    pub(super) fn list_instance_profiles_for_role(&self, form: &Form) -> Outcome {
        self.named_role(form)?;
        page(form, "InstanceProfiles", Vec::<String>::new(), |name| name, |_, _| {})
    }

    pub(super) fn tag_role(&self, form: &Form) -> Outcome {
        let tags = form.tags()?;
        self.change_role(form, |role| {
            role.tags.extend(tags);
            check_tags(&role.tags)
        })
    }

    pub(super) fn untag_role(&self, form: &Form) -> Outcome {
        let keys = form.list("TagKeys");
        self.change_role(form, |role| {
            role.tags.retain(|key, _| !keys.contains(&key.as_str()));
            Ok(())
        })
    }

    pub(super) fn list_role_tags(&self, form: &Form) -> Outcome {
        let tags = self.named_role(form)?.tags.clone().into_iter().collect();
        page(
            form,
            "Tags",
            tags,
            |(key, _): &(String, String)| key,
            |xml, (key, value)| {
                xml.element("member", |xml| {
                    xml.text("Key", key);
                    xml.text("Value", value);
                });
            },
        )
    }

    /// Changes a copy, which becomes the role once it is written.
    fn change_role(&self, form: &Form, change: impl FnOnce(&mut Role) -> Result<(), AwsError>) -> Outcome {
        let name = form.required("RoleName")?;
        let mut state = self.write();
        let mut role = (**state.roles.get(name).ok_or_else(|| no_role(name))?).clone();
        change(&mut role)?;
        self.store.put(ROLES, name, &role)?;
        state.roles.insert(name.to_owned(), Arc::new(role));
        Ok(None)
    }

    fn named_role(&self, form: &Form) -> Result<Arc<Role>, AwsError> {
        let name = form.required("RoleName")?;
        self.role(name).ok_or_else(|| no_role(name))
    }

    /// Principals of this account have to exist; services have to be named as services are.
    fn trust_document(&self, text: &str) -> Result<Document, AwsError> {
        let document = Document::parse(text, Kind::Trust)?;
        if document.size() > MAX_TRUST {
            return Err(limit_exceeded(format!("Cannot exceed quota for ACLSizePerRole: {MAX_TRUST}")));
        }
        match self.unknown_principal(&document.policy) {
            Some((kind, value)) => {
                let kind = if kind == "Service" { "SERVICE" } else { kind };
                Err(malformed(format!("Invalid principal in policy: \"{kind}\":\"{value}\"")))
            }
            None => Ok(document),
        }
    }

    fn unknown_principal<'p>(&self, policy: &'p Policy) -> Option<(&'p str, &'p str)> {
        let principals = policy.statements.iter().filter_map(|statement| statement.principals.as_ref());
        let state = self.read();
        let account = &self.account;
        let exists = |kind: &str, value: &str| match kind {
            "Service" => value.ends_with(".amazonaws.com"),
            "AWS" if value.starts_with(&format!("arn:aws:iam::{account}:")) => {
                value.ends_with(":root")
                    || state.roles.values().any(|role| role.arn(account) == value)
                    || state.users.values().any(|user| user.arn(account) == value)
            }
            _ => true,
        };
        principals
            .flat_map(|principals| &principals.entries)
            .find(|(kind, value)| !exists(kind, value))
            .map(|(kind, value)| (kind.as_str(), value.as_str()))
    }

    fn role_element(&self, xml: &mut Xml, role: &Role, element: &str) {
        xml.element(element, |xml| {
            xml.text("Path", &role.path);
            xml.text("RoleName", &role.name);
            xml.text("RoleId", &role.id);
            xml.text("Arn", &role.arn(&self.account));
            xml.text("CreateDate", &iso_time(role.created_s));
            xml.text("AssumeRolePolicyDocument", &percent_encode(&role.trust.text));
            if let Some(description) = &role.description {
                xml.text("Description", description);
            }
            xml.text("MaxSessionDuration", &role.max_session_s.to_string());
            if let Some((arn, _)) = &role.boundary {
                xml.element("PermissionsBoundary", |xml| {
                    xml.text("PermissionsBoundaryType", "Policy");
                    xml.text("PermissionsBoundaryArn", arn);
                });
            }
            // Lists leave these two out.
            if element == "Role" {
                if !role.tags.is_empty() {
                    xml.tags(&role.tags);
                }
                xml.element("RoleLastUsed", |_| {});
            }
        });
    }

    /// What an operation on a role is authorised on.
    pub(super) fn role_resource(&self, form: &Form) -> String {
        let account = &self.account;
        match (form.get("RoleName"), form.get("PathPrefix").or_else(|| form.get("Path"))) {
            (Some(name), path) => match self.role(name) {
                Some(role) => role.arn(account),
                None => format!("arn:aws:iam::{account}:role{}{name}", path.unwrap_or("/")),
            },
            (None, path) => format!("arn:aws:iam::{account}:role{}", path.unwrap_or("/")),
        }
    }
}

fn no_role(name: &str) -> AwsError {
    no_such_entity(format!("The role with name {name} cannot be found."))
}

fn no_role_policy(name: &str) -> AwsError {
    no_such_entity(format!("The role policy with name {name} cannot be found."))
}

/// Names of sessions, which appear in ARNs.
pub(super) fn check_session_name(form: &Form) -> Result<&str, AwsError> {
    let name = form.required("RoleSessionName")?;
    let fits = (2..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@-_".contains(&byte));
    if fits {
        Ok(name)
    } else {
        Err(invalid(
            "RoleSessionName",
            Some(name),
            "Member must satisfy regular expression pattern: [\\w+=,.@-]{2,64}",
        ))
    }
}
