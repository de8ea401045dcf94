//! References between resources. Wherever a resource of the stack takes an account, a region or the id of another one
//! from outside, a template gives it the name in `${…}`; what comes out is turned into intrinsic functions here.

use serde_json::{Value, json};

use crate::aws::Identity;

/// Whoever deploys the template, wherever: CloudFormation's pseudo parameters.
pub(crate) fn identity() -> Identity {
    Identity {
        account: "${AWS::AccountId}".to_owned(),
        region: "${AWS::Region}".to_owned(),
        partition: "${AWS::Partition}".to_owned(),
        arn: String::new(),
    }
}

/// What `Ref` gives of a resource.
pub(crate) fn to(logical_id: &str) -> String {
    format!("${{{logical_id}}}")
}

/// What `Fn::GetAtt` gives of a resource.
pub(crate) fn to_attribute(logical_id: &str, attribute: &str) -> String {
    format!("${{{logical_id}.{attribute}}}")
}

/// The value with every text that holds references as an intrinsic function.
pub(crate) fn resolve(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains("${") => function(text),
        Value::Array(items) => items.into_iter().map(resolve).collect(),
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, resolve(value))).collect(),
        other => other,
    }
}

fn function(text: String) -> Value {
    let only =
        text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).filter(|one| !one.contains('$'));
    match only.map(|name| name.split_once('.').ok_or(name)) {
        Some(Ok((id, attribute))) => json!({ "Fn::GetAtt": [id, attribute] }),
        Some(Err(id)) => json!({ "Ref": id }),
        None => json!({ "Fn::Sub": text }),
    }
}

/// The logical ids that a value refers to, pseudo parameters left out.
pub(crate) fn names(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => {
            let references = text.split("${").skip(1).filter_map(|rest| rest.split('}').next());
            let ids = references.map(|name| name.split('.').next().unwrap_or_default().to_owned());
            ids.filter(|id| !id.contains(':')).collect()
        }
        Value::Array(items) => items.iter().flat_map(names).collect(),
        Value::Object(members) => members.values().flat_map(names).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_references_becomes_the_plainest_function_that_says_it() {
        let value =
            json!(["${Api}", "${Api.ApiEndpoint}", "integrations/${A}", "${A}${B}", "$request.body.action"]);
        assert_eq!(
            resolve(value.clone()),
            json!([
                { "Ref": "Api" },
                { "Fn::GetAtt": ["Api", "ApiEndpoint"] },
                { "Fn::Sub": "integrations/${A}" },
                { "Fn::Sub": "${A}${B}" },
                "$request.body.action",
            ])
        );
        assert_eq!(names(&value), ["Api", "Api", "A", "A", "B"]);
    }

    #[test]
    fn pseudo_parameters_are_references_to_nothing_in_the_template() {
        assert_eq!(names(&json!("arn:${AWS::Partition}:x")), Vec::<String>::new());
        assert_eq!(resolve(json!("${AWS::Region}")), json!({ "Ref": "AWS::Region" }));
    }
}
