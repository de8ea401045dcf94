//! Buckets: made, looked for, tagged, closed to the public, listed, deleted.

use std::collections::BTreeMap;

use http::header::HeaderName;
use http::{HeaderValue, StatusCode};

use super::{BUCKETS, Bucket, S3, flags, leaves, malformed, now_ms};
use crate::call::{Call, Reply};
use crate::error::AwsError;
use crate::query::Xml;
use crate::rest::Query;

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
const REGION: HeaderName = HeaderName::from_static("x-amz-bucket-region");
/// In the order in which S3 shows them.
const SWITCHES: [&str; 4] =
    ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"];

impl S3 {
    pub(super) fn create_bucket(&self, name: &str, call: &Call) -> Result<Reply, AwsError> {
        let shaped = (3..=63).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
            && !name.starts_with(['-', '.'])
            && !name.ends_with(['-', '.']);
        if !shaped {
            return Err(AwsError::bad_request("InvalidBucketName", "The specified bucket is not valid."));
        }
        // us-east-1 is the region of those who name none, and must not be named.
        let given = if call.body.is_empty() { Vec::new() } else { leaves(call)? };
        let wanted =
            given.iter().find(|(name, _)| name == "LocationConstraint").map(|(_, text)| text.as_str());
        if wanted.unwrap_or("us-east-1") != self.region || wanted == Some("us-east-1") {
            return Err(AwsError::bad_request(
                "IllegalLocationConstraintException",
                format!(
                    "The {} location constraint is incompatible for the region specific endpoint this request was \
                     sent to.",
                    wanted.unwrap_or("unspecified")
                ),
            ));
        }
        let mut buckets = self.lock();
        if buckets.contains_key(name) {
            return Err(AwsError::new(
                StatusCode::CONFLICT,
                "BucketAlreadyOwnedByYou",
                "Your previous request to create the named bucket succeeded and you already own it.",
            ));
        }
        let bucket = Bucket {
            created_ms: now_ms(),
            tags: BTreeMap::new(),
            public_access_block: None,
            objects: BTreeMap::new(),
        };
        self.store.put(BUCKETS, name, &bucket)?;
        buckets.insert(name.to_owned(), bucket);
        let location = HeaderValue::from_str(&format!("/{name}"));
        let reply = Reply::empty(StatusCode::OK);
        Ok(match location {
            Ok(location) => reply.with_header(http::header::LOCATION, location),
            Err(_) => reply,
        })
    }

    pub(super) fn head_bucket(&self, name: &str) -> Result<Reply, AwsError> {
        self.look(name, |_| Ok(()))?;
        let reply = Reply::empty(StatusCode::OK);
        Ok(match HeaderValue::from_str(&self.region) {
            Ok(region) => reply.with_header(REGION, region),
            Err(_) => reply,
        })
    }

    pub(super) fn delete_bucket(&self, name: &str) -> Result<Reply, AwsError> {
        let mut buckets = self.lock();
        let bucket = buckets.get(name).ok_or_else(super::no_such_bucket)?;
        if !bucket.objects.is_empty() {
            return Err(AwsError::new(
                StatusCode::CONFLICT,
                "BucketNotEmpty",
                "The bucket you tried to delete is not empty",
            ));
        }
        self.store.delete(BUCKETS, name)?;
        buckets.remove(name);
        Ok(Reply::empty(StatusCode::NO_CONTENT))
    }

    pub(super) fn list_buckets(&self) -> Result<Reply, AwsError> {
        let buckets = self.lock();
        Ok(answer("ListAllMyBucketsResult", |xml| {
            xml.element("Buckets", |xml| {
                for (name, bucket) in buckets.iter() {
                    xml.element("Bucket", |xml| {
                        xml.text("Name", name);
                        xml.text("CreationDate", &time(bucket.created_ms));
                    });
                }
            });
        }))
    }

    pub(super) fn put_tagging(&self, name: &str, call: &Call) -> Result<Reply, AwsError> {
        let mut tags = BTreeMap::new();
        let mut key = None;
        for (element, text) in leaves(call)? {
            match element.as_str() {
                "Key" => key = Some(text),
                "Value" => drop(tags.insert(key.take().ok_or_else(malformed)?, text)),
                _ => {}
            }
        }
        self.update(name, |bucket| {
            bucket.tags = tags;
            Ok(Reply::empty(StatusCode::NO_CONTENT))
        })
    }

    pub(super) fn get_tagging(&self, name: &str) -> Result<Reply, AwsError> {
        self.look(name, |bucket| {
            if bucket.tags.is_empty() {
                return Err(AwsError::new(
                    StatusCode::NOT_FOUND,
                    "NoSuchTagSet",
                    "The TagSet does not exist",
                ));
            }
            Ok(answer("Tagging", |xml| {
                xml.element("TagSet", |xml| {
                    for (key, value) in &bucket.tags {
                        xml.element("Tag", |xml| {
                            xml.text("Key", key);
                            xml.text("Value", value);
                        });
                    }
                });
            }))
        })
    }

    pub(super) fn put_public_access_block(&self, name: &str, call: &Call) -> Result<Reply, AwsError> {
        let given = flags(leaves(call)?);
        let block = SWITCHES.map(|name| (name.to_owned(), given.get(name).copied().unwrap_or(false)));
        self.update(name, |bucket| {
            bucket.public_access_block = Some(block.into());
            Ok(Reply::empty(StatusCode::OK))
        })
    }

    pub(super) fn get_public_access_block(&self, name: &str) -> Result<Reply, AwsError> {
        self.look(name, |bucket| {
            let block = bucket.public_access_block.as_ref().ok_or_else(|| {
                AwsError::new(
                    StatusCode::NOT_FOUND,
                    "NoSuchPublicAccessBlockConfiguration",
                    "The public access block configuration was not found",
                )
            })?;
            Ok(answer("PublicAccessBlockConfiguration", |xml| {
                for name in SWITCHES {
                    xml.text(name, if block.get(name) == Some(&true) { "true" } else { "false" });
                }
            }))
        })
    }

    pub(super) fn list_objects(&self, name: &str, query: &Query) -> Result<Reply, AwsError> {
        let prefix = query.get("prefix").unwrap_or_default();
        let most = query.get("max-keys").and_then(|most| most.parse().ok()).unwrap_or(1000).min(1000);
        let after = query.get("continuation-token").or(query.get("start-after")).unwrap_or_default();
        self.look(name, |bucket| {
            let matching =
                bucket.objects.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after);
            let mut matching = matching.peekable();
            let page: Vec<_> = matching.by_ref().take(most).collect();
            let next = matching.peek().and_then(|_| page.last()).map(|(key, _)| key.as_str());
            Ok(answer("ListBucketResult", |xml| {
                xml.text("Name", name);
                xml.text("Prefix", prefix);
                xml.text("KeyCount", &page.len().to_string());
                xml.text("MaxKeys", &most.to_string());
                xml.text("IsTruncated", if next.is_some() { "true" } else { "false" });
                if let Some(next) = next {
                    xml.text("NextContinuationToken", next);
                }
                for (key, object) in &page {
                    xml.element("Contents", |xml| {
                        xml.text("Key", key);
                        xml.text("LastModified", &time(object.modified_ms));
                        xml.text("ETag", &format!("\"{}\"", object.etag));
                        xml.text("Size", &object.size.to_string());
                        xml.text("StorageClass", "STANDARD");
                    });
                }
            }))
        })
    }
}

fn answer(name: &str, content: impl FnOnce(&mut Xml)) -> Reply {
    let mut xml = Xml::default();
    xml.root(name, NAMESPACE, content);
    Reply::new(StatusCode::OK, "application/xml", xml.into_text())
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map(|time| format!("{time:.3}")).unwrap_or_default()
}
