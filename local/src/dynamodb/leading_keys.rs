//! The condition key `dynamodb:LeadingKeys`: the partition keys that a request is about, in one table.
//!
//! Source: <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html>

use serde_json::Value;

use crate::iam::Key;

/// Those of one table in a request. `action` is the IAM action of a part of a transaction; `hash_key` is the name of the
/// table's partition key, unknown while there is no such table.
pub(super) fn of(operation: &str, action: &str, table: &str, hash_key: Option<&str>, body: &[u8]) -> Key {
    let Some(hash_key) = hash_key else { return Key::Absent };
    let Ok(request) = serde_json::from_slice::<Value>(body) else { return Key::Absent };
    let found: Option<Vec<String>> = match operation {
        "GetItem" | "DeleteItem" | "UpdateItem" => scalar(&request["Key"][hash_key]).map(|key| vec![key]),
        "PutItem" => scalar(&request["Item"][hash_key]).map(|key| vec![key]),
        "Query" => match equals(&request, hash_key) {
            Some(key) => Some(vec![key]),
            // The old way of saying it.
            None => return Key::Unsupported,
        },
        "BatchGetItem" => {
            let keys = request["RequestItems"][table]["Keys"].as_array();
            Some(keys.into_iter().flatten().filter_map(|key| scalar(&key[hash_key])).collect())
        }
        "BatchWriteItem" => {
            let writes = request["RequestItems"][table].as_array().into_iter().flatten();
            let keys = writes.filter_map(|write| {
                scalar(&write["PutRequest"]["Item"][hash_key])
                    .or_else(|| scalar(&write["DeleteRequest"]["Key"][hash_key]))
            });
            Some(keys.collect())
        }
        "TransactWriteItems" | "TransactGetItems" => {
            let part = action.trim_start_matches("dynamodb:").trim_end_matches("Item");
            let items = request["TransactItems"].as_array().into_iter().flatten();
            let parts = items.map(|item| &item[part]).filter(|part| part["TableName"] == table);
            let keys = parts.filter_map(|part| {
                scalar(&part["Item"][hash_key]).or_else(|| scalar(&part["Key"][hash_key]))
            });
            Some(keys.collect())
        }
        // A scan is about no partition in particular, nor is what is done with a table as such.
        _ => None,
    };
    found.map_or(Key::Absent, Key::Values)
}

/// `{"S": "a"}` is `a`.
fn scalar(value: &Value) -> Option<String> {
    let (_, value) = value.as_object()?.iter().next()?;
    value.as_str().map(str::to_owned)
}

/// What a key condition says the partition key equals.
fn equals(request: &Value, hash_key: &str) -> Option<String> {
    let condition = request["KeyConditionExpression"].as_str()?;
    let name = |operand: &str| match operand.strip_prefix('#') {
        Some(_) => request["ExpressionAttributeNames"][operand].as_str().unwrap_or_default().to_owned(),
        None => operand.to_owned(),
    };
    // Key conditions are joined by AND alone, and only `between` has another one in it, without an equals sign.
    let words: Vec<String> = condition
        .replace('=', " = ")
        .replace(['(', ')'], " ")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let value = words.windows(3).find_map(|words| match words {
        [one, equals, other] if equals == "=" && name(one) == hash_key => Some(other.clone()),
        [one, equals, other] if equals == "=" && name(other) == hash_key => Some(one.clone()),
        _ => None,
    })?;
    scalar(&request["ExpressionAttributeValues"][&value])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys(operation: &str, action: &str, request: &Value) -> Key {
        of(operation, action, "t", Some("PK"), request.to_string().as_bytes())
    }

    fn values(values: &[&str]) -> Key {
        Key::Values(values.iter().map(|value| (*value).to_owned()).collect())
    }

    #[test]
    fn every_item_of_a_request_counts() {
        let key = json!({"PK": {"S": "a"}, "SK": {"S": "1"}});
        assert_eq!(keys("GetItem", "dynamodb:GetItem", &json!({"Key": key})), values(&["a"]));
        assert_eq!(keys("PutItem", "dynamodb:PutItem", &json!({"Item": {"PK": {"N": "7"}}})), values(&["7"]));
        let batch = json!({"RequestItems": {"t": [
            {"PutRequest": {"Item": key}}, {"DeleteRequest": {"Key": {"PK": {"S": "b"}}}}], "u": []}});
        assert_eq!(keys("BatchWriteItem", "dynamodb:BatchWriteItem", &batch), values(&["a", "b"]));
        let transaction = json!({"TransactItems": [
            {"Put": {"TableName": "t", "Item": key}},
            {"Put": {"TableName": "u", "Item": {"PK": {"S": "elsewhere"}}}},
            {"Update": {"TableName": "t", "Key": {"PK": {"S": "c"}}}}]});
        assert_eq!(keys("TransactWriteItems", "dynamodb:PutItem", &transaction), values(&["a"]));
        assert_eq!(keys("TransactWriteItems", "dynamodb:UpdateItem", &transaction), values(&["c"]));
    }

    #[test]
    fn a_query_is_about_the_partition_in_its_condition() {
        for condition in ["#p = :p AND begins_with(#s, :s)", "begins_with (#s,:s) and PK=:p", ":p = #p"] {
            let query = json!({
                "KeyConditionExpression": condition,
                "ExpressionAttributeNames": {"#p": "PK", "#s": "SK"},
                "ExpressionAttributeValues": {":p": {"S": "a"}, ":s": {"S": "x"}},
            });
            assert_eq!(keys("Query", "dynamodb:Query", &query), values(&["a"]), "{condition}");
        }
        assert_eq!(keys("Query", "dynamodb:Query", &json!({"KeyConditions": {}})), Key::Unsupported);
    }

    #[test]
    fn what_has_no_partition_has_no_key() {
        assert_eq!(keys("Scan", "dynamodb:Scan", &json!({"TableName": "t"})), Key::Absent);
        assert_eq!(of("GetItem", "dynamodb:GetItem", "t", None, b"{}"), Key::Absent);
    }
}
