//! DynamoDB as far as deploys and handlers rely on it.

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeValue, PointInTimeRecoverySpecification, PointInTimeRecoveryStatus, Put,
    ReturnValuesOnConditionCheckFailure, TimeToLiveSpecification, TransactWriteItem,
};
use chat_local::{Cloud, CloudConfig};

use crate::caller::{Caller, cloud, create_table, refusal};
use crate::patience::until;

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

#[tokio::test]
async fn arns_name_this_region_and_stand_for_names() {
    let cloud = cloud().await;
    let owner = Caller::owner(&cloud);
    create_table(&owner, "things").await;
    let dynamodb = owner.dynamodb();
    let table = dynamodb.describe_table().table_name("things").send().await.unwrap().table.unwrap();
    let arn = table.table_arn().unwrap();
    assert_eq!(arn, "arn:aws:dynamodb:us-east-1:000000000000:table/things");
    dynamodb.put_item().table_name(arn).item("k", text("1")).send().await.unwrap();
    let read = dynamodb.get_item().table_name("things").key("k", text("1")).send().await.unwrap();
    assert_eq!(read.item().unwrap()["k"], text("1"));
    cloud.shutdown().await;
}

#[tokio::test]
async fn failed_conditions_bring_what_was_there() {
    let cloud = cloud().await;
    let owner = Caller::owner(&cloud);
    create_table(&owner, "things").await;
    let dynamodb = owner.dynamodb();
    dynamodb
        .put_item()
        .table_name("things")
        .item("k", text("1"))
        .item("v", text("old"))
        .send()
        .await
        .unwrap();
    let error = dynamodb
        .put_item()
        .table_name("things")
        .item("k", text("1"))
        .condition_expression("attribute_not_exists(k)")
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    let aws_sdk_dynamodb::operation::put_item::PutItemError::ConditionalCheckFailedException(failed) = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(failed.item().unwrap()["v"], text("old"));

    let put = Put::builder()
        .table_name("things")
        .item("k", text("1"))
        .condition_expression("attribute_not_exists(k)")
        .build()
        .unwrap();
    let error = dynamodb
        .transact_write_items()
        .transact_items(TransactWriteItem::builder().put(put).build())
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    let aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError::TransactionCanceledException(
        cancelled,
    ) = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(cancelled.cancellation_reasons()[0].code(), Some("ConditionalCheckFailed"));
    cloud.shutdown().await;
}

#[tokio::test]
async fn settings_of_a_table_read_back_and_repeating_ttl_is_refused() {
    let cloud = cloud().await;
    let owner = Caller::owner(&cloud);
    create_table(&owner, "things").await;
    let dynamodb = owner.dynamodb();
    let ttl = |enabled| {
        let specification =
            TimeToLiveSpecification::builder().enabled(enabled).attribute_name("x").build().unwrap();
        dynamodb.update_time_to_live().table_name("things").time_to_live_specification(specification).send()
    };
    assert_eq!(refusal(ttl(false).await).1, "TimeToLive is already disabled");
    ttl(true).await.unwrap();
    assert_eq!(refusal(ttl(true).await).1, "TimeToLive is already enabled");

    let status = || async {
        let answer = dynamodb.describe_continuous_backups().table_name("things").send().await.unwrap();
        let recovery =
            answer.continuous_backups_description.unwrap().point_in_time_recovery_description.unwrap();
        recovery.point_in_time_recovery_status.unwrap()
    };
    assert_eq!(status().await, PointInTimeRecoveryStatus::Disabled);
    let on =
        PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(true).build().unwrap();
    dynamodb
        .update_continuous_backups()
        .table_name("things")
        .point_in_time_recovery_specification(on)
        .send()
        .await
        .unwrap();
    assert_eq!(status().await, PointInTimeRecoveryStatus::Enabled);

    let protect = |on| dynamodb.update_table().table_name("things").deletion_protection_enabled(on).send();
    protect(true).await.unwrap();
    let delete = || dynamodb.delete_table().table_name("things").send();
    assert_eq!(refusal(delete().await).0, "ValidationException");
    protect(false).await.unwrap();
    delete().await.unwrap();
    assert_eq!(
        refusal(dynamodb.describe_table().table_name("things").send().await).0,
        "ResourceNotFoundException"
    );
    create_table(&owner, "things").await;
    assert_eq!(status().await, PointInTimeRecoveryStatus::Disabled, "the setting went with the table");
    cloud.shutdown().await;
}

#[tokio::test]
async fn expired_items_are_swept() {
    let mut config = CloudConfig::in_memory();
    config.settings.ttl_sweep = Duration::from_millis(20);
    let cloud = Cloud::start(config).await.unwrap();
    let owner = Caller::owner(&cloud);
    create_table(&owner, "things").await;
    let dynamodb = owner.dynamodb();
    let specification = TimeToLiveSpecification::builder().enabled(true).attribute_name("x").build().unwrap();
    dynamodb
        .update_time_to_live()
        .table_name("things")
        .time_to_live_specification(specification)
        .send()
        .await
        .unwrap();
    for (key, expires_s) in [("expired", "1000000000"), ("valid", "9000000000")] {
        let at = AttributeValue::N(expires_s.to_owned());
        dynamodb.put_item().table_name("things").item("k", text(key)).item("x", at).send().await.unwrap();
    }
    let get = |key| dynamodb.get_item().table_name("things").key("k", text(key)).send();
    until("the end of the expired item", async || get("expired").await.unwrap().item().is_none()).await;
    assert!(get("valid").await.unwrap().item().is_some());
    cloud.shutdown().await;
}
