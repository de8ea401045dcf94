//! The DynamoDB table: on demand, with a TTL attribute, and guarded against loss as the stage wants it.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, ContinuousBackupsStatus, KeySchemaElement, KeyType, OnDemandThroughput,
    PointInTimeRecoverySpecification, PointInTimeRecoveryStatus, ScalarAttributeType, TableDescription,
    TableStatus, Tag, TimeToLiveSpecification, TimeToLiveStatus,
};
use chat_functions::contract::{Handler, env, table as keys};
use futures_util::future::try_join3;
use serde_json::{Value, json};

use super::undeclared::{UNDECLARED, Undeclared};
use super::{ownership, require_owned, tags_property};
use crate::address::{Address, Kind};
use crate::aws::Identity;
use crate::call::{Cx, OrAbsent};
use crate::error::{AwsFailure, Error};
use crate::names::Scope;
use crate::observe::Found;
use crate::policy::Statement;
use crate::resource::{Desired, Live, Outputs, Properties, Resource, Values};

/// A table takes some 8 s in a region: aws-facts. Far beyond that, something is wrong.
const ACTIVE_WITHIN: Duration = Duration::from_secs(300);

/// How DynamoDB says that an on-demand table has no limit of its own.
const UNLIMITED: i64 = -1;

#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) scope: Scope,
    pub(crate) pitr: bool,
    pub(crate) deletion_protection: bool,
}

/// What a handler is given together with the right to use the table: neither makes sense alone.
pub(crate) struct Grant {
    pub(crate) statement: Statement,
    pub(crate) environment: (&'static str, String),
}

impl Table {
    /// Lets a handler do on the table what its code does, by the contract, and no more.
    pub(crate) fn grant(&self, handler: Handler, identity: &Identity) -> Grant {
        let Identity { partition, region, account, .. } = identity;
        let name = self.scope.table();
        Grant {
            statement: Statement {
                sid: "Table",
                actions: handler.table_actions().iter().map(|action| format!("dynamodb:{action}")).collect(),
                resources: Some(vec![format!("arn:{partition}:dynamodb:{region}:{account}:table/{name}")]),
            },
            environment: (env::TABLE, name),
        }
    }
}

fn address(scope: &Scope) -> Address {
    Address::new(Kind::Table, scope.app.as_str())
}

#[async_trait]
impl Resource for Table {
    fn address(&self) -> Address {
        address(&self.scope)
    }

    fn needs(&self) -> Vec<Address> {
        Vec::new()
    }

    fn desired(&self, _: &Outputs) -> Desired {
        Desired::new()
            .with("keys", key_property([(keys::PARTITION_KEY, "HASH"), (keys::SORT_KEY, "RANGE")]))
            .with("billing", "PAY_PER_REQUEST")
            .with("ttl", keys::TTL)
            .with("pitr", self.pitr)
            .with("deletion_protection", self.deletion_protection)
            .with("status", "ACTIVE")
            .with(UNDECLARED, Undeclared::none())
            .with("tags", tags_property(&self.scope))
    }

    fn fixed(&self) -> &'static [&'static str] {
        &["keys"]
    }

    async fn converge(&self, cx: &Cx<'_>, live: Option<&Live>) -> Result<Values, Error> {
        let name = self.scope.table();
        let alive = live.filter(|live| live.properties.get("status") != Some(&json!("DELETING")));
        let mut drift = cx.drifted(self, alive)?;
        if alive.is_none() {
            if live.is_some() {
                wait_until_gone(cx, &name).await?;
            }
            if self.create(cx).await? {
                // What cannot be part of CreateTable, and is not the default of a new table.
                drift = if self.pitr { vec!["ttl", "pitr"] } else { vec!["ttl"] };
            } else {
                let found = require_owned(cx, observe_table(cx).await?)?;
                drift = cx.drifted(self, Some(&found))?;
            }
        }
        let arn = wait_until_active(cx, &name).await?;
        if ["billing", "deletion_protection", UNDECLARED].iter().any(|property| drift.contains(property)) {
            self.update(cx, &drift).await?;
            wait_until_active(cx, &name).await?;
        }
        if drift.contains(&"tags") {
            cx.call(|| {
                cx.aws.dynamodb.tag_resource().resource_arn(&arn).set_tags(Some(tags(&self.scope))).send()
            })
            .await?;
        }
        // Both are calls of their own, after ACTIVE only: aws-facts, DynamoDB.
        if drift.contains(&"ttl") {
            let other = alive.and_then(|live| live.properties.get("ttl")).and_then(Value::as_str);
            match other {
                Some(other) => self.end_ttl(cx, other).await?,
                None => self.enable_ttl(cx).await?,
            }
        }
        if drift.contains(&"pitr") {
            self.set_pitr(cx).await?;
        }
        Ok(Values::from([("arn", arn), ("name", name)]))
    }
}

impl Table {
    /// Whether this call made the table; otherwise there is one already.
    async fn create(&self, cx: &Cx<'_>) -> Result<bool, Error> {
        let attributes = vec![attribute(keys::PARTITION_KEY)?, attribute(keys::SORT_KEY)?];
        let schema = vec![key(keys::PARTITION_KEY, KeyType::Hash)?, key(keys::SORT_KEY, KeyType::Range)?];
        let created = cx
            .call(|| {
                cx.aws
                    .dynamodb
                    .create_table()
                    .table_name(self.scope.table())
                    .set_attribute_definitions(Some(attributes.clone()))
                    .set_key_schema(Some(schema.clone()))
                    .billing_mode(BillingMode::PayPerRequest)
                    .deletion_protection_enabled(self.deletion_protection)
                    .set_tags(Some(tags(&self.scope)))
                    .send()
            })
            .await;
        match created {
            Ok(_) => Ok(true),
            Err(failure) if failure.is("ResourceInUseException") => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn update(&self, cx: &Cx<'_>, drift: &[&str]) -> Result<(), Error> {
        cx.call(|| {
            let mut request = cx.aws.dynamodb.update_table().table_name(self.scope.table());
            if drift.contains(&"billing") {
                request = request.billing_mode(BillingMode::PayPerRequest);
            }
            if drift.contains(&UNDECLARED) {
                let unlimited = OnDemandThroughput::builder()
                    .max_read_request_units(UNLIMITED)
                    .max_write_request_units(UNLIMITED);
                request = request.on_demand_throughput(unlimited.build());
            }
            if drift.contains(&"deletion_protection") {
                request = request.deletion_protection_enabled(self.deletion_protection);
            }
            request.send()
        })
        .await?;
        Ok(())
    }

    async fn enable_ttl(&self, cx: &Cx<'_>) -> Result<(), Error> {
        match self.set_ttl(cx, keys::TTL, true).await? {
            Ok(()) => Ok(()),
            // The answer of an earlier attempt was lost.
            Err(refused) if refused.message.contains("already enabled") => Ok(()),
            Err(refused) if is_too_soon(&refused) => {
                cx.postpone(
                    "TTL was changed less than an hour ago; until a deploy after that nothing expires",
                );
                Ok(())
            }
            Err(refused) => Err(refused.into()),
        }
    }

    /// Takes TTL away from another attribute. DynamoDB takes one change an hour, and never from one attribute to another
    /// at once: nothing that this run can do, and nothing that anything else has to wait for.
    async fn end_ttl(&self, cx: &Cx<'_>, other: &str) -> Result<(), Error> {
        match self.set_ttl(cx, other, false).await? {
            Ok(()) => {}
            Err(refused) if refused.message.contains("already disabled") || is_too_soon(&refused) => {}
            Err(refused) => return Err(refused.into()),
        }
        cx.postpone(format!("TTL was on `{other}`, and takes an hour to be free; deploy again after that"));
        Ok(())
    }

    /// What DynamoDB said against it is within the result.
    async fn set_ttl(
        &self,
        cx: &Cx<'_>,
        attribute: &str,
        enabled: bool,
    ) -> Result<Result<(), AwsFailure>, Error> {
        let specification = TimeToLiveSpecification::builder().enabled(enabled).attribute_name(attribute);
        let specification = specification.build().map_err(|error| Error::bug(error.to_string()))?;
        let result = cx
            .call(|| {
                cx.aws
                    .dynamodb
                    .update_time_to_live()
                    .table_name(self.scope.table())
                    .time_to_live_specification(specification.clone())
                    .send()
            })
            .await;
        match result {
            Ok(_) => Ok(Ok(())),
            Err(failure) if failure.is("ValidationException") => Ok(Err(failure)),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn set_pitr(&self, cx: &Cx<'_>) -> Result<(), Error> {
        let specification =
            PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(self.pitr).build();
        let specification = specification.map_err(|error| Error::bug(error.to_string()))?;
        cx.call(|| {
            cx.aws
                .dynamodb
                .update_continuous_backups()
                .table_name(self.scope.table())
                .point_in_time_recovery_specification(specification.clone())
                .send()
        })
        .await?;
        Ok(())
    }
}

/// Whether TTL was changed within the hour: aws-cdk#13720 has the message.
fn is_too_soon(refused: &AwsFailure) -> bool {
    refused.message.contains("modified multiple times within a fixed interval")
}

fn attribute(name: &str) -> Result<AttributeDefinition, Error> {
    let attribute =
        AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S);
    attribute.build().map_err(|error| Error::bug(error.to_string()))
}

fn key(name: &str, kind: KeyType) -> Result<KeySchemaElement, Error> {
    let key = KeySchemaElement::builder().attribute_name(name).key_type(kind);
    key.build().map_err(|error| Error::bug(error.to_string()))
}

fn tags(scope: &Scope) -> Vec<Tag> {
    scope
        .tags()
        .into_iter()
        .filter_map(|(key, value)| Tag::builder().key(key).value(value).build().ok())
        .collect()
}

fn key_property<'a>(schema: impl IntoIterator<Item = (&'a str, &'a str)>) -> Value {
    schema.into_iter().map(|(name, kind)| json!([name, kind])).collect()
}

pub(super) async fn observe(cx: &Cx<'_>) -> Result<Found, Error> {
    let live = observe_table(cx).await?;
    Ok(live.map(|live| (address(cx.scope), live)).into_iter().collect())
}

async fn observe_table(cx: &Cx<'_>) -> Result<Option<Live>, Error> {
    let name = cx.scope.table();
    let Some(mut table) = describe(cx, &name).await? else { return Ok(None) };
    match table.table_status {
        // Until it is there, DynamoDB tells nothing but that it is coming: cloud-custodian#3361.
        Some(TableStatus::Creating) => {
            wait_until_active(cx, &name).await?;
            let Some(created) = describe(cx, &name).await? else { return Ok(None) };
            table = created;
        }
        Some(TableStatus::Deleting) => return Ok(Some(leaving(&table, name))),
        _ => {}
    }
    let arn = table.table_arn.clone().unwrap_or_default();
    let (ttl, backups, tags) = try_join3(
        cx.call(|| cx.aws.dynamodb.describe_time_to_live().table_name(&name).send()),
        cx.call(|| cx.aws.dynamodb.describe_continuous_backups().table_name(&name).send()),
        cx.call(|| cx.aws.dynamodb.list_tags_of_resource().resource_arn(&arn).send()),
    )
    .await?;
    let ttl = ttl.time_to_live_description.filter(|ttl| {
        matches!(ttl.time_to_live_status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling))
    });
    let pitr = backups
        .continuous_backups_description
        .filter(|backups| backups.continuous_backups_status == ContinuousBackupsStatus::Enabled)
        .and_then(|backups| backups.point_in_time_recovery_description)
        .is_some_and(|pitr| pitr.point_in_time_recovery_status == Some(PointInTimeRecoveryStatus::Enabled));
    let tags = tags.tags.unwrap_or_default();
    let (tags, owned) = ownership(cx.scope, tags.iter().map(|tag| (tag.key.as_str(), tag.value.as_str())));
    let keys = table.key_schema();
    let on_demand = table.billing_mode_summary.as_ref().and_then(|summary| summary.billing_mode.clone());
    // A table that is being updated serves like any other.
    let status = match table.table_status.clone() {
        Some(TableStatus::Updating) | None => TableStatus::Active,
        Some(status) => status,
    };
    let limits = table.on_demand_throughput.as_ref();
    let limited = |units: Option<i64>| units.filter(|units| *units != UNLIMITED);
    let undeclared = Undeclared::default()
        .with("max_read_units", limits.and_then(|limits| limited(limits.max_read_request_units)))
        .with("max_write_units", limits.and_then(|limits| limited(limits.max_write_request_units)));
    let properties = Properties::from([
        ("keys", key_property(keys.iter().map(|key| (key.attribute_name.as_str(), key.key_type.as_str())))),
        ("billing", json!(on_demand.unwrap_or(BillingMode::Provisioned).as_str())),
        ("ttl", json!(ttl.and_then(|ttl| ttl.attribute_name))),
        ("pitr", json!(pitr)),
        ("deletion_protection", json!(table.deletion_protection_enabled.unwrap_or(false))),
        ("status", json!(status.as_str())),
        (UNDECLARED, undeclared.property()),
        ("tags", tags),
    ]);
    let outputs = Values::from([("arn", arn), ("name", name.clone())]);
    Ok(Some(Live { id: name, properties, outputs, owned }))
}

/// A table that is being deleted. Its tags are told no more, and whose it was does not matter: whoever wants the name
/// has to wait until it is gone.
fn leaving(table: &TableDescription, name: String) -> Live {
    let keys = table.key_schema().iter().map(|key| (key.attribute_name.as_str(), key.key_type.as_str()));
    let properties =
        Properties::from([("keys", key_property(keys)), ("status", json!(TableStatus::Deleting.as_str()))]);
    let arn = table.table_arn.clone().unwrap_or_default();
    let outputs = Values::from([("arn", arn), ("name", name.clone())]);
    Live { id: name, properties, outputs, owned: true }
}

async fn describe(cx: &Cx<'_>, name: &str) -> Result<Option<TableDescription>, Error> {
    let answer = cx
        .call(|| cx.aws.dynamodb.describe_table().table_name(name).send())
        .await
        .or_absent("ResourceNotFoundException")?;
    Ok(answer.and_then(|answer| answer.table))
}

/// Returns the ARN.
async fn wait_until_active(cx: &Cx<'_>, name: &str) -> Result<String, Error> {
    cx.wait("the table is active", ACTIVE_WITHIN, || async {
        // Right after CreateTable it may not be found yet.
        let table = describe(cx, name).await?;
        Ok(table
            .filter(|table| table.table_status == Some(TableStatus::Active))
            .and_then(|table| table.table_arn))
    })
    .await
}

async fn wait_until_gone(cx: &Cx<'_>, name: &str) -> Result<(), Error> {
    cx.wait("the table is gone", ACTIVE_WITHIN, || async {
        Ok(describe(cx, name).await?.is_none().then_some(()))
    })
    .await
}

pub(super) async fn delete(cx: &Cx<'_>, live: &Live) -> Result<(), Error> {
    let is = |property: &str, value: Value| live.properties.get(property) == Some(&value);
    if !is("status", json!("DELETING")) {
        // The plan allowed this; if the deletion then fails, the protection comes back: cdkd#1978.
        let protected = is("deletion_protection", json!(true));
        if protected {
            protect(cx, &live.id, false).await?;
        }
        if let Err(error) = delete_unprotected(cx, &live.id, protected).await {
            if protected {
                protect(cx, &live.id, true).await?;
            }
            return Err(error);
        }
    }
    wait_until_gone(cx, &live.id).await
}

/// `updating`: its protection was taken away a moment ago.
async fn delete_unprotected(cx: &Cx<'_>, name: &str, updating: bool) -> Result<(), Error> {
    if updating {
        wait_until_active(cx, name).await?;
    }
    cx.call(|| cx.aws.dynamodb.delete_table().table_name(name).send())
        .await
        .or_absent("ResourceNotFoundException")?;
    Ok(())
}

async fn protect(cx: &Cx<'_>, name: &str, on: bool) -> Result<(), Error> {
    cx.call(|| cx.aws.dynamodb.update_table().table_name(name).deletion_protection_enabled(on).send())
        .await?;
    Ok(())
}
