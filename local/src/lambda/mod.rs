//! Lambda: functions, versions, aliases and permissions, and the processes that run them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use http::{Method, StatusCode};

use self::code::{CodeDirectory, Fingerprint};
use self::concurrency::Gate;
use self::host::Host;
use self::invoke::Target;
use self::model::Function;
use self::name::{LATEST, Name, function_arn};
use self::output::LogSink;
use self::pool::Pool;
use self::queue::Queue;
use self::watchdog::Watchdog;
use crate::call::{Call, Reply, Route};
use crate::context::Context;
use crate::error::AwsError;
use crate::rest::{self, Endpoint, Query};

mod aliases;
mod code;
mod concurrency;
mod configuration;
mod elf;
mod environment;
mod functions;
mod host;
mod invoke;
mod model;
mod name;
mod options;
mod output;
mod permissions;
mod pool;
mod queue;
mod runtime_api;
mod watchdog;

const KIND: &str = "lambda.function";

/// The service.
pub(crate) struct Lambda {
    host: Arc<Host>,
    code: Arc<CodeDirectory>,
    functions: Mutex<BTreeMap<String, Function>>,
    /// Keys of the zips in the store. Held while one is kept and its function changed, so that nobody takes it for
    /// unused in between.
    kept: Mutex<HashSet<String>>,
    /// What was resolved before, by the ARN or name that was asked for. Emptied by every change of a function.
    targets: RwLock<HashMap<String, Arc<Target>>>,
    /// By function and version.
    pools: Mutex<HashMap<(String, String), Arc<Pool>>>,
    /// Events in flight of all functions without a reservation, and of those with one.
    unreserved: Gate,
    reserved: Mutex<HashMap<String, Gate>>,
    queue: Queue,
}

/// What a synchronous invocation brought.
#[derive(Clone, Debug)]
pub(crate) struct Invoked {
    pub(crate) payload: Bytes,
    /// `Unhandled` when the function failed; the payload then says how.
    pub(crate) function_error: Option<&'static str>,
}

/// Why an invocation by another service brought nothing.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct InvokeError(#[from] pub(crate) AwsError);

const ENDPOINTS: &[Endpoint] = &[
    endpoint("POST", "/2015-03-31/functions/{FunctionName}/invocations", "Invoke"),
    endpoint("POST", "/2015-03-31/functions", "CreateFunction"),
    endpoint("GET", "/2015-03-31/functions", "ListFunctions"),
    endpoint("GET", "/2015-03-31/functions/{FunctionName}", "GetFunction"),
    endpoint("DELETE", "/2015-03-31/functions/{FunctionName}", "DeleteFunction"),
    endpoint("GET", "/2015-03-31/functions/{FunctionName}/configuration", "GetFunctionConfiguration"),
    endpoint("PUT", "/2015-03-31/functions/{FunctionName}/configuration", "UpdateFunctionConfiguration"),
    endpoint("PUT", "/2015-03-31/functions/{FunctionName}/code", "UpdateFunctionCode"),
    endpoint("POST", "/2015-03-31/functions/{FunctionName}/versions", "PublishVersion"),
    endpoint("GET", "/2015-03-31/functions/{FunctionName}/versions", "ListVersionsByFunction"),
    endpoint("POST", "/2015-03-31/functions/{FunctionName}/aliases", "CreateAlias"),
    endpoint("GET", "/2015-03-31/functions/{FunctionName}/aliases", "ListAliases"),
    endpoint("GET", "/2015-03-31/functions/{FunctionName}/aliases/{Name}", "GetAlias"),
    endpoint("PUT", "/2015-03-31/functions/{FunctionName}/aliases/{Name}", "UpdateAlias"),
    endpoint("DELETE", "/2015-03-31/functions/{FunctionName}/aliases/{Name}", "DeleteAlias"),
    endpoint("POST", "/2015-03-31/functions/{FunctionName}/policy", "AddPermission"),
    endpoint("GET", "/2015-03-31/functions/{FunctionName}/policy", "GetPolicy"),
    endpoint("DELETE", "/2015-03-31/functions/{FunctionName}/policy/{StatementId}", "RemovePermission"),
    endpoint("POST", "/2017-03-31/tags/{Arn+}", "TagResource"),
    endpoint("DELETE", "/2017-03-31/tags/{Arn+}", "UntagResource"),
    endpoint("GET", "/2017-03-31/tags/{Arn+}", "ListTags"),
    endpoint("PUT", "/2017-10-31/functions/{FunctionName}/concurrency", "PutFunctionConcurrency"),
    endpoint("DELETE", "/2017-10-31/functions/{FunctionName}/concurrency", "DeleteFunctionConcurrency"),
    endpoint("GET", "/2019-09-30/functions/{FunctionName}/concurrency", "GetFunctionConcurrency"),
    endpoint(
        "PUT",
        "/2019-09-25/functions/{FunctionName}/event-invoke-config",
        "PutFunctionEventInvokeConfig",
    ),
    endpoint(
        "POST",
        "/2019-09-25/functions/{FunctionName}/event-invoke-config",
        "UpdateFunctionEventInvokeConfig",
    ),
    endpoint(
        "GET",
        "/2019-09-25/functions/{FunctionName}/event-invoke-config",
        "GetFunctionEventInvokeConfig",
    ),
    endpoint(
        "DELETE",
        "/2019-09-25/functions/{FunctionName}/event-invoke-config",
        "DeleteFunctionEventInvokeConfig",
    ),
    endpoint(
        "GET",
        "/2019-09-25/functions/{FunctionName}/event-invoke-config/list",
        "ListFunctionEventInvokeConfigs",
    ),
    endpoint("GET", "/2016-08-19/account-settings", "GetAccountSettings"),
];

const fn endpoint(method: &'static str, template: &'static str, operation: &'static str) -> Endpoint {
    Endpoint { method, template, operation }
}

impl Lambda {
    pub(crate) fn new(cx: Arc<Context>) -> Result<Arc<Self>, AwsError> {
        let functions: BTreeMap<String, Function> = cx.store.list(KIND)?.into_iter().collect();
        let kept = functions
            .values()
            .flat_map(|function| std::iter::once(&function.latest).chain(function.versions.values()))
            .map(|version| version.code_key.clone())
            .collect();
        let code = Arc::new(CodeDirectory::open(&cx)?);
        let sink = LogSink::start(Arc::clone(&cx));
        Ok(Arc::new(Self {
            host: Arc::new(Host { cx, watchdog: Watchdog::default(), sink }),
            code,
            functions: Mutex::new(functions),
            kept: Mutex::new(kept),
            targets: RwLock::default(),
            pools: Mutex::default(),
            unreserved: Gate::default(),
            reserved: Mutex::default(),
            queue: Queue::default(),
        }))
    }

    pub(crate) fn route(&self, method: &Method, path: &str) -> Option<Route> {
        let (endpoint, params) = rest::find(ENDPOINTS, method, path)?;
        let cx = &self.host.cx;
        let qualifier = path.split_once('?').map(|(_, query)| Query::of(query));
        let named = [params.get("FunctionName"), params.get("Arn")].into_iter().find(|name| !name.is_empty());
        let resource = match endpoint.operation {
            "ListFunctions" | "GetAccountSettings" => "*".to_owned(),
            // The name is in the body: see `to_create`.
            "CreateFunction" => function_arn(cx, "*"),
            _ => {
                let outer = qualifier.as_ref().and_then(|query| query.get("Qualifier"));
                match named.and_then(|name| Name::parse(name, outer).ok()) {
                    Some(Name { function, qualifier: Some(qualifier) }) => {
                        name::qualified_arn(cx, &function, &qualifier)
                    }
                    Some(Name { function, qualifier: None }) => function_arn(cx, &function),
                    // A malformed name: refused by the operation, for whoever may call it on everything.
                    None => function_arn(cx, "*"),
                }
            }
        };
        Some(Route { operation: endpoint.operation, action: action(endpoint.operation), resource })
    }

    /// What CreateFunction is authorised on. Reading the body for it costs too much to be done for the owner as well.
    pub(crate) fn to_create(&self, body: &[u8]) -> String {
        function_arn(&self.host.cx, &functions::name_in(body))
    }

    pub(crate) async fn call(self: &Arc<Self>, route: Route, call: Call) -> Result<Reply, AwsError> {
        let Some((_, params)) = rest::find(ENDPOINTS, &call.method, &call.path) else {
            return Err(AwsError::new(
                StatusCode::NOT_FOUND,
                "UnknownOperationException",
                "Unknown operation",
            ));
        };
        // What a function is given, and its state, are told elsewhere than that it exists.
        if let "CreateAlias" | "AddPermission" | "GetFunctionConfiguration" = route.operation
            && let Ok(name) = Name::parse(params.get("FunctionName"), None)
            && self.host.cx.faults.function_unseen(&name.function)
        {
            return Err(name::not_found(&function_arn(&self.host.cx, &name.function)));
        }
        let reply = match route.operation {
            "Invoke" => self.invoke(&call, &params).await,
            "CreateFunction" => self.create_function(&call),
            "ListFunctions" => self.list_functions(&call),
            "GetFunction" => self.get_function(&call, &params),
            "DeleteFunction" => self.delete_function(&call, &params),
            "GetFunctionConfiguration" => self.get_function_configuration(&call, &params),
            "UpdateFunctionConfiguration" => self.update_function_configuration(&call, &params),
            "UpdateFunctionCode" => self.update_function_code(&call, &params),
            "PublishVersion" => self.publish_version(&call, &params),
            "ListVersionsByFunction" => self.list_versions(&call, &params),
            "CreateAlias" => self.create_alias(&call, &params),
            "ListAliases" => self.list_aliases(&call, &params),
            "GetAlias" => self.get_alias(&params),
            "UpdateAlias" => self.update_alias(&call, &params),
            "DeleteAlias" => self.delete_alias(&params),
            "AddPermission" => self.add_permission(&call, &params),
            "GetPolicy" => self.get_policy(&call, &params),
            "RemovePermission" => self.remove_permission(&call, &params),
            "TagResource" => self.tag(&call, &params),
            "UntagResource" => self.untag(&call, &params),
            "ListTags" => self.list_tags(&params),
            "PutFunctionConcurrency" => self.put_concurrency(&call, &params),
            "DeleteFunctionConcurrency" => self.delete_concurrency(&params),
            "GetFunctionConcurrency" => self.get_concurrency(&params),
            "PutFunctionEventInvokeConfig" => self.put_event_invoke(&call, &params, true),
            "UpdateFunctionEventInvokeConfig" => self.put_event_invoke(&call, &params, false),
            "GetFunctionEventInvokeConfig" => self.get_event_invoke(&call, &params),
            "DeleteFunctionEventInvokeConfig" => self.delete_event_invoke(&call, &params),
            "ListFunctionEventInvokeConfigs" => self.list_event_invoke(&params),
            "GetAccountSettings" => self.account_settings(),
            other => Err(AwsError::new(StatusCode::NOT_FOUND, "UnknownOperationException", other)),
        };
        if matches!(route.operation, "CreateFunction" | "UpdateFunctionCode" | "DeleteFunction") {
            self.collect_code();
        }
        reply
    }

    /// Ends every process and writes out what they printed.
    pub(crate) async fn shutdown(&self) {
        // First, so that no event counts as failed that is only interrupted.
        self.queue.shutdown().await;
        for (_, pool) in lock(&self.pools).drain() {
            pool.retire();
        }
        self.host.watchdog.end();
        self.host.sink.flush().await;
    }

    /// Reads a function that exists.
    fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Function) -> Result<T, AwsError>,
    ) -> Result<T, AwsError> {
        let functions = lock(&self.functions);
        read(functions.get(name).ok_or_else(|| name::not_found(&function_arn(&self.host.cx, name)))?)
    }

    /// Changes a function as a whole or not at all, on disk first.
    fn update<T>(
        &self,
        name: &str,
        change: impl FnOnce(&mut Function) -> Result<T, AwsError>,
    ) -> Result<T, AwsError> {
        let (result, retired) = {
            let mut functions = lock(&self.functions);
            let current =
                functions.get_mut(name).ok_or_else(|| name::not_found(&function_arn(&self.host.cx, name)))?;
            let mut next = current.clone();
            let result = change(&mut next)?;
            self.host.cx.store.put(KIND, name, &next)?;
            let retired = self.forget_resolved(current, Some(&next));
            *current = next;
            (result, retired)
        };
        retired.iter().for_each(|pool| pool.retire());
        Ok(result)
    }

    /// Keeps a zip and lets its function be changed, before anyone can take the zip for unused. Then unpacks it, so that
    /// the first event does not wait for that.
    fn with_code<T>(
        &self,
        code: &Fingerprint,
        zip: &[u8],
        change: impl FnOnce() -> Result<T, AwsError>,
    ) -> Result<T, AwsError> {
        let mut kept = lock(&self.kept);
        if kept.insert(code.sha256_hex.clone()) {
            self.code.keep(&self.host.cx, code, zip)?;
        }
        let changed = change()?;
        let (directory, cx, key) =
            (Arc::clone(&self.code), Arc::clone(&self.host.cx), code.sha256_hex.clone());
        // Whoever needs it will try again, and tell what is wrong.
        tokio::task::spawn_blocking(move || drop(directory.unpacked(&cx, &key)));
        Ok(changed)
    }

    /// Adds a function whose zip is kept already.
    fn insert(&self, function: Function) -> Result<Function, AwsError> {
        let mut functions = lock(&self.functions);
        if functions.contains_key(&function.name) {
            return Err(functions::exists(&function.name));
        }
        self.host.cx.store.put(KIND, &function.name, &function)?;
        functions.insert(function.name.clone(), function.clone());
        Ok(function)
    }

    fn remove(&self, name: &str) -> Result<(), AwsError> {
        let retired = {
            let mut functions = lock(&self.functions);
            let current =
                functions.get(name).ok_or_else(|| name::not_found(&function_arn(&self.host.cx, name)))?;
            self.host.cx.store.delete(KIND, name)?;
            let retired = self.forget_resolved(current, None);
            functions.remove(name);
            retired
        };
        retired.iter().for_each(|pool| pool.retire());
        Ok(())
    }

    /// Called under the lock of the functions: whoever resolves after this sees the change. Returns the pools that a
    /// change leaves without a use: they finish what they have, and end.
    fn forget_resolved(&self, before: &Function, after: Option<&Function>) -> Vec<Arc<Pool>> {
        self.targets.write().unwrap_or_else(PoisonError::into_inner).clear();
        let mut pools = lock(&self.pools);
        let unused = |version: &str| match after {
            None => true,
            Some(after) if version == LATEST => {
                before.latest.code_key != after.latest.code_key
                    || before.latest.settings != after.latest.settings
            }
            Some(after) => {
                after.version(version).is_none() || (before.is_aliased(version) && !after.is_aliased(version))
            }
        };
        pools
            .extract_if(|(function, version), _| *function == before.name && unused(version))
            .map(|(_, pool)| pool)
            .collect()
    }

    /// Forgets the code that no version of any function has.
    fn collect_code(&self) {
        let mut kept = lock(&self.kept);
        let unused: Vec<String> = {
            let functions = lock(&self.functions);
            kept.iter()
                .filter(|key| !functions.values().any(|function| function.uses_code(key)))
                .cloned()
                .collect()
        };
        for key in unused {
            // What cannot be deleted now is found again by the next change.
            if self.code.forget(&self.host.cx, &key).is_ok() {
                kept.remove(&key);
            }
        }
    }
}

fn action(operation: &'static str) -> &'static str {
    ENDPOINTS
        .iter()
        .zip(ACTIONS)
        .find(|(endpoint, _)| endpoint.operation == operation)
        .map_or("lambda:Unknown", |(_, action)| action)
}

/// IAM actions in the order of [`ENDPOINTS`].
const ACTIONS: [&str; ENDPOINTS.len()] = [
    "lambda:InvokeFunction",
    "lambda:CreateFunction",
    "lambda:ListFunctions",
    "lambda:GetFunction",
    "lambda:DeleteFunction",
    "lambda:GetFunctionConfiguration",
    "lambda:UpdateFunctionConfiguration",
    "lambda:UpdateFunctionCode",
    "lambda:PublishVersion",
    "lambda:ListVersionsByFunction",
    "lambda:CreateAlias",
    "lambda:ListAliases",
    "lambda:GetAlias",
    "lambda:UpdateAlias",
    "lambda:DeleteAlias",
    "lambda:AddPermission",
    "lambda:GetPolicy",
    "lambda:RemovePermission",
    "lambda:TagResource",
    "lambda:UntagResource",
    "lambda:ListTags",
    "lambda:PutFunctionConcurrency",
    "lambda:DeleteFunctionConcurrency",
    "lambda:GetFunctionConcurrency",
    "lambda:PutFunctionEventInvokeConfig",
    "lambda:UpdateFunctionEventInvokeConfig",
    "lambda:GetFunctionEventInvokeConfig",
    "lambda:DeleteFunctionEventInvokeConfig",
    "lambda:ListFunctionEventInvokeConfigs",
    "lambda:GetAccountSettings",
];

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Changes are made on copies and stored whole: a panic elsewhere cannot leave half of one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unsupported(what: &str) -> AwsError {
    AwsError::bad_request(
        "InvalidParameterValueException",
        format!("The local cloud does not support {what}"),
    )
}

fn required(member: &str) -> AwsError {
    AwsError::bad_request(
        "ValidationException",
        format!(
            "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null"
        ),
    )
}

fn constraint(member: &str, value: &str, wanted: &str) -> AwsError {
    AwsError::bad_request(
        "ValidationException",
        format!(
            "1 validation error detected: Value '{value}' at '{member}' failed to satisfy constraint: {wanted}"
        ),
    )
}

fn check_revision(wanted: Option<&str>, actual: &str) -> Result<(), AwsError> {
    match wanted {
        Some(wanted) if !wanted.is_empty() && wanted != actual => Err(AwsError::new(
            StatusCode::PRECONDITION_FAILED,
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to \
             retrieve the latest Revision Id",
        )),
        _ => Ok(()),
    }
}

fn max_items(query: &Query, default: usize) -> usize {
    query.get("MaxItems").and_then(|max| max.parse().ok()).unwrap_or(default).clamp(1, 10_000)
}
