//! A change set as a plan, so that it is shown and asked about like any other.

use aws_sdk_cloudformation::types::{ChangeAction, Replacement, ResourceChange, ResourceChangeDetail};
use serde_json::Value;

use super::template::Template;
use crate::address::{Address, Kind};
use crate::plan::{Action, Plan, PropertyChange, Step};
use crate::resource::Outputs;

/// Properties that a template of ours may have, under the names that they have there.
const PROPERTIES: &[&str] = &[
    "Action",
    "ApiId",
    "Architectures",
    "AssumeRolePolicyDocument",
    "AttributeDefinitions",
    "AuthorizationType",
    "AuthorizerId",
    "AuthorizerType",
    "AuthorizerUri",
    "AutoDeploy",
    "BillingMode",
    "Code",
    "CodeSha256",
    "DefaultRouteSettings",
    "DeletionProtectionEnabled",
    "DeploymentId",
    "Description",
    "Environment",
    "FunctionName",
    "FunctionVersion",
    "Handler",
    "IdentitySource",
    "IntegrationId",
    "IntegrationMethod",
    "IntegrationResponseKey",
    "IntegrationType",
    "IntegrationUri",
    "KeySchema",
    "LogGroupName",
    "MemorySize",
    "Name",
    "PassthroughBehavior",
    "Path",
    "PointInTimeRecoverySpecification",
    "PolicyDocument",
    "PolicyName",
    "Principal",
    "ProtocolType",
    "RequestTemplates",
    "ResponseTemplates",
    "RetentionInDays",
    "Role",
    "RoleName",
    "RouteId",
    "RouteKey",
    "RouteResponseKey",
    "RouteResponseSelectionExpression",
    "RouteSelectionExpression",
    "Runtime",
    "SourceArn",
    "StageName",
    "TableName",
    "Tags",
    "Target",
    "TimeToLiveSpecification",
    "Timeout",
];

/// The changes in the order of the template, what goes last.
pub(crate) fn plan(template: &Template, changes: Vec<ResourceChange>) -> Plan {
    let mut steps: Vec<(usize, Step)> = changes.into_iter().map(|change| step(template, change)).collect();
    steps.sort_by_key(|(at, step)| (step.action == Action::Delete, *at, step.resource.clone()));
    let steps: Vec<Step> = steps.into_iter().map(|(_, step)| step).collect();
    let changed = |address: &Address| steps.iter().any(|step| step.resource == *address);
    let mut entries: Vec<_> = template.entries().values().collect();
    entries.sort_by_key(|entry| entry.at);
    let unchanged =
        entries.iter().map(|entry| entry.address.clone()).filter(|address| !changed(address)).collect();
    Plan { scope: template.scope.clone(), steps, unchanged, outputs: Outputs::default() }
}

fn step(template: &Template, change: ResourceChange) -> (usize, Step) {
    let id = change.logical_resource_id.unwrap_or_default();
    let kind = change.resource_type.unwrap_or_default();
    let at = template.entries().get(&id).map_or(usize::MAX, |entry| entry.at);
    let action = match (change.action, change.replacement) {
        (Some(ChangeAction::Remove), _) => Action::Delete,
        (Some(ChangeAction::Modify), Some(Replacement::True | Replacement::Conditional)) => Action::Replace,
        (Some(ChangeAction::Modify), _) => Action::Update,
        _ => Action::Create,
    };
    let changes = change.details.unwrap_or_default().into_iter().map(property).collect();
    let step = Step {
        resource: address(template, &id, &kind),
        action,
        id: change.physical_resource_id,
        changes,
        drift: false,
        after: Vec::new(),
        deleted_with: None,
        live: None,
    };
    (at, step)
}

fn property(detail: ResourceChangeDetail) -> PropertyChange {
    let target = detail.target;
    let name = target.as_ref().and_then(|target| target.name.clone()).unwrap_or_default();
    // Objects come as their JSON: read again, so that a plan shows where they differ.
    let value = |text: Option<&String>| {
        let text = text?;
        let parsed =
            serde_json::from_str(text).ok().filter(|value: &Value| value.is_object() || value.is_array());
        Some(parsed.unwrap_or_else(|| Value::String(text.clone())))
    };
    let recreated = target.as_ref().and_then(|target| target.requires_recreation.clone());
    PropertyChange {
        property: known(&name),
        old: value(target.as_ref().and_then(|target| target.before_value.as_ref())),
        new: value(target.as_ref().and_then(|target| target.after_value.as_ref())),
        known_after_apply: false,
        drift: false,
        forces_replacement: recreated.is_some_and(|recreated| recreated.as_str() == "Always"),
    }
}

/// The name as one of those that there are; attributes such as the deletion policy have none.
fn known(name: &str) -> &'static str {
    PROPERTIES.iter().find(|known| **known == name).copied().unwrap_or("attributes")
}

/// What an entry of the template is called here. One that is no longer in the template keeps its name from there.
pub(crate) fn address(template: &Template, logical_id: &str, kind: &str) -> Address {
    if let Some(entry) = template.entries().get(logical_id) {
        return entry.address.clone();
    }
    let kind = match kind {
        "AWS::DynamoDB::Table" => Kind::Table,
        "AWS::Logs::LogGroup" => Kind::LogGroup,
        "AWS::IAM::Role" => Kind::Role,
        "AWS::IAM::RolePolicy" => Kind::Policy,
        "AWS::Lambda::Function" | "AWS::Lambda::Version" => Kind::Function,
        "AWS::Lambda::Alias" => Kind::Alias,
        "AWS::Lambda::Permission" => Kind::Permission,
        "AWS::ApiGatewayV2::Api" => Kind::Api,
        "AWS::ApiGatewayV2::Authorizer" => Kind::Authorizer,
        "AWS::ApiGatewayV2::Integration" => Kind::Integration,
        "AWS::ApiGatewayV2::IntegrationResponse" => Kind::IntegrationResponse,
        "AWS::ApiGatewayV2::Route" => Kind::Route,
        "AWS::ApiGatewayV2::RouteResponse" => Kind::RouteResponse,
        "AWS::ApiGatewayV2::Deployment" => Kind::Deployment,
        _ => Kind::Stage,
    };
    Address::new(kind, logical_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_of_the_template_has_a_name_in_plans() {
        let body: Value = serde_yaml::from_str(&super::super::template::tests::pinned()).unwrap();
        for (id, entry) in body["Resources"].as_object().unwrap() {
            for name in entry["Properties"].as_object().unwrap().keys() {
                assert_eq!(known(name), name, "{id}");
            }
        }
    }
}
