//! S3: buckets and their objects, as far as a deploy needs them to hand over code. Paths name the bucket first; there
//! are no versions, no parts and no ACLs.

mod bucket;
mod object;
mod xml;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use crate::call::{Call, Principal, Reply, Route};
use crate::context::ACCOUNT;
use crate::error::AwsError;
use crate::iam::Iam;
use crate::rest::{Query, decode};
use crate::store::Store;

const BUCKETS: &str = "s3-bucket";
const BYTES: &str = "s3-object";

/// The service.
pub(crate) struct S3 {
    store: Store,
    region: String,
    buckets: Mutex<BTreeMap<String, Bucket>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Bucket {
    created_ms: i64,
    tags: BTreeMap<String, String>,
    /// The four switches as they were set, if they were.
    public_access_block: Option<BTreeMap<String, bool>>,
    objects: BTreeMap<String, Object>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Object {
    size: u64,
    etag: String,
    modified_ms: i64,
    content_type: String,
    /// `x-amz-meta-…` without the prefix.
    metadata: BTreeMap<String, String>,
}

/// What a request is about: `/{bucket}/{key}`.
struct Target {
    bucket: String,
    key: String,
}

impl Target {
    fn of(path: &str) -> Self {
        let path = path.trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        Self { bucket: decode(bucket), key: decode(key) }
    }
}

/// Subresources that change what a method on a bucket means. Those that are not here are refused by name.
const SUBRESOURCES: [&str; 2] = ["publicAccessBlock", "tagging"];

impl S3 {
    pub(crate) fn open(store: Store, region: &str) -> Result<Self, AwsError> {
        let buckets = store.list(BUCKETS)?.into_iter().collect();
        Ok(Self { store, region: region.to_owned(), buckets: Mutex::new(buckets) })
    }

    pub(crate) fn route(&self, method: &Method, path: &str, query: &str) -> Option<Route> {
        let Target { bucket, key } = Target::of(path);
        let query = Query::of(query);
        // `x-id` and the like say nothing; every other parameter is a subresource or one of a list.
        let parameters: Vec<&str> = query.grouped().into_keys().filter(|name| *name != "x-id").collect();
        let subresource = parameters.iter().find(|name| SUBRESOURCES.contains(name)).copied();
        let of_list =
            ["list-type", "prefix", "max-keys", "continuation-token", "start-after", "encoding-type"];
        if !parameters.iter().all(|name| Some(*name) == subresource || of_list.contains(name)) {
            return None;
        }
        let listed = query.get("list-type") == Some("2");
        let (operation, action) = match (method.as_str(), bucket.is_empty(), key.is_empty(), subresource) {
            ("GET", true, _, None) => ("ListBuckets", "s3:ListAllMyBuckets"),
            ("PUT", false, true, None) => ("CreateBucket", "s3:CreateBucket"),
            ("HEAD", false, true, None) => ("HeadBucket", "s3:ListBucket"),
            ("DELETE", false, true, None) => ("DeleteBucket", "s3:DeleteBucket"),
            ("GET", false, true, None) if listed => ("ListObjectsV2", "s3:ListBucket"),
            ("PUT", false, true, Some("tagging")) => ("PutBucketTagging", "s3:PutBucketTagging"),
            ("GET", false, true, Some("tagging")) => ("GetBucketTagging", "s3:GetBucketTagging"),
            ("PUT", false, true, Some("publicAccessBlock")) => {
                ("PutPublicAccessBlock", "s3:PutBucketPublicAccessBlock")
            }
            ("GET", false, true, Some("publicAccessBlock")) => {
                ("GetPublicAccessBlock", "s3:GetBucketPublicAccessBlock")
            }
            ("PUT", false, false, None) => ("PutObject", "s3:PutObject"),
            ("GET", false, false, None) => ("GetObject", "s3:GetObject"),
            ("HEAD", false, false, None) => ("HeadObject", "s3:GetObject"),
            ("DELETE", false, false, None) => ("DeleteObject", "s3:DeleteObject"),
            _ => return None,
        };
        let resource = match (bucket.is_empty(), key.is_empty()) {
            (true, _) => "*".to_owned(),
            (false, true) => format!("arn:aws:s3:::{bucket}"),
            (false, false) => format!("arn:aws:s3:::{bucket}/{key}"),
        };
        Some(Route { operation, action, resource })
    }

    pub(crate) fn call(&self, route: &Route, call: &Call) -> Result<Reply, AwsError> {
        let target = Target::of(&call.path);
        // https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html
        if call
            .headers
            .get("x-amz-expected-bucket-owner")
            .is_some_and(|owner| owner.as_bytes() != ACCOUNT.as_bytes())
        {
            return Err(AwsError::new(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied"));
        }
        match route.operation {
            "ListBuckets" => self.list_buckets(),
            "CreateBucket" => self.create_bucket(&target.bucket, call),
            "HeadBucket" => self.head_bucket(&target.bucket),
            "DeleteBucket" => self.delete_bucket(&target.bucket),
            "ListObjectsV2" => self.list_objects(&target.bucket, &Query::of(&call.query)),
            "PutBucketTagging" => self.put_tagging(&target.bucket, call),
            "GetBucketTagging" => self.get_tagging(&target.bucket),
            "PutPublicAccessBlock" => self.put_public_access_block(&target.bucket, call),
            "GetPublicAccessBlock" => self.get_public_access_block(&target.bucket),
            "PutObject" => self.put_object(&target, call),
            "GetObject" => self.get_object(&target, true),
            "HeadObject" => self.get_object(&target, false),
            "DeleteObject" => self.delete_object(&target),
            other => Err(AwsError::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", other)),
        }
    }

    /// An object for another service that reads it in the caller's name.
    pub(crate) fn read(
        &self,
        iam: &Iam,
        who: &Principal,
        bucket: &str,
        key: &str,
    ) -> Result<Bytes, AwsError> {
        iam.authorize(who, "s3:GetObject", &format!("arn:aws:s3:::{bucket}/{key}"))?;
        self.read_object(bucket, key).map(|(_, bytes)| bytes)
    }

    /// Changes a bucket that exists, on disk first.
    fn update<T>(
        &self,
        name: &str,
        change: impl FnOnce(&mut Bucket) -> Result<T, AwsError>,
    ) -> Result<T, AwsError> {
        let mut buckets = self.lock();
        let current = buckets.get_mut(name).ok_or_else(no_such_bucket)?;
        let mut next = current.clone();
        let result = change(&mut next)?;
        self.store.put(BUCKETS, name, &next)?;
        *current = next;
        Ok(result)
    }

    fn look<T>(&self, name: &str, look: impl FnOnce(&Bucket) -> Result<T, AwsError>) -> Result<T, AwsError> {
        look(self.lock().get(name).ok_or_else(no_such_bucket)?)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_such_bucket() -> AwsError {
    AwsError::new(StatusCode::NOT_FOUND, "NoSuchBucket", "The specified bucket does not exist")
}

fn no_such_key() -> AwsError {
    AwsError::new(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.")
}

fn malformed() -> AwsError {
    AwsError::bad_request(
        "MalformedXML",
        "The XML you provided was not well-formed or did not validate against our published schema",
    )
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// The parts of a request body that are text, by the name of the element.
type Leaves = Vec<(String, String)>;

fn leaves(call: &Call) -> Result<Leaves, AwsError> {
    xml::leaves(&call.body).ok_or_else(malformed)
}

/// Switches by name.
fn flags(leaves: Leaves) -> HashMap<String, bool> {
    leaves.into_iter().map(|(name, text)| (name, text.trim() == "true")).collect()
}
