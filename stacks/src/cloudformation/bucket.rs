//! The bucket that CloudFormation reads the functions' code from. It is made when it is needed, belongs to all stages of
//! an app in a region, and outlives them: what is in it is named by its content, so nothing in it is ever changed.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketLocationConstraint, CreateBucketConfiguration, PublicAccessBlockConfiguration, Tag, Tagging,
};
use futures_util::future::try_join_all;

use crate::artifact::{Artifact, Artifacts};
use crate::aws::Identity;
use crate::call::{Cx, OrAbsent};
use crate::error::Error;
use crate::names::{APP_TAG, AppName};

/// One bucket for all stages of an app in a region. Names of buckets are shared by all accounts of a partition, so the
/// account is part of it; the longest one has 62 of the 63 letters that are allowed.
pub(crate) fn name(app: &AppName, identity: &Identity) -> String {
    format!("{app}-chatctl-{}-{}", identity.account, identity.region)
}

/// Makes the bucket unless it is there, and uploads what is missing in it. Returns its name.
pub(crate) async fn fill(cx: &Cx<'_>, identity: &Identity, artifacts: &Artifacts) -> Result<String, Error> {
    let bucket = name(&cx.scope.app, identity);
    if !is_ours(cx, &bucket, identity).await? {
        make(cx, &bucket, identity).await?;
    }
    // Handlers of the same bytes have the same key.
    let mut missing: Vec<&Artifact> = artifacts.values().collect();
    missing.sort_by_key(|artifact| artifact.key());
    missing.dedup_by_key(|artifact| artifact.key());
    try_join_all(missing.into_iter().map(|artifact| upload(cx, &bucket, identity, artifact))).await?;
    Ok(bucket)
}

/// Whether the bucket is there and complete. Every call names the account: a bucket of this name that somebody else made
/// beforehand is refused by S3.
/// Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html>
async fn is_ours(cx: &Cx<'_>, bucket: &str, identity: &Identity) -> Result<bool, Error> {
    let answer = cx
        .call(|| {
            cx.aws.s3.get_bucket_tagging().bucket(bucket).expected_bucket_owner(&identity.account).send()
        })
        .await;
    match answer {
        Ok(answer) => {
            Ok(answer.tag_set().iter().any(|tag| tag.key == APP_TAG && tag.value == cx.scope.app.as_str()))
        }
        // Tags come last: without them a run was killed while it made the bucket.
        Err(failure) if failure.is("NoSuchBucket") || failure.is("NoSuchTagSet") => Ok(false),
        Err(failure) => Err(failure.into()),
    }
}

async fn make(cx: &Cx<'_>, bucket: &str, identity: &Identity) -> Result<(), Error> {
    // us-east-1 must not be named: it is the region of those who name none.
    let place = (identity.region != "us-east-1").then(|| {
        let region = BucketLocationConstraint::from(identity.region.as_str());
        CreateBucketConfiguration::builder().location_constraint(region).build()
    });
    let created = cx
        .call(|| {
            cx.aws.s3.create_bucket().bucket(bucket).set_create_bucket_configuration(place.clone()).send()
        })
        .await;
    match created {
        Ok(_) => {}
        Err(failure) if failure.is("BucketAlreadyOwnedByYou") => {}
        Err(failure) => return Err(failure.into()),
    }
    let block = PublicAccessBlockConfiguration::builder()
        .block_public_acls(true)
        .ignore_public_acls(true)
        .block_public_policy(true)
        .restrict_public_buckets(true)
        .build();
    cx.call(|| {
        cx.aws
            .s3
            .put_public_access_block()
            .bucket(bucket)
            .expected_bucket_owner(&identity.account)
            .public_access_block_configuration(block.clone())
            .send()
    })
    .await?;
    let tag = Tag::builder().key(APP_TAG).value(cx.scope.app.as_str()).build();
    let tagging = tag
        .and_then(|tag| Tagging::builder().tag_set(tag).build())
        .map_err(|error| Error::bug(error.to_string()))?;
    cx.call(|| {
        cx.aws
            .s3
            .put_bucket_tagging()
            .bucket(bucket)
            .expected_bucket_owner(&identity.account)
            .tagging(tagging.clone())
            .send()
    })
    .await?;
    Ok(())
}

async fn upload(cx: &Cx<'_>, bucket: &str, identity: &Identity, artifact: &Artifact) -> Result<(), Error> {
    let key = artifact.key();
    // The answer to HEAD has no body, so its code is the SDK's own.
    let there = cx
        .call(|| {
            cx.aws.s3.head_object().bucket(bucket).key(&key).expected_bucket_owner(&identity.account).send()
        })
        .await
        .or_absent("NotFound")?;
    if there.is_some() {
        return Ok(());
    }
    cx.call(|| {
        cx.aws
            .s3
            .put_object()
            .bucket(bucket)
            .key(&key)
            .expected_bucket_owner(&identity.account)
            .content_type("application/zip")
            .body(ByteStream::from(artifact.zip().to_vec()))
            .send()
    })
    .await?;
    Ok(())
}
