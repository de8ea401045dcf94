//! Plans of the whole chat without any cloud: what is new, what changed, what it drags along, and what is refused.

use std::collections::BTreeSet;

use chat_functions::contract::Handler;
use serde_json::json;

use super::*;
use crate::artifact::{Artifact, Artifacts, Effort};
use crate::aws::Identity;
use crate::resource::Values;
use crate::settings::Settings;

const SETTINGS: &str = "app: chat\nstages:\n  dev:\n    auth: { mode: open }\n";

fn stage_of(text: &str) -> StageSettings {
    Settings::parse(text, "chat.yaml").unwrap().stage("dev").unwrap()
}

fn stack_of(text: &str, code: &[u8]) -> Stack {
    let identity = Identity {
        account: "123456789012".into(),
        region: "us-east-1".into(),
        partition: "aws".into(),
        arn: "arn:aws:iam::123456789012:user/dev".into(),
    };
    let artifacts: Artifacts =
        Handler::ALL.map(|handler| (handler, Artifact::pack(code, Effort::Quick).unwrap())).into();
    crate::chat::stack(&stage_of(text), &identity, &artifacts).unwrap()
}

fn chat() -> Stack {
    stack_of(SETTINGS, b"one")
}

/// What AWS would answer to the creation of a resource.
fn invented_outputs(address: &Address, generation: u32) -> Values {
    match address.kind {
        Kind::Api => Values::from([("id", "api1".into()), ("endpoint", "wss://api1.example".into())]),
        Kind::Function => Values::from([("version", generation.to_string())]),
        Kind::Role => Values::from([("id", format!("AROA{generation}"))]),
        Kind::Authorizer | Kind::Integration | Kind::Route | Kind::Deployment => {
            Values::from([("id", format!("{address}-{generation}"))])
        }
        _ => Values::new(),
    }
}

/// The account after `plan` went through, by the rules of the plan alone.
fn applied(stack: &Stack, observed: &Observed, plan: &Plan, generation: u32) -> Observed {
    let mut found: BTreeMap<Address, Live> =
        observed.iter().map(|(at, live)| (at.clone(), live.clone())).collect();
    let mut outputs = observed.outputs();
    for step in &plan.steps {
        let at = &step.resource;
        if step.action == Action::Delete {
            found.remove(at);
            continue;
        }
        let resource = stack.get(at).unwrap();
        let desired = resource.desired(&outputs);
        assert!(desired.resolved().is_some(), "{at} comes before what it needs");
        let mut values = found
            .get(at)
            .filter(|_| step.action == Action::Update)
            .map(|l| l.outputs.clone())
            .unwrap_or_default();
        let invented = invented_outputs(at, generation);
        for (name, value) in invented {
            if resource.volatile().contains(&name) || !values.contains_key(name) {
                values.insert(name, value);
            }
        }
        outputs.insert(at.clone(), values.clone());
        let properties = desired.iter().map(|(name, value)| (name, value.unwrap().clone())).collect();
        found.insert(at.clone(), Live { id: at.to_string(), properties, outputs: values, owned: true });
    }
    found.into_iter().collect()
}

fn deployed(stack: &Stack) -> Observed {
    let nothing = Observed::default();
    applied(stack, &nothing, &plan(stack, &nothing, &PlanOptions::default()).unwrap(), 1)
}

fn without(observed: &Observed, gone: impl Fn(&Address) -> bool) -> Observed {
    observed.iter().filter(|(at, _)| !gone(at)).map(|(at, live)| (at.clone(), live.clone())).collect()
}

fn with(observed: &Observed, at: Address, live: Live) -> Observed {
    observed.iter().map(|(at, live)| (at.clone(), live.clone())).chain([(at, live)]).collect()
}

fn at(text: &str) -> Address {
    let (kind, name) = text.split_once('/').unwrap();
    let kind = chat_kinds().into_iter().find(|known| known.name() == kind).unwrap();
    Address::new(kind, name)
}

fn chat_kinds() -> BTreeSet<Kind> {
    let stack = chat();
    stack.resources().iter().map(|resource| resource.address().kind).collect()
}

fn drifted(observed: &Observed, address: &str, property: &'static str, value: Value) -> Observed {
    let mut live = observed.get(&at(address)).unwrap().clone();
    live.properties.insert(property, value);
    with(observed, at(address), live)
}

fn summary(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| format!("{} {}", step.action.name(), step.resource)).collect()
}

fn plan_of(stack: &Stack, observed: &Observed) -> Plan {
    plan(stack, observed, &PlanOptions::default()).unwrap()
}

fn refusals(stack: &Stack, observed: &Observed, options: &PlanOptions) -> Vec<Refusal> {
    match plan(stack, observed, options) {
        Err(Error::Refused(refusals)) => refusals,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_first_deploy_makes_everything_in_the_order_of_its_needs() {
    let plan = plan_of(&chat(), &Observed::default());
    assert_eq!(plan.count(Action::Create), plan.steps.len());
    assert!(plan.unchanged.is_empty());
    let mut names = summary(&plan);
    names.sort();
    insta::assert_snapshot!(names.join("\n"));
}

#[test]
fn the_plan_says_what_is_known_only_after_apply() {
    let plan = plan_of(&chat(), &Observed::default());
    let later: Vec<String> = plan
        .steps
        .iter()
        .flat_map(|step| {
            step.changes
                .iter()
                .filter(|change| change.known_after_apply)
                .map(move |change| format!("{} {}", step.resource, change.property))
        })
        .collect::<BTreeSet<String>>()
        .into_iter()
        .collect();
    insta::assert_snapshot!(later.join("\n"));
}

#[test]
fn a_second_deploy_finds_nothing_to_do() {
    let stack = chat();
    let plan = plan_of(&stack, &deployed(&stack));
    assert!(plan.is_empty(), "{:?}", summary(&plan));
    assert_eq!(plan.unchanged.len(), stack.resources().len());
}

#[test]
fn planning_is_deterministic() {
    let observed = deployed(&stack_of(SETTINGS, b"two"));
    assert_eq!(plan_of(&chat(), &observed), plan_of(&chat(), &observed));
}

#[test]
fn changed_code_moves_the_alias_and_touches_nothing_else() {
    let plan = plan_of(&stack_of(SETTINGS, b"two"), &deployed(&chat()));
    let mut names = summary(&plan);
    names.sort();
    assert_eq!(
        names,
        [
            "update alias/connect",
            "update alias/disconnect",
            "update alias/on_message",
            "update function/connect",
            "update function/disconnect",
            "update function/on_message",
        ]
    );
    let alias = plan.steps.iter().find(|step| step.resource == at("alias/connect")).unwrap();
    assert_eq!(alias.changes.len(), 1);
    assert_eq!((alias.changes[0].old.clone(), alias.changes[0].known_after_apply), (Some(json!("1")), true));
}

#[test]
fn a_changed_route_is_deployed_and_the_old_deployment_replaced() {
    let key = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let token =
        SETTINGS.replace("{ mode: open }", &format!("{{ mode: token, public_keys: {{ main: {key} }} }}"));
    let plan = plan_of(&stack_of(&token, b"one"), &deployed(&chat()));
    assert_eq!(
        summary(&plan).into_iter().collect::<BTreeSet<_>>(),
        [
            "update authorizer/connect",
            "update function/connect",
            "update alias/connect",
            "replace deployment/dev",
            "update stage/dev",
        ]
        .map(String::from)
        .into()
    );
    let deployment = plan.steps.iter().find(|step| step.action == Action::Replace).unwrap();
    assert!(deployment.changes[0].forces_replacement && !deployment.changes[0].known_after_apply);
}

#[test]
fn an_integration_that_is_gone_is_made_again_and_reaches_the_clients() {
    let stack = chat();
    let observed = without(&deployed(&stack), |address| *address == at("integration/on_message"));
    let plan = plan_of(&stack, &observed);
    assert_eq!(
        summary(&plan),
        [
            "create integration/on_message",
            "update route-target/$default",
            "replace deployment/dev",
            "update stage/dev",
        ]
    );
    let again = plan_of(&stack, &applied(&stack, &observed, &plan, 2));
    assert!(again.is_empty(), "{:?}", summary(&again));
}

#[test]
fn drift_is_repaired_where_it_happened() {
    let stack = chat();
    let observed = deployed(&stack);
    for (address, property, value) in [
        ("table/chat", "ttl", json!(null)),
        ("log-group/connect", "retention_days", json!(null)),
        ("role/connect", "trust", json!({})),
        ("policy/on_message", "document", json!({ "Statement": [] })),
        ("alias/connect", "weights", json!({ "7": 0.5 })),
        ("permission/connect/authorizer-connect", "source_arn", json!("*")),
        ("stage/dev", "deployment", json!("somebody-elses")),
        ("api/chat", "route_selection", json!("$request.body.type")),
    ] {
        let plan = plan_of(&stack, &drifted(&observed, address, property, value.clone()));
        assert_eq!(summary(&plan), [format!("update {address}")]);
        assert_eq!(plan.steps[0].changes.len(), 1);
        assert_eq!(plan.steps[0].changes[0].property, property);
        assert_eq!(plan.steps[0].changes[0].old, Some(value));
    }
}

#[test]
fn what_is_not_declared_is_deleted_after_everything_else() {
    let stack = chat();
    let stray =
        |id: &str| Live { id: id.into(), properties: BTreeMap::new(), outputs: Values::new(), owned: true };
    let mut observed = deployed(&stack_of(SETTINGS, b"two"));
    for address in [
        "policy/connect/extra",
        "function/typing",
        "role/typing",
        "policy/typing",
        "log-group/typing",
        "alias/typing",
        "route/old/one",
        "route-target/old/one",
        "route-response/old/one",
        "integration/old",
        "deployment/dev#d0",
        "api/chat#a2",
    ] {
        observed = with(&observed, at(address), stray(address));
    }
    let plan = plan_of(&stack, &observed);
    let deletes: Vec<String> = summary(&plan).into_iter().filter(|line| line.starts_with("delete")).collect();
    assert_eq!(deletes.len(), 12);
    let first_delete = plan.steps.iter().position(|step| step.action == Action::Delete).unwrap();
    assert!(plan.steps[first_delete..].iter().all(|step| step.action == Action::Delete));
    let place = |name: &str| deletes.iter().position(|line| line == &format!("delete {name}")).unwrap();
    assert!(place("route/old/one") < place("integration/old"));
    assert!(
        place("function/typing") < place("role/typing")
            && place("function/typing") < place("log-group/typing")
    );
    assert!(place("policy/typing") < place("role/typing"));
    let deleted_with = |name: &str| {
        plan.steps.iter().find(|step| step.resource == at(name)).and_then(|step| step.deleted_with.clone())
    };
    assert_eq!(deleted_with("alias/typing"), Some(at("function/typing")));
    // Whoever made a route may have put a slash into its key.
    assert_eq!(deleted_with("route-target/old/one"), Some(at("route/old/one")));
    assert_eq!(deleted_with("route-response/old/one"), Some(at("route/old/one")));
}

#[test]
fn what_leaves_the_api_leaves_before_it_is_deployed() {
    // A deployment is a snapshot: a route that is deleted after it would be served for ever.
    let stack = chat();
    let stray = Live { id: "r".into(), properties: BTreeMap::new(), outputs: Values::new(), owned: true };
    let observed = with(&deployed(&stack), at("route/old"), stray);
    let observed = drifted(&observed, "deployment/dev", "hash", json!("of the old routes"));
    let plan =
        plan_of(&stack, &drifted(&observed, "route-target/ping", "integration", json!("integrations/old")));
    let after = |name: &str| &plan.steps.iter().find(|step| step.resource == at(name)).unwrap().after;
    assert!(after("deployment/dev").contains(&at("route/old")));
    assert!(after("route/old").contains(&at("route-target/ping")), "what stays may still use what goes");
    let graph =
        Graph::new(plan.steps.iter().map(|step| (step.resource.clone(), step.after.clone()))).unwrap();
    let order: Vec<&Address> = graph.order().collect();
    let place = |name: &str| order.iter().position(|other| **other == at(name)).unwrap();
    assert!(place("route/old") < place("deployment/dev") && place("deployment/dev") < place("stage/dev"));
}

#[test]
fn a_destroy_is_the_empty_stack() {
    let stack = chat();
    let observed = deployed(&stack);
    let empty = Stack::empty(stack.scope().clone());
    let plan = plan_of(&empty, &observed);
    assert_eq!(plan.count(Action::Delete), stack.resources().len());
    let mut calls: Vec<String> = plan
        .steps
        .iter()
        .filter(|step| step.deleted_with.is_none())
        .map(|step| {
            format!(
                "{} after {}",
                step.resource,
                step.after.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            )
        })
        .collect();
    calls.sort();
    insta::assert_snapshot!(calls.join("\n"));
    assert!(plan_of(&empty, &applied(&empty, &observed, &plan, 2)).is_empty());
}

#[test]
fn what_is_not_ours_is_refused_unless_adopted_and_never_deleted() {
    let stack = chat();
    let mut foreign = deployed(&stack).get(&at("table/chat")).unwrap().clone();
    foreign.owned = false;
    foreign.properties.insert("tags", json!({}));
    let observed = with(&Observed::default(), at("table/chat"), foreign);
    assert_eq!(
        refusals(&stack, &observed, &PlanOptions::default()),
        [Refusal::NotOurs { resource: at("table/chat"), id: "table/chat".into() }]
    );
    let adopting = PlanOptions { adopt: true, ..PlanOptions::default() };
    let plan = plan(&stack, &observed, &adopting).unwrap();
    let step = plan.steps.iter().find(|step| step.resource == at("table/chat")).unwrap();
    assert_eq!((step.action, step.changes[0].property), (Action::Update, "tags"));
    let destroy = plan_of(&Stack::empty(stack.scope().clone()), &observed);
    assert!(destroy.is_empty());
}

#[test]
fn protection_guards_the_table() {
    let stack = chat();
    let empty = Stack::empty(stack.scope().clone());
    let observed = drifted(&deployed(&stack), "table/chat", "deletion_protection", json!(true));
    let options = PlanOptions::default();
    assert!(matches!(refusals(&empty, &observed, &options)[..], [Refusal::DeletionProtected { .. }]));
    let dropping = PlanOptions { drop_deletion_protection: true, ..options };
    assert!(plan(&empty, &observed, &dropping).is_ok());
    let protected = PlanOptions { protect: true, ..dropping };
    assert!(matches!(refusals(&empty, &observed, &protected)[..], [Refusal::Protected { .. }]));
}

#[test]
fn a_table_with_other_keys_is_never_replaced() {
    let stack = chat();
    let observed = drifted(&deployed(&stack), "table/chat", "keys", json!([["id", "HASH"]]));
    assert_eq!(
        refusals(&stack, &observed, &PlanOptions::default()),
        [Refusal::Fixed { resource: at("table/chat"), property: "keys" }]
    );
}

#[test]
fn all_refusals_are_told_at_once() {
    let stack = chat();
    let mut observed = drifted(&deployed(&stack), "table/chat", "keys", json!([]));
    let mut role = observed.get(&at("role/connect")).unwrap().clone();
    role.owned = false;
    observed = with(&observed, at("role/connect"), role);
    assert_eq!(refusals(&stack, &observed, &PlanOptions::default()).len(), 2);
}

#[test]
fn policies_hold_exactly_what_the_contract_names() {
    let stack = chat();
    let observed = deployed(&stack);
    let documents: BTreeMap<String, &Value> = Handler::ALL
        .iter()
        .map(|handler| {
            (
                handler.to_string(),
                &observed.get(&Address::new(Kind::Policy, handler.name())).unwrap().properties["document"],
            )
        })
        .collect();
    insta::assert_snapshot!(serde_json::to_string_pretty(&documents).unwrap());
}

#[test]
fn every_handler_gets_the_environment_that_it_reads() {
    let stack = chat();
    let observed = deployed(&stack);
    let environments: BTreeMap<String, &Value> = Handler::ALL
        .iter()
        .map(|handler| (handler.to_string(), &observed.get(&Address::new(Kind::Function, handler.name())).unwrap().properties["environment"]))
        .collect();
    insta::assert_snapshot!(serde_json::to_string_pretty(&environments).unwrap());
}

#[test]
fn the_plan_as_json_is_pinned() {
    let stack = chat();
    let plan = plan_of(&stack, &drifted(&deployed(&stack), "log-group/connect", "retention_days", json!(7)));
    let mut json = serde_json::to_value(&plan).unwrap();
    json["unchanged"] = json!(plan.unchanged.len());
    insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap());
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(48))]

    /// A run that was killed leaves any part of the stack behind; the next one needs nothing but what it observes.
    #[test]
    fn any_part_of_a_stack_becomes_the_whole(kept in proptest::collection::vec(proptest::bool::ANY, 64)) {
        let stack = chat();
        let order: Vec<Address> = stack.resources().iter().map(|resource| resource.address()).collect();
        let all = deployed(&stack);
        let part = without(&all, |address| {
            // What is below something that is gone is gone as well.
            let gone = |at: &Address| order.iter().position(|other| other == at).is_some_and(|n| !kept[n]);
            let api = at("api/chat");
            let doomed: BTreeMap<&Address, &Live> = all.iter().collect();
            gone(address) || container(address, &doomed).is_some_and(|owner| gone(&owner) || (owner != api && gone(&api) && owner.kind >= Kind::Api))
        });
        let repaired = plan(&stack, &part, &PlanOptions::default()).unwrap();
        let after = applied(&stack, &part, &repaired, 2);
        let again = plan(&stack, &after, &PlanOptions::default()).unwrap();
        proptest::prop_assert!(again.is_empty(), "{:?}", summary(&again));
    }
}
