//! Which failures of DynamoDB pass, and which are ours. Classified by type, code and status, never by rendered text.

use std::error::Error;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::RequestId;

use crate::ports::StoreError;

/// Codes that say "later", whatever their status.
const PASSING: [&str; 6] = [
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
    "InternalServerError",
    "ServiceUnavailable",
    "TransactionConflictException",
];

/// What a failed call means for the chat. The text is for the log.
pub(super) fn failure<E>(operation: &str, why: &SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match why {
        SdkError::ServiceError(service) => {
            let (error, status) = (service.err(), service.raw().status().as_u16());
            let code = error.code().unwrap_or("no code");
            let text = format!(
                "{operation} failed with {code}: {} (request {})",
                error.message().unwrap_or("no message"),
                error.meta().request_id().unwrap_or("unknown"),
            );
            if status >= 500 || status == 429 || PASSING.contains(&code) {
                StoreError::Unavailable(text)
            } else {
                StoreError::Unexpected(text)
            }
        }
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
            StoreError::Unavailable(format!("{operation} got no answer: {}", DisplayErrorContext(why)))
        }
        _ => StoreError::Unexpected(format!("{operation} could not be sent: {}", DisplayErrorContext(why))),
    }
}
