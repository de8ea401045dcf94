//! Which tables and indexes a request is about, found without reading the items in it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::leading_keys;
use crate::call::Principal;
use crate::error::AwsError;
use crate::iam::Iam;

/// What a request is authorised on.
#[derive(Debug)]
pub(crate) struct Targets {
    targets: Vec<Target>,
    /// The request with names of tables in place of ARNs, if it had any.
    rewritten: Option<Vec<u8>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Target {
    table: String,
    index: Option<String>,
    /// IAM action, if it is not that of the operation.
    action: Option<&'static str>,
}

/// What a decision may depend on besides.
pub(crate) struct Asked<'a> {
    pub(crate) region: &'a str,
    pub(crate) account: &'a str,
    pub(crate) body: &'a [u8],
    /// The name of a table's partition key.
    pub(crate) hash_key: &'a dyn Fn(&str) -> Option<String>,
}

/// All that matters here of any request.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "TableName", borrow, default)]
    table_name: Option<Cow<'a, str>>,
    #[serde(rename = "IndexName", borrow, default)]
    index_name: Option<Cow<'a, str>>,
    #[serde(rename = "ResourceArn", borrow, default)]
    resource_arn: Option<Cow<'a, str>>,
    #[serde(rename = "RequestItems", borrow, default)]
    request_items: Option<BTreeMap<Cow<'a, str>, IgnoredAny>>,
    #[serde(rename = "TransactItems", borrow, default)]
    transact_items: Option<Vec<BTreeMap<Cow<'a, str>, TransactItem<'a>>>>,
}

#[derive(Deserialize)]
struct TransactItem<'a> {
    #[serde(rename = "TableName", borrow, default)]
    table_name: Option<Cow<'a, str>>,
}

impl Targets {
    pub(crate) fn of(operation: &str, body: &[u8]) -> Result<Self, AwsError> {
        // A request whose head cannot be read cannot be read as a whole either: the engine says what is wrong.
        let head: Head<'_> = match serde_json::from_slice(body) {
            Ok(head) => head,
            Err(error) if error.is_data() => return Ok(Self { targets: Vec::new(), rewritten: None }),
            Err(_) => return Err(AwsError::bad_request("SerializationException", "")),
        };
        let mut targets = Vec::with_capacity(1);
        let mut add = |table: &str, index: Option<&str>, action| {
            let target = Target { table: name_of(table).to_owned(), index: index.map(str::to_owned), action };
            if !targets.contains(&target) {
                targets.push(target);
            }
        };
        let mut arns = false;
        // Exactly what the operation will use: another member must not be able to stand in for it.
        if operation.ends_with("Resource") {
            add(head.resource_arn.as_deref().unwrap_or_default(), None, None);
        } else if let Some(table) = head.table_name.as_deref() {
            arns |= is_arn(table);
            add(table, head.index_name.as_deref().filter(|_| matches!(operation, "Query" | "Scan")), None);
        }
        for table in head.request_items.iter().flat_map(BTreeMap::keys) {
            arns |= is_arn(table);
            add(table, None, None);
        }
        for (kind, item) in head.transact_items.iter().flatten().flatten() {
            let table = item.table_name.as_deref().unwrap_or_default();
            arns |= is_arn(table);
            add(table, None, transaction_action(operation, kind));
        }
        Ok(Self { targets, rewritten: if arns { Some(rewrite(body)?) } else { None } })
    }

    /// The request as the engine reads it: where it names tables by ARN, what it is about would be missed otherwise.
    pub(super) fn body<'a>(&'a self, as_sent: &'a [u8]) -> &'a [u8] {
        self.rewritten.as_deref().unwrap_or(as_sent)
    }

    pub(super) fn first_table(&self) -> &str {
        self.targets.first().map_or("", |target| &target.table)
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(|target| target.table.as_str())
    }

    /// Every one of them has to be allowed.
    pub(crate) fn authorize(
        &self,
        iam: &Iam,
        who: &Principal,
        operation: &str,
        asked: &Asked<'_>,
    ) -> Result<(), AwsError> {
        let Asked { region, account, .. } = asked;
        if self.targets.is_empty() {
            let resource = format!("arn:aws:dynamodb:{region}:{account}:table/*");
            return iam.authorize(who, &format!("dynamodb:{operation}"), &resource);
        }
        for Target { table, index, action } in &self.targets {
            let mut resource = format!("arn:aws:dynamodb:{region}:{account}:table/{table}");
            if let Some(index) = index {
                resource.push_str("/index/");
                resource.push_str(index);
            }
            let action = action.map_or_else(|| format!("dynamodb:{operation}"), str::to_owned);
            let given = |key: &str| {
                (key == "dynamodb:leadingkeys").then(|| {
                    let hash_key = (asked.hash_key)(table);
                    leading_keys::of(operation, &action, table, hash_key.as_deref(), self.body(asked.body))
                })
            };
            iam.authorize_with(who, &action, &resource, &given)?;
        }
        Ok(())
    }
}

/// A transaction is allowed if each of its parts is.
fn transaction_action(operation: &str, kind: &str) -> Option<&'static str> {
    match (operation, kind) {
        (_, "Put") => Some("dynamodb:PutItem"),
        (_, "Update") => Some("dynamodb:UpdateItem"),
        (_, "Delete") => Some("dynamodb:DeleteItem"),
        (_, "ConditionCheck") => Some("dynamodb:ConditionCheckItem"),
        ("TransactGetItems", "Get") => Some("dynamodb:GetItem"),
        _ => None,
    }
}

fn is_arn(name: &str) -> bool {
    name.starts_with("arn:")
}

/// `arn:aws:dynamodb:region:account:table/name` or the name itself.
fn name_of(table: &str) -> &str {
    if !is_arn(table) {
        return table;
    }
    let resource = table.splitn(6, ':').nth(5).unwrap_or_default();
    resource.strip_prefix("table/").and_then(|rest| rest.split('/').next()).unwrap_or(table)
}

fn rewrite(body: &[u8]) -> Result<Vec<u8>, AwsError> {
    let mut request: Value =
        serde_json::from_slice(body).map_err(|_| AwsError::bad_request("SerializationException", ""))?;
    let shorten = |holder: &mut Value| {
        if let Some(Value::String(table)) = holder.get_mut("TableName") {
            *table = name_of(table).to_owned();
        }
    };
    shorten(&mut request);
    for item in request.get_mut("TransactItems").and_then(Value::as_array_mut).into_iter().flatten() {
        item.as_object_mut().into_iter().flat_map(serde_json::Map::values_mut).for_each(shorten);
    }
    if let Some(Value::Object(items)) = request.get_mut("RequestItems") {
        *items =
            std::mem::take(items).into_iter().map(|(table, of)| (name_of(&table).to_owned(), of)).collect();
    }
    crate::call::to_json(&request)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Target, Targets};

    fn targets(operation: &str, body: &Value) -> Targets {
        Targets::of(operation, body.to_string().as_bytes()).unwrap()
    }

    fn target(table: &str, index: Option<&str>, action: Option<&'static str>) -> Target {
        Target { table: table.to_owned(), index: index.map(str::to_owned), action }
    }

    #[test]
    fn each_request_names_what_it_touches() {
        let query = json!({"TableName": "a", "IndexName": "i", "ExpressionAttributeValues": {":v": {"S": "\u{1F600}\""}}});
        assert_eq!(targets("Query", &query).targets, [target("a", Some("i"), None)]);
        let batch = json!({"RequestItems": {"a": [], "b": {"Keys": []}}});
        assert_eq!(
            targets("BatchGetItem", &batch).targets,
            [target("a", None, None), target("b", None, None)]
        );
        let transaction = json!({"TransactItems": [
            {"Put": {"TableName": "a", "Item": {}}}, {"ConditionCheck": {"TableName": "a"}}, {"Put": {"TableName": "a"}}]});
        assert_eq!(
            targets("TransactWriteItems", &transaction).targets,
            [
                target("a", None, Some("dynamodb:PutItem")),
                target("a", None, Some("dynamodb:ConditionCheckItem"))
            ]
        );
        assert!(targets("ListTables", &json!({})).targets.is_empty());
    }

    #[test]
    fn members_that_an_operation_does_not_use_do_not_change_what_is_authorised() {
        let get =
            json!({"TableName": "a", "IndexName": "mine", "ResourceArn": "arn:aws:dynamodb:r:0:table/mine"});
        assert_eq!(targets("GetItem", &get).targets, [target("a", None, None)]);
        let tag = json!({"TableName": "mine", "ResourceArn": "arn:aws:dynamodb:r:0:table/a"});
        assert_eq!(targets("TagResource", &tag).targets, [target("a", None, None)]);
        assert!(
            Targets::of("GetItem", br#"{"TableName":"mine","TableName":"a"}"#).unwrap().targets.is_empty()
        );
    }

    #[test]
    fn arns_become_names() {
        let arn = "arn:aws:dynamodb:eu-west-1:000000000000:table/a";
        for (operation, body, expected) in [
            ("GetItem", json!({"TableName": arn, "Key": {}}), json!({"TableName": "a", "Key": {}})),
            ("BatchGetItem", json!({"RequestItems": {arn: []}}), json!({"RequestItems": {"a": []}})),
            (
                "TransactGetItems",
                json!({"TransactItems": [{"Get": {"TableName": arn}}]}),
                json!({"TransactItems": [{"Get": {"TableName": "a"}}]}),
            ),
        ] {
            let found = targets(operation, &body);
            assert_eq!(found.first_table(), "a");
            assert_eq!(serde_json::from_slice::<Value>(&found.rewritten.unwrap()).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_json_is_refused_and_what_is_another_shape_is_left_to_the_engine() {
        assert_eq!(Targets::of("PutItem", b"{").unwrap_err().code, "SerializationException");
        assert!(Targets::of("PutItem", br#"{"TableName":1}"#).unwrap().targets.is_empty());
    }
}
