//! A CloudWatch log group. Created before its function, whose role may not create groups: so nothing recreates it
//! after a destroy (aws-cdk#11549).

use async_trait::async_trait;
use aws_sdk_cloudwatchlogs::types::LogGroup as Described;
use chat_functions::contract::Handler;
use futures_util::future::try_join_all;
use serde_json::json;

use super::{next_page, ownership, require_owned, tag_map, tags_property};
use crate::address::{Address, Kind};
use crate::aws::Identity;
use crate::call::{Cx, OrAbsent};
use crate::error::Error;
use crate::names::Scope;
use crate::observe::Found;
use crate::policy::Statement;
use crate::resource::{Desired, Live, Outputs, Properties, Resource, Values};

#[derive(Clone, Debug)]
pub(crate) struct LogGroup {
    pub(crate) scope: Scope,
    pub(crate) handler: Handler,
    pub(crate) retention_days: u32,
}

impl LogGroup {
    /// Lets the handler's function write its logs there: streams and events, but no group.
    pub(crate) fn grant(&self, identity: &Identity) -> Statement {
        let Identity { partition, region, account, .. } = identity;
        let name = self.scope.log_group(self.handler);
        Statement {
            sid: "Logs",
            actions: vec!["logs:CreateLogStream".to_owned(), "logs:PutLogEvents".to_owned()],
            resources: Some(vec![format!("arn:{partition}:logs:{region}:{account}:log-group:{name}:*")]),
        }
    }
}

pub(crate) fn address(part: &str) -> Address {
    Address::new(Kind::LogGroup, part)
}

#[async_trait]
impl Resource for LogGroup {
    fn address(&self) -> Address {
        address(self.handler.name())
    }

    fn needs(&self) -> Vec<Address> {
        Vec::new()
    }

    fn desired(&self, _: &Outputs) -> Desired {
        Desired::new().with("retention_days", self.retention_days).with("tags", tags_property(&self.scope))
    }

    async fn converge(&self, cx: &Cx<'_>, live: Option<&Live>) -> Result<Values, Error> {
        let name = self.scope.log_group(self.handler);
        let mut drift = cx.drifted(self, live)?;
        let mut arn = live.and_then(|live| live.outputs.get("arn").cloned());
        if live.is_none() {
            let created = cx
                .call(|| {
                    cx.aws
                        .logs
                        .create_log_group()
                        .log_group_name(&name)
                        .set_tags(Some(tag_map(&self.scope)))
                        .send()
                })
                .await;
            match created {
                Ok(_) => drift = vec!["retention_days"],
                Err(failure) if failure.is("ResourceAlreadyExistsException") => {
                    let found = require_owned(cx, find(cx, &name).await?)?;
                    drift = cx.drifted(self, Some(&found))?;
                    arn = found.outputs.get("arn").cloned();
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        if drift.contains(&"retention_days") {
            let days = i32::try_from(self.retention_days).unwrap_or(i32::MAX);
            cx.call(|| {
                cx.aws.logs.put_retention_policy().log_group_name(&name).retention_in_days(days).send()
            })
            .await?;
        }
        if let (true, Some(arn)) = (drift.contains(&"tags"), &arn) {
            cx.call(|| {
                cx.aws.logs.tag_resource().resource_arn(arn).set_tags(Some(tag_map(&self.scope))).send()
            })
            .await?;
        }
        Ok(Values::from([("name", name)]))
    }
}

pub(super) async fn observe(cx: &Cx<'_>) -> Result<Found, Error> {
    let groups = list(cx, &format!("/aws/lambda/{}-", cx.scope.prefix())).await?;
    let observed = groups.into_iter().map(|group| async move {
        let live = observe_group(cx, group).await?;
        let part = live.id.strip_prefix("/aws/lambda/").and_then(|name| cx.scope.part(name));
        Ok::<_, Error>(part.map(address).map(|address| (address, live)))
    });
    Ok(try_join_all(observed).await?.into_iter().flatten().collect())
}

/// The group of exactly this name: DescribeLogGroups looks for prefixes.
async fn find(cx: &Cx<'_>, name: &str) -> Result<Option<Live>, Error> {
    let groups = list(cx, name).await?;
    match groups.into_iter().find(|group| group.log_group_name.as_deref() == Some(name)) {
        Some(group) => Ok(Some(observe_group(cx, group).await?)),
        None => Ok(None),
    }
}

async fn list(cx: &Cx<'_>, prefix: &str) -> Result<Vec<Described>, Error> {
    let mut groups = Vec::new();
    let mut token = None;
    loop {
        let page = cx
            .call(|| {
                cx.aws
                    .logs
                    .describe_log_groups()
                    .log_group_name_prefix(prefix)
                    .set_next_token(token.clone())
                    .send()
            })
            .await?;
        groups.extend(page.log_groups.unwrap_or_default());
        token = next_page(page.next_token);
        if token.is_none() {
            return Ok(groups);
        }
    }
}

async fn observe_group(cx: &Cx<'_>, group: Described) -> Result<Live, Error> {
    // Tag calls want the ARN without the trailing `:*` that describing it gives.
    let arn = group.arn.unwrap_or_default().trim_end_matches(":*").to_owned();
    let tags = cx
        .call(|| cx.aws.logs.list_tags_for_resource().resource_arn(&arn).send())
        .await
        .or_absent("ResourceNotFoundException")?
        .and_then(|answer| answer.tags)
        .unwrap_or_default();
    let (tags, owned) = ownership(cx.scope, tags.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let id = group.log_group_name.unwrap_or_default();
    let properties = Properties::from([("retention_days", json!(group.retention_in_days)), ("tags", tags)]);
    let outputs = Values::from([("arn", arn), ("name", id.clone())]);
    Ok(Live { id, properties, outputs, owned })
}

pub(super) async fn delete(cx: &Cx<'_>, live: &Live) -> Result<(), Error> {
    cx.call(|| cx.aws.logs.delete_log_group().log_group_name(&live.id).send())
        .await
        .or_absent("ResourceNotFoundException")?;
    Ok(())
}
