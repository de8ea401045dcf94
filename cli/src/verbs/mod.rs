//! The verbs, one file each.

pub(crate) mod build;
pub(crate) mod ci;
pub(crate) mod completions;
pub(crate) mod deploy;
pub(crate) mod destroy;
pub(crate) mod doctor;
pub(crate) mod drift;
pub(crate) mod eject;
pub(crate) mod history;
pub(crate) mod local;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod outputs;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod rollback;
pub(crate) mod stack;
pub(crate) mod status;
pub(crate) mod synth;
pub(crate) mod token;
pub(crate) mod unlock;
