//! The WebSocket API with everything below it.

use serde_json::json;

use super::{Declared, Form, Part, tag_map};
use crate::cloudformation::logical_id::logical_id;
use crate::cloudformation::reference;
use crate::cloudformation::template::Synth;
use crate::resource::{Resource, Values};
use crate::resources::api::{self, Api};
use crate::resources::authorizer::Authorizer;
use crate::resources::deployment::{self, Deployment};
use crate::resources::integration::{self, Integration};
use crate::resources::integration_response::{self, IntegrationResponse};
use crate::resources::route::{self, Route};
use crate::resources::route_response::RouteResponse;
use crate::resources::route_target::{self, RouteTarget};
use crate::resources::stage::Stage;

impl Form for Api {
    fn form(&self, _: &Synth<'_>) -> Declared {
        let id = logical_id(&self.address());
        let outputs = [("id", reference::to(&id)), ("endpoint", reference::to_attribute(&id, "ApiEndpoint"))];
        Part::new(
            id,
            "AWS::ApiGatewayV2::Api",
            json!({
                "Name": self.scope.prefix(),
                "ProtocolType": "WEBSOCKET",
                "RouteSelectionExpression": self.route_selection,
                "Tags": tag_map(&self.scope),
            }),
        )
        .declared(outputs)
    }
}

impl Form for Authorizer {
    fn form(&self, synth: &Synth<'_>) -> Declared {
        let id = logical_id(&self.address());
        let own = reference::to(&id);
        Part::new(
            id,
            "AWS::ApiGatewayV2::Authorizer",
            json!({
                "ApiId": synth.output(&api::address(&self.scope), "id"),
                "Name": self.name,
                "AuthorizerType": "REQUEST",
                "AuthorizerUri": self.uri(),
                "IdentitySource": [self.identity_source],
            }),
        )
        .declared([("id", own)])
    }
}

impl Form for Integration {
    fn form(&self, synth: &Synth<'_>) -> Declared {
        let id = logical_id(&self.address());
        let own = reference::to(&id);
        let shape = self.shape();
        Part::new(
            id,
            "AWS::ApiGatewayV2::Integration",
            json!({
                "ApiId": synth.output(&api::address(&self.scope), "id"),
                "Description": self.name,
                "IntegrationType": shape.kind.as_str(),
                "IntegrationUri": shape.uri,
                "IntegrationMethod": shape.method,
                "RequestTemplates": shape.templates,
                "PassthroughBehavior": shape.passthrough.as_ref().map(|passthrough| passthrough.as_str()),
            }),
        )
        .declared([("id", own)])
    }
}

impl Form for IntegrationResponse {
    fn form(&self, synth: &Synth<'_>) -> Declared {
        Part::new(
            logical_id(&self.address()),
            "AWS::ApiGatewayV2::IntegrationResponse",
            json!({
                "ApiId": synth.output(&api::address(&self.scope), "id"),
                "IntegrationId": synth.output(&integration::address(self.integration), "id"),
                "IntegrationResponseKey": integration_response::KEY,
                "ResponseTemplates": self.templates(),
            }),
        )
        .declared([])
    }
}

impl Form for Route {
    fn form(&self, synth: &Synth<'_>) -> Declared {
        let id = logical_id(&self.address());
        let integration = reference::to(&logical_id(&integration::address(self.integration)));
        let own = reference::to(&id);
        Part::new(
            id,
            "AWS::ApiGatewayV2::Route",
            json!({
                "ApiId": synth.output(&api::address(&self.scope), "id"),
                "RouteKey": self.key,
                "Target": route_target::of_integration(&integration),
                "AuthorizationType": self.authorization().as_str(),
                "AuthorizerId": self.authorizer_id(synth.outputs()),
                "RouteResponseSelectionExpression": self.response_selection(),
            }),
        )
        .declared([("id", own)])
    }
}

/// Part of the route.
impl Form for RouteTarget {
    fn form(&self, _: &Synth<'_>) -> Declared {
        Declared { parts: Vec::new(), outputs: Values::new() }
    }
}

impl Form for RouteResponse {
    fn form(&self, synth: &Synth<'_>) -> Declared {
        Part::new(
            logical_id(&self.address()),
            "AWS::ApiGatewayV2::RouteResponse",
            json!({
                "ApiId": synth.output(&api::address(&self.scope), "id"),
                "RouteId": synth.output(&route::address(self.route), "id"),
                "RouteResponseKey": route::RESPONSE_KEY,
            }),
        )
        .declared([])
    }
}

impl Form for Deployment {
    fn form(&self, synth: &Synth<'_>) -> Declared {
        // A deployment never changes, so another snapshot is another resource, and the hash is in its name.
        let parts: Vec<_> = self.parts.iter().map(|part| part.address()).collect();
        let id = format!("{}{}", logical_id(&self.address()), synth.digest_of(&parts));
        let own = reference::to(&id);
        Part::new(
            id,
            "AWS::ApiGatewayV2::Deployment",
            json!({ "ApiId": synth.output(&api::address(&self.scope), "id") }),
        )
        .declared([("id", own)])
    }
}

impl Form for Stage {
    fn form(&self, synth: &Synth<'_>) -> Declared {
        Part::new(
            logical_id(&self.address()),
            "AWS::ApiGatewayV2::Stage",
            json!({
                "ApiId": synth.output(&api::address(&self.scope), "id"),
                "StageName": self.scope.stage.as_str(),
                "DeploymentId": synth.output(&deployment::address(&self.scope), "id"),
                "AutoDeploy": false,
                "DefaultRouteSettings": {
                    "ThrottlingRateLimit": self.throttling_rate,
                    "ThrottlingBurstLimit": self.throttling_burst,
                    "DataTraceEnabled": false,
                    "DetailedMetricsEnabled": false,
                },
                "Tags": tag_map(&self.scope),
            }),
        )
        .accepting(&[(
            "CKV_AWS_95",
            "access logs need a role of the whole account, which is not one stage's to set",
        )])
        .declared([])
    }
}
