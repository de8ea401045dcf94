//! The wire protocol `chat.v1`: what clients may say, what they are told, and the limits of both.

mod client;
mod refusal;
mod server;

pub use client::{ClientFrame, History, Resume, Target, parse};
pub use refusal::{Code, Refusal};
pub use server::{ChatMessage, Head, Presence, Refused, ServerFrame};

/// The WebSocket subprotocol that is spoken here.
pub const SUBPROTOCOL: &str = "chat.v1";
/// Version named in `hello` and `welcome`.
pub const VERSION: u64 = 1;
/// Longest frame that is read.
pub const FRAME_MAX_BYTES: usize = 16 * 1024;
/// Longest text of a message, in characters (Unicode scalar values).
pub const TEXT_MAX_CHARS: usize = 4_000;
/// Rooms that one `hello` may resume.
pub const RESUME_MAX: usize = 25;
/// Messages in one `batch`, and the largest `limit` of `history`.
pub const BATCH_MAX: usize = 100;
/// Messages that `history` brings unless told otherwise.
pub const HISTORY_DEFAULT: usize = 50;
/// Users listed by one `who`.
pub const WHO_MAX: usize = 1_000;
/// Rooms of two listed by one `welcome`.
pub const DIRECT_MAX: usize = 100;
/// API Gateway refuses payloads over 128 KB (aws-facts, quotas); a frame with many items stays below it.
pub const ITEMS_MAX_BYTES: usize = 120 * 1024;
/// Seconds between pings: API Gateway closes what was idle for ten minutes.
pub const HEARTBEAT_S: u64 = 540;
/// API Gateway ends every connection after two hours.
pub const CONNECTION_MAX_S: u64 = 2 * 60 * 60;
/// How long a client waits before it shows somebody as offline, in milliseconds.
pub const OFFLINE_GRACE_MS: u64 = 25_000;
