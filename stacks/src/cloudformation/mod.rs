//! The same stack as a CloudFormation template, for organisations that allow nothing else, and the engine that deploys it
//! by change set. Nothing is declared a second time: the resources of [`crate::chat`] are asked for their form in a
//! template.
//!
//! A stage belongs to one engine. What CloudFormation made, or was handed by [`eject`], carries a tag that says so.

mod bucket;
mod changes;
pub mod eject;
mod engine;
mod forms;
mod logical_id;
mod mark;
mod reference;
mod stack;
mod template;
mod watch;

pub use engine::{Preparation, Prepared, bucket_of, delete, discard, execute, is_deployed, prepare};
pub(crate) use forms::Form;
pub use template::{Template, synth};
#[cfg(test)]
pub(crate) use {forms::Declared, template::Synth};

/// The name of the app's bucket as the template writes it.
pub fn bucket_in_template(app: &crate::names::AppName) -> String {
    bucket::name(app, &reference::identity())
}
