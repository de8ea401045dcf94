//! A Lambda function on `provided.al2023`: code, configuration, and the published version of both. What serves is the
//! version behind the [alias](super::alias); changing a function changes nothing until that moves.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_lambda::operation::get_function_configuration::GetFunctionConfigurationOutput;
use aws_sdk_lambda::operation::update_function_configuration::builders::UpdateFunctionConfigurationFluentBuilder;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{
    Architecture, DeadLetterConfig, Environment, EphemeralStorage, FunctionCode, FunctionConfiguration,
    LastUpdateStatus, LogFormat, LoggingConfig, Runtime, SnapStart, SnapStartApplyOn, State, TracingConfig,
    TracingMode, VpcConfig,
};
use chat_functions::contract::Handler;
use futures_util::future::try_join4;
use serde_json::{Value, json};

use super::undeclared::{UNDECLARED, Undeclared, some_text};
use super::{alias, ownership, permission, require_owned, role, tag_map, tags_property};
use crate::address::{Address, Kind};
use crate::artifact::Artifact;
use crate::aws::Identity;
use crate::building::Code;
use crate::call::{Cx, OrAbsent};
use crate::error::Error;
use crate::names::Scope;
use crate::observe::Found;
use crate::resource::{Desired, Live, Outputs, Properties, Resource, Values};
use crate::retry::NEW_FUNCTION_UNSEEN;

/// A function is ready within seconds; an image that does not start takes longest to say so.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// What a function has under `/tmp` unless told otherwise.
const DEFAULT_STORAGE_MB: i32 = 512;

#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) scope: Scope,
    pub(crate) handler: Handler,
    pub(crate) identity: Identity,
    pub(crate) code: Code,
    pub(crate) memory_mb: u32,
    pub(crate) timeout_s: u32,
    pub(crate) architecture: &'static str,
    pub(crate) environment: BTreeMap<&'static str, Variable>,
}

/// The value of an environment variable.
#[derive(Clone, Debug)]
pub(crate) enum Variable {
    Known(String),
    /// The API's endpoint with the stage: `@connections` is below it, over HTTP.
    CallbackUrl {
        api: Address,
    },
}

impl Variable {
    fn value(&self, scope: &Scope, outputs: &Outputs) -> Option<String> {
        match self {
            Self::Known(value) => Some(value.clone()),
            Self::CallbackUrl { api } => {
                // As API Gateway tells it, `wss://`: a template cannot write it in another way, and the handlers know.
                outputs.get(api, "endpoint").map(|endpoint| format!("{endpoint}/{}", scope.stage))
            }
        }
    }
}

pub(crate) fn address(part: &str) -> Address {
    Address::new(Kind::Function, part)
}

/// The ARN of a function, which is known before it exists.
pub(crate) fn arn(identity: &Identity, name: &str) -> String {
    let Identity { partition, region, account, .. } = identity;
    format!("arn:{partition}:lambda:{region}:{account}:function:{name}")
}

impl Function {
    pub(crate) fn name(&self) -> String {
        self.scope.function(self.handler)
    }

    fn role_arn(&self) -> String {
        self.role_arn_of(self.handler)
    }

    fn role_arn_of(&self, handler: Handler) -> String {
        let Identity { partition, account, .. } = &self.identity;
        let name = self.scope.function(handler);
        format!("arn:{partition}:iam::{account}:role{}{name}", self.scope.role_path())
    }

    /// It names the very role, so that another one of the same name shows as a difference, in what is published too.
    pub(crate) fn description(&self, outputs: &Outputs) -> Option<String> {
        let role = self.role_id(outputs)?;
        Some(format!("{}: {}{FOR_ROLE}{role}", self.scope.prefix(), self.handler))
    }

    /// The unique id of the function's role.
    fn role_id<'a>(&self, outputs: &'a Outputs) -> Option<&'a str> {
        outputs.get(&role::address(self.handler.name()), "id")
    }

    pub(crate) fn environment(&self, outputs: &Outputs) -> Option<BTreeMap<&'static str, String>> {
        let values = self.environment.iter();
        values.map(|(name, variable)| Some((*name, variable.value(&self.scope, outputs)?))).collect()
    }

    fn sdk_environment(&self, outputs: &Outputs) -> Environment {
        let variables = self.environment(outputs).unwrap_or_default();
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        // Always sent: left out, variables that are no longer declared would stay. aws-facts, Lambda 2.
        Environment::builder().set_variables(Some(variables)).build()
    }
}

#[async_trait]
impl Resource for Function {
    fn address(&self) -> Address {
        address(self.handler.name())
    }

    fn needs(&self) -> Vec<Address> {
        let mut needs = vec![role::address(self.handler.name())];
        needs.extend(self.environment.values().filter_map(|variable| match variable {
            Variable::Known(_) => None,
            Variable::CallbackUrl { api } => Some(api.clone()),
        }));
        needs
    }

    fn desired(&self, outputs: &Outputs) -> Desired {
        Desired::new()
            .with_later(CODE, self.code.known().map(|artifact| artifact.sha256().to_owned()))
            .with("runtime", Runtime::Providedal2023.as_str())
            .with("handler", "bootstrap")
            .with("architecture", self.architecture)
            .with("memory_mb", self.memory_mb)
            .with("timeout_s", self.timeout_s)
            .with("role", self.role_arn())
            .with_later(ROLE_ID, self.role_id(outputs))
            .with_later("environment", self.environment(outputs).map(|variables| json!(variables)))
            .with(UNDECLARED, Undeclared::none())
            .with("reserved_concurrency", Value::Null)
            // What serves is published: false after a run that was killed in between.
            .with(PUBLISHED, true)
            .with("tags", tags_property(&self.scope))
    }

    fn volatile(&self) -> &'static [&'static str] {
        &["version"]
    }

    async fn converge(&self, cx: &Cx<'_>, live: Option<&Live>) -> Result<Values, Error> {
        if self.code.known().is_none() {
            cx.progress(WAITING_FOR_CODE);
        }
        let Some(artifact) = self.code.ready(cx.stop).await? else {
            return Err(Error::Stopped { resource: self.address(), what: WAITING_FOR_CODE.to_owned() });
        };
        let mut live = live.cloned();
        if live.is_none() {
            match self.create(cx, &artifact).await? {
                Some(version) => return Ok(self.outputs(version)),
                None => live = Some(require_owned(cx, find(cx, self.handler.name()).await?)?),
            }
        }
        let drift = cx.drifted(self, live.as_ref())?;
        let drifted = |properties: &[&str]| properties.iter().any(|property| drift.contains(property));
        let mut version = live.as_ref().and_then(|live| live.outputs.get("version").cloned());
        // Configuration, wait, code, wait: aws-facts, Lambda 2.
        let undeclared = drifted(&[UNDECLARED]);
        let reconfigured = undeclared
            || drifted(&["runtime", "handler", "memory_mb", "timeout_s", "role", ROLE_ID, "environment"]);
        if drifted(&[ROLE_ID]) && !drifted(&["role"]) {
            self.renew_grant(cx).await?;
        }
        if reconfigured {
            self.update_configuration(cx, undeclared).await?;
        }
        if drifted(&["code_sha256", "architecture"]) {
            version = Some(upload(cx, &self.name(), &artifact, self.architecture).await?);
        } else if reconfigured || drifted(&[PUBLISHED]) || version.is_none() {
            version = Some(self.publish(cx).await?);
        }
        if drifted(&["reserved_concurrency"]) {
            cx.call(|| cx.aws.lambda.delete_function_concurrency().function_name(self.name()).send()).await?;
        }
        if drifted(&["tags"]) {
            let arn = arn(&self.identity, &self.name());
            cx.call(|| {
                cx.aws.lambda.tag_resource().resource(&arn).set_tags(Some(tag_map(&self.scope))).send()
            })
            .await?;
        }
        Ok(self.outputs(version.unwrap_or_default()))
    }
}

/// Stands before the role's id in a function's description.
const FOR_ROLE: &str = ", for role ";

/// The property that another role of the same name changes.
const ROLE_ID: &str = "role_id";

const WAITING_FOR_CODE: &str = "waiting until the handlers are built";

/// Whether the version that serves is what the function is now. It follows from others' properties: a rollback makes
/// it false.
pub(crate) const PUBLISHED: &str = "published";

/// The property that only new code changes.
pub(crate) const CODE: &str = "code_sha256";

impl Function {
    fn outputs(&self, version: String) -> Values {
        Values::from([("arn", arn(&self.identity, &self.name())), ("version", version)])
    }

    /// The version it was published as, or nothing if there is such a function already.
    async fn create(&self, cx: &Cx<'_>, artifact: &Artifact) -> Result<Option<String>, Error> {
        let code = FunctionCode::builder().zip_file(Blob::new(artifact.zip())).build();
        let created = cx
            .call(|| {
                cx.aws
                    .lambda
                    .create_function()
                    .function_name(self.name())
                    .set_description(self.description(&cx.outputs))
                    .runtime(Runtime::Providedal2023)
                    .handler("bootstrap")
                    .architectures(Architecture::from(self.architecture))
                    .memory_size(i32::try_from(self.memory_mb).unwrap_or(i32::MAX))
                    .timeout(i32::try_from(self.timeout_s).unwrap_or(i32::MAX))
                    .role(self.role_arn())
                    .environment(self.sdk_environment(&cx.outputs))
                    .code(code.clone())
                    .publish(true)
                    .set_tags(Some(tag_map(&self.scope)))
                    .send()
            })
            .await;
        match created {
            Ok(answer) => Ok(Some(answer.version.unwrap_or_default())),
            Err(failure)
                if failure.is("ResourceConflictException") && failure.message.contains("already exist") =>
            {
                Ok(None)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Gives the function another role for a moment. Its environment is encrypted by a grant for the role that it had, and
    /// one that was made anew is another principal, whatever its name: only a change of roles renews the grant
    /// (<https://repost.aws/knowledge-center/lambda-kmsaccessdeniedexception-errors>). What serves is a version and keeps
    /// its own.
    async fn renew_grant(&self, cx: &Cx<'_>) -> Result<(), Error> {
        let Some(other) = Handler::ALL.into_iter().find(|handler| *handler != self.handler) else {
            return Ok(());
        };
        let role = self.role_arn_of(other);
        cx.call(|| {
            cx.aws.lambda.update_function_configuration().function_name(self.name()).role(&role).send()
        })
        .await?;
        wait_until_ready(cx, &self.name(), None).await
    }

    /// `reset`: also what is not declared goes back to its default, each in the way in which Lambda takes it back.
    async fn update_configuration(&self, cx: &Cx<'_>, reset: bool) -> Result<(), Error> {
        cx.call(|| {
            let request = cx
                .aws
                .lambda
                .update_function_configuration()
                .function_name(self.name())
                .set_description(self.description(&cx.outputs))
                .runtime(Runtime::Providedal2023)
                .handler("bootstrap")
                .memory_size(i32::try_from(self.memory_mb).unwrap_or(i32::MAX))
                .timeout(i32::try_from(self.timeout_s).unwrap_or(i32::MAX))
                .role(self.role_arn())
                .environment(self.sdk_environment(&cx.outputs));
            if reset { self.reset(request) } else { request }.send()
        })
        .await?;
        wait_until_ready(cx, &self.name(), None).await
    }

    fn reset(
        &self,
        request: UpdateFunctionConfigurationFluentBuilder,
    ) -> UpdateFunctionConfigurationFluentBuilder {
        let nowhere = VpcConfig::builder().set_subnet_ids(Some(vec![])).set_security_group_ids(Some(vec![]));
        let logging = LoggingConfig::builder()
            .log_format(LogFormat::Text)
            .log_group(self.scope.log_group(self.handler));
        let request = request
            .set_layers(Some(vec![]))
            .set_file_system_configs(Some(vec![]))
            .vpc_config(nowhere.build())
            .dead_letter_config(DeadLetterConfig::builder().target_arn("").build())
            .tracing_config(TracingConfig::builder().mode(TracingMode::PassThrough).build())
            .snap_start(SnapStart::builder().apply_on(SnapStartApplyOn::None).build())
            .logging_config(logging.build());
        match EphemeralStorage::builder().size(DEFAULT_STORAGE_MB).build() {
            Ok(storage) => request.ephemeral_storage(storage),
            Err(_) => request,
        }
    }

    /// Publishing what is published already gives the same version: Lambda's PublishVersion documentation.
    async fn publish(&self, cx: &Cx<'_>) -> Result<String, Error> {
        let answer = cx.call(|| cx.aws.lambda.publish_version().function_name(self.name()).send()).await?;
        answer.version.ok_or_else(|| Error::bug("PublishVersion told no version"))
    }
}

/// Uploads code and publishes it. Whoever wants to serve it waits until it is ready.
pub(crate) async fn upload(
    cx: &Cx<'_>,
    name: &str,
    artifact: &Artifact,
    architecture: &str,
) -> Result<String, Error> {
    let answer = cx
        .call(|| {
            cx.aws
                .lambda
                .update_function_code()
                .function_name(name)
                .zip_file(Blob::new(artifact.zip()))
                .architectures(Architecture::from(architecture))
                .publish(true)
                .send()
        })
        .await?;
    answer.version.ok_or_else(|| Error::bug("UpdateFunctionCode told no version"))
}

/// Waits until the function, or one version of it, can be invoked and changed.
pub(crate) async fn wait_until_ready(cx: &Cx<'_>, name: &str, version: Option<&str>) -> Result<(), Error> {
    let started = Instant::now();
    cx.wait("the function is ready", READY_WITHIN, || async {
        let answer = cx
            .call(|| {
                let request = cx.aws.lambda.get_function_configuration().function_name(name);
                request.set_qualifier(version.map(str::to_owned)).send()
            })
            .await;
        match answer {
            Ok(answer) => is_ready(cx, &answer),
            // Created a moment ago, it is not found everywhere yet.
            Err(failure)
                if failure.is("ResourceNotFoundException") && started.elapsed() < NEW_FUNCTION_UNSEEN =>
            {
                Ok(None)
            }
            Err(failure) => Err(failure.into()),
        }
    })
    .await
}

fn is_ready(cx: &Cx<'_>, answer: &GetFunctionConfigurationOutput) -> Result<Option<()>, Error> {
    let unhealthy = |what: Option<&str>| {
        let resource = cx.address.clone().unwrap_or_else(|| address("?"));
        Err(Error::Unhealthy { resource, what: what.unwrap_or("Lambda gives no reason").to_owned() })
    };
    match (&answer.state, &answer.last_update_status) {
        (Some(State::Failed), _) => unhealthy(answer.state_reason()),
        (_, Some(LastUpdateStatus::Failed)) => unhealthy(answer.last_update_status_reason()),
        (Some(State::Pending), _) | (_, Some(LastUpdateStatus::InProgress)) => Ok(None),
        // Inactive is asleep, not broken.
        _ => Ok(Some(())),
    }
}

/// The function with its alias and the permissions on that.
pub(super) async fn observe(cx: &Cx<'_>, part: &str) -> Result<Found, Error> {
    let name = cx.scope.named(part);
    let (function, alias, serving, permissions) = try_join4(
        observe_function(cx, &name),
        alias::observe(cx, part),
        observe_configuration(cx, &name, alias::NAME),
        permission::observe(cx, part),
    )
    .await?;
    let Some(mut function) = function else { return Ok(Found::new()) };
    // What serves is what is at the head: then the version that the alias has is the function's newest.
    let version =
        alias.as_ref().and_then(|(_, alias)| alias.properties.get("version")).and_then(Value::as_str);
    let head: Properties = function
        .properties
        .iter()
        .filter(|(name, _)| !["tags", "reserved_concurrency"].contains(*name))
        .map(|(n, v)| (*n, v.clone()))
        .collect();
    let published = serving.as_ref() == Some(&head);
    if let (true, Some(version)) = (published, version) {
        function.outputs.insert("version", version.to_owned());
    }
    function.properties.insert(PUBLISHED, json!(published));
    let owned = function.owned;
    let mut found = vec![(address(part), function)];
    found.extend(alias);
    found.extend(permissions);
    // Neither an alias nor a permission has tags: they belong to whom their function belongs.
    found.iter_mut().for_each(|(_, live)| live.owned = owned);
    Ok(found)
}

async fn find(cx: &Cx<'_>, part: &str) -> Result<Option<Live>, Error> {
    Ok(observe(cx, part).await?.into_iter().next().map(|(_, live)| live))
}

async fn observe_function(cx: &Cx<'_>, name: &str) -> Result<Option<Live>, Error> {
    let answer = cx
        .call(|| cx.aws.lambda.get_function().function_name(name).send())
        .await
        .or_absent("ResourceNotFoundException")?;
    let Some(answer) = answer else { return Ok(None) };
    if let Some(missing) = answer.tags_error {
        // Without its tags it would pass for somebody else's.
        let what = format!("Lambda does not tell its tags: {}", missing.message);
        return Err(Error::Unhealthy { resource: address(cx.scope.part(name).unwrap_or(name)), what });
    }
    let tags = answer.tags.unwrap_or_default();
    let (tags, owned) = ownership(cx.scope, tags.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let configuration = answer.configuration.unwrap_or_else(|| FunctionConfiguration::builder().build());
    let arn = configuration.function_arn.clone().unwrap_or_default();
    let mut properties = comparable(name, &configuration);
    properties.insert("tags", tags);
    let reserved = answer.concurrency.and_then(|concurrency| concurrency.reserved_concurrent_executions);
    properties.insert("reserved_concurrency", json!(reserved));
    Ok(Some(Live { id: name.to_owned(), properties, outputs: Values::from([("arn", arn)]), owned }))
}

/// The configuration behind a version or alias.
async fn observe_configuration(
    cx: &Cx<'_>,
    name: &str,
    qualifier: &str,
) -> Result<Option<Properties>, Error> {
    let answer = cx
        .call(|| cx.aws.lambda.get_function().function_name(name).qualifier(qualifier).send())
        .await
        .or_absent("ResourceNotFoundException")?;
    Ok(answer.and_then(|answer| answer.configuration).map(|configuration| comparable(name, &configuration)))
}

/// The properties that say whether two versions do the same.
fn comparable(name: &str, configuration: &FunctionConfiguration) -> Properties {
    let environment =
        configuration.environment.as_ref().and_then(|environment| environment.variables.as_ref());
    let environment: BTreeMap<&String, &String> = environment.into_iter().flatten().collect();
    let architecture = configuration.architectures().first().map_or("x86_64", Architecture::as_str);
    let role_id = configuration.description().and_then(|text| Some(text.rsplit_once(FOR_ROLE)?.1));
    Properties::from([
        ("code_sha256", json!(configuration.code_sha256)),
        ("runtime", json!(configuration.runtime.as_ref().map(Runtime::as_str))),
        ("handler", json!(configuration.handler)),
        ("architecture", json!(architecture)),
        ("memory_mb", json!(configuration.memory_size)),
        ("timeout_s", json!(configuration.timeout)),
        ("role", json!(configuration.role)),
        (ROLE_ID, json!(role_id)),
        ("environment", json!(environment)),
        (UNDECLARED, undeclared(name, configuration)),
    ])
}

fn undeclared(name: &str, found: &FunctionConfiguration) -> Value {
    let arns = |arns: Vec<Option<&str>>| (!arns.is_empty()).then(|| json!(arns));
    let own_group = format!("/aws/lambda/{name}");
    let logging = found.logging_config.as_ref();
    let dead_letter = found.dead_letter_config.as_ref().and_then(|config| config.target_arn());
    let vpc = found.vpc_config.as_ref().filter(|vpc| !vpc.subnet_ids().is_empty());
    let snap_start = found.snap_start.as_ref().and_then(|snap_start| snap_start.apply_on.as_ref());
    let tracing = found.tracing_config.as_ref().and_then(|tracing| tracing.mode.as_ref());
    let storage = found.ephemeral_storage.as_ref().map(|storage| storage.size);
    let log_format = logging.and_then(|logging| logging.log_format.as_ref());
    let log_group = logging.and_then(|logging| some_text(logging.log_group()));
    Undeclared::default()
        .with("layers", arns(found.layers().iter().map(|layer| layer.arn()).collect()))
        .with("file_systems", arns(found.file_system_configs().iter().map(|fs| Some(fs.arn())).collect()))
        .with("vpc", vpc.and_then(|vpc| vpc.vpc_id()))
        .with("dead_letter", some_text(dead_letter))
        .with("tracing", tracing.filter(|mode| **mode != TracingMode::PassThrough).map(TracingMode::as_str))
        .with("ephemeral_storage_mb", storage.filter(|size| *size != DEFAULT_STORAGE_MB))
        .with(
            "snap_start",
            snap_start.filter(|on| **on != SnapStartApplyOn::None).map(SnapStartApplyOn::as_str),
        )
        .with("log_format", log_format.filter(|format| **format != LogFormat::Text).map(LogFormat::as_str))
        .with("log_group", log_group.filter(|group| *group != own_group))
        .property()
}

/// Takes versions, aliases and permissions along.
pub(super) async fn delete(cx: &Cx<'_>, live: &Live) -> Result<(), Error> {
    cx.call(|| cx.aws.lambda.delete_function().function_name(&live.id).send())
        .await
        .or_absent("ResourceNotFoundException")?;
    Ok(())
}
