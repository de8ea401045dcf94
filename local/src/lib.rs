//! A cloud on one machine: the AWS wire protocols that a serverless WebSocket application uses, on loopback, with the
//! real binaries of its functions behind them.

mod apigateway;
mod call;
mod calls;
mod cloud;
mod cloudformation;
mod config;
mod context;
mod dynamodb;
mod error;
mod faults;
mod front;
mod glob;
mod iam;
mod lambda;
mod logs;
mod query;
mod rest;
mod s3;
mod sigv4;
mod store;
mod websocket;

pub use calls::{CallCount, Calls};
pub use cloud::{Cloud, StartError};
pub use config::{CloudConfig, DEFAULT_PORT, LambdaSettings, Settings};
pub use faults::{CONTROL_PLANE, Fault, Faults, Rule};
