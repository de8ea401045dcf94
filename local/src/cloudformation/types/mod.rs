//! The resource types that there are here, each with the calls that make it so. A type that is not in [`TYPES`] is
//! refused by its name.

mod caller;
mod gateway;
mod lambda;
mod roles;
mod storage;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub(super) use self::caller::Caller;
use super::model::Properties;
use crate::error::AwsError;

/// A resource type.
pub(super) struct Type {
    pub(super) name: &'static str,
    /// What may be said of one here.
    pub(super) properties: &'static [&'static str],
    /// A change of these needs another resource.
    pub(super) fixed: &'static [&'static str],
    /// What tells one from another when it is imported: the `primaryIdentifier` of its schema.
    pub(super) identifier: &'static [&'static str],
    family: Family,
}

/// Which service it belongs to.
#[derive(Clone, Copy)]
enum Family {
    Gateway,
    Lambda,
    Iam,
    Storage,
}

/// A resource as it was made or found.
#[derive(Clone, Debug, Default)]
pub(super) struct Made {
    pub(super) physical_id: String,
    pub(super) attributes: BTreeMap<String, String>,
}

impl Made {
    fn new<const N: usize>(physical_id: impl Into<String>, attributes: [(&str, String); N]) -> Self {
        let attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { physical_id: physical_id.into(), attributes }
    }
}

/// A resource that is there.
pub(super) struct Existing<'a> {
    pub(super) physical_id: &'a str,
    pub(super) properties: &'a Properties,
}

macro_rules! types {
    ($($name:literal $family:ident $properties:tt fixed $fixed:tt by $identifier:tt)*) => {
        &[$(Type {
            name: $name,
            family: Family::$family,
            properties: &$properties,
            fixed: &$fixed,
            identifier: &$identifier,
        }),*]
    };
}

/// Fixed properties and identifiers are those of the types' schemas: `createOnlyProperties` and `primaryIdentifier`.
const TYPES: &[Type] = types![
    "AWS::ApiGatewayV2::Api" Gateway
        ["Description", "Name", "ProtocolType", "RouteSelectionExpression", "Tags"]
        fixed ["ProtocolType"] by ["ApiId"]
    "AWS::ApiGatewayV2::Authorizer" Gateway
        ["ApiId", "AuthorizerType", "AuthorizerUri", "IdentitySource", "Name"]
        fixed ["ApiId"] by ["AuthorizerId", "ApiId"]
    "AWS::ApiGatewayV2::Deployment" Gateway ["ApiId", "Description"]
        fixed ["ApiId"] by ["ApiId", "DeploymentId"]
    "AWS::ApiGatewayV2::Integration" Gateway
        ["ApiId", "Description", "IntegrationMethod", "IntegrationType", "IntegrationUri", "PassthroughBehavior",
         "RequestTemplates"]
        fixed ["ApiId"] by ["ApiId", "IntegrationId"]
    "AWS::ApiGatewayV2::IntegrationResponse" Gateway
        ["ApiId", "IntegrationId", "IntegrationResponseKey", "ResponseTemplates"]
        fixed ["ApiId", "IntegrationId"] by ["ApiId", "IntegrationId", "IntegrationResponseId"]
    "AWS::ApiGatewayV2::Route" Gateway
        ["ApiId", "AuthorizationType", "AuthorizerId", "RouteKey", "RouteResponseSelectionExpression", "Target"]
        fixed ["ApiId"] by ["ApiId", "RouteId"]
    "AWS::ApiGatewayV2::RouteResponse" Gateway ["ApiId", "RouteId", "RouteResponseKey"]
        fixed ["ApiId", "RouteId"] by ["ApiId", "RouteId", "RouteResponseId"]
    "AWS::ApiGatewayV2::Stage" Gateway
        ["ApiId", "AutoDeploy", "DefaultRouteSettings", "DeploymentId", "StageName", "Tags"]
        fixed ["ApiId", "StageName"] by ["ApiId", "StageName"]
    "AWS::DynamoDB::Table" Storage
        ["AttributeDefinitions", "BillingMode", "DeletionProtectionEnabled", "KeySchema",
         "PointInTimeRecoverySpecification", "TableName", "Tags", "TimeToLiveSpecification"]
        fixed ["KeySchema", "TableName"] by ["TableName"]
    "AWS::IAM::Role" Iam ["AssumeRolePolicyDocument", "Description", "Path", "RoleName", "Tags"]
        fixed ["Path", "RoleName"] by ["RoleName"]
    "AWS::IAM::RolePolicy" Iam ["PolicyDocument", "PolicyName", "RoleName"]
        fixed ["PolicyName", "RoleName"] by ["PolicyName", "RoleName"]
    "AWS::Lambda::Alias" Lambda ["FunctionName", "FunctionVersion", "Name"]
        fixed ["FunctionName", "Name"] by ["AliasArn"]
    "AWS::Lambda::Function" Lambda
        ["Architectures", "Code", "Description", "Environment", "FunctionName", "Handler", "MemorySize", "Role",
         "Runtime", "Tags", "Timeout"]
        fixed ["FunctionName"] by ["FunctionName"]
    "AWS::Lambda::Permission" Lambda ["Action", "FunctionName", "Principal", "SourceArn"]
        fixed ["Action", "FunctionName", "Principal", "SourceArn"] by ["FunctionName", "Id"]
    "AWS::Lambda::Version" Lambda ["CodeSha256", "Description", "FunctionName"]
        fixed ["CodeSha256", "Description", "FunctionName"] by ["FunctionArn"]
    "AWS::Logs::LogGroup" Storage ["LogGroupName", "RetentionInDays", "Tags"]
        fixed ["LogGroupName"] by ["LogGroupName"]
];

pub(super) fn find(name: &str) -> Option<&'static Type> {
    TYPES.iter().find(|known| known.name == name)
}

impl Type {
    /// Makes one. `logical_id` is for names that are generated.
    pub(super) async fn create(
        &self,
        caller: &Caller,
        logical_id: &str,
        properties: &Properties,
    ) -> Result<Made, AwsError> {
        match self.family {
            Family::Gateway => gateway::create(caller, self.name, logical_id, properties).await,
            Family::Lambda => lambda::create(caller, self.name, logical_id, properties).await,
            Family::Iam => roles::create(caller, self.name, properties).await,
            Family::Storage => storage::create(caller, self.name, logical_id, properties).await,
        }
    }

    /// Brings one from the properties it has to others, none of which is fixed.
    pub(super) async fn update(
        &self,
        caller: &Caller,
        existing: &Existing<'_>,
        properties: &Properties,
    ) -> Result<(), AwsError> {
        match self.family {
            Family::Gateway => gateway::update(caller, self.name, existing, properties).await,
            Family::Lambda => lambda::update(caller, self.name, existing, properties).await,
            Family::Iam => roles::update(caller, self.name, existing, properties).await,
            Family::Storage => storage::update(caller, self.name, existing, properties).await,
        }
    }

    /// Deletes one. Gone already is success.
    pub(super) async fn delete(&self, caller: &Caller, existing: &Existing<'_>) -> Result<(), AwsError> {
        let deleted = match self.family {
            Family::Gateway => gateway::delete(caller, self.name, existing).await,
            Family::Lambda => lambda::delete(caller, self.name, existing).await,
            Family::Iam => roles::delete(caller, self.name, existing).await,
            Family::Storage => storage::delete(caller, self.name, existing).await,
        };
        match deleted {
            Err(error) if caller::is_absent(&error) => Ok(()),
            other => other,
        }
    }

    /// Looks at one that is to be imported.
    pub(super) async fn read(
        &self,
        caller: &Caller,
        identifier: &BTreeMap<String, String>,
    ) -> Result<Made, AwsError> {
        match self.family {
            Family::Gateway => gateway::read(caller, self.name, identifier).await,
            Family::Lambda => lambda::read(caller, self.name, identifier).await,
            Family::Iam => roles::read(caller, self.name, identifier).await,
            Family::Storage => storage::read(caller, self.name, identifier).await,
        }
    }
}

/// A property as text; empty if it is not there.
fn text<'p>(properties: &'p Properties, name: &str) -> &'p str {
    properties.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// `Tags` in either of their forms, as a map.
fn tags(properties: &Properties) -> Map<String, Value> {
    match properties.get("Tags") {
        Some(Value::Object(map)) => map.clone(),
        Some(Value::Array(pairs)) => pairs
            .iter()
            .filter_map(|pair| Some((pair.get("Key")?.as_str()?.to_owned(), pair.get("Value")?.clone())))
            .collect(),
        _ => Map::new(),
    }
}

/// A part of an identifier, which was checked to be complete.
fn part<'i>(identifier: &'i BTreeMap<String, String>, name: &str) -> &'i str {
    identifier.get(name).map_or("", String::as_str)
}

fn last_of(text: &str, separator: char) -> &str {
    text.rsplit(separator).next().unwrap_or(text)
}
