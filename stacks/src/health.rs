//! What can be asked of an account before anything is deployed to it: the time there, and the limits that a chat would
//! meet first. None of it is needed to deploy, so none of it is in the deployer's policy, and a refusal is no failure.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::DateTime;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::date_time::Format;

use crate::aws::Aws;
use crate::error::{AwsFailure, Error};

/// Lambda's limits of the account and region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LambdaLimits {
    /// Events in flight over all functions.
    pub concurrency: i32,
    /// What is left of that for functions without a reservation.
    pub unreserved: i32,
    pub code_bytes: i64,
}

/// Seconds that the other clock is ahead of ours; requests are refused when it is off by five minutes.
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html>
pub async fn clock_skew_s(aws: &Aws) -> Result<Option<i64>, Error> {
    let date = DateOfAnswer::default();
    let sent = aws.sts().get_caller_identity().customize().interceptor(date.clone()).send().await;
    let theirs = *date.seconds.lock().unwrap_or_else(PoisonError::into_inner);
    let ours = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    match (theirs, sent) {
        // A refusal tells the time as well: that of a request which is too far off above all.
        (Some(theirs), _) => Ok(Some(theirs - i64::try_from(ours).unwrap_or(i64::MAX))),
        (None, Ok(_)) => Ok(None),
        (None, Err(error)) => Err(AwsFailure::of("GetCallerIdentity", &error).into()),
    }
}

/// Reads Lambda's limits, which needs `lambda:GetAccountSettings`.
pub async fn lambda_limits(aws: &Aws) -> Result<LambdaLimits, Error> {
    let answer = aws.lambda.get_account_settings().send().await;
    let limit = answer.map_err(|error| AwsFailure::of("GetAccountSettings", &error))?.account_limit;
    let limit = limit.ok_or_else(|| Error::bug("GetAccountSettings told no limits"))?;
    Ok(LambdaLimits {
        concurrency: limit.concurrent_executions,
        unreserved: limit.unreserved_concurrent_executions.unwrap_or(limit.concurrent_executions),
        code_bytes: limit.total_code_size,
    })
}

/// Notes the `Date` of an answer.
#[derive(Clone, Debug, Default)]
struct DateOfAnswer {
    seconds: Arc<Mutex<Option<i64>>>,
}

impl Intercept for DateOfAnswer {
    fn name(&self) -> &'static str {
        "DateOfAnswer"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        *self.seconds.lock().unwrap_or_else(PoisonError::into_inner) = date.map(|date| date.secs());
        Ok(())
    }
}
