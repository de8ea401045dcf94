//! What IAM keeps: roles, users, access keys and their policies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::evaluate::{Decision, Request, evaluate};
use super::policy::{Kind, Policy, malformed};
use crate::error::AwsError;

/// Name and value of each tag.
pub(super) type Tags = BTreeMap<String, String>;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Role {
    pub(super) name: String,
    /// Tells a role from one of the same name that was deleted before.
    pub(super) id: String,
    pub(super) path: String,
    pub(super) created_s: i64,
    pub(super) description: Option<String>,
    pub(super) max_session_s: i64,
    pub(super) tags: Tags,
    pub(super) trust: Document,
    pub(super) policies: Policies,
    /// ARN of a managed policy beyond which no policy of the role reaches.
    #[serde(default)]
    pub(super) boundary: Option<(String, Document)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) path: String,
    pub(super) created_s: i64,
    pub(super) tags: Tags,
    pub(super) keys: Vec<AccessKey>,
    pub(super) policies: Policies,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AccessKey {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) created_s: i64,
}

impl Role {
    pub(super) fn arn(&self, account: &str) -> String {
        format!("arn:aws:iam::{account}:role{}{}", self.path, self.name)
    }

    /// What the policies allow as far as the boundary does.
    /// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_boundaries.html>
    pub(super) fn decide(&self, request: &Request<'_>) -> Decision {
        let own = evaluate(self.policies.all(), request);
        let Some((_, boundary)) = &self.boundary else { return own };
        match (own, evaluate([&boundary.policy], request)) {
            (Decision::Allowed, Decision::ImplicitlyDenied) => Decision::OutOfBoundary,
            (Decision::ExplicitlyDenied, _) | (_, Decision::ExplicitlyDenied) => Decision::ExplicitlyDenied,
            (Decision::Allowed, other) => other,
            (own, _) => own,
        }
    }
}

impl User {
    pub(super) fn arn(&self, account: &str) -> String {
        format!("arn:aws:iam::{account}:user{}{}", self.path, self.name)
    }
}

/// A document as it was given, which is what is read back, and what it means.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "StoredDocument", into = "StoredDocument")]
pub(super) struct Document {
    pub(super) text: String,
    pub(super) policy: Policy,
    kind: Kind,
}

#[derive(Serialize, Deserialize)]
struct StoredDocument {
    text: String,
    trust: bool,
}

impl Document {
    pub(super) fn parse(text: &str, kind: Kind) -> Result<Self, AwsError> {
        // IAM takes tabs, line ends and what is printable in Latin-1.
        if !text.chars().all(|c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{ff}')) {
            return Err(malformed("The policy document contains characters that are not allowed."));
        }
        Ok(Self { text: text.to_owned(), policy: Policy::parse(text, kind)?, kind })
    }

    /// The size that quotas count: without white space.
    pub(super) fn size(&self) -> usize {
        self.text.chars().filter(|c| !c.is_whitespace()).count()
    }
}

impl TryFrom<StoredDocument> for Document {
    type Error = AwsError;

    fn try_from(stored: StoredDocument) -> Result<Self, AwsError> {
        Self::parse(&stored.text, if stored.trust { Kind::Trust } else { Kind::Identity })
    }
}

impl From<Document> for StoredDocument {
    fn from(document: Document) -> Self {
        Self { trust: document.kind == Kind::Trust, text: document.text }
    }
}

/// The policies of a role or a user.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Policies {
    pub(super) inline: BTreeMap<String, Document>,
    /// ARNs of managed policies.
    pub(super) attached: BTreeMap<String, Document>,
}

impl Policies {
    pub(super) fn all(&self) -> impl Iterator<Item = &Policy> {
        self.inline.values().chain(self.attached.values()).map(|document| &document.policy)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inline.is_empty() && self.attached.is_empty()
    }

    /// Adds or replaces an inline policy unless the total exceeds `quota` characters.
    pub(super) fn put(
        &mut self,
        name: &str,
        document: Document,
        quota: usize,
        owner: &str,
    ) -> Result<(), AwsError> {
        let others: usize =
            self.inline.iter().filter(|(other, _)| *other != name).map(|(_, other)| other.size()).sum();
        if others + document.size() > quota {
            return Err(super::limit_exceeded(format!(
                "Maximum policy size of {quota} bytes exceeded for {owner}"
            )));
        }
        self.inline.insert(name.to_owned(), document);
        Ok(())
    }
}

/// A managed policy by its ARN, for attaching.
pub(super) fn managed_document(arn: &str) -> Result<Document, AwsError> {
    let text = managed_policy(arn)
        .ok_or_else(|| super::no_such_entity(format!("Policy {arn} does not exist or is not attachable.")))?;
    Document::parse(text, Kind::Identity)
}

/// The managed policies of AWS that a function's role usually has. Policies of the account's own are not kept here.
fn managed_policy(arn: &str) -> Option<&'static str> {
    match arn.strip_prefix("arn:aws:iam::aws:policy/")? {
        "AdministratorAccess" => {
            Some(r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#)
        }
        "service-role/AWSLambdaBasicExecutionRole" => Some(
            r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["logs:CreateLogGroup","logs:CreateLogStream","logs:PutLogEvents"],"Resource":"*"}]}"#,
        ),
        _ => None,
    }
}
