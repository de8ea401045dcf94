//! Tags of log groups, by the operations of today and by those of before.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::api::{MAX_TAGS, Outcome, group_name, invalid, read, required};
use super::{Group, Logs};
use crate::error::AwsError;

/// `tags` is a map or a list of keys, depending on the operation.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tagging {
    resource_arn: Option<String>,
    log_group_name: Option<String>,
    #[serde(default)]
    tags: Value,
    #[serde(default)]
    tag_keys: Vec<String>,
}

impl Logs {
    pub(super) fn tag(&self, input: &Tagging) -> Outcome {
        let tags: BTreeMap<String, String> = read(&input.tags)?;
        let (_, group) = self.tagged(input)?;
        self.change(&group, |settings| {
            settings.tags.extend(tags);
            if settings.tags.len() > MAX_TAGS {
                return Err(AwsError::bad_request(
                    "TooManyTagsException",
                    "A resource can have up to 50 tags.",
                ));
            }
            Ok(())
        })
    }

    pub(super) fn untag(&self, input: &Tagging) -> Outcome {
        let keys = if input.tags.is_null() { input.tag_keys.clone() } else { read(&input.tags)? };
        let (_, group) = self.tagged(input)?;
        self.change(&group, |settings| {
            settings.tags.retain(|key, _| !keys.contains(key));
            Ok(())
        })
    }

    pub(super) fn tagged(&self, input: &Tagging) -> Result<(String, Arc<Group>), AwsError> {
        let name = match &input.resource_arn {
            // `:*` belongs to policies; as an address it is refused.
            Some(arn) if arn.ends_with(":*") => return Err(invalid(&format!("Invalid resource ARN: {arn}"))),
            Some(arn) => group_name(arn),
            None => required(input.log_group_name.as_deref(), "logGroupName")?,
        };
        Ok((name.to_owned(), self.group(name)?))
    }
}
