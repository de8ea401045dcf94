//! Clients of the services, signed by whom a test wants.

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_iam::operation::RequestId;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::{SharedTimeSource, TimeSource};
use aws_smithy_types::retry::RetryConfig;
use aws_types::SdkConfig;
use aws_types::region::Region;
use chat_local::{Cloud, CloudConfig};

pub(crate) const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com","AWS":"000000000000"},"Action":"sts:AssumeRole"}]}"#;

/// What a caller signs with, and how.
#[derive(Clone)]
pub(crate) struct Caller {
    endpoint: String,
    credentials: Credentials,
    attempts: u32,
    /// How far its clock is off.
    clock_offset_s: i64,
}

#[derive(Debug)]
struct ClockOff(i64);

impl TimeSource for ClockOff {
    fn now(&self) -> std::time::SystemTime {
        let now = std::time::SystemTime::now();
        let offset = std::time::Duration::from_secs(self.0.unsigned_abs());
        if self.0 < 0 { now - offset } else { now + offset }
    }
}

impl Caller {
    pub(crate) fn owner(cloud: &Cloud) -> Self {
        Self::at(&cloud.endpoint())
    }

    /// The owner of a cloud that may be in another process.
    pub(crate) fn at(endpoint: &str) -> Self {
        Self::signing(endpoint, "chatctl", "chatctl")
    }

    pub(crate) fn with_keys(cloud: &Cloud, key: &str, secret: &str) -> Self {
        Self::signing(&cloud.endpoint(), key, secret)
    }

    fn signing(endpoint: &str, key: &str, secret: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            credentials: Credentials::new(key, secret, None, None, "test"),
            attempts: 1,
            clock_offset_s: 0,
        }
    }

    pub(crate) fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    pub(crate) fn clock_off_by(mut self, seconds: i64) -> Self {
        self.clock_offset_s = seconds;
        self
    }

    /// A session of a role.
    pub(crate) async fn assume(&self, role: &str) -> Self {
        let answer = self
            .sts()
            .assume_role()
            .role_arn(format!("arn:aws:iam::000000000000:role/{role}"))
            .role_session_name("session")
            .send()
            .await
            .unwrap();
        let session = answer.credentials.unwrap();
        let credentials = Credentials::new(
            session.access_key_id,
            session.secret_access_key,
            Some(session.session_token),
            None,
            "test",
        );
        Self { credentials, ..self.clone() }
    }

    pub(crate) fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&self.config())
    }

    pub(crate) fn iam(&self) -> aws_sdk_iam::Client {
        aws_sdk_iam::Client::new(&self.config())
    }

    pub(crate) fn logs(&self) -> aws_sdk_cloudwatchlogs::Client {
        aws_sdk_cloudwatchlogs::Client::new(&self.config())
    }

    pub(crate) fn sts(&self) -> aws_sdk_sts::Client {
        aws_sdk_sts::Client::new(&self.config())
    }

    pub(crate) fn lambda(&self) -> aws_sdk_lambda::Client {
        aws_sdk_lambda::Client::new(&self.config())
    }

    pub(crate) fn apigateway(&self) -> aws_sdk_apigatewayv2::Client {
        aws_sdk_apigatewayv2::Client::new(&self.config())
    }

    /// `@connections` below the given endpoint, which includes the stage.
    pub(crate) fn connections(&self, endpoint: &str) -> aws_sdk_apigatewaymanagement::Client {
        aws_sdk_apigatewaymanagement::Client::new(
            &Self { endpoint: endpoint.to_owned(), ..self.clone() }.config(),
        )
    }

    /// A role that may do what the statements say, with the owner's rights to make it.
    pub(crate) async fn create_role(&self, name: &str, statements: &str) {
        let iam = self.iam();
        iam.create_role().role_name(name).assume_role_policy_document(TRUST).send().await.unwrap();
        let policy = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
        iam.put_role_policy().role_name(name).policy_name("p").policy_document(policy).send().await.unwrap();
    }

    fn config(&self) -> SdkConfig {
        SdkConfig::builder()
            .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
            .endpoint_url(&self.endpoint)
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(self.credentials.clone()))
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .time_source(SharedTimeSource::new(ClockOff(self.clock_offset_s)))
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(self.attempts)
                    .with_initial_backoff(std::time::Duration::from_millis(5)),
            )
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build()
    }
}

pub(crate) async fn cloud() -> Cloud {
    Cloud::start(CloudConfig::in_memory()).await.unwrap()
}

/// Code and message of a refusal, which also has to carry the id of its request.
pub(crate) fn refusal<T: std::fmt::Debug, E, R>(outcome: Result<T, SdkError<E, R>>) -> (String, String)
where
    E: ProvideErrorMetadata + std::fmt::Debug,
    R: std::fmt::Debug,
    SdkError<E, R>: RequestId,
{
    let error = outcome.unwrap_err();
    assert!(error.request_id().is_some_and(|id| !id.is_empty()), "no request id: {error:?}");
    (error.code().unwrap_or_default().to_owned(), error.message().unwrap_or_default().to_owned())
}

/// A table `name` with the key `k`.
pub(crate) async fn create_table(caller: &Caller, name: &str) {
    use aws_sdk_dynamodb::types::{
        AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    };
    let key = KeySchemaElement::builder().attribute_name("k").key_type(KeyType::Hash).build().unwrap();
    let attribute = AttributeDefinition::builder()
        .attribute_name("k")
        .attribute_type(ScalarAttributeType::S)
        .build()
        .unwrap();
    caller
        .dynamodb()
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key)
        .attribute_definitions(attribute)
        .send()
        .await
        .unwrap();
}
