//! The operations of IAM by name, and what they have in common: names, paths, pages.

use super::model::Tags;
use super::{Iam, limit_exceeded};
use crate::call::{Call, Reply};
use crate::error::AwsError;
use crate::query::{Form, Xml, invalid, reply};

pub(crate) const NAMESPACE: &str = "https://iam.amazonaws.com/doc/2010-05-08/";
/// Version of the API that forms name.
pub(crate) const VERSION: &str = "2010-05-08";

/// What an operation returns: its result, or nothing where it has none.
pub(super) type Outcome = Result<Option<Xml>, AwsError>;

/// Every operation of IAM that there is here, with the IAM action of the same name.
pub(crate) const OPERATIONS: [&str; 36] = [
    "AddClientIDToOpenIDConnectProvider",
    "AttachRolePolicy",
    "CreateAccessKey",
    "CreateOpenIDConnectProvider",
    "CreateRole",
    "CreateUser",
    "DeleteAccessKey",
    "DeleteOpenIDConnectProvider",
    "DeleteRole",
    "DeleteRolePermissionsBoundary",
    "DeleteRolePolicy",
    "DeleteUser",
    "DeleteUserPolicy",
    "DetachRolePolicy",
    "GetOpenIDConnectProvider",
    "GetRole",
    "GetRolePolicy",
    "GetUser",
    "GetUserPolicy",
    "ListAccessKeys",
    "ListAttachedRolePolicies",
    "ListInstanceProfilesForRole",
    "ListOpenIDConnectProviders",
    "ListRolePolicies",
    "ListRoleTags",
    "ListRoles",
    "ListUserPolicies",
    "ListUsers",
    "PutRolePermissionsBoundary",
    "PutRolePolicy",
    "PutUserPolicy",
    "SimulatePrincipalPolicy",
    "TagRole",
    "UntagRole",
    "UpdateAssumeRolePolicy",
    "UpdateRole",
];

impl Iam {
    /// What an operation is authorised on.
    pub(crate) fn resource(&self, operation: &str, form: &Form) -> String {
        match operation {
            "SimulatePrincipalPolicy" => Self::simulated_resource(form),
            operation if operation.contains("OpenIDConnect") => match form.get("OpenIDConnectProviderArn") {
                Some(arn) => arn.to_owned(),
                None => self.provider_arn(form.get("Url").unwrap_or("*").trim_start_matches("https://")),
            },
            operation if operation.contains("User") || operation.contains("AccessKey") => {
                self.user_resource(form)
            }
            _ => self.role_resource(form),
        }
    }

    pub(crate) fn call(&self, operation: &str, form: &Form, call: &Call) -> Result<Reply, AwsError> {
        let result = match operation {
            "AddClientIDToOpenIDConnectProvider" => self.add_client_id(form),
            "AttachRolePolicy" => self.attach_role_policy(form),
            "CreateAccessKey" => self.create_access_key(form),
            "CreateOpenIDConnectProvider" => self.create_oidc_provider(form),
            "CreateRole" => self.create_role(form),
            "CreateUser" => self.create_user(form),
            "DeleteAccessKey" => self.delete_access_key(form),
            "DeleteOpenIDConnectProvider" => self.delete_oidc_provider(form),
            "DeleteRole" => self.delete_role(form),
            "DeleteRolePermissionsBoundary" => self.delete_role_permissions_boundary(form),
            "DeleteRolePolicy" => self.delete_role_policy(form),
            "DeleteUser" => self.delete_user(form),
            "DeleteUserPolicy" => self.delete_user_policy(form),
            "DetachRolePolicy" => self.detach_role_policy(form),
            "GetOpenIDConnectProvider" => self.get_oidc_provider(form),
            "GetRole" => self.get_role(form),
            "GetRolePolicy" => self.get_role_policy(form),
            "GetUser" => self.get_user(form, &call.principal),
            "GetUserPolicy" => self.get_user_policy(form),
            "ListAccessKeys" => self.list_access_keys(form),
            "ListAttachedRolePolicies" => self.list_attached_role_policies(form),
            "ListInstanceProfilesForRole" => self.list_instance_profiles_for_role(form),
            "ListOpenIDConnectProviders" => self.list_oidc_providers(),
            "ListRolePolicies" => self.list_role_policies(form),
            "ListRoleTags" => self.list_role_tags(form),
            "ListRoles" => self.list_roles(form),
            "ListUserPolicies" => self.list_user_policies(form),
            "ListUsers" => self.list_users(form),
            "PutRolePermissionsBoundary" => self.put_role_permissions_boundary(form),
            "PutRolePolicy" => self.put_role_policy(form),
            "PutUserPolicy" => self.put_user_policy(form),
            "SimulatePrincipalPolicy" => self.simulate_principal_policy(form),
            "TagRole" => self.tag_role(form),
            "UntagRole" => self.untag_role(form),
            "UpdateAssumeRolePolicy" => self.update_assume_role_policy(form),
            "UpdateRole" => self.update_role(form),
            other => Err(unknown(other)),
        }?;
        Ok(reply(operation, NAMESPACE, &call.request_id, result))
    }
}

pub(super) fn unknown(operation: &str) -> AwsError {
    AwsError::bad_request(
        "InvalidAction",
        format!("Could not find operation {operation} for version {VERSION}"),
    )
}

pub(super) fn check_name<'f>(form: &'f Form, field: &str, longest: usize) -> Result<&'f str, AwsError> {
    let name = form.required(field)?;
    if name.is_empty() || name.len() > longest {
        return Err(invalid(field, Some(name), &format!("Member must have length between 1 and {longest}")));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@-_".contains(&byte)) {
        return Err(AwsError::bad_request(
            "ValidationError",
            format!(
                "The specified value for {}{} is invalid. It must contain only alphanumeric characters and/or the \
                 following: +=,.@_-",
                field[..1].to_ascii_lowercase(),
                &field[1..]
            ),
        ));
    }
    Ok(name)
}

pub(super) fn check_path(form: &Form, field: &str) -> Result<String, AwsError> {
    let path = form.get(field).unwrap_or("/");
    let fits = path.len() <= 512
        && path.starts_with('/')
        && path.ends_with('/')
        && path.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        Ok(path.to_owned())
    } else {
        Err(AwsError::bad_request(
            "ValidationError",
            "The specified value for path is invalid. It must begin and end with / and contain only alphanumeric \
             characters and/or / characters.",
        ))
    }
}

pub(super) fn check_tags(tags: &Tags) -> Result<(), AwsError> {
    if tags.len() > 50 {
        return Err(limit_exceeded("The number of tags has reached the maximum limit.".to_owned()));
    }
    // The pattern of IAM's model for keys and values, and of no other service here: `&` in a value is refused.
    let is_allowed = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c);
    match tags.iter().flat_map(|(key, value)| [key, value]).find(|text| !text.chars().all(is_allowed)) {
        Some(text) => Err(invalid(
            "tags",
            Some(text),
            "Member must satisfy regular expression pattern: [\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*",
        )),
        None => Ok(()),
    }
}

pub(super) fn iso_time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}

/// One page of a list. The marker is the key of the next page's first item.
pub(super) fn page<T>(
    form: &Form,
    element: &str,
    items: Vec<T>,
    key: impl Fn(&T) -> &String,
    write: impl Fn(&mut Xml, &T),
) -> Outcome {
    let size = usize::try_from(form.number("MaxItems", 1, 1000)?.unwrap_or(100)).unwrap_or(100);
    let start = match form.get("Marker") {
        Some(marker) => items.partition_point(|item| key(item).as_str() < marker),
        None => 0,
    };
    let end = items.len().min(start + size);
    let mut xml = Xml::default();
    xml.element(element, |xml| items[start..end].iter().for_each(|item| write(xml, item)));
    xml.text("IsTruncated", if end < items.len() { "true" } else { "false" });
    if let Some(next) = items.get(end) {
        xml.text("Marker", key(next));
    }
    Ok(Some(xml))
}
