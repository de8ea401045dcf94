//! Aliases: names that point at versions. Moving one is the cut-over.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Lambda;
use super::model::{Alias, Function, new_revision};
use super::name::{LATEST, Name, is_name_byte, not_found, qualified_arn};
use crate::call::{Call, Reply};
use crate::error::AwsError;
use crate::rest::{self, Params, Query};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AliasRequest {
    name: Option<String>,
    function_version: Option<String>,
    description: Option<String>,
    routing_config: Option<RoutingConfig>,
    revision_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoutingConfig {
    #[serde(default)]
    additional_version_weights: Option<BTreeMap<String, f64>>,
}

impl Lambda {
    pub(super) fn create_alias(&self, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let function_name = Name::parse(params.get("FunctionName"), None)?.function;
        let request: AliasRequest = rest::body(call, "InvalidRequestContentException")?;
        let name = request.name.clone().ok_or_else(|| super::required("name"))?;
        let digits = name.bytes().all(|byte| byte.is_ascii_digit());
        if digits || name.len() > 128 || !name.bytes().all(is_name_byte) {
            return Err(super::constraint("name", &name, "(?!^[0-9]+$)([a-zA-Z0-9-_]+)"));
        }
        let version = request.function_version.clone().ok_or_else(|| super::required("functionVersion"))?;
        let shown = self.update(&function_name, |function| {
            let arn = qualified_arn(&self.host.cx, &function.name, &name);
            if function.aliases.contains_key(&name) {
                return Err(AwsError::new(
                    StatusCode::CONFLICT,
                    "ResourceConflictException",
                    format!("Alias already exists: {arn}"),
                ));
            }
            let alias = Alias {
                version: self.existing(function, &version)?,
                description: request.description.unwrap_or_default(),
                weights: self.weights(function, request.routing_config)?.unwrap_or_default(),
                revision_id: new_revision(),
            };
            let shown = alias.show(&self.host.cx, &function.name, &name);
            function.aliases.insert(name, alias);
            Ok(shown)
        })?;
        Reply::json(StatusCode::CREATED, &shown)
    }

    pub(super) fn update_alias(&self, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let function_name = Name::parse(params.get("FunctionName"), None)?.function;
        let request: AliasRequest = rest::body(call, "InvalidRequestContentException")?;
        let name = params.get("Name");
        let shown = self.update(&function_name, |function| {
            let arn = qualified_arn(&self.host.cx, &function.name, name);
            let mut alias = function.aliases.get(name).cloned().ok_or_else(|| no_alias(&arn))?;
            super::check_revision(request.revision_id.as_deref(), &alias.revision_id)?;
            if let Some(version) = &request.function_version {
                alias.version = self.existing(function, version)?;
            }
            if let Some(description) = request.description {
                alias.description = description;
            }
            if let Some(weights) = self.weights(function, request.routing_config)? {
                alias.weights = weights;
            }
            alias.revision_id = new_revision();
            let shown = alias.show(&self.host.cx, &function.name, name);
            function.aliases.insert(name.to_owned(), alias);
            Ok(shown)
        })?;
        Reply::json(StatusCode::OK, &shown)
    }

    pub(super) fn get_alias(&self, params: &Params) -> Result<Reply, AwsError> {
        let function_name = Name::parse(params.get("FunctionName"), None)?.function;
        let name = params.get("Name");
        let shown = self.read(&function_name, |function| {
            let arn = qualified_arn(&self.host.cx, &function.name, name);
            let alias = function.aliases.get(name).ok_or_else(|| no_alias(&arn))?;
            Ok(alias.show(&self.host.cx, &function.name, name))
        })?;
        Reply::json(StatusCode::OK, &shown)
    }

    pub(super) fn delete_alias(&self, params: &Params) -> Result<Reply, AwsError> {
        let function_name = Name::parse(params.get("FunctionName"), None)?.function;
        let name = params.get("Name");
        self.update(&function_name, |function| {
            // Gone already is success, as on Lambda.
            function.aliases.remove(name);
            function.policies.remove(name);
            function.event_invoke.remove(name);
            Ok(())
        })?;
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }

    pub(super) fn list_aliases(&self, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let function_name = Name::parse(params.get("FunctionName"), None)?.function;
        let query = Query::of(&call.query);
        let version = query.get("FunctionVersion");
        let (shown, next) = self.read(&function_name, |function| {
            let aliases =
                function.aliases.iter().filter(|(_, alias)| version.is_none_or(|v| alias.version == v));
            let (page, next) = rest::page(
                aliases,
                |(name, _)| (*name).clone(),
                query.get("Marker"),
                super::max_items(&query, 10_000),
            );
            let shown: Vec<Value> = page
                .into_iter()
                .map(|(name, alias)| alias.show(&self.host.cx, &function.name, name))
                .collect();
            Ok((shown, next))
        })?;
        Reply::json(StatusCode::OK, &json!({ "Aliases": shown, "NextMarker": next }))
    }

    fn existing(&self, function: &Function, version: &str) -> Result<String, AwsError> {
        let arn = qualified_arn(&self.host.cx, &function.name, version);
        let known = version == LATEST
            || version.parse().is_ok_and(|number: u64| function.versions.contains_key(&number));
        if known { Ok(version.to_owned()) } else { Err(not_found(&arn)) }
    }

    fn weights(
        &self,
        function: &Function,
        config: Option<RoutingConfig>,
    ) -> Result<Option<BTreeMap<String, f64>>, AwsError> {
        let Some(config) = config else { return Ok(None) };
        let weights = config.additional_version_weights.unwrap_or_default();
        for version in weights.keys() {
            self.existing(function, version)?;
        }
        if weights.len() > 1 || weights.values().any(|weight| !(0.0..=1.0).contains(weight)) {
            return Err(AwsError::bad_request(
                "InvalidParameterValueException",
                "Number of items in AdditionalVersionWeights cannot be greater than 1, and each weight must be \
                 between 0.0 and 1.0.",
            ));
        }
        Ok(Some(weights))
    }
}

fn no_alias(arn: &str) -> AwsError {
    AwsError::new(StatusCode::NOT_FOUND, "ResourceNotFoundException", format!("Cannot find alias arn: {arn}"))
}
