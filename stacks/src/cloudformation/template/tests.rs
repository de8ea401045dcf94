use std::collections::BTreeSet;

use chat_functions::contract::Handler;

use super::*;
use crate::artifact::{Artifact, Effort};
use crate::settings::Settings;

const SETTINGS: &str = "app: chat\nstages:\n  dev:\n    auth: { mode: open }\n";

fn settings(text: &str) -> StageSettings {
    Settings::parse(text, "chat.yaml").unwrap().stage("dev").unwrap()
}

fn template(text: &str, code: &[u8]) -> Template {
    let artifacts: Artifacts =
        Handler::ALL.map(|handler| (handler, Artifact::pack(code, Effort::Quick).unwrap())).into();
    synth(&settings(text), &artifacts).unwrap()
}

/// The template that the snapshot pins.
pub(in crate::cloudformation) fn pinned() -> String {
    template(SETTINGS, b"one").body().to_owned()
}

fn ids(template: &Template) -> BTreeSet<&str> {
    template.entries().keys().map(String::as_str).collect()
}

#[test]
fn the_template_is_pinned() {
    insta::assert_snapshot!(template(SETTINGS, b"one").body());
}

#[test]
fn every_reference_names_an_entry() {
    let template = template(SETTINGS, b"one");
    let known = ids(&template);
    let root: Value = serde_yaml::from_str(template.body()).unwrap();
    fn walk(value: &Value, known: &BTreeSet<&str>) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    let ids: Vec<String> = match name.as_str() {
                        "Ref" => vec![value.as_str().unwrap().to_owned()],
                        "Fn::GetAtt" => vec![value[0].as_str().unwrap().to_owned()],
                        "Fn::Sub" => reference::names(value),
                        "DependsOn" => serde_json::from_value(value.clone()).unwrap(),
                        _ => Vec::new(),
                    };
                    for id in ids.iter().filter(|id| !id.starts_with("AWS::")) {
                        assert!(known.contains(id.as_str()), "{name} {id} is not in the template");
                    }
                    walk(value, known);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, known)),
            Value::String(text) => assert!(!text.starts_with("arn:aws:"), "{text} is of one partition"),
            _ => {}
        }
    }
    walk(&root["Resources"], &known);
}

#[test]
fn new_code_is_new_versions_and_no_new_deployment() {
    let (one, two) = (template(SETTINGS, b"one"), template(SETTINGS, b"two"));
    let gone: Vec<&str> = ids(&one).difference(&ids(&two)).copied().collect();
    assert_eq!(gone.len(), 3, "{gone:?}");
    assert!(gone.iter().all(|id| id.starts_with("Version")), "{gone:?}");
}

#[test]
fn a_change_of_the_api_is_a_new_deployment() {
    let token = format!("{SETTINGS}    origins: [\"https://chat.example\"]\n");
    let (one, two) = (template(SETTINGS, b"one"), template(&token, b"one"));
    let gone: Vec<&str> = ids(&one).difference(&ids(&two)).copied().collect();
    // The origins are in the environment of one function and nowhere in the API.
    assert_eq!(gone.len(), 1, "{gone:?}");
    assert!(gone[0].starts_with("VersionConnect"), "{gone:?}");

    let keys = "app: chat\nstages:\n  dev:\n    auth: { mode: token, public_keys: { k1: \
                11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo } }\n";
    let three = template(keys, b"one");
    let gone: Vec<&str> = ids(&one).difference(&ids(&three)).copied().collect();
    assert!(gone.iter().any(|id| id.starts_with("Deployment")), "{gone:?}");
}

#[test]
fn what_is_protected_outlives_the_stack() {
    let text = format!("{SETTINGS}    table: {{ deletion_protection: true }}\n");
    for (text, policy) in [(SETTINGS, "Delete"), (text.as_str(), "Retain")] {
        let root: Value = serde_yaml::from_str(template(text, b"one").body()).unwrap();
        let table = &root["Resources"]["Table"];
        assert_eq!(
            (&table["DeletionPolicy"], &table["UpdateReplacePolicy"]),
            (&json!(policy), &json!(policy))
        );
        assert_eq!(root["Resources"]["Api"]["DeletionPolicy"], "Delete");
    }
}
