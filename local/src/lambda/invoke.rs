//! Invocations by callers who wait, and by services.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use rand::RngExt;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::sync::oneshot;

use super::code::Unpacked;
use super::concurrency::Gate;
use super::model::{EventInvoke, Function, Version};
use super::name::{self, Name, function_arn};
use super::permissions::Policy;
use super::pool::{Answer, Event, Pool, Spec};
use super::{InvokeError, Invoked, Lambda, lock};
use crate::call::{Call, Reply};
use crate::error::AwsError;
use crate::rest::{Params, Query};

/// Largest payload of a synchronous and of an asynchronous invocation: Lambda's quotas.
const MAX_SYNC: usize = 6 * 1024 * 1024;
const MAX_ASYNC: usize = 1024 * 1024;

/// What a name with its qualifier means now.
pub(super) struct Target {
    pub(super) arn: Arc<str>,
    /// The version, and a second one that gets the given share of the events.
    version: (String, Arc<Pool>),
    other: Option<(String, Arc<Pool>, f64)>,
    policy: Policy,
    gate: Gate,
    pub(super) limit: usize,
    pub(super) event_invoke: EventInvoke,
}

impl Target {
    pub(super) fn choose(&self) -> (&str, &Arc<Pool>) {
        match &self.other {
            Some((version, pool, share)) if rand::rng().random::<f64>() < *share => (version, pool),
            _ => (&self.version.0, &self.version.1),
        }
    }
}

impl Lambda {
    pub(super) async fn invoke(self: &Arc<Self>, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let query = Query::of(&call.query);
        let name = Name::parse(params.get("FunctionName"), query.get("Qualifier"))?;
        let header = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok());
        let kind = header("x-amz-invocation-type").unwrap_or("RequestResponse");
        let key = match &name.qualifier {
            Some(qualifier) => format!("{}:{qualifier}", name.function),
            None => name.function.clone(),
        };
        let target = self.target(&key, &name)?;
        let limit = if kind == "Event" { MAX_ASYNC } else { MAX_SYNC };
        if call.body.len() > limit {
            return Err(AwsError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestTooLargeException",
                format!(
                    "{} byte payload is too large for the {kind} invocation type (limit {limit} bytes)",
                    call.body.len()
                ),
            ));
        }
        let payload = if call.body.is_empty() { Bytes::from_static(b"{}") } else { call.body.clone() };
        if let Err(error) = serde_json::from_slice::<IgnoredAny>(&payload) {
            return Err(AwsError::bad_request(
                "InvalidRequestContentException",
                format!("Could not parse request body into json: {error}"),
            ));
        }
        match kind {
            "DryRun" => Ok(Reply::empty(StatusCode::NO_CONTENT)),
            "Event" => {
                self.enqueue(key, call.request_id.clone(), &payload)?;
                Ok(Reply::empty(StatusCode::ACCEPTED))
            }
            "RequestResponse" => {
                let (tail, logged) = oneshot::channel();
                let wants_log = header("x-amz-log-type") == Some("Tail");
                let (version, pool) = target.choose();
                let answer =
                    run(&target, pool, call.request_id.clone(), payload, wants_log.then_some(tail)).await?;
                let mut reply = Reply::new(StatusCode::OK, "application/json", answer.payload)
                    .with_header(HeaderName::from_static("x-amz-executed-version"), value(version));
                if let Some(error) = answer.error {
                    reply = reply.with_header(
                        HeaderName::from_static("x-amz-function-error"),
                        HeaderValue::from_static(error),
                    );
                }
                if wants_log {
                    let log = STANDARD.encode(logged.await.unwrap_or_default());
                    reply = reply.with_header(HeaderName::from_static("x-amz-log-result"), value(&log));
                }
                Ok(reply)
            }
            other => Err(super::constraint("invocationType", other, "[Event, RequestResponse, DryRun]")),
        }
    }

    /// Invokes for another service, which the function's resource policy must allow for the given source.
    pub(crate) async fn invoke_from_service(
        &self,
        function_arn: &str,
        service: &str,
        source_arn: &str,
        payload: Bytes,
    ) -> Result<Invoked, InvokeError> {
        let known = self.targets.read().unwrap_or_else(PoisonError::into_inner).get(function_arn).cloned();
        let target = match known {
            Some(target) => target,
            None => self.target(function_arn, &Name::parse(function_arn, None)?)?,
        };
        if !target.policy.allows(service, source_arn, &self.host.cx.account) {
            return Err(AwsError::new(
                StatusCode::FORBIDDEN,
                "AccessDeniedException",
                format!("{service} is not authorized to perform: lambda:InvokeFunction on resource: {function_arn}"),
            )
            .into());
        }
        let request_id = uuid::Uuid::new_v4().to_string();
        let answer = run(&target, target.choose().1, request_id, payload, None).await?;
        Ok(Invoked { payload: answer.payload, function_error: answer.error })
    }

    pub(super) fn target(&self, key: &str, name: &Name) -> Result<Arc<Target>, AwsError> {
        if let Some(target) = self.targets.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            return Ok(Arc::clone(target));
        }
        let _unpacked = self.unpacked(name)?;
        let elsewhere = self.reserved_by_others("");
        let functions = lock(&self.functions);
        let cx = &self.host.cx;
        let plain = function_arn(cx, &name.function);
        let arn = name.qualifier.as_ref().map_or(plain.clone(), |qualifier| format!("{plain}:{qualifier}"));
        let function = functions.get(&name.function).ok_or_else(|| name::not_found(&arn))?;
        let version = function.version(name.qualifier_or_latest()).ok_or_else(|| name::not_found(&arn))?;
        let alias = function.aliases.get(name.qualifier_or_latest());
        let other = match alias.and_then(|alias| alias.weights.iter().next()) {
            Some((number, share)) => {
                let version = function.version(number).ok_or_else(|| name::not_found(&arn))?;
                Some((version.version.clone(), self.pool(function, version)?, *share))
            }
            None => None,
        };
        let (gate, limit) = match function.reserved_concurrency {
            Some(limit) => (lock(&self.reserved).entry(function.name.clone()).or_default().clone(), limit),
            None => (self.unreserved.clone(), cx.settings.lambda.concurrency.saturating_sub(elsewhere)),
        };
        let target = Arc::new(Target {
            arn: Arc::from(arn.as_str()),
            version: (version.version.clone(), self.pool(function, version)?),
            other,
            policy: function
                .policies
                .get(name.qualifier.as_deref().unwrap_or_default())
                .cloned()
                .unwrap_or_default(),
            gate,
            limit,
            event_invoke: function.event_invoke.get(name.qualifier_or_latest()).cloned().unwrap_or_default(),
        });
        // Still under the lock of the functions: a change that comes now forgets this again.
        self.targets
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.to_owned(), Arc::clone(&target));
        Ok(target)
    }

    /// The code that a name stands for. Unpacking it takes a while, during which nobody else has to wait for a function:
    /// so it is done before any lock is taken, and found done under the locks.
    fn unpacked(&self, name: &Name) -> Result<Vec<Arc<Unpacked>>, AwsError> {
        let keys: Vec<String> = {
            let functions = lock(&self.functions);
            let Some(function) = functions.get(&name.function) else { return Ok(Vec::new()) };
            let qualifier = name.qualifier_or_latest();
            let weights = function.aliases.get(qualifier).into_iter().flat_map(|alias| alias.weights.keys());
            let versions = std::iter::once(qualifier).chain(weights.map(String::as_str));
            versions.filter_map(|version| Some(function.version(version)?.code_key.clone())).collect()
        };
        keys.iter().map(|key| self.code.unpacked(&self.host.cx, key)).collect()
    }

    fn pool(&self, function: &Function, version: &Version) -> Result<Arc<Pool>, AwsError> {
        let mut pools = lock(&self.pools);
        let key = (function.name.clone(), version.version.clone());
        if let Some(pool) = pools.get(&key) {
            return Ok(Arc::clone(pool));
        }
        let settings = &version.settings;
        let spec = Spec {
            function: function.name.clone(),
            version: version.version.clone(),
            handler: settings.handler.clone(),
            role: settings.role.clone(),
            grantee: settings.grantee.clone(),
            timeout: Duration::from_secs(settings.timeout_s),
            memory_mb: settings.memory_mb,
            variables: settings.variables.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            code: self.code.unpacked(&self.host.cx, &version.code_key)?,
            log_group: settings.log_group.clone().unwrap_or_else(|| format!("/aws/lambda/{}", function.name)),
        };
        let pool = Pool::new(spec, Arc::clone(&self.host));
        pools.insert(key, Arc::clone(&pool));
        Ok(pool)
    }
}

pub(super) async fn run(
    target: &Target,
    pool: &Arc<Pool>,
    request_id: String,
    payload: Bytes,
    tail: Option<oneshot::Sender<String>>,
) -> Result<Answer, AwsError> {
    let permit = target.gate.enter(target.limit).ok_or_else(|| {
        let mut members = serde_json::Map::new();
        members.insert("Reason".to_owned(), json!("ConcurrentInvocationLimitExceeded"));
        AwsError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException", "Rate Exceeded.")
            .with_members(members)
    })?;
    let (answer, answered) = oneshot::channel();
    pool.submit(Event { request_id, payload, arn: Arc::clone(&target.arn), tail, permit, answer });
    // The pool answers every event, unless the cloud is going.
    answered.await.map_err(|_| {
        AwsError::new(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException", "Lambda is shutting down")
    })
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
