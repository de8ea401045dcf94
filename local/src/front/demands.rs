//! What a request needs beyond the permission for its operation: to tag, if it sets tags on what it creates, and to
//! pass a role on, if it names one that a service will act in.

use bytes::Bytes;
use serde_json::Value;

use super::serve::Work;
use crate::call::Principal;
use crate::context::Context;
use crate::dynamodb::Asked;
use crate::error::AwsError;
use crate::iam::Key;

/// Refuses a request that would do more than its caller may. The operation itself was authorised before.
///
/// Sources: the "dependent actions" of <https://docs.aws.amazon.com/service-authorization/latest/reference/>; for API
/// Gateway the messages that users get: <https://github.com/aws-amplify/amplify-cli/issues/12316>.
pub(super) fn authorize(cx: &Context, who: &Principal, work: &Work, body: &Bytes) -> Result<(), AwsError> {
    let iam = &cx.iam;
    match work {
        Work::DynamoDb("CreateTable", targets) if has_tags(body, "Tags") => {
            let no_items = |_: &str| None;
            let asked = Asked { region: &cx.region, account: &cx.account, body, hash_key: &no_items };
            targets.authorize(iam, who, "TagResource", &asked)
        }
        Work::Logs(operation @ "CreateLogGroup", input) if !is_empty(&input["tags"]) => {
            iam.authorize(who, "logs:TagResource", &cx.logs.resource(operation, input))
        }
        Work::Iam(operation @ ("CreateRole" | "CreateUser"), form) if !form.tags()?.is_empty() => {
            let action = if *operation == "CreateRole" { "iam:TagRole" } else { "iam:TagUser" };
            iam.authorize(who, action, &iam.resource(operation, form))
        }
        Work::Lambda(route)
            if matches!(route.operation, "CreateFunction" | "UpdateFunctionConfiguration") =>
        {
            let input: Value = serde_json::from_slice(body).unwrap_or_default();
            if !is_empty(&input["Tags"]) {
                iam.authorize(who, "lambda:TagResource", &route.resource)?;
            }
            match input["Role"].as_str() {
                Some(role) => iam.authorize_with(who, "iam:PassRole", role, &|key| {
                    // Whom functions are run by.
                    let service = || Key::Values(vec!["lambda.amazonaws.com".to_owned()]);
                    (key == "iam:passedtoservice").then(service)
                }),
                None => Ok(()),
            }
        }
        Work::ApiGateway(route)
            if matches!(route.operation, "CreateApi" | "CreateStage") && has_tags(body, "tags") =>
        {
            iam.authorize(who, "apigateway:TagResource", &route.resource)
        }
        _ => Ok(()),
    }
}

/// A body that cannot be read is refused by its service.
fn has_tags(body: &Bytes, member: &str) -> bool {
    let input: Value = serde_json::from_slice(body).unwrap_or_default();
    !is_empty(&input[member])
}

fn is_empty(tags: &Value) -> bool {
    match tags {
        Value::Object(tags) => tags.is_empty(),
        Value::Array(tags) => tags.is_empty(),
        _ => true,
    }
}
