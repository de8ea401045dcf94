//! A table that is still being created: it is described as such, its items cannot be reached, and its settings wait.
//! Tables are usable at once here unless [`crate::Fault::TableCreating`] says otherwise.

use serde_json::Value;

use crate::error::AwsError;

/// Refuses what a table cannot do before it is active.
///
/// Sources: the errors that <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/> lists for each operation; for
/// tags <https://github.com/cloud-custodian/cloud-custodian/issues/3361>.
pub(super) fn refuse(operation: &str, table: &str) -> Result<(), AwsError> {
    match operation {
        "CreateTable"
        | "DescribeTable"
        | "DescribeTimeToLive"
        | "DescribeContinuousBackups"
        | "DescribeLimits"
        | "ListTables" => Ok(()),
        "DeleteTable" | "TagResource" | "UntagResource" | "UpdateTable" | "UpdateTimeToLive" => {
            Err(AwsError::bad_request(
                "ResourceInUseException",
                format!(
                    "Attempt to change a resource which is still in use: Table is being created: {table}"
                ),
            ))
        }
        "UpdateContinuousBackups" => Err(AwsError::bad_request(
            "ContinuousBackupsUnavailableException",
            format!("Backups are being enabled for the table: {table}. Please retry later"),
        )),
        _ => Err(AwsError::bad_request("ResourceNotFoundException", "Requested resource not found")),
    }
}

/// The answer of `CreateTable` or `DescribeTable` for such a table.
pub(super) fn describe(answer: Vec<u8>) -> Vec<u8> {
    let Ok(mut described) = serde_json::from_slice::<Value>(&answer) else { return answer };
    for member in ["Table", "TableDescription"] {
        if let Some(status) = described.get_mut(member).and_then(|table| table.get_mut("TableStatus")) {
            *status = Value::from("CREATING");
        }
    }
    described.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::{describe, refuse};

    #[test]
    fn items_are_out_of_reach_and_settings_have_to_wait() {
        let code = |operation| refuse(operation, "things").err().map(|error| error.code);
        assert_eq!(code("DescribeTable"), None);
        for operation in ["PutItem", "Query", "TransactWriteItems", "ListTagsOfResource"] {
            assert_eq!(code(operation).as_deref(), Some("ResourceNotFoundException"), "{operation}");
        }
        assert_eq!(code("UpdateTimeToLive").as_deref(), Some("ResourceInUseException"));
        assert_eq!(code("UpdateContinuousBackups").as_deref(), Some("ContinuousBackupsUnavailableException"));
    }

    #[test]
    fn only_the_status_of_its_description_is_another() {
        let described = describe(br#"{"Table":{"TableName":"t","TableStatus":"ACTIVE"}}"#.to_vec());
        assert_eq!(described, br#"{"Table":{"TableName":"t","TableStatus":"CREATING"}}"#);
        assert_eq!(describe(b"{}".to_vec()), b"{}");
    }
}
