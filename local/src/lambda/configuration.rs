//! The settings of a function that callers give: checked as Lambda checks them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::model::Settings;
use crate::context::Context;
use crate::error::AwsError;

/// Longest sum of names and values of a function's variables: Lambda's quota.
const MAX_VARIABLES: usize = 4096;
/// What Lambda sets itself.
const RESERVED: &[&str] = &[
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT",
    "LAMBDA_RUNTIME_DIR",
];

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ConfigurationRequest {
    pub(super) role: Option<String>,
    pub(super) handler: Option<String>,
    pub(super) runtime: Option<String>,
    pub(super) revision_id: Option<String>,
    description: Option<String>,
    timeout: Option<u64>,
    memory_size: Option<u64>,
    environment: Option<Environment>,
    tracing_config: Option<Tracing>,
    ephemeral_storage: Option<Storage>,
    logging_config: Option<Logging>,
    dead_letter_config: Option<DeadLetter>,
    // What the local cloud does not do, and says so.
    layers: Option<Vec<Value>>,
    vpc_config: Option<Value>,
    file_system_configs: Option<Vec<Value>>,
    image_config: Option<Value>,
    #[serde(rename = "KMSKeyArn")]
    kms_key_arn: Option<String>,
    snap_start: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Environment {
    #[serde(default)]
    variables: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tracing {
    mode: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Storage {
    size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Logging {
    log_format: Option<String>,
    log_group: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DeadLetter {
    target_arn: Option<String>,
}

/// Changes the settings to what the request gives and leaves the rest.
pub(super) fn apply(
    cx: &Context,
    function: &str,
    request: ConfigurationRequest,
    settings: &mut Settings,
) -> Result<(), AwsError> {
    refuse_what_is_missing_here(&request)?;
    if let Some(handler) = request.handler {
        settings.handler = handler;
    }
    if let Some(runtime) = request.runtime {
        if !runtime.starts_with("provided.") {
            return Err(AwsError::bad_request(
                "InvalidParameterValueException",
                format!(
                    "Value {runtime} at 'runtime' failed to satisfy constraint: the local cloud runs the custom \
                     runtimes provided.al2 and provided.al2023 only"
                ),
            ));
        }
        settings.runtime = runtime;
    }
    if let Some(description) = request.description {
        settings.description = description;
    }
    if let Some(timeout) = request.timeout {
        between("timeout", timeout, 1, 900)?;
        settings.timeout_s = timeout;
    }
    if let Some(memory) = request.memory_size {
        between("memorySize", memory, 128, 10_240)?;
        settings.memory_mb = memory;
    }
    if let Some(environment) = request.environment {
        settings.variables = variables(environment.variables.unwrap_or_default())?;
    }
    if let Some(mode) = request.tracing_config.and_then(|tracing| tracing.mode) {
        settings.tracing = mode;
    }
    if let Some(storage) = request.ephemeral_storage {
        between("ephemeralStorage.size", storage.size, 512, 10_240)?;
        settings.storage_mb = storage.size;
    }
    if let Some(logging) = request.logging_config {
        if logging.log_format.as_deref().is_some_and(|format| format != "Text") {
            return Err(super::unsupported("LogFormat JSON"));
        }
        settings.log_group = logging.log_group;
    }
    if let Some(dead_letter) = request.dead_letter_config {
        let target = dead_letter.target_arn.filter(|target| !target.is_empty());
        if let Some(target) = &target {
            return Err(super::unsupported(&format!(
                "DeadLetterConfig {target}: give an on-failure destination"
            )));
        }
        settings.dead_letter = target;
    }
    if let Some(role) = request.role {
        // Lambda tries the role when it is set, and only then.
        cx.iam.assume_for_service(&role, "lambda.amazonaws.com", function).map_err(|_| {
            AwsError::bad_request(
                "InvalidParameterValueException",
                "The role defined for the function cannot be assumed by Lambda.",
            )
        })?;
        // The grant on the key is made for a principal, and made anew only for another name:
        // <https://repost.aws/knowledge-center/lambda-kmsaccessdeniedexception-errors>
        if settings.role != role {
            settings.grantee = cx.iam.role_id(&role);
        }
        settings.role = role;
    }
    Ok(())
}

fn refuse_what_is_missing_here(request: &ConfigurationRequest) -> Result<(), AwsError> {
    let some_list = |list: &Option<Vec<Value>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let vpc = request.vpc_config.as_ref().is_some_and(|config| {
        ["SubnetIds", "SecurityGroupIds"]
            .iter()
            .any(|member| config[member].as_array().is_some_and(|ids| !ids.is_empty()))
    });
    let snap_start = request
        .snap_start
        .as_ref()
        .is_some_and(|config| config["ApplyOn"].as_str().is_some_and(|on| on != "None"));
    for (member, given) in [
        ("Layers", some_list(&request.layers)),
        ("VpcConfig", vpc),
        ("FileSystemConfigs", some_list(&request.file_system_configs)),
        ("ImageConfig", request.image_config.is_some()),
        ("KMSKeyArn", request.kms_key_arn.as_ref().is_some_and(|key| !key.is_empty())),
        ("SnapStart", snap_start),
    ] {
        if given {
            return Err(super::unsupported(member));
        }
    }
    Ok(())
}

fn variables(given: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, AwsError> {
    let reserved: Vec<&str> =
        given.keys().map(String::as_str).filter(|name| RESERVED.contains(name)).collect();
    if !reserved.is_empty() {
        return Err(AwsError::bad_request(
            "InvalidParameterValueException",
            format!(
                "Lambda was unable to configure your environment variables because the environment variables you have \
                 provided contains reserved keys that are currently not supported for modification. Reserved keys \
                 used in this request: {}",
                reserved.join(", ")
            ),
        ));
    }
    for name in given.keys() {
        let mut bytes = name.bytes();
        let valid = name.len() >= 2
            && bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic())
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !valid {
            return Err(super::constraint("environment.variables", name, "[a-zA-Z]([a-zA-Z0-9_])+"));
        }
    }
    let size: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > MAX_VARIABLES {
        return Err(AwsError::bad_request(
            "InvalidParameterValueException",
            "Lambda was unable to configure your environment variables because the environment variables you have \
             provided exceeded the 4KB limit.",
        ));
    }
    Ok(given)
}

fn between(member: &str, value: u64, low: u64, high: u64) -> Result<(), AwsError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(super::constraint(
        member,
        &value.to_string(),
        &format!("Member must have value between {low} and {high}"),
    ))
}
