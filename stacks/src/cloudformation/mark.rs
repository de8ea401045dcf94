//! The tag that says that a stage belongs to CloudFormation. Templates carry it; a stage that is handed over is given it
//! by hand, since an import changes nothing.

use std::collections::HashMap;

use futures_util::future::try_join_all;

use crate::address::{Address, Kind};
use crate::call::Cx;
use crate::error::Error;
use crate::names::{ENGINE, ENGINE_TAG};
use crate::observe::Observed;
use crate::resource::Live;

/// Sets the tag on everything of the stage that has tags, or takes it away.
pub(super) async fn set(cx: &Cx<'_>, observed: &Observed, on: bool) -> Result<(), Error> {
    let owned = observed.iter().filter(|(_, live)| live.owned);
    try_join_all(owned.map(|(address, live)| one(cx, address, live, on))).await?;
    Ok(())
}

async fn one(cx: &Cx<'_>, address: &Address, live: &Live, on: bool) -> Result<(), Error> {
    let arn = || live.outputs.get("arn").map_or("", String::as_str);
    let map = || HashMap::from([(ENGINE_TAG.to_owned(), ENGINE.to_owned())]);
    let aws = cx.aws;
    match (address.kind, on) {
        (Kind::Table, true) => {
            let tag = aws_sdk_dynamodb::types::Tag::builder().key(ENGINE_TAG).value(ENGINE).build();
            let tag = tag.map_err(|error| Error::bug(error.to_string()))?;
            cx.call(|| aws.dynamodb.tag_resource().resource_arn(arn()).tags(tag.clone()).send()).await?;
        }
        (Kind::Table, false) => {
            cx.call(|| aws.dynamodb.untag_resource().resource_arn(arn()).tag_keys(ENGINE_TAG).send()).await?;
        }
        (Kind::LogGroup, true) => {
            cx.call(|| aws.logs.tag_resource().resource_arn(arn()).set_tags(Some(map())).send()).await?;
        }
        (Kind::LogGroup, false) => {
            cx.call(|| aws.logs.untag_resource().resource_arn(arn()).tag_keys(ENGINE_TAG).send()).await?;
        }
        (Kind::Role, true) => {
            let tag = aws_sdk_iam::types::Tag::builder().key(ENGINE_TAG).value(ENGINE).build();
            let tag = tag.map_err(|error| Error::bug(error.to_string()))?;
            cx.call(|| aws.iam.tag_role().role_name(&live.id).tags(tag.clone()).send()).await?;
        }
        (Kind::Role, false) => {
            cx.call(|| aws.iam.untag_role().role_name(&live.id).tag_keys(ENGINE_TAG).send()).await?;
        }
        (Kind::Function, true) => {
            cx.call(|| aws.lambda.tag_resource().resource(arn()).set_tags(Some(map())).send()).await?;
        }
        (Kind::Function, false) => {
            cx.call(|| aws.lambda.untag_resource().resource(arn()).tag_keys(ENGINE_TAG).send()).await?;
        }
        (Kind::Api | Kind::Stage, _) => {
            let identity = aws.identity().await?;
            let api = live.outputs.get("api").unwrap_or(&live.id);
            let below =
                if address.kind == Kind::Stage { format!("/stages/{}", live.id) } else { String::new() };
            let arn =
                format!("arn:{}:apigateway:{}::/apis/{api}{below}", identity.partition, identity.region);
            if on {
                cx.gateway(|| aws.apigateway.tag_resource().resource_arn(&arn).set_tags(Some(map())).send())
                    .await?;
            } else {
                cx.gateway(|| aws.apigateway.untag_resource().resource_arn(&arn).tag_keys(ENGINE_TAG).send())
                    .await?;
            }
        }
        _ => {}
    }
    Ok(())
}
