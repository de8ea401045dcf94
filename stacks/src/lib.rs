//! What the chat consists of on AWS ([`chat`]), and the engine that brings an account there: observe, plan, apply.
//!
//! The account is the state: nothing is remembered between runs. Every resource has a deterministic name or carries
//! the ownership tags of its app and stage, so [`observe`] finds all of them again, [`plan`] compares them with what
//! is declared, and [`apply`] carries the difference out. Destroying a stage is deploying the empty stack.
//!
//! ```text
//! let stage    = Settings::load(path)?.stage("local")?;
//! let aws      = Aws::connect(&Target::new(&stage)).await?;
//! let stack    = chat::stack(&stage, aws.identity().await?, &artifacts)?;   // or Stack::empty(scope) to destroy
//! let observed = observe(&aws, stack.scope()).await?;
//! let plan     = plan(&stack, &observed, &PlanOptions::of(&stage))?;
//! let outcome  = apply(&aws, &stack, &plan, &events, &cancel).await?;
//! let status   = status::of(&observe(&aws, stack.scope()).await?, stack.scope());
//! ```
//!
//! This crate never prints: progress is an [`Event`], failure an [`Error`] that says what to do next.

mod address;
mod apply;
pub mod artifact;
mod aws;
mod building;
mod call;
mod change;
pub mod chat;
pub mod ci;
pub mod cloudformation;
pub mod code;
pub mod drift;
mod error;
mod event;
pub mod glibc;
mod graph;
pub mod health;
pub mod ledger;
pub mod logs;
mod mask;
mod names;
mod observe;
mod pace;
pub mod permissions;
mod plan;
pub mod pointers;
mod policy;
pub mod preflight;
mod resource;
mod resources;
mod retry;
pub mod rollback;
pub mod settings;
pub mod socket;
pub mod status;
pub mod verify;

pub use address::{Address, Kind};
pub use apply::{Outcome, apply, verify_gone};
pub use artifact::{Artifact, Artifacts, Effort};
pub use aws::{Aws, Identity, StaticCredentials, Target};
pub use building::{Builder, Building};
pub use change::{Aftermath, Looking, Verification, WayBack, under_lock, verify_change};
pub use chat_functions::contract::Handler;
pub use error::{AwsFailure, Error, StackProblem};
pub use event::{Event, Events};
pub use names::{AppName, BadName, Scope, StageName};
pub use observe::{Observed, observe, observe_outline};
pub use plan::{Action, Plan, PlanOptions, PropertyChange, Refusal, Step, plan};
pub use resource::{Live, Stack};
pub use settings::{Settings, SettingsError, StageSettings};
