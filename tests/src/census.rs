//! Everything in an account, counted by AWS's own clients without a look at names or tags: what nobody should have
//! left behind shows as one too many. And what an older edition of the stack might have left, put there on purpose.

use std::collections::BTreeMap;

use aws_sdk_apigatewayv2::types::IntegrationType;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_iam::types::Tag;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{Architecture, FunctionCode, FunctionVersion, Runtime};
use serde_json::Value;

use crate::account::config;

/// Names of everything that belongs to a stage have this in front.
const PREFIX: &str = "chat-local";
const LEDGER: &str = chat_stacks::ledger::NAME;
const TAGS: [(&str, &str); 2] = [("chatctl:app", "chat"), ("chatctl:stage", "local")];
const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":
    {"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
const ALLOW: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}"#;

/// Clients of the owner.
pub struct Census {
    apigateway: aws_sdk_apigatewayv2::Client,
    dynamodb: aws_sdk_dynamodb::Client,
    iam: aws_sdk_iam::Client,
    lambda: aws_sdk_lambda::Client,
    logs: aws_sdk_cloudwatchlogs::Client,
}

/// The answer of a call that a test needs.
macro_rules! sent {
    ($call:expr) => {
        $call.send().await.unwrap_or_else(|why| panic!("{}: {why:?}", stringify!($call)))
    };
}

impl Census {
    pub fn of(endpoint: &str) -> Self {
        let config = config(endpoint);
        Self {
            apigateway: aws_sdk_apigatewayv2::Client::new(&config),
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            iam: aws_sdk_iam::Client::new(&config),
            lambda: aws_sdk_lambda::Client::new(&config),
            logs: aws_sdk_cloudwatchlogs::Client::new(&config),
        }
    }

    /// Deletes the ledger, which outlives every stage.
    pub async fn forget_ledger(&self) {
        if sent!(self.dynamodb.list_tables()).table_names().iter().any(|name| name == LEDGER) {
            sent!(self.dynamodb.update_table().table_name(LEDGER).deletion_protection_enabled(false));
            sent!(self.dynamodb.delete_table().table_name(LEDGER));
        }
    }

    /// Lets the lock have been free since long ago: who comes right after somebody else looks twice.
    pub async fn age_lock(&self) {
        let update = self.dynamodb.update_item().table_name(LEDGER);
        let update = update.key("PK", AttributeValue::S("chat/local".to_owned()));
        let update = update.key("SK", AttributeValue::S("lock".to_owned()));
        let update = update.update_expression("SET released_ms = :then");
        sent!(update.expression_attribute_values(":then", AttributeValue::N("0".to_owned())));
    }

    /// How many there are of each kind, the ledger apart.
    pub async fn count(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        let mut add = |kind, count| *counts.entry(kind).or_default() += count;
        let tables = sent!(self.dynamodb.list_tables());
        add("tables", tables.table_names().iter().filter(|name| *name != LEDGER).count());
        add("log groups", sent!(self.logs.describe_log_groups()).log_groups().len());
        for role in sent!(self.iam.list_roles()).roles() {
            let name = role.role_name();
            add("roles", 1);
            add("inline policies", sent!(self.iam.list_role_policies().role_name(name)).policy_names().len());
            let attached = sent!(self.iam.list_attached_role_policies().role_name(name));
            add("attached policies", attached.attached_policies().len());
        }
        let versions = sent!(self.lambda.list_functions().function_version(FunctionVersion::All));
        for version in versions.functions() {
            let name = version.function_name().unwrap_or_default();
            add("versions", 1);
            if version.version() == Some("$LATEST") {
                add("functions", 1);
                add("aliases", sent!(self.lambda.list_aliases().function_name(name)).aliases().len());
                add("permissions", self.permissions(name).await);
            }
        }
        for api in sent!(self.apigateway.get_apis()).items() {
            let id = api.api_id().unwrap_or_default();
            add("APIs", 1);
            add("routes", sent!(self.apigateway.get_routes().api_id(id)).items().len());
            add("integrations", sent!(self.apigateway.get_integrations().api_id(id)).items().len());
            add("authorizers", sent!(self.apigateway.get_authorizers().api_id(id)).items().len());
            add("deployments", sent!(self.apigateway.get_deployments().api_id(id)).items().len());
            add("stages", sent!(self.apigateway.get_stages().api_id(id)).items().len());
        }
        counts
    }

    /// Statements of the resource policies of the function and its alias.
    async fn permissions(&self, function: &str) -> usize {
        let mut count = 0;
        for qualifier in [None, Some("live".to_owned())] {
            let policy = self.lambda.get_policy().function_name(function).set_qualifier(qualifier);
            // Without any statement there is no policy to get.
            let text = policy.send().await.ok().and_then(|answer| answer.policy).unwrap_or_default();
            let document: Value = serde_json::from_str(&text).unwrap_or_default();
            count += document["Statement"].as_array().map_or(0, Vec::len);
        }
        count
    }

    /// Puts beside a deployed stage what it no longer declares: a function with all that belongs to it, a route with its
    /// integration and permission, a policy that somebody added, and a deployment that was never served.
    pub async fn leave_remnants(&self) {
        let name = format!("{PREFIX}-old");
        let path = "/chatctl/chat/local/";
        let group = format!("/aws/lambda/{name}");
        let tags = || TAGS.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut role = self.iam.create_role().role_name(&name).path(path).assume_role_policy_document(TRUST);
        for (key, value) in TAGS {
            let tag = Tag::builder().key(key).value(value).build();
            role = role.tags(tag.unwrap_or_else(|why| panic!("{why}")));
        }
        let role = sent!(role);
        let arn = role.role().map_or("", |role| role.arn());
        for (role, policy) in [(name.as_str(), "chatctl"), (&format!("{PREFIX}-connect"), "added")] {
            let put = self.iam.put_role_policy().role_name(role).policy_name(policy);
            sent!(put.policy_document(ALLOW));
        }
        sent!(self.logs.create_log_group().log_group_name(&group).set_tags(Some(tags().into())));
        let code = chat_stacks::Artifact::pack(b"old", chat_stacks::Effort::Quick)
            .unwrap_or_else(|why| panic!("{why}"));
        sent!(
            self.lambda
                .create_function()
                .function_name(&name)
                .runtime(Runtime::Providedal2023)
                .handler("bootstrap")
                .architectures(Architecture::X8664)
                .role(arn)
                .code(FunctionCode::builder().zip_file(Blob::new(code.zip())).build())
                .publish(true)
                .set_tags(Some(tags().into()))
        );
        sent!(self.lambda.create_alias().function_name(&name).name("live").function_version("1"));
        sent!(
            self.lambda
                .add_permission()
                .function_name(format!("{PREFIX}-connect"))
                .qualifier("live")
                .statement_id("chatctl-route-old")
                .action("lambda:InvokeFunction")
                .principal("apigateway.amazonaws.com")
        );
        let apis = sent!(self.apigateway.get_apis());
        let api = apis.items().first().and_then(|api| api.api_id()).unwrap_or_default();
        let integration = self.apigateway.create_integration().api_id(api).description("old");
        let integration = sent!(integration.integration_type(IntegrationType::Mock));
        let target = format!("integrations/{}", integration.integration_id().unwrap_or_default());
        let route = sent!(self.apigateway.create_route().api_id(api).route_key("old").target(target));
        let response = self.apigateway.create_route_response().api_id(api).route_response_key("$default");
        sent!(response.route_id(route.route_id().unwrap_or_default()));
        sent!(self.apigateway.create_deployment().api_id(api).description("never served"));
    }
}
