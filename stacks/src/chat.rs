//! What the chat consists of. The only place that says so: resources say how, this says which and how they belong
//! together.

use std::collections::BTreeMap;
use std::sync::Arc;

use chat_functions::contract::{Handler, env};

use crate::address::Address;
use crate::artifact::Artifacts;
use crate::aws::Identity;
use crate::building::Building;
use crate::error::Error;
use crate::resource::{Resource, Stack};
use crate::resources::alias::Alias;
use crate::resources::api::{self, Api};
use crate::resources::authorizer::Authorizer;
use crate::resources::deployment::Deployment;
use crate::resources::function::{Function, Variable};
use crate::resources::integration::{Backend, Integration};
use crate::resources::integration_response::IntegrationResponse;
use crate::resources::log_group::LogGroup;
use crate::resources::permission::{Permission, Source};
use crate::resources::policy::Policy;
use crate::resources::role::Role;
use crate::resources::route::Route;
use crate::resources::route_response::RouteResponse;
use crate::resources::route_target::RouteTarget;
use crate::resources::stage::Stage;
use crate::resources::table::Table;
use crate::settings::{AuthMode, StageSettings};

/// The part of a frame that names its route.
const ROUTE_SELECTION: &str = "$request.body.action";

/// The name of the authorizer and of the integration that costs no function.
const AUTHORIZER: &str = "connect";
const PING: &str = "ping";

/// The chat of one stage. `artifacts` needs a zip for every handler.
pub fn stack(settings: &StageSettings, identity: &Identity, artifacts: &Artifacts) -> Result<Stack, Error> {
    if let Some(handler) = Handler::ALL.into_iter().find(|handler| !artifacts.contains_key(handler)) {
        return Err(Error::Artifact { what: format!("the handler {handler} is not built") });
    }
    Ok(stack_in_build(settings, identity, &Building::over(artifacts.clone())))
}

/// The same while its handlers may still be being built: their code is known after apply then.
pub fn stack_in_build(settings: &StageSettings, identity: &Identity, building: &Building) -> Stack {
    let scope = settings.scope();
    let mut stack = Stack::empty(scope.clone());

    let table = Table {
        scope: scope.clone(),
        pitr: settings.table.pitr,
        deletion_protection: settings.table.deletion_protection,
    };
    for handler in Handler::ALL {
        let logs = LogGroup { scope: scope.clone(), handler, retention_days: settings.log_retention.days() };
        let alias = Alias { scope: scope.clone(), handler };
        let grant = table.grant(handler, identity);
        stack.add(Role { scope: scope.clone(), handler });
        stack.add(Policy {
            scope: scope.clone(),
            handler,
            statements: [logs.grant(identity), grant.statement]
                .into_iter()
                .chain(alias.grant(identity))
                .collect(),
            identity: identity.clone(),
        });
        stack.add(logs);
        stack.add(Function {
            scope: scope.clone(),
            handler,
            identity: identity.clone(),
            code: building.code(handler),
            memory_mb: settings.lambda.memory_mb,
            timeout_s: settings.lambda.timeout_s,
            architecture: settings.lambda.architecture.name(),
            environment: environment(settings, handler, grant.environment),
        });
        stack.add(alias);
    }
    stack.add(table);
    gateway(settings, identity, &mut stack);
    stack
}

/// What each variable of the contract is; a handler gets those that it reads.
fn environment(
    settings: &StageSettings,
    handler: Handler,
    table: (&'static str, String),
) -> BTreeMap<&'static str, Variable> {
    let keys =
        settings.auth.public_keys.iter().map(|(kid, key)| format!("{}={}", kid.as_str(), key.as_str()));
    let origins = settings.origins.iter().map(|origin| origin.as_str());
    let known = [
        table,
        (env::AUTH, settings.auth.mode.name().to_owned()),
        (env::PUBLIC_KEYS, keys.collect::<Vec<_>>().join(",")),
        (env::ORIGINS, origins.collect::<Vec<_>>().join(",")),
        (env::MESSAGE_DAYS, settings.keep_days.to_string()),
        (env::PRESENCE_MAX, settings.presence_max_members.to_string()),
        (env::SENDS_PER_10S, settings.limits.sends_per_10s.to_string()),
        (env::ROOMS_PER_CONNECTION, settings.limits.rooms_per_connection.to_string()),
        (env::TLS_ROOTS, settings.lambda.tls_roots.name().to_owned()),
    ];
    let callback = (env::CALLBACK_URL, Variable::CallbackUrl { api: api::address(&settings.scope()) });
    known
        .into_iter()
        .map(|(name, value)| (name, Variable::Known(value)))
        .chain([callback])
        .filter(|(name, _)| handler.environment().contains(name))
        // Lambda keeps no empty variables apart from absent ones; without tokens there are no keys.
        .filter(|(name, _)| *name != env::PUBLIC_KEYS || settings.auth.mode == AuthMode::Token)
        .collect()
}

/// The WebSocket API: who is let in, which frames go where, and what is answered.
fn gateway(settings: &StageSettings, identity: &Identity, stack: &mut Stack) {
    let scope = stack.scope().clone();
    let route =
        |key, integration| Route { scope: scope.clone(), key, integration, authorizer: None, two_way: false };
    let function = |name, handler| Integration {
        scope: scope.clone(),
        identity: identity.clone(),
        name,
        backend: Backend::Function(handler),
    };
    let permission =
        |handler, source| Permission { scope: scope.clone(), identity: identity.clone(), handler, source };

    // Everything that a client can notice is part of the deployment.
    let mut parts: Vec<Arc<dyn Resource>> =
        vec![stack.add(Api { scope: scope.clone(), route_selection: ROUTE_SELECTION })];
    parts.push(stack.add(Authorizer {
        scope: scope.clone(),
        identity: identity.clone(),
        name: AUTHORIZER,
        handler: Handler::Connect,
        // Without it in the request nobody is asked and the answer is 401.
        identity_source: match settings.auth.mode {
            AuthMode::Open => "route.request.querystring.user",
            AuthMode::Token => "route.request.header.Sec-WebSocket-Protocol",
        },
    }));
    parts.push(stack.add(function("connect", Handler::Connect)));
    parts.push(stack.add(function("disconnect", Handler::Disconnect)));
    parts.push(stack.add(function("on_message", Handler::OnMessage)));
    // Keep-alive that costs no function.
    parts.push(stack.add(Integration {
        scope: scope.clone(),
        identity: identity.clone(),
        name: PING,
        backend: Backend::Mock,
    }));
    parts.push(stack.add(IntegrationResponse {
        scope: scope.clone(),
        integration: PING,
        template: r#"{"type":"pong"}"#,
    }));
    for route in [
        Route { authorizer: Some(AUTHORIZER), ..route("$connect", "connect") },
        route("$disconnect", "disconnect"),
        Route { two_way: true, ..route("$default", "on_message") },
        Route { two_way: true, ..route(PING, PING) },
    ] {
        let target = RouteTarget::of(&route);
        let response = route.two_way.then(|| RouteResponse { scope: scope.clone(), route: route.key });
        parts.extend([stack.add(route), stack.add(target)]);
        parts.extend(response.map(|response| stack.add(response)));
    }

    let permissions = [
        permission(Handler::Connect, Source::Authorizer(AUTHORIZER)),
        permission(Handler::Connect, Source::Route("$connect")),
        permission(Handler::Disconnect, Source::Route("$disconnect")),
        permission(Handler::OnMessage, Source::Route("$default")),
    ];
    // A permission needs its alias, so what comes after the one comes after both.
    let behind: Vec<Address> =
        permissions.into_iter().map(|permission| stack.add(permission).address()).collect();

    stack.add(Deployment { scope: scope.clone(), parts });
    stack.add(Stage {
        scope,
        identity: identity.clone(),
        throttling_rate: settings.throttling.rate,
        throttling_burst: settings.throttling.burst,
        behind,
    });
}
