//! What else belongs to a function: tags, reserved concurrency, and how asynchronous events are treated.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Lambda;
use super::model::{EventInvoke, Function, now_ms};
use super::name::{Name, function_arn, qualified_arn};
use crate::call::{Call, Reply};
use crate::error::AwsError;
use crate::rest::{self, Params, Query};

/// Reservations must leave this much for all other functions: Lambda's quota.
const UNRESERVED: usize = 100;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TagRequest {
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConcurrencyRequest {
    reserved_concurrent_executions: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EventInvokeRequest {
    maximum_retry_attempts: Option<u32>,
    maximum_event_age_in_seconds: Option<u64>,
    destination_config: Option<DestinationConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DestinationConfig {
    on_success: Option<OneDestination>,
    on_failure: Option<OneDestination>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OneDestination {
    destination: Option<String>,
}

impl Lambda {
    pub(super) fn tag(&self, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let name = Name::parse(params.get("Arn"), None)?.function;
        let request: TagRequest = rest::body(call, "InvalidRequestContentException")?;
        self.update(&name, |function| {
            function.tags.extend(request.tags);
            if function.tags.len() > 50 {
                return Err(AwsError::bad_request(
                    "InvalidParameterValueException",
                    "Too many tags: at most 50",
                ));
            }
            Ok(())
        })?;
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }

    pub(super) fn untag(&self, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let name = Name::parse(params.get("Arn"), None)?.function;
        let query = Query::of(&call.query);
        self.update(&name, |function| {
            for key in query.all("tagKeys") {
                function.tags.remove(key);
            }
            Ok(())
        })?;
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }

    pub(super) fn list_tags(&self, params: &Params) -> Result<Reply, AwsError> {
        let name = Name::parse(params.get("Arn"), None)?.function;
        let tags = self.read(&name, |function| Ok(function.tags.clone()))?;
        Reply::json(StatusCode::OK, &json!({ "Tags": tags }))
    }

    pub(super) fn put_concurrency(&self, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let name = Name::parse(params.get("FunctionName"), None)?.function;
        let request: ConcurrencyRequest = rest::body(call, "InvalidRequestContentException")?;
        let wanted = request
            .reserved_concurrent_executions
            .ok_or_else(|| super::required("reservedConcurrentExecutions"))?;
        let others = self.reserved_by_others(&name);
        let limit = self.host.cx.settings.lambda.concurrency;
        if wanted + others + UNRESERVED.min(limit / 2) > limit {
            return Err(AwsError::bad_request(
                "InvalidParameterValueException",
                format!(
                    "Specified ReservedConcurrentExecutions for function decreases account's \
                     UnreservedConcurrentExecution below its minimum value of [{UNRESERVED}]."
                ),
            ));
        }
        self.update(&name, |function| {
            function.reserved_concurrency = Some(wanted);
            Ok(())
        })?;
        Reply::json(StatusCode::OK, &json!({ "ReservedConcurrentExecutions": wanted }))
    }

    pub(super) fn get_concurrency(&self, params: &Params) -> Result<Reply, AwsError> {
        let name = Name::parse(params.get("FunctionName"), None)?.function;
        let reserved = self.read(&name, |function| Ok(function.reserved_concurrency))?;
        let shown =
            reserved.map_or(json!({}), |reserved| json!({ "ReservedConcurrentExecutions": reserved }));
        Reply::json(StatusCode::OK, &shown)
    }

    pub(super) fn delete_concurrency(&self, params: &Params) -> Result<Reply, AwsError> {
        let name = Name::parse(params.get("FunctionName"), None)?.function;
        self.update(&name, |function| {
            function.reserved_concurrency = None;
            Ok(())
        })?;
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }

    /// `replace`: `PutFunctionEventInvokeConfig` forgets what it does not name, `Update…` keeps it.
    pub(super) fn put_event_invoke(
        &self,
        call: &Call,
        params: &Params,
        replace: bool,
    ) -> Result<Reply, AwsError> {
        let name = Name::parse(params.get("FunctionName"), Query::of(&call.query).get("Qualifier"))?;
        let request: EventInvokeRequest = rest::body(call, "InvalidRequestContentException")?;
        if request.maximum_retry_attempts.is_some_and(|retries| retries > 2) {
            return Err(super::constraint(
                "maximumRetryAttempts",
                "3",
                "Member must have value less than or equal to 2",
            ));
        }
        if let Some(age) = request.maximum_event_age_in_seconds
            && !(60..=21_600).contains(&age)
        {
            return Err(super::constraint(
                "maximumEventAgeInSeconds",
                &age.to_string(),
                "between 60 and 21600",
            ));
        }
        let (on_success, on_failure) = match request.destination_config {
            Some(config) => (self.destination(config.on_success)?, self.destination(config.on_failure)?),
            None => (None, None),
        };
        let shown = self.update(&name.function, |function| {
            self.version(function, &name)?;
            let arn = self.event_invoke_arn(function, &name);
            let key = name.qualifier_or_latest().to_owned();
            let mut config = match function.event_invoke.remove(&key) {
                Some(config) if !replace => config,
                None if !replace => return Err(no_event_invoke(&arn)),
                _ => EventInvoke::default(),
            };
            #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit")]
            {
                config.last_modified_s = now_ms() as f64 / 1000.0;
            }
            config.max_retries = request.maximum_retry_attempts.or(config.max_retries);
            config.max_age_s = request.maximum_event_age_in_seconds.or(config.max_age_s);
            config.on_success = on_success.or(config.on_success);
            config.on_failure = on_failure.or(config.on_failure);
            let shown = config.show(&arn);
            function.event_invoke.insert(key, config);
            Ok(shown)
        })?;
        Reply::json(StatusCode::OK, &shown)
    }

    pub(super) fn get_event_invoke(&self, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let name = Name::parse(params.get("FunctionName"), Query::of(&call.query).get("Qualifier"))?;
        let shown = self.read(&name.function, |function| {
            let arn = self.event_invoke_arn(function, &name);
            let config =
                function.event_invoke.get(name.qualifier_or_latest()).ok_or_else(|| no_event_invoke(&arn))?;
            Ok(config.show(&arn))
        })?;
        Reply::json(StatusCode::OK, &shown)
    }

    pub(super) fn delete_event_invoke(&self, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let name = Name::parse(params.get("FunctionName"), Query::of(&call.query).get("Qualifier"))?;
        self.update(&name.function, |function| {
            let arn = self.event_invoke_arn(function, &name);
            let removed = function.event_invoke.remove(name.qualifier_or_latest());
            removed.map(|_| ()).ok_or_else(|| no_event_invoke(&arn))
        })?;
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }

    pub(super) fn list_event_invoke(&self, params: &Params) -> Result<Reply, AwsError> {
        let name = Name::parse(params.get("FunctionName"), None)?.function;
        let shown: Vec<Value> = self.read(&name, |function| {
            Ok(function
                .event_invoke
                .iter()
                .map(|(qualifier, config)| {
                    config.show(&qualified_arn(&self.host.cx, &function.name, qualifier))
                })
                .collect())
        })?;
        Reply::json(StatusCode::OK, &json!({ "FunctionEventInvokeConfigs": shown }))
    }

    pub(super) fn account_settings(&self) -> Result<Reply, AwsError> {
        let limit = self.host.cx.settings.lambda.concurrency;
        let (count, size, reserved) = {
            let functions = super::lock(&self.functions);
            let size: u64 = functions
                .values()
                .flat_map(|function| std::iter::once(&function.latest).chain(function.versions.values()))
                .map(|version| version.code_size)
                .sum();
            let reserved: usize =
                functions.values().filter_map(|function| function.reserved_concurrency).sum();
            (functions.len(), size, reserved)
        };
        Reply::json(
            StatusCode::OK,
            &json!({
                "AccountLimit": {
                    "TotalCodeSize": 80_530_636_800_u64,
                    "CodeSizeUnzipped": 262_144_000,
                    "CodeSizeZipped": 52_428_800,
                    "ConcurrentExecutions": limit,
                    "UnreservedConcurrentExecutions": limit.saturating_sub(reserved),
                },
                "AccountUsage": { "TotalCodeSize": size, "FunctionCount": count },
            }),
        )
    }

    pub(super) fn reserved_by_others(&self, name: &str) -> usize {
        super::lock(&self.functions)
            .values()
            .filter(|function| function.name != name)
            .filter_map(|function| function.reserved_concurrency)
            .sum()
    }

    fn event_invoke_arn(&self, function: &Function, name: &Name) -> String {
        match &name.qualifier {
            Some(qualifier) => qualified_arn(&self.host.cx, &function.name, qualifier),
            None => format!("{}:$LATEST", function_arn(&self.host.cx, &function.name)),
        }
    }

    /// Functions only: queues and topics do not exist here.
    fn destination(&self, given: Option<OneDestination>) -> Result<Option<String>, AwsError> {
        let Some(arn) = given.and_then(|given| given.destination).filter(|arn| !arn.is_empty()) else {
            return Ok(None);
        };
        if !arn.starts_with("arn:aws:lambda:") {
            return Err(super::unsupported(&format!("Destination {arn}: a function's ARN")));
        }
        let name = Name::parse(&arn, None)?;
        self.read(&name.function, |function| self.version(function, &name).map(|_| ()))?;
        Ok(Some(arn))
    }
}

fn no_event_invoke(arn: &str) -> AwsError {
    AwsError::new(
        StatusCode::NOT_FOUND,
        "ResourceNotFoundException",
        format!("The function {arn} doesn't have an EventInvokeConfig"),
    )
}
