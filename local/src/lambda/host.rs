//! What all environments of the machine share.

use std::sync::Arc;

use super::output::LogSink;
use super::watchdog::Watchdog;
use crate::context::Context;

pub(super) struct Host {
    pub(super) cx: Arc<Context>,
    pub(super) watchdog: Watchdog,
    pub(super) sink: LogSink,
}
