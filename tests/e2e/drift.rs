//! What people change by hand on what is ours is seen by the next plan, named, and taken back by the next deploy.

use aws_sdk_apigatewayv2::types::{AccessLogSettings, AuthorizerType, IntegrationType, RouteSettings};
use aws_sdk_dynamodb::types::{OnDemandThroughput, TimeToLiveSpecification};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{EphemeralStorage, LoggingConfig, TracingConfig, TracingMode};
use chat_local::{Cloud, CloudConfig};
use chat_stacks::{Action, Plan, Refusal};
use chat_tests::{Census, Edition, Rehearsal, config};

const ALLOW: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}"#;
const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":
    {"Service":["lambda.amazonaws.com","ec2.amazonaws.com"]},"Action":"sts:AssumeRole"}]}"#;
const MANAGED: &str = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole";

/// The console, so to speak.
struct Hand {
    apigateway: aws_sdk_apigatewayv2::Client,
    dynamodb: aws_sdk_dynamodb::Client,
    iam: aws_sdk_iam::Client,
    lambda: aws_sdk_lambda::Client,
    logs: aws_sdk_cloudwatchlogs::Client,
    api: String,
}

struct Deployed {
    cloud: Cloud,
    rehearsal: Rehearsal,
    edition: Edition,
    hand: Hand,
}

impl Deployed {
    async fn start() -> Self {
        let cloud = Cloud::start(CloudConfig::in_memory()).await.expect("the cloud starts");
        let endpoint = cloud.endpoint();
        let rehearsal = Rehearsal::at(&endpoint).await;
        let edition = Edition::new("auth: { mode: open }", "one");
        rehearsal.bring_to(&edition).await.expect("the first deploy works");
        let config = config(&endpoint);
        let apigateway = aws_sdk_apigatewayv2::Client::new(&config);
        let apis = apigateway.get_apis().send().await.expect("the APIs");
        let api = apis.items()[0].api_id().expect("an id").to_owned();
        let hand = Hand {
            apigateway,
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            iam: aws_sdk_iam::Client::new(&config),
            lambda: aws_sdk_lambda::Client::new(&config),
            logs: aws_sdk_cloudwatchlogs::Client::new(&config),
            api,
        };
        Self { cloud, rehearsal, edition, hand }
    }

    /// The plan must name each of `drift`, as `address property` or `address action`, and a deploy must take all back.
    async fn expect(&self, drift: &[&str]) {
        let (plan, _) = self.rehearsal.look(&self.edition).await.expect("the account can be observed");
        let planned = said(&plan);
        let missed: Vec<&&str> =
            drift.iter().filter(|one| !planned.iter().any(|said| said == *one)).collect();
        assert!(missed.is_empty(), "not seen: {missed:?}\nin the plan: {planned:#?}");
        self.rehearsal.bring_to(&self.edition).await.expect("the deploy repairs");
        let (plan, _) = self.rehearsal.look(&self.edition).await.expect("the account can be observed");
        assert!(plan.is_empty(), "not repaired: {:#?}", said(&plan));
    }

    async fn stop(self) {
        self.cloud.shutdown().await;
    }
}

fn said(plan: &Plan) -> Vec<String> {
    let of_step = |step: &chat_stacks::Step| {
        let whole =
            (step.action != Action::Update).then(|| format!("{} {}", step.resource, step.action.name()));
        let changes = step.changes.iter().map(|change| format!("{} {}", step.resource, change.property));
        changes.chain(whole).collect::<Vec<_>>()
    };
    plan.steps.iter().flat_map(of_step).collect()
}

/// A change by hand that the cloud must take.
macro_rules! by_hand {
    ($call:expr) => {
        $call.send().await.unwrap_or_else(|why| panic!("{}: {why:?}", stringify!($call)))
    };
}

#[tokio::test]
async fn roles_and_their_policies() {
    let deployed = Deployed::start().await;
    let iam = &deployed.hand.iam;
    by_hand!(iam.attach_role_policy().role_name("chat-local-connect").policy_arn(MANAGED));
    let bound = iam.put_role_permissions_boundary().role_name("chat-local-disconnect");
    by_hand!(bound.permissions_boundary(MANAGED));
    let put = iam.put_role_policy().role_name("chat-local-connect").policy_name("more");
    by_hand!(put.policy_document(ALLOW));
    let put = iam.put_role_policy().role_name("chat-local-disconnect").policy_name("chatctl");
    by_hand!(put.policy_document(ALLOW));
    by_hand!(iam.delete_role_policy().role_name("chat-local-on_message").policy_name("chatctl"));
    by_hand!(iam.update_assume_role_policy().role_name("chat-local-on_message").policy_document(TRUST));
    deployed
        .expect(&[
            "role/connect attached",
            "role/disconnect boundary",
            "policy/connect/more delete",
            "policy/disconnect document",
            "policy/on_message create",
            "role/on_message trust",
        ])
        .await;
    let attached = by_hand!(iam.list_attached_role_policies().role_name("chat-local-connect"));
    assert!(attached.attached_policies().is_empty(), "{attached:?}");
    deployed.stop().await;
}

#[tokio::test]
async fn functions_aliases_and_permissions() {
    let deployed = Deployed::start().await;
    let lambda = &deployed.hand.lambda;
    let tracing = TracingConfig::builder().mode(TracingMode::Active).build();
    let storage = EphemeralStorage::builder().size(1024).build().expect("a size");
    let logging = LoggingConfig::builder().log_group("/elsewhere").build();
    let configure = || lambda.update_function_configuration().function_name("chat-local-connect");
    by_hand!(configure().memory_size(1024).timeout(3));
    by_hand!(configure().tracing_config(tracing).ephemeral_storage(storage).logging_config(logging));
    let reserve = lambda.put_function_concurrency().function_name("chat-local-disconnect");
    by_hand!(reserve.reserved_concurrent_executions(0));
    let code = chat_stacks::Artifact::pack(b"by hand", chat_stacks::Effort::Quick).expect("a zip");
    let upload = lambda.update_function_code().function_name("chat-local-on_message").publish(true);
    by_hand!(upload.zip_file(Blob::new(code.zip())));
    let alias = lambda.update_alias().function_name("chat-local-on_message").name("live");
    by_hand!(alias.function_version("2"));
    let remove = || lambda.remove_permission().function_name("chat-local-connect").qualifier("live");
    by_hand!(remove().statement_id("chatctl-route-connect"));
    by_hand!(remove().statement_id("chatctl-authorizer-connect"));
    // The same statement for anybody's API.
    let add = lambda.add_permission().function_name("chat-local-connect").qualifier("live");
    let add = add.statement_id("chatctl-authorizer-connect").action("lambda:InvokeFunction");
    by_hand!(add.principal("apigateway.amazonaws.com"));
    deployed
        .expect(&[
            "function/connect memory_mb",
            "function/connect timeout_s",
            "function/connect undeclared",
            "function/disconnect reserved_concurrency",
            "function/on_message code_sha256",
            "permission/connect/route-connect create",
            "permission/connect/authorizer-connect source_arn",
        ])
        .await;
    let found = by_hand!(lambda.get_function_configuration().function_name("chat-local-connect"));
    assert_eq!(found.tracing_config().and_then(|tracing| tracing.mode()), Some(&TracingMode::PassThrough));
    assert_eq!(found.ephemeral_storage().map(|storage| storage.size()), Some(512));
    by_hand!(lambda.delete_alias().function_name("chat-local-disconnect").name("live"));
    deployed.expect(&["alias/disconnect create", "permission/disconnect/route-disconnect create"]).await;
    deployed.stop().await;
}

#[tokio::test]
async fn tables_and_log_groups() {
    let deployed = Deployed::start().await;
    let Hand { dynamodb, logs, .. } = &deployed.hand;
    let protect = dynamodb.update_table().table_name("chat-local").deletion_protection_enabled(true);
    by_hand!(protect);
    let limits = OnDemandThroughput::builder().max_read_request_units(5).max_write_request_units(5).build();
    by_hand!(dynamodb.update_table().table_name("chat-local").on_demand_throughput(limits));
    let off = TimeToLiveSpecification::builder().enabled(false).attribute_name("x").build();
    let ttl = dynamodb.update_time_to_live().table_name("chat-local");
    by_hand!(ttl.time_to_live_specification(off.expect("a specification")));
    by_hand!(logs.delete_retention_policy().log_group_name("/aws/lambda/chat-local-connect"));
    by_hand!(logs.delete_log_group().log_group_name("/aws/lambda/chat-local-disconnect"));
    deployed
        .expect(&[
            "table/chat deletion_protection",
            "table/chat undeclared",
            "table/chat ttl",
            "log-group/connect retention_days",
            "log-group/disconnect create",
        ])
        .await;
    deployed.stop().await;
}

#[tokio::test]
async fn the_api_and_its_parts() {
    let deployed = Deployed::start().await;
    let Hand { apigateway, api, .. } = &deployed.hand;
    by_hand!(apigateway.update_api().api_id(api).name("renamed").disable_execute_api_endpoint(true));
    let authorizers = by_hand!(apigateway.get_authorizers().api_id(api));
    let authorizer = authorizers.items()[0].authorizer_id().expect("an id");
    let update = apigateway.update_authorizer().api_id(api).authorizer_id(authorizer);
    let update =
        update.authorizer_type(AuthorizerType::Request).identity_source("route.request.header.Other");
    by_hand!(update.authorizer_credentials_arn("arn:aws:iam::123456789012:role/other"));
    let integrations = by_hand!(apigateway.get_integrations().api_id(api));
    let integration = |name: &str| {
        let found = integrations.items().iter().find(|item| item.description() == Some(name));
        found.and_then(|item| item.integration_id()).expect("an id").to_owned()
    };
    let update = apigateway.update_integration().api_id(api).integration_id(integration("on_message"));
    by_hand!(update.integration_type(IntegrationType::AwsProxy).timeout_in_millis(50));
    let mock = integration("ping");
    let responses = by_hand!(apigateway.get_integration_responses().api_id(api).integration_id(&mock));
    let response = responses.items()[0].integration_response_id().expect("an id");
    let update = apigateway.update_integration_response().api_id(api).integration_id(&mock);
    by_hand!(update.integration_response_id(response).response_templates("$default", "{}"));
    let routes = by_hand!(apigateway.get_routes().api_id(api));
    let route = |key: &str| {
        let found = routes.items().iter().find(|item| item.route_key() == Some(key));
        found.and_then(|item| item.route_id()).expect("an id").to_owned()
    };
    let update = apigateway.update_route().api_id(api).route_id(route("$default"));
    by_hand!(update.target(format!("integrations/{mock}")).api_key_required(true));
    by_hand!(apigateway.delete_route().api_id(api).route_id(route("$disconnect")));
    let add = apigateway.create_route().api_id(api).route_key("shout");
    by_hand!(add.target(format!("integrations/{mock}")));
    by_hand!(apigateway.create_integration().api_id(api).integration_type(IntegrationType::Mock));
    deployed
        .expect(&[
            "api/chat name",
            "api/chat undeclared",
            "authorizer/connect identity_source",
            "authorizer/connect undeclared",
            "integration/on_message undeclared",
            "integration-response/ping templates",
            "route/$default undeclared",
            "route/$disconnect create",
            "route/shout delete",
            "route-target/$default integration",
            "route-target/$disconnect create",
            "route-target/shout delete",
        ])
        .await;
    assert_eq!(by_hand!(apigateway.get_integrations().api_id(api)).items().len(), 4);
    deployed.stop().await;
}

#[tokio::test]
async fn the_stage_and_what_it_serves() {
    let deployed = Deployed::start().await;
    let Hand { apigateway, api, .. } = &deployed.hand;
    let log = AccessLogSettings::builder()
        .destination_arn("arn:aws:logs:us-east-1:123456789012:log-group:elsewhere")
        .format("$context.requestId");
    let slow = RouteSettings::builder().throttling_burst_limit(1).throttling_rate_limit(1.0).build();
    let loud = RouteSettings::builder().data_trace_enabled(true).detailed_metrics_enabled(true).build();
    let update = || apigateway.update_stage().api_id(api).stage_name("local");
    by_hand!(update().stage_variables("mode", "odd").access_log_settings(log.build()));
    by_hand!(update().route_settings("$default", slow).default_route_settings(loud));
    // Somebody deploys something else, and sends clients there.
    let other = by_hand!(apigateway.create_deployment().api_id(api).description("by hand"));
    by_hand!(update().deployment_id(other.deployment_id().expect("an id")));
    deployed.expect(&["stage/local undeclared", "stage/local deployment", "deployment/local replace"]).await;
    let stages = by_hand!(apigateway.get_stages().api_id(api));
    let stage = &stages.items()[0];
    assert!(stage.stage_variables().is_none_or(|variables| variables.is_empty()), "{stage:?}");
    assert!(stage.access_log_settings().is_none(), "{stage:?}");
    assert!(stage.route_settings().is_none_or(|routes| routes.is_empty()), "{stage:?}");
    assert_ne!(stage.deployment_id(), other.deployment_id());
    deployed.stop().await;
}

#[tokio::test]
async fn an_api_that_lost_its_tags_is_refused_and_not_made_a_second_time() {
    let deployed = Deployed::start().await;
    let Hand { apigateway, api, .. } = &deployed.hand;
    let arn = format!("arn:aws:apigateway:us-east-1::/apis/{api}");
    by_hand!(apigateway.untag_resource().resource_arn(arn).tag_keys("chatctl:stage"));
    let refused = deployed.rehearsal.bring_to(&deployed.edition).await;
    let Err(chat_stacks::Error::Refused(refusals)) = &refused else { panic!("{refused:?}") };
    let named: Vec<String> = refusals
        .iter()
        .map(|refusal| match refusal {
            Refusal::NotOurs { resource, .. } => resource.to_string(),
            other => other.to_string(),
        })
        .collect();
    assert_eq!(named, ["api/chat"]);

    let adopting = Rehearsal::adopting(&deployed.cloud.endpoint()).await;
    adopting.bring_to(&deployed.edition).await.expect("adopted");
    let (plan, _) = deployed.rehearsal.look(&deployed.edition).await.expect("the account can be observed");
    assert!(plan.is_empty(), "{plan:?}");
    assert_eq!(Census::of(&deployed.cloud.endpoint()).count().await["APIs"], 1);
    deployed.stop().await;
}
