//! Answers as each wire protocol writes them, errors above all.

use std::borrow::Cow;
use std::convert::Infallible;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{Either, Full};
use serde_json::{Map, Value};

use super::service::{Protocol, Service};
use crate::call::Reply;
use crate::error::AwsError;
use crate::query;
use crate::sigv4::SignatureError;

/// Whole, or a stream that goes on.
pub(super) type AnswerBody = Either<Full<Bytes>, UnsyncBoxBody<Bytes, Infallible>>;
pub(super) type Answer = Response<AnswerBody>;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

pub(super) fn whole(reply: Reply, request_id: &str) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(reply.body)));
    *answer.status_mut() = reply.status;
    *answer.headers_mut() = reply.headers;
    stamp(&mut answer, request_id);
    answer
}

pub(super) fn stream(
    body: UnsyncBoxBody<Bytes, Infallible>,
    content_type: &'static str,
    request_id: &str,
) -> Answer {
    let mut answer = Response::new(Either::Right(body));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    stamp(&mut answer, request_id);
    answer
}

fn stamp(answer: &mut Answer, request_id: &str) {
    if let Ok(value) = HeaderValue::from_str(request_id) {
        answer.headers_mut().insert(REQUEST_ID, value);
    }
}

pub(super) fn error(error: &AwsError, service: Service, request_id: &str) -> Answer {
    let error = in_words_of(service, error);
    let reply = match service.protocol() {
        Protocol::Json(version) => {
            let content_type =
                if version == "1.0" { "application/x-amz-json-1.0" } else { "application/x-amz-json-1.1" };
            let mut body = members(&error, "message");
            body.insert("__type".to_owned(), qualified(service, &error.code).into_owned().into());
            Reply::new(error.status, content_type, Value::Object(body).to_string())
        }
        Protocol::Rest => {
            let body = if service == Service::Lambda {
                let mut body = members(&error, "Message");
                body.insert(
                    "Type".to_owned(),
                    if error.status.is_server_error() { "Service" } else { "User" }.into(),
                );
                body
            } else {
                members(&error, "message")
            };
            let reply = Reply::new(error.status, "application/json", Value::Object(body).to_string());
            match HeaderValue::from_str(&error.code) {
                Ok(code) => reply.with_header(ERROR_TYPE, code),
                Err(_) => reply,
            }
        }
        Protocol::RestXml => {
            Reply::new(error.status, "application/xml", query::plain_error_body(&error, request_id))
        }
        Protocol::Query(namespace) => {
            Reply::new(error.status, "text/xml", query::error_body(&error, namespace, request_id))
        }
    };
    whole(reply, request_id)
}

fn members(error: &AwsError, message: &str) -> Map<String, Value> {
    let mut members = error.members.as_deref().cloned().unwrap_or_default();
    members.insert(message.to_owned(), error.message.clone().into());
    members
}

/// DynamoDB names the package of each error; SDKs cut it off.
fn qualified(service: Service, code: &str) -> Cow<'_, str> {
    if service != Service::DynamoDb {
        return Cow::Borrowed(code);
    }
    let package = match code {
        "ValidationException" => "com.amazon.coral.validate",
        "SerializationException"
        | "AccessDeniedException"
        | "UnknownOperationException"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignatureException"
        | "ExpiredTokenException" => "com.amazon.coral.service",
        _ => "com.amazonaws.dynamodb.v20120810",
    };
    Cow::Owned(format!("{package}#{code}"))
}

/// The same refusal has other names and statuses with other services.
fn in_words_of(service: Service, error: &AwsError) -> AwsError {
    let mut error = error.clone();
    if error.code == "AccessDenied" && !matches!(service.protocol(), Protocol::Query(_) | Protocol::RestXml) {
        error.code = "AccessDeniedException".into();
    }
    if error.code == "AccessDeniedException" {
        error.status = if matches!(service.protocol(), Protocol::Json(_)) {
            StatusCode::BAD_REQUEST
        } else {
            StatusCode::FORBIDDEN
        };
    }
    error
}

/// A request whose signature does not convince.
pub(super) fn signature_error(service: Service, refusal: SignatureError) -> AwsError {
    let query = matches!(service.protocol(), Protocol::Query(_) | Protocol::RestXml);
    let status = if matches!(service.protocol(), Protocol::Json(_)) {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::FORBIDDEN
    };
    let invalid_token = "The security token included in the request is invalid";
    let (code, message) = match refusal {
        SignatureError::Missing if query => {
            ("MissingAuthenticationToken", "Request is missing Authentication Token".to_owned())
        }
        SignatureError::Missing => {
            ("MissingAuthenticationTokenException", "Request is missing Authentication Token".to_owned())
        }
        SignatureError::Incomplete(message) if query => ("IncompleteSignature", message),
        SignatureError::Incomplete(message) => ("IncompleteSignatureException", message),
        SignatureError::UnknownKey | SignatureError::InvalidToken if query => {
            ("InvalidClientTokenId", invalid_token.to_owned())
        }
        SignatureError::UnknownKey | SignatureError::InvalidToken => {
            ("UnrecognizedClientException", invalid_token.to_owned())
        }
        SignatureError::ExpiredToken => (
            if query { "ExpiredToken" } else { "ExpiredTokenException" },
            "The security token included in the request is expired".to_owned(),
        ),
        SignatureError::Mismatch => (
            if query { "SignatureDoesNotMatch" } else { "InvalidSignatureException" },
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
             Access Key and signing method. Consult the service documentation for details."
                .to_owned(),
        ),
        SignatureError::Skewed(message) if query => ("SignatureDoesNotMatch", message),
        SignatureError::Skewed(message) => ("InvalidSignatureException", message),
    };
    AwsError::new(status, code, message)
}
