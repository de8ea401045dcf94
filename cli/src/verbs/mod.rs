//! The verbs, one file each.

pub(crate) mod completions;
pub(crate) mod deploy;
pub(crate) mod destroy;
pub(crate) mod drift;
pub(crate) mod history;
pub(crate) mod local;
pub(crate) mod logs;
pub(crate) mod outputs;
pub(crate) mod plan;
pub(crate) mod rollback;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod unlock;
