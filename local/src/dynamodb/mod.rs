//! DynamoDB: the wire around an embedded engine, which keeps the tables in SQLite.

mod backups;
mod creating;
mod leading_keys;
mod targets;

use std::path::Path;
use std::sync::Arc;

use dynoxide::actions::describe_time_to_live::DescribeTimeToLiveRequest;
use dynoxide::actions::update_time_to_live::{UpdateTimeToLiveRequest, UpdateTimeToLiveResponse};
use dynoxide::{Database, DynoxideError};
use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use self::backups::Backups;
pub(crate) use self::targets::{Asked, Targets};
use crate::call::{Call, Reply, to_json};
use crate::context::Context;
use crate::error::AwsError;
use crate::faults::Young;

/// Every operation that there is here.
pub(crate) const OPERATIONS: [&str; 23] = [
    "BatchGetItem",
    "BatchWriteItem",
    "CreateTable",
    "DeleteItem",
    "DeleteTable",
    "DescribeContinuousBackups",
    "DescribeLimits",
    "DescribeTable",
    "DescribeTimeToLive",
    "GetItem",
    "ListTables",
    "ListTagsOfResource",
    "PutItem",
    "Query",
    "Scan",
    "TagResource",
    "TransactGetItems",
    "TransactWriteItems",
    "UntagResource",
    "UpdateContinuousBackups",
    "UpdateItem",
    "UpdateTable",
    "UpdateTimeToLive",
];

const CONTENT_TYPE: &str = "application/x-amz-json-1.0";

/// Clones share the tables.
#[derive(Clone)]
pub(crate) struct DynamoDb {
    engine: Database,
    backups: Backups,
    cx: Arc<Context>,
}

impl DynamoDb {
    /// `path` is the file of the tables; `None` keeps them in memory.
    pub(crate) fn open(path: Option<&Path>, cx: &Arc<Context>) -> Result<Self, AwsError> {
        let engine = match path {
            Some(path) => Database::new(&path.to_string_lossy()),
            None => Database::memory(),
        };
        let engine = engine.map_err(|error| aws_error(&error))?;
        // Resets the pragmas of a bulk load. What matters here is that it sets `synchronous = NORMAL`: no fsync for
        // each write, and still nothing is lost when the process is killed.
        engine.disable_bulk_loading().map_err(|error| aws_error(&error))?;
        Ok(Self { engine, backups: Backups::open(cx.store.clone()), cx: cx.clone() })
    }

    pub(crate) fn call(&self, operation: &str, targets: Targets, call: &Call) -> Result<Reply, AwsError> {
        let body = targets.body(&call.body);
        let engine = &self.engine;
        for table in targets.tables().filter(|table| self.cx.faults.table_creating(table)) {
            creating::refuse(operation, table)?;
        }
        let answer = match operation {
            "PutItem" => run(body, |request| engine.put_item(request)),
            "GetItem" => run(body, |request| engine.get_item(request)),
            "DeleteItem" => run(body, |request| engine.delete_item(request)),
            "UpdateItem" => run(body, |request| engine.update_item(request)),
            "Query" => run(body, |request| engine.query(request)),
            "Scan" => run(body, |request| engine.scan(request)),
            "BatchGetItem" => run(body, |request| engine.batch_get_item(request)),
            "BatchWriteItem" => run(body, |request| engine.batch_write_item(request)),
            "TransactGetItems" => run(body, |request| engine.transact_get_items(request)),
            "TransactWriteItems" => run(body, |request| engine.transact_write_items(request)),
            operation => self.manage(operation, &targets, body),
        }?;
        Ok(Reply::new(StatusCode::OK, CONTENT_TYPE, answer))
    }

    /// The name of a table's partition key, if there is such a table.
    pub(crate) fn hash_key(&self, table: &str) -> Option<String> {
        let request = json!({ "TableName": table }).to_string();
        let answer = run(request.as_bytes(), |request| self.engine.describe_table(request)).ok()?;
        let answer: Value = serde_json::from_slice(&answer).ok()?;
        let keys = answer["Table"]["KeySchema"].as_array()?;
        let hash = keys.iter().find(|key| key["KeyType"] == "HASH")?;
        hash["AttributeName"].as_str().map(str::to_owned)
    }

    /// Removes expired items.
    pub(crate) fn sweep(&self) {
        // Nobody asked for this, so nobody can be told; the next sweep tries again.
        let _ = self.engine.sweep_ttl();
    }

    /// The operations on tables as such.
    fn manage(&self, operation: &str, targets: &Targets, body: &[u8]) -> Result<Vec<u8>, AwsError> {
        let engine = &self.engine;
        let table = targets.first_table();
        let answer = match operation {
            "CreateTable" => {
                let answer = run(body, |request| engine.create_table(request))?;
                self.cx.faults.created(Young::Table, table);
                Ok(answer)
            }
            "DescribeTable" => run(body, |request| engine.describe_table(request)),
            "ListTables" => run(body, |request| engine.list_tables(request)),
            "UpdateTable" => run(body, |request| engine.update_table(request)),
            "DeleteTable" => {
                let answer = run(body, |request| engine.delete_table(request))?;
                self.backups.forget(table)?;
                Ok(answer)
            }
            "UpdateTimeToLive" => run(body, |request| self.update_time_to_live(request)),
            "DescribeTimeToLive" => run(body, |request| engine.describe_time_to_live(request)),
            "TagResource" => run(body, |request| engine.tag_resource(request)),
            "UntagResource" => run(body, |request| engine.untag_resource(request)),
            "ListTagsOfResource" => run(body, |request| engine.list_tags_of_resource(request)),
            "DescribeContinuousBackups" => {
                self.require_table(table)?;
                to_json(&self.backups.describe(table)?)
            }
            "UpdateContinuousBackups" => {
                self.require_table(table)?;
                to_json(&self.backups.update(table, body)?)
            }
            "DescribeLimits" => to_json(&json!({
                "AccountMaxReadCapacityUnits": 80_000,
                "AccountMaxWriteCapacityUnits": 80_000,
                "TableMaxReadCapacityUnits": 40_000,
                "TableMaxWriteCapacityUnits": 40_000,
            })),
            other => Err(AwsError::bad_request("UnknownOperationException", other.to_owned())),
        }?;
        let answer = if self.cx.faults.table_creating(table) { creating::describe(answer) } else { answer };
        self.in_words_of_dynamodb(answer)
    }

    /// Saying again what is already so is an error with DynamoDB, which callers have to know.
    fn update_time_to_live(
        &self,
        request: UpdateTimeToLiveRequest,
    ) -> Result<UpdateTimeToLiveResponse, DynoxideError> {
        let wanted = &request.time_to_live_specification;
        let table = DescribeTimeToLiveRequest { table_name: request.table_name.clone() };
        let current = self.engine.describe_time_to_live(table)?.time_to_live_description;
        let enabled = current.time_to_live_status == "ENABLED";
        let problem = match (wanted.enabled, enabled) {
            (true, true) if current.attribute_name.as_ref() == Some(&wanted.attribute_name) => {
                "TimeToLive is already enabled".to_owned()
            }
            (true, true) => format!(
                "TimeToLive is active on a different AttributeName: current AttributeName is {}",
                current.attribute_name.unwrap_or_default()
            ),
            (false, false) => "TimeToLive is already disabled".to_owned(),
            _ => return self.engine.update_time_to_live(request),
        };
        Err(DynoxideError::ValidationException(problem))
    }

    /// The engine writes ARNs of a region of its own, and describes tables with a member that DynamoDB does not have.
    fn in_words_of_dynamodb(&self, answer: Vec<u8>) -> Result<Vec<u8>, AwsError> {
        const ITS_PREFIX: &str = "arn:aws:dynamodb:dynoxide:";
        const ITS_MEMBER: &str = "TableThroughputModeSummary";
        let text = match String::from_utf8(answer) {
            Ok(text) => text.replace(ITS_PREFIX, &format!("arn:aws:dynamodb:{}:", self.cx.region)),
            Err(error) => return Ok(error.into_bytes()),
        };
        if !text.contains(ITS_MEMBER) {
            return Ok(text.into_bytes());
        }
        let mut answer: Value =
            serde_json::from_str(&text).map_err(|error| AwsError::internal(error.to_string()))?;
        for description in ["Table", "TableDescription"] {
            if let Some(Value::Object(table)) = answer.get_mut(description) {
                table.remove(ITS_MEMBER);
            }
        }
        to_json(&answer)
    }

    fn require_table(&self, table: &str) -> Result<(), AwsError> {
        let request =
            dynoxide::actions::describe_table::DescribeTableRequest { table_name: table.to_owned() };
        match self.engine.describe_table(request) {
            Ok(_) => Ok(()),
            Err(DynoxideError::ResourceNotFoundException(_)) => {
                Err(AwsError::bad_request("TableNotFoundException", format!("Table not found: {table}")))
            }
            Err(error) => Err(aws_error(&error)),
        }
    }
}

fn run<Request: DeserializeOwned, Response: Serialize>(
    body: &[u8],
    operation: impl FnOnce(Request) -> Result<Response, DynoxideError>,
) -> Result<Vec<u8>, AwsError> {
    let request = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    to_json(&operation(request).map_err(|error| aws_error(&error))?)
}

/// Requests are validated while they are read, and what is wrong with them comes as a message with a mark that says
/// which error it is.
fn unreadable(error: &serde_json::Error) -> AwsError {
    let text = error.to_string();
    let without_position = match text.rfind(" at line ") {
        Some(index) if text[index..].contains("column") => &text[..index],
        _ => &text,
    };
    for (mark, code, keeps_position) in [
        ("VALIDATION_REQUEST:", "ValidationException", false),
        ("VALIDATION_AS_READ:", "ValidationException", true),
        ("VALIDATION:", "ValidationException", false),
        ("SERIALIZATION_AS_READ:", "SerializationException", true),
        ("SERIALIZATION:", "SerializationException", false),
    ] {
        let message = if keeps_position { &text } else { without_position };
        if let Some(message) = message.strip_prefix(mark) {
            return AwsError::bad_request(code, message);
        }
    }
    if without_position.contains("empty AttributeValue") {
        return AwsError::bad_request(
            "ValidationException",
            "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes",
        );
    }
    let validation = ["missing field", "unknown variant", "invalid type: null", "Supplied AttributeValue"];
    let code = if validation.iter().any(|phrase| without_position.contains(phrase)) {
        "ValidationException"
    } else {
        "SerializationException"
    };
    AwsError::bad_request(code, without_position)
}

fn aws_error(error: &DynoxideError) -> AwsError {
    let status = StatusCode::from_u16(error.status_code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let code = error.error_type().rsplit('#').next().unwrap_or("InternalServerError");
    let aws = AwsError::new(status, code, error.to_string());
    let mut members = Map::new();
    match error {
        DynoxideError::ConditionalCheckFailedException(_, Some(item)) => {
            members.insert("Item".to_owned(), serde_json::to_value(item).unwrap_or(Value::Null));
        }
        DynoxideError::TransactionCanceledException(_, reasons) => {
            members.insert(
                "CancellationReasons".to_owned(),
                serde_json::to_value(reasons).unwrap_or(Value::Null),
            );
        }
        _ => return aws,
    }
    aws.with_members(members)
}
