//! The IAM role of a function. Its path is that of the stage, so listing the path finds every role, declared or not.

use async_trait::async_trait;
use aws_sdk_iam::types::{Role as Described, Tag};
use chat_functions::contract::Handler;
use futures_util::future::{try_join, try_join_all};
use serde_json::{Value, json};

use super::{next_page, ownership, require_owned, tags_property};
use crate::address::{Address, Kind};
use crate::call::{Cx, OrAbsent};
use crate::error::{AwsFailure, Error};
use crate::names::Scope;
use crate::observe::Found;
use crate::policy;
use crate::resource::{Desired, Live, Outputs, Properties, Resource, Values};

#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) scope: Scope,
    pub(crate) handler: Handler,
}

pub(crate) fn address(part: &str) -> Address {
    Address::new(Kind::Role, part)
}

#[async_trait]
impl Resource for Role {
    fn address(&self) -> Address {
        address(self.handler.name())
    }

    fn needs(&self) -> Vec<Address> {
        Vec::new()
    }

    fn desired(&self, _: &Outputs) -> Desired {
        Desired::new()
            .with("path", self.scope.role_path())
            .with("trust", policy::trust("lambda.amazonaws.com"))
            .with("attached", json!([]))
            .with("boundary", Value::Null)
            .with("tags", tags_property(&self.scope))
    }

    fn fixed(&self) -> &'static [&'static str] {
        &["path"]
    }

    async fn converge(&self, cx: &Cx<'_>, live: Option<&Live>) -> Result<Values, Error> {
        let name = self.scope.function(self.handler);
        let trust = policy::trust("lambda.amazonaws.com").to_string();
        let mut live = live.cloned();
        let mut drift = cx.drifted(self, live.as_ref())?;
        if live.is_none() {
            let created = cx
                .call(|| {
                    cx.aws
                        .iam
                        .create_role()
                        .role_name(&name)
                        .path(self.scope.role_path())
                        .description(format!("What {} may do", self.scope.function(self.handler)))
                        .assume_role_policy_document(&trust)
                        .set_tags(Some(tags(&self.scope)))
                        .send()
                })
                .await;
            match created {
                Ok(answer) => return Ok(outputs(answer.role.as_ref())),
                Err(failure) if failure.is("EntityAlreadyExists") => {
                    let found = require_owned(cx, find(cx, &name).await?)?;
                    drift = cx.drifted(self, Some(&found))?;
                    live = Some(found);
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        if drift.contains(&"trust") {
            cx.call(|| {
                cx.aws.iam.update_assume_role_policy().role_name(&name).policy_document(&trust).send()
            })
            .await?;
        }
        if drift.contains(&"tags") {
            cx.call(|| cx.aws.iam.tag_role().role_name(&name).set_tags(Some(tags(&self.scope))).send())
                .await?;
        }
        let Some(live) = live else { return Err(Error::bug("no role to update")) };
        if drift.contains(&"attached") {
            detach_all(cx, &name, &live).await?;
        }
        if drift.contains(&"boundary") {
            cx.call(|| cx.aws.iam.delete_role_permissions_boundary().role_name(&name).send())
                .await
                .or_absent("NoSuchEntity")?;
        }
        Ok(live.outputs)
    }
}

/// ARNs of the managed policies that are attached, in order. A role can have 20 at most, so they are one page.
async fn list_attached(cx: &Cx<'_>, role: &str) -> Result<Vec<String>, AwsFailure> {
    let answer = cx
        .call(|| cx.aws.iam.list_attached_role_policies().role_name(role).send())
        .await
        .or_absent("NoSuchEntity")?;
    let policies = answer.and_then(|answer| answer.attached_policies).unwrap_or_default();
    let mut arns: Vec<String> = policies.into_iter().filter_map(|policy| policy.policy_arn).collect();
    arns.sort_unstable();
    Ok(arns)
}

/// Takes the managed policies off that were found on a role.
async fn detach_all(cx: &Cx<'_>, role: &str, live: &Live) -> Result<(), Error> {
    let attached = live.properties.get("attached").and_then(Value::as_array).into_iter().flatten();
    let all = attached.filter_map(Value::as_str).map(|arn| async move {
        cx.call(|| cx.aws.iam.detach_role_policy().role_name(role).policy_arn(arn).send())
            .await
            .or_absent("NoSuchEntity")
    });
    try_join_all(all).await?;
    Ok(())
}

fn tags(scope: &Scope) -> Vec<Tag> {
    scope
        .tags()
        .into_iter()
        .filter_map(|(key, value)| Tag::builder().key(key).value(value).build().ok())
        .collect()
}

fn outputs(role: Option<&Described>) -> Values {
    role.map(|role| Values::from([("arn", role.arn.clone()), ("id", role.role_id.clone())]))
        .unwrap_or_default()
}

/// The parts of the stack that have a role, by the stage's path.
pub(super) async fn list(cx: &Cx<'_>) -> Result<Vec<String>, Error> {
    let mut parts = Vec::new();
    let mut marker = None;
    loop {
        let page = cx
            .call(|| {
                cx.aws.iam.list_roles().path_prefix(cx.scope.role_path()).set_marker(marker.clone()).send()
            })
            .await?;
        parts.extend(page.roles.iter().filter_map(|role| cx.scope.part(&role.role_name)).map(str::to_owned));
        marker = next_page(page.marker).filter(|_| page.is_truncated);
        if marker.is_none() {
            return Ok(parts);
        }
    }
}

pub(super) async fn observe(cx: &Cx<'_>, part: &str) -> Result<Found, Error> {
    let live = find(cx, &cx.scope.named(part)).await?;
    Ok(live.map(|live| (address(part), live)).into_iter().collect())
}

async fn find(cx: &Cx<'_>, name: &str) -> Result<Option<Live>, Error> {
    let (role, attached) = try_join(
        async {
            let answer = cx.call(|| cx.aws.iam.get_role().role_name(name).send()).await;
            answer.or_absent("NoSuchEntity")
        },
        list_attached(cx, name),
    )
    .await?;
    let Some(role) = role else { return Ok(None) };
    let Some(role) = role.role else { return Ok(None) };
    let boundary = role.permissions_boundary().and_then(|boundary| boundary.permissions_boundary_arn());
    let (tags, owned) =
        ownership(cx.scope, role.tags().iter().map(|tag| (tag.key.as_str(), tag.value.as_str())));
    let trust = role.assume_role_policy_document.as_deref().map(policy::parse);
    let properties = Properties::from([
        ("path", json!(role.path)),
        ("trust", json!(trust)),
        ("attached", json!(attached)),
        ("boundary", json!(boundary)),
        ("tags", tags),
    ]);
    Ok(Some(Live { id: role.role_name.clone(), properties, outputs: outputs(Some(&role)), owned }))
}

/// Everything on a role goes before it: aws-facts, IAM. Its policies are deleted as such.
pub(super) async fn delete(cx: &Cx<'_>, live: &Live) -> Result<(), Error> {
    let name = &live.id;
    detach_all(cx, name, live).await?;
    cx.call(|| cx.aws.iam.delete_role().role_name(name).send()).await.or_absent("NoSuchEntity")?;
    Ok(())
}
