//! A cloud as its callers see it, through the SDK of AWS: signatures, access, tables, logs, faults, start and stop.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod access;
mod caller;
mod faults;
mod logs;
mod signatures;
mod start;
mod tables;
