//! The chat: wire protocol `chat.v1`, its rules, and the adapters that the three handlers run on.

pub mod contract;
