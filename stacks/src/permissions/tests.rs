//! What the policy of a deployer says, and that it says no more.

use super::*;
use crate::names::StageName;

fn of(app: &str, stage: &str) -> Vec<Grant> {
    let identity = Identity::of_account("123456789012", "ap-northeast-3");
    deployer(&AppName::parse(app).unwrap(), stage, &identity)
}

#[test]
fn the_policy_is_pinned() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&document(&of("chat", "dev"))).unwrap());
}

#[test]
fn even_the_longest_names_leave_it_within_the_size_of_a_managed_policy() {
    // 6,144 characters without white space: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
    let length = document(&of(&"a".repeat(26), &"b".repeat(26))).to_string().len();
    assert!(length <= 6_144, "{length}");
}

#[test]
fn only_listings_and_the_gateway_reach_beyond_the_stage() {
    for grant in of("chat", "dev") {
        let own = grant.resources.iter().all(|arn| {
            let known = ["table/chat-dev", "table/chatctl"];
            known.iter().any(|table| arn.ends_with(table))
                || arn.contains("chat-dev-")
                || arn.contains(":apigateway:")
        });
        let lists =
            grant.actions.iter().all(|action| action.contains(":List") || action.contains(":Describe"));
        assert!(own || lists, "{grant:?}");
    }
}

#[test]
fn the_names_are_those_of_the_stage() {
    let scope = Scope { app: AppName::parse("chat").unwrap(), stage: StageName::parse("dev").unwrap() };
    let resources: Vec<String> = of("chat", "dev").into_iter().flat_map(|grant| grant.resources).collect();
    for name in [scope.table(), format!("role{}{}-", scope.role_path(), scope.prefix())] {
        assert!(resources.iter().any(|arn| arn.contains(&name)), "{name}");
    }
}

#[test]
fn what_a_wider_path_covers_is_left_out() {
    let parts =
        BTreeSet::from([Part::Gateway("/apis"), Part::Gateway("/apis/*"), Part::Gateway("/apis/*/routes")]);
    assert_eq!(widest(parts), [Part::Gateway("/apis"), Part::Gateway("/apis/*")]);
}

#[test]
fn every_operation_is_known_by_its_name() {
    let all = operations();
    for known in [("iam", "CreateRole"), ("lambda", "CreateFunction"), ("dynamodb", "TagResource")] {
        assert!(all.contains(&known), "{known:?}");
    }
    assert!(!all.contains(&("iam", "CreateFunction")));
}
