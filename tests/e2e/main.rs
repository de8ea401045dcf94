//! The chat as its users meet it: real sockets, real handler binaries, the stack as it is deployed. Each file is one
//! promise of the product.

#![allow(clippy::expect_used, clippy::panic, reason = "everything here is a test")]

mod build_beside;
mod care;
mod ci_role;
mod cloudformation;
mod cost;
mod deploy;
mod dev;
mod direct;
mod drift;
mod durability;
mod history;
mod hostile;
mod identity;
mod lambda_build;
mod large_rooms;
mod least_privilege;
mod ledger;
mod order;
mod outside;
mod permissions;
mod presence;
mod reconnect;
mod refusals;
mod rollback;
mod rooms;
mod stack_engine;
mod terminal;
mod workflows;
