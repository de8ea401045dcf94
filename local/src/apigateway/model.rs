//! What an API consists of, and which members each kind of resource has on the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Members of a resource, named as on the wire.
pub(super) type Document = Map<String, Value>;

/// An API with everything below it. One document in the store, so that a change is whole or not there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Api {
    pub(super) document: Document,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) authorizers: BTreeMap<String, Document>,
    pub(super) integrations: BTreeMap<String, Integration>,
    pub(super) routes: BTreeMap<String, Route>,
    pub(super) deployments: BTreeMap<String, Deployment>,
    pub(super) stages: BTreeMap<String, Stage>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Integration {
    pub(super) document: Document,
    pub(super) responses: BTreeMap<String, Document>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Route {
    pub(super) document: Document,
    pub(super) responses: BTreeMap<String, Document>,
}

/// A deployment keeps what the API was when it was made: later changes serve nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Deployment {
    pub(super) document: Document,
    pub(super) selection: String,
    pub(super) authorizers: BTreeMap<String, Document>,
    pub(super) integrations: BTreeMap<String, Integration>,
    pub(super) routes: BTreeMap<String, Route>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Stage {
    pub(super) document: Document,
    pub(super) tags: BTreeMap<String, String>,
}

/// The JSON type of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Number,
    Flag,
    List,
    Object,
}

impl Type {
    pub(super) fn takes(self, value: &Value) -> bool {
        match self {
            Self::Text => value.is_string(),
            Self::Number => value.is_number(),
            Self::Flag => value.is_boolean(),
            Self::List => value.is_array(),
            Self::Object => value.is_object(),
        }
    }
}

/// Members that a caller may give to a kind of resource.
pub(super) type Members = &'static [(&'static str, Type)];

pub(super) const API: Members = &[
    ("name", Type::Text),
    ("protocolType", Type::Text),
    ("routeSelectionExpression", Type::Text),
    ("apiKeySelectionExpression", Type::Text),
    ("description", Type::Text),
    ("disableExecuteApiEndpoint", Type::Flag),
    ("disableSchemaValidation", Type::Flag),
    ("ipAddressType", Type::Text),
    ("version", Type::Text),
    ("tags", Type::Object),
];

pub(super) const AUTHORIZER: Members = &[
    ("name", Type::Text),
    ("authorizerType", Type::Text),
    ("authorizerUri", Type::Text),
    ("authorizerCredentialsArn", Type::Text),
    ("authorizerResultTtlInSeconds", Type::Number),
    ("identitySource", Type::List),
    ("identityValidationExpression", Type::Text),
];

pub(super) const INTEGRATION: Members = &[
    ("connectionType", Type::Text),
    ("contentHandlingStrategy", Type::Text),
    ("credentialsArn", Type::Text),
    ("description", Type::Text),
    ("integrationMethod", Type::Text),
    ("integrationType", Type::Text),
    ("integrationUri", Type::Text),
    ("passthroughBehavior", Type::Text),
    ("payloadFormatVersion", Type::Text),
    ("requestParameters", Type::Object),
    ("requestTemplates", Type::Object),
    ("templateSelectionExpression", Type::Text),
    ("timeoutInMillis", Type::Number),
];

pub(super) const INTEGRATION_RESPONSE: Members = &[
    ("integrationResponseKey", Type::Text),
    ("contentHandlingStrategy", Type::Text),
    ("responseParameters", Type::Object),
    ("responseTemplates", Type::Object),
    ("templateSelectionExpression", Type::Text),
];

pub(super) const ROUTE: Members = &[
    ("routeKey", Type::Text),
    ("apiKeyRequired", Type::Flag),
    ("authorizationScopes", Type::List),
    ("authorizationType", Type::Text),
    ("authorizerId", Type::Text),
    ("modelSelectionExpression", Type::Text),
    ("operationName", Type::Text),
    ("requestModels", Type::Object),
    ("requestParameters", Type::Object),
    ("routeResponseSelectionExpression", Type::Text),
    ("target", Type::Text),
];

pub(super) const ROUTE_RESPONSE: Members = &[
    ("routeResponseKey", Type::Text),
    ("modelSelectionExpression", Type::Text),
    ("responseModels", Type::Object),
    ("responseParameters", Type::Object),
];

pub(super) const DEPLOYMENT: Members = &[("description", Type::Text), ("stageName", Type::Text)];

pub(super) const STAGE: Members = &[
    ("stageName", Type::Text),
    ("accessLogSettings", Type::Object),
    ("autoDeploy", Type::Flag),
    ("clientCertificateId", Type::Text),
    ("defaultRouteSettings", Type::Object),
    ("deploymentId", Type::Text),
    ("description", Type::Text),
    ("routeSettings", Type::Object),
    ("stageVariables", Type::Object),
    ("tags", Type::Object),
];

pub(super) fn text<'a>(document: &'a Document, member: &str) -> Option<&'a str> {
    document.get(member).and_then(Value::as_str).filter(|text| !text.is_empty())
}
