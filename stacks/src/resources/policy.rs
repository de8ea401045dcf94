//! The one inline policy of a role: exactly what its handler's code does. Apart from the role, since it names the API,
//! and the role should not wait for that one.

use async_trait::async_trait;
use chat_functions::contract::Handler;
use futures_util::future::try_join_all;
use serde_json::Value;

use super::{api, next_page, role};
use crate::address::{Address, Kind};
use crate::aws::Identity;
use crate::call::{Cx, OrAbsent};
use crate::error::Error;
use crate::names::Scope;
use crate::observe::Found;
use crate::policy::{self, Statement};
use crate::resource::{Desired, Live, Outputs, Properties, Resource, Values};

/// The name of the policy in its role.
pub(crate) const NAME: &str = "chatctl";

#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) scope: Scope,
    pub(crate) handler: Handler,
    /// Rights whose ARNs are known beforehand.
    pub(crate) statements: Vec<Statement>,
    /// Where the identity of the deploying principal places the API.
    pub(crate) identity: Identity,
}

impl Policy {
    pub(crate) fn document(&self, outputs: &Outputs) -> Option<Value> {
        let mut statements = self.statements.clone();
        if self.handler.posts() {
            let api = api::address(&self.scope);
            let arn = outputs.get(&api, "id").map(|id| api::execution_arn(&self.identity, id));
            statements.push(Statement {
                sid: "Post",
                actions: vec!["execute-api:ManageConnections".to_owned()],
                resources: arn.map(|arn| vec![format!("{arn}/{}/POST/@connections/*", self.scope.stage)]),
            });
        }
        policy::document(&statements)
    }
}

/// What was added to a role by others is observed beside ours, and so deleted like anything that is not declared.
fn address(part: &str, policy: &str) -> Address {
    let name = if policy == NAME { part.to_owned() } else { format!("{part}/{policy}") };
    Address::new(Kind::Policy, name)
}

pub(crate) fn address_of(handler: Handler) -> Address {
    address(handler.name(), NAME)
}

#[async_trait]
impl Resource for Policy {
    fn address(&self) -> Address {
        address_of(self.handler)
    }

    fn needs(&self) -> Vec<Address> {
        let mut needs = vec![role::address(self.handler.name())];
        if self.handler.posts() {
            needs.push(api::address(&self.scope));
        }
        needs
    }

    fn desired(&self, outputs: &Outputs) -> Desired {
        Desired::new().with_later("document", self.document(outputs))
    }

    async fn converge(&self, cx: &Cx<'_>, live: Option<&Live>) -> Result<Values, Error> {
        if !cx.drifted(self, live)?.is_empty() {
            let document = self.document(&cx.outputs).unwrap_or_default().to_string();
            let role = self.scope.function(self.handler);
            cx.call(|| {
                cx.aws
                    .iam
                    .put_role_policy()
                    .role_name(&role)
                    .policy_name(NAME)
                    .policy_document(&document)
                    .send()
            })
            .await?;
        }
        Ok(Values::new())
    }
}

pub(super) async fn observe(cx: &Cx<'_>, part: &str) -> Result<Found, Error> {
    let role = cx.scope.named(part);
    let observed = list(cx, &role).await?.into_iter().map(|name| {
        let role = role.clone();
        async move {
            let answer = cx
                .call(|| cx.aws.iam.get_role_policy().role_name(&role).policy_name(&name).send())
                .await
                .or_absent("NoSuchEntity")?;
            Ok::<_, Error>(answer.map(|answer| {
                let properties = Properties::from([("document", policy::parse(&answer.policy_document))]);
                let outputs = Values::from([("role", role.clone()), ("policy", name.clone())]);
                let live = Live { id: format!("{role}/{name}"), properties, outputs, owned: true };
                (address(part, &name), live)
            }))
        }
    });
    Ok(try_join_all(observed).await?.into_iter().flatten().collect())
}

async fn list(cx: &Cx<'_>, role: &str) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    let mut marker = None;
    loop {
        let page = cx
            .call(|| cx.aws.iam.list_role_policies().role_name(role).set_marker(marker.clone()).send())
            .await
            .or_absent("NoSuchEntity")?;
        let Some(page) = page else { return Ok(names) };
        names.extend(page.policy_names);
        marker = next_page(page.marker).filter(|_| page.is_truncated);
        if marker.is_none() {
            return Ok(names);
        }
    }
}

pub(super) async fn delete(cx: &Cx<'_>, live: &Live) -> Result<(), Error> {
    let of = |name: &str| live.outputs.get(name).cloned().unwrap_or_default();
    let (role, policy) = (of("role"), of("policy"));
    cx.call(|| cx.aws.iam.delete_role_policy().role_name(&role).policy_name(&policy).send())
        .await
        .or_absent("NoSuchEntity")?;
    Ok(())
}
