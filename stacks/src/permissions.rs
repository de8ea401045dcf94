//! What the principal that deploys must be allowed, call by call. `Cx::call` takes only operations that have an entry
//! here, found by the type of their error: a call that the policy does not know does not compile.
//!
//! Actions and their resources follow the Service Authorization Reference,
//! <https://docs.aws.amazon.com/service-authorization/latest/reference/>; where that is silent, `docs/quirks.md` has the
//! source.

use std::collections::{BTreeMap, BTreeSet};

use chat_functions::contract::Handler;
use serde_json::{Value, json};

use crate::aws::Identity;
use crate::ledger;
use crate::names::{AppName, Scope};

/// An operation of AWS, by the error type that the SDK gives it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` belongs to an operation without an entry in `stacks/src/permissions.rs`",
    label = "say there which IAM actions the call needs, and on what"
)]
pub(crate) trait Permitted {
    const OPERATION: &'static str;
}

/// An IAM action and where a caller needs it.
#[derive(Debug)]
struct Need {
    /// Crate of the SDK, and `CreateTableError`: the operation with `Error` behind it.
    sdk: &'static str,
    error: &'static str,
    action: &'static str,
    on: &'static [Part],
}

/// A part of the account, as narrow as IAM can tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Table,
    /// The table of locks and history, which all stages of an account and region share.
    Ledger,
    /// What is in it of the stage.
    LedgerItems,
    LogGroups,
    Functions,
    /// Roles below the stage's path.
    Roles,
    /// Roles of the stage's names in no path: how IAM calls a role that is not there, since a request has its name only.
    AbsentRoles,
    /// Listings that are authorised on nothing in particular.
    Anything,
    /// A path of API Gateway's control plane. APIs have generated ids, so no name can be told from another.
    Gateway(&'static str),
}

macro_rules! operations {
    ($($sdk:ident { $($module:ident $error:ident: $($action:literal $on:expr),+;)+ })+) => {
        $($(
            impl Permitted for $sdk::operation::$module::$error {
                const OPERATION: &'static str = operation_of(stringify!($error));
            }
        )+)+

        /// Every need of every operation.
        const NEEDS: &[Need] = &[
            $($($(Need { sdk: stringify!($sdk), error: stringify!($error), action: $action, on: &$on },)+)+)+
        ];
    };
}

/// Operations that whoever deploys does not make: an administrator does, and has rights of another source.
macro_rules! outside {
    ($($sdk:ident { $($module:ident $error:ident),+ $(,)? })+) => {
        $($(
            impl $crate::permissions::Permitted for $sdk::operation::$module::$error {
                const OPERATION: &'static str = $crate::permissions::operation_of(stringify!($error));
            }
        )+)+
    };
}
pub(crate) use outside;

pub(crate) const fn operation_of(error: &'static str) -> &'static str {
    // `Error` has five letters, and every error type ends in it.
    error.split_at(error.len() - 5).0
}

use Part::{AbsentRoles, Anything, Functions, Gateway, Ledger, LedgerItems, LogGroups, Roles, Table};

operations! {
    aws_sdk_dynamodb {
        // A call that sets tags needs the right to tag as well; so everywhere below.
        create_table CreateTableError: "dynamodb:CreateTable" [Table, Ledger], "dynamodb:TagResource" [Table, Ledger];
        delete_table DeleteTableError: "dynamodb:DeleteTable" [Table];
        describe_continuous_backups DescribeContinuousBackupsError: "dynamodb:DescribeContinuousBackups" [Table];
        describe_table DescribeTableError: "dynamodb:DescribeTable" [Table, Ledger];
        describe_time_to_live DescribeTimeToLiveError: "dynamodb:DescribeTimeToLive" [Table];
        list_tags_of_resource ListTagsOfResourceError: "dynamodb:ListTagsOfResource" [Table];
        query QueryError: "dynamodb:Query" [LedgerItems];
        tag_resource TagResourceError: "dynamodb:TagResource" [Table];
        // Authorised part by part.
        transact_write_items TransactWriteItemsError:
            "dynamodb:PutItem" [LedgerItems], "dynamodb:UpdateItem" [LedgerItems],
            "dynamodb:DeleteItem" [LedgerItems];
        update_continuous_backups UpdateContinuousBackupsError: "dynamodb:UpdateContinuousBackups" [Table];
        update_item UpdateItemError: "dynamodb:UpdateItem" [LedgerItems];
        update_table UpdateTableError: "dynamodb:UpdateTable" [Table];
        update_time_to_live UpdateTimeToLiveError: "dynamodb:UpdateTimeToLive" [Table];
    }
    aws_sdk_cloudwatchlogs {
        create_log_group CreateLogGroupError: "logs:CreateLogGroup" [LogGroups], "logs:TagResource" [LogGroups];
        delete_log_group DeleteLogGroupError: "logs:DeleteLogGroup" [LogGroups];
        describe_log_groups DescribeLogGroupsError: "logs:DescribeLogGroups" [Anything];
        filter_log_events FilterLogEventsError: "logs:FilterLogEvents" [LogGroups];
        list_tags_for_resource ListTagsForResourceError: "logs:ListTagsForResource" [LogGroups];
        put_retention_policy PutRetentionPolicyError: "logs:PutRetentionPolicy" [LogGroups];
        tag_resource TagResourceError: "logs:TagResource" [LogGroups];
    }
    aws_sdk_iam {
        create_role CreateRoleError: "iam:CreateRole" [Roles], "iam:TagRole" [Roles];
        delete_role DeleteRoleError: "iam:DeleteRole" [Roles];
        delete_role_policy DeleteRolePolicyError: "iam:DeleteRolePolicy" [Roles];
        delete_role_permissions_boundary DeleteRolePermissionsBoundaryError:
            "iam:DeleteRolePermissionsBoundary" [Roles];
        detach_role_policy DetachRolePolicyError: "iam:DetachRolePolicy" [Roles];
        get_role GetRoleError: "iam:GetRole" [Roles, AbsentRoles];
        get_role_policy GetRolePolicyError: "iam:GetRolePolicy" [Roles, AbsentRoles];
        list_attached_role_policies ListAttachedRolePoliciesError: "iam:ListAttachedRolePolicies" [Roles, AbsentRoles];
        list_role_policies ListRolePoliciesError: "iam:ListRolePolicies" [Roles, AbsentRoles];
        list_roles ListRolesError: "iam:ListRoles" [Anything];
        put_role_policy PutRolePolicyError: "iam:PutRolePolicy" [Roles];
        tag_role TagRoleError: "iam:TagRole" [Roles];
        update_assume_role_policy UpdateAssumeRolePolicyError: "iam:UpdateAssumeRolePolicy" [Roles];
    }
    aws_sdk_lambda {
        add_permission AddPermissionError: "lambda:AddPermission" [Functions];
        create_alias CreateAliasError: "lambda:CreateAlias" [Functions];
        create_function CreateFunctionError:
            "lambda:CreateFunction" [Functions], "lambda:TagResource" [Functions], "iam:PassRole" [Roles];
        delete_function DeleteFunctionError: "lambda:DeleteFunction" [Functions];
        delete_function_concurrency DeleteFunctionConcurrencyError:
            "lambda:DeleteFunctionConcurrency" [Functions];
        get_alias GetAliasError: "lambda:GetAlias" [Functions];
        // Without the second the answer has no tags, and the function would pass for somebody else's.
        get_function GetFunctionError: "lambda:GetFunction" [Functions], "lambda:ListTags" [Functions];
        get_function_configuration GetFunctionConfigurationError: "lambda:GetFunctionConfiguration" [Functions];
        get_policy GetPolicyError: "lambda:GetPolicy" [Functions];
        list_versions_by_function ListVersionsByFunctionError: "lambda:ListVersionsByFunction" [Functions];
        publish_version PublishVersionError: "lambda:PublishVersion" [Functions];
        remove_permission RemovePermissionError: "lambda:RemovePermission" [Functions];
        tag_resource TagResourceError: "lambda:TagResource" [Functions];
        update_alias UpdateAliasError: "lambda:UpdateAlias" [Functions];
        update_function_code UpdateFunctionCodeError: "lambda:UpdateFunctionCode" [Functions];
        update_function_configuration UpdateFunctionConfigurationError:
            "lambda:UpdateFunctionConfiguration" [Functions], "iam:PassRole" [Roles];
    }
    // Authorised by HTTP method and path.
    aws_sdk_apigatewayv2 {
        create_api CreateApiError:
            "apigateway:POST" [Gateway("/apis")], "apigateway:TagResource" [Gateway("/apis")];
        create_authorizer CreateAuthorizerError: "apigateway:POST" [Gateway("/apis/*/authorizers")];
        create_deployment CreateDeploymentError: "apigateway:POST" [Gateway("/apis/*/deployments")];
        create_integration CreateIntegrationError: "apigateway:POST" [Gateway("/apis/*/integrations")];
        create_integration_response CreateIntegrationResponseError:
            "apigateway:POST" [Gateway("/apis/*/integrations/*/integrationresponses")];
        create_route CreateRouteError: "apigateway:POST" [Gateway("/apis/*/routes")];
        create_route_response CreateRouteResponseError:
            "apigateway:POST" [Gateway("/apis/*/routes/*/routeresponses")];
        create_stage CreateStageError:
            "apigateway:POST" [Gateway("/apis/*/stages")], "apigateway:TagResource" [Gateway("/apis/*/stages")];
        // The settings' own paths are below the stage's.
        delete_access_log_settings DeleteAccessLogSettingsError:
            "apigateway:DELETE" [Gateway("/apis/*/stages/*/accesslogsettings")];
        delete_api DeleteApiError: "apigateway:DELETE" [Gateway("/apis/*")];
        delete_authorizer DeleteAuthorizerError: "apigateway:DELETE" [Gateway("/apis/*/authorizers/*")];
        delete_deployment DeleteDeploymentError: "apigateway:DELETE" [Gateway("/apis/*/deployments/*")];
        delete_integration DeleteIntegrationError: "apigateway:DELETE" [Gateway("/apis/*/integrations/*")];
        delete_integration_response DeleteIntegrationResponseError:
            "apigateway:DELETE" [Gateway("/apis/*/integrations/*/integrationresponses/*")];
        delete_route DeleteRouteError: "apigateway:DELETE" [Gateway("/apis/*/routes/*")];
        delete_route_response DeleteRouteResponseError:
            "apigateway:DELETE" [Gateway("/apis/*/routes/*/routeresponses/*")];
        delete_route_settings DeleteRouteSettingsError:
            "apigateway:DELETE" [Gateway("/apis/*/stages/*/routesettings/*")];
        delete_stage DeleteStageError: "apigateway:DELETE" [Gateway("/apis/*/stages/*")];
        get_apis GetApisError: "apigateway:GET" [Gateway("/apis")];
        get_authorizers GetAuthorizersError: "apigateway:GET" [Gateway("/apis/*/authorizers")];
        get_deployment GetDeploymentError: "apigateway:GET" [Gateway("/apis/*/deployments/*")];
        get_deployments GetDeploymentsError: "apigateway:GET" [Gateway("/apis/*/deployments")];
        get_integration_responses GetIntegrationResponsesError:
            "apigateway:GET" [Gateway("/apis/*/integrations/*/integrationresponses")];
        get_integrations GetIntegrationsError: "apigateway:GET" [Gateway("/apis/*/integrations")];
        get_route_responses GetRouteResponsesError:
            "apigateway:GET" [Gateway("/apis/*/routes/*/routeresponses")];
        get_routes GetRoutesError: "apigateway:GET" [Gateway("/apis/*/routes")];
        get_stages GetStagesError: "apigateway:GET" [Gateway("/apis/*/stages")];
        tag_resource TagResourceError: "apigateway:POST" [Gateway("/tags/*")];
        update_api UpdateApiError: "apigateway:PATCH" [Gateway("/apis/*")];
        update_authorizer UpdateAuthorizerError: "apigateway:PATCH" [Gateway("/apis/*/authorizers/*")];
        update_integration UpdateIntegrationError: "apigateway:PATCH" [Gateway("/apis/*/integrations/*")];
        update_integration_response UpdateIntegrationResponseError:
            "apigateway:PATCH" [Gateway("/apis/*/integrations/*/integrationresponses/*")];
        update_route UpdateRouteError: "apigateway:PATCH" [Gateway("/apis/*/routes/*")];
        update_stage UpdateStageError: "apigateway:PATCH" [Gateway("/apis/*/stages/*")];
    }
}

/// Under which condition something is allowed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// The service that a role is handed over to.
    PassedTo(&'static str),
    /// The partition of a table that items are in, with a star at its end perhaps. Without it whoever deploys one stage
    /// could take the lock of another.
    LeadingKey(String),
}

impl Condition {
    pub(crate) const fn key(&self) -> &'static str {
        match self {
            Self::PassedTo(_) => "iam:PassedToService",
            Self::LeadingKey(_) => "dynamodb:LeadingKeys",
        }
    }

    pub(crate) fn value(&self) -> &str {
        match self {
            Self::PassedTo(service) => service,
            Self::LeadingKey(key) => key,
        }
    }

    fn operator(&self) -> &'static str {
        match self {
            Self::PassedTo(_) => "StringEquals",
            // Every item of a transaction or a page.
            Self::LeadingKey(key) if key.ends_with('*') => "ForAllValues:StringLike",
            Self::LeadingKey(_) => "ForAllValues:StringEquals",
        }
    }
}

/// One statement: actions that are needed on the same resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub sid: String,
    pub actions: Vec<&'static str>,
    /// ARNs with wildcards.
    pub resources: Vec<String>,
    pub condition: Option<Condition>,
}

/// What actions have in common that go into one statement: service, resources, and condition.
type Reach = (&'static str, Vec<Part>, Option<Condition>);

/// What deploy, plan, status, logs, code updates and destroy of a stage need, and nothing else. With a star at its end
/// `stage` stands for all stages that begin like it.
pub fn deployer(app: &AppName, stage: &str, identity: &Identity) -> Vec<Grant> {
    let mut by_action: BTreeMap<&'static str, BTreeSet<Part>> = BTreeMap::new();
    for need in NEEDS {
        by_action.entry(need.action).or_default().extend(need.on);
    }
    // Together what has the same resources: fewer statements, and a shorter policy, whose length is limited.
    let mut grants: BTreeMap<Reach, Vec<&'static str>> = BTreeMap::new();
    for (action, parts) in by_action {
        let service = action.split(':').next().unwrap_or_default();
        let condition = if action == "iam:PassRole" {
            Some(Condition::PassedTo("lambda.amazonaws.com"))
        } else if parts.contains(&LedgerItems) {
            Some(Condition::LeadingKey(ledger::partition(app.as_str(), stage)))
        } else {
            None
        };
        grants.entry((service, widest(parts), condition)).or_default().push(action);
    }
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let grant = |((service, parts, condition), actions): (Reach, Vec<&'static str>)| {
        let sid = match condition {
            Some(Condition::PassedTo(_)) => "PassRole".to_owned(),
            _ => sid(service, &parts, &actions),
        };
        let count = seen.entry(sid.clone()).or_default();
        *count += 1;
        Grant {
            sid: if *count == 1 { sid } else { format!("{sid}{count}") },
            actions,
            resources: parts.iter().map(|part| part.arn(app, stage, identity)).collect(),
            condition,
        }
    };
    grants.into_iter().map(grant).collect()
}

/// Actions to be asked about together, on resources as they will be called.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) actions: Vec<&'static str>,
    pub(crate) resources: Vec<String>,
    pub(crate) condition: Option<Condition>,
}

/// Questions that cover the given actions for one stage.
pub(crate) fn questions(scope: &Scope, identity: &Identity, about: &BTreeSet<&'static str>) -> Vec<Question> {
    let grants = deployer(&scope.app, scope.stage.as_str(), identity).into_iter();
    let question = |grant: Grant| {
        let actions: Vec<&str> = grant.actions.into_iter().filter(|action| about.contains(action)).collect();
        (!actions.is_empty()).then(|| Question {
            actions,
            resources: grant.resources.iter().flat_map(|pattern| named(pattern)).collect(),
            condition: grant.condition,
        })
    };
    grants.filter_map(question).collect()
}

/// Resources that a pattern stands for: a star behind a name is each handler, any other one some id.
fn named(pattern: &str) -> Vec<String> {
    if pattern == "*" {
        return vec![pattern.to_owned()];
    }
    match pattern.strip_suffix("-*") {
        Some(start) => Handler::ALL.iter().map(|handler| format!("{start}-{}", handler.name())).collect(),
        None => vec![pattern.replace('*', "x")],
    }
}

/// Every action that a deployer may need.
#[cfg(test)]
pub(crate) fn actions() -> BTreeSet<&'static str> {
    NEEDS.iter().map(|need| need.action).collect()
}

/// The policy document of some grants.
pub fn document(grants: &[Grant]) -> Value {
    let statements: Vec<Value> = grants
        .iter()
        .map(|grant| {
            let mut statement = json!({
                "Sid": grant.sid,
                "Effect": "Allow",
                "Action": grant.actions,
                "Resource": grant.resources,
            });
            if let Some(condition) = &grant.condition {
                statement["Condition"] =
                    json!({ condition.operator(): { condition.key(): condition.value() } });
            }
            statement
        })
        .collect();
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// The operations that are known here: service as in IAM actions, and name.
pub fn operations() -> BTreeSet<(&'static str, &'static str)> {
    let service = |sdk: &'static str| match sdk {
        "aws_sdk_cloudwatchlogs" => "logs",
        "aws_sdk_apigatewayv2" => "apigateway",
        other => other.trim_start_matches("aws_sdk_"),
    };
    NEEDS.iter().map(|need| (service(need.sdk), operation_of(need.error))).collect()
}

/// Without paths that another one covers: a star of IAM also stands for slashes.
fn widest(parts: BTreeSet<Part>) -> Vec<Part> {
    let covered = |part: &Part| {
        let Part::Gateway(path) = part else { return false };
        parts.iter().any(|other| match other {
            Part::Gateway(wide) => {
                other != part && wide.strip_suffix('*').is_some_and(|wide| path.starts_with(wide))
            }
            _ => false,
        })
    };
    parts.iter().copied().filter(|part| !covered(part)).collect()
}

fn sid(service: &str, parts: &[Part], actions: &[&str]) -> String {
    let mut sid = match service {
        "apigateway" => "Gateway".to_owned(),
        "dynamodb" => parts.iter().map(|part| format!("{part:?}")).collect(),
        other => {
            let mut name = other.to_owned();
            name[..1].make_ascii_uppercase();
            name
        }
    };
    match (parts, actions) {
        ([Part::Gateway(_), ..], _) => {
            sid.extend(actions.iter().filter_map(|action| action.split(':').next_back()));
        }
        ([Part::Anything], _) => sid.push_str("List"),
        (parts, _) if parts.contains(&Part::AbsentRoles) => sid.push_str("Read"),
        _ => {}
    }
    sid
}

impl Part {
    /// As a policy names it.
    fn arn(self, app: &AppName, stage: &str, identity: &Identity) -> String {
        let Identity { partition, region, account, .. } = identity;
        // The same names as in [`crate::names::Scope`], but a pattern is no stage.
        let prefix = format!("{app}-{stage}");
        match self {
            Self::Table => format!("arn:{partition}:dynamodb:{region}:{account}:table/{prefix}"),
            Self::Ledger | Self::LedgerItems => {
                format!("arn:{partition}:dynamodb:{region}:{account}:table/{}", ledger::NAME)
            }
            // The star also covers `:log-stream:` behind the name, which calls on groups are authorised with.
            Self::LogGroups => {
                format!("arn:{partition}:logs:{region}:{account}:log-group:/aws/lambda/{prefix}-*")
            }
            // The star also covers aliases and versions.
            Self::Functions => format!("arn:{partition}:lambda:{region}:{account}:function:{prefix}-*"),
            Self::Roles => format!("arn:{partition}:iam::{account}:role/chatctl/{app}/{stage}/{prefix}-*"),
            Self::AbsentRoles => format!("arn:{partition}:iam::{account}:role/{prefix}-*"),
            Self::Anything => "*".to_owned(),
            Self::Gateway(path) => format!("arn:{partition}:apigateway:{region}::{path}"),
        }
    }
}

#[cfg(test)]
mod tests;
