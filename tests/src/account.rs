//! The account behind a chat as AWS's own clients see it: items of the table, policies of the roles, logs.

use std::collections::HashMap;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, PutRequest,
    ScalarAttributeType, WriteRequest,
};
use aws_sdk_lambda::primitives::Blob;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_types::SdkConfig;
use aws_types::region::Region;
use chat_stacks::StaticCredentials;
use serde_json::Value;

/// Clients with the owner's credentials.
#[derive(Clone)]
pub struct Account {
    pub(crate) apigateway: aws_sdk_apigatewayv2::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) iam: aws_sdk_iam::Client,
    pub(crate) lambda: aws_sdk_lambda::Client,
    pub(crate) logs: aws_sdk_cloudwatchlogs::Client,
    sts: aws_sdk_sts::Client,
}

/// For clients of the owner of the account.
pub fn config(endpoint: &str) -> SdkConfig {
    let owner = Credentials::new("chatctl", "chatctl", None, None, "tests");
    SdkConfig::builder()
        .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(owner))
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build()
}

impl Account {
    pub fn of(endpoint: &str) -> Self {
        let config = config(endpoint);
        Self {
            apigateway: aws_sdk_apigatewayv2::Client::new(&config),
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            iam: aws_sdk_iam::Client::new(&config),
            lambda: aws_sdk_lambda::Client::new(&config),
            logs: aws_sdk_cloudwatchlogs::Client::new(&config),
            sts: aws_sdk_sts::Client::new(&config),
        }
    }

    /// Keys of a partition's items whose sort key starts with `prefix`.
    pub async fn keys(&self, table: &str, partition: &str, prefix: &str) -> Vec<String> {
        let answer = self
            .dynamodb
            .query()
            .table_name(table)
            .key_condition_expression("PK = :p AND begins_with(SK, :s)")
            .expression_attribute_values(":p", AttributeValue::S(partition.to_owned()))
            .expression_attribute_values(":s", AttributeValue::S(prefix.to_owned()))
            .consistent_read(true)
            .send()
            .await
            .unwrap_or_else(|why| panic!("{why:?}"));
        let text = |item: &HashMap<String, AttributeValue>| item.get("SK")?.as_s().ok().cloned();
        answer.items().iter().filter_map(text).collect()
    }

    /// Every item of the table; only a test may scan.
    pub async fn items(&self, table: &str) -> Vec<(String, String)> {
        let answer =
            self.dynamodb.scan().table_name(table).send().await.unwrap_or_else(|why| panic!("{why:?}"));
        let text = |item: &HashMap<String, AttributeValue>, key: &str| {
            item.get(key).and_then(|value| value.as_s().ok()).cloned().unwrap_or_default()
        };
        answer.items().iter().map(|item| (text(item, "PK"), text(item, "SK"))).collect()
    }

    pub async fn delete_item(&self, table: &str, partition: &str, sort: &str) {
        self.dynamodb
            .delete_item()
            .table_name(table)
            .key("PK", AttributeValue::S(partition.to_owned()))
            .key("SK", AttributeValue::S(sort.to_owned()))
            .send()
            .await
            .unwrap_or_else(|why| panic!("{why:?}"));
    }

    pub async fn put_item(&self, table: &str, partition: &str, sort: &str, more: &[(&str, AttributeValue)]) {
        let mut call = self
            .dynamodb
            .put_item()
            .table_name(table)
            .item("PK", AttributeValue::S(partition.to_owned()))
            .item("SK", AttributeValue::S(sort.to_owned()));
        for (name, value) in more {
            call = call.item(*name, value.clone());
        }
        call.send().await.unwrap_or_else(|why| panic!("{why:?}"));
    }

    /// Many items at once, as a table gets them that has been in use for long.
    pub async fn put_items(&self, table: &str, items: Vec<HashMap<String, AttributeValue>>) {
        for chunk in items.chunks(25) {
            let put = |item: &HashMap<String, AttributeValue>| {
                let put = PutRequest::builder().set_item(Some(item.clone())).build();
                WriteRequest::builder().put_request(put.unwrap_or_else(|why| panic!("{why}"))).build()
            };
            let requests = chunk.iter().map(put).collect();
            let call = self.dynamodb.batch_write_item().request_items(table, requests);
            let answer = call.send().await.unwrap_or_else(|why| panic!("{why:?}"));
            let left = answer.unprocessed_items().is_none_or(HashMap::is_empty);
            assert!(left, "items were left unprocessed");
        }
    }

    /// A log group with these tags.
    pub async fn create_log_group(&self, name: &str, tags: &HashMap<String, String>) {
        let tags = (!tags.is_empty()).then(|| tags.clone());
        let call = self.logs.create_log_group().log_group_name(name).set_tags(tags);
        call.send().await.unwrap_or_else(|why| panic!("{why:?}"));
    }

    pub async fn log_group_tags(&self, name: &str) -> HashMap<String, String> {
        let groups = self.logs.describe_log_groups().log_group_name_prefix(name).send().await;
        let groups = groups.unwrap_or_else(|why| panic!("{why:?}"));
        let arn = groups.log_groups().iter().find_map(|group| group.log_group_arn());
        let call =
            self.logs.list_tags_for_resource().resource_arn(arn.unwrap_or_else(|| panic!("no {name}")));
        call.send().await.unwrap_or_else(|why| panic!("{why:?}")).tags.unwrap_or_default()
    }

    /// A table with one key, which is text.
    pub async fn create_table(&self, name: &str, key: &str) {
        let attribute =
            AttributeDefinition::builder().attribute_name(key).attribute_type(ScalarAttributeType::S).build();
        let schema = KeySchemaElement::builder().attribute_name(key).key_type(KeyType::Hash).build();
        self.dynamodb
            .create_table()
            .table_name(name)
            .attribute_definitions(attribute.unwrap_or_else(|why| panic!("{why}")))
            .key_schema(schema.unwrap_or_else(|why| panic!("{why}")))
            .billing_mode(BillingMode::PayPerRequest)
            .send()
            .await
            .unwrap_or_else(|why| panic!("{why:?}"));
    }

    /// Names of the tables, roles, functions and log groups that there are.
    pub async fn everything(&self) -> Vec<String> {
        let tables = self.dynamodb.list_tables().send().await.unwrap_or_else(|why| panic!("{why:?}"));
        let roles = self.iam.list_roles().send().await.unwrap_or_else(|why| panic!("{why:?}"));
        let functions = self.lambda.list_functions().send().await.unwrap_or_else(|why| panic!("{why:?}"));
        let groups = self.logs.describe_log_groups().send().await.unwrap_or_else(|why| panic!("{why:?}"));
        let mut all: Vec<String> = tables.table_names().iter().map(|name| format!("table {name}")).collect();
        all.extend(roles.roles().iter().map(|role| format!("role {}", role.role_name())));
        all.extend(
            functions
                .functions()
                .iter()
                .filter_map(|function| Some(format!("function {}", function.function_name()?))),
        );
        all.extend(
            groups
                .log_groups()
                .iter()
                .filter_map(|group| Some(format!("log group {}", group.log_group_name()?))),
        );
        all
    }

    /// The inline policies of a role, by name.
    pub async fn policies(&self, role: &str) -> Vec<(String, Value)> {
        let listed = self.iam.list_role_policies().role_name(role).send().await;
        let mut policies = Vec::new();
        for name in listed.unwrap_or_else(|why| panic!("{why:?}")).policy_names() {
            let found = self.iam.get_role_policy().role_name(role).policy_name(name).send().await;
            let found = found.unwrap_or_else(|why| panic!("{why:?}"));
            let text = unescape(found.policy_document());
            let document = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{text}: {why}"));
            policies.push((name.clone(), document));
        }
        policies
    }

    pub async fn put_policy(&self, role: &str, name: &str, document: &Value) {
        self.iam
            .put_role_policy()
            .role_name(role)
            .policy_name(name)
            .policy_document(document.to_string())
            .send()
            .await
            .unwrap_or_else(|why| panic!("{why:?}"));
    }

    /// A role that the owner may take on, with one policy: what deploys in its name.
    pub async fn create_role(&self, name: &str, policy: &Value) {
        let trust = r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"sts:AssumeRole"}]}"#;
        let made = self.iam.create_role().role_name(name).assume_role_policy_document(trust).send().await;
        made.unwrap_or_else(|why| panic!("{why:?}"));
        self.put_policy(name, name, policy).await;
    }

    /// Credentials of a session of a role.
    pub async fn assume(&self, role: &str) -> StaticCredentials {
        let arn = format!("arn:aws:iam::000000000000:role/{role}");
        let answer = self.sts.assume_role().role_arn(arn).role_session_name("tests").send().await;
        let session = answer.unwrap_or_else(|why| panic!("{why:?}")).credentials.expect("a session");
        StaticCredentials {
            access_key_id: session.access_key_id,
            secret_access_key: session.secret_access_key,
            session_token: Some(session.session_token),
        }
    }

    /// Credentials of a session that somebody else's token stands for.
    ///
    /// # Errors
    /// Why it was refused.
    pub async fn assume_with_token(&self, role_arn: &str, token: &str) -> Result<StaticCredentials, String> {
        let call = self.sts.assume_role_with_web_identity().role_arn(role_arn).role_session_name("job");
        let answer = call.web_identity_token(token).send().await.map_err(|why| format!("{why:?}"))?;
        let session = answer.credentials.ok_or("no session")?;
        Ok(StaticCredentials {
            access_key_id: session.access_key_id,
            secret_access_key: session.secret_access_key,
            session_token: Some(session.session_token),
        })
    }

    pub async fn delete_policy(&self, role: &str, name: &str) {
        let call = self.iam.delete_role_policy().role_name(role).policy_name(name);
        call.send().await.unwrap_or_else(|why| panic!("{why:?}"));
    }

    pub async fn delete_function(&self, function: &str) {
        let call = self.lambda.delete_function().function_name(function);
        call.send().await.unwrap_or_else(|why| panic!("{why:?}"));
    }

    /// Calls a function directly, and returns what it says.
    pub async fn invoke(&self, function: &str, event: &Value) -> Value {
        let call = self.lambda.invoke().function_name(function).payload(Blob::new(event.to_string()));
        let answer = call.send().await.unwrap_or_else(|why| panic!("{why:?}"));
        let payload = answer.payload().map(|blob| blob.as_ref().to_vec()).unwrap_or_default();
        serde_json::from_slice(&payload).unwrap_or_default()
    }

    /// Messages in a log group that match a filter pattern.
    pub async fn log_messages(&self, group: &str, pattern: &str) -> Vec<String> {
        let call = self.logs.filter_log_events().log_group_name(group).filter_pattern(pattern);
        match call.send().await {
            Ok(answer) => {
                answer.events().iter().filter_map(|event| event.message().map(str::to_owned)).collect()
            }
            Err(why) => vec![format!("no logs of {group}: {why:?}")],
        }
    }

    /// Shows what the functions logged, for a test that has failed. Works whatever runtime is coming down around it.
    pub fn print_logs(&self, prefix: &str) {
        let (account, prefix) = (self.clone(), prefix.to_owned());
        let printing = std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return;
            };
            runtime.block_on(async {
                for handler in ["connect", "on_message", "disconnect"] {
                    let group = format!("/aws/lambda/{prefix}-{handler}");
                    let messages = account.log_messages(&group, "");
                    let patience = std::time::Duration::from_secs(2);
                    let Ok(messages) = tokio::time::timeout(patience, messages).await else { continue };
                    eprintln!("--- the last lines of {group}:");
                    for message in messages.iter().rev().take(30).rev() {
                        eprintln!("{}", message.trim_end());
                    }
                }
            });
        });
        let _ = printing.join();
    }
}

/// Policies are read back URL-encoded, from AWS as from here.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
