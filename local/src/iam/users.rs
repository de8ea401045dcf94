//! The operations on users and their access keys, so that a deploy can be tried with less than the owner's rights.

use std::sync::Arc;

use http::StatusCode;

use super::api::{Outcome, check_name, check_path, check_tags, iso_time, page};
use super::credentials::{random_id, random_secret};
use super::model::{AccessKey, Document, Policies, User};
use super::policy::Kind;
use super::{Iam, USERS, limit_exceeded, no_such_entity};
use crate::call::Principal;
use crate::error::AwsError;
use crate::query::{Form, Xml, percent_encode};

/// Quotas of AWS: characters of all inline policies of a user, and access keys.
const MAX_INLINE: usize = 2048;
const MAX_KEYS: usize = 2;

impl Iam {
    pub(super) fn create_user(&self, form: &Form) -> Outcome {
        let name = check_name(form, "UserName", 64)?;
        let tags = form.tags()?;
        check_tags(&tags)?;
        let user = User {
            name: name.to_owned(),
            id: random_id("AIDA", 17),
            path: check_path(form, "Path")?,
            created_s: jiff::Timestamp::now().as_second(),
            tags,
            keys: Vec::new(),
            policies: Policies::default(),
        };
        let mut state = self.write();
        if state.users.contains_key(name) {
            return Err(AwsError::new(
                StatusCode::CONFLICT,
                "EntityAlreadyExists",
                format!("User with name {name} already exists."),
            ));
        }
        self.store.put(USERS, name, &user)?;
        let mut xml = Xml::default();
        self.user_element(&mut xml, &user, "User");
        state.users.insert(name.to_owned(), Arc::new(user));
        Ok(Some(xml))
    }

    /// Without a name, the caller.
    pub(super) fn get_user(&self, form: &Form, caller: &Principal) -> Outcome {
        let name = match (form.get("UserName"), caller) {
            (Some(name), _) => name,
            (None, Principal::User { user_name }) => user_name,
            (None, _) => form.required("UserName")?,
        };
        let user = self.user(name).ok_or_else(|| no_user(name))?;
        let mut xml = Xml::default();
        self.user_element(&mut xml, &user, "User");
        Ok(Some(xml))
    }

    pub(super) fn list_users(&self, form: &Form) -> Outcome {
        let prefix = form.get("PathPrefix").unwrap_or("/");
        let users: Vec<Arc<User>> =
            self.read().users.values().filter(|user| user.path.starts_with(prefix)).cloned().collect();
        page(form, "Users", users, |user| &user.name, |xml, user| self.user_element(xml, user, "member"))
    }

    pub(super) fn delete_user(&self, form: &Form) -> Outcome {
        let name = form.required("UserName")?;
        let mut state = self.write();
        let user = state.users.get(name).ok_or_else(|| no_user(name))?;
        let first = match (user.policies.is_empty(), user.keys.is_empty()) {
            (false, _) => "delete policies",
            (true, false) => "delete access keys",
            (true, true) => {
                self.store.delete(USERS, name)?;
                state.users.remove(name);
                return Ok(None);
            }
        };
        Err(AwsError::new(
            StatusCode::CONFLICT,
            "DeleteConflict",
            format!("Cannot delete entity, must {first} first."),
        ))
    }

    pub(super) fn put_user_policy(&self, form: &Form) -> Outcome {
        let name = check_name(form, "PolicyName", 128)?;
        let document = Document::parse(form.required("PolicyDocument")?, Kind::Identity)?;
        self.change_user(form, |user| {
            let owner = format!("user {}", user.name);
            user.policies.put(name, document, MAX_INLINE, &owner)
        })
    }

    pub(super) fn get_user_policy(&self, form: &Form) -> Outcome {
        let user = self.named_user(form)?;
        let name = form.required("PolicyName")?;
        let document = user.policies.inline.get(name).ok_or_else(|| no_user_policy(name))?;
        let mut xml = Xml::default();
        xml.text("UserName", &user.name);
        xml.text("PolicyName", name);
        xml.text("PolicyDocument", &percent_encode(&document.text));
        Ok(Some(xml))
    }

    pub(super) fn list_user_policies(&self, form: &Form) -> Outcome {
        let names = self.named_user(form)?.policies.inline.keys().cloned().collect();
        page(form, "PolicyNames", names, |name: &String| name, |xml, name| xml.text("member", name))
    }

    pub(super) fn delete_user_policy(&self, form: &Form) -> Outcome {
        let name = form.required("PolicyName")?;
        self.change_user(form, |user| {
            user.policies.inline.remove(name).map(drop).ok_or_else(|| no_user_policy(name))
        })
    }

    pub(super) fn create_access_key(&self, form: &Form) -> Outcome {
        let key = AccessKey {
            id: random_id("AKIA", 16),
            secret: random_secret()?,
            created_s: jiff::Timestamp::now().as_second(),
        };
        let mut xml = Xml::default();
        xml.element("AccessKey", |xml| {
            xml.text("UserName", form.get("UserName").unwrap_or_default());
            xml.text("AccessKeyId", &key.id);
            xml.text("Status", "Active");
            xml.text("SecretAccessKey", &key.secret);
            xml.text("CreateDate", &iso_time(key.created_s));
        });
        self.change_user(form, |user| {
            if user.keys.len() >= MAX_KEYS {
                return Err(limit_exceeded(format!("Cannot exceed quota for AccessKeysPerUser: {MAX_KEYS}")));
            }
            user.keys.push(key);
            Ok(())
        })?;
        Ok(Some(xml))
    }

    pub(super) fn list_access_keys(&self, form: &Form) -> Outcome {
        let user = self.named_user(form)?;
        page(
            form,
            "AccessKeyMetadata",
            user.keys.clone(),
            |key| &key.id,
            |xml, key| {
                xml.element("member", |xml| {
                    xml.text("UserName", &user.name);
                    xml.text("AccessKeyId", &key.id);
                    xml.text("Status", "Active");
                    xml.text("CreateDate", &iso_time(key.created_s));
                });
            },
        )
    }

    pub(super) fn delete_access_key(&self, form: &Form) -> Outcome {
        let id = form.required("AccessKeyId")?;
        self.change_user(form, |user| {
            let before = user.keys.len();
            user.keys.retain(|key| key.id != id);
            if user.keys.len() == before {
                return Err(no_such_entity(format!("The Access Key with id {id} cannot be found.")));
            }
            Ok(())
        })
    }

    /// Changes a copy, which becomes the user once it is written.
    fn change_user(&self, form: &Form, change: impl FnOnce(&mut User) -> Result<(), AwsError>) -> Outcome {
        let name = form.required("UserName")?;
        let mut state = self.write();
        let mut user = (**state.users.get(name).ok_or_else(|| no_user(name))?).clone();
        change(&mut user)?;
        self.store.put(USERS, name, &user)?;
        state.users.insert(name.to_owned(), Arc::new(user));
        Ok(None)
    }

    fn named_user(&self, form: &Form) -> Result<Arc<User>, AwsError> {
        let name = form.required("UserName")?;
        self.user(name).ok_or_else(|| no_user(name))
    }

    fn user_element(&self, xml: &mut Xml, user: &User, element: &str) {
        xml.element(element, |xml| {
            xml.text("Path", &user.path);
            xml.text("UserName", &user.name);
            xml.text("UserId", &user.id);
            xml.text("Arn", &user.arn(&self.account));
            xml.text("CreateDate", &iso_time(user.created_s));
            if element == "User" && !user.tags.is_empty() {
                xml.tags(&user.tags);
            }
        });
    }

    /// What an operation on a user is authorised on.
    pub(super) fn user_resource(&self, form: &Form) -> String {
        let account = &self.account;
        let path = form.get("PathPrefix").or_else(|| form.get("Path")).unwrap_or("/");
        match form.get("UserName") {
            Some(name) => match self.user(name) {
                Some(user) => user.arn(account),
                None => format!("arn:aws:iam::{account}:user{path}{name}"),
            },
            None => format!("arn:aws:iam::{account}:user{path}"),
        }
    }
}

fn no_user(name: &str) -> AwsError {
    no_such_entity(format!("The user with name {name} cannot be found."))
}

fn no_user_policy(name: &str) -> AwsError {
    no_such_entity(format!("The user policy with name {name} cannot be found."))
}
