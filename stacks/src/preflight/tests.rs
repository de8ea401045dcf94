//! How the simulation is asked and its answers are read, as values.

use super::*;
use crate::aws::Identity;
use crate::names::{AppName, StageName};

#[test]
fn every_change_is_asked_about_and_nothing_else() {
    let reads = ["Get", "List", "Describe", "Filter", "Query", "GET"];
    let all = permissions::actions();
    let written: BTreeSet<&str> = all
        .into_iter()
        .filter(|action| {
            !reads.iter().any(|read| action.split(':').nth(1).is_some_and(|a| a.starts_with(read)))
        })
        .collect();
    assert_eq!(changing(), written);
}

fn identity(region: &str) -> Identity {
    Identity::of_account("123456789012", region)
}

fn asked(actions: &[&'static str], resources: &[&str], condition: Option<Condition>) -> Question {
    let resources = resources.iter().map(|resource| (*resource).to_owned()).collect();
    Question { actions: actions.to_vec(), resources, condition }
}

#[test]
fn every_question_tells_all_keys_of_the_deployers_own_policy() {
    let scope = Scope { app: AppName::parse("chat").unwrap(), stage: StageName::parse("dev").unwrap() };
    let questions = permissions::questions(&scope, &identity("eu-west-1"), &changing());
    let conditions: BTreeSet<&Condition> =
        questions.iter().filter_map(|question| question.condition.as_ref()).collect();
    let policy = permissions::deployer(&scope.app, "dev", &identity("eu-west-1"));
    let keys: BTreeSet<&str> =
        policy.iter().filter_map(|grant| Some(grant.condition.as_ref()?.key())).collect();
    assert!(!keys.is_empty());
    for question in &questions {
        let told = context(question, &conditions, "eu-west-1");
        let told: BTreeSet<&str> = told.iter().filter_map(ContextEntry::context_key_name).collect();
        assert!(told.is_superset(&keys), "{question:?} tells {told:?} only");
    }
}

#[test]
fn requests_to_iam_go_to_the_region_where_the_partition_has_it() {
    let iam = asked(&["iam:CreateRole"], &["*"], None);
    for region in [
        "eu-west-1",
        "cn-northwest-1",
        "us-gov-east-1",
        "eusc-de-east-1",
        "us-iso-west-1",
        "us-isob-east-1",
        "eu-isoe-west-1",
        "us-isof-east-1",
    ] {
        assert_eq!(requested_region(&iam, region), Some(signing_region(region).as_str()), "{region}");
        assert_eq!(requested_region(&asked(&["lambda:CreateFunction"], &["*"], None), region), Some(region));
    }
    let passed = Condition::PassedTo("lambda.amazonaws.com");
    assert_eq!(requested_region(&asked(&["iam:PassRole"], &["*"], Some(passed)), "eu-west-1"), None);
}

/// The region that the SDK signs a request to IAM for.
fn signing_region(region: &str) -> String {
    use aws_sdk_iam::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
    let params = Params::builder().region(region).build().unwrap();
    let resolver = DefaultResolver::new();
    let resolved = futures_util::FutureExt::now_or_never(resolver.resolve_endpoint(&params));
    let endpoint = resolved.unwrap().unwrap();
    let region = endpoint.auth_schemes()[0].get("signingRegion").unwrap();
    region.as_string().unwrap().to_owned()
}

#[test]
fn an_answer_is_read_resource_by_resource_where_it_has_some() {
    use aws_sdk_iam::types::PolicyEvaluationDecisionType::{Allowed, ExplicitDeny, ImplicitDeny};
    use aws_sdk_iam::types::builders::EvaluationResultBuilder;
    use aws_sdk_iam::types::{OrganizationsDecisionDetail, ResourceSpecificResult};
    let question = asked(&["iam:CreateRole"], &["arn:aws:iam::1:role/a", "arn:aws:iam::1:role/b"], None);
    let answer = || {
        let pattern = "arn:${Partition}:iam::${Account}:role/${RoleNameWithPath}";
        EvaluationResult::builder().eval_action_name("iam:CreateRole").eval_resource_name(pattern)
    };
    let one = |name: &str, decision| {
        ResourceSpecificResult::builder().eval_resource_name(name).eval_resource_decision(decision)
    };
    let read = |answer: EvaluationResultBuilder| -> Vec<(String, bool)> {
        let denials = denials(&question, &answer.build().unwrap()).into_iter();
        denials.map(|denied| (denied.right.resource, denied.unclear)).collect()
    };
    let denied = |resource: &str, unclear| vec![(resource.to_owned(), unclear)];
    let whole = question.resources.join(", ");

    let (a, b) = (question.resources[0].as_str(), question.resources[1].as_str());
    let specific = || {
        let allowed = one(a, Allowed).build().unwrap();
        answer().eval_decision(ImplicitDeny).resource_specific_results(allowed)
    };
    let of_b = one(b, ImplicitDeny);
    assert_eq!(read(specific().resource_specific_results(of_b.clone().build().unwrap())), denied(b, false));
    let unclear = of_b.clone().missing_context_values("aws:SourceIp").build().unwrap();
    assert_eq!(read(specific().resource_specific_results(unclear)), denied(b, true));
    let boundary =
        PermissionsBoundaryDecisionDetail::builder().allowed_by_permissions_boundary(false).build();
    let bounded = of_b.permissions_boundary_decision_detail(boundary).build().unwrap();
    assert_eq!(read(specific().resource_specific_results(bounded)), denied(b, true));

    // Without them the whole counts, and a pattern is no name.
    assert_eq!(read(answer().eval_decision(Allowed)), []);
    assert_eq!(read(answer().eval_decision(ExplicitDeny)), denied(&whole, false));
    assert_eq!(read(answer().eval_decision(ExplicitDeny).eval_resource_name(a)), denied(a, false));
    let told = answer().eval_decision(ImplicitDeny).missing_context_values("aws:SourceIp");
    assert_eq!(read(told), denied(&whole, true));
    let organization = OrganizationsDecisionDetail::builder().allowed_by_organizations(false).build();
    let by_organization = answer().eval_decision(ImplicitDeny).organizations_decision_detail(organization);
    assert_eq!(read(by_organization), denied(&whole, true));
}

#[test]
fn a_plan_is_refused_for_what_it_needs_and_no_more() {
    let missing = |action: &str| Missing { action: action.to_owned(), resource: "r".to_owned() };
    let answer = Answer::Told {
        missing: [missing("iam:CreateRole"), missing("logs:DeleteLogGroup")].into(),
        unclear: [missing("iam:TagRole"), missing("lambda:CreateFunction")].into(),
    };
    let step = |kind, action| crate::plan::Step {
        resource: crate::address::Address::new(kind, "x"),
        action,
        id: None,
        changes: Vec::new(),
        drift: false,
        after: Vec::new(),
        deleted_with: None,
        live: None,
    };
    let plan = |steps| Plan {
        scope: Scope { app: AppName::parse("chat").unwrap(), stage: StageName::parse("dev").unwrap() },
        steps,
        unchanged: Vec::new(),
        outputs: crate::resource::Outputs::default(),
    };
    assert!(answer.check(&plan(vec![step(Kind::Function, Action::Update)])).is_ok());
    let doubtful = answer.unclear(&plan(vec![step(Kind::Function, Action::Create)]));
    assert_eq!(doubtful, [missing("lambda:CreateFunction")]);
    let refused = answer.check(&plan(vec![step(Kind::Role, Action::Create)])).unwrap_err().to_string();
    assert!(refused.contains("iam:CreateRole on r") && !refused.contains("logs:"), "{refused}");
    assert!(Answer::Skipped("why".into()).check(&plan(vec![step(Kind::Role, Action::Create)])).is_ok());
}
