//! Identity providers that speak OpenID Connect, so that jobs elsewhere can take a role on without keys.
//!
//! Tokens are taken for what they say: their signature is not verified, since that would need the keys of the issuer,
//! and this cloud asks nobody. What the trust policy of a role demands of them is enforced.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::api::{Outcome, check_tags, iso_time};
use super::evaluate::{Decision, Key, Request, evaluate};
use super::model::Tags;
use super::roles::check_session_name;
use super::{Iam, denied, no_such_entity};
use crate::error::AwsError;
use crate::query::{Form, Xml};

pub(super) const PROVIDERS: &str = "iam-oidc-provider";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Provider {
    /// Host and path, without `https://`.
    url: String,
    client_ids: Vec<String>,
    thumbprints: Vec<String>,
    tags: Tags,
    created_s: i64,
}

impl Iam {
    pub(super) fn create_oidc_provider(&self, form: &Form) -> Outcome {
        let url = form.required("Url")?;
        let host = url.strip_prefix("https://").filter(|host| !host.is_empty()).ok_or_else(|| {
            AwsError::bad_request(
                "ValidationError",
                "Invalid Open ID Connect Provider URL: it must begin with https://",
            )
        })?;
        let tags = form.tags()?;
        check_tags(&tags)?;
        let owned = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect();
        let provider = Provider {
            url: host.to_owned(),
            client_ids: owned(form.list("ClientIDList")),
            thumbprints: owned(form.list("ThumbprintList")),
            tags,
            created_s: jiff::Timestamp::now().as_second(),
        };
        let mut state = self.write();
        if state.providers.contains_key(host) {
            return Err(AwsError::new(
                StatusCode::CONFLICT,
                "EntityAlreadyExists",
                format!("Provider with url {url} already exists."),
            ));
        }
        self.store.put(PROVIDERS, host, &provider)?;
        state.providers.insert(host.to_owned(), provider);
        let mut xml = Xml::default();
        xml.text("OpenIDConnectProviderArn", &self.provider_arn(host));
        Ok(Some(xml))
    }

    pub(super) fn get_oidc_provider(&self, form: &Form) -> Outcome {
        let provider = self.provider(form.required("OpenIDConnectProviderArn")?)?;
        let mut xml = Xml::default();
        xml.text("Url", &provider.url);
        xml.element("ClientIDList", |xml| provider.client_ids.iter().for_each(|id| xml.text("member", id)));
        xml.element("ThumbprintList", |xml| {
            provider.thumbprints.iter().for_each(|print| xml.text("member", print))
        });
        xml.text("CreateDate", &iso_time(provider.created_s));
        xml.tags(&provider.tags);
        Ok(Some(xml))
    }

    pub(super) fn list_oidc_providers(&self) -> Outcome {
        let hosts: Vec<String> = self.read().providers.keys().cloned().collect();
        let mut xml = Xml::default();
        xml.element("OpenIDConnectProviderList", |xml| {
            for host in &hosts {
                xml.element("member", |xml| xml.text("Arn", &self.provider_arn(host)));
            }
        });
        Ok(Some(xml))
    }

    pub(super) fn add_client_id(&self, form: &Form) -> Outcome {
        let id = form.required("ClientID")?.to_owned();
        let mut provider = self.provider(form.required("OpenIDConnectProviderArn")?)?;
        if !provider.client_ids.contains(&id) {
            provider.client_ids.push(id);
        }
        let mut state = self.write();
        self.store.put(PROVIDERS, &provider.url, &provider)?;
        state.providers.insert(provider.url.clone(), provider);
        Ok(None)
    }

    /// One that is gone already is no error, as on AWS.
    pub(super) fn delete_oidc_provider(&self, form: &Form) -> Outcome {
        let arn = form.required("OpenIDConnectProviderArn")?;
        if let Ok(provider) = self.provider(arn) {
            let mut state = self.write();
            self.store.delete(PROVIDERS, &provider.url)?;
            state.providers.remove(&provider.url);
        }
        Ok(None)
    }

    pub(super) fn assume_role_with_web_identity(&self, form: &Form) -> Outcome {
        let session = check_session_name(form)?;
        let arn = form.required("RoleArn")?;
        let refuse = || denied("Not authorized to perform sts:AssumeRoleWithWebIdentity".to_owned());
        let invalid = |why: &str| AwsError::bad_request("InvalidIdentityToken", why.to_owned());
        let claims = claims(form.required("WebIdentityToken")?)
            .ok_or_else(|| invalid("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"))?;
        let claim = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
        let issuer = claim("iss").trim_start_matches("https://").to_owned();
        let provider = self.read().providers.get(&issuer).cloned();
        let provider = provider
            .ok_or_else(|| invalid("No OpenIDConnect provider found in your account for the issuer"))?;
        if !provider.client_ids.iter().any(|id| id == claim("aud")) {
            return Err(invalid("Incorrect token audience"));
        }
        if claims
            .get("exp")
            .and_then(Value::as_i64)
            .is_some_and(|exp| exp <= jiff::Timestamp::now().as_second())
        {
            return Err(AwsError::bad_request("ExpiredTokenException", "Token expired"));
        }
        let role = self.role_by_arn(arn).ok_or_else(refuse)?;
        let duration_s = form.number("DurationSeconds", 900, role.max_session_s)?.unwrap_or(3600);
        let caller = [("Federated", self.provider_arn(&issuer))];
        let context = |key: &str| match key.strip_prefix(&format!("{issuer}:")) {
            Some(name @ ("aud" | "sub" | "amr")) if claims.get(name).is_some() => {
                Key::Values(vec![claim(name).to_owned()])
            }
            Some(_) => Key::Absent,
            None => match key {
                "sts:rolesessionname" => Key::Values(vec![session.to_owned()]),
                _ => Key::Absent,
            },
        };
        let request = Request {
            action: "sts:assumerolewithwebidentity",
            resource: arn,
            caller: &caller,
            context: &context,
        };
        if evaluate([&role.trust.policy], &request) != Decision::Allowed
            || !self.faults.role_assumable(&role.name)
        {
            return Err(refuse());
        }
        let mut xml = self.session(&role, session, duration_s);
        xml.text("SubjectFromWebIdentityToken", claim("sub"));
        xml.text("Audience", claim("aud"));
        xml.text("Provider", &self.provider_arn(&issuer));
        Ok(Some(xml))
    }

    fn provider(&self, arn: &str) -> Result<Provider, AwsError> {
        let host = arn.split_once(":oidc-provider/").map_or("", |(_, host)| host);
        self.read()
            .providers
            .get(host)
            .cloned()
            .ok_or_else(|| no_such_entity(format!("OpenIDConnect Provider not found for arn {arn}")))
    }

    pub(super) fn provider_arn(&self, host: &str) -> String {
        format!("arn:aws:iam::{}:oidc-provider/{host}", self.account)
    }
}

fn claims(token: &str) -> Option<Value> {
    let body = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).ok()?).ok()
}
