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

pub(crate) use engine::restore;
pub use engine::{Preparation, Prepared, bucket_of, delete, discard, execute, is_deployed, prepare};
pub(crate) use forms::Form;
pub use template::{Template, synth};
#[cfg(test)]
pub(crate) use {forms::Declared, template::Synth};

/// The name of the app's bucket as the template writes it.
pub fn bucket_in_template(app: &crate::names::AppName) -> String {
    bucket::name(app, &reference::identity())
}

// The deployer's policy is that of the direct engine: who deploys by stacks is given rights on CloudFormation and the
// bucket by the organisation that wants it so, and mostly has CloudFormation act in a role of its own.
crate::permissions::outside! {
    aws_sdk_cloudformation {
        create_change_set CreateChangeSetError,
        delete_change_set DeleteChangeSetError,
        delete_stack DeleteStackError,
        describe_change_set DescribeChangeSetError,
        describe_stack_events DescribeStackEventsError,
        describe_stacks DescribeStacksError,
        execute_change_set ExecuteChangeSetError,
        get_template GetTemplateError,
    }
    aws_sdk_s3 {
        create_bucket CreateBucketError,
        get_bucket_tagging GetBucketTaggingError,
        head_object HeadObjectError,
        put_bucket_tagging PutBucketTaggingError,
        put_object PutObjectError,
        put_public_access_block PutPublicAccessBlockError,
    }
    // A hand-over that failed takes its mark back.
    aws_sdk_dynamodb { untag_resource UntagResourceError }
    aws_sdk_cloudwatchlogs { untag_resource UntagResourceError }
    aws_sdk_iam { untag_role UntagRoleError }
    aws_sdk_lambda { untag_resource UntagResourceError }
    aws_sdk_apigatewayv2 { untag_resource UntagResourceError }
}
