//! Point-in-time recovery as a setting. Nothing is backed up: what counts is that it reads back as it was set.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::AwsError;
use crate::store::Store;

const KIND: &str = "dynamodb-backups";

#[derive(Clone)]
pub(super) struct Backups {
    store: Store,
}

#[derive(Serialize, Deserialize)]
struct Recovery {
    since_s: i64,
    days: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateRequest {
    point_in_time_recovery_specification: Specification,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Specification {
    point_in_time_recovery_enabled: bool,
    recovery_period_in_days: Option<u32>,
}

impl Backups {
    pub(super) fn open(store: Store) -> Self {
        Self { store }
    }

    pub(super) fn describe(&self, table: &str) -> Result<Value, AwsError> {
        let recovery = match self.store.get::<Recovery>(KIND, table)? {
            Some(recovery) => json!({
                "PointInTimeRecoveryStatus": "ENABLED",
                "RecoveryPeriodInDays": recovery.days,
                "EarliestRestorableDateTime": recovery.since_s,
                "LatestRestorableDateTime": jiff::Timestamp::now().as_second().max(recovery.since_s),
            }),
            None => json!({ "PointInTimeRecoveryStatus": "DISABLED" }),
        };
        Ok(json!({ "ContinuousBackupsDescription": {
            "ContinuousBackupsStatus": "ENABLED",
            "PointInTimeRecoveryDescription": recovery,
        }}))
    }

    pub(super) fn update(&self, table: &str, body: &[u8]) -> Result<Value, AwsError> {
        let request: UpdateRequest = serde_json::from_slice(body)
            .map_err(|error| AwsError::bad_request("ValidationException", error.to_string()))?;
        let specification = request.point_in_time_recovery_specification;
        if specification.point_in_time_recovery_enabled {
            let before = self.store.get::<Recovery>(KIND, table)?;
            let days = specification.recovery_period_in_days;
            let days = days.or(before.as_ref().map(|before| before.days)).unwrap_or(35);
            if !(1..=35).contains(&days) {
                return Err(AwsError::bad_request(
                    "ValidationException",
                    "RecoveryPeriodInDays must be between 1 and 35",
                ));
            }
            let since_s = before.map_or_else(|| jiff::Timestamp::now().as_second(), |before| before.since_s);
            self.store.put(KIND, table, &Recovery { since_s, days })?;
        } else {
            self.store.delete(KIND, table)?;
        }
        self.describe(table)
    }

    /// The setting goes with its table.
    pub(super) fn forget(&self, table: &str) -> Result<(), AwsError> {
        self.store.delete(KIND, table)
    }
}
