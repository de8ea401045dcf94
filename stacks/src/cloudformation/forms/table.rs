//! The table and the log groups.

use chat_functions::contract::table as keys;
use serde_json::json;

use super::{Declared, Form, Part, tag_list};
use crate::cloudformation::logical_id::logical_id;
use crate::cloudformation::template::Synth;
use crate::resource::Resource;
use crate::resources::log_group::LogGroup;
use crate::resources::table::Table;

impl Form for Table {
    fn form(&self, _: &Synth<'_>) -> Declared {
        let part = Part::new(
            logical_id(&self.address()),
            "AWS::DynamoDB::Table",
            json!({
                "TableName": self.scope.table(),
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [
                    { "AttributeName": keys::PARTITION_KEY, "AttributeType": "S" },
                    { "AttributeName": keys::SORT_KEY, "AttributeType": "S" },
                ],
                "KeySchema": [
                    { "AttributeName": keys::PARTITION_KEY, "KeyType": "HASH" },
                    { "AttributeName": keys::SORT_KEY, "KeyType": "RANGE" },
                ],
                "TimeToLiveSpecification": { "AttributeName": keys::TTL, "Enabled": true },
                "PointInTimeRecoverySpecification": { "PointInTimeRecoveryEnabled": self.pitr },
                "DeletionProtectionEnabled": self.deletion_protection,
                "Tags": tag_list(&self.scope),
            }),
        );
        // Where the stage protects the table, not even the end of the stack takes it along.
        Part { retained: self.deletion_protection, ..part }
            .accepting(&[
                (
                    "CKV_AWS_28",
                    "point-in-time recovery is the setting table.pitr of the stage; it costs by size",
                ),
                ("CKV_AWS_119", "encrypted at rest with the key that DynamoDB owns, at no cost"),
            ])
            .declared([("name", self.scope.table())])
    }
}

impl Form for LogGroup {
    fn form(&self, _: &Synth<'_>) -> Declared {
        Part::new(
            logical_id(&self.address()),
            "AWS::Logs::LogGroup",
            json!({
                "LogGroupName": self.scope.log_group(self.handler),
                "RetentionInDays": self.retention_days,
                "Tags": tag_list(&self.scope),
            }),
        )
        .accepting(&[(
            "CKV_AWS_158",
            "encrypted at rest with the key that CloudWatch Logs owns; no message text is logged",
        )])
        .declared([("name", self.scope.log_group(self.handler))])
    }
}
