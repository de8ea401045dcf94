//! How a resource is called inside a stack: its kind and a name that is unique among that kind.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::names::Scope;
use crate::resources;

/// The kinds of resources, in the order in which a plan lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Table,
    LogGroup,
    Role,
    Policy,
    Function,
    Alias,
    Permission,
    Api,
    Authorizer,
    Integration,
    IntegrationResponse,
    Route,
    RouteTarget,
    RouteResponse,
    Deployment,
    Stage,
}

impl Kind {
    pub(crate) const ALL: [Self; 16] = [
        Self::Table,
        Self::LogGroup,
        Self::Role,
        Self::Policy,
        Self::Function,
        Self::Alias,
        Self::Permission,
        Self::Api,
        Self::Authorizer,
        Self::Integration,
        Self::IntegrationResponse,
        Self::Route,
        Self::RouteTarget,
        Self::RouteResponse,
        Self::Deployment,
        Self::Stage,
    ];

    /// Whether a resource of this kind carries ownership tags, which say whose it is.
    pub(crate) const fn is_tagged(self) -> bool {
        matches!(self, Self::Table | Self::LogGroup | Self::Role | Self::Function | Self::Api)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::LogGroup => "log-group",
            Self::Role => "role",
            Self::Policy => "policy",
            Self::Function => "function",
            Self::Alias => "alias",
            Self::Permission => "permission",
            Self::Api => "api",
            Self::Authorizer => "authorizer",
            Self::Integration => "integration",
            Self::IntegrationResponse => "integration-response",
            Self::Route => "route",
            Self::RouteTarget => "route-target",
            Self::RouteResponse => "route-response",
            Self::Deployment => "deployment",
            Self::Stage => "stage",
        }
    }
}

/// The address of a resource: `function/connect`, `route/$default`, `permission/connect/authorizer`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    pub kind: Kind,
    pub name: String,
}

impl Address {
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }

    /// The name of what it is part of: `connect` of `permission/connect/authorizer`. What is part of a route or an
    /// integration is called exactly like that, and whoever made one may have put a slash into its name.
    pub(crate) fn owner(&self) -> &str {
        match self.kind {
            Kind::RouteTarget | Kind::RouteResponse | Kind::IntegrationResponse => &self.name,
            _ => self.name.split('/').next().unwrap_or_default(),
        }
    }

    /// What it belongs to, for showing a stage as a tree: a function's role, log group and permissions below the
    /// function, everything that clients meet below the API.
    pub fn parent(&self, scope: &Scope) -> Option<Self> {
        let owner = self.owner();
        Some(match self.kind {
            Kind::Table | Kind::Function | Kind::Api => return None,
            Kind::LogGroup | Kind::Role | Kind::Alias | Kind::Permission => Self::new(Kind::Function, owner),
            Kind::Policy => Self::new(Kind::Role, owner),
            Kind::IntegrationResponse => Self::new(Kind::Integration, owner),
            Kind::RouteTarget | Kind::RouteResponse => Self::new(Kind::Route, owner),
            Kind::Authorizer | Kind::Integration | Kind::Route | Kind::Deployment | Kind::Stage => {
                resources::api::address(scope)
            }
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.name(), self.name)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
