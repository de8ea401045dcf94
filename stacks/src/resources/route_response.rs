//! A route response: makes a route two-way, so that the answer of its integration is sent to the sender. That is how
//! acks cost no post.

use async_trait::async_trait;

use super::{api, route};
use crate::address::{Address, Kind};
use crate::call::{Cx, OrAbsent};
use crate::error::Error;
use crate::names::Scope;
use crate::observe::Found;
use crate::resource::{Desired, Live, Outputs, Properties, Resource, Values};

#[derive(Clone, Debug)]
pub(crate) struct RouteResponse {
    pub(crate) scope: Scope,
    /// The route that it belongs to, and whose key it has as its name.
    pub(crate) route: &'static str,
}

pub(crate) fn address(route: &str) -> Address {
    Address::new(Kind::RouteResponse, route)
}

#[async_trait]
impl Resource for RouteResponse {
    fn address(&self) -> Address {
        address(self.route)
    }

    fn needs(&self) -> Vec<Address> {
        vec![route::address(self.route)]
    }

    fn desired(&self, _: &Outputs) -> Desired {
        Desired::new().with("key", route::RESPONSE_KEY)
    }

    async fn converge(&self, cx: &Cx<'_>, live: Option<&Live>) -> Result<Values, Error> {
        if live.is_some() {
            return Ok(Values::new());
        }
        let api = cx.output(&api::address(&self.scope), "id")?;
        let route = cx.output(&route::address(self.route), "id")?;
        let created = cx
            .gateway(|| {
                cx.aws
                    .apigateway
                    .create_route_response()
                    .api_id(api)
                    .route_id(route)
                    .route_response_key(route::RESPONSE_KEY)
                    .send()
            })
            .await;
        match created {
            Ok(_) => Ok(Values::new()),
            // There can be one only, and it has no properties.
            Err(failure) if failure.is("ConflictException") => Ok(Values::new()),
            Err(failure) => Err(failure.into()),
        }
    }
}

pub(super) async fn observe(cx: &Cx<'_>, api: &str, owner: &Address, route: &str) -> Result<Found, Error> {
    let answer = cx
        .gateway(|| cx.aws.apigateway.get_route_responses().api_id(api).route_id(route).send())
        .await
        .or_absent("NotFoundException")?;
    let items = answer.and_then(|answer| answer.items).unwrap_or_default();
    let live = items.into_iter().map(|item| {
        let properties = Properties::from([("key", item.route_response_key.into())]);
        let outputs = Values::from([("api", api.to_owned()), ("route", route.to_owned())]);
        let id = item.route_response_id.unwrap_or_default();
        (address(&owner.name), Live { id, properties, outputs, owned: true })
    });
    Ok(live.collect())
}

pub(super) async fn delete(cx: &Cx<'_>, live: &Live) -> Result<(), Error> {
    let api = api::id_of(live);
    let route = live.outputs.get("route").cloned().unwrap_or_default();
    cx.gateway(|| {
        cx.aws
            .apigateway
            .delete_route_response()
            .api_id(api)
            .route_id(&route)
            .route_response_id(&live.id)
            .send()
    })
    .await
    .or_absent("NotFoundException")?;
    Ok(())
}
