//! The way of one request: signature, operation, faults, access, service.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Either, Limited};
use hyper::body::Incoming;

use super::render::{self, Answer};
use super::service::Service;
use super::{Front, admin, demands};
use crate::call::{Call, Principal, Reply, Route};
use crate::error::AwsError;
use crate::faults::Hold;
use crate::query::Form;
use crate::sigv4::{Claim, SignatureError};
use crate::{cloudformation, dynamodb, iam, logs};

/// Closes the connection without an answer, which is what a caller sees when an answer gets lost.
#[derive(Debug, thiserror::Error)]
#[error("the answer was lost on purpose")]
pub(super) struct LostAnswer;

/// What is to be done, found from the request alone.
pub(super) enum Work {
    DynamoDb(&'static str, dynamodb::Targets),
    Logs(&'static str, serde_json::Value),
    Iam(&'static str, Form),
    Sts(&'static str, Form),
    CloudFormation(&'static str, Form),
    S3(Route),
    Lambda(Route),
    ApiGateway(Route),
    WebSockets(Route),
}

/// What came of it.
pub(super) enum Outcome {
    Reply(Reply),
    /// An event stream.
    Stream(UnsyncBoxBody<Bytes, Infallible>),
}

pub(super) async fn serve(front: Arc<Front>, request: Request<Incoming>) -> Result<Answer, LostAnswer> {
    if is_upgrade(request.headers()) {
        return Ok(front.websockets.upgrade(request).await.map(Either::Left));
    }
    let request_id = uuid::Uuid::new_v4().to_string();
    let (parts, body) = request.into_parts();
    if parts.uri.path().starts_with(admin::PREFIX) {
        return Ok(administer(&front, &parts, body, &request_id).await);
    }
    let claim = Claim::of(&parts);
    let service = match &claim {
        Ok(claim) => match Service::from_scope(claim.service()) {
            Some(service) => service,
            None => {
                let message = format!(
                    "The local cloud has no service '{}'. It has apigateway, cloudformation, dynamodb, execute-api, \
                     iam, lambda, logs, s3 and sts.",
                    claim.service()
                );
                let error = AwsError::bad_request("UnknownOperationException", message);
                return Ok(render::error(&error, Service::guess(&parts), &request_id));
            }
        },
        Err(_) => Service::guess(&parts),
    };
    let answer = match front.answer(service, claim, &parts, body, &request_id).await {
        Ok((_, true)) => return Err(LostAnswer),
        Ok((Outcome::Reply(reply), false)) => render::whole(reply, &request_id),
        Ok((Outcome::Stream(body), false)) => {
            render::stream(body, "application/vnd.amazon.eventstream", &request_id)
        }
        Err(error) => render::error(&error, service, &request_id),
    };
    Ok(answer)
}

impl Front {
    /// The outcome, and whether the caller is not to learn of it.
    async fn answer(
        self: &Arc<Self>,
        service: Service,
        claim: Result<Claim<'_>, SignatureError>,
        parts: &Parts,
        body: Incoming,
        request_id: &str,
    ) -> Result<(Outcome, bool), AwsError> {
        let body = read(body, service.max_body_bytes()).await?;
        let unsigned = claim.is_err() && service == Service::Iam && is_web_identity(&self.form(parts, &body));
        let service = if unsigned { Service::Sts } else { service };
        let principal = if unsigned {
            // Its token speaks for it, and nothing else can be asked for like this.
            Principal::Owner
        } else if self.cx.settings.verify_signatures {
            let now_s = jiff::Timestamp::now().as_second();
            claim
                .and_then(|claim| self.verifier.verify(&claim, parts, &body, &self.cx.iam, now_s))
                .map_err(|refusal| render::signature_error(service, refusal))?
        } else {
            Principal::Owner
        };
        self.handle(principal, service, parts, body, request_id).await
    }

    /// What anybody asks for, once it is known who that is.
    pub(super) async fn handle(
        self: &Arc<Self>,
        principal: Principal,
        service: Service,
        parts: &Parts,
        body: Bytes,
        request_id: &str,
    ) -> Result<(Outcome, bool), AwsError> {
        let path = path_of(parts);
        let mut work = self.work(service, parts, &path, &body)?;
        let operation = work.operation();
        self.calls.add(&principal, service.name(), operation);

        let verdict = self.cx.faults.on_call(service.name(), operation);
        if let Some(delay) = verdict.delay {
            tokio::time::sleep(delay).await;
        }
        if verdict.hold == Some(Hold::BeforeWork) {
            self.cx.faults.hold().await;
        }
        if let Some(error) = verdict.error {
            return Err(error);
        }
        if principal != Principal::Owner {
            if let Work::Lambda(route) = &mut work
                && route.operation == "CreateFunction"
            {
                route.resource = self.lambda.to_create(&body);
            }
            self.authorize(&principal, &work, &body)?;
            demands::authorize(&self.cx, &principal, &work, &body)?;
        }
        let call = Call {
            principal,
            request_id: request_id.to_owned(),
            method: parts.method.clone(),
            path,
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts.headers.clone(),
            body,
        };
        let outcome = self.perform(work, call).await;
        if verdict.hold == Some(Hold::AfterWork) {
            self.cx.faults.hold().await;
        }
        Ok((outcome?, verdict.lose_answer))
    }

    fn work(&self, service: Service, parts: &Parts, path: &str, body: &Bytes) -> Result<Work, AwsError> {
        let target = |prefix: &str, known: &'static [&'static str]| {
            let header = parts.headers.get("x-amz-target").and_then(|value| value.to_str().ok());
            let named = header.and_then(|target| target.strip_prefix(prefix));
            named.and_then(|name| known.iter().find(|known| **known == name)).copied().ok_or_else(|| {
                let asked = named.or(header).unwrap_or("without an X-Amz-Target");
                unknown_operation(service, asked)
            })
        };
        let action = |form: &Form, known: &'static [&'static str], version: &str| {
            let name = form.get("Action").unwrap_or_default();
            known.iter().find(|known| **known == name).copied().ok_or_else(|| {
                AwsError::bad_request(
                    "InvalidAction",
                    format!("Could not find operation {name} for version {version} in the local cloud"),
                )
            })
        };
        let route = |route: Option<Route>| {
            route.ok_or_else(|| unknown_operation(service, &format!("{} {}", parts.method, parts.uri.path())))
        };
        Ok(match service {
            Service::DynamoDb => {
                let operation = target("DynamoDB_20120810.", &dynamodb::OPERATIONS)?;
                Work::DynamoDb(operation, dynamodb::Targets::of(operation, body)?)
            }
            Service::Logs => {
                let operation = target("Logs_20140328.", &logs::OPERATIONS)?;
                let input =
                    if body.is_empty() { Ok(serde_json::Value::Null) } else { serde_json::from_slice(body) };
                let input = input
                    .map_err(|error| AwsError::bad_request("SerializationException", error.to_string()))?;
                Work::Logs(operation, input)
            }
            Service::Iam => {
                let form = self.form(parts, body);
                Work::Iam(action(&form, &iam::OPERATIONS, iam::VERSION)?, form)
            }
            Service::Sts => {
                let form = self.form(parts, body);
                Work::Sts(action(&form, &iam::STS_OPERATIONS, "2011-06-15")?, form)
            }
            Service::CloudFormation => {
                let form = self.form(parts, body);
                Work::CloudFormation(
                    action(&form, &cloudformation::OPERATIONS, cloudformation::VERSION)?,
                    form,
                )
            }
            Service::S3 => {
                let query = parts.uri.query().unwrap_or_default();
                Work::S3(route(self.cx.s3.route(&parts.method, path, query))?)
            }
            Service::Lambda => Work::Lambda(route(self.lambda.route(&parts.method, path))?),
            Service::ApiGateway => Work::ApiGateway(route(self.apigateway.route(&parts.method, path))?),
            Service::ExecuteApi => Work::WebSockets(route(self.websockets.route(&parts.method, path))?),
        })
    }

    /// The Query protocol may also be spoken in the query of a GET.
    fn form(&self, parts: &Parts, body: &Bytes) -> Form {
        if parts.method == Method::GET {
            Form::parse(parts.uri.query().unwrap_or_default().as_bytes())
        } else {
            Form::parse(body)
        }
    }

    fn authorize(&self, who: &Principal, work: &Work, body: &Bytes) -> Result<(), AwsError> {
        let iam = &self.cx.iam;
        match work {
            Work::DynamoDb(operation, targets) => {
                let asked = dynamodb::Asked {
                    region: &self.cx.region,
                    account: &self.cx.account,
                    body,
                    hash_key: &|table| self.dynamodb.hash_key(table),
                };
                targets.authorize(iam, who, operation, &asked)
            }
            Work::Logs(operation, input) => {
                iam.authorize(who, &format!("logs:{operation}"), &self.cx.logs.resource(operation, input))
            }
            Work::Iam(operation, form) => {
                iam.authorize(who, &format!("iam:{operation}"), &iam.resource(operation, form))
            }
            // Everybody may ask who they are; AssumeRole decides with the trust policy of the role.
            Work::Sts(..) => Ok(()),
            Work::CloudFormation(operation, form) => iam.authorize(
                who,
                &format!("cloudformation:{operation}"),
                &self.cloudformation.resource(form),
            ),
            Work::Lambda(route) | Work::ApiGateway(route) | Work::WebSockets(route) | Work::S3(route) => {
                iam.authorize(who, route.action, &route.resource)
            }
        }
    }

    async fn perform(self: &Arc<Self>, work: Work, call: Call) -> Result<Outcome, AwsError> {
        let reply = match work {
            Work::DynamoDb(operation, targets) => self.dynamodb.call(operation, targets, &call)?,
            Work::Logs("StartLiveTail", input) => {
                return Ok(Outcome::Stream(self.cx.logs.start_live_tail(&input)?));
            }
            Work::Logs(operation, input) => self.cx.logs.call(operation, &input)?,
            Work::Iam(operation, form) => self.cx.iam.call(operation, &form, &call)?,
            Work::Sts(operation, form) => self.cx.iam.call_sts(operation, &form, &call)?,
            Work::CloudFormation(operation, form) => {
                self.cloudformation.call(operation, &form, &call, self)?
            }
            Work::S3(route) => self.cx.s3.call(&route, &call)?,
            Work::Lambda(route) => self.lambda.call(route, call).await?,
            Work::ApiGateway(route) => self.apigateway.call(route, call).await?,
            Work::WebSockets(route) => self.websockets.call(route, call).await?,
        };
        Ok(Outcome::Reply(reply))
    }
}

impl Work {
    fn operation(&self) -> &'static str {
        match self {
            Self::DynamoDb(operation, _)
            | Self::Logs(operation, _)
            | Self::Iam(operation, _)
            | Self::Sts(operation, _)
            | Self::CloudFormation(operation, _) => operation,
            Self::S3(route) | Self::Lambda(route) | Self::ApiGateway(route) | Self::WebSockets(route) => {
                route.operation
            }
        }
    }
}

/// The one call that needs no signature: it brings a token of somebody else's.
fn is_web_identity(form: &Form) -> bool {
    form.get("Action") == Some("AssumeRoleWithWebIdentity")
}

async fn administer(front: &Front, parts: &Parts, body: Incoming, request_id: &str) -> Answer {
    let outcome = match read(body, 1 << 20).await {
        Ok(body) => front.administer(&parts.method, parts.uri.path(), &body),
        Err(error) => Err(error),
    };
    match outcome {
        Ok(reply) => render::whole(reply, request_id),
        Err(error) => render::error(&error, Service::ApiGateway, request_id),
    }
}

async fn read(body: Incoming, limit: usize) -> Result<Bytes, AwsError> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(AwsError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLargeException",
            format!("Request must be smaller than {limit} bytes."),
        )),
        Err(error) => {
            Err(AwsError::bad_request("IncompleteBody", format!("failed to read the request: {error}")))
        }
    }
}

/// `@connections` may name its API in the host, as on AWS; services see the API in the path.
fn path_of(parts: &Parts) -> String {
    let path = parts.uri.path();
    let host = parts.headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match host.split_once(".execute-api.") {
        Some((api, _)) if path.contains("/@connections/") || path.contains("/%40connections/") => {
            format!("/{api}{path}")
        }
        _ => path.to_owned(),
    }
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    let names = |name, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(word)))
    };
    names(UPGRADE, "websocket") && names(CONNECTION, "upgrade")
}

fn unknown_operation(service: Service, asked: &str) -> AwsError {
    let status = if service == Service::ExecuteApi { StatusCode::FORBIDDEN } else { StatusCode::NOT_FOUND };
    let status = match service {
        Service::DynamoDb | Service::Logs => StatusCode::BAD_REQUEST,
        _ => status,
    };
    AwsError::new(
        status,
        "UnknownOperationException",
        format!("The local cloud does not know the operation {asked} of {}.", service.name()),
    )
}
