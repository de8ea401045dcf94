//! A function for the tests of the local cloud: it does what its event says, and prints every event as one line.

use std::process;
use std::time::Duration;

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(handle)).await
}

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let event = event.payload;
    println!("EVENT {event}");
    let asked = |name: &str| event["queryStringParameters"][name].as_str();
    if event["type"] == "REQUEST" {
        return authorize(&event, asked("auth").unwrap_or_default());
    }
    match event["requestContext"]["eventType"].as_str() {
        Some("CONNECT") => {
            pause(asked("pause_ms").and_then(|ms| ms.parse().ok())).await;
            if asked("fail").is_some() {
                return Err("a secret detail".into());
            }
            let status: u16 = asked("status").unwrap_or("200").parse()?;
            let headers = asked("protocol").map(|chosen| json!({ "sec-websocket-protocol": chosen }));
            Ok(json!({ "statusCode": status, "headers": headers.unwrap_or_default() }))
        }
        Some("MESSAGE") => {
            let body: Value = serde_json::from_str(event["body"].as_str().unwrap_or_default())?;
            obey(&body).await?;
            let answer = json!({ "id": body["id"], "event": event }).to_string();
            Ok(json!({ "statusCode": 200, "body": answer }))
        }
        Some(_) => Ok(json!({ "statusCode": 200 })),
        None => {
            obey(&event).await?;
            Ok(json!({ "pid": process::id() }))
        }
    }
}

async fn obey(order: &Value) -> Result<(), Error> {
    pause(order["pause_ms"].as_u64()).await;
    match order["do"].as_str() {
        Some("fail") => Err("a secret detail".into()),
        Some("crash") => process::exit(3),
        _ => Ok(()),
    }
}

async fn pause(ms: Option<u64>) {
    if let Some(ms) = ms {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

fn authorize(event: &Value, kind: &str) -> Result<Value, Error> {
    match kind {
        "fail" => return Err("the table said Unauthorized, so this is a failure".into()),
        "unauthorized" => return Err("Unauthorized".into()),
        _ => {}
    }
    let effect = if kind == "deny" { "Deny" } else { "Allow" };
    let statement =
        json!({ "Action": "execute-api:Invoke", "Effect": effect, "Resource": event["methodArn"] });
    Ok(json!({
        "principalId": "somebody",
        "policyDocument": { "Version": "2012-10-17", "Statement": [statement] },
        "context": { "name": "Some Body", "number": 7, "flag": true },
    }))
}
