//! API Gateway v2: the control plane of WebSocket APIs. What it holds serves nothing until a deployment was made of
//! it and a stage points there.

mod checks;
mod model;
mod resources;
mod serving;
mod tags;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use http::{Method, StatusCode};

use self::checks::not_found;
use self::model::Api;
pub(crate) use self::serving::{IdentitySource, ServedAuthorizer, ServedRoute, Serving, Target, Throttle};
use crate::call::{Call, Reply, Route};
use crate::context::Context;
use crate::error::AwsError;
use crate::rest::{self, Endpoint, Params};

const KIND: &str = "apigateway";

/// The service.
pub(crate) struct ApiGateway {
    cx: Arc<Context>,
    apis: Mutex<BTreeMap<String, Api>>,
    /// What each stage serves, by API and stage; made anew when the stage or its deployment changes.
    serving: RwLock<HashMap<String, HashMap<String, Arc<Serving>>>>,
}

macro_rules! endpoints {
    ($($method:literal $template:literal $operation:literal),* $(,)?) => {
        &[$(Endpoint { method: $method, template: $template, operation: $operation }),*]
    };
}

const ENDPOINTS: &[Endpoint] = endpoints![
    "POST" "/v2/apis" "CreateApi",
    "GET" "/v2/apis" "GetApis",
    "GET" "/v2/apis/{ApiId}" "GetApi",
    "PATCH" "/v2/apis/{ApiId}" "UpdateApi",
    "DELETE" "/v2/apis/{ApiId}" "DeleteApi",
    "POST" "/v2/apis/{ApiId}/authorizers" "CreateAuthorizer",
    "GET" "/v2/apis/{ApiId}/authorizers" "GetAuthorizers",
    "GET" "/v2/apis/{ApiId}/authorizers/{Id}" "GetAuthorizer",
    "PATCH" "/v2/apis/{ApiId}/authorizers/{Id}" "UpdateAuthorizer",
    "DELETE" "/v2/apis/{ApiId}/authorizers/{Id}" "DeleteAuthorizer",
    "POST" "/v2/apis/{ApiId}/integrations" "CreateIntegration",
    "GET" "/v2/apis/{ApiId}/integrations" "GetIntegrations",
    "GET" "/v2/apis/{ApiId}/integrations/{Id}" "GetIntegration",
    "PATCH" "/v2/apis/{ApiId}/integrations/{Id}" "UpdateIntegration",
    "DELETE" "/v2/apis/{ApiId}/integrations/{Id}" "DeleteIntegration",
    "POST" "/v2/apis/{ApiId}/integrations/{Id}/integrationresponses" "CreateIntegrationResponse",
    "GET" "/v2/apis/{ApiId}/integrations/{Id}/integrationresponses" "GetIntegrationResponses",
    "GET" "/v2/apis/{ApiId}/integrations/{Id}/integrationresponses/{Sub}" "GetIntegrationResponse",
    "PATCH" "/v2/apis/{ApiId}/integrations/{Id}/integrationresponses/{Sub}" "UpdateIntegrationResponse",
    "DELETE" "/v2/apis/{ApiId}/integrations/{Id}/integrationresponses/{Sub}" "DeleteIntegrationResponse",
    "POST" "/v2/apis/{ApiId}/routes" "CreateRoute",
    "GET" "/v2/apis/{ApiId}/routes" "GetRoutes",
    "GET" "/v2/apis/{ApiId}/routes/{Id}" "GetRoute",
    "PATCH" "/v2/apis/{ApiId}/routes/{Id}" "UpdateRoute",
    "DELETE" "/v2/apis/{ApiId}/routes/{Id}" "DeleteRoute",
    "POST" "/v2/apis/{ApiId}/routes/{Id}/routeresponses" "CreateRouteResponse",
    "GET" "/v2/apis/{ApiId}/routes/{Id}/routeresponses" "GetRouteResponses",
    "GET" "/v2/apis/{ApiId}/routes/{Id}/routeresponses/{Sub}" "GetRouteResponse",
    "PATCH" "/v2/apis/{ApiId}/routes/{Id}/routeresponses/{Sub}" "UpdateRouteResponse",
    "DELETE" "/v2/apis/{ApiId}/routes/{Id}/routeresponses/{Sub}" "DeleteRouteResponse",
    "POST" "/v2/apis/{ApiId}/deployments" "CreateDeployment",
    "GET" "/v2/apis/{ApiId}/deployments" "GetDeployments",
    "GET" "/v2/apis/{ApiId}/deployments/{Id}" "GetDeployment",
    "PATCH" "/v2/apis/{ApiId}/deployments/{Id}" "UpdateDeployment",
    "DELETE" "/v2/apis/{ApiId}/deployments/{Id}" "DeleteDeployment",
    "POST" "/v2/apis/{ApiId}/stages" "CreateStage",
    "GET" "/v2/apis/{ApiId}/stages" "GetStages",
    "GET" "/v2/apis/{ApiId}/stages/{Id}" "GetStage",
    "PATCH" "/v2/apis/{ApiId}/stages/{Id}" "UpdateStage",
    "DELETE" "/v2/apis/{ApiId}/stages/{Id}" "DeleteStage",
    "DELETE" "/v2/apis/{ApiId}/stages/{Id}/routesettings/{Sub}" "DeleteRouteSettings",
    "DELETE" "/v2/apis/{ApiId}/stages/{Id}/accesslogsettings" "DeleteAccessLogSettings",
    "GET" "/v2/tags/{Arn+}" "GetTags",
    "POST" "/v2/tags/{Arn+}" "TagResource",
    "DELETE" "/v2/tags/{Arn+}" "UntagResource",
];

impl ApiGateway {
    pub(crate) fn new(cx: Arc<Context>) -> Result<Arc<Self>, AwsError> {
        let mut apis: BTreeMap<String, Api> = cx.store.list(KIND)?.into_iter().collect();
        // The cloud may listen on another port than when the API was made.
        for (id, api) in &mut apis {
            api.document.insert("apiEndpoint".to_owned(), resources::endpoint(&cx, id));
        }
        let this = Self { cx, apis: Mutex::default(), serving: RwLock::default() };
        for (id, api) in &apis {
            this.serve(id, Some(api));
        }
        *this.lock() = apis;
        Ok(Arc::new(this))
    }

    /// What a stage serves now; `None` for an API or a stage that is not there or has no deployment.
    pub(crate) fn serving(&self, api: &str, stage: &str) -> Option<Arc<Serving>> {
        self.serving.read().unwrap_or_else(PoisonError::into_inner).get(api)?.get(stage).cloned()
    }

    pub(crate) fn route(&self, method: &Method, path: &str) -> Option<Route> {
        let (endpoint, _) = rest::find(ENDPOINTS, method, path)?;
        // IAM knows this service by HTTP methods and paths. Tagging is authorised on the tags' path.
        // https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonapigatewaymanagementv2.html
        let action = match endpoint.method {
            "GET" => "apigateway:GET",
            "POST" => "apigateway:POST",
            "PATCH" => "apigateway:PATCH",
            _ => "apigateway:DELETE",
        };
        let below = path.trim_end_matches('/').strip_prefix("/v2").unwrap_or(path);
        let resource = format!("arn:aws:apigateway:{}::{below}", self.cx.region);
        Some(Route { operation: endpoint.operation, action, resource })
    }

    pub(crate) async fn call(&self, route: Route, call: Call) -> Result<Reply, AwsError> {
        let Some((_, params)) = rest::find(ENDPOINTS, &call.method, &call.path) else {
            return Err(AwsError::new(StatusCode::NOT_FOUND, "NotFoundException", "Unknown operation"));
        };
        match route.operation {
            "GetTags" | "TagResource" | "UntagResource" => self.tagging(route.operation, &call, &params),
            "CreateApi" => self.create_api(&call),
            "GetApis" => self.list_apis(&call),
            "DeleteApi" => self.delete_api(params.get("ApiId")),
            operation if operation.starts_with("Get") => self.read(operation, &call, &params),
            operation => self.change(operation, &call, &params),
        }
    }

    fn read(&self, operation: &str, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let id = params.get("ApiId");
        let apis = self.lock();
        let api = apis.get(id).ok_or_else(|| not_found("API", id))?;
        resources::read(api, operation, call, params)
    }

    /// Changes a copy of the API, stores it, and only then lets it count: a refusal leaves nothing half done.
    fn change(&self, operation: &str, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let id = params.get("ApiId");
        let mut apis = self.lock();
        let mut api = apis.get(id).ok_or_else(|| not_found("API", id))?.clone();
        let reply = resources::change(&mut api, operation, call, params)?;
        self.keep(id, &api)?;
        apis.insert(id.to_owned(), api);
        Ok(reply)
    }

    fn keep(&self, id: &str, api: &Api) -> Result<(), AwsError> {
        self.cx.store.put(KIND, id, api)?;
        self.serve(id, Some(api));
        Ok(())
    }

    fn serve(&self, id: &str, api: Option<&Api>) {
        let stages: HashMap<String, Arc<Serving>> = api
            .into_iter()
            .flat_map(|api| api.stages.keys().filter_map(|stage| Some((stage, Serving::of(id, api, stage)?))))
            .map(|(stage, serving)| (stage.clone(), Arc::new(serving)))
            .collect();
        let mut serving = self.serving.write().unwrap_or_else(PoisonError::into_inner);
        match api {
            Some(_) => serving.insert(id.to_owned(), stages),
            None => serving.remove(id),
        };
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Api>> {
        self.apis.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
