//! A cloud as its callers see it, through the SDK of AWS: signatures, access, tables, functions, WebSockets, logs,
//! faults, start and stop.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod access;
mod caller;
mod deployed;
mod events;
mod faults;
mod functions;
mod gateway;
mod logs;
mod patience;
mod signatures;
mod start;
mod tables;
