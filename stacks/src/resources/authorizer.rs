//! The REQUEST authorizer of `$connect`: who is this, before anything else happens.

use async_trait::async_trait;
use aws_sdk_apigatewayv2::types::{Authorizer as Described, AuthorizerType};
use chat_functions::contract::Handler;
use serde_json::json;

use super::undeclared::{UNDECLARED, Undeclared, some_text};
use super::{alias, api, next_page};
use crate::address::{Address, Kind};
use crate::aws::Identity;
use crate::call::{Cx, OrAbsent};
use crate::error::Error;
use crate::names::Scope;
use crate::observe::Found;
use crate::resource::{Desired, Live, Outputs, Properties, Resource, Values};

#[derive(Clone, Debug)]
pub(crate) struct Authorizer {
    pub(crate) scope: Scope,
    pub(crate) identity: Identity,
    pub(crate) name: &'static str,
    pub(crate) handler: Handler,
    /// What must be in the request for the function to be asked at all: `route.request.querystring.user`.
    pub(crate) identity_source: &'static str,
}

pub(crate) fn address(name: &str) -> Address {
    Address::new(Kind::Authorizer, name)
}

impl Authorizer {
    pub(crate) fn uri(&self) -> String {
        alias::invocation_uri(&self.identity, &self.scope, self.handler)
    }
}

#[async_trait]
impl Resource for Authorizer {
    fn address(&self) -> Address {
        address(self.name)
    }

    fn needs(&self) -> Vec<Address> {
        // Not the alias: its ARN is known beforehand, and API Gateway does not look for it.
        vec![api::address(&self.scope)]
    }

    fn desired(&self, _: &Outputs) -> Desired {
        Desired::new()
            .with("type", "REQUEST")
            .with("uri", self.uri())
            .with("identity_source", json!([self.identity_source]))
            .with(UNDECLARED, Undeclared::none())
    }

    async fn converge(&self, cx: &Cx<'_>, live: Option<&Live>) -> Result<Values, Error> {
        let api = cx.output(&api::address(&self.scope), "id")?;
        let mut live = live.cloned();
        if live.is_none() {
            let created = cx
                .gateway(|| {
                    cx.aws
                        .apigateway
                        .create_authorizer()
                        .api_id(api)
                        .name(self.name)
                        .authorizer_type(AuthorizerType::Request)
                        .authorizer_uri(self.uri())
                        .identity_source(self.identity_source)
                        .send()
                })
                .await;
            match created {
                Ok(answer) => return Ok(outputs(api, answer.authorizer_id)),
                // "Authorizer name must be unique", aws-cdk#13711: the answer of an earlier attempt was lost. API
                // Gateway says so with either code.
                Err(failure) if failure.is("ConflictException") || failure.is("BadRequestException") => {
                    let found = observe(cx, api).await?.into_iter().find(|(at, _)| *at == self.address());
                    live = Some(found.ok_or(failure)?.1);
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        let Some(live) = live else { return Err(Error::bug("no authorizer to update")) };
        let drift = cx.drifted(self, Some(&live))?;
        if !drift.is_empty() {
            // An empty one takes it away.
            let credentials = drift.contains(&UNDECLARED).then(String::new);
            cx.gateway(|| {
                cx.aws
                    .apigateway
                    .update_authorizer()
                    .api_id(api)
                    .authorizer_id(&live.id)
                    .authorizer_type(AuthorizerType::Request)
                    .authorizer_uri(self.uri())
                    .identity_source(self.identity_source)
                    .set_authorizer_credentials_arn(credentials.clone())
                    .send()
            })
            .await?;
        }
        Ok(live.outputs)
    }
}

fn outputs(api: &str, id: Option<String>) -> Values {
    Values::from([("api", api.to_owned()), ("id", id.unwrap_or_default())])
}

pub(super) async fn observe(cx: &Cx<'_>, api: &str) -> Result<Found, Error> {
    let mut items: Vec<Described> = Vec::new();
    let mut token = None;
    loop {
        let page = cx
            .gateway(|| cx.aws.apigateway.get_authorizers().api_id(api).set_next_token(token.clone()).send())
            .await
            .or_absent("NotFoundException")?;
        let Some(page) = page else { break };
        items.extend(page.items.unwrap_or_default());
        token = next_page(page.next_token);
        if token.is_none() {
            break;
        }
    }
    let live = items.into_iter().map(|item| {
        let undeclared =
            Undeclared::default().with("credentials", some_text(item.authorizer_credentials_arn()));
        let properties = Properties::from([
            (UNDECLARED, undeclared.property()),
            ("type", json!(item.authorizer_type.as_ref().map(AuthorizerType::as_str))),
            ("uri", json!(item.authorizer_uri)),
            ("identity_source", json!(item.identity_source)),
        ]);
        let id = item.authorizer_id.clone().unwrap_or_default();
        let outputs = outputs(api, item.authorizer_id);
        (address(item.name.as_deref().unwrap_or_default()), Live { id, properties, outputs, owned: true })
    });
    Ok(live.collect())
}

pub(super) async fn delete(cx: &Cx<'_>, live: &Live) -> Result<(), Error> {
    let api = api::id_of(live);
    cx.gateway(|| cx.aws.apigateway.delete_authorizer().api_id(api).authorizer_id(&live.id).send())
        .await
        .or_absent("NotFoundException")?;
    Ok(())
}
