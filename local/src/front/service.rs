//! The services behind the listener, and the wire protocol of each.

use http::request::Parts;

/// A service, as the scope of a signature names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    ApiGateway,
    CloudFormation,
    DynamoDb,
    ExecuteApi,
    Iam,
    Lambda,
    Logs,
    S3,
    Sts,
}

/// How requests, answers and errors look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// A target header and JSON, of the given version.
    Json(&'static str),
    /// Method and path, JSON bodies.
    Rest,
    /// The same with XML, as S3 alone has it.
    RestXml,
    /// Forms and XML, in the given namespace.
    Query(&'static str),
}

impl Service {
    pub(super) fn from_scope(name: &str) -> Option<Self> {
        Some(match name {
            "apigateway" => Self::ApiGateway,
            "cloudformation" => Self::CloudFormation,
            "dynamodb" => Self::DynamoDb,
            "execute-api" => Self::ExecuteApi,
            "iam" => Self::Iam,
            "lambda" => Self::Lambda,
            "logs" => Self::Logs,
            "s3" => Self::S3,
            "sts" => Self::Sts,
            _ => return None,
        })
    }

    /// Which service an unsigned request is likely meant for, so that its refusal can be read by the caller.
    pub(super) fn guess(parts: &Parts) -> Self {
        let header = |name| parts.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        let path = parts.uri.path();
        match header("x-amz-target") {
            Some(target) if target.starts_with("Logs_") => Self::Logs,
            Some(_) => Self::DynamoDb,
            None if path.contains("/@connections") => Self::ExecuteApi,
            None if path.starts_with("/v2/") => Self::ApiGateway,
            None if path.len() > 1 => Self::Lambda,
            None => Self::Iam,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ApiGateway => "apigateway",
            Self::CloudFormation => "cloudformation",
            Self::DynamoDb => "dynamodb",
            Self::ExecuteApi => "execute-api",
            Self::Iam => "iam",
            Self::Lambda => "lambda",
            Self::Logs => "logs",
            Self::S3 => "s3",
            Self::Sts => "sts",
        }
    }

    pub(super) fn protocol(self) -> Protocol {
        match self {
            Self::DynamoDb => Protocol::Json("1.0"),
            Self::Logs => Protocol::Json("1.1"),
            Self::ApiGateway | Self::ExecuteApi | Self::Lambda => Protocol::Rest,
            Self::S3 => Protocol::RestXml,
            Self::CloudFormation => Protocol::Query(crate::cloudformation::NAMESPACE),
            Self::Iam => Protocol::Query(crate::iam::NAMESPACE),
            Self::Sts => Protocol::Query(crate::iam::STS_NAMESPACE),
        }
    }

    /// Larger requests are not read. The limits of AWS, or a bit above where the service itself has to refuse.
    pub(super) fn max_body_bytes(self) -> usize {
        match self {
            Self::DynamoDb => 16 << 20,
            // 50 MB of zip, in Base64 in JSON.
            Self::Lambda => 72 << 20,
            // An object of the size of a function; S3 itself takes 5 GB.
            Self::S3 => 72 << 20,
            Self::Logs => 4 << 20,
            Self::ApiGateway | Self::CloudFormation | Self::ExecuteApi | Self::Iam | Self::Sts => 1 << 20,
        }
    }
}
