//! The calls that CloudFormation makes to other services, as whoever executes the change set.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::call::{Principal, Reply};
use crate::error::AwsError;
use crate::front::relay::Relayed;
use crate::front::{Front, Service};
use crate::sigv4::push_encoded;

/// How often and with which pauses an answer is waited for that only means "not yet".
const ATTEMPTS: usize = 200;
const PAUSE: Duration = Duration::from_millis(50);

pub(in crate::cloudformation) struct Caller {
    pub(in crate::cloudformation) front: Arc<Front>,
    pub(in crate::cloudformation) who: Principal,
    pub(in crate::cloudformation) stack_name: String,
    pub(in crate::cloudformation) stack_id: String,
}

impl Caller {
    /// A REST service: method and path, JSON both ways.
    pub(super) async fn rest(
        &self,
        service: Service,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, AwsError> {
        let reply = self
            .ask(|| Relayed {
                service,
                method: method.clone(),
                path: path.to_owned(),
                target: None,
                body: body.map(|body| Bytes::from(body.to_string())).unwrap_or_default(),
            })
            .await?;
        json_of(&reply)
    }

    /// A service with operations in a header.
    pub(super) async fn json(&self, service: Service, target: &str, body: &Value) -> Result<Value, AwsError> {
        let reply = self
            .ask(|| Relayed {
                service,
                method: Method::POST,
                path: "/".to_owned(),
                target: Some(target.to_owned()),
                body: Bytes::from(body.to_string()),
            })
            .await?;
        json_of(&reply)
    }

    /// IAM. Returns its answer, which is XML.
    pub(super) async fn iam(&self, action: &str, fields: &[(&str, &str)]) -> Result<String, AwsError> {
        let mut form = format!("Action={action}&Version=2010-05-08");
        for (name, value) in fields {
            form.push_str(&format!("&{name}="));
            push_encoded(&mut form, value.as_bytes());
        }
        self.ask(|| Relayed {
            service: Service::Iam,
            method: Method::POST,
            path: "/".to_owned(),
            target: None,
            body: Bytes::from(form.clone()),
        })
        .await
        .map(|reply| String::from_utf8_lossy(&reply.body).into_owned())
    }

    /// Asks until the answer is final: a role may not be assumable yet, a function may still be changing.
    async fn ask(&self, request: impl Fn() -> Relayed) -> Result<Reply, AwsError> {
        let mut attempt = 0;
        loop {
            match self.front.relay(&self.who, request()).await {
                Err(error) if attempt < ATTEMPTS && is_not_yet(&error) => {
                    attempt += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
                Ok(reply) => return Ok(reply),
            }
        }
    }

    /// The tags that every resource of a stack carries, where its type has tags of that kind.
    pub(super) fn with_system_tags(
        &self,
        logical_id: &str,
        mut tags: Map<String, Value>,
    ) -> Map<String, Value> {
        tags.insert("aws:cloudformation:stack-name".to_owned(), json!(self.stack_name));
        tags.insert("aws:cloudformation:stack-id".to_owned(), json!(self.stack_id));
        tags.insert("aws:cloudformation:logical-id".to_owned(), json!(logical_id));
        tags
    }

    pub(super) fn arn(&self, service: &str, resource: &str) -> String {
        let cx = &self.front.cx;
        format!("arn:aws:{service}:{}:{}:{resource}", cx.region, cx.account)
    }
}

fn json_of(reply: &Reply) -> Result<Value, AwsError> {
    if reply.body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&reply.body)
        .map_err(|error| AwsError::internal(format!("an answer of the local cloud is no JSON: {error}")))
}

fn is_not_yet(error: &AwsError) -> bool {
    let says = |text: &str| error.message.contains(text);
    match &*error.code {
        "ResourceConflictException" => says("in progress") || says("Pending"),
        "InvalidParameterValueException" => says("cannot be assumed by Lambda"),
        "TooManyRequestsException" | "Throttling" | "ThrottlingException" => true,
        _ => false,
    }
}

pub(super) fn is_absent(error: &AwsError) -> bool {
    error.status == StatusCode::NOT_FOUND
        || matches!(&*error.code, "ResourceNotFoundException" | "NoSuchEntity" | "NotFoundException")
}
