//! Functions and their versions: create, read, update, publish, list and delete.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::code::{self, Fingerprint};
use super::configuration::{ConfigurationRequest, apply};
use super::model::{Function, Settings, Version, new_revision, now_ms};
use super::name::{LATEST, Name, function_arn, is_name_byte, not_found, qualified_arn};
use super::{Lambda, lock};
use crate::call::{Call, Reply};
use crate::error::AwsError;
use crate::faults::Young;
use crate::rest::{self, Params, Query};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreateFunction {
    function_name: Option<String>,
    code: Option<Code>,
    #[serde(default)]
    publish: bool,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    architectures: Option<Vec<String>>,
    package_type: Option<String>,
    code_signing_config_arn: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    function_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Code {
    zip_file: Option<String>,
    s3_bucket: Option<String>,
    s3_key: Option<String>,
    s3_object_version: Option<String>,
    image_uri: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateCode {
    #[serde(default)]
    publish: bool,
    #[serde(default)]
    dry_run: bool,
    revision_id: Option<String>,
    architectures: Option<Vec<String>>,
    #[serde(flatten)]
    code: Code,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PublishVersion {
    code_sha256: Option<String>,
    description: Option<String>,
    revision_id: Option<String>,
}

/// The function that a request would create; a star where it names none, and is refused for it afterwards.
pub(super) fn name_in(body: &[u8]) -> String {
    let named = serde_json::from_slice::<Named>(body).ok().and_then(|named| named.function_name);
    named.and_then(|name| Name::parse(&name, None).ok()).map_or_else(|| "*".to_owned(), |name| name.function)
}

impl Lambda {
    pub(super) fn create_function(&self, call: &Call) -> Result<Reply, AwsError> {
        let request: CreateFunction = rest::body(call, "InvalidRequestContentException")?;
        let configuration: ConfigurationRequest = rest::body(call, "InvalidRequestContentException")?;
        let name = request.function_name.ok_or_else(|| super::required("functionName"))?;
        let name = Name::parse(&name, None)?.function;
        if name.len() > 64 || !name.bytes().all(is_name_byte) {
            return Err(super::constraint(
                "functionName",
                &name,
                "Member must have length less than or equal to 64",
            ));
        }
        if request.package_type.as_deref().is_some_and(|kind| kind != "Zip") {
            return Err(super::unsupported("PackageType Image"));
        }
        if request.code_signing_config_arn.is_some() {
            return Err(super::unsupported("CodeSigningConfigArn"));
        }
        if lock(&self.functions).contains_key(&name) {
            return Err(exists(&name));
        }
        for (member, missing) in [
            ("role", configuration.role.is_none()),
            ("handler", configuration.handler.is_none()),
            ("runtime", configuration.runtime.is_none()),
        ] {
            if missing {
                return Err(super::required(member));
            }
        }
        let mut settings = Settings {
            role: String::new(),
            grantee: None,
            handler: String::new(),
            runtime: String::new(),
            description: String::new(),
            timeout_s: 3,
            memory_mb: 128,
            variables: BTreeMap::new(),
            architecture: architecture(request.architectures)?.unwrap_or_else(|| "x86_64".to_owned()),
            tracing: "PassThrough".to_owned(),
            storage_mb: 512,
            log_group: None,
            dead_letter: None,
        };
        apply(&self.host.cx, &name, configuration, &mut settings)?;
        let given = request.code.ok_or_else(|| super::required("code"))?;
        let (code, zip) = self.zip_of(call, given)?;
        let settle = self.settle_ms();
        let key = code.clone();
        let function = Function {
            name: name.clone(),
            latest: Version {
                code_sha256: code.sha256_base64,
                code_key: code.sha256_hex,
                code_size: code.size,
                settings,
                version: LATEST.to_owned(),
                revision_id: new_revision(),
                last_modified_ms: now_ms(),
                active_at_ms: now_ms() + settle,
                updated_at_ms: now_ms() + settle,
            },
            versions: BTreeMap::new(),
            last_version: 0,
            aliases: BTreeMap::new(),
            policies: BTreeMap::new(),
            tags: request.tags,
            reserved_concurrency: None,
            event_invoke: BTreeMap::new(),
        };
        let function = self.with_code(&key, &zip, || self.insert(function))?;
        self.host.cx.faults.created(Young::Function, &name);
        let mut shown = if request.publish {
            self.update(&name, |function| {
                let version = publish(function, None);
                Ok(version.show(&self.host.cx, &name, Some(&version.version)))
            })?
        } else {
            function.latest.show(&self.host.cx, &name, None)
        };
        // The answer to a create always says so, however soon the function is active.
        shown.insert("State".to_owned(), json!("Pending"));
        shown.insert("StateReason".to_owned(), json!("The function is being created."));
        shown.insert("StateReasonCode".to_owned(), json!("Creating"));
        shown.remove("LastUpdateStatus");
        Reply::json(StatusCode::CREATED, &shown)
    }

    pub(super) fn get_function(&self, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let name = Name::parse(params.get("FunctionName"), Query::of(&call.query).get("Qualifier"))?;
        let shown = self.read(&name.function, |function| {
            let version = self.version(function, &name)?;
            let mut shown = json!({
                "Configuration": version.show(&self.host.cx, &function.name, name.qualifier.as_deref()),
                "Code": {
                    "RepositoryType": "S3",
                    "Location": self.code.location(&version.code_key),
                },
            });
            if !function.tags.is_empty() {
                // Who may not list tags gets the function without them:
                // https://docs.aws.amazon.com/lambda/latest/api/API_TagsError.html
                let arn = function_arn(&self.host.cx, &function.name);
                match self.host.cx.iam.authorize(&call.principal, "lambda:ListTags", &arn) {
                    Ok(()) => shown["Tags"] = json!(function.tags),
                    Err(error) => {
                        shown["TagsError"] =
                            json!({ "ErrorCode": "AccessDeniedException", "Message": error.message });
                    }
                }
            }
            if let Some(reserved) = function.reserved_concurrency {
                shown["Concurrency"] = json!({ "ReservedConcurrentExecutions": reserved });
            }
            Ok(shown)
        })?;
        Reply::json(StatusCode::OK, &shown)
    }

    pub(super) fn get_function_configuration(&self, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let name = Name::parse(params.get("FunctionName"), Query::of(&call.query).get("Qualifier"))?;
        let shown = self.read(&name.function, |function| {
            Ok(self.version(function, &name)?.show(&self.host.cx, &function.name, name.qualifier.as_deref()))
        })?;
        Reply::json(StatusCode::OK, &shown)
    }

    pub(super) fn update_function_code(&self, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let name = Name::parse(params.get("FunctionName"), None)?.function;
        let request: UpdateCode = rest::body(call, "InvalidRequestContentException")?;
        self.read(&name, |function| self.updatable(function, request.revision_id.as_deref()))?;
        let architecture = architecture(request.architectures)?;
        let (code, zip) = self.zip_of(call, request.code)?;
        let settle = self.settle_ms();
        let change = |function: &mut Function| {
            self.updatable(function, request.revision_id.as_deref())?;
            let latest = &mut function.latest;
            latest.code_sha256.clone_from(&code.sha256_base64);
            latest.code_key.clone_from(&code.sha256_hex);
            latest.code_size = code.size;
            if let Some(architecture) = &architecture {
                latest.settings.architecture.clone_from(architecture);
            }
            touch(latest, settle);
            let published = request.publish.then(|| publish(function, None).version);
            let version =
                published.as_deref().and_then(|number| function.version(number)).unwrap_or(&function.latest);
            Ok(version.show(&self.host.cx, &function.name, published.as_deref()))
        };
        let shown = if request.dry_run {
            self.read(&name, |function| change(&mut function.clone()))?
        } else {
            in_progress(self.with_code(&code, &zip, || self.update(&name, change))?)
        };
        Reply::json(StatusCode::OK, &shown)
    }

    pub(super) fn update_function_configuration(
        &self,
        call: &Call,
        params: &Params,
    ) -> Result<Reply, AwsError> {
        let name = Name::parse(params.get("FunctionName"), None)?.function;
        let request: ConfigurationRequest = rest::body(call, "InvalidRequestContentException")?;
        let (revision, mut settings) = self.read(&name, |function| {
            self.updatable(function, request.revision_id.as_deref())?;
            Ok((function.latest.revision_id.clone(), function.latest.settings.clone()))
        })?;
        // Asks IAM, so outside the lock; the revision tells whether someone else was faster.
        apply(&self.host.cx, &name, request, &mut settings)?;
        let shown = self.update(&name, |function| {
            self.updatable(function, Some(&revision))?;
            function.latest.settings = settings;
            touch(&mut function.latest, self.settle_ms());
            Ok(function.latest.show(&self.host.cx, &function.name, None))
        })?;
        Reply::json(StatusCode::OK, &in_progress(shown))
    }

    pub(super) fn publish_version(&self, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let name = Name::parse(params.get("FunctionName"), None)?.function;
        let request: PublishVersion = rest::body(call, "InvalidRequestContentException")?;
        let shown = self.update(&name, |function| {
            self.updatable(function, request.revision_id.as_deref())?;
            if let Some(wanted) = request.code_sha256.as_deref().filter(|wanted| !wanted.is_empty())
                && wanted != function.latest.code_sha256
            {
                return Err(AwsError::bad_request(
                    "InvalidParameterValueException",
                    format!(
                        "CodeSHA256 ({wanted}) is different from current CodeSHA256 in $LATEST ({}). Please try again \
                         with the CodeSHA256 in $LATEST.",
                        function.latest.code_sha256
                    ),
                ));
            }
            let version = publish(function, request.description);
            Ok(version.show(&self.host.cx, &function.name, Some(&version.version)))
        })?;
        Reply::json(StatusCode::CREATED, &shown)
    }

    pub(super) fn list_versions(&self, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let name = Name::parse(params.get("FunctionName"), None)?.function;
        let query = Query::of(&call.query);
        let after = query.get("Marker").and_then(|marker| marker.parse::<u64>().ok());
        let (shown, next) = self.read(&name, |function| {
            // $LATEST comes first and has no number.
            let all =
                std::iter::once((0, &function.latest)).chain(function.versions.iter().map(|(n, v)| (*n, v)));
            let mut rest =
                all.skip_while(|(number, _)| after.is_some_and(|after| *number <= after)).peekable();
            let page: Vec<_> = rest.by_ref().take(super::max_items(&query, 10_000)).collect();
            let next = rest.peek().and_then(|_| page.last()).map(|(number, _)| number.to_string());
            let shown: Vec<_> = page
                .iter()
                .map(|(_, version)| version.show(&self.host.cx, &function.name, Some(&version.version)))
                .collect();
            Ok((shown, next))
        })?;
        Reply::json(StatusCode::OK, &json!({ "Versions": shown, "NextMarker": next }))
    }

    pub(super) fn list_functions(&self, call: &Call) -> Result<Reply, AwsError> {
        let query = Query::of(&call.query);
        let all_versions = query.get("FunctionVersion") == Some("ALL");
        let functions = lock(&self.functions);
        let (page, next) = rest::page(
            functions.values(),
            |f| f.name.clone(),
            query.get("Marker"),
            super::max_items(&query, 50),
        );
        let mut shown: Vec<Value> = Vec::new();
        for function in page {
            let qualifier = all_versions.then_some(LATEST);
            shown.push(function.latest.show(&self.host.cx, &function.name, qualifier).into());
            if all_versions {
                for version in function.versions.values() {
                    shown.push(version.show(&self.host.cx, &function.name, Some(&version.version)).into());
                }
            }
        }
        Reply::json(StatusCode::OK, &json!({ "Functions": shown, "NextMarker": next }))
    }

    pub(super) fn delete_function(&self, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let name = Name::parse(params.get("FunctionName"), Query::of(&call.query).get("Qualifier"))?;
        match name.qualifier.as_deref() {
            None => self.remove(&name.function)?,
            Some(LATEST) => {
                return Err(AwsError::bad_request(
                    "InvalidParameterValueException",
                    "$LATEST version cannot be deleted without deleting the function.",
                ));
            }
            Some(qualifier) => self.update(&name.function, |function| {
                let arn = qualified_arn(&self.host.cx, &function.name, qualifier);
                let number: u64 = qualifier.parse().map_err(|_| {
                    AwsError::bad_request(
                        "InvalidParameterValueException",
                        "Deletion of aliases is not supported by this operation. Use DeleteAlias.",
                    )
                })?;
                if function.is_aliased(qualifier) {
                    let names: Vec<&str> = function
                        .aliases
                        .iter()
                        .filter(|(_, alias)| {
                            alias.version == qualifier || alias.weights.contains_key(qualifier)
                        })
                        .map(|(name, _)| name.as_str())
                        .collect();
                    return Err(AwsError::new(
                        StatusCode::CONFLICT,
                        "ResourceConflictException",
                        format!("Cannot delete version {qualifier}. Aliases {names:?} point to it: {arn}"),
                    ));
                }
                function.policies.remove(qualifier);
                function.event_invoke.remove(qualifier);
                function.versions.remove(&number).map(|_| ()).ok_or_else(|| not_found(&arn))
            })?,
        }
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }

    pub(super) fn version<'a>(&self, function: &'a Function, name: &Name) -> Result<&'a Version, AwsError> {
        function.version(name.qualifier_or_latest()).ok_or_else(|| {
            not_found(&qualified_arn(&self.host.cx, &function.name, name.qualifier_or_latest()))
        })
    }

    fn updatable(&self, function: &Function, revision: Option<&str>) -> Result<(), AwsError> {
        super::check_revision(revision, &function.latest.revision_id)?;
        if function.latest.in_progress() {
            return Err(AwsError::new(
                StatusCode::CONFLICT,
                "ResourceConflictException",
                format!(
                    "The operation cannot be performed at this time. An update is in progress for resource: {}",
                    function_arn(&self.host.cx, &function.name)
                ),
            ));
        }
        Ok(())
    }

    fn settle_ms(&self) -> i64 {
        i64::try_from(self.host.cx.settings.lambda.settle.as_millis()).unwrap_or(i64::MAX / 2)
    }
}

/// A new version from `$LATEST`, or the last one if nothing changed since.
fn publish(function: &mut Function, description: Option<String>) -> Version {
    let mut next = function.latest.clone();
    if let Some(description) = description {
        next.settings.description = description;
    }
    if let Some(last) = function.versions.get(&function.last_version)
        && last.code_key == next.code_key
        && last.settings == next.settings
    {
        return last.clone();
    }
    function.last_version += 1;
    next.version = function.last_version.to_string();
    next.revision_id = new_revision();
    function.latest.revision_id = new_revision();
    function.versions.insert(function.last_version, next.clone());
    next
}

fn touch(version: &mut Version, settle_ms: i64) {
    version.revision_id = new_revision();
    version.last_modified_ms = now_ms();
    version.updated_at_ms = now_ms() + settle_ms;
}

/// The answer to an update always says so, however soon it has taken effect.
fn in_progress(mut shown: Map<String, Value>) -> Map<String, Value> {
    shown.insert("LastUpdateStatus".to_owned(), json!("InProgress"));
    shown.insert("LastUpdateStatusReason".to_owned(), json!("The function is being created."));
    shown.insert("LastUpdateStatusReasonCode".to_owned(), json!("Creating"));
    shown
}

impl Lambda {
    /// The code that a request brings or names.
    fn zip_of(&self, call: &Call, given: Code) -> Result<(Fingerprint, Bytes), AwsError> {
        if given.image_uri.is_some() {
            return Err(super::unsupported("ImageUri"));
        }
        if given.s3_object_version.is_some() {
            return Err(super::unsupported("S3ObjectVersion"));
        }
        if let (Some(bucket), Some(key)) = (&given.s3_bucket, &given.s3_key) {
            let cx = &self.host.cx;
            // In the name of who calls, who may not be allowed to read it.
            let zip = cx.s3.read(&cx.iam, &call.principal, bucket, key).map_err(|error| {
                let detail = format!("S3 Error Code: {}. S3 Error Message: {}", error.code, error.message);
                if error.code == "AccessDenied" {
                    let message = format!(
                        "Your access has been denied by S3, please make sure your request credentials have permission \
                         to GetObject for {bucket}/{key}. {detail}"
                    );
                    return AwsError::new(StatusCode::FORBIDDEN, "AccessDeniedException", message);
                }
                AwsError::bad_request(
                    "InvalidParameterValueException",
                    format!("Error occurred while GetObject. {detail}"),
                )
            })?;
            return Ok((code::accept(&zip)?, zip));
        }
        let zip = given.zip_file.ok_or_else(|| {
            AwsError::bad_request(
                "InvalidParameterValueException",
                "Please provide a source for function code.",
            )
        })?;
        let zip = STANDARD
            .decode(zip)
            .map_err(|_| AwsError::bad_request("SerializationException", "ZipFile is not valid Base64"))?;
        Ok((code::accept(&zip)?, Bytes::from(zip)))
    }
}

fn architecture(given: Option<Vec<String>>) -> Result<Option<String>, AwsError> {
    match given.as_deref() {
        None => Ok(None),
        Some([one]) if one == "x86_64" || one == "arm64" => Ok(Some(one.clone())),
        Some(other) => Err(super::constraint("architectures", &format!("{other:?}"), "[x86_64, arm64]")),
    }
}

pub(super) fn exists(name: &str) -> AwsError {
    AwsError::new(
        StatusCode::CONFLICT,
        "ResourceConflictException",
        format!("Function already exist: {name}"),
    )
}
