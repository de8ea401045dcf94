//! The connection to a cloud: eight clients that share one HTTP stack, one set of credentials and one retry policy.

use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_async::time::{SharedTimeSource, SystemTimeSource};
use aws_smithy_http_client::Builder as HttpClient;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use chat_functions::contract::Partition;
use tokio::sync::OnceCell;

use crate::error::{AwsFailure, Error};
use crate::pace::{Pace, Rate};
use crate::settings::StageSettings;

/// Attempts that the SDK makes of a call that was throttled or got no answer. More would hide a real outage for long;
/// answers that mean "not yet" are the business of `retry.rs`.
const SDK_ATTEMPTS: u32 = 4;

/// Which cloud to talk to, and as whom.
#[derive(Clone, Debug)]
pub struct Target {
    pub region: String,
    /// An explicit endpoint for every service. With it neither a metadata service nor a profile is ever asked, so
    /// [`credentials`](Self::credentials) are given here or in the environment.
    pub endpoint: Option<String>,
    pub credentials: Option<StaticCredentials>,
    /// A profile of `~/.aws/config`; otherwise the usual chain decides.
    pub profile: Option<String>,
    /// The pace on API Gateway's control plane.
    pub control_plane: Rate,
}

impl Target {
    /// The target of a stage on AWS, with the caller's usual credentials.
    pub fn new(stage: &StageSettings) -> Self {
        Self {
            region: stage.region.as_str().to_owned(),
            endpoint: None,
            credentials: None,
            profile: None,
            control_plane: stage.control_plane,
        }
    }

    /// The same stage at an explicit endpoint.
    #[must_use]
    pub fn at(self, endpoint: impl Into<String>, credentials: StaticCredentials) -> Self {
        Self { endpoint: Some(endpoint.into()), credentials: Some(credentials), ..self }
    }
}

/// Credentials that are known beforehand.
#[derive(Clone)]
pub struct StaticCredentials {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Option<String>,
}

impl std::fmt::Debug for StaticCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StaticCredentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// Who the caller is, which makes every ARN of the stack computable.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Identity {
    pub account: String,
    pub region: String,
    /// `aws`, `aws-cn`, `aws-us-gov`, `aws-eusc`.
    pub partition: String,
    /// The principal that deploys.
    pub arn: String,
}

impl Identity {
    /// Of an account that is named instead of asked for. The region tells the partition.
    pub fn of_account(account: &str, region: &str) -> Self {
        Self {
            account: account.to_owned(),
            region: region.to_owned(),
            partition: Partition::of(region).name.to_owned(),
            arn: String::new(),
        }
    }
}

/// The clients.
#[derive(Debug)]
pub struct Aws {
    pub(crate) cloudformation: aws_sdk_cloudformation::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) lambda: aws_sdk_lambda::Client,
    pub(crate) iam: aws_sdk_iam::Client,
    pub(crate) apigateway: aws_sdk_apigatewayv2::Client,
    pub(crate) logs: aws_sdk_cloudwatchlogs::Client,
    pub(crate) s3: aws_sdk_s3::Client,
    sts: aws_sdk_sts::Client,
    region: String,
    pub(crate) pace: Pace,
    identity: OnceCell<Identity>,
}

impl Aws {
    /// Makes the clients. Nothing is sent yet, so this fails only where credentials cannot be found at all.
    pub async fn connect(target: &Target) -> Result<Self, Error> {
        let config = match (&target.endpoint, &target.credentials) {
            (Some(endpoint), credentials) => explicit(target, endpoint, credentials.as_ref()),
            (None, credentials) => discovered(target, credentials.as_ref()).await,
        };
        Ok(Self {
            cloudformation: aws_sdk_cloudformation::Client::new(&config),
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            lambda: aws_sdk_lambda::Client::new(&config),
            iam: aws_sdk_iam::Client::new(&config),
            apigateway: aws_sdk_apigatewayv2::Client::new(&config),
            logs: aws_sdk_cloudwatchlogs::Client::new(&config),
            s3: s3(&config),
            sts: aws_sdk_sts::Client::new(&config),
            region: target.region.clone(),
            pace: Pace::new(target.control_plane),
            identity: OnceCell::new(),
        })
    }

    pub(crate) fn sts(&self) -> &aws_sdk_sts::Client {
        &self.sts
    }

    /// Who these credentials belong to. Asked once.
    pub async fn identity(&self) -> Result<&Identity, Error> {
        self.identity
            .get_or_try_init(|| async {
                let answer = self
                    .sts
                    .get_caller_identity()
                    .send()
                    .await
                    .map_err(|error| AwsFailure::of("GetCallerIdentity", &error))?;
                let arn = answer.arn.unwrap_or_default();
                Ok(Identity {
                    account: answer
                        .account
                        .ok_or_else(|| Error::bug("GetCallerIdentity named no account"))?,
                    region: self.region.clone(),
                    partition: arn
                        .split(':')
                        .nth(1)
                        .filter(|part| !part.is_empty())
                        .unwrap_or("aws")
                        .to_owned(),
                    arn,
                })
            })
            .await
    }
}

/// S3 is told to add checksums only where an operation wants one: the hash of the body is signed in any case.
fn s3(config: &SdkConfig) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::config::Builder::from(config)
        .request_checksum_calculation(aws_sdk_s3::config::RequestChecksumCalculation::WhenRequired)
        // A named endpoint is one host, which has no names below it for buckets.
        .force_path_style(config.endpoint_url().is_some())
        .build();
    aws_sdk_s3::Client::from_conf(config)
}

/// An endpoint that was named: everything comes from `target`, nothing from the machine.
fn explicit(target: &Target, endpoint: &str, credentials: Option<&StaticCredentials>) -> SdkConfig {
    // Without any the environment's are taken; a profile or a metadata service belongs to AWS, not to this endpoint.
    let credentials = match credentials {
        Some(credentials) => provider(credentials),
        None => SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()),
    };
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(target.region.clone()))
        .endpoint_url(endpoint)
        .credentials_provider(credentials)
        .http_client(http_client(endpoint))
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .time_source(SharedTimeSource::new(SystemTimeSource::new()))
        .retry_config(retries())
        .timeout_config(timeouts())
        .build()
}

/// AWS itself: profile, environment, SSO, roles, as everywhere.
async fn discovered(target: &Target, credentials: Option<&StaticCredentials>) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(target.region.clone()))
        .http_client(http_client("https://"))
        .retry_config(retries())
        .timeout_config(timeouts());
    if let Some(profile) = &target.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(credentials) = credentials {
        loader = loader.credentials_provider(provider(credentials));
    }
    loader.load().await
}

fn provider(credentials: &StaticCredentials) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new(
        &credentials.access_key_id,
        &credentials.secret_access_key,
        credentials.session_token.clone(),
        None,
        "static",
    ))
}

/// One connection pool for all services. Without TLS the system's certificates need not be read, which takes longer
/// than a whole no-op deploy on one machine.
fn http_client(endpoint: &str) -> aws_smithy_runtime_api::client::http::SharedHttpClient {
    if endpoint.starts_with("http://") {
        HttpClient::new().build_http()
    } else {
        // ring, not aws-lc: toolchain page, rule 2.
        HttpClient::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
    }
}

fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(SDK_ATTEMPTS)
        .with_initial_backoff(Duration::from_millis(200))
        .with_max_backoff(Duration::from_secs(5))
}

/// For calls that create something without a unique name: sent again blindly they would create it twice. Their
/// resources look first whether the lost attempt took effect.
pub(crate) fn sent_once() -> aws_sdk_apigatewayv2::config::Builder {
    aws_sdk_apigatewayv2::config::Builder::new().retry_config(RetryConfig::disabled())
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        // Uploading a handler of a few megabytes over a slow line is the longest that any call may take.
        .operation_attempt_timeout(Duration::from_secs(60))
        .build()
}
