//! What a CI job needs in the account to deploy without keys: GitHub as an identity provider, and a role that only jobs
//! of one repository, and of those only the right ones, may take on. An administrator's work, done once.
//!
//! Sources: <https://docs.github.com/en/actions/reference/security/oidc>,
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_create_for-idp_oidc.html>

use std::fmt;

use aws_sdk_iam::types::{Role, Tag};
use serde::Serialize;
use serde_json::{Value, json};

use crate::aws::{Aws, Identity};
use crate::call::{Cx, OrAbsent, alone};
use crate::error::Error;
use crate::names::{APP_TAG, AppName, Scope, StageName};
use crate::permissions::{self, outside};
use crate::policy;

/// Who signs the jobs' tokens, and whom they are for.
const ISSUER: &str = "token.actions.githubusercontent.com";
const AUDIENCE: &str = "sts.amazonaws.com";

/// The tag by which `ci` tells its roles from others.
const CI_TAG: &str = "chatctl:ci";
const POLICY: &str = "deployer";

// Not the deployer's: it must not be able to let others in, or itself do more.
outside! {
    aws_sdk_iam {
        add_client_id_to_open_id_connect_provider AddClientIDToOpenIDConnectProviderError,
        create_open_id_connect_provider CreateOpenIDConnectProviderError,
        get_open_id_connect_provider GetOpenIDConnectProviderError,
    }
}

/// A repository as GitHub's tokens name it: `owner/name`, or `owner@1/name@2` with the ids that do not change. Those
/// made or moved since 15 July 2026 have the second form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repository(String);

impl Repository {
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let word = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let part = |text: &str| match text.split_once('@') {
            Some((name, id)) => {
                (word(name) && !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit())).then_some(true)
            }
            None => word(text).then_some(false),
        };
        let parts = text.split_once('/').and_then(|(owner, name)| Some((part(owner)?, part(name)?)));
        match parts {
            // With one id and not the other no token would ever fit.
            Some((owner, name)) if owner == name => Ok(Self(text.to_owned())),
            _ => Err("a repository is OWNER/NAME or OWNER@ID/NAME@ID".to_owned()),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which jobs of the repository are let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Jobs {
    /// Those that run for a branch, without an environment.
    Branch(String),
    /// Those with `environment:`, whatever their branch: GitHub's own rules guard it.
    Environment(String),
    /// Those of pull requests. Requests from forks get no token.
    PullRequests,
}

impl fmt::Display for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branch(branch) => write!(f, "branch {branch}"),
            Self::Environment(environment) => write!(f, "environment {environment}"),
            Self::PullRequests => f.write_str("pull requests"),
        }
    }
}

/// A role for CI jobs.
#[derive(Clone, Debug)]
pub struct CiRole {
    pub app: AppName,
    /// A stage, or with a star at the end all that begin like it.
    pub stage: String,
    pub repository: Repository,
    pub jobs: Jobs,
}

/// What was found or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Unchanged,
    Created,
    Updated,
}

/// What a setup came to.
#[derive(Clone, Debug, Serialize)]
pub struct SetUp {
    pub provider: Change,
    pub role: Change,
    pub role_arn: String,
}

/// The role's name. It must not lie in a stage's path: what lies there belongs to the stage and goes with it.
pub fn role_name(app: &AppName, stage: &str) -> String {
    format!("chatctl-ci-{app}-{}", stage.replace('*', "any"))
}

fn role_path(app: &AppName) -> String {
    format!("/chatctl-ci/{app}/")
}

fn role_arn(app: &AppName, stage: &str, identity: &Identity) -> String {
    let Identity { partition, account, .. } = identity;
    format!("arn:{partition}:iam::{account}:role{}{}", role_path(app), role_name(app, stage))
}

fn provider_arn(identity: &Identity) -> String {
    let Identity { partition, account, .. } = identity;
    format!("arn:{partition}:iam::{account}:oidc-provider/{ISSUER}")
}

impl CiRole {
    /// Who may take the role on.
    pub fn trust(&self, identity: &Identity) -> Value {
        let repository = self.repository.as_str();
        let subject = match &self.jobs {
            Jobs::Branch(branch) => format!("repo:{repository}:ref:refs/heads/{branch}"),
            Jobs::Environment(environment) => format!("repo:{repository}:environment:{environment}"),
            Jobs::PullRequests => format!("repo:{repository}:pull_request"),
        };
        // Equal, never like: a pattern would let the branch `main-of-a-stranger` in.
        let conditions = json!({ format!("{ISSUER}:aud"): AUDIENCE, format!("{ISSUER}:sub"): subject });
        policy::canonical(&json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow",
                "Principal": { "Federated": provider_arn(identity) },
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": { "StringEquals": conditions },
            }],
        }))
    }

    /// What the role may do: what a deployer needs, and to look beforehand whether that is so.
    pub fn policy(&self, identity: &Identity) -> Value {
        let mut grants = permissions::deployer(&self.app, &self.stage, identity);
        grants.push(permissions::Grant {
            sid: "Preflight".to_owned(),
            // A session is named without its role's path, which is looked up.
            actions: vec!["iam:GetRole", "iam:SimulatePrincipalPolicy"],
            resources: vec![role_arn(&self.app, &self.stage, identity)],
            condition: None,
        });
        permissions::document(&grants)
    }

    /// Everything that a setup would make, to be made by other means.
    pub fn description(&self, identity: &Identity) -> Value {
        json!({
            "provider": { "arn": provider_arn(identity), "url": format!("https://{ISSUER}"), "client_ids": [AUDIENCE] },
            "role": {
                "arn": role_arn(&self.app, &self.stage, identity),
                "trust": self.trust(identity),
                "policy": self.policy(identity),
            },
        })
    }
}

/// Makes provider and role, or brings them up to date. What is as it should be is left alone.
pub async fn set_up(aws: &Aws, role: &CiRole) -> Result<SetUp, Error> {
    let identity = aws.identity().await?;
    alone(aws, &scope(&role.app)?, None, async |cx| {
        let provider = provide(cx, identity).await?;
        let role_arn = role_arn(&role.app, &role.stage, identity);
        Ok(SetUp { provider, role: bring_role(cx, role, identity).await?, role_arn })
    })
    .await
}

/// Deletes the role; whether there was one. The provider stays: others in the account may use it.
pub async fn remove(aws: &Aws, app: &AppName, stage: &str) -> Result<bool, Error> {
    alone(aws, &scope(app)?, None, async |cx| {
        let name = role_name(app, stage);
        let Some(found) = find(cx, &name).await? else { return Ok(false) };
        require_ours(&found, app, stage)?;
        let policies = cx.call(|| aws.iam.list_role_policies().role_name(&name).send()).await?;
        for policy in &policies.policy_names {
            cx.call(|| aws.iam.delete_role_policy().role_name(&name).policy_name(policy).send())
                .await
                .or_absent("NoSuchEntity")?;
        }
        cx.call(|| aws.iam.delete_role().role_name(&name).send()).await.or_absent("NoSuchEntity")?;
        Ok(true)
    })
    .await
}

/// Where calls are made that belong to no stage.
fn scope(app: &AppName) -> Result<Scope, Error> {
    let stage = StageName::parse("ci").map_err(|bad| Error::bug(bad.to_string()))?;
    Ok(Scope { app: app.clone(), stage })
}

/// GitHub as an identity provider. An account has one at most, and others may have made it.
async fn provide(cx: &Cx<'_>, identity: &Identity) -> Result<Change, Error> {
    let iam = &cx.aws.iam;
    let arn = provider_arn(identity);
    let look = || iam.get_open_id_connect_provider().open_id_connect_provider_arn(&arn).send();
    let mut found = cx.call(look).await.or_absent("NoSuchEntity")?;
    if found.is_none() {
        let created = cx
            .call(|| {
                // No thumbprint: IAM trusts GitHub's certificate authority by itself.
                iam.create_open_id_connect_provider()
                    .url(format!("https://{ISSUER}"))
                    .client_id_list(AUDIENCE)
                    .send()
            })
            .await;
        match created {
            Ok(_) => return Ok(Change::Created),
            Err(failure) if failure.is("EntityAlreadyExists") => {
                found = cx.call(look).await.or_absent("NoSuchEntity")?;
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    if found.is_some_and(|found| found.client_id_list().iter().any(|id| id == AUDIENCE)) {
        return Ok(Change::Unchanged);
    }
    cx.call(|| {
        iam.add_client_id_to_open_id_connect_provider()
            .open_id_connect_provider_arn(&arn)
            .client_id(AUDIENCE)
            .send()
    })
    .await?;
    Ok(Change::Updated)
}

async fn bring_role(cx: &Cx<'_>, role: &CiRole, identity: &Identity) -> Result<Change, Error> {
    let iam = &cx.aws.iam;
    let name = role_name(&role.app, &role.stage);
    let trust = role.trust(identity);
    let document = role.policy(identity);
    let mut change = Change::Unchanged;
    match find(cx, &name).await? {
        None => {
            cx.call(|| {
                iam.create_role()
                    .role_name(&name)
                    .path(role_path(&role.app))
                    .description(format!("CI jobs of {} for {}", role.repository.as_str(), role.jobs))
                    .assume_role_policy_document(trust.to_string())
                    .set_tags(Some(tags(&role.app, &role.stage)))
                    .send()
            })
            .await?;
            change = Change::Created;
        }
        Some(found) => {
            require_ours(&found, &role.app, &role.stage)?;
            let live = found.assume_role_policy_document().map(policy::parse);
            if live.as_ref() != Some(&trust) {
                cx.call(|| {
                    iam.update_assume_role_policy().role_name(&name).policy_document(trust.to_string()).send()
                })
                .await?;
                change = Change::Updated;
            }
        }
    }
    let live = cx
        .call(|| iam.get_role_policy().role_name(&name).policy_name(POLICY).send())
        .await
        .or_absent("NoSuchEntity")?;
    let live = live.map(|live| policy::parse(&live.policy_document));
    if live.as_ref() != Some(&policy::canonical(&document)) {
        cx.call(|| {
            iam.put_role_policy()
                .role_name(&name)
                .policy_name(POLICY)
                .policy_document(document.to_string())
                .send()
        })
        .await?;
        if change == Change::Unchanged {
            change = Change::Updated;
        }
    }
    Ok(change)
}

async fn find(cx: &Cx<'_>, name: &str) -> Result<Option<Role>, Error> {
    let answer = cx.call(|| cx.aws.iam.get_role().role_name(name).send()).await.or_absent("NoSuchEntity")?;
    Ok(answer.and_then(|answer| answer.role))
}

/// The stage as a tag can hold it: stars are no characters of tags.
fn tags(app: &AppName, stage: &str) -> Vec<Tag> {
    [(APP_TAG, app.to_string()), (CI_TAG, stage.replace('*', "any"))]
        .into_iter()
        .filter_map(|(key, value)| Tag::builder().key(key).value(value).build().ok())
        .collect()
}

fn require_ours(role: &Role, app: &AppName, stage: &str) -> Result<(), Error> {
    let ours = tags(app, stage).iter().all(|tag| role.tags().contains(tag));
    if ours { Ok(()) } else { Err(Error::ForeignRole { name: role.role_name.clone() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(jobs: Jobs) -> CiRole {
        CiRole {
            app: AppName::parse("chat").unwrap(),
            stage: "pr-*".to_owned(),
            repository: Repository::parse("octo/chat").unwrap(),
            jobs,
        }
    }

    #[test]
    fn each_kind_of_job_has_its_own_subject() {
        let identity = Identity::of_account("123456789012", "eu-central-1");
        let subject = |jobs| {
            let trust = role(jobs).trust(&identity);
            trust["Statement"][0]["Condition"]["StringEquals"][format!("{ISSUER}:sub")][0]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(subject(Jobs::Branch("main".into())), "repo:octo/chat:ref:refs/heads/main");
        assert_eq!(subject(Jobs::Environment("prod".into())), "repo:octo/chat:environment:prod");
        assert_eq!(subject(Jobs::PullRequests), "repo:octo/chat:pull_request");
    }

    #[test]
    fn a_repository_has_no_ids_or_both() {
        for good in ["octo/chat", "octo-org/my.chat_1", "octo@1/chat@2"] {
            assert!(Repository::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "octo",
            "octo/",
            "/chat",
            "octo/*",
            "octo@1/chat",
            "octo/chat@2",
            "octo@x/chat@2",
            "a/b/c",
            "a b/c",
        ] {
            assert!(Repository::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_role_lies_outside_of_every_stage() {
        let app = AppName::parse("chat").unwrap();
        let identity = Identity::of_account("123456789012", "eu-central-1");
        let arn = role_arn(&app, "pr-*", &identity);
        assert_eq!(arn, "arn:aws:iam::123456789012:role/chatctl-ci/chat/chatctl-ci-chat-pr-any");
        // It may not change itself, either.
        for grant in permissions::deployer(&app, "pr-*", &identity) {
            assert!(grant.resources.iter().all(|resource| !resource.contains("chatctl-ci")), "{grant:?}");
        }
    }

    #[test]
    fn the_policy_fits_into_a_role() {
        let identity = Identity::of_account("123456789012", "ap-northeast-3");
        let longest = CiRole {
            app: AppName::parse(&"a".repeat(26)).unwrap(),
            stage: "b".repeat(26),
            ..role(Jobs::PullRequests)
        };
        assert!(longest.policy(&identity).to_string().len() < 10_240);
        assert!(role_name(&longest.app, &longest.stage).len() <= 64);
    }
}
