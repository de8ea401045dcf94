//! The kinds of resources, one file each: what it is, how it is observed, made to be as declared, and deleted.

pub(crate) mod alias;
pub(crate) mod api;
pub(crate) mod authorizer;
pub(crate) mod deployment;
pub(crate) mod function;
pub(crate) mod integration;
pub(crate) mod integration_response;
pub(crate) mod log_group;
pub(crate) mod permission;
pub(crate) mod policy;
pub(crate) mod role;
pub(crate) mod route;
pub(crate) mod route_response;
pub(crate) mod route_target;
pub(crate) mod stage;
pub(crate) mod table;
mod undeclared;

use std::collections::{BTreeMap, HashMap};

use chat_functions::contract::Handler;
use futures_util::future::{BoxFuture, FutureExt, try_join, try_join_all, try_join3};
use serde_json::{Value, json};

use crate::address::Kind;
use crate::call::Cx;
use crate::error::Error;
use crate::names::{APP_TAG, ENGINE_TAG, STAGE_TAG, Scope};
use crate::observe::{Detail, Found};
use crate::resource::Live;

/// One observation for each part of the account that is looked into; they run at the same time.
pub(crate) fn observers<'a>(cx: &'a Cx<'a>, detail: Detail) -> Vec<BoxFuture<'a, Result<Found, Error>>> {
    vec![
        table::observe(cx).boxed(),
        log_group::observe(cx).boxed(),
        functions_and_roles(cx).boxed(),
        api::observe(cx, detail).boxed(),
    ]
}

/// A function cannot be listed by tag, but its role can by path, has the same name, and is deleted after it: so the
/// roles find functions that are no longer declared, and those of a destroy that was killed.
async fn functions_and_roles(cx: &Cx<'_>) -> Result<Found, Error> {
    let declared: Vec<String> = Handler::ALL.iter().map(|handler| handler.name().to_owned()).collect();
    let (listed, mut found) = try_join(role::list(cx), observe_parts(cx, &declared)).await?;
    let others: Vec<String> = listed.into_iter().filter(|part| !declared.contains(part)).collect();
    found.extend(observe_parts(cx, &others).await?);
    Ok(found)
}

async fn observe_parts(cx: &Cx<'_>, parts: &[String]) -> Result<Found, Error> {
    let observations = parts.iter().map(|part| async move {
        let (role, mut policies, function) =
            try_join3(role::observe(cx, part), policy::observe(cx, part), function::observe(cx, part))
                .await?;
        // A policy has no tags: it belongs to whom its role belongs.
        let owned = role.iter().any(|(_, role)| role.owned);
        policies.iter_mut().for_each(|(_, policy)| policy.owned = owned);
        Ok::<_, Error>([role, policies, function].concat())
    });
    Ok(try_join_all(observations).await?.concat())
}

/// Deletes a resource as it was found. Gone already is success.
pub(crate) async fn delete(cx: &Cx<'_>, kind: Kind, live: &Live) -> Result<(), Error> {
    match kind {
        Kind::Table => table::delete(cx, live).await,
        Kind::LogGroup => log_group::delete(cx, live).await,
        Kind::Role => role::delete(cx, live).await,
        Kind::Policy => policy::delete(cx, live).await,
        Kind::Function => function::delete(cx, live).await,
        Kind::Permission => permission::delete(cx, live).await,
        Kind::Api => api::delete(cx, live).await,
        Kind::Authorizer => authorizer::delete(cx, live).await,
        Kind::Integration => integration::delete(cx, live).await,
        Kind::IntegrationResponse => integration_response::delete(cx, live).await,
        Kind::Route => route::delete(cx, live).await,
        Kind::RouteResponse => route_response::delete(cx, live).await,
        Kind::Deployment => deployment::delete(cx, live).await,
        Kind::Stage => stage::delete(cx, live).await,
        // A declared function has its alias and a declared route its target, so neither goes alone.
        Kind::Alias | Kind::RouteTarget => {
            Err(Error::bug(format!("{kind:?} {} is deleted without what it is part of", live.id)))
        }
    }
}

/// Takes leave of what was replaced.
pub(crate) async fn retire(cx: &Cx<'_>, kind: Kind, live: &Live) -> Result<(), Error> {
    match kind {
        Kind::Deployment => deployment::retire(cx, live).await,
        _ => delete(cx, kind, live).await,
    }
}

/// The ownership tags of a scope as a property. Tags that others set are none of our business.
fn tags_property(scope: &Scope) -> Value {
    scope.tags().into_iter().map(|(key, value)| (key.to_owned(), Value::String(value))).collect()
}

/// The ownership tags among those found, and whether they are this scope's.
fn ownership<'a>(scope: &Scope, tags: impl IntoIterator<Item = (&'a str, &'a str)>) -> (Value, bool) {
    let mut ours: BTreeMap<&str, &str> =
        tags.into_iter().filter(|(key, _)| [APP_TAG, STAGE_TAG, ENGINE_TAG].contains(key)).collect();
    let property = json!(ours);
    ours.remove(ENGINE_TAG);
    let owned = json!(ours) == tags_property(scope);
    (property, owned)
}

/// The ownership tags as the map that most services take.
fn tag_map(scope: &Scope) -> HashMap<String, String> {
    scope.tags().into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Whether a listing is over; otherwise the token of its next page.
fn next_page(token: Option<String>) -> Option<String> {
    token.filter(|token| !token.is_empty())
}

/// Refuses to go on with a resource that turned up under our name but is not ours. A race: the plan did not see it.
fn require_owned(cx: &Cx<'_>, live: Option<Live>) -> Result<Live, Error> {
    match (live, &cx.address) {
        (Some(live), _) if live.owned => Ok(live),
        (Some(live), Some(resource)) => Err(Error::Refused(vec![crate::plan::Refusal::NotOurs {
            resource: resource.clone(),
            id: live.id,
        }])),
        (_, _) => Err(Error::bug("a resource exists according to AWS, but cannot be found")),
    }
}
