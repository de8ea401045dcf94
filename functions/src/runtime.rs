//! The way from a binary to the rules: reads the environment, builds the adapters, and serves Lambda's events on one
//! thread, since a function gets one event at a time.

use std::fmt::Display;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lambda_runtime::{Context, Error, LambdaEvent, Runtime, service_fn};
use serde_json::Value;

use crate::auth::{authorization, identify};
use crate::chat::{Caller, Chat, Invocation};
use crate::contract::REFUSED;
use crate::dynamodb::Table;
use crate::event::{Closed, Event, Response, Upgrade};
use crate::log::{self, Level};
use crate::post::Callback;
use crate::rules;
use crate::settings::{self, Environment, Limits, SettingError};

/// What Lambda itself sets. Its client would panic without them.
const OF_LAMBDA: [&str; 4] = [
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
];

/// The `connect` function.
pub fn connect() -> ExitCode {
    serve(|environment| {
        let settings = settings::Connect::read(environment)?;
        let table = Table::new(&settings.aws, settings.table.clone())?;
        let state = Rc::new((settings, table));
        Ok(Runtime::new(service_fn(move |event: LambdaEvent<Upgrade>| {
            let state = Rc::clone(&state);
            async move {
                let (settings, table) = &*state;
                let (upgrade, request_id) = (event.payload, event.context.request_id.as_str());
                let answer = if let Some(arn) = upgrade.to_authorize() {
                    let outcome = identify(&upgrade, &settings.mode, &settings.origins, now_ms() / 1000);
                    if let Err(why) = &outcome {
                        log::line(Level::Warn, request_id, REFUSED, &[("why", why.to_string().into())]);
                    }
                    serde_json::to_value(authorization(outcome, arn))
                } else {
                    let caller = Caller::of(&upgrade.request_context, invocation(&event.context));
                    let response = rules::connect(table, caller.as_ref(), &upgrade).await;
                    if let Some(caller) = caller.filter(|_| response.status_code == 200) {
                        log::line(Level::Info, request_id, "connected", &who(&caller));
                    }
                    serde_json::to_value(response)
                };
                answer.map_err(Error::from)
            }
        }))
        .run())
    })
}

/// The `disconnect` function.
pub fn disconnect() -> ExitCode {
    serve(|environment| {
        let settings = settings::Disconnect::read(environment)?;
        let chat = Rc::new(Chat {
            store: Table::new(&settings.aws, settings.table)?,
            gateway: Callback::new(&settings.aws, &settings.callback_url)?,
            limits: Limits {
                presence_max: settings.presence_max,
                message_days: 0,
                sends_per_10s: 0,
                rooms_per_connection: 0,
            },
        });
        Ok(Runtime::new(service_fn(move |event: LambdaEvent<Closed>| {
            let chat = Rc::clone(&chat);
            async move {
                let (context, request_id) =
                    (event.payload.request_context, event.context.request_id.as_str());
                // Nobody waits for this answer, so the posts need not be handed over either.
                let Some(caller) = Caller::of(&context, invocation(&event.context)) else {
                    return Ok::<_, Error>(Response::status(200));
                };
                let mut fields = who(&caller).to_vec();
                fields.push(("code", context.disconnect_status_code.into()));
                fields.push(("reason", context.disconnect_reason.into()));
                log::line(Level::Info, request_id, "disconnected", &fields);
                Ok(match chat.disconnect(&caller).await {
                    Ok(()) => Response::status(200),
                    Err(failure) => failure.into_response(request_id),
                })
            }
        }))
        .run())
    })
}

/// The `on_message` function.
pub fn on_message() -> ExitCode {
    serve(|environment| {
        let settings = settings::OnMessage::read(environment)?;
        let chat = Rc::new(Chat {
            store: Table::new(&settings.aws, settings.table)?,
            gateway: Callback::new(&settings.aws, &settings.callback_url)?,
            limits: settings.limits,
        });
        Ok(Runtime::new(service_fn(move |event: LambdaEvent<Event>| {
            let chat = Rc::clone(&chat);
            async move {
                let invocation = invocation(&event.context);
                let received = match event.payload {
                    Event::Received(received) => received,
                    Event::Handed(batch) => {
                        chat.handed(invocation, batch).await;
                        return Ok::<_, Error>(Response::status(200));
                    }
                };
                let relay = Some(event.context.invoked_function_arn.as_str());
                let caller = Caller::of(&received.request_context, Invocation { relay, ..invocation });
                let body = received.body.unwrap_or_default();
                // Binary frames arrive as Base64. One that holds text is as good as a text frame.
                let body = if received.is_base64_encoded {
                    STANDARD
                        .decode(&body)
                        .ok()
                        .and_then(|bytes| String::from_utf8(bytes).ok())
                        .unwrap_or_default()
                } else {
                    body
                };
                Ok(Response::body(chat.received(caller.as_ref(), &body).await))
            }
        }))
        .run())
    })
}

fn invocation(context: &Context) -> Invocation<'_> {
    Invocation::of(&context.request_id, now_ms(), context.deadline)
}

fn who(caller: &Caller<'_>) -> [(&'static str, Value); 2] {
    [("user", caller.identity.user.as_str().into()), ("connection", caller.conn.as_str().into())]
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Starts, and serves until Lambda ends the process. Whatever stops the start is one line in the log.
fn serve<F>(start: impl FnOnce(&Environment<'_>) -> Result<F, Box<dyn std::error::Error>>) -> ExitCode
where
    F: Future<Output = Result<(), Error>>,
{
    let environment = Environment::of_process();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return refuse(&why),
    };
    // The clients want to be built inside of it.
    let _entered = runtime.enter();
    if let Some(missing) = OF_LAMBDA.into_iter().find(|name| environment.optional(name).is_none()) {
        return refuse(&SettingError::NotInLambda(missing));
    }
    let served = match start(&environment) {
        Ok(serving) => runtime.block_on(serving),
        Err(why) => return refuse(&why),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => refuse(&why),
    }
}

fn refuse(why: &dyn Display) -> ExitCode {
    log::line(Level::Error, "", "the handler cannot run", &[("why", why.to_string().into())]);
    ExitCode::FAILURE
}
