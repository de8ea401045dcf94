//! What other people do to a stage behind the back of its deployer: every kind of resource that can be changed from
//! outside is changed, and something that nobody declared is put beside it.

use std::collections::HashMap;

use aws_sdk_apigatewayv2::types::{AccessLogSettings, AuthorizerType, IntegrationType, RouteSettings};

use crate::account::Account;

const ELSEWHERE: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
const STRAY_POLICY: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}"#;
const STRAY: &str = "stray";

/// Takes the result of a call that must work.
macro_rules! done {
    ($call:expr) => {
        $call.send().await.unwrap_or_else(|why| panic!("{}: {why:?}", stringify!($call)))
    };
}

/// Changes the stage `prefix` (`chat-dev`) in all the ways that a deploy can mend.
pub async fn vandalise(account: &Account, prefix: &str) {
    data(account, prefix).await;
    roles(account, prefix).await;
    functions(account, prefix).await;
    gateway(account, prefix).await;
}

fn ours() -> [String; 2] {
    ["chatctl:app".to_owned(), "chatctl:stage".to_owned()]
}

async fn data(account: &Account, prefix: &str) {
    let described = done!(account.dynamodb.describe_table().table_name(prefix));
    let arn = described.table.and_then(|table| table.table_arn).unwrap_or_default();
    done!(account.dynamodb.untag_resource().resource_arn(arn).set_tag_keys(Some(ours().to_vec())));

    let group = format!("/aws/lambda/{prefix}-connect");
    done!(account.logs.put_retention_policy().log_group_name(&group).retention_in_days(1));
    let described = done!(account.logs.describe_log_groups().log_group_name_prefix(&group));
    let arn = described.log_groups().first().and_then(|group| group.arn.clone()).unwrap_or_default();
    let arn = arn.trim_end_matches(":*");
    done!(account.logs.untag_resource().resource_arn(arn).set_tag_keys(Some(ours().to_vec())));
}

async fn roles(account: &Account, prefix: &str) {
    let (connect, disconnect) = (format!("{prefix}-connect"), format!("{prefix}-disconnect"));
    done!(account.iam.update_assume_role_policy().role_name(&connect).policy_document(ELSEWHERE));
    done!(account.iam.put_role_policy().role_name(&connect).policy_name(STRAY).policy_document(STRAY_POLICY));
    done!(account.iam.untag_role().role_name(&disconnect).set_tag_keys(Some(ours().to_vec())));
    let managed = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole";
    done!(account.iam.attach_role_policy().role_name(&disconnect).policy_arn(managed));
    let bounded = format!("{prefix}-on_message");
    done!(account.iam.put_role_permissions_boundary().role_name(bounded).permissions_boundary(managed));
}

async fn functions(account: &Account, prefix: &str) {
    let name = format!("{prefix}-connect");
    let found = done!(account.lambda.get_function().function_name(&name));
    let arn = found.configuration.and_then(|function| function.function_arn).unwrap_or_default();
    done!(account.lambda.untag_resource().resource(arn).set_tag_keys(Some(ours().to_vec())));
    done!(
        account
            .lambda
            .put_function_concurrency()
            .function_name(format!("{prefix}-disconnect"))
            .reserved_concurrent_executions(1)
    );
    // On another one: what is not ours is taken over, and cleaned up by the deploy after that.
    done!(
        account
            .lambda
            .add_permission()
            .function_name(format!("{prefix}-on_message"))
            .qualifier("live")
            .statement_id("chatctl-stray")
            .action("lambda:InvokeFunction")
            .principal("apigateway.amazonaws.com")
    );
}

async fn gateway(account: &Account, prefix: &str) {
    let client = &account.apigateway;
    let apis = done!(client.get_apis());
    let api = apis.items().iter().find(|api| api.name() == Some(prefix)).expect("the stage has an API");
    let id = api.api_id().unwrap_or_default();
    let stage = prefix.rsplit('-').next().unwrap_or_default();

    let routes = done!(client.get_routes().api_id(id));
    let route = |key: &str| {
        let found = routes.items().iter().find(|route| route.route_key() == Some(key));
        found.and_then(|route| route.route_id()).unwrap_or_else(|| panic!("no route {key}"))
    };
    let integrations = done!(client.get_integrations().api_id(id));
    let ping = integrations.items().iter().find(|item| item.description() == Some("ping"));
    let ping = ping.and_then(|item| item.integration_id()).expect("ping has an integration");
    let authorizers = done!(client.get_authorizers().api_id(id));
    let authorizer = authorizers.items().first().and_then(|item| item.authorizer_id()).unwrap_or_default();
    let uri = authorizers.items().first().and_then(|item| item.authorizer_uri()).unwrap_or_default();
    let responses = done!(client.get_integration_responses().api_id(id).integration_id(ping));
    let response = responses.items().first().and_then(|item| item.integration_response_id());

    // Changed.
    let templates = || Some(HashMap::from([("$default".to_owned(), r#"{"statusCode":500}"#.to_owned())]));
    done!(client.update_api().api_id(id).route_selection_expression("$request.body.other"));
    done!(
        client.update_route().api_id(id).route_id(route("$default")).target(format!("integrations/{ping}"))
    );
    done!(
        client
            .update_integration()
            .api_id(id)
            .integration_id(ping)
            .integration_type(IntegrationType::Mock)
            .set_request_templates(templates())
    );
    done!(
        client
            .update_integration_response()
            .api_id(id)
            .integration_id(ping)
            .integration_response_id(response.unwrap_or_default())
            .set_response_templates(templates())
    );
    done!(
        client
            .update_authorizer()
            .api_id(id)
            .authorizer_id(authorizer)
            .authorizer_type(AuthorizerType::Request)
            .identity_source("route.request.header.Other")
    );
    let slow = RouteSettings::builder().throttling_rate_limit(1.0).throttling_burst_limit(1).build();
    let log = AccessLogSettings::builder()
        .destination_arn(format!("arn:aws:logs:us-east-1:000000000000:log-group:{STRAY}"))
        .format("$context.requestId")
        .build();
    done!(
        client
            .update_stage()
            .api_id(id)
            .stage_name(stage)
            .route_settings("$default", slow)
            .access_log_settings(log)
    );
    let arn = format!("arn:aws:apigateway:us-east-1::/apis/{id}/stages/{stage}");
    done!(client.untag_resource().resource_arn(arn).set_tag_keys(Some(ours().to_vec())));

    // Put beside it.
    done!(
        client
            .create_authorizer()
            .api_id(id)
            .name(STRAY)
            .authorizer_type(AuthorizerType::Request)
            .authorizer_uri(uri)
            .identity_source("route.request.querystring.user")
    );
    done!(client.create_integration().api_id(id).description(STRAY).integration_type(IntegrationType::Mock));
    done!(
        client
            .create_integration_response()
            .api_id(id)
            .integration_id(ping)
            .integration_response_key("/500/")
            .set_response_templates(templates())
    );
    done!(client.create_route().api_id(id).route_key(STRAY).target(format!("integrations/{ping}")));
    done!(
        client
            .create_route_response()
            .api_id(id)
            .route_id(route("$disconnect"))
            .route_response_key("$default")
    );
    // More than are kept to go back to.
    let mut deployment = String::new();
    for _ in 0..8 {
        deployment = done!(client.create_deployment().api_id(id)).deployment_id.unwrap_or_default();
    }
    done!(client.create_stage().api_id(id).stage_name(STRAY).deployment_id(deployment));
}
