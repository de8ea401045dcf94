//! Tags of APIs and stages. Their ARNs carry no account.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::ApiGateway;
use super::checks::not_found;
use crate::call::{Call, Reply};
use crate::error::AwsError;
use crate::rest::{self, Params, Query};

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

impl ApiGateway {
    pub(super) fn tagging(&self, operation: &str, call: &Call, params: &Params) -> Result<Reply, AwsError> {
        let arn = params.get("Arn");
        let unknown = || not_found("resource", arn);
        let (_, path) = arn.split_once("::/apis/").ok_or_else(unknown)?;
        let (id, stage) = match path.split_once("/stages/") {
            Some((id, stage)) => (id, Some(stage)),
            None => (path, None),
        };
        let mut apis = self.lock();
        let mut api = apis.get(id).ok_or_else(unknown)?.clone();
        let tags = match stage {
            Some(stage) => &mut api.stages.get_mut(stage).ok_or_else(unknown)?.tags,
            None => &mut api.tags,
        };
        match operation {
            "GetTags" => return Reply::json(StatusCode::OK, &json!({ "tags": tags })),
            "TagResource" => tags.extend(rest::body::<Request>(call, "BadRequestException")?.tags),
            _ => {
                for key in Query::of(&call.query).all("tagKeys") {
                    tags.remove(key);
                }
            }
        }
        self.keep(id, &api)?;
        apis.insert(id.to_owned(), api);
        if operation == "TagResource" {
            return Reply::json(StatusCode::CREATED, &json!({}));
        }
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }
}
