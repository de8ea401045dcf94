//! Objects: put, read, deleted.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, LAST_MODIFIED};
use http::{HeaderValue, StatusCode};
use sha2::{Digest, Sha256};

use super::{BYTES, Object, S3, Target, no_such_key, now_ms};
use crate::call::{Call, Reply};
use crate::error::AwsError;

const METADATA: &str = "x-amz-meta-";

impl S3 {
    pub(super) fn put_object(&self, target: &Target, call: &Call) -> Result<Reply, AwsError> {
        let header = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok());
        if header("x-amz-content-sha256").is_some_and(|hash| hash.starts_with("STREAMING-")) {
            return Err(AwsError::new(
                StatusCode::NOT_IMPLEMENTED,
                "NotImplemented",
                "The local cloud takes no body in signed chunks: send it with its length and its hash.",
            ));
        }
        if target.key.len() > 1024 {
            return Err(AwsError::bad_request("KeyTooLongError", "Your key is too long"));
        }
        let metadata = call.headers.iter().filter_map(|(name, value)| {
            Some((name.as_str().strip_prefix(METADATA)?.to_owned(), value.to_str().ok()?.to_owned()))
        });
        let digest = hex::encode(Sha256::digest(&call.body));
        let object = Object {
            size: call.body.len() as u64,
            // Not the MD5 of the content, which S3 does not promise either.
            etag: digest[..32].to_owned(),
            modified_ms: now_ms(),
            content_type: header("content-type").unwrap_or("binary/octet-stream").to_owned(),
            metadata: metadata.collect(),
        };
        let etag = tag(&object);
        self.update(&target.bucket, |bucket| {
            self.store.put_blob(BYTES, &address(target), &call.body)?;
            bucket.objects.insert(target.key.clone(), object);
            Ok(())
        })?;
        let reply = Reply::empty(StatusCode::OK);
        Ok(match etag {
            Some(etag) => reply.with_header(ETAG, etag),
            None => reply,
        })
    }

    pub(super) fn get_object(&self, target: &Target, with_body: bool) -> Result<Reply, AwsError> {
        let (object, bytes) = self.read_object(&target.bucket, &target.key)?;
        let mut reply = Reply::empty(StatusCode::OK);
        let modified = jiff::Timestamp::from_millisecond(object.modified_ms).ok().and_then(|time| {
            jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time).ok()
        });
        let values = [
            (CONTENT_TYPE, HeaderValue::from_str(&object.content_type).ok()),
            (CONTENT_LENGTH, Some(HeaderValue::from(object.size))),
            (ETAG, tag(&object)),
            (LAST_MODIFIED, modified.and_then(|text| HeaderValue::from_str(&text).ok())),
        ];
        let metadata = object.metadata.iter().filter_map(|(name, value)| {
            Some((HeaderName::try_from(format!("{METADATA}{name}")).ok()?, HeaderValue::from_str(value).ok()))
        });
        for (name, value) in values.into_iter().chain(metadata) {
            reply.headers.extend(value.map(|value| (name, value)));
        }
        if with_body {
            reply.body = bytes;
        }
        Ok(reply)
    }

    pub(super) fn read_object(&self, bucket: &str, key: &str) -> Result<(Object, Bytes), AwsError> {
        let object = self.look(bucket, |bucket| bucket.objects.get(key).cloned().ok_or_else(no_such_key))?;
        let bytes = self.store.get_blob(BYTES, &format!("{bucket}/{key}"))?;
        let missing =
            || AwsError::internal(format!("the object {bucket}/{key} is missing in the local state"));
        Ok((object, bytes.ok_or_else(missing)?))
    }

    /// Gone already is success.
    pub(super) fn delete_object(&self, target: &Target) -> Result<Reply, AwsError> {
        self.update(&target.bucket, |bucket| {
            bucket.objects.remove(&target.key);
            Ok(())
        })?;
        self.store.delete_blob(BYTES, &address(target))?;
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }
}

fn address(target: &Target) -> String {
    format!("{}/{}", target.bucket, target.key)
}

fn tag(object: &Object) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("\"{}\"", object.etag)).ok()
}
