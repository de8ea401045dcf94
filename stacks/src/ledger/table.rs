//! The table `chatctl`: one for all apps and stages of an account and region. A stage's lock and its history are one
//! partition, so that one read brings both.
//!
//! Nobody deletes it, a destroy of the last stage neither: the history outlives the stages that it tells of. It has
//! deletion protection for the same reason. On demand and with a few items a deploy it costs next to nothing.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    TableDescription, TableStatus, Tag,
};

use crate::address::{Address, Kind};
use crate::call::{Cx, OrAbsent};
use crate::error::Error;

/// What it is called in every account.
pub const NAME: &str = "chatctl";

/// `chat/local`: one stage.
pub(super) const PARTITION_KEY: &str = "PK";
/// `lock`, or `deploy#000000000012`.
pub(super) const SORT_KEY: &str = "SK";

/// It is no stage's, so it has a tag of its own.
const TAG: (&str, &str) = ("chatctl:ledger", "locks and history");

/// As long as for any other table; it takes some 8 s in a region.
const ACTIVE_WITHIN: Duration = Duration::from_secs(300);

pub(super) type Item = HashMap<String, AttributeValue>;

pub(super) fn address() -> Address {
    Address::new(Kind::Table, NAME)
}

/// Asks for the table. Whoever else asks at the same time gets the same one.
pub(super) async fn create(cx: &Cx<'_>) -> Result<(), Error> {
    let attribute = |name: &str| {
        AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build()
    };
    let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build();
    let bug = |error: aws_sdk_dynamodb::error::BuildError| Error::bug(error.to_string());
    let attributes = vec![attribute(PARTITION_KEY).map_err(bug)?, attribute(SORT_KEY).map_err(bug)?];
    let schema =
        vec![key(PARTITION_KEY, KeyType::Hash).map_err(bug)?, key(SORT_KEY, KeyType::Range).map_err(bug)?];
    let tag = Tag::builder().key(TAG.0).value(TAG.1).build().map_err(bug)?;
    let created = cx
        .call(|| {
            cx.aws
                .dynamodb
                .create_table()
                .table_name(NAME)
                .set_attribute_definitions(Some(attributes.clone()))
                .set_key_schema(Some(schema.clone()))
                .billing_mode(BillingMode::PayPerRequest)
                .deletion_protection_enabled(true)
                .tags(tag.clone())
                .send()
        })
        .await;
    match created {
        Ok(_) => Ok(()),
        Err(failure) if failure.is("ResourceInUseException") => Ok(()),
        Err(failure) => Err(Error::from(failure).at(&address())),
    }
}

/// Waits until the table can be used, and refuses one that only has the name.
pub(super) async fn wait_until_active(cx: &Cx<'_>) -> Result<(), Error> {
    let table: TableDescription = cx
        .wait("the table is active", ACTIVE_WITHIN, || async {
            let answer = cx
                .call(|| cx.aws.dynamodb.describe_table().table_name(NAME).send())
                .await
                // Right after CreateTable it may not be found yet.
                .or_absent("ResourceNotFoundException")?;
            Ok(answer
                .and_then(|answer| answer.table)
                .filter(|table| table.table_status == Some(TableStatus::Active)))
        })
        .await
        .map_err(|error| error.at(&address()))?;
    let keys: Vec<(&str, &KeyType)> =
        table.key_schema().iter().map(|key| (key.attribute_name.as_str(), &key.key_type)).collect();
    if keys == [(PARTITION_KEY, &KeyType::Hash), (SORT_KEY, &KeyType::Range)] {
        return Ok(());
    }
    Err(foreign())
}

/// The error for a table of this name that is somebody else's.
pub(super) fn foreign() -> Error {
    Error::Unhealthy {
        resource: address(),
        what: format!(
            "there is a table `{NAME}` with other keys; this name is where locks and history of every stage in this \
             account and region are, so the other one has to be renamed"
        ),
    }
}

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn number(value: impl std::fmt::Display) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(super) fn read_text(item: &Item, name: &str) -> Option<String> {
    item.get(name)?.as_s().ok().cloned()
}

pub(super) fn read_number<T: std::str::FromStr>(item: &Item, name: &str) -> Option<T> {
    item.get(name)?.as_n().ok()?.parse().ok()
}
