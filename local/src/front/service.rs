//! The services behind the listener, and the wire protocol of each.

use http::request::Parts;

/// A service, as the scope of a signature names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    ApiGateway,
    DynamoDb,
    ExecuteApi,
    Iam,
    Lambda,
    Logs,
    Sts,
}

/// How requests, answers and errors look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// A target header and JSON, of the given version.
    Json(&'static str),
    /// Method and path, JSON bodies.
    Rest,
    /// Forms and XML, in the given namespace.
    Query(&'static str),
}

impl Service {
    pub(super) fn from_scope(name: &str) -> Option<Self> {
        Some(match name {
            "apigateway" => Self::ApiGateway,
            "dynamodb" => Self::DynamoDb,
            "execute-api" => Self::ExecuteApi,
            "iam" => Self::Iam,
            "lambda" => Self::Lambda,
            "logs" => Self::Logs,
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

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ApiGateway => "apigateway",
            Self::DynamoDb => "dynamodb",
            Self::ExecuteApi => "execute-api",
            Self::Iam => "iam",
            Self::Lambda => "lambda",
            Self::Logs => "logs",
            Self::Sts => "sts",
        }
    }

    pub(super) fn protocol(self) -> Protocol {
        match self {
            Self::DynamoDb => Protocol::Json("1.0"),
            Self::Logs => Protocol::Json("1.1"),
            Self::ApiGateway | Self::ExecuteApi | Self::Lambda => Protocol::Rest,
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
            Self::Logs => 4 << 20,
            Self::ApiGateway | Self::ExecuteApi | Self::Iam | Self::Sts => 1 << 20,
        }
    }
}
