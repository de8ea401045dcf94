//! Where a route leads. API Gateway keeps it as a property of the route; it is a resource of its own here because a
//! route can be made, and be given its response, while the integration that it will lead to is still being made. It can
//! be left out of CreateRoute and set by UpdateRoute.
//! Source: <https://docs.aws.amazon.com/apigatewayv2/latest/api-reference/apis-apiid-routes.html>

use async_trait::async_trait;
use aws_sdk_apigatewayv2::types::Route as Described;
use serde_json::json;

use super::route::{self, Route};
use super::{api, integration};
use crate::address::{Address, Kind};
use crate::call::Cx;
use crate::error::Error;
use crate::names::Scope;
use crate::resource::{Desired, Live, Outputs, Properties, Resource, Values};

#[derive(Clone, Debug)]
pub(crate) struct RouteTarget {
    pub(crate) scope: Scope,
    /// The route that it belongs to, and whose key it has as its name.
    pub(crate) route: &'static str,
    pub(crate) integration: &'static str,
}

impl RouteTarget {
    pub(crate) fn of(route: &Route) -> Self {
        Self { scope: route.scope.clone(), route: route.key, integration: route.integration }
    }
}

pub(super) fn address(route: &str) -> Address {
    Address::new(Kind::RouteTarget, route)
}

/// The target, as soon as its integration is there.
pub(super) fn known(integration: &str, outputs: &Outputs) -> Option<String> {
    outputs.get(&integration::address(integration), "id").map(of_integration)
}

/// How a route names the integration with this id.
pub(crate) fn of_integration(id: &str) -> String {
    format!("integrations/{id}")
}

#[async_trait]
impl Resource for RouteTarget {
    fn address(&self) -> Address {
        address(self.route)
    }

    fn needs(&self) -> Vec<Address> {
        vec![route::address(self.route), integration::address(self.integration)]
    }

    fn desired(&self, outputs: &Outputs) -> Desired {
        Desired::new().with_later("integration", known(self.integration, outputs))
    }

    async fn converge(&self, cx: &Cx<'_>, live: Option<&Live>) -> Result<Values, Error> {
        if cx.drifted(self, live)?.is_empty() {
            return Ok(Values::new());
        }
        let api = cx.output(&api::address(&self.scope), "id")?;
        let route = cx.output(&route::address(self.route), "id")?;
        let target = of_integration(cx.output(&integration::address(self.integration), "id")?);
        if cx.outputs.get(&route::address(self.route), route::MADE_WITH) == Some(&target) {
            return Ok(Values::new());
        }
        cx.gateway(|| cx.aws.apigateway.update_route().api_id(api).route_id(route).target(&target).send())
            .await?;
        Ok(Values::new())
    }
}

/// The target of a route that was found, if it has one.
pub(super) fn observed(api: &str, route: &Described) -> Option<(Address, Live)> {
    let target = route.target().filter(|target| !target.is_empty())?;
    let id = route.route_id.clone().unwrap_or_default();
    let outputs = Values::from([("api", api.to_owned())]);
    let properties = Properties::from([("integration", json!(target))]);
    Some((address(route.route_key().unwrap_or_default()), Live { id, properties, outputs, owned: true }))
}
