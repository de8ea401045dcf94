//! IAM as its callers inside the cloud see it.

use super::*;
use crate::config::Settings;
use crate::context::Context;
use crate::faults::{Fault, Rule};
use crate::query::Form;

const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
const ROLE_ARN: &str = "arn:aws:iam::000000000000:role/app/worker";

fn form(fields: &[(&str, &str)]) -> Form {
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    fields.iter().for_each(|(name, value)| {
        text.append_pair(name, value);
    });
    Form::parse(text.finish().as_bytes())
}

fn create_role(iam: &Iam) {
    let fields = [("RoleName", "worker"), ("Path", "/app/"), ("AssumeRolePolicyDocument", TRUST)];
    iam.create_role(&form(&fields)).unwrap();
}

#[test]
fn a_service_gets_credentials_that_identify_the_role_until_the_role_goes() {
    let cx = Context::for_tests(Settings::default());
    create_role(&cx.iam);
    let credentials = cx.iam.assume_for_service(ROLE_ARN, "lambda.amazonaws.com", "f").unwrap();
    let token = credentials.session_token.as_str();
    let identity = cx.iam.identify(&credentials.access_key_id, Some(token), 0).unwrap();
    assert_eq!(identity.principal, credentials.principal);
    assert_eq!(&*identity.secret_access_key, credentials.secret_access_key.as_str());

    let forged = format!("A{}", &token[1..]);
    for (key, token) in [
        (credentials.access_key_id.as_str(), forged.as_str()),
        ("ASIAAAAAAAAAAAAAAAAA", token),
        (credentials.access_key_id.as_str(), ""),
    ] {
        assert_eq!(cx.iam.identify(key, Some(token), 0).unwrap_err(), IdentifyError::InvalidToken);
    }
    assert_eq!(cx.iam.identify(&credentials.access_key_id, None, 0).unwrap_err(), IdentifyError::UnknownKey);

    cx.iam.delete_role(&form(&[("RoleName", "worker")])).unwrap();
    create_role(&cx.iam);
    let outcome = cx.iam.identify(&credentials.access_key_id, Some(token), 0);
    assert_eq!(
        outcome.unwrap_err(),
        IdentifyError::InvalidToken,
        "a new role of the same name is another role"
    );
}

#[test]
fn sessions_roles_and_policies_survive_a_restart() {
    let cx = Context::for_tests(Settings::default());
    create_role(&cx.iam);
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"dynamodb:PutItem","Resource":"*"}]}"#;
    cx.iam
        .put_role_policy(&form(&[("RoleName", "worker"), ("PolicyName", "p"), ("PolicyDocument", policy)]))
        .unwrap();
    let credentials = cx.iam.assume_for_service(ROLE_ARN, "lambda.amazonaws.com", "f").unwrap();
    let again = Iam::open(cx.store.clone(), Faults::default(), "000000000000", "us-east-1").unwrap();
    let identity = again.identify(&credentials.access_key_id, Some(&credentials.session_token), 0).unwrap();
    again.authorize(&identity.principal, "dynamodb:PutItem", "arn:aws:dynamodb:x").unwrap();
    let refusal = again.authorize(&identity.principal, "dynamodb:GetItem", "arn:aws:dynamodb:x").unwrap_err();
    assert_eq!(
        refusal.message,
        "User: arn:aws:sts::000000000000:assumed-role/worker/f is not authorized to perform: dynamodb:GetItem on \
         resource: arn:aws:dynamodb:x because no identity-based policy allows the dynamodb:GetItem action"
    );
}

#[test]
fn only_services_that_the_trust_policy_names_get_in_and_only_once_the_role_has_spread() {
    let cx = Context::for_tests(Settings::default());
    create_role(&cx.iam);
    for (arn, service) in [
        (ROLE_ARN, "apigateway.amazonaws.com"),
        ("arn:aws:iam::000000000000:role/worker", "lambda.amazonaws.com"),
        ("arn:aws:iam::000000000000:role/app/other", "lambda.amazonaws.com"),
        ("", "lambda.amazonaws.com"),
    ] {
        assert_eq!(cx.iam.assume_for_service(arn, service, "f").unwrap_err().code, "AccessDenied", "{arn}");
    }
    cx.faults.set([Rule::every("work*", Fault::NotAssumable { attempts: 1 })]);
    cx.iam.assume_for_service(ROLE_ARN, "lambda.amazonaws.com", "f").unwrap_err();
    cx.iam.assume_for_service(ROLE_ARN, "lambda.amazonaws.com", "f").unwrap();

    cx.faults.set([Rule::every("work*", Fault::RoleSpreading { ms: 3_600_000 })]);
    cx.iam.assume_for_service(ROLE_ARN, "lambda.amazonaws.com", "f").unwrap_err();
    cx.faults.set([Rule::every("work*", Fault::RoleSpreading { ms: 0 })]);
    cx.iam.assume_for_service(ROLE_ARN, "lambda.amazonaws.com", "f").unwrap();
}
